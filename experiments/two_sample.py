"""Can a critic tell samples from real songs? A classifier two-sample test.

Some songs are samples, the others real; a classifier is trained on some and
asked about the others. The area under its ROC curve (AUC) is 0.5 where the two
cannot be told apart, and 1 where every song can. The songs of one game, which
often share instruments and figures, are all in training or all in the test:
else the critic knows real songs by their game, and even two sets of real songs
seem to differ. What two sets of real songs get is the floor.

Sources: Lopez-Paz and Oquab, "Revisiting Classifier Two-Sample Tests" (ICLR
2017); Kilgour et al., "Frechet Audio Distance" (Interspeech 2019) for the other
distance, here of the features of `analysis.song_features`.
"""

from collections.abc import Sequence

import numpy as np

from lakhnes_jax.analysis import critic as critic_lib
from lakhnes_jax.analysis import ngrams

VIEWS = ('features', 'ngrams', 'both')
FOLDS, _REPEATS = 5, 4
_BUCKETS = 1 << 14  # Of hashed n-grams.
_SHRINKAGE = 0.05  # Of covariances towards their diagonals.


def auc(samples: Sequence[np.ndarray], real: Sequence[np.ndarray],
        sample_features: Sequence[dict[str, float]],
        real_features: Sequence[dict[str, float]],
        sample_groups: Sequence[str], real_groups: Sequence[str],
       ) -> dict[str, float]:
  """Cross-validated area under the curve of critics of samples and real songs.

  Args:
    samples, real: songs, cut to one length.
    sample_features, real_features: of the same (see `song_features.measure`).
    sample_groups, real_groups: of each song a name; songs with the same are in
      one fold. At least `FOLDS` different ones each.

  Returns:
    AUC for each of `VIEWS`: of logistic regressions on the features, on hashed
    n-grams weighted by tf-idf, and on both; means over several random folds.

  Raises:
    ImportError: scikit-learn is missing; names the extra.
    ValueError: too few groups.
  """
  critic_lib.require_sklearn()
  import scipy.sparse
  import threadpoolctl  # Comes with scikit-learn.
  from sklearn import linear_model, model_selection
  from sklearn.feature_extraction import text

  sizes = len(set(sample_groups)), len(set(real_groups))
  if min(sizes) < FOLDS:
    raise ValueError(f'{sizes[0]} groups of samples and {sizes[1]} of real '
                     f'songs: a critic needs {FOLDS} of each')
  hashed = text.HashingVectorizer(
      analyzer=ngrams.extract, n_features=_BUCKETS, alternate_sign=False,
      norm=None).transform([*samples, *real])
  hashed = text.TfidfTransformer(
      sublinear_tf=True).fit_transform(hashed)
  numbers = matrix([*sample_features, *real_features])
  numbers /= np.sqrt(numbers.shape[1])  # As long as a row of n-grams.
  views = dict(zip(VIEWS, (
      scipy.sparse.csr_matrix(numbers), hashed,
      scipy.sparse.csr_matrix(scipy.sparse.hstack([numbers, hashed]))),
      strict=True))
  label = np.repeat([1, 0], [len(samples), len(real)])
  groups = [*sample_groups, *real_groups]
  folds = [fold for repeat in range(_REPEATS)
           for fold in model_selection.StratifiedGroupKFold(
               FOLDS, shuffle=True, random_state=repeat).split(
                   label, label, groups)]
  critic = linear_model.LogisticRegression(
      C=10., class_weight='balanced', max_iter=1000)
  # Vectors so short are added in one thread: where other work keeps the cores,
  # threads that wait for each other take 30 times as long.
  with threadpoolctl.threadpool_limits(1, 'blas'):
    return {name: float(model_selection.cross_val_score(
        critic, x, label, cv=folds, scoring='roc_auc').mean())
            for name, x in views.items()}


def matrix(rows: Sequence[dict[str, float]]) -> np.ndarray:
  """[songs, features]: standardised over all songs; 0 where one is nan."""
  values = np.array([list(row.values()) for row in rows], float)
  known = ~np.isnan(values)
  count = np.maximum(known.sum(0), 1)
  mean = np.where(known, values, 0).sum(0) / count
  deviation = np.where(known, values - mean, 0)
  spread = np.sqrt((deviation**2).sum(0) / count)
  return deviation / np.where(spread > 0, spread, 1)


def frechet(a: Sequence[dict[str, float]],
            b: Sequence[dict[str, float]]) -> float:
  """Frechet distance of two sets of features, as of two Gaussians.

  |mu_a - mu_b|^2 + tr(A + B - 2 (A B)^(1/2)) with covariances A and B, of
  features standardised by `b`, divided by the number of features.
  """
  x, y = (np.array([list(row.values()) for row in rows], float)
          for rows in (a, b))
  known = ~np.isnan(x).all(0) & ~np.isnan(y).all(0)
  x, y = x[:, known], y[:, known]
  mean, spread = np.nanmean(y, 0), np.nanstd(y, 0)
  varies = spread > 0
  x, y = (np.nan_to_num((rows - mean)[:, varies] / spread[varies])
          for rows in (x, y))
  first, second = (_covariance(rows) for rows in (x, y))
  # (A B)^(1/2) has the trace of the symmetric (A^(1/2) B A^(1/2))^(1/2).
  values, vectors = np.linalg.eigh(first)
  root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
  between = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ second @ root), 0))
  distance = ((x.mean(0) - y.mean(0))**2).sum() + np.trace(
      first + second) - 2 * between.sum()
  return float(distance / varies.sum())


def _covariance(rows: np.ndarray) -> np.ndarray:
  found = np.cov(rows, rowvar=False, bias=True)
  return (1 - _SHRINKAGE) * found + _SHRINKAGE * np.diag(np.diag(found))
