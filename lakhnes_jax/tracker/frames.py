"""Songs as what each voice plays in each frame of the console.

A game's music program runs once a frame, 60.0988 times a second, and writes
what has changed. So a song is, but for some microseconds, an array of states
by frame, and a tracker's rows are a whole number of them.
"""

from typing import NamedTuple

import numpy as np

from lakhnes_jax import events as ev
from lakhnes_jax.synth import score as score_lib

FRAME = 733.7898  # Samples; an NTSC NES draws 60.0988 frames a second.
NOTE, LEVEL, TONE = score_lib.NOTE, score_lib.LEVEL, score_lib.TONE
_BINS = 64  # Of the time within a frame, to find when the program runs.


class Clock(NamedTuple):
  """When frames begin: frame f spans `phase + frame * f` onwards.

  Attributes:
    frame: samples.
    phase: samples; frame 0 contains the first event of a song.
  """
  frame: float
  phase: float

  def frames_of(self, samples: np.ndarray) -> np.ndarray:
    """Returns the number of the frame of each time in samples, int64."""
    return np.floor((np.asarray(samples) - self.phase) / self.frame
                   ).astype(np.int64)


def find_clock(times: np.ndarray) -> Clock:
  """Finds when the frames of a song begin.

  A frame begins in the longest pause that the music program makes between
  writes: where, modulo a frame, nothing is ever written.

  Args:
    times: [n] int, samples, ascending, of the chip events.
  """
  times = np.asarray(times, np.float64)
  if not len(times):
    return Clock(FRAME, 0.)
  angle = np.modf(times / FRAME)[0]
  count = np.bincount((angle * _BINS).astype(int) % _BINS, minlength=_BINS)
  # The emptiest stretch of a quarter of a frame, and of those the one after
  # which most is written at once.
  width = _BINS // 4
  ring = np.concatenate([count, count])
  total = np.cumsum(np.append(0, ring))
  quiet = total[width:width + _BINS] - total[:_BINS]
  begin = int(np.argmin(quiet))
  # The frame begins late in that stretch: writes come after it, not before.
  empty = ring[begin:begin + _BINS]
  run = int(np.argmax(np.append(empty > quiet[begin] / width, True)))
  start = (begin + max(run, width) - width // 4) / _BINS * FRAME
  first = np.floor((times[0] - start) / FRAME)
  return Clock(FRAME, float(start + first * FRAME))


def from_events(events: np.ndarray, clock: Clock | None = None
               ) -> tuple[np.ndarray, np.ndarray]:
  """Returns what is played in each frame.

  Args:
    events: int32 song.
    clock: of its frames; found in it by default.

  Returns:
    state [T, 4, 3] uint8 at the end of each frame, as in `score.Score`, and
    onset [T, 4] bool, whether a NOTEON came within it.
  """
  events = np.asarray(events)
  chip, times = events[events < 0], ev.times_of(events)[events < 0]
  clock = clock or find_clock(times)
  end = int(ev.times_of(events)[-1]) if len(events) else 0
  score = score_lib.from_events(events)
  size = max(1, int(np.ceil((end - clock.phase) / clock.frame - .5)))
  if not len(score.start):
    return np.zeros((size, 4, 3), np.uint8), np.zeros((size, 4), bool)
  edge = clock.phase + clock.frame * np.arange(1, size + 1)
  last = np.searchsorted(score.start, edge, 'left') - 1
  onset = np.zeros((size, 4), bool)
  row, voice = np.nonzero(score.onset)
  frame = np.minimum(clock.frames_of(score.start[row]), size - 1)
  np.logical_or.at(onset, (np.maximum(frame, 0), voice), True)
  return score.state[np.maximum(last, 0)], onset
