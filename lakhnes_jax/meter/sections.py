"""Sections: parts of a song of some bars, and which of them are alike."""

import itertools

import numpy as np

from lakhnes_jax.meter.bars import Bars

_BARS = 4  # Of the shortest section.
_ALIKE = .5  # Share of notes in common that makes two parts alike.
_JOINS = 2  # Times that pairs of parts may become one.


def find(pitch: np.ndarray, bars: Bars, loop: tuple[int, int] | None
         ) -> tuple[tuple[int, str], ...]:
  """Cuts a song into sections.

  Parts of four bars, from the loop's start on if there is one, get a label
  each; those alike the same. Two labels that come only one after the other
  are one section.

  Args:
    pitch: [R, 4] of the notes that begin on each row.
    bars: beats and bars of the song.
    loop: (start, end) in rows, or None.

  Returns:
    (row, label) of each section, the first at row 0
  """
  n, size = len(pitch), _BARS * bars.rows_per_bar
  origin = loop[0] if loop else bars.bar_row
  starts = [row for row in range(origin % size - size, n, size) if row > 0]
  if starts and starts[0] < bars.rows_per_bar:
    starts = starts[1:]  # An upbeat belongs to what it leads to.
  if starts and n - starts[-1] < bars.rows_per_bar:
    starts = starts[:-1]
  starts = [0, *starts]
  labels, seen = [], []  # Silence is like silence.
  for start, end in zip(starts, [*starts[1:], n], strict=True):
    part = pitch[start:end]
    like = [label for label, other in enumerate(seen) if _alike(part, other)]
    labels.append(like[0] if like else len(seen))
    if not like:
      seen.append(part)
  parts = list(zip(starts, labels, strict=True))
  for _ in range(_JOINS):
    parts = _join(parts)
  names = {}
  return tuple((start, names.setdefault(label, _name(len(names))))
               for start, label in parts)


def _alike(a: np.ndarray, b: np.ndarray) -> bool:
  """Whether most notes are the same in two parts of one length."""
  if len(a) != len(b):
    return False
  either = ((a > 0) | (b > 0)).sum()
  return bool(((a == b) & (a > 0)).sum() >= _ALIKE * either)


def _join(parts: list[tuple[int, int]]) -> list[tuple[int, int]]:
  """Joins pairs of labels that come twice or more, and only in that order."""
  labels = [label for _, label in parts]
  pairs = list(itertools.pairwise(labels))
  for first, second in dict.fromkeys(pairs):
    if (first != second and labels.count(first) == labels.count(second)
        == pairs.count((first, second)) >= 2):
      parts = [part for part in parts if part[1] != second]
  return parts


def _name(number: int) -> str:
  """A to Z, then A1 to Z1 and so on."""
  round_, letter = divmod(number, 26)
  return chr(ord('A') + letter) + (str(round_) if round_ else '')
