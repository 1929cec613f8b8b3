"""Songs as what each voice plays in each frame of the console.

A game's music program runs once a frame, 60.0988 times per second, and writes
what has changed. So a song is, but for some microseconds, an array of states
by frame, and a tracker's rows are a whole number of them.
"""

import numpy as np

from lakhnes_jax import meter as meter_lib
from lakhnes_jax import nes
from lakhnes_jax.synth import score as score_lib

FRAME = nes.TRACKER_FRAME  # Samples.
_NTSC = .015  # Frames that differ by no more than this share are NTSC's.


def starts_of(meter: meter_lib.Meter) -> np.ndarray:
  """Returns when frames of an NTSC console begin, and the last ends.

  Those of the song's own clock, where that is one. Songs of other rates (PAL,
  drivers called by a timer) are put on a steady clock of NTSC.

  Returns:
    [T + 1] float64, samples.
  """
  starts = meter.frame_starts
  if abs(meter.frame / FRAME - 1) <= _NTSC:
    return starts
  n = max(1, int(np.ceil((starts[-1] - starts[0]) / FRAME - .5)))
  return starts[0] + FRAME * np.arange(n + 1)


def rows_of(meter: meter_lib.Meter, starts: np.ndarray) -> np.ndarray:
  """Returns [R + 1] the frames of `starts_of` at which rows begin."""
  if starts is meter.frame_starts:
    return meter.row_frames
  samples = np.interp(meter.row_frames, np.arange(len(meter.frame_starts)),
                      meter.frame_starts)
  rows = np.rint((samples - starts[0]) / FRAME).astype(np.int32)
  return np.unique(np.clip(rows, 0, len(starts) - 1))


def from_events(events: np.ndarray, starts: np.ndarray) -> np.ndarray:
  """Returns what is played at the end of each frame.

  Args:
    events: int32 song.
    starts: [T + 1] samples, when frames begin and the last ends.

  Returns:
    [T, 4, 3] uint8, as `Score.state`.
  """
  score = score_lib.from_events(np.asarray(events))
  if not len(score.start):
    return np.zeros((len(starts) - 1, 4, 3), np.uint8)
  last = np.searchsorted(score.start, starts[1:], 'left') - 1
  state = score.state[np.maximum(last, 0)]
  # A frame of which the song has less than half is none.
  state[(last < 0) | ((starts[:-1] + starts[1:]) / 2 >= score.length)] = 0
  return state


def at(events: np.ndarray, samples: np.ndarray) -> np.ndarray:
  """Returns [n, 4, 3] uint8, what is played at each of n ascending times."""
  score = score_lib.from_events(np.asarray(events))
  state = np.zeros((len(samples), 4, 3), np.uint8)
  if len(score.start):
    row = np.searchsorted(score.start, samples, 'right') - 1
    inside = (row >= 0) & (np.asarray(samples) < score.length)
    state[inside] = score.state[row[inside]]
  return state
