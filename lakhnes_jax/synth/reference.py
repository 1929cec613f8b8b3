"""The reference engine: the player that nesmdb renders with, in jnp.

It equals, sample for sample, the output of VGMPlay's NSFPlay core: levels every
four clocks, mixed in integers, and box-filtered to 44.1 kHz with 11-bit
weights. No step depends on the one before, so windows render in one batch.

Letters: B windows, R rows, K steps, T samples.
"""

from typing import NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

from lakhnes_jax import nes
from lakhnes_jax.synth import channels

WINDOW = 8192  # Samples.
_STEPS = 83200  # Steps that a window and its last sample's average span.
_TAPS = 13  # Steps that one sample's average may touch.
_STILL = 1 << 20  # Period of what stands still in a window.
# High phases of each pulse duty.
_HIGH = np.zeros((4, 16), np.int32)
_HIGH[0, 2:4] = _HIGH[1, 2:6] = _HIGH[2, 2:10] = 1
_HIGH[3] = 1 - _HIGH[1]


def _pulse_mix() -> np.ndarray:
  """[256] int32: int16 output of two pulses at 16 * volume 1 + volume 2."""
  first, second = np.divmod(np.arange(256), 16)
  total = np.maximum(first + second, 1)
  voltage = (8192 * 95.88 / (8128 / total + 100)).astype(np.int64)
  shares = [64 * v * voltage // (64 * total) for v in (first, second)]
  return (4 * sum(shares)).astype(np.int32)


def _tnd_mix() -> np.ndarray:
  """[16 * 16 * 128] int32: output of triangle, noise and sample channel."""
  levels = np.stack(np.meshgrid(np.arange(16), np.arange(16), np.arange(128),
                                indexing='ij')).reshape(3, -1)
  load = (levels / np.array([[8227], [12241], [22638]])).sum(0)
  scale = 8192 * 0.75
  load[0] = 1
  voltage = (scale * 159.79 / (100 + 1 / load)).astype(np.int64)
  linear = (scale * levels * np.array([[3], [2], [1]]) / 208).astype(np.int64)
  shares = linear * voltage // np.maximum(linear.sum(0), 1)
  return (4 * shares.sum(0)).astype(np.int32)


_PULSE_MIX, _TND_MIX = _pulse_mix(), _tnd_mix()


class Rows(NamedTuple):
  """Oscillators in a window, row by row; see `channels.ChannelLog`.

  Attributes:
    start: [..., R] int32, step within the window; those past it are padding.
    position: [..., R, 4] int32 at `start`, in clocks since phase 0 (noise:
      since its period began).
    period: [..., R, 4] int32, clocks.
    level: [..., R, 5] int32.
    duty: [..., R, 2] int32, of the pulses.
    index, offset, cycle: [..., R] int32, of the noise, see `NoiseTable`.
    clocks: [..., R] int32, of a step: 4, and at times 5.
  """
  start: np.ndarray
  position: np.ndarray
  period: np.ndarray
  level: np.ndarray
  duty: np.ndarray
  index: np.ndarray
  offset: np.ndarray
  cycle: np.ndarray
  clocks: np.ndarray


def _rows(clock: channels.Clock, logs: list[channels.ChannelLog],
          windows: np.ndarray, voices: tuple[int, ...]) -> Rows:
  """Joins the channels' rows; rows begin at each window's first step too."""
  last = int(windows[-1]) + _STEPS
  # A clock too many now and then: the rate is not a quarter of the clock's.
  beat = (clock.ratio - (4 << 24))
  extra = (-(-(np.arange(1, (beat * last >> 24) + 1) << 24) // beat) - 1
           if beat else np.zeros(0, np.int64))
  step = np.unique(np.concatenate(
      [windows, extra, extra + 1, *(t.step for t in logs)]))
  now = clock.clocks(step)
  position = np.zeros((len(step), 4), np.int64)
  period = np.full((len(step), 4), _STILL)
  level = np.zeros((len(step), 5), np.int64)
  duty = np.zeros((len(step), 2), np.int64)
  for voice, log in enumerate(logs):
    here = np.searchsorted(log.step, step, 'right') - 1
    t = channels.ChannelLog(*(x[here] for x in log))
    if voice in voices:
      level[:, voice] = t.level
    since = t.count + now - t.at
    if voice < 3:
      cycle = (16, 16, 32)[voice]
      runs = t.period > 0
      phases = (t.phase + np.where(runs, since // np.maximum(t.period, 1), 0))
      position[:, voice] = np.where(
          runs, phases % cycle * t.period + since % np.maximum(t.period, 1),
          t.phase * _STILL)
      period[:, voice] = np.where(runs, t.period, _STILL)
      if voice < 2:
        duty[:, voice] = t.timbre
    elif voice == 3:
      lengths = channels.noise_table().cycle
      cycle = np.array([lengths[o] or _STILL for o in t.timbre.tolist()])
      index = (t.phase + since // t.period) % cycle
      # The count may exceed the period for the step after a change.
      fresh = now == t.at
      position[:, 3] = np.where(fresh, t.count, since % t.period)
      index = np.where(fresh, t.phase % cycle, index)
      period[:, 3], offset = t.period, t.timbre
  clocks = np.diff(clock.clocks(np.stack([step, step + 1])), axis=0)[0]
  return Rows(*(x.astype(np.int32) if x is not step else x for x in (
      step, position, period, level, duty, index, offset, cycle, clocks)))


def _phase(position, period):
  """Whole periods in `position`, below 2**21; exact."""
  return ((position.astype(jnp.float32) + 0.5) /
          period.astype(jnp.float32)).astype(jnp.int32)


def _noise(at, rows: Rows, since, volume):
  """[B, K] level of the noise, averaged inside each step."""
  bits = jnp.asarray(channels.noise_table().bits.astype(np.int32))
  period, cycle = at(rows.period[..., 3]), at(rows.cycle)
  offset, clocks = at(rows.offset), at(rows.clocks)
  total = at(rows.position[..., 3]) + 4 * since
  before = _phase(total, period)
  # A row begins at its position, even if that is a whole period.
  before = jnp.where(since == 0, 0, before)
  count = total - before * period + clocks
  shifts = _phase(count, period)
  count -= shifts * period
  index = at(rows.index) + before
  index -= _phase(index, cycle) * cycle

  def bit(ahead):
    place = index + ahead
    return bits[offset + jnp.where(place >= cycle, place - cycle, place)]

  first, second = bit(0), bit(1)
  gone = jnp.where(shifts > 1, first + second, first)
  left = jnp.where(shifts > 1, bit(2), second)
  mean = _phase(volume * (gone * (clocks - count) + left * count * shifts),
                jnp.maximum(clocks * shifts, 1))
  return jnp.where(shifts > 0, mean, first * volume)


def _levels(rows: Rows):
  """[B, K] int32 output of the chip in each step; see `_windows`."""
  batch, size = rows.start.shape
  every = jnp.arange(batch)[:, None]
  marks = jnp.zeros((batch, _STEPS), jnp.int32)
  marks = marks.at[every, rows.start].add(1, mode='drop')
  # Gathers from flat tables are several times as fast as batched ones.
  row = jnp.cumsum(marks, axis=1) - 1 + size * every
  at = lambda table: table.reshape(-1)[row]  # noqa: E731
  since = jnp.arange(_STEPS) - at(rows.start)
  # Outputs follow the clocks of their own step; noise counts them itself.
  passed = 4 * since + at(rows.clocks)
  level = [at(rows.level[..., v]) for v in range(5)]
  phase = [_phase(at(rows.position[..., v]) + passed, at(rows.period[..., v]))
           for v in range(3)]
  high = jnp.asarray(_HIGH.reshape(-1))
  pulses = [high[16 * at(rows.duty[..., v]) + (phase[v] & 15)] * level[v]
            for v in range(2)]
  up = phase[2] & 31
  triangle = jnp.minimum(up, 31 - up) * (level[2] > 0)
  noise = _noise(at, rows, since, level[3])
  return (jnp.asarray(_PULSE_MIX)[16 * pulses[0] + pulses[1]] +
          jnp.asarray(_TND_MIX)[128 * (16 * triangle + noise) + level[4]])


@jax.jit
def _windows(rows: Rows, begin, width):
  """Renders windows.

  Args:
    rows: [B, R, ...].
    begin: [B, T] int32, position of each sample in the window.
    width: int32, length of each sample's average, in 2048ths of a step.

  Returns:
    [B, T] int16.
  """
  # Unless the steps are made first, XLA makes each many times over.
  levels = jax.lax.optimization_barrier(_levels(rows))
  first = (begin >> 11) + _STEPS * jnp.arange(len(begin))[:, None]
  part, total = begin & 2047, jnp.zeros(begin.shape, jnp.int32)
  for tap in range(_TAPS):
    low, high = (jnp.clip(end - tap * channels.FIXED, 0, channels.FIXED)
                 for end in (part, part + width))
    total += levels.reshape(-1)[first + tap] * (high - low)
  return jnp.minimum(total // width, 32767).astype(jnp.int16)


def render(clock: channels.Clock, logs: list[channels.ChannelLog], length: int,
           voices: tuple[int, ...] = channels.VOICES, batch: int = 4):
  """Renders a song as the player does, window by window.

  Args:
    clock: of the song, see `channels.play`.
    logs: five, see `channels.play`.
    length: samples; the player's output is one short of the log's length.
    voices: those that sound.
    batch: windows to render at once.

  Yields:
    [T] int16, T at most `batch` * `WINDOW`.
  """
  firsts = np.arange(0, length, WINDOW)
  windows = clock.position(firsts) // channels.FIXED
  rows = _rows(clock, logs, windows, voices)
  low = np.searchsorted(rows.start, windows)
  high = np.searchsorted(rows.start, windows + _STEPS)
  width = np.int32(channels.FIXED * clock.rate // nes.SAMPLE_RATE)

  def dispatch(i):
    which = np.minimum(np.arange(i, i + batch), len(firsts) - 1)
    size = channels.padded_size(int((high - low)[which].max()))
    take = np.minimum(low[which, None] + np.arange(size), len(rows.start) - 1)
    inside = take < high[which, None]
    part = Rows(*(x[take] for x in rows))
    start = np.where(inside, part.start - windows[which, None], _STEPS)
    begin = (clock.position(firsts[which, None] + np.arange(WINDOW)) -
             windows[which, None] * channels.FIXED)
    audio = np.asarray(_windows(part._replace(start=start.astype(np.int32)),
                                begin.astype(np.int32), width))
    return audio[:len(firsts) - i].reshape(-1)[:length - i * WINDOW]

  yield from channels.prefetch_map(dispatch, range(0, len(firsts), batch))
