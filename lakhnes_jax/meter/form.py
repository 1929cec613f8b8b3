"""Loops: where a song goes on when it is over, in rows.

What is certain is little. A song that was logged for longer than it takes ends
in a repeat of what was there before. One that was cut where it would begin
again, as most VGM files are, does not; then the length of the loop, what leads
to its end and to its beginning, and what an introduction is like must do. Each
beginning that is possible, and that there is no loop, is scored by such
features, and the scores become probabilities by a softmax. The weights were
fitted to 188 loop points and 98 songs without a loop of NES-MDB's VGM files
and to 711 composed songs (see `experiments.benchmarks.meter`).
"""

import numpy as np

from lakhnes_jax.meter.bars import Bars

_FEWEST_ROWS = 8  # Of a song that may loop.
_EVERY = 64  # Rows from the start, each of which may be the loop's; then beats.
_TAIL = 160  # Rows at the end that are compared with what was before.
_MANY, _LONG = 24, .4  # Notes of a sure repeat; share of the song in a loop.
_SOME = 8  # Notes of a repeat that counts as the song's longest.
_FAULTS = .1  # Share of notes of a repeat that may differ.
_NO_LOOP, _SHORT, _HELD, _SIZE = 5.23, .93, 5.7, -.81  # Weights: `_no_loop`.
_SHORT_FRAMES, _FRAMES_PER_SECOND = 360, 60
_WEIGHTS = np.array([
    4.08,  # It begins with the first note,
    5.12,  # or within a bar.
    .21,  # For each 100 rows before it, up to 2.
    1.32,  # Its length is a number of beats,
    1.84, 1.16, .1, 1.04,  # of bars, of 2, 4, 8 bars.
    -.39,  # Log of 1 + notes at the song's end that repeat what was before.
    .22,  # 0 to 2: they reach back to the song's start.
    2.07,  # They are many, and the loop is long.
    3.51,  # Their share of those of the longest such repeat;
    1.48,  # it is the longest.
    -3.68,  # The rows before its start, of less than a bar, do not come again.
    5.77,  # Share of notes that are the same in the bars before start and end,
    -1.72,  # and of onsets.
    4.03,  # Share of what is before it, bar by bar, that does not come again.
    -1.28,  # Share of its first bar that comes again.
    1.49,  # Share of the voices that begin a note there.
    -7.73,  # Share of the song before it.
    .62,  # It begins with a bar.
    .24,  # It begins with the first note, and is no number of bars.
])


