"""What the listeners' answers say."""

import collections
import math
import os
import pathlib
from collections.abc import Iterable
from typing import Any

from scipy import stats

from experiments.listening import study
from lakhnes_jax import input_files, schema
from lakhnes_jax.report import plot

_KEY = {'first': str, 'sheets': dict}
_ROWS = [[{'clip': str, 'method': str}]]
_ANSWERS = {'sheet': str, 'listener': str, 'chosen': [str]}
_MAX_BYTES = 2**24


def _read(path: str | os.PathLike, expected: Any) -> Any:
  try:
    return schema.parse(input_files.read(path, _MAX_BYTES), expected)
  except ValueError as error:
    shown = str(error)
    raise ValueError(shown if shown.startswith(str(path)) else
                     f'{path}: {shown}') from None


def read_key(path: str | os.PathLike) -> dict[str, Any]:
  """Reads what `study.write` wrote; a ValueError names the file."""
  key = _read(path, _KEY)
  try:
    schema.check(list(key['sheets'].values()), [_ROWS])
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from None
  for sheet, rows in key['sheets'].items():
    test, first = _test_of(sheet, key)
    if test not in study.TESTS or not all(
        len(row) == len({side['clip'] for side in row}) == 2 and
        [side['method'] for side in row].count(first) == 1 for row in rows):
      raise ValueError(f'{path}: {sheet[:40]!r} is no sheet of pairs')
  return key


def _test_of(sheet: str, key: dict[str, Any]) -> tuple[str, str]:
  """Returns the test of a sheet, and the method that all its pairs have."""
  test = sheet.rpartition('-')[0]
  return test, study.REAL if test == 'turing' else key['first']


def summarise(key: dict[str, Any], paths: Iterable[str | os.PathLike]
              ) -> dict[str, Any]:
  """Counts answers by test and method, without those who failed a control.

  Args:
    key: of the study.
    paths: of saved answers.

  Returns:
    'sheets' and 'dropped', numbers of answered sheets; 'turing' and
    'preference': method -> 'n' comparisons, 'share' in which real music was
    recognised or the study's first method preferred, its standard error
    'stderr', sqrt(p (1 - p) / n), and 'p_value' of a two-sided binomial test
    against 1/2. The control's counts are of all listeners.

  Raises:
    ValueError: a file is no answer to this study, or one came twice; names it.
    OSError: it cannot be read.
  """
  counts: dict = {test: collections.defaultdict(lambda: [0, 0])
                  for test in study.TESTS}
  seen: dict[tuple[str, str], Any] = {}
  dropped = 0
  for path in paths:
    answers = _read(path, _ANSWERS)
    sheet, rows = answers['sheet'], key['sheets'].get(answers['sheet'])
    if rows is None or len(rows) != len(answers['chosen']):
      raise ValueError(f'{path}: not the answers to a sheet of this study')
    other = seen.setdefault((sheet, answers['listener']), path)
    if other != path:
      raise ValueError(f'{path}: the same listener and sheet as {other}; leave '
                       'one out')
    test, first = _test_of(sheet, key)
    right = []  # (method against which, whether the first was chosen).
    for row, chosen in zip(rows, answers['chosen'], strict=True):
      methods = {side['clip']: side['method'] for side in row}
      if chosen not in methods:
        raise ValueError(f'{path}: {chosen[:40]!r} is no clip of its pair')
      against, = (m for m in methods.values() if m != first)
      right.append((against, methods[chosen] == first))
    failed = any(m == study.CONTROL and not hit for m, hit in right)
    dropped += failed
    for method, hit in right:
      if method == study.CONTROL or not failed:
        counts[test][method][0] += hit
        counts[test][method][1] += 1
  return {'sheets': len(seen), 'dropped': dropped, 'first': key['first'], **{
      test: {method: _share(*count) for method, count in sorted(
          of_test.items(), key=lambda item: item[0] != study.CONTROL)}
      for test, of_test in counts.items()}}


def _share(k: int, n: int) -> dict[str, float]:
  share = k / n
  return {'n': n, 'share': share, 'stderr': math.sqrt(share * (1 - share) / n),
          'p_value': float(stats.binomtest(k, n, .5).pvalue)}


def to_text(found: dict[str, Any]) -> str:
  """Returns a table for a terminal."""
  lines = [f'{found["sheets"]} sheets answered, {found["dropped"]} dropped for '
           'a failed control']
  for test, what in (('turing', 'real music recognised, against'),
                     ('preference', f'{found["first"]} preferred to')):
    lines += [f'{what} {method}: {row["share"]:.3f} ± {row["stderr"]:.3f} of '
              f'{row["n"]}, p = {row["p_value"]:.2g}'
              for method, row in found[test].items()]
  return '\n'.join(lines)


def draw(found: dict[str, Any], path: str | os.PathLike) -> pathlib.Path:
  """Draws both tests as bars with standard errors; the paper's figure 3."""
  fig = plot.figure(figsize=(8, 3.2))
  titles = ('Real music recognised', f'{found["first"]} preferred to')
  for axes, test, title in zip(fig.subplots(1, 2, sharey=True), study.TESTS,
                               titles, strict=True):
    rows = found[test]
    axes.bar(list(rows), [row['share'] for row in rows.values()],
             yerr=[row['stderr'] for row in rows.values()], capsize=4,
             color=plot.COLOURS[1], width=.6)
    axes.axhline(.5, color='#666672', linestyle='--', linewidth=1)
    axes.set(ylim=(0, 1.05), title=title)
    axes.spines[['top', 'right']].set_visible(False)
  fig.axes[0].set_ylabel('share of comparisons')
  plot.save(fig, path)
  return pathlib.Path(path)
