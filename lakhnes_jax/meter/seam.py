"""Seams: two places of a song between which one can jump unheard.

Where `form` asks at which row a whole song begins again, any two places will do
here: what leads to them, and what follows, is mostly the same. This also serves
songs without rows, and those that were cut anywhere, as generated ones are.
"""

from typing import NamedTuple

import numpy as np

from lakhnes_jax import events as ev
from lakhnes_jax.meter import onsets
from lakhnes_jax.meter.analysis import Meter, frames_of

_SHORTEST = 120  # Frames of a loop.
LONG = 480  # Frames; a shorter loop is a last resort.
_WINDOW = 240  # Frames before and after the two places that are compared.
_MOST = 96  # Lengths of a loop that are tried.
_NOTES = 1500  # Of one pitch of a voice that are compared, the last.
_UNSURE = 8  # Notes that differ, added to all; for windows of few notes.
_SEAMLESS = .5  # Share of notes around a seam that must be the same.
_AUDIBLE = .3  # Weight of an onset that counts as one.
_ROOM = 1 << 32  # More frames than there are.
# Weights: notes in common, log2 of the loop's share of the song, how late its
# end is, whole bars, a bar's beginning.
_SAME, _LONG, _LATE, _BARS, _ON_BAR = 3., 1., .3, .15, .3


class Seam(NamedTuple):
  """A jump that is hardly heard.

  Attributes:
    start, end: frames; after `end` it goes on at `start`.
    same: 0 to 1, the share of notes around them that are the same.
  """
  start: int
  end: int
  same: float


def find(song: np.ndarray, meter: Meter) -> Seam | None:
  """Finds the best seam of a song; None where no part of it comes again.

  One of less than `LONG` frames only where there is no longer one.

  Args:
    song: int32 song (see `events`).
    meter: of it.
  """
  song = np.asarray(song)
  chip = song < 0
  size = max(len(meter.frame_starts) - 1, 1)
  notes = onsets.find(
      np.minimum(frames_of(meter, ev.times_of(song)[chip]), size).astype(
          np.int64), song[chip], size)
  audible = notes.weight > _AUDIBLE
  frame, key = notes.frame[audible], (
      notes.voice[audible] << 7 | notes.pitch[audible])
  for lengths in range(LONG, size + 1), range(_SHORTEST, LONG):
    best, best_score = None, -np.inf
    for period in _periods(frame, key, size, lengths):
      start, same = _compare(frame, key, size, period)
      score = (_SAME * same + _LONG * np.log2(period / size) + _LATE * (
          start + period) / size + _of_bars(meter, start, period))
      score[same < _SEAMLESS] = -np.inf
      top = int(np.argmax(score))
      if score[top] > best_score:
        best_score = score[top]
        best = Seam(int(start[top]), int(start[top]) + period, float(same[top]))
    if best:
      return best
  return None


def _periods(frame: np.ndarray, key: np.ndarray, size: int,
             lengths: range) -> list[int]:
  """Those of some lengths, in frames, after which most notes come again."""
  count = np.zeros(size + 1)
  for which in np.unique(key):
    at = frame[key == which][-_NOTES:]
    apart = at[None] - at[:, None]
    count += np.bincount(apart[(apart >= lengths.start) & (
        apart < lengths.stop)], minlength=size + 1)
  peak = np.flatnonzero((count > 0) & (count >= np.roll(count, 1)) &
                        (count >= np.roll(count, -1)))
  # Of as many as could, and not for the length of few notes at the end.
  share = np.convolve(count, np.ones(3), 'same')[peak] / (1.1 * size - peak)
  return peak[np.argsort(-share, kind='stable')[:_MOST]].tolist()


def _compare(frame, key, size: int, period: int):
  """Compares places that are a period apart.

  Returns:
    [n] frames of the first of them; [n] the share of notes around both that
    are the same, 0 to 1
  """
  place = np.sort(key * _ROOM + frame)
  at = np.searchsorted(place, place + period - 1)
  again = np.append(place, np.iinfo(np.int64).max)[at] <= place + period + 1
  again, every = np.sort(place[again] % _ROOM), np.sort(frame)
  start = np.unique(np.append(frame, 0))
  start = start[start + period <= size]
  low = np.maximum(start - _WINDOW, 0)
  high = np.minimum(start + _WINDOW, size - period)

  def count(of, shift=0):
    return np.searchsorted(of, high + shift) - np.searchsorted(of, low + shift)

  return start, 2 * count(again) / (
      count(every) + count(every, period) + _UNSURE)


def _of_bars(meter: Meter, start: np.ndarray, period: int) -> np.ndarray:
  """What is said for places by the bars, where there are some."""
  if not meter.row:
    return np.zeros(len(start))
  bars = period / (meter.row * meter.rows_per_bar)
  whole = abs(bars - round(bars)) * meter.rows_per_bar < .5
  begins = meter.row_frames[meter.bar_row::meter.rows_per_bar]
  after = np.minimum(np.searchsorted(begins, start), len(begins) - 1)
  near = np.minimum(abs(begins[after] - start),
                    abs(begins[np.maximum(after - 1, 0)] - start)) <= 2
  return _BARS * whole + _ON_BAR * near