def loop(pitch: np.ndarray, bars: Bars, row: float
         ) -> tuple[tuple[int, int] | None, float]:
  """Finds the loop of a song.

  Args:
    pitch: [R, 4] of the notes that begin on each row, 0 where none does.
    bars: beats and bars of the song.
    row: frames per row.

  Returns:
    ((start, end) in rows: after `end` it goes on at `start`, and what is there
    after `end` repeats what is after `start`; or None), its probability
  """
  n = len(pitch)
  sounds = pitch > 0
  busy = np.flatnonzero(sounds.any(1))
  if n < _FEWEST_ROWS or not len(busy) or not row:
    return None, 0.
  start = np.arange(n - max(4, n // 12))
  start = start[(start <= _EVERY) |
                ((start - bars.bar_row) % bars.rows_per_beat == 0) |
                ((n - start) % bars.rows_per_beat == 0)]
  rows, notes, compared = _tails(pitch, start)
  features = _features(pitch, bars, start, int(busy[0]), rows, notes, compared)
  score = np.append(features @ _WEIGHTS, _no_loop(n, int(busy[-1]), row))
  share = np.exp(score - score.max())
  share /= share.sum()
  best = int(np.argmax(share))
  if best == len(start):
    return None, float(share[best])
  begin = _begin(pitch, int(start[best]), bars)
  return (begin, n - int(start[best]) + begin), float(share[best])


def _begin(pitch: np.ndarray, start: int, bars: Bars) -> int:
  """The first bar of a loop, of those that the song's end repeats.

  Notes before a loop are often the same as before its end, or there are none,
  and so the first row that comes again is earlier than what was written: that
  is told by the bars. Where no bar begins it is a beat, or that row.
  """
  different = (pitch[:start] != pitch[len(pitch) - start:]).any(1)
  first = start - int(np.argmax(np.append(different[::-1], True)))
  if not first:
    return 0
  for unit in bars.rows_per_bar, bars.rows_per_beat:
    begin = first + (bars.bar_row - first) % unit
    if begin <= start:
      return begin
  return first


def _no_loop(n: int, last: int, row: float) -> float:
  """Scores that there is no loop: a short song, or one that ends by holding."""
  held = (n - 1 - last) * row / _FRAMES_PER_SECOND  # Seconds.
  seconds = max(n * row / _FRAMES_PER_SECOND, .5)
  return float(_NO_LOOP + _SHORT * (n * row < _SHORT_FRAMES) +
               _HELD * min(held, 3) + _SIZE * np.log(seconds / 30))


def _tails(pitch: np.ndarray, start: np.ndarray):
  """Finds the longest end of the song that repeats what was a loop before.

  Args:
    pitch: [R, 4].
    start: [S] rows; R - start is the length of the loop.

  Returns:
    rows [S] of that end; its notes [S]; the notes [S] that were compared
  """
  n, size = len(pitch), min(len(pitch), _TAIL)
  back = pitch[::-1].astype(np.int16)
  padded = np.concatenate([back, np.zeros((size, 4), np.int16)])
  earlier = np.lib.stride_tricks.sliding_window_view(padded, size, 0)[n - start]
  later = back[:size].T
  inside = np.arange(size) < start[:, None]
  same = earlier == later
  note = (earlier > 0) | (later > 0)
  count = np.cumsum(note.sum(1) * inside, 1)
  fault = np.cumsum((note & ~same).sum(1) * inside, 1)
  good = (fault <= _FAULTS * count) & (same & note).any(1) & inside
  rows = np.where(good.any(1), size - np.argmax(good[:, ::-1], 1), 0)
  notes = np.where(rows > 0, np.take_along_axis(
      count, np.maximum(rows - 1, 0)[:, None], 1)[:, 0], 0)
  return rows, notes, count[:, -1]


def _features(pitch, bars: Bars, start, first: int, rows, notes, compared):
  """[S, features] of loops from [S] rows to the end, as `_WEIGHTS` has them."""
  n = len(pitch)
  _, bar, bar_row, _ = bars
  length = n - start
  is_whole = start <= first
  begin = np.where(start - rows <= first, 0, start - rows)
  reach = (notes >= 2) * (
      np.clip(1 - 2 * begin / length, 0, 1) * np.minimum(notes, 24) / 24
      + (begin == 0))
  likeness = bar_likeness(pitch, bar, bar_row)
  at_bar = (start - bar_row) % bar == 0
  number = np.where(at_bar, np.clip((start - bar_row) // bar, 0,
                                    len(likeness)), 0)
  alone, again = _introduction(likeness)
  sounds = pitch > 0
  voices = sounds.any(0)
  return np.stack([
      is_whole, ~is_whole & (start < bar), np.minimum(start, 200) / 100,
      (start > 0) & (length % bars.rows_per_beat == 0),
      *(length % (bar * bars) == 0 for bars in (1, 2, 4, 8)),
      np.log1p(notes), reach, (notes >= _MANY) & (length > _LONG * n),
      notes / max(notes.max(), _SOME), notes >= max(notes.max(), _SOME),
      (compared >= 2) & (start < bar) & (notes < .3 * compared),
      *_before(pitch, start, bar), alone[number] * at_bar,
      again[number] * at_bar, sounds[start][:, voices].mean(1), start / n,
      at_bar, is_whole & (length % bar != 0)], 1).astype(np.float64)


def bar_likeness(pitch: np.ndarray, bar: int, bar_row: int) -> np.ndarray:
  """[B, B] share of notes that two bars of a song have in common, 0 to 1.

  Args:
    pitch: [R, 4] of the notes that begin on each row.
    bar: rows per bar.
    bar_row: where the first of the B bars begins.
  """
  count = max((len(pitch) - bar_row) // bar, 0)
  flat = pitch[bar_row:bar_row + count * bar].reshape(count, -1)
  flat = flat.astype(np.int16)
  note = flat > 0
  same = ((flat[:, None] == flat) & note).sum(2)
  return same / np.maximum((note[:, None] | note).sum(2), 1)


def _introduction(likeness: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """What is said for a loop from each of B bars on, [B + 1] each.

  Returns:
    share of the bars before it that does not come again; share of the bar
    itself that does
  """
  count = len(likeness)
  alone, again = np.zeros((2, count + 1))
  for bar in range(1, count):
    alone[bar] = 1 - likeness[:bar, bar:].max(1).mean()
    again[bar] = likeness[bar, bar + 1:].max(initial=0)
  return alone, again


def _before(pitch: np.ndarray, start: np.ndarray, bar: int):
  """Shares of notes and of onsets that the bars before start and end share."""
  notes, onsets = np.zeros((2, len(start)))
  has = start >= bar
  if len(pitch) >= bar and has.any():
    windows = np.lib.stride_tricks.sliding_window_view(pitch, bar, 0)
    before, end = windows[start[has] - bar], windows[-1]
    either = np.maximum(((before > 0) | (end > 0)).sum((1, 2)), 1)
    notes[has] = ((before == end) & (end > 0)).sum((1, 2)) / either
    onsets[has] = ((before > 0) & (end > 0)).sum((1, 2)) / either
  return notes, onsets
