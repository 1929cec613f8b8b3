"""The rows of a song: the steps in which its notes begin.

A program counts notes in rows of so many frames, such as six for a sixteenth.
Tempi that are no whole number of frames make rows of, say, 6 and 7 in turn;
swing makes them long and short; and a song may change its tempo. `tempo` finds
about where rows begin; here each gets its frame, by a Viterbi search for the
deviations that leave the fewest onsets between rows and change the least.
"""

from typing import NamedTuple

import numpy as np

from lakhnes_jax.meter import onsets, tempo

_FEW, _ENOUGH = 8, 24  # Onsets that have no row, that have one for sure.
_LEAST = .15  # Score of rows that are worth having.
_CUT = 0.  # Score that a change of tempo must gain.
_MOVES = 2  # Frames by which a row may deviate.
_CHANGE = .8  # Cost of a frame of change of deviation, in onsets.
_FALLBACK = 8.  # Frames of a row where there is none.


class Rows(NamedTuple):
  """Rows of a song.

  Attributes:
    length: frames on average, 0 where no row was found.
    confidence: 0 to 1, the share of onsets on rows less what chance gives.
    frames: [R + 1] int32, where each begins, and the end of the song.
  """
  length: float
  confidence: float
  frames: np.ndarray


def find(notes: onsets.Onsets, first: int, n_frames: int) -> Rows:
  """Finds the rows of a song.

  Args:
    notes: where they begin.
    first: frame of the first event.
    n_frames: length of the song in frames.
  """
  by_voice = np.zeros((4, n_frames))
  np.maximum.at(by_voice, (notes.voice, np.minimum(notes.frame, n_frames - 1)),
                notes.weight)
  mass = np.minimum(by_voice.sum(0), 2.)
  if np.count_nonzero(mass > .3) < _FEW:
    return _fallback(first, n_frames)
  parts, lengths = [], []
  for (start, end), track in _tracks(by_voice):
    lengths.append(track.length)
    parts.append(start + _place(
        tempo.onset_frames(by_voice[:, start:end]), mass[start:end], track))
  if not parts:
    return _fallback(first, n_frames)
  frames = _cover(_join(parts, lengths), first, n_frames, lengths[-1])
  length = float(np.diff(frames)[:-1].mean()) if len(frames) > 2 else lengths[0]
  chance = min(1., 1 / length)
  on_rows = mass[frames[:-1]].sum() / mass.sum()
  enough = min(1., np.count_nonzero(mass > .3) / _ENOUGH)
  return Rows(length, enough * float(np.clip(
      (on_rows - chance) / (1 - chance), 0, 1)), frames)


def _tracks(by_voice: np.ndarray
            ) -> list[tuple[tuple[int, int], tempo.Track]]:
  """Returns the rows of each part of a song with a tempo of its own.

  Args:
    by_voice: [4, F] weights of onsets.
  """
  whole = (0, by_voice.shape[1])
  track = tempo.choose(by_voice)
  single = [(whole, track)] if track and track.score > _LEAST else []
  cut = tempo.segments(by_voice)
  if len(cut) == 1:
    return single
  found, near = {}, 0.
  for start, end in sorted(cut, key=lambda part: part[0] - part[1]):
    track = tempo.choose(by_voice[:, start:end], near)
    if track and track.score > _LEAST:
      found[start, end] = track
      near = near or track.length
  # What the cuts explain must be worth them.
  gained = sum((end - start) * track.value for (start, end), track in
               found.items()) / whole[1]
  if single and single[0][1].value > gained - _CUT:
    return single
  return sorted(found.items(), key=lambda item: item[0])


def _fallback(first: int, n_frames: int) -> Rows:
  """Equal rows, of no confidence."""
  return Rows(0., 0., _cover(np.arange(first, n_frames, _FALLBACK), first,
                             n_frames, _FALLBACK))


def _place(at: np.ndarray, mass: np.ndarray, track: tempo.Track) -> np.ndarray:
  """Returns ascending frames of rows that cover [0, F)."""
  place, length = track.place, track.length
  row = np.arange(np.floor(place[0] - at[0] / length),
                  np.ceil(place[-1] + (len(mass) - at[-1]) / length))
  where = np.interp(row, place, at)
  where = np.where(row < place[0], at[0] - (place[0] - row) * length, where)
  where = np.where(row > place[-1], at[-1] + (row - place[-1]) * length, where)
  where += np.where(row % 2 == 1, *track.swing[::-1])
  frames = _settle(where, mass, length)
  return frames[(frames > -length) & (frames < len(mass))]


def _settle(where: np.ndarray, mass: np.ndarray, length: float) -> np.ndarray:
  """[R] int64 ascending frames of rows that are at about [R] frames."""
  moves = int(min(_MOVES, np.ceil(length / 2) - 1))
  move = np.arange(-moves, moves + 1)
  base = np.rint(where).astype(np.int64)
  frame = base[:, None] + move
  inside = (frame >= 0) & (frame < len(mass))
  gain = np.where(inside, mass[np.clip(frame, 0, len(mass) - 1)], 0)
  gain = gain - .05 * np.abs(frame - where[:, None])
  change = _CHANGE * np.abs(move[:, None] - move)
  best = np.zeros((len(base), len(move)), np.int64)
  total = gain[0]
  for row in range(1, len(base)):
    options = total - change
    best[row] = options.argmax(1)
    total = options.max(1) + gain[row]
  path = np.empty(len(base), np.int64)
  path[-1] = total.argmax()
  for row in range(len(base) - 1, 0, -1):
    path[row - 1] = best[row, path[row]]
  frames = base + move[path]
  step = np.arange(len(frames))
  return np.maximum.accumulate(frames - step) + step


def _join(parts: list[np.ndarray], lengths: list[float]) -> np.ndarray:
  """Joins rows of parts of a song; rows too close to one another merge."""
  frames = parts[0]
  for part, length in zip(parts[1:], lengths[1:], strict=True):
    frames = frames[frames < part[0] - length / 2] if len(part) else frames
    frames = np.concatenate([frames, part])
  return frames


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
