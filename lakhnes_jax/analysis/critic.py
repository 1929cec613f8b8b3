"""A critic: tells a model's songs from real ones by their features.

A logistic regression on what `song_features` measures, fitted once and kept
beside the weights. A model that draws several songs for each one that is wanted
keeps the one that the critic takes most for real, as systems of the MIREX
symbolic music generation task do (2025). That the critic is learned matters:
keeping the songs nearest to the mean of real ones leaves them as easy to tell
from those as they were (experiments/RESULTS.md, "What a critic sees").
"""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import scipy.optimize
import scipy.special

from lakhnes_jax import events as ev
from lakhnes_jax.analysis import song_features

SECONDS = 30.  # Of each song.
_FARTHEST = 4.  # Deviations; what is farther off counts as this.
_STRENGTH = .1  # Inverse of the L2 penalty, as scikit-learn's C.


class Weight(TypedDict):
  """What one feature says: JSON, as weights folders hold it."""
  feature: str  # As `song_features.measure` names it.
  mean: float  # Of real songs,
  deviation: float  # and their standard deviation.
  weight: float  # Log odds for each deviation z above the mean,
  square: float  # and for each 1 of z^2 - 1: songs far off on either side.


def fit(samples: Sequence[np.ndarray],
        real: Sequence[np.ndarray]) -> list[Weight]:
  """Fits a critic.

  Minimises sum_i c_i log(1 + exp(-y_i (w . x_i + b))) + |w|^2 / (2 C) with
  x = (z, z^2 - 1), where z are the features in deviations from the mean of real
  songs, at most 4 of them, 0 where one could not be measured; classes weigh the
  same in sum.

  Args:
    samples: int32 events of a model's songs, of which the first 30 seconds
      count.
    real: of real ones.

  Raises:
    ValueError: there are fewer than two songs of a kind.
  """
  if min(len(samples), len(real)) < 2:
    raise ValueError(f'{len(samples)} samples and {len(real)} real songs are '
                     'too few for a critic')
  theirs, found = ([_measure(song) for song in songs]
                   for songs in (samples, real))
  rows = [Weight(feature=name, mean=float(np.nanmean(column)),
                 deviation=float(np.nanstd(column)), weight=0., square=0.)
          for name in found[0]
          if np.isfinite(column := np.array([song[name] for song in found])
                        ).sum() > 1 and np.nanstd(column) > 0]
  x = np.array([_standardised(song, rows) for song in [*theirs, *found]])
  y = np.repeat([1., -1.], [len(theirs), len(found)])
  c = len(y) / 2 / np.where(y > 0, len(theirs), len(found))

  def loss(w):
    margin = y * (x @ w[:-1] + w[-1])
    pull = -c * y * scipy.special.expit(-margin)
    penalised = np.append(w[:-1], 0) / _STRENGTH
    return (c @ np.logaddexp(0, -margin) + w @ penalised / 2,
            np.append(x.T @ pull, pull.sum()) + penalised)

  w = scipy.optimize.minimize(loss, np.zeros(x.shape[1] + 1), jac=True,
                              method='L-BFGS-B').x
  return [Weight(**{**row, 'weight': float(weight), 'square': float(square)})
          for row, weight, square in zip(rows, *np.split(w[:-1], 2),
                                         strict=True)]


def score(song: np.ndarray, critic: Sequence[Weight]) -> float:
  """Returns the log odds that a song is a sample, up to a constant.

  Args:
    song: int32 events, of which the first 30 seconds count.
    critic: as `fit` returns it.
  """
  return float(_standardised(_measure(song), critic) @ [
      row[key] for key in ('weight', 'square') for row in critic])


def _measure(song: np.ndarray) -> dict[str, float]:
  return song_features.measure(
      ev.truncate(song, round(SECONDS * ev.SAMPLE_RATE)))


def _standardised(found: dict[str, float],
                  rows: Sequence[Weight]) -> np.ndarray:
  """[2 features]: z and z^2 - 1, as of `fit`."""
  value, mean, deviation = np.array(
      [(found.get(row['feature'], np.nan), row['mean'], row['deviation'])
       for row in rows]).T
  off = (value - mean) / np.maximum(deviation, 1e-9)
  z = np.clip(np.nan_to_num(off, nan=0.), -_FARTHEST, _FARTHEST)
  return np.concatenate([z, z**2 - 1])
