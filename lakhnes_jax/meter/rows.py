"""The rows of a song: the finest steps in which its notes begin.

A program counts notes in rows of so many frames, such as six for a sixteenth.
Tempi that are no whole number of frames make rows of, say, 6 and 7 in turn;
swing makes them long and short; and a song may change its tempo.

1.  The length: cosines of all times between onsets up to `_REACH` frames; the
    longest row that explains nearly as much as any.
2.  The place: the phase of onsets on circles of that length, in a window that
    moves, so that a row may be a little longer here and shorter there.
3.  The frame: a Viterbi search for the deviations, in frames, that leave the
    fewest onsets between rows and change the least.
"""

import functools
from typing import NamedTuple

import numpy as np

_REACH = 160  # Frames between onsets that are compared.
_LENGTHS = np.exp(np.arange(np.log(2.9), np.log(33), .004))  # Frames.
_NEARLY = .88  # Of the best score; a longer row needs so much.
_FEW = 12  # Onsets that have no row.
_WINDOW = 12  # Rows on either side, in which the phase is measured.
_MOVES = 3  # Frames by which a row may deviate.
_CHANGE = .8  # Cost of a frame of change of deviation, in onsets.
_FALLBACK = 8.  # Frames of a row where there is none.


class Rows(NamedTuple):
  """Rows of a song.

  Attributes:
    length: frames, 0 where no row was found.
    confidence: 0 to 1.
    frames: [R + 1] int32, where each begins, and the end of the song.
  """
  length: float
  confidence: float
  frames: np.ndarray


def find(frame: np.ndarray, weight: np.ndarray, first: int,
         n_frames: int) -> Rows:
  """Finds the rows of a song.

  Args:
    frame: [n] int64, ascending, where notes begin.
    weight: [n] of them.
    first: frame of the first event.
    n_frames: length of the song in frames.
  """
  mass = np.bincount(frame, weight, n_frames)[:n_frames]
  at = np.flatnonzero(mass > .3)
  if len(at) < _FEW:
    return _fallback(first, n_frames)
  score = scores(mass)
  length = _choose(score)
  if not length:
    return _fallback(first, n_frames)
  frames = _follow(at, mass, length, first, n_frames)
  on_rows = mass[frames[:-1]].sum() / mass.sum()
  steps = np.diff(frames[:-1])
  length = float((frames[-2] - frames[0]) / max(len(steps), 1))
  chance = min(1., 1 / length)
  confidence = float(np.clip((on_rows - chance) / (1 - chance), 0, 1))
  return Rows(length, confidence, frames)


def _fallback(first: int, n_frames: int) -> Rows:
  """Equal rows, of no confidence."""
  return Rows(0., 0., _cover(np.arange(first, n_frames, _FALLBACK), first,
                             n_frames, _FALLBACK))


@functools.lru_cache
def _cosines() -> np.ndarray:
  """[lengths, 1 + _REACH] cosines of lags on circles of each length."""
  lag = np.arange(_REACH + 1)
  return np.cos(2 * np.pi * lag / _LENGTHS[:, None])


def scores(mass: np.ndarray) -> np.ndarray:
  """[lengths] mean cosine of times between onsets, -1 to 1.

  Args:
    mass: [F] weights of onsets by frame.
  """
  size = 1 << int(np.ceil(np.log2(len(mass) + _REACH + 1)))
  spectrum = np.fft.rfft(mass, size)
  pairs = np.fft.irfft(np.abs(spectrum) ** 2, size)[:_REACH + 1]
  pairs = np.maximum(pairs, 0)
  pairs[:2] = 0
  return _cosines() @ pairs / max(pairs.sum(), 1e-9)


def _choose(score: np.ndarray) -> float:
  """Returns the longest row that explains nearly as much as any, or 0."""
  inner = score[1:-1]
  peaks = 1 + np.flatnonzero((inner >= score[:-2]) & (inner > score[2:]))
  if not len(peaks) or score[peaks].max() < .25:
    return 0.
  good = peaks[score[peaks] > _NEARLY * score[peaks].max()]
  return float(_LENGTHS[good[-1]])


def _follow(at: np.ndarray, mass: np.ndarray, length: float, first: int,
            n_frames: int) -> np.ndarray:
  """Places rows of about a length; returns `Rows.frames`."""
  place = _places(at, mass[at], length)  # In rows, ascending.
  start = np.floor(place[0] - (at[0] - first) / length + .25)
  end = place[-1] + (n_frames - at[-1]) / length
  row = np.arange(start, end)
  where = np.interp(row, place, at)
  where = np.where(row < place[0], at[0] - (place[0] - row) * length, where)
  where = np.where(row > place[-1], at[-1] + (row - place[-1]) * length, where)
  frames = _settle(where, mass, length)
  return _cover(frames, first, n_frames, length)


def _places(at: np.ndarray, weight: np.ndarray, length: float) -> np.ndarray:
  """[n] ascending places of onsets in rows, whole numbers where rows begin."""
  z = weight * np.exp(2j * np.pi * at / length)
  reach = _WINDOW * length
  first = np.searchsorted(at, at - reach)
  last = np.searchsorted(at, at + reach, 'right')
  total = np.concatenate([[0], np.cumsum(z)])
  phase = np.unwrap(np.angle(total[last] - total[first])) / (2 * np.pi)
  place = np.maximum.accumulate(at / length - phase)
  return place + 1e-9 * np.arange(len(at))


def _settle(where: np.ndarray, mass: np.ndarray, length: float) -> np.ndarray:
  """[R] int64 frames of rows that are at about [R] frames."""
  moves = int(min(_MOVES, np.ceil(length / 2) - 1))
  move = np.arange(-moves, moves + 1)
  base = np.rint(where).astype(np.int64)
  frame = base[:, None] + move
  inside = (frame >= 0) & (frame < len(mass))
  gain = np.where(inside, mass[np.clip(frame, 0, len(mass) - 1)], 0)
  gain = np.minimum(gain, 2.) - .02 * np.abs(frame - where[:, None])
  # What changes is the deviation from the exact place, not from the frame.
  drift = where - base
  change = _CHANGE * np.abs(move[:, None] - move)
  best = np.zeros((len(base), len(move)), np.int64)
  total = gain[0]
  for row in range(1, len(base)):
    options = total - change
    best[row] = options.argmax(1)
    total = options.max(1) + gain[row]
  del drift
  path = np.empty(len(base), np.int64)
  path[-1] = total.argmax()
  for row in range(len(base) - 1, 0, -1):
    path[row - 1] = best[row, path[row]]
  frames = base + move[path]
  return np.maximum.accumulate(frames - np.arange(len(frames))) + np.arange(
      len(frames))


def _cover(frames: np.ndarray, first: int, n_frames: int,
           length: float) -> np.ndarray:
  """Makes rows ascend strictly from `first` or before to the song's end."""
  frames = np.unique(np.rint(frames).astype(np.int64))
  frames = frames[frames < n_frames]
  before = frames[frames <= first][-1:]
  frames = frames[frames > first]
  start = max(0, int(before[0])) if len(before) else first
  frames = np.concatenate([[start], frames])
  if len(frames) > 1 and n_frames - frames[-1] < length / 2:
    frames = frames[:-1]
  return np.append(frames, max(n_frames, frames[-1] + 1)).astype(np.int32)
