"""A critic: songs taken by it have the moments of real ones."""

import json

import numpy as np
import pytest

from lakhnes_jax import events as ev
from lakhnes_jax.analysis import critic


def song(pitches, wait=11025) -> np.ndarray:
  return np.array([x for pitch in pitches for x in (
      ev.event(ev.P1, ev.NOTEON, pitch), wait)], np.int32)


RNG = np.random.default_rng(0)
SCALE = [60, 62, 64, 65, 67]
REAL = [song(RNG.choice(SCALE, 160), wait)
        for wait in (8000, 9000, 10000, 11000, 12000)]
SAMPLES = [song(RNG.integers(40, 90, 120), wait)
           for wait in (7000, 9500, 13000)]


def of(*features, log_odds=None, **weights) -> critic.Critic:
  return {'features': list(features), 'ngrams': weights,
          'log_odds': log_odds or {}}


def wandering(rng, mean: float, deviation: float) -> list[np.ndarray]:
  """Songs of steady notes, at rates that are drawn for each."""
  return [song(rng.choice(SCALE, 30), int(wait)) for wait in
          44100 / rng.normal(mean, deviation, 256).clip(2)]


def rates(songs) -> np.ndarray:
  return np.array([len(x) // 2 / (ev.times_of(x)[-1] / 44100) for x in songs])


def test_songs_taken_have_the_moments_of_real_ones(monkeypatch):
  # Of notes alone, so that nothing else is to be matched.
  monkeypatch.setattr(critic.song_features, 'measure', lambda x: {
      'rate': float(rates([x])[0]), 'constant': 3.})
  monkeypatch.setattr(critic.ngrams, 'extract', lambda x: ['all'])
  rng = np.random.default_rng(0)
  real, samples, others = (wandering(rng, *moments) for moments in (
      (6, 1), (7, 2), (7, 2)))
  found = critic.fit(samples, real, 8)
  assert json.loads(json.dumps(found)) == found
  # All share the others.
  assert [row['feature'] for row in found['features']] == ['rate', 'log_odds']
  taken = rates([others[i:i + 8][critic.choose(others[i:i + 8], found, rng)]
                 for i in range(0, 248)])
  assert abs(rates(others).mean() - 6) > .8
  assert taken.mean() == pytest.approx(rates(real).mean(), abs=.3)
  assert taken.std() == pytest.approx(rates(real).std(), abs=.3)


def test_features_that_say_nothing_are_left_out():
  names = [row['feature'] for row in critic.fit(SAMPLES, REAL, 2)['features']]
  assert 'note_density' in names and 'figure_variety' in names
  # All real songs share the one, none has the other.
  assert 'silence_P2' not in names and 'duty_entropy' not in names


def test_odds_are_those_of_the_scores(monkeypatch):
  monkeypatch.setattr(critic.song_features, 'measure',
                      lambda x: {'events': len(x)})
  rows = of({'feature': 'events', 'mean': 10., 'deviation': 5., 'weight': 1.,
             'square': .5})
  songs = [np.zeros(n, np.int32) for n in (5, 10, 15)]
  rng = np.random.default_rng(3)
  took = np.bincount([critic.choose(songs, rows, rng) for _ in range(4000)])
  odds = np.exp([1., .5, -1.])  # z is -1, 0, 1.
  np.testing.assert_allclose(took / 4000, odds / odds.sum(), atol=.03)


def test_what_ngrams_say():
  rows = of({'feature': 'ngrams', 'mean': 0., 'deviation': 1., 'weight': 1.,
             'square': 0.}, **{'P1 moves 2': .5, 'P1 moves -2': -2.,
                               'P1 moves 7': 9.})
  twice = 1 + np.log(2)
  assert critic.score(song([60, 62, 64, 62, 65]), rows) == pytest.approx(
      (twice * .5 - 2) / np.hypot(twice, 1), abs=1e-6)
  assert critic.score(song([60, 61]), rows) == 0


def test_what_features_say_together():
  """Log odds are of all the others, and then a feature as these are."""
  rows = of({'feature': 'note_density', 'mean': 2., 'deviation': 2.,
             'weight': .5, 'square': 0.},
            {'feature': 'pitch_range', 'mean': 0., 'deviation': 1.,
             'weight': 0., 'square': 0.},
            {'feature': 'log_odds', 'mean': 1., 'deviation': 2.,
             'weight': 3., 'square': 10.},
            log_odds={'note_density': {'weight': 2., 'square': 1.},
                      'pitch_range': {'weight': -1., 'square': 0.}})
  # 4 notes a second, 1 deviation above the mean; pitches 1.5 from theirs.
  it = song([60, 63] * 8)
  odds = 2 * 1 + (1 - 1) - 1.5
  assert critic.score(it, rows) == pytest.approx(
      .5 + 3 * (odds - 1) / 2 + 10 * (((odds - 1) / 2)**2 - 1))


def test_songs_taken_have_features_that_go_together(monkeypatch):
  """Two features are as in real songs but for .3 between them."""
  monkeypatch.setattr(critic.song_features, 'measure', lambda pair: dict(
      zip(('one', 'other'), pair.tolist(), strict=True)))
  monkeypatch.setattr(critic, '_beginning', lambda pair: pair)
  monkeypatch.setattr(critic, '_refused', lambda *_: 0.)
  monkeypatch.setattr(critic.ngrams, 'extract', lambda x: ['all'])
  rng = np.random.default_rng(0)

  def pairs(n, between):
    one = rng.normal(size=n)
    return list(np.stack([one, one + rng.normal(between, .25, n)], 1))

  real, samples, others = pairs(200, 0), pairs(400, .3), pairs(2000, .3)
  found = critic.fit(samples, real, 4)
  taken = np.array([others[i:i + 4][critic.choose(others[i:i + 4], found, rng)]
                    for i in range(0, 2000, 4)])
  # Means and deviations alone, a fifth of a deviation off, leave .3.
  assert 0 < np.diff(taken.mean(0)) < .15


def test_songs_taken_have_the_figures_of_real_ones(monkeypatch):
  # Alike in all but the order of intervals, which samples mix up.
  monkeypatch.setattr(critic.song_features, 'measure', lambda x: {})
  rng = np.random.default_rng(0)

  def songs(n, mixed):
    figures = [[0, 2, 4, 2], [0, 4, 2, 4]]
    return [song(60 + np.concatenate([
        figures[int(rng.random() < mixed)] for _ in range(16)]))
            for _ in range(n)]

  real, samples, others = songs(60, .2), songs(120, .5), songs(400, .5)
  found = critic.fit(samples, real, 4)
  assert found['ngrams']['P1 moves 4'] > 0 > found['ngrams']['P1 moves 2 2']
  taken = [others[i:i + 4][critic.choose(others[i:i + 4], found, rng)]
           for i in range(0, 400, 4)]

  def share(songs):
    return np.mean([ev.value_of(x[2::8]) == 64 for x in songs])

  assert share(others) == pytest.approx(.5, abs=.03)
  assert share(taken) < .42


def test_songs_that_stay_are_taken_only_if_all_do():
  staying, other = song([60, 64] * 9 + [67], 44100), REAL[0]
  rows = of({'feature': 'note_density', 'mean': 0., 'deviation': 1.,
             'weight': 99., 'square': 0.})
  assert critic.score(staying, rows) < critic.score(other, rows)
  rng = np.random.default_rng(0)
  assert critic.choose([other, staying], rows, rng) == 0
  # Then the scores count again.
  faster = song([60, 64] * 18 + [67], 22050)
  assert critic.choose([faster, staying], rows, rng) == 1
  assert critic.choose([staying, faster], rows, rng) == 0
  # As slow, but its notes are others.
  moving = song([60, 64, 67, 62, 65, 69, 71, 59] * 3, 44100)
  assert critic.choose([other, moving], rows, rng) == 1


def test_what_comes_after_30_seconds_does_not_count():
  first = ev.truncate(SAMPLES[2], 30 * ev.SAMPLE_RATE)
  assert len(first) < len(SAMPLES[2])
  rows = critic.fit(SAMPLES, REAL, 2)
  assert critic.score(first, rows) == critic.score(SAMPLES[2], rows)


def test_what_is_damaged_is_a_matter_of_taste():
  rows = of({'feature': 'nonsense', 'mean': 0., 'deviation': 1., 'weight': 9.,
             'square': 0.},
            {'feature': 'note_density', 'mean': 0., 'deviation': 0.,
             'weight': .5, 'square': .1},
            {'feature': 'ngrams', 'mean': 0., 'deviation': 1., 'weight': 1.,
             'square': 0.}, P9_plays=3.)
  assert critic.score(REAL[0], rows) == pytest.approx(.5 * 4 + .1 * 15)
  assert critic.score(np.zeros(0, np.int32), rows) == pytest.approx(-.1)


def test_too_few_songs():
  with pytest.raises(ValueError, match='3 samples and 5 real songs are too few '
                     'for a critic of 12'):
    critic.fit(SAMPLES, REAL)
