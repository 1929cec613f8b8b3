"""The analogue output stage of the NES: two high-pass filters, one low-pass.

All three are of first order; the high-pass filters also remove the offset of
the chip's unipolar output.
Source: https://www.nesdev.org/wiki/APU_Mixer.
"""

import math
from collections.abc import Iterable, Iterator

import numpy as np
from scipy import signal

HIGH_PASS = (90.0, 440.0)  # Hz.
LOW_PASS = 14000.0  # Hz.


def _sections(rate: int) -> np.ndarray:
  """[3, 6] float64: the filters as second-order sections of scipy.signal.

  y[t] = a (y[t-1] + x[t] - x[t-1]) with a = 1 / (1 + 2 pi f / rate), and
  y[t] = b y[t-1] + (1 - b) x[t] with b = exp(-2 pi f / rate).
  """
  sections = []
  for hertz in HIGH_PASS:
    decay = 1 / (1 + 2 * math.pi * hertz / rate)
    sections.append([decay, -decay, 0, 1, -decay, 0])
  decay = math.exp(-2 * math.pi * LOW_PASS / rate)
  return np.array([*sections, [1 - decay, 0, 0, 1, -decay, 0]])


def apply(windows: Iterable[np.ndarray], rate: int) -> Iterator[np.ndarray]:
  """Filters the windows of one song, one after the other.

  Args:
    windows: [t] float32 each, of any length.
    rate: Hz.

  Yields:
    [t] float32.
  """
  sections = _sections(rate)
  state = np.zeros((len(sections), 2))
  for window in windows:
    filtered, state = signal.sosfilt(sections, window, zi=state)
    yield filtered.astype(np.float32)
