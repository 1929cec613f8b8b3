"""Songs and token sequences made up for tests."""

import numpy as np


class Songs:
  """A corpus in memory; `lakhnes_jax.data.shards.Corpus` is one on disk."""

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


def repeated_phrases(vocabulary, phrases, length: int, rng, share: float,
          new: str) -> np.ndarray:
  """Repeats phrases, a lane each, and changes tokens here and there.

  Args:
    vocabulary: of the tokens.
    phrases: names of tokens, with spaces between them.
    length: L, tokens a lane.
    rng: what draws the changes.
    share: of the tokens that change.
    new: names of what they become.

  Returns:
    [phrases, L] ids
  """
  def ids(names):
    return [vocabulary.tokens.index(name) for name in names.split()]

  return np.stack([np.where(
      rng.random(length) < share, rng.choice(ids(new), length),
      np.resize(ids(phrase), length)) for phrase in phrases])
