"""The sound chip of the NES (2A03) in jnp: score arrays in, samples out.

Each voice is a periodic step function whose level is known in closed form at
every instant, so a sample is computed from its own index alone: no state runs
along the audio, any part of a song can be rendered on its own, and everything
is vectorised. An output sample is the exact average of the step function over
the sample.

Phases are unsigned integers, 2**32 to the voice's whole period, so they wrap
as the chip's counters do; `step` has 16 further bits, so that a tone stays on
its frequency through hours.

Letters: B songs, E segments, T samples. Sources: nesmdb (pitches, player's
mixing levels); https://www.nesdev.org/wiki/APU (waveforms, mixing law).
"""

from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

CLOCK = 1789773  # Hz, NTSC, as nesmdb has it.
SAMPLE_RATE = 44100
NOISE_PERIODS = (4, 8, 16, 32, 64, 96, 128, 160, 202, 254, 380, 508, 762, 1016,
                 2034, 4068)  # Clocks, NTSC.
# First sixteenth and number of sixteenths of the high part of each duty.
_PULSE_HIGH = np.array([[2, 2], [2, 4], [2, 8], [6, 12]])
_LONG, _SHORT = 32767, 93  # Steps in the noise register's cycle by mode.


class Segments(NamedTuple):
  """What the oscillators do in each segment.

  Attributes:
    start: [..., E] int32, first sample.
    phase: [..., E, 4] uint32 at `start`, 2**32 a period.
    step: [..., E, 4] uint32 per sample.
    fine: [..., E, 4] uint32, the step's next 16 bits.
    volume: [..., E, 4] float32, 0 to 15; of the triangle not used.
    timbre: [..., E, 4] int32, pulse duty or noise mode.
  """
  start: jax.Array
  phase: jax.Array
  step: jax.Array
  fine: jax.Array
  volume: jax.Array
  timbre: jax.Array


def timer(note, steps: int = 16):
  """Timer value that nesmdb gives a MIDI note: round(clock / (16 f) - 1)."""
  frequency = 440 * 2.0**((np.asarray(note) - 69) / 12)
  return np.round(CLOCK / (steps * frequency) - 1).astype(np.int64)


def _step_table() -> np.ndarray:
  """[3, 128, 2, 2] uint32: step and fine by pulse/triangle/noise, note, mode.
  """
  table = np.zeros((3, 128, 2, 2), np.uint32)

  def put(row, note, mode, period, cycle):
    step = (CLOCK << 48) // (period * cycle * SAMPLE_RATE)
    table[row, note, mode] = step >> 16, step & 0xffff

  for mode in range(2):
    for note in range(33, 109):
      put(0, note, mode, int(timer(note)) + 1, 16)
    for note in range(21, 109):
      put(1, note, mode, int(timer(note, 32)) + 1, 32)
    for note in range(1, 17):
      put(2, note, mode, NOISE_PERIODS[16 - note], (_LONG, _SHORT)[mode])
  return table


def _noise_table() -> np.ndarray:
  """[2, 32768] int32: how often the register's output was high before step i.

  The output is bit 14, fed back from bits 0 and 1 or, in mode 1, 0 and 6.
  """
  table = np.zeros((2, _LONG + 1), np.int32)
  for mode, (tap, cycle) in enumerate(((1, _LONG), (6, _SHORT))):
    register = 1
    for i in range(cycle):
      table[mode, i + 1] = table[mode, i] + (register >> 14 & 1)
      feedback = (register ^ register >> tap) & 1
      register = register >> 1 | feedback << 14
  return table


_STEPS = _step_table()
_NOISE = _noise_table()


def _advance(step, fine, n):
  """Phase after n samples (n < 2**28), short by at most 2**-20 of a period."""
  n = n.astype(jnp.uint32)
  return n * step + ((n >> 12) * fine >> 4)


def segments(start, state) -> Segments:
  """Works out the oscillators of a score.

  A pulse starts anew at phase 0 when its voice comes out of silence; the
  triangle freezes in silence and the noise register runs on, as on the chip.

  Args:
    start: [..., E] int32, samples, ascending; padded beyond the song's end.
    state: [..., E, 4, 3] uint8: note, velocity, timbre (see `score`).
  """
  note, velocity, timbre = (state[..., i].astype(jnp.int32) for i in range(3))
  row = np.array([0, 0, 1, 2])
  mode = jnp.where(row == 2, timbre & 1, 0)
  steps = jnp.asarray(_STEPS)[row, note, mode]
  step, fine = steps[..., 0], steps[..., 1]
  # Noise keeps its last period in silence; any will do.
  length = jnp.diff(start, axis=-1, append=start[..., -1:])
  moved = jnp.cumsum(_advance(step, fine, length[..., None]), axis=-2,
                     dtype=jnp.uint32)
  phase = jnp.concatenate(
      [jnp.zeros_like(moved[..., :1, :]), moved[..., :-1, :]], axis=-2)
  index = jnp.arange(note.shape[-2])[:, None]
  before = jnp.concatenate(
      [jnp.zeros_like(note[..., :1, :]), note[..., :-1, :]], axis=-2)
  reset = (note > 0) & (before == 0) & (row == 0)
  origin = jax.lax.cummax(jnp.where(reset, index, 0), axis=note.ndim - 2)
  phase -= jnp.take_along_axis(phase, origin, axis=-2)
  return Segments(start, phase, step, fine, velocity.astype(jnp.float32),
                  timbre)


