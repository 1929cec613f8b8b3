"""A critic: which of several songs to take, so that those taken are like real.

A model that draws several songs for each one that is wanted can take them with
unequal probabilities. The critic's are proportional to exp(-score), where a
score is linear in what `song_features` and `idiom` measure and its square, and
such that the songs taken have, as nearly as so few songs allow, the means and
deviations of real songs. A song with more than six seconds of a few notes is
taken only where all have that: those with much more are so rare that the fit
says nothing of them. A critic is fitted once and kept beside the weights.
Always taking the song nearest to the mean of real ones, or the one that is
least like a sample, leaves songs easier to tell from real ones, or with other
features than theirs (experiments/RESULTS.md, "What a critic sees").

Sources: Khalifa et al., "A Distributional Approach to Controlled Text
Generation" (ICLR 2021), for moments matched by an exponential tilt; systems of
the MIREX symbolic music generation task (2025) draw several songs as well.
"""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import scipy.optimize
import scipy.special

from lakhnes_jax import events as ev
from lakhnes_jax.analysis import idiom, song_features

SECONDS = 30.  # Of each song.
BEST_OF = 8  # Songs of which one is taken.
_STASIS = 6.  # Seconds without new notes (`song_features.stasis`).
_REFUSED = 1e3  # Added to a score.
_FARTHEST = 4.  # Deviations; what is farther off counts as this.
_PENALTY = .1  # On the squares of weights.
_SPLITS = 20  # Random ways to put samples into groups.


class Weight(TypedDict):
  """What one feature says: JSON, as weights folders hold it."""
  feature: str  # As `song_features` or `idiom` name it.
  mean: float  # Of real songs,
  deviation: float  # and their standard deviation.
  weight: float  # Added to the score for each deviation z above the mean,
  square: float  # and for each 1 of z^2 - 1: songs far off on either side.


def fit(samples: Sequence[np.ndarray], real: Sequence[np.ndarray],
        best_of: int = BEST_OF) -> list[Weight]:
  """Fits a critic.

  With x = (z, z^2 - 1), where z are the features in deviations from the mean of
  real songs, at most 4 of them, 0 where one could not be measured, minimises
  sum_j (E[x_j] - R[x_j])^2 / (2 V[x_j]) + |w|^2 / 20. E is over random groups
  of `best_of` samples, of which one is taken as `choose` does; R is the mean
  and V the variance of real songs.

  Args:
    samples: int32 events of a model's songs, of which the first 30 seconds
      count.
    real: of real ones.
    best_of: songs of which one will be taken, at least 2.

  Raises:
    ValueError: there are fewer than two real songs, or samples for a group.
  """
  if len(real) < 2 or len(samples) < best_of:
    raise ValueError(f'{len(samples)} samples and {len(real)} real songs are '
                     f'too few for a critic of {best_of}')
  theirs, found = ([_measure(song) for song in songs]
                   for songs in (samples, real))
  refused = np.array(list(map(_refused, samples, theirs)))
  rows = [Weight(feature=name, mean=float(np.nanmean(column)),
                 deviation=float(np.nanstd(column)), weight=0., square=0.)
          for name in found[0]
          if np.isfinite(column := np.array([song[name] for song in found])
                        ).sum() > 1 and np.nanstd(column) > 0]
  x, wanted = (np.array([_standardised(song, rows) for song in songs])
               for songs in (theirs, found))
  rng = np.random.default_rng(0)
  n = len(x) // best_of * best_of
  groups_GxN = np.concatenate([
      rng.permutation(len(x))[:n].reshape(-1, best_of)
      for _ in range(_SPLITS)])
  groups_GxNxF, refused_GxN = x[groups_GxN], refused[groups_GxN]
  mean, deviation = wanted.mean(0), np.maximum(wanted.std(0), 1e-9)

  def loss(w):
    share_GxN = scipy.special.softmax(-groups_GxNxF @ w - refused_GxN, axis=1)
    taken = np.einsum('gn,gnf->f', share_GxN, groups_GxNxF) / len(groups_GxNxF)
    off = (taken - mean) / deviation
    pull_GxN = groups_GxNxF @ (off / deviation)
    pull_GxN -= (share_GxN * pull_GxN).sum(1, keepdims=True)
    gradient = np.einsum('gn,gnf->f', share_GxN * pull_GxN, groups_GxNxF)
    return ((off @ off + _PENALTY * w @ w) / 2,
            _PENALTY * w - gradient / len(groups_GxNxF))

  w = scipy.optimize.minimize(loss, np.zeros(x.shape[1]), jac=True,
                              method='L-BFGS-B').x
  return [Weight(**{**row, 'weight': float(weight), 'square': float(square)})
          for row, weight, square in zip(rows, *np.split(w, 2), strict=True)]


def choose(songs: Sequence[np.ndarray], critic: Sequence[Weight],
           rng: np.random.Generator) -> int:
  """Draws the number of one of `songs`, with odds of exp(-score).

  One with more than 6 s of `song_features.stasis` is taken only if all have it.

  Args:
    songs: int32 events, of which the first 30 seconds count.
    critic: as `fit` returns it.
    rng: what draws; it is used once, whatever the scores.
  """
  found = [_measure(song) for song in songs]
  scores = np.array([_score(row, critic) + _refused(song, row)
                     for song, row in zip(songs, found, strict=True)])
  return int(np.argmax(rng.gumbel(size=len(scores)) - scores))


def score(song: np.ndarray, critic: Sequence[Weight]) -> float:
  """Returns how much a song is like too many samples; lower is better.

  Args:
    song: int32 events, of which the first 30 seconds count.
    critic: as `fit` returns it.
  """
  return _score(_measure(song), critic)


def _score(found: dict[str, float], critic: Sequence[Weight]) -> float:
  return float(_standardised(found, critic) @ [
      row[key] for key in ('weight', 'square') for row in critic])


def _refused(song: np.ndarray, found: dict[str, float]) -> float:
  """What is added to the score of a song: a lot, or nothing."""
  seconds = min(SECONDS, ev.times_of(song)[-1:].sum() / ev.SAMPLE_RATE)
  return _REFUSED * (found.get('stasis', 0) * seconds > _STASIS)


def _measure(song: np.ndarray) -> dict[str, float]:
  song = ev.truncate(song, round(SECONDS * ev.SAMPLE_RATE))
  return {**song_features.measure(song), **idiom.measure(song)}


def _standardised(found: dict[str, float],
                  rows: Sequence[Weight]) -> np.ndarray:
  """[2 features]: z and z^2 - 1, as of `fit`."""
  value, mean, deviation = np.array(
      [(found.get(row['feature'], np.nan), row['mean'], row['deviation'])
       for row in rows]).T
  off = (value - mean) / np.maximum(deviation, 1e-9)
  z = np.clip(np.nan_to_num(off, nan=0.), -_FARTHEST, _FARTHEST)
  return np.concatenate([z, z**2 - 1])
