"""Songs that repeat and songs that do not; paths by brute force."""

import itertools

import numpy as np
import pytest

from lakhnes_jax import events as ev
from lakhnes_jax.analysis import structureness


def tune(pitches, seconds=.5) -> np.ndarray:
  waits = np.full(len(pitches), int(seconds * ev.SAMPLE_RATE))
  return np.stack([ev.EVENT[ev.P1, ev.NOTEON, np.array(pitches)], waits],
                  1).reshape(-1).astype(np.int32)


def test_repetition_in_another_key_counts_and_chance_does_not():
  rng = np.random.default_rng(0)
  theme = rng.integers(48, 72, 20)  # 10 s.
  theirs = structureness.structureness(tune([*theme, *theme + 5, *theme]))
  chance = structureness.structureness(tune(rng.integers(48, 72, 60)))
  assert theirs['structureness_mid'] > .55
  assert chance['structureness_mid'] < .3
  assert np.isnan(theirs['structureness_long']) is np.False_
  short = structureness.structureness(tune(theme[:10]))
  assert np.isnan(short['structureness_short'])


def test_recurrence_is_of_what_was_long_ago():
  rng = np.random.default_rng(0)
  theme = rng.integers(48, 60, 24)  # 12 s.
  again = structureness.recurrence(tune([*theme, *theme]))
  # Of windows begun at 11.0 to 22.0 s those from 12.0 s on come again.
  assert 101 / 111 < again < 1
  # In another octave, but not in another key.
  assert structureness.recurrence(tune([*theme, *theme + 12])) == pytest.approx(
      again)
  assert structureness.recurrence(tune([*theme, *theme + 6])) < .8
  same = tune(theme[:1].repeat(48))
  assert structureness.recurrence(same) == pytest.approx(1)
  # What came less than 10 s before does not count.
  soon = theme[:19]
  assert structureness.recurrence(tune([*soon, *soon])) < .8
  assert np.isnan(structureness.recurrence(tune(theme)))


def test_chroma_is_time_sounding():
  song = ev.from_text('P1_NOTEON_60\nWT_11025\nP1_NOTEON_67\nTR_NOTEON_48\n'
                      'WT_11025\nP1_NOTEOFF\nTR_NOTEOFF\nNO_NOTEON_5\nWT_22050')
  chroma = structureness.chromagram(song)
  assert chroma.shape == (2, 12)
  expected = np.zeros(12)
  expected[[0, 7]] = 2, 1  # C a quarter of a second in each of two voices.
  assert chroma[0] == pytest.approx(expected / np.sqrt(5))
  assert not chroma[1].any()


def best_family(similarity, start, length):
  """Fitness by trying every family of paths."""
  n = len(similarity)

  def paths(row, column):
    """All paths from a cell to the last column, as lists of cells."""
    if column == length - 1:
      yield [(row, column)]
    for down, right in (1, 1), (1, 2), (2, 1):
      if row + down < n and column + right < length:
        for rest in paths(row + down, column + right):
          yield [(row, column), *rest]

  every = [path for row in range(n) for path in paths(row, 0)]
  best = (-np.inf,)
  for k in range(n // min(length, 2) + 1):  # Each takes 2 rows, or 1.
    for family in itertools.combinations(every, k):
      spans = sorted((path[0][0], path[-1][0]) for path in family)
      if any(a[1] >= b[0] for a, b in itertools.pairwise(spans)):
        continue
      cells = [cell for path in family for cell in path]
      value = sum(similarity[row, start + column] for row, column in cells)
      best = max(best, (value, len(cells), sum(b - a + 1 for a, b in spans)))
  value, cells, covered = best
  score = max(0, (value - length) / max(cells, 1))
  coverage = max(0, (covered - length) / n)
  return 2 * score * coverage / (score + coverage) if score + coverage else 0


@pytest.mark.parametrize('length', [1, 2, 3])
def test_fitness_is_that_of_the_best_family(length):
  rng = np.random.default_rng(length)
  n = 7
  similarity = np.where(rng.random((n, n)) < .5, rng.random((n, n)), -2)
  similarity = np.maximum(similarity, similarity.T)
  np.fill_diagonal(similarity, 1)
  starts = np.arange(n - length + 1)
  found = structureness.fitness(similarity, starts, length)
  assert found == pytest.approx([
      best_family(similarity, start, length) for start in starts])
  assert found.max() > 0
