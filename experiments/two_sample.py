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

from collections.abc import Iterator, Sequence

import numpy as np

from lakhnes_jax import events as ev
from lakhnes_jax import nes

VIEWS = ('features', 'ngrams', 'both')
_ORDERS = (1, 2, 3)  # Of n-grams.
FOLDS, _REPEATS = 5, 4
_BUCKETS = 1 << 14  # Of hashed n-grams.
_FINE = 24  # Frames that are told apart; what is longer is told by sixths.
_SHRINKAGE = 0.05  # Of covariances towards their diagonals.


def ngrams(song: np.ndarray) -> Iterator[str]:
  """Yields what a critic reads of a song: words of notes, rhythms and chords.

  Each voice is read alone: intervals in semitones (of noise, its values),
  times between NOTEONs and lengths of notes in frames of 1/60 s, and one to
  three notes in a row with their intervals and times. Together the voices
  make chords: at each NOTEON, what sounds above the lowest note. Transposing
  a song, or moving its events within a frame, changes (nearly) no word, and
  notes too short to be heard make none (`events.without_glitches`).

  Args:
    song: int32 events (see `lakhnes_jax.events`).
  """
  song = ev.without_glitches(song)
  is_note = (song < 0) & (ev.kind_of(song) <= ev.NOTEON)
  frames = np.rint(ev.times_of(song) / nes.VIDEO_FRAME).astype(int)[is_note]
  song = song[is_note]
  voice, pitch = ev.voice_of(song), ev.value_of(song)
  on = ev.kind_of(song) == ev.NOTEON
  for v in range(len(ev.VOICES)):
    mine = np.flatnonzero(voice == v)
    begins = mine[on[mine]]
    ends = np.append(frames[mine][1:], frames[-1:])[on[mine]]
    name = ev.VOICES[v].name
    moves = pitch[begins] if v == ev.NO else np.diff(
        pitch[begins], prepend=pitch[begins][:1])
    times = [_coarse(x) for x in np.diff(
        frames[begins], prepend=frames[begins][:1]).tolist()]
    for length in (ends - frames[begins]).tolist():
      yield f'{name} holds {_coarse(length)}'
    words = [f'{move}/{time}' for move, time in zip(moves, times, strict=True)]
    for kind, row in (('moves', map(str, moves)), ('times', map(str, times)),
                      ('plays', words)):
      row = list(row)
      for order in _ORDERS:
        for start in range(1, len(row) - order + 1):
          yield f'{name} {kind} {" ".join(row[start:start + order])}'
  yield from _chords(frames, voice, np.where(on, pitch, 0))


def _coarse(frames: int) -> int:
  """Rounds what is long: to about a sixth of itself."""
  if frames <= _FINE:
    return frames
  step = 1 << (int(np.log2(frames / _FINE)) + 2)
  return round(frames / step) * step


def _chords(frames: np.ndarray, voice: np.ndarray,
            pitch: np.ndarray) -> Iterator[str]:
  """Yields the chord after each frame in which a melodic voice changes."""
  sounding = {}
  for i in range(len(frames)):
    if voice[i] != ev.NO:
      sounding[voice[i]] = pitch[i]
    is_last = i + 1 == len(frames) or frames[i + 1] != frames[i]
    notes = [p for p in sounding.values() if p]
    if is_last and notes:
      low = min(notes)
      yield f'chord {sorted({(p - low) % 12 for p in notes})}'


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
  try:
    import threadpoolctl  # Comes with scikit-learn.
    from sklearn import linear_model, model_selection
    from sklearn.feature_extraction import text
  except ImportError as error:
    raise ImportError('the critic needs scikit-learn: pip install '
                      f'"lakhnes_jax[metrics]" ({error})') from error
  import scipy.sparse

  sizes = len(set(sample_groups)), len(set(real_groups))
  if min(sizes) < FOLDS:
    raise ValueError(f'{sizes[0]} groups of samples and {sizes[1]} of real '
                     f'songs: a critic needs {FOLDS} of each')
  hashed = text.HashingVectorizer(
      analyzer=ngrams, n_features=_BUCKETS, alternate_sign=False,
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