def _pulse(phase, step, duty):
  """[...] share of the sample that the pulse is high."""
  first, width = (jnp.asarray(_PULSE_HIGH[:, i].astype(np.uint32) << 28)[duty]
                  for i in range(2))
  begin = phase - first
  end = begin + step
  high = (jnp.minimum(end, width) - jnp.minimum(begin, width) +
          jnp.where(end < begin, width, 0).astype(jnp.uint32))
  still = (begin < width).astype(jnp.float32)
  return jnp.where(step > 0, high / jnp.maximum(step, 1).astype(jnp.float32),
                   still)


def _triangle(phase, step):
  """[...] mean level over the sample, 0 to 15: 0 up to 15, down to 0."""

  def area(at):  # Of the levels from 0, in units of 2**-24 steps.
    index = (at >> 27).astype(jnp.int32)
    down = 32 - index
    before = jnp.where(index < 17, index * (index - 1) // 2,
                       240 - down * (down - 1) // 2)
    level = jnp.minimum(index, 31 - index)
    return ((before.astype(jnp.uint32) << 24) +
            level.astype(jnp.uint32) * ((at & (2**27 - 1)) >> 3)), level

  end = phase + step
  (area_begin, level), (area_end, _) = area(phase), area(end)
  whole = jnp.where(end < phase, jnp.uint32(240 << 24), jnp.uint32(0))
  total = (area_end - area_begin + whole).astype(jnp.float32)
  return jnp.where(step > 0, total * 8 / jnp.maximum(step, 1), level)


def _noise(phase, step, mode):
  """[...] share of the sample that the noise register's output is high."""
  cycle = jnp.where(mode > 0, jnp.uint32(_SHORT), jnp.uint32(_LONG))
  table = jnp.asarray(_NOISE)

  def area(at):  # Of the output from step 0, in units of 2**-16 steps.
    steps = (at >> 16) * cycle + ((at & 0xffff) * cycle >> 16)
    index = (steps >> 16).astype(jnp.int32)
    before, after = table[mode, index], table[mode, index + 1]
    part = (after - before) * (steps & 0xffff).astype(jnp.int32)
    return before, part, after - before

  end = phase + step
  ones, part, bit = area(phase)
  ones_end, part_end, _ = area(end)
  ones = ones_end - ones + jnp.where(end < phase, table[mode, cycle], 0)
  total = ones.astype(jnp.float32) * 65536 + (part_end - part)
  width = step.astype(jnp.float32) * cycle.astype(jnp.float32) * 2.0**-16
  return jnp.where(step > 0, total / jnp.maximum(width, 1), bit)


def pulse_law(volume):
  """Output of the pulse group, 1.0 at full scale; volume 0 to 30."""
  return 0.25 * 95.88 * 4 * volume / (8128 + 100 * volume)


def tnd_law(triangle, noise, dmc=0.0):
  """Output of triangle, noise (0 to 15) and sample channel (0 to 127)."""
  load = triangle / 8227 + noise / 12241 + dmc / 22638
  return 0.75 * 159.79 * load / (100 * load + 1)


def samples(seg: Segments, first, count: int, voices=(0, 1, 2, 3)):
  """Renders samples `first` to `first + count` of one song.

  Args:
    seg: segments of one song, without batch axes.
    first: int32, first sample.
    count: T, samples to render (static).
    voices: those heard (static).

  Returns:
    [T] float32, full scale 1.0, all voices together at most 1; unipolar, as
    on the chip: silence is 0 but for a triangle that holds its level.
  """
  now = first + jnp.arange(count)
  here = jnp.searchsorted(seg.start, now, side='right') - 1
  step, fine, timbre = seg.step[here], seg.fine[here], seg.timbre[here]
  volume = jnp.where(jnp.isin(np.arange(4), np.array(voices)),
                     seg.volume[here], 0)
  since = (now - seg.start[here])[:, None]
  phase = seg.phase[here] + _advance(step, fine, since)
  p1, p2 = (_pulse(phase[:, v], step[:, v], timbre[:, v]) for v in range(2))
  triangle = _triangle(phase[:, 2], step[:, 2]) if 2 in voices else 0.0
  noise = _noise(phase[:, 3], step[:, 3], timbre[:, 3])
  # Each pulse is on or off, so their joint law is bilinear in the shares.
  law1, law2 = pulse_law(volume[:, 0]), pulse_law(volume[:, 1])
  both = pulse_law(volume[:, 0] + volume[:, 1]) - law1 - law2
  pulses = p1 * law1 + p2 * law2 + p1 * p2 * both
  quiet = tnd_law(triangle, 0.0)
  return pulses + quiet + noise * (tnd_law(triangle, volume[:, 3]) - quiet)


@partial(jax.jit, static_argnames=('count', 'voices'))
def render(start, state, first=0, *, count: int, voices=(0, 1, 2, 3)):
  """Renders a batch of scores.

  Args:
    start: [B, E] int32, first sample of each segment, padded (`score.pad`).
    state: [B, E, 4, 3] uint8: note, velocity, timbre.
    first: int, where to begin.
    count: T, samples to render (static).
    voices: those heard (static).

  Returns:
    [B, T] float32.
  """
  one = partial(samples, first=first, count=count, voices=voices)
  return jax.vmap(one)(segments(start, state))


segments_jit = jax.jit(segments)


@partial(jax.jit, static_argnames=('count', 'voices'))
def render_windows(seg: Segments, first, *, count: int, voices=(0, 1, 2, 3)):
  """Renders windows of songs: B segment tables, [B] firsts -> [B, T]."""
  one = partial(samples, count=count, voices=voices)
  return jax.vmap(one)(seg, first)
