"""Loops and sections: where a song repeats itself, in rows.

Rows are compared by the notes that begin on them. A song that was recorded for
longer than it takes ends in a repeat of what was there before: it loops from
the end of the first of the two to its beginning. One that was cut where it
would begin again has no such repeat, and is taken to loop as a whole.
"""

import numpy as np

_FEWEST = 8  # Rows with notes that make a repeat.
_FAULTS = .1  # Of the rows of a repeat that may differ.
_MOST = 2048  # Rows that are compared.


def tokens(pitch: np.ndarray) -> np.ndarray:
  """[R] int64: one number for what begins on each row, 0 for nothing.

  Args:
    pitch: [R, 4] of what begins on each row, 0 to 127; 0 where nothing does.
  """
  return pitch @ (128 ** np.arange(4))


def loop(token: np.ndarray) -> tuple[tuple[int, int] | None, float]:
  """Finds the loop of a song.

  Args:
    token: [R] of its rows (see `tokens`).

  Returns:
    ((start, end) in rows, or None; confidence)
  """
  n = len(token)
  skipped = max(0, n - _MOST)
  token = token[skipped:]
  size = len(token)
  if np.count_nonzero(token) < _FEWEST:
    return None, 0.
  # [lag, back]: whether rows, counted back from the end, are as `lag` before.
  back = token[::-1]
  padded = np.concatenate([back, np.full(size, -1)])
  earlier = np.lib.stride_tricks.sliding_window_view(padded, size)[1:size]
  busy = (back != 0) | (earlier != 0)
  fault = np.cumsum((earlier != back) & busy, 1)
  count = np.cumsum(busy & (earlier >= 0), 1)
  good = (fault <= _FAULTS * count) & (earlier == back) & (back != 0)
  repeat = np.where(good, np.arange(1, size + 1), 0).max(1)
  lag = np.arange(1, size)
  notes = np.take_along_axis(
      count, np.maximum(repeat - 1, 0)[:, None], 1)[:, 0] * (repeat > 0)
  # A repeat of less than a quarter of the lag is chance, or a refrain.
  value = np.where(notes >= _FEWEST, notes, 0)
  best = int(np.argmax(value))
  if not value[best]:
    return (0, n), .2
  end = n - int(repeat[best])
  start = max(0, end - int(lag[best]))
  return (start, end), float(min(1., .4 + value[best] / 64))


def sections(token: np.ndarray, bar: int, bar_row: int
             ) -> tuple[tuple[int, str], ...]:
  """Cuts a song into sections of four bars; those alike have the same label."""
  n = len(token)
  starts = list(range(bar_row, n, 4 * bar))
  if not starts or starts[0] != 0:
    starts = [0, *starts]
  labels, seen = [], []
  for start, end in zip(starts, [*starts[1:], n], strict=True):
    part = token[start:end]
    like = [label for label, other in enumerate(seen) if _alike(part, other)]
    labels.append(like[0] if like else len(seen))
    if not like:
      seen.append(part)
  return tuple((start, chr(ord('A') + label) if label < 26 else f'S{label}')
               for start, label in zip(starts, labels, strict=True))


def _alike(a: np.ndarray, b: np.ndarray) -> bool:
  """Whether most rows with notes are the same in two parts."""
  if len(a) != len(b):
    return False
  busy = (a != 0) | (b != 0)
  return bool(busy.any() and (a == b)[busy].mean() > .6)
