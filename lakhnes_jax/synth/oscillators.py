"""Phase and increment of each oscillator over time, for the clean engine.

Phases are unsigned integers, 2**32 to the voice's whole period, so they wrap
as the chip's counters do; the increment per sample, `step`, has 16 further
bits, so that a tone keeps its frequency for hours.

Letters: B songs, E segments. Sources: nesmdb (pitches); the rest
https://www.nesdev.org/wiki/APU.
"""

import functools
from typing import NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

from lakhnes_jax import nes
from lakhnes_jax.nes import SAMPLE_RATE
from lakhnes_jax.synth import channels, registers
from lakhnes_jax.synth import score as scores
from lakhnes_jax.synth.chip import NOISE_PERIODS
from lakhnes_jax.synth.score import Score

_ROW = np.array([0, 0, 1, 2])  # Of each voice in `_steps` and `_timers`.
# Where in a phase the step of the waveform is, voice by voice; noise has none.
_SHIFT = np.array([28, 28, 27, 0], np.uint32)
_MASK = (np.uint32(1) << _SHIFT) - np.uint32(1)


class Segments(NamedTuple):
  """Settings of the oscillators in each segment.

  Attributes:
    start: [..., E] int32, first sample.
    phase: [..., E, 4] uint32 at `start`, 2**32 a period.
    step: [..., E, 4] uint32 per sample.
    fine: [..., E, 4] uint32, the step's next 16 bits.
    volume: [..., E, 5] float32, 0 to 15; of the triangle not used; last the
      sample channel's level, 0 to 127.
    timbre: [..., E, 2] int32, duty of the pulses.
    noise_offset: [..., E] int32, where the noise register's cycle lies in
      `channels.noise_table`.
    noise_cycle: [..., E] int32, length of this cycle; 2**32 of noise's phase.
  """
  start: jax.Array
  phase: jax.Array
  step: jax.Array
  fine: jax.Array
  volume: jax.Array
  timbre: jax.Array
  noise_offset: jax.Array
  noise_cycle: jax.Array


@functools.cache
def _steps(rate: int) -> np.ndarray:
  """[3, 128, 2, 2] uint32: step and fine by pulse/triangle/noise, note, mode.
  """
  table = np.zeros((3, 128, 2, 2), np.uint32)

  def put(row, note, mode, period, cycle):
    step = (nes.CLOCK << 48) // (period * cycle * rate)
    if step < 1 << 48:  # Others are far above the audible range.
      table[row, note, mode] = step >> 16, step & 0xffff

  for mode in range(2):
    for note in range(33, 109):
      put(0, note, mode, int(registers.timer(note)) + 1, channels.PULSE_CYCLE)
    for note in range(21, 109):
      put(1, note, mode, int(registers.timer(note, 32)) + 1,
          channels.TRIANGLE_CYCLE)
    for note in range(1, 17):
      put(2, note, mode, NOISE_PERIODS[0][16 - note], int(_cycles()[1][mode]))
  return table


@functools.cache
def _timers() -> np.ndarray:
  """[3, 128] int32: timer by pulse/triangle/noise and note; 0 in silence."""
  timers = [np.append(0, registers.timer(np.arange(1, 128), steps))
            for steps in (channels.PULSE_CYCLE, channels.TRIANGLE_CYCLE)]
  return np.stack([*timers, np.zeros(128)]).astype(np.int32)


@functools.cache
def _cycles() -> tuple[np.ndarray, np.ndarray]:
  """[2] int32 each: offset and length of a cycle of the noise by mode."""
  table = channels.noise_table()
  offsets = [int(table.offset[mode, 1]) for mode in range(2)]
  return (np.array(offsets, np.int32),
          np.array([table.cycle[o] for o in offsets], np.int32))


def advance(step, fine, n):
  """Phase after n samples (0 <= n < 2**28), short by at most 2**-20 of a
  period."""
  n = n.astype(jnp.uint32)
  return n * step + ((n >> 12) * fine >> 4)


class _Moves(NamedTuple):
  """How phases advance, segment by segment; each attribute is [..., E, 4].

  Attributes:
    advance: uint32, over the segment.
    retuned: bool, whether the timer changes at the segment's start. The
      current step of the waveform then keeps its count of clocks.
    scale: float32, from a fraction of the old step to one of the new step.
    most: float32, the greatest fraction that remains.
    reset: bool, whether the waveform restarts at its first step.
  """
  advance: jax.Array
  retuned: jax.Array
  scale: jax.Array
  most: jax.Array
  reset: jax.Array


def _phases(moves: _Moves):
  """Phase (uint32) at each segment's start."""

  def step(phase, move):
    index, share = phase >> _SHIFT, phase & _MASK
    rest = share.astype(jnp.float32) * move.scale
    most = move.most * _MASK
    share = jnp.where(move.retuned, jnp.minimum(rest, most).astype(jnp.uint32),
                      share)
    phase = jnp.where(move.reset, 0, index) << _SHIFT | share
    return phase + move.advance, phase

  moves = jax.tree.map(lambda x: jnp.moveaxis(x, -2, 0), moves)
  _, phases = jax.lax.scan(step, jnp.zeros_like(moves.advance[0]), moves)
  return jnp.moveaxis(phases, 0, -2)


