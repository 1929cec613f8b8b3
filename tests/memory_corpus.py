"""A corpus in memory, as `lakhnes_jax.data.shards.Corpus` is one on disk."""

import numpy as np


class Songs:
  """A corpus in memory."""

  def __init__(self, songs: list[np.ndarray], dynamics: bool = False):
    self._songs = songs
    self.lengths = np.array([len(song) for song in songs], np.int64)
    self.dynamics = dynamics
    self.asked = 0

  def __len__(self) -> int:
    return len(self._songs)

  def song(self, i: int, rng=None) -> np.ndarray:
    self.asked += 1
    return self._songs[i]
