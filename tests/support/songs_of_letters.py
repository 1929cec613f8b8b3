"""Songs whose bars are letters."""

import numpy as np

from lakhnes_jax import events as ev
from support import songs_by_frame


def song(bars: str, rows: int = 4, frames: int = 24, late: int = 0
        ) -> np.ndarray:
  """A song of bars: each letter a figure of its own, over a bass of its own.

  Its drums are so many frames late.
  """
  rng = {name: np.random.default_rng(ord(name)) for name in set(bars)}
  figures = {name: (rng[name].permutation(np.arange(60, 84))[:rows],
                    ord(name) - 25) for name in rng}
  events = []
  for bar, name in enumerate(bars):
    tune, bass = figures[name]
    start = bar * rows * frames
    events += [(start + i * frames, ev.P1, ev.NOTEON, pitch)
               for i, pitch in enumerate(tune.tolist())]
    events += [(start, ev.TR, ev.NOTEON, bass),
               (start + late, ev.NO, ev.NOTEON, 3),
               (start + late + 3, ev.NO, ev.NOTEOFF, 0)]
  return songs_by_frame.from_frames(sorted(events), len(bars) * rows * frames)
