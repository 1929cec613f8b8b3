"""The analogue output of the NES: what lies between the chip and the ear.

First-order filters, two high-pass and one low-pass; they also take off the
constant part of the chip's unipolar output.
Source: https://www.nesdev.org/wiki/APU_Mixer.
"""

import math
from collections.abc import Iterable, Iterator

import jax
import numpy as np
from jax import numpy as jnp

HIGH_PASS = (90.0, 440.0)  # Hz.
LOW_PASS = 14000.0


def _recur(x, decay, last):
  """y[t] = decay * y[t-1] + x[t] along [T]; y before is `last`."""

  def join(left, right):
    return left[0] * right[0], left[1] * right[0] + right[1]

  scale, y = jax.lax.associative_scan(join, (jnp.full_like(x, decay), x))
  return y + scale * last


@jax.jit
def _filter(x, state, high, low):
  """Filters one window.

  Args:
    x: [T] float32.
    state: [2 * n + 1]: last input and output of each high-pass, then last
      output of the low-pass.
    high: [n] decay of each high-pass.
    low: decay of the low-pass.
  """
  new = []
  for i in range(len(HIGH_PASS)):
    before = jnp.concatenate([state[2 * i:2 * i + 1], x[:-1]])
    y = _recur(high[i] * (x - before), high[i], state[2 * i + 1])
    new += [x, y]
    x = y
  x = _recur((1 - low) * x, low, state[-1])
  return x, [*new, x]


def apply(windows: Iterable[np.ndarray], rate: int) -> Iterator[np.ndarray]:
  """Filters [t] float32 windows of one song, one after the other.

  Args:
    windows: all of one length, but for the last, which may be shorter.
    rate: Hz.
  """
  high = np.array([1 / (1 + 2 * math.pi * f / rate) for f in HIGH_PASS],
                  np.float32)
  low = np.float32(math.exp(-2 * math.pi * LOW_PASS / rate))
  state, size = np.zeros(2 * len(high) + 1, np.float32), 0
  for window in windows:
    size = max(size, len(window))
    x = np.pad(window, (0, size - len(window)))
    y, ends = _filter(x, state, high, low)
    state = np.array([end[len(window) - 1] for end in ends], np.float32)
    yield np.asarray(y)[:len(window)]
