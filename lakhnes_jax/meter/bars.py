"""Beats and bars, in rows.

Each pair of a beat of 1 to 12 rows and a bar of 2 to 4 beats is scored by how
well the onsets of the voices, and the notes, repeat after a bar and after a
beat, how much of all begins on beats, and how usual its length is. Bars begin
where voices begin most, long and loud, and where the bass moves. The weights
were fitted to composed songs of known meter and to the lengths of loops in
NES-MDB (see `experiments.benchmarks.meter`).
"""

from typing import NamedTuple

import numpy as np

from lakhnes_jax import events as ev

_PAIRS = np.array([(beat, beat * beats) for beat in (1, 2, 3, 4, 5, 6, 8, 12)
                   for beats in (2, 3, 4)])
# Weights of the features of a pair.
_REPEATS, _SAME_NOTES, _TWICE, _BEAT_REPEATS, _MORE_THAN_HALF = (
    .85, .55, -.4, .6, .3)
_ON_BEAT, _LONG_ON_BEAT = .3, .25
_USUAL_BEAT, _USUAL_BAR = .2, .1
_IN_THREES, _IN_TWOS, _TERNARY = -.3, -.65, -.45
_BEAT_FRAMES, _BAR_FRAMES = (29, .4), (112, .45)  # And their spread in log.
# Weights of what begins on the first row of a bar.
_ALL, _BASS, _BASS_MOVES, _LONG, _LOUD, _FIRST = 2.8, 1.1, 4., 1.3, 4.6, 1.1
_AUDIBLE = .3  # Weight of an onset that counts as one.


class Bars(NamedTuple):
  """Rows per beat and bar, the first row of a bar, 0 to 1 how sure."""
  rows_per_beat: int
  rows_per_bar: int
  bar_row: int
  confidence: float


class RowNotes(NamedTuple):
  """What begins on each row; each [R, 4], by row and voice.

  Attributes:
    weight: float64, 0 to 1 (see `onsets`).
    pitch: int64, 0 where none begins.
    level: int64, volume, 0 to 15.
    rows: float64, length in rows.
  """
  weight: np.ndarray
  pitch: np.ndarray
  level: np.ndarray
  rows: np.ndarray


def find(notes: RowNotes, row: float) -> Bars:
  """Finds beats and bars.

  Args:
    notes: what begins on each row.
    row: frames per row.
  """
  n = len(notes.weight)
  pairs = _PAIRS[2 * _PAIRS[:, 1] <= n]
  total = notes.weight.sum(1)
  if not len(pairs) or not total.any() or not row:
    return Bars(4, 16, 0, 0.)
  score, repeats = _scores(notes, total, pairs, row)
  best = int(np.argmax(score))
  beat, bar = (int(x) for x in pairs[best])
  return Bars(beat, bar, _first(notes, total, bar),
              float(np.clip(repeats[best], 0, 1)))


def _scores(notes: RowNotes, total: np.ndarray, pairs: np.ndarray, row: float):
  """Returns the score of each pair, and how well onsets repeat after a bar."""
  n = len(total)
  onset = (notes.weight > _AUDIBLE).astype(np.float64)
  repeat = _autocorrelation(onset - onset.mean(0))
  sounds = notes.pitch > 0
  same = {lag: n / (n - lag) * (sounds[lag:] & (
      notes.pitch[lag:] == notes.pitch[:-lag])).sum() / max(sounds.sum(), 1)
      for lag in set(pairs[:, 1].tolist())}
  long = notes.rows.max(1) * (total > _AUDIBLE)
  on_beat = {beat: (_peak(total, beat), _peak(np.minimum(long, beat), beat))
             for beat in set(pairs[:, 0].tolist())}
  beat, bar = pairs.T
  twice = np.where(2 * bar < n, 2 * bar, bar)
  half = (repeat[bar // 2] + repeat[(bar + 1) // 2]) / 2
  share = np.array([on_beat[b] for b in beat.tolist()])
  score = (
      _REPEATS * repeat[bar] + _TWICE * repeat[twice]
      + _SAME_NOTES * np.array([same[b] for b in bar.tolist()])
      + _BEAT_REPEATS * repeat[beat]
      + _MORE_THAN_HALF * (repeat[bar] - half)
      + share @ [_ON_BEAT, _LONG_ON_BEAT]
      + _USUAL_BEAT * _usual(beat * row, *_BEAT_FRAMES)
      + _USUAL_BAR * _usual(bar * row, *_BAR_FRAMES)
      + _IN_THREES * (bar == 3 * beat) + _IN_TWOS * (bar == 2 * beat)
      + _TERNARY * (beat % 3 == 0))
  return score, repeat[bar]


def _autocorrelation(x: np.ndarray) -> np.ndarray:
  """[R] of the columns of [R, 4] together, 1 at lag 0; unbiased."""
  n = len(x)
  size = 1 << int(np.ceil(np.log2(2 * n)))
  power = np.abs(np.fft.rfft(x, size, axis=0)) ** 2
  found = np.fft.irfft(power.sum(1), size)[:n]
  return found / max(found[0], 1e-9) * n / (n - np.arange(n))


def _peak(x: np.ndarray, period: int) -> float:
  """Share of x that is on the best rows of a period, less what chance has."""
  mass = np.bincount(np.arange(len(x)) % period, x, period)
  return float(mass.max() / max(mass.sum(), 1e-9) - 1 / period)


def _usual(frames: np.ndarray, center: float, spread: float) -> np.ndarray:
  return -.5 * (np.log(frames / center) / spread) ** 2


def _first(notes: RowNotes, total: np.ndarray, bar: int) -> int:
  """Returns the row, 0 to bar - 1, on which bars begin."""
  bass = notes.pitch[:, ev.TR]
  at = np.flatnonzero(bass)
  moves = np.zeros(len(bass))
  moves[at] = np.diff(bass[at], prepend=0) != 0
  onset = notes.weight > _AUDIBLE
  row = np.arange(len(total)) % bar
  score = np.zeros(bar)
  for weight, x in (
      (_ALL, total), (_BASS, notes.weight[:, ev.TR]), (_BASS_MOVES, moves),
      (_LONG, np.minimum(notes.rows, bar).max(1) * (total > _AUDIBLE)),
      (_LOUD, (notes.level * onset).max(1))):
    mass = np.bincount(row, x, bar)
    score += weight * mass / max(mass.max(), 1e-9)
  if onset.any():
    score[int(np.argmax(onset.any(1))) % bar] += _FIRST
  return int(np.argmax(score))