def segments(start, state, rate: int = SAMPLE_RATE) -> Segments:
  """Computes the oscillators of a score.

  They behave as the player's do under the score's register writes (see
  `registers`): a pulse restarts when it comes out of silence or the upper bits
  of its timer change, the triangle freezes in silence, and the current step of
  a waveform keeps its count of clocks.

  Args:
    start: [..., E] int32, samples, ascending; padded beyond the song's end.
    state: [..., E, 4, 3] uint8: note, velocity, timbre (see `score`).
    rate: Hz of the samples.
  """
  note, timbre = (state[..., i].astype(jnp.int32) for i in (0, 2))
  velocity = state[..., 1].astype(jnp.float32)
  mode = jnp.where(_ROW == 2, timbre & 1, 0)
  steps = jnp.asarray(_steps(rate))[_ROW, note, mode]
  step, fine = steps[..., 0], steps[..., 1]
  length = jnp.diff(start, axis=-1, append=start[..., -1:])[..., None]

  def last(x):  # The value in the segment before.
    return jnp.concatenate([jnp.zeros_like(x[..., :1, :]), x[..., :-1, :]], -2)

  timers = jnp.asarray(_timers())
  timer, timer_before = timers[_ROW, note], timers[_ROW, last(note)]
  # The lower bits are written first.
  least = jnp.minimum(timer, timer_before & 0x700 | timer & 0xff)
  moves = _Moves(
      advance(step, fine, length), (_ROW < 2) & (timer != timer_before),
      step.astype(jnp.float32) / jnp.maximum(last(step), 1),
      least / (timer + 1),
      (_ROW == 0) & (note > 0) & ((last(note) == 0) |
                                  (timer >> 8 != timer_before >> 8)))
  phase = _phases(moves)
  offset, cycle = (jnp.asarray(x)[timbre[..., 3] & 1] for x in _cycles())
  volume = jnp.concatenate([velocity, jnp.zeros_like(velocity[..., :1])], -1)
  return Segments(start, phase, step, fine, volume, timbre[..., :2], offset,
                  cycle)


segments_jit = jax.jit(segments, static_argnames='rate')


def check_length(samples: int) -> None:
  """Raises ValueError if int32 cannot count so many samples."""
  if samples > scores.MAX_LENGTH:
    raise ValueError(f'{samples} samples: at most {scores.MAX_LENGTH} can be '
                     'rendered; take a lower rate')


def from_score(score: Score, rate: int = SAMPLE_RATE) -> Segments:
  """Computes the oscillators of one score; numpy arrays without batch axes.

  Changes begin at the sample nearest to where the score has them.

  Raises:
    ValueError: it is longer than 2**31 - 1 samples of this rate.
  """
  check_length(score.length * rate // SAMPLE_RATE)
  size = channels.padded_size(len(score.start) + 1)
  start, state = (x[0] for x in scores.pad([score], size))
  count = len(score.start) + 1
  start[:count] = np.rint(start[:count] * (rate / SAMPLE_RATE))
  return jax.tree.map(lambda x: np.asarray(x)[:count],
                      segments_jit(start, state, rate=rate))


def from_channels(clock: channels.Clock, logs: list[channels.ChannelLog],
                  rate: int = SAMPLE_RATE) -> Segments:
  """Converts the oscillators of a register log; on the host, in numpy.

  Changes within a sample begin at the sample's nearer end.

  Args:
    clock, logs: see `channels.play`.
    rate: Hz of the samples to render.
  """
  hertz = clock.ratio * clock.rate / 2**24
  begins = [np.rint(part.step * (rate / clock.rate)).astype(np.int64)
            for part in logs]
  start = np.unique(np.concatenate(begins))
  clocks = start * (hertz / rate)
  phase, step, fine = (np.zeros((len(start), 4), np.uint32) for _ in range(3))
  volume = np.zeros((len(start), 5), np.float32)
  timbre = np.zeros((len(start), 2), np.int32)
  lengths = channels.noise_table().cycle
  for voice, (part, begin) in enumerate(zip(logs, begins, strict=True)):
    row = channels.ChannelLog(*(
        x[np.searchsorted(begin, start, 'right') - 1] for x in part))
    volume[:, voice] = row.level
    if voice == 4:
      break
    cycle = (channels.PULSE_CYCLE, channels.PULSE_CYCLE,
             channels.TRIANGLE_CYCLE, 0)[voice]
    if voice == 3:
      table = channels.noise_table()
      lead = np.isin(row.timbre, table.lead)
      offset = np.where(lead, table.offset[0, 1], row.timbre)
      cycle = np.array([lengths[o] for o in offset.tolist()])
    elif voice < 2:
      timbre[:, voice] = row.timbre
    still = row.period == 0
    period = np.maximum(row.period, 1)
    turns = (row.phase + np.where(
        still, 0, (row.count + clocks - row.at) / period)) / cycle
    phase[:, voice] = (turns % 1 * 2.0**32).astype(np.uint64) & 0xffffffff
    turns = np.where(still, 0, hertz / rate / (period * cycle))
    # More than one period per sample is far above the audible range.
    turns = np.where(turns < 1, turns * 2.0**48, 0).astype(np.uint64)
    step[:, voice], fine[:, voice] = turns >> 16, turns & 0xffff
  return Segments(start.astype(np.int32), phase, step, fine, volume, timbre,
                  offset.astype(np.int32), cycle.astype(np.int32))
