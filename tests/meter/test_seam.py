"""Seams of songs that come again, with and without rows, and of others."""

import numpy as np
import pytest

from lakhnes_jax import events as ev
from lakhnes_jax import meter
from lakhnes_jax.meter import seam

FRAME = 735


def song(waits, pitches) -> np.ndarray:
  """Notes of P1, each so many frames long."""
  return np.array([x for wait, pitch in zip(waits, pitches, strict=True)
                   for x in (ev.event(ev.P1, ev.NOTEON, int(pitch)),
                             int(wait) * FRAME)], np.int32)


@pytest.mark.parametrize('even', [True, False])
def test_a_song_goes_on_where_it_was_alike(even):
  """A beginning, a theme, the theme again, and a little of something else."""
  rng = np.random.default_rng(1)
  n = 40
  waits = np.full(n, 12) if even else rng.integers(7, 31, n)
  theme = (waits, rng.integers(48, 90, n))
  start = (waits[:8], rng.integers(48, 90, 8))
  parts = [start, theme, theme, (waits[:3], rng.integers(48, 90, 3))]
  notes = song(*(np.concatenate(x) for x in zip(*parts, strict=True)))
  found = seam.find(notes, meter.analyze(notes))
  assert found.end - found.start == pytest.approx(waits.sum(), abs=1)
  assert waits[:8].sum() - 1 <= found.start
  assert found.end <= waits[:8].sum() + 2 * waits.sum() + 1
  assert found.same > .7


def test_a_long_loop_comes_before_a_short_one():
  """A figure of two seconds that is heard thrice in each of two rounds."""
  rng = np.random.default_rng(3)
  figure, other = (np.full(8, 15), rng.integers(48, 90, 8)), (
      np.full(24, 15), rng.integers(48, 90, 24))
  parts = [figure, figure, figure, other, figure, figure, figure, other]
  once = song(*(np.concatenate(x) for x in zip(*parts[:4], strict=True)))
  twice = song(*(np.concatenate(x) for x in zip(*parts, strict=True)))
  found = seam.find(twice, meter.analyze(twice))
  assert found.end - found.start == pytest.approx(3 * 120 + 360, abs=1)
  found = seam.find(once, meter.analyze(once))  # There is no other.
  assert found.end - found.start == pytest.approx(120, abs=1) or (
      found.end - found.start == pytest.approx(240, abs=1))


def test_nothing_comes_again():
  rng = np.random.default_rng(2)
  notes = song(rng.integers(7, 31, 30), 40 + rng.permutation(60)[:30])
  assert seam.find(notes, meter.analyze(notes)) is None
  one = song([600], [60])
  assert seam.find(one, meter.analyze(one)) is None
