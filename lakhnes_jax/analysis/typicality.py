"""How like real songs a song is, by its features.

A model that draws several songs for each one that is wanted may keep the most
typical, as systems of the MIREX symbolic music generation task do (2025). What
real songs are like is measured once, and kept beside the weights.
"""

from collections.abc import Iterable, Sequence
from typing import TypedDict

import numpy as np

from lakhnes_jax import events as ev
from lakhnes_jax.analysis import song_features

SECONDS = 30.  # Of each song.
_FARTHEST = 4.  # Deviations; what is farther off, counts as this,
_UNKNOWN = 3.  # and what could not be measured as this.


class Range(TypedDict):
  """What a feature of real songs is like: JSON, as weights folders hold it."""
  feature: str  # As `song_features.measure` names it.
  mean: float
  deviation: float


def typical(songs: Iterable[np.ndarray]) -> list[Range]:
  """Measures what songs are like.

  Args:
    songs: int32 events of each, of which the first 30 seconds count.

  Raises:
    ValueError: there are fewer than two songs.
  """
  found = [song_features.measure(ev.truncate(
      song, round(SECONDS * ev.SAMPLE_RATE))) for song in songs]
  if len(found) < 2:
    raise ValueError(f'{len(found)} songs are too few to say what is typical')
  columns = {name: np.array([song[name] for song in found])
             for name in found[0]}
  return [Range(feature=name, mean=float(np.nanmean(column)),
                deviation=float(np.nanstd(column)))
          for name, column in columns.items()
          if np.isfinite(column).sum() > 1 and np.nanstd(column) > 0]


def atypicality(song: np.ndarray, of: Sequence[Range]) -> float:
  """Says how far a song is from typical: 0 to 4; real songs are at about .8.

  The mean over the features of |x - mean| / deviation, each at most 4.

  Args:
    song: int32 events.
    of: what is typical.
  """
  found = song_features.measure(song)
  value, mean, deviation = np.array(
      [(found.get(row['feature'], np.nan), row['mean'], row['deviation'])
       for row in of]).T
  off = np.nan_to_num(np.abs(value - mean) / np.maximum(deviation, 1e-9),
                      nan=_UNKNOWN)
  return float(np.minimum(off, _FARTHEST).mean())
