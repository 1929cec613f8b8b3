"""A critic: which of several songs to take, so that those taken are like real.

A model that draws several songs for each one that is wanted can take them with
unequal probabilities. The critic's are proportional to exp(-score), where a
score is linear in what is measured of a song and its square, and such that the
songs taken have, as nearly as so few songs allow, the means and deviations of
real songs. What is measured are `song_features`, how much like samples its
n-grams are, and how much like samples all of that is together: songs that are
right in each feature are still known by features that do not go together. A
song with more than six seconds of a few notes is taken only where all have
that: those with much more are so rare that the fit says nothing of them. A
critic is fitted once and kept beside the weights. Always taking the song
nearest to the mean of real ones, or the one that is least like a sample, leaves
songs easier to tell from real ones, or with other features than theirs
(experiments/RESULTS.md, "What a critic sees", "What features say together").

Sources: Khalifa et al., "A Distributional Approach to Controlled Text
Generation" (ICLR 2021), for moments matched by an exponential tilt; systems of
the MIREX symbolic music generation task (2025) draw several songs as well.
"""

import collections
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
import scipy.optimize
import scipy.special

from lakhnes_jax import events as ev
from lakhnes_jax.analysis import ngrams, song_features

SECONDS = 30.  # Of each song.
BEST_OF = 12  # Songs of which one is taken.
_STASIS = 6.  # Seconds without new notes (`song_features.stasis`).
_REFUSED = 1e3  # Added to a score.
_FARTHEST = 4.  # Deviations; what is farther off counts as this.
_PENALTY = .05  # On the squares of weights.
_SPLITS = 20  # Random ways to put samples into groups.
_N_GRAMS, _SHARE = 500, .03  # Most n-grams, and of how many songs at least.
_FOLDS = 5
_INVERSE_PENALTY = .1  # Of the regression on features.


class Terms(TypedDict):
  """What is added of a feature to log odds."""
  weight: float  # For each deviation z above the mean,
  square: float  # and for each 1 of z^2 - 1: songs far off on either side.


class Weight(TypedDict):
  """What is added of a feature to the score; a `Terms` too."""
  feature: str  # As `song_features` names it, 'ngrams' or 'log_odds'.
  mean: float  # Of real songs,
  deviation: float  # and their standard deviation.
  weight: float  # As of `Terms`.
  square: float


class Critic(TypedDict):
  """JSON, as weights folders hold it."""
  features: list[Weight]
  ngrams: dict[str, float]  # What each says, more of samples; `_ngram_score`.
  log_odds: dict[str, Terms]  # What features say of samples; `_score`.


def fit(samples: Sequence[np.ndarray], real: Sequence[np.ndarray],
        best_of: int = BEST_OF) -> Critic:
  """Fits a critic.

  With x = (z, z^2 - 1), where z are the features in deviations from the mean of
  real songs, at most 4 of them, 0 where one could not be measured, minimises
  sum_j (E[x_j] - R[x_j])^2 / (2 V[x_j]) + |w|^2 / 40. E is over random groups
  of `best_of` samples, of which one is taken as `choose` does; R is the mean
  and V the variance of real songs. One of the features is what a logistic
  regression on n-grams says; the last is what one on x of all the others says,
  so that features go together as they do in real songs. Of each of these songs
  regressions speak that were fitted on other ones.

  Args:
    samples: int32 events of a model's songs, of which the first 30 seconds
      count.
    real: of real ones.
    best_of: songs of which one will be taken, at least 2.

  Raises:
    ImportError: scikit-learn is missing; names the extra.
    ValueError: there are fewer than two real songs, or samples for a group.
  """
  if len(real) < 2 or len(samples) < best_of:
    raise ValueError(f'{len(samples)} samples and {len(real)} real songs are '
                     f'too few for a critic of {best_of}')
  require_sklearn()
  is_sample = np.repeat([True, False], [len(samples), len(real)])
  weights, scores = _fit_ngrams([*samples, *real], is_sample)
  songs = [{**_measure(song), 'ngrams': score}
           for song, score in zip([*samples, *real], scores, strict=True)]
  found = songs[len(samples):]
  rows = _rows(found[0].keys(), found)
  log_odds, scores = _fit_log_odds(songs, rows, is_sample)
  for song, score in zip(songs, scores, strict=True):
    song['log_odds'] = score
  rows += _rows(['log_odds'], found)
  x, wanted = (np.array([_standardised(song, rows) for song in songs[part]])
               for part in (slice(len(samples)), slice(len(samples), None)))
  refused = np.array(list(map(_refused, samples, songs)))
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
  return Critic(ngrams=weights, log_odds=log_odds, features=[
      Weight(**{**row, 'weight': float(weight), 'square': float(square)})
      for row, weight, square in zip(rows, *np.split(w, 2), strict=True)])


