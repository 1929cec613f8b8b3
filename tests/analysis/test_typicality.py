"""How far a song is from typical, against z-scores by hand."""

import json

import numpy as np
import pytest

from lakhnes_jax import events as ev
from lakhnes_jax.analysis import song_features, typicality


def song(pitches, wait=11025) -> np.ndarray:
  return np.array([x for pitch in pitches for x in (
      ev.event(ev.P1, ev.NOTEON, pitch), wait)], np.int32)


RNG = np.random.default_rng(0)
SONGS = [song(RNG.choice([60, 62, 64, 65, 67], 160), wait)
         for wait in (8000, 9000, 10000, 11000, 12000)]


def test_the_mean_distance_of_the_features():
  ranges = typicality.typical(SONGS)
  assert json.loads(json.dumps(ranges)) == ranges
  names = {row['feature'] for row in ranges}
  # Features that all songs share, or that none has, say nothing.
  assert 'note_density' in names and 'silence_P2' not in names
  measured = [song_features.measure(ev.truncate(x, 30 * ev.SAMPLE_RATE))
              for x in SONGS]
  other = song(range(60, 100), 20000)
  found = song_features.measure(other)
  wanted = []
  for name in names:
    column = np.array([row[name] for row in measured])
    column = column[~np.isnan(column)]
    z = abs(found[name] - column.mean()) / column.std()
    wanted.append(3 if np.isnan(z) else min(z, 4))
  assert typicality.atypicality(other, ranges) == pytest.approx(
      np.mean(wanted))


def test_songs_like_those_are_more_typical():
  ranges = typicality.typical(SONGS)
  near = typicality.atypicality(SONGS[2], ranges)
  assert near < typicality.atypicality(song([60] * 160), ranges)
  assert near < typicality.atypicality(
      song(RNG.integers(40, 90, 160), 3000), ranges)
  assert typicality.atypicality(np.zeros(0, np.int32), ranges) == 3


def test_what_is_damaged_is_merely_untypical():
  ranges = [{'feature': 'nonsense', 'mean': 0., 'deviation': 1.},
            {'feature': 'note_density', 'mean': 0., 'deviation': 0.}]
  assert typicality.atypicality(SONGS[0], ranges) == (3 + 4) / 2


def test_too_few_songs():
  with pytest.raises(ValueError, match='1 songs are too few'):
    typicality.typical(SONGS[:1])
