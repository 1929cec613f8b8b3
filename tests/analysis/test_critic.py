"""A critic of features, against scikit-learn's logistic regression."""

import json

import numpy as np
import pytest

from lakhnes_jax import events as ev
from lakhnes_jax.analysis import critic, song_features


def song(pitches, wait=11025) -> np.ndarray:
  return np.array([x for pitch in pitches for x in (
      ev.event(ev.P1, ev.NOTEON, pitch), wait)], np.int32)


RNG = np.random.default_rng(0)
SCALE = [60, 62, 64, 65, 67]
REAL = [song(RNG.choice(SCALE, 160), wait)
        for wait in (8000, 9000, 10000, 11000, 12000)]
SAMPLES = [song(RNG.integers(40, 90, 120), wait)
           for wait in (7000, 9500, 13000)]


def columns(songs, names) -> np.ndarray:
  return np.array([[song_features.measure(ev.truncate(
      x, 30 * ev.SAMPLE_RATE))[name] for name in names] for x in songs])


def test_it_is_a_balanced_logistic_regression():
  linear_model = pytest.importorskip(
      'sklearn.linear_model', reason='the extra "metrics" is not installed')
  found = critic.fit(SAMPLES, REAL)
  assert json.loads(json.dumps(found)) == found
  names = [row['feature'] for row in found]
  # Features that all real songs share, or that none has, say nothing.
  assert 'note_density' in names and 'silence_P2' not in names
  real = columns(REAL, names)
  x = (np.concatenate([columns(SAMPLES, names), real]) -
       np.nanmean(real, 0)) / np.nanstd(real, 0)
  x = np.clip(np.nan_to_num(x), -4, 4)
  x = np.concatenate([x, x**2 - 1], 1)
  wanted = linear_model.LogisticRegression(
      C=.1, class_weight='balanced', tol=1e-8, max_iter=10000).fit(
          x, [1] * 3 + [0] * 5)
  np.testing.assert_allclose(
      [row[key] for key in ('weight', 'square') for row in found],
      wanted.coef_[0], atol=1e-3)
  scores = np.array([critic.score(song, found) for song in SAMPLES + REAL])
  odds = wanted.decision_function(x)
  np.testing.assert_allclose(scores - scores[0], odds - odds[0], atol=1e-2)


def test_songs_like_real_ones_score_lower():
  found = critic.fit(SAMPLES, REAL)
  like = critic.score(song(RNG.choice(SCALE, 160), 9700), found)
  assert like < critic.score(song(RNG.integers(40, 90, 160), 9700), found)
  # What comes after 30 seconds does not count.
  first = ev.truncate(SAMPLES[2], 30 * ev.SAMPLE_RATE)
  assert len(first) < len(SAMPLES[2])
  assert critic.score(first, found) == critic.score(SAMPLES[2], found)


def test_what_is_damaged_is_a_matter_of_taste():
  rows = [{'feature': 'nonsense', 'mean': 0., 'deviation': 1., 'weight': 9.,
           'square': 0.},
          {'feature': 'note_density', 'mean': 0., 'deviation': 0.,
           'weight': .5, 'square': .1}]
  assert critic.score(REAL[0], rows) == pytest.approx(.5 * 4 + .1 * 15)
  assert critic.score(np.zeros(0, np.int32), rows) == pytest.approx(-.1)


def test_too_few_songs():
  with pytest.raises(ValueError, match='1 samples and 5 real songs are too'):
    critic.fit(SAMPLES[:1], REAL)