def require_sklearn() -> None:
  """Raises an ImportError that names the extra, where none can be fitted."""
  try:
    import sklearn  # noqa: F401
  except ImportError as error:
    raise ImportError('a critic is fitted by scikit-learn: pip install '
                      f'"lakhnes_jax[metrics]" ({error})') from error


def _rows(names: Iterable[str], real: Sequence[dict[str, float]]
         ) -> list[Weight]:
  """Standardises features by real songs, those that tell something of them."""
  columns = {name: np.array([song[name] for song in real]) for name in names}
  return [Weight(feature=name, mean=float(np.nanmean(column)),
                 deviation=float(np.nanstd(column)), weight=0., square=0.)
          for name, column in columns.items()
          if np.isfinite(column).sum() > 1 and np.nanstd(column) > 0]


def _fit_ngrams(songs: Sequence[np.ndarray], is_sample: np.ndarray
               ) -> tuple[dict[str, float], list[float]]:
  """Fits a logistic regression on n-grams that tells samples from real songs.

  Returns:
    What each n-gram says, and the score of each song by a regression that was
    not fitted on it.
  """
  from sklearn import feature_selection, linear_model, pipeline
  from sklearn.feature_extraction import text

  def regression():
    return pipeline.make_pipeline(  # As `_ngram_score` computes it.
        text.TfidfTransformer(use_idf=False, sublinear_tf=True),
        linear_model.LogisticRegression(
            class_weight='balanced', fit_intercept=False, max_iter=1000))

  counts = text.CountVectorizer(analyzer=iter, min_df=_SHARE)
  # Those that say most, and a regression of these alone.
  selected = feature_selection.SelectFromModel(
      regression(), threshold=-np.inf,
      max_features=lambda x: min(x.shape[1], _N_GRAMS),
      importance_getter='named_steps.logisticregression.coef_')
  whole = pipeline.make_pipeline(counts, selected, regression())
  scores = _cross_fit(
      whole, [list(ngrams.extract(_beginning(song))) for song in songs],
      is_sample)
  return dict(zip(
      whole[:-1].get_feature_names_out().tolist(),
      whole[-1].named_steps['logisticregression'].coef_[0].round(4).tolist(),
      strict=True)), scores


def _fit_log_odds(songs: Sequence[dict[str, float]], rows: Sequence[Weight],
                  is_sample: np.ndarray
                 ) -> tuple[dict[str, Terms], list[float]]:
  """Fits a logistic regression on features that tells samples from real songs.

  Returns:
    What z and z^2 - 1 of each feature say, and the log odds of each song by a
    regression that was not fitted on it; both without the intercept of the
    first.
  """
  from sklearn import linear_model

  regression = linear_model.LogisticRegression(
      C=_INVERSE_PENALTY, class_weight='balanced', max_iter=1000)
  scores = _cross_fit(
      regression, np.array([_standardised(song, rows) for song in songs]),
      is_sample)
  weights, squares = regression.coef_[0].reshape(2, -1).round(4).tolist()
  return ({row['feature']: Terms(weight=weight, square=square)
           for row, weight, square in zip(rows, weights, squares, strict=True)},
          [score - float(regression.intercept_[0]) for score in scores])


