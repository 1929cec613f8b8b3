"""Flag files made worse: each flag has the value it says, or one line."""

import os
import pathlib

import numpy as np
import pytest
from absl.testing import flagsaver

from experiments import options, run
from experiments.options import FLAGS
from support import mutations

pytestmark = pytest.mark.faults
_NUMBERS = ['0', '-1', '1', '1.5', 'nan', 'inf', '-inf', '1e400', '9' * 30,
            '9' * 5000, '0x10', '\uff11\uff12', '', ' 3',
            '3 # three', 'true', '\0']
_TEXTS = ['', 'x', '~', 'a b', 'a,b', '"a,b', 'a=b', '\0', 'x' * 10**5,
          'é' * 300, 'none', 'all', 'trim,switch', '--seed=7', 'x --seed=7']
_LINES = ['--', '-', '---', '--=', '--seed', '--workdir', '--nope=1', 'seed=1',
          '--noseed', '--noremat=1', '--remat=maybe', '--remat', '--noremat',
          '--muon', '-seed=3', '--flagfile=', '--flagfile', '--flagfile=.',
          '--flagfile=no.flags', '--undefok=x', '--help=', '--no=1', '\0',
          '#' + 'x' * 10**5, '// --seed=5', '--' + 'x' * 10**5, 'x' * 10**5,
          '--seed=1 --n_layer=3', '--' + 'f' * 3000 + '=1', '-' * 10**4]


def _mutated(rng, folder: pathlib.Path, bases: list[bytes]) -> bytes:
  """Draws a flag file; `folder` is where it and others may lie."""
  rows = bases[int(rng.integers(len(bases)))].decode().splitlines()
  for _ in range(int(rng.choice((1, 1, 2, 4)))):
    name = str(rng.choice(sorted(options.names())))
    value = (_NUMBERS, _TEXTS)[int(rng.integers(2))]
    kind, at = int(rng.integers(7)), int(rng.integers(len(rows) + 1))
    if kind < 3:
      rows.insert(at, f'--{name}={value[int(rng.integers(len(value)))]}')
    elif kind < 5:
      rows.insert(at, _LINES[int(rng.integers(len(_LINES)))])
    elif kind == 5:  # Another, or itself.
      other = folder / ('a.flags', 'b.flags', 'c.flags')[int(rng.integers(3))]
      rows.insert(at, f'--flagfile={other}')
    elif rows:
      del rows[int(rng.integers(len(rows)))]
  data = bytearray(('\n', '\r\n')[int(rng.integers(2))].join(rows).encode())
  if not rng.integers(3):
    mutator = mutations.ANY[int(rng.integers(len(mutations.ANY)))]
    data = mutator(data, rng, bases)
  return (b'', b'', b'\xef\xbb\xbf', b'\xff\xfe')[int(rng.choice(
      4, p=(.4, .3, .2, .1)))] + bytes(data)


def _said(path: pathlib.Path, depth: int = 0) -> dict[str, list[str]]:
  """What a flag file says of each flag, in order; read by hand."""
  assert depth < 20
  found: dict[str, list[str]] = {}
  for line in path.read_bytes().decode('utf-8-sig').splitlines():
    line = line.strip()
    if line[:1] == '#' or line[:2] == '//' or not line:
      continue
    assert line[0] == '-', line
    name, equals, value = line.lstrip('-').partition('=')
    if name == 'flagfile':
      named = pathlib.Path(value)
      named = named if named.exists() else options.FLAGS_DIR / value
      for key, values in _said(named, depth + 1).items():
        found.setdefault(key, []).extend(values)
      continue
    if name in ('muon', 'nomuon') and not equals:
      name, value = 'optimizer', 'adam' if name[0] == 'n' else 'muon'
    elif not equals:
      value = 'false' if name[:2] == 'no' else 'true'
      name = name.removeprefix('no')
    found.setdefault(name, []).append(value)
  return found


def _is(found, said: list[str]) -> bool:
  """Whether a flag's value is what was said of it, last or all along."""
  last = said[-1]
  if isinstance(found, bool):
    return found == (last.lower() in ('true', 't', '1'))
  if isinstance(found, int | float):
    return found == float(last)
  if isinstance(found, list):  # Of items of one line, or one a line.
    return found == [item.strip(' "') for item in last.split(',') if last] or (
        found == [os.path.expanduser(text) for text in said])
  return found in (last, os.path.expanduser(last))


@pytest.mark.parametrize('first', [0, 1, 2])
def test_mutated_flag_files(tmp_path, n_faults, monkeypatch, capsys, first):
  monkeypatch.chdir(tmp_path)
  bases = [path.read_bytes() for path in sorted(
      options.FLAGS_DIR.glob('*.flags'))]
  refused = taken = 0
  for number in range(first, 20 * n_faults, 3):
    rng = np.random.default_rng(number)
    for name in 'abc':
      (tmp_path / f'{name}.flags').write_bytes(
          _mutated(rng, tmp_path, bases) if name == 'a' or rng.integers(2) else
          bases[int(rng.integers(len(bases)))])
    path = tmp_path / 'a.flags'
    with flagsaver.flagsaver():
      try:
        left = run.parse(['run', f'--flagfile={path}'])
      except SystemExit as ended:
        line = ended.code
        assert isinstance(line, str), (number, capsys.readouterr())
        assert line.startswith('experiments.run: '), (number, line)
        assert len(line.splitlines()) == 1 and len(line) < 900, (number, line)
        assert line.isprintable(), (number, line)
        assert any(name in line for name in (
            '.flags', '.: a folder', 'flag --protocol')), (number, line)
        refused += 1
        continue
      assert left == ['run'], number
      for name, said in _said(path).items():
        flag = FLAGS[name]
        assert flag.present and _is(flag.value, said), (number, name, said)
      taken += 1
  assert refused > taken > 0, (refused, taken)


def test_files_that_name_each_other_very_often(tmp_path):
  """A thousand lines a file, in files that are no circle."""
  for i in range(9):
    (tmp_path / f'{i}').write_text(f'--flagfile={tmp_path}/{i + 1}\n' * 1000)
  (tmp_path / '9').write_text('--seed=1\n')
  with pytest.raises(ValueError, match='more than 100'):
    options.expand_flagfiles([f'--flagfile={tmp_path}/0'])
