"""Made-up songs to measure with: as dense as NES-MDB's, of no musical sense."""

import os
from collections.abc import Iterator

import numpy as np

from lakhnes_jax import events
from lakhnes_jax.data import shards

EVENTS = 1788  # Of a song of NES-MDB, in the mean.


def songs(n: int, mean_events: int = EVENTS, seed: int = 0
          ) -> Iterator[tuple[str, np.ndarray]]:
  """Draws `n` named songs: a wait, a note, a wait, a note."""
  rng = np.random.default_rng(seed)
  notes = ~np.flatnonzero(events.CODE_KIND <= events.NOTEON)
  for i in range(n):
    length = int(rng.integers(mean_events // 4, mean_events * 3 // 4 + 2))
    song = np.empty(2 * length, np.int32)
    song[::2] = rng.integers(1, 5000, length)
    song[1::2] = rng.choice(notes, length)
    yield f'{i:07}', song


def write(folder: str | os.PathLike, n: int, mean_events: int = EVENTS,
          seed: int = 0) -> shards.Corpus:
  """Writes them as the train split of a folder."""
  return shards.write_split(folder, 'train', songs(n, mean_events, seed))
