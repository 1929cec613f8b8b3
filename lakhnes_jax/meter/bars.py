"""Beats and bars, in rows.

Each pair of a beat of 1 to 12 rows and a bar of 2 to 4 beats is scored by how
well the onsets of the voices, and the notes, repeat after a bar and after a
beat, how much of all begins on beats and bars, and how usual its length is.
Bars begin where voices begin most, long and loud, and where the bass moves. The
weights were fitted, as those of a softmax over the pairs, to 711 composed songs
of known meter, and to the lengths of 126 loops in NES-MDB, which are whole bars
(see `experiments.benchmarks.meter`).
"""

from typing import NamedTuple

import numpy as np

from lakhnes_jax import events as ev

_PAIRS = np.array([(beat, beat * beats) for beat in (1, 2, 3, 4, 5, 6, 8, 12)
                   for beats in (2, 3, 4)])
_BEAT_FRAMES, _BAR_FRAMES = (29, .4), (112, .45)  # Usual; their spread in log.
# Weights of the features of a pair.
WEIGHTS = np.array([
    .02, 1.33,  # Onsets repeat after a bar, after two,
    3.65, 1.49,  # notes after a bar, onsets after a beat,
    1.12,  # and better after a bar than after half of one.
    -8.4, 3.2,  # What begins on beats; likewise what lasts for a beat.
    1.48, .43,  # Usual lengths of both.
    -2.04, -5.25, -2.54,  # Three beats, two beats, beats of 3, 6 or 12 rows;
    1.74,  # of 4.
    2.04, -3.43,  # Noise repeats after a beat: its onsets, its pitches.
    2.14, -.86,  # The bass's onsets after a bar, and better than after half.
    9.17,  # The bass moves on beats.
    -14.19, 7.75, -32.23, 10.14,  # What begins on bars: all, long, loud, bass.
])
# Those by which the songs were parsed that the shipped weights of the format
# `tracker` learned from: its rows are counted by bars. See `PARSER` there.
OF_TRACKER = np.array([
    .85, -.4, .55, .6, .3, .3, .25, .2, .1, -.3, -.65, -.45, *[0.] * 10])
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


def find(notes: RowNotes, row: float, weights: np.ndarray = WEIGHTS) -> Bars:
  """Finds beats and bars.

  Args:
    notes: what begins on each row.
    row: frames per row.
    weights: of the features of a beat and a bar.
  """
  n = len(notes.weight)
  pairs = _PAIRS[2 * _PAIRS[:, 1] <= n]
  total = notes.weight.sum(1)
  if not len(pairs) or not total.any() or not row:
    return Bars(4, 16, 0, 0.)
  repeat = _repeats(notes.weight)
  best = int(np.argmax(_features(notes, total, repeat, pairs, row) @ weights))
  beat, bar = (int(x) for x in pairs[best])
  return Bars(beat, bar, _first(notes, total, bar),
              float(np.clip(repeat[bar], 0, 1)))


def _features(notes: RowNotes, total: np.ndarray, repeat: np.ndarray,
              pairs: np.ndarray, row: float) -> np.ndarray:
  """[P, features] of pairs, as `WEIGHTS` has them."""
  beat, bar = pairs.T
  onset = notes.weight > _AUDIBLE
  long = notes.rows.max(1) * (total > _AUDIBLE)
  loud = (notes.level * onset).max(1)
  noise, bass = (_repeats(notes.weight[:, [v]]) for v in (ev.NO, ev.TR))
  return np.stack([
      repeat[bar], repeat[np.where(2 * bar < len(total), 2 * bar, bar)],
      _same(notes.pitch, bar), repeat[beat],
      repeat[bar] - (repeat[bar // 2] + repeat[(bar + 1) // 2]) / 2,
      _peaks(total, beat), _peaks(long, beat, longest=True),
      _usual(beat * row, *_BEAT_FRAMES), _usual(bar * row, *_BAR_FRAMES),
      bar == 3 * beat, bar == 2 * beat, beat % 3 == 0, beat == 4,
      noise[beat], _same(notes.pitch[:, [ev.NO]], beat),
      bass[bar], bass[bar] - bass[bar // 2], _peaks(_moves(notes), beat),
      _peaks(total, bar), _peaks(long, bar, longest=True), _peaks(loud, bar),
      _peaks(notes.weight[:, ev.TR], bar)], 1)


def _repeats(weight: np.ndarray) -> np.ndarray:
  """[R] autocorrelation of the onsets in [R, V], unbiased; 1 at lag 0."""
  onset = (weight > _AUDIBLE).astype(np.float64)
  return _autocorrelation(onset - onset.mean(0))


def _same(pitch: np.ndarray, lags: np.ndarray) -> np.ndarray:
  """[P] shares of the notes in [R, V] that come again after [P] rows."""
  n, count = len(pitch), max((pitch > 0).sum(), 1)
  return _each(lambda lag: n / (n - lag) * (
      (pitch[lag:] > 0) & (pitch[lag:] == pitch[:-lag])).sum() / count, lags)


def _peaks(x: np.ndarray, periods: np.ndarray, longest: bool = False
           ) -> np.ndarray:
  """[P] of `_peak`; with `longest`, no x counts for more than a period."""
  return _each(lambda period: _peak(
      np.minimum(x, period) if longest else x, period), periods)


def _each(function, x: np.ndarray) -> np.ndarray:
  """[P] of a function of integers, called once for each."""
  values = {value: function(value) for value in set(x.tolist())}
  return np.array([values[value] for value in x.tolist()])


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


def _moves(notes: RowNotes) -> np.ndarray:
  """[R] 1 where the bass begins another pitch than before, else 0."""
  bass = notes.pitch[:, ev.TR]
  at = np.flatnonzero(bass)
  moves = np.zeros(len(bass))
  moves[at] = np.diff(bass[at], prepend=0) != 0
  return moves


def _first(notes: RowNotes, total: np.ndarray, bar: int) -> int:
  """Returns the row, 0 to bar - 1, on which bars begin."""
  onset = notes.weight > _AUDIBLE
  row = np.arange(len(total)) % bar
  score = np.zeros(bar)
  for weight, x in (
      (_ALL, total), (_BASS, notes.weight[:, ev.TR]),
      (_BASS_MOVES, _moves(notes)),
      (_LONG, np.minimum(notes.rows, bar).max(1) * (total > _AUDIBLE)),
      (_LOUD, (notes.level * onset).max(1))):
    mass = np.bincount(row, x, bar)
    score += weight * mass / max(mass.max(), 1e-9)
  if onset.any():
    score[int(np.argmax(onset.any(1))) % bar] += _FIRST
  return int(np.argmax(score))
