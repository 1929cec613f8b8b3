"""Codebooks of instruments, learned from songs."""

import collections

import numpy as np

from data_prep import instruments


def test_songs_without_ornaments_have_one_movement():
  """None at all, and a melody, which is for notes."""
  melody = np.repeat(np.array([0, 5, 9], np.int8), 8)
  for counts in ({}, {melody.tobytes(): 9}):
    (values, loop), = instruments.movements(collections.Counter(counts), 5)
    assert values.tolist() == [0] and loop == 0
  trill = np.tile(np.array([0, 1], np.int8), 12)
  assert len(instruments.movements(collections.Counter(
      {melody.tobytes(): 9, trill.tobytes(): 9}), 5)) == 2