def _cross_fit(classifier: Any, x: Sequence[Any], is_sample: np.ndarray
              ) -> list[float]:
  """Fits to all; returns for each what one says that was fitted to others."""
  import threadpoolctl  # Comes with scikit-learn.
  from sklearn import model_selection as selection

  folds = selection.StratifiedKFold(min(_FOLDS, *np.bincount(is_sample)),
                                    shuffle=True, random_state=0)
  with threadpoolctl.threadpool_limits(1, 'blas'):
    scores = selection.cross_val_predict(
        classifier, x, is_sample, cv=folds, method='decision_function')
    classifier.fit(x, is_sample)
  return scores.tolist()


def choose(songs: Sequence[np.ndarray], critic: Critic,
           rng: np.random.Generator | None) -> int:
  """Draws the number of one of `songs`, with odds of exp(-score).

  One with more than 6 s of `song_features.stasis` is taken only if all have it.

  Args:
    songs: int32 events, of which the first 30 seconds count.
    critic: as `fit` returns it.
    rng: what draws; it is used once, whatever the scores. None takes the song
      of the lowest score, where songs need not differ as real ones do.
  """
  found = [_heard(song, critic) for song in songs]
  scores = np.array([_score(row, critic) + _refused(song, row)
                     for song, row in zip(songs, found, strict=True)])
  if rng is None:
    return int(np.argmin(scores))
  return int(np.argmax(rng.gumbel(size=len(scores)) - scores))


def score(song: np.ndarray, critic: Critic) -> float:
  """Returns how much a song is like too many samples; lower is better.

  Args:
    song: int32 events, of which the first 30 seconds count.
    critic: as `fit` returns it.
  """
  return _score(_heard(song, critic), critic)


def _score(found: dict[str, float], critic: Critic) -> float:
  rows, log_odds = critic['features'], critic['log_odds']
  said = [(row, log_odds[row['feature']])
          for row in rows if row['feature'] in log_odds]
  found = {**found, 'log_odds': _sum(found, said)}
  return _sum(found, [(row, row) for row in rows])


def _sum(found: dict[str, float], terms: Sequence[tuple[Weight, Terms]]
        ) -> float:
  """Adds up the terms of features."""
  if not terms:
    return 0.
  return float(_standardised(found, [row for row, _ in terms]) @ [
      term[key] for key in ('weight', 'square') for _, term in terms])


def _refused(song: np.ndarray, found: dict[str, float]) -> float:
  """What is added to the score of a song: a lot, or nothing."""
  seconds = min(SECONDS, ev.times_of(song)[-1:].sum() / ev.SAMPLE_RATE)
  return _REFUSED * (found.get('stasis', 0) * seconds > _STASIS)


def _beginning(song: np.ndarray) -> np.ndarray:
  return ev.truncate(song, round(SECONDS * ev.SAMPLE_RATE))


def _measure(song: np.ndarray) -> dict[str, float]:
  return song_features.measure(_beginning(song))


def _heard(song: np.ndarray, critic: Critic) -> dict[str, float]:
  """All that the critic judges by."""
  return {**_measure(song), 'ngrams': _ngram_score(song, critic['ngrams'])}


def _ngram_score(song: np.ndarray, weights: Mapping[str, float]) -> float:
  """w x / |x|, where x is 1 + ln n of n-grams that come n times, 0 of others.

  Where there is none of those that have a weight, 0.
  """
  counts = collections.Counter(
      gram for gram in ngrams.extract(_beginning(song)) if gram in weights)
  x = 1 + np.log(list(counts.values()))
  return float(x @ [weights[gram] for gram in counts] /
               max(np.linalg.norm(x), 1))


def _standardised(found: dict[str, float],
                  rows: Sequence[Weight]) -> np.ndarray:
  """[2 features]: z and z^2 - 1, as of `fit`."""
  value, mean, deviation = np.array(
      [(found.get(row['feature'], np.nan), row['mean'], row['deviation'])
       for row in rows]).T
  off = (value - mean) / np.maximum(deviation, 1e-9)
  z = np.clip(np.nan_to_num(off, nan=0.), -_FARTHEST, _FARTHEST)
  return np.concatenate([z, z**2 - 1])
