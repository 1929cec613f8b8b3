"""Register logs -> the piecewise constant settings of each oscillator.

Time is counted in *steps* of the player that nesmdb renders with (VGMPlay's
NSFPlay core): four clocks each, 447,443 per second. Writes and ticks of the
frame counter are emulated one by one; between them each oscillator runs in
closed form, which the vectorised engines (`clean.py`, `reference.py`) evaluate.
"""

import collections
import concurrent.futures
import functools
import operator
import os
from typing import NamedTuple

import numpy as np

from lakhnes_jax import nes
from lakhnes_jax.nes import SAMPLE_RATE
from lakhnes_jax.synth.chip import NOISE_PERIODS, Chip
from lakhnes_jax.synth.dmc import SampleChannel
from lakhnes_jax.synth.register_log import RegisterLog

FIXED = 2048  # The player's positions are in 2048ths of a step.
_STATUS, _FRAME_COUNTER = 0x15, 0x17
_NOISE_SEED = 1804289383 | 1
_NOISE_LEAD = 16  # Shifts until the seed's upper bits are gone.
_LONG = 32767
VOICES = tuple(range(5))  # Pulses, triangle, noise, sample channel.
PULSE_CYCLE, TRIANGLE_CYCLE = 16, 32  # Phases of a waveform.


class Clock(NamedTuple):
  """How the player's steps relate to clocks and to output samples."""
  rate: int  # Steps per second.
  ratio: int  # Clocks per step, times 2**24.

  def clocks(self, step):
    """Clocks that have passed before a step; int or int64 array."""
    return self.ratio * step >> 24

  def position(self, sample):
    """Where an output sample begins, in 2048ths of a step."""
    return sample * FIXED * self.rate // SAMPLE_RATE

  def first_step(self, sample):
    """The first step that a write effective at `sample` affects."""
    return -(-self.position(sample) // FIXED)


def clock_of(hertz: int) -> Clock:
  rate = hertz // 4
  return Clock(rate, (hertz << 24) // rate)


class ChannelLog(NamedTuple):
  """The settings of one oscillator; each row holds until the next one's step.

  Attributes:
    step: [R] int64, ascending; the first is 0.
    at: [R] int64, clocks at which `phase` and `count` held.
    phase: [R] int64, of 16 or 32; of noise, index in its cycle; of the sample
      channel always 0.
    count: [R] int64, clocks since the phase began, below `period`.
    period: [R] int64, clocks of a phase; 0 where it stands still.
    level: [R] int64, 0-15; of the triangle 15; of the sample channel 0-127.
    timbre: [R] int64, duty; of noise, where its cycle lies in `noise_bits`.
  """
  step: np.ndarray
  at: np.ndarray
  phase: np.ndarray
  count: np.ndarray
  period: np.ndarray
  level: np.ndarray
  timbre: np.ndarray


class NoiseTable(NamedTuple):
  """Outputs of the noise shift register: mode 0's cycle, then mode 1's.

  Attributes:
    bits: [n] uint8.
    cycle: {offset: length} of each cycle; length 0 for the two runs of states
      before the seed enters a cycle, one per mode.
    place: [2, 32768] int32: offset + index of each state of the register.
    offset: [2, 32768] int32: of the cycle that holds each state.
    lead: offsets of the two runs, by mode.
    after: states of the register after them.
  """
  bits: np.ndarray
  cycle: dict[int, int]
  place: np.ndarray
  offset: np.ndarray
  lead: tuple[int, int]
  after: tuple[int, int]


def _shift(register: int, mode: int) -> int:
  """One shift: bit 0 and bit 1 (mode 1: bit 6) feed back into bit 14."""
  feedback = (register ^ register >> (6 if mode else 1)) & 1
  return register >> 1 | feedback << 14


@functools.cache
def noise_table() -> NoiseTable:
  bits, cycle = [], {}
  place = np.zeros((2, _LONG + 1), np.int32)
  offset = np.zeros((2, _LONG + 1), np.int32)
  for mode in range(2):
    for first in range(1, _LONG + 1):
      if mode == 0 and first > 1:  # All states are in one cycle.
        break
      if place[mode, first]:
        continue
      start, register = len(bits), first
      while True:
        place[mode, register], offset[mode, register] = len(bits), start
        bits.append(register >> 14 & 1)
        register = _shift(register, mode)
        if register == first:
          break
      cycle[start] = len(bits) - start
  lead, after = [], []
  for mode in range(2):
    lead.append(len(bits))
    cycle[len(bits)] = 0
    register = _NOISE_SEED
    for i in range(_NOISE_LEAD + 4):  # Averages look a little ahead.
      if i == _NOISE_LEAD:
        after.append(register)
      bits.append(register >> 14 & 1)
      register = _shift(register, mode)
  return NoiseTable(np.array(bits, np.uint8), cycle, place, offset,
                    tuple(lead), tuple(after))


class _Oscillator:
  """Builds a `ChannelLog`; advances the phase from row to row."""

  below = 1  # How far the count stays below the period.

  def __init__(self, cycle: int):
    self.cycle = cycle
    self.rows = []
    self.at = self.phase = self.count = 0
    self.period = 1
    self.running = True
    self.moved = True  # Since the last row, by other than running on.

  def run_to(self, clocks: int):
    if self.running:
      phases, self.count = divmod(self.count + clocks - self.at, self.period)
      self.phase = (self.phase + phases) % self.cycle
    self.at = clocks

  def retune(self, clocks: int, period: int):
    """Sets the period; the count of the phase does not exceed it."""
    if period == self.period:
      return
    self.run_to(clocks)
    self.period = period
    self.count = min(self.count, period - self.below)
    self.moved = True

  def restart(self, clocks: int):
    self.run_to(clocks)
    self.phase = 0
    self.moved = True

  def emit(self, step: int, level: int, timbre: int):
    if not self.moved and self.rows[-1][5:] == (level, timbre):
      return
    self.moved = False
    if self.rows and self.rows[-1][0] == step:
      self.rows.pop()
    self.rows.append((step, self.at, self.phase, self.count,
                      self.period if self.running else 0, level, timbre))

  def log(self) -> ChannelLog:
    return ChannelLog(*np.array(self.rows, np.int64).T)


class _Noise(_Oscillator):
  """The noise, whose phase is its place in one of the register's cycles."""
  below = 0

  def __init__(self):
    super().__init__(0)
    self.table = noise_table()
    self.mode = 0
    self.offset = self.table.lead[0]
    self.leading = True

  def lead_ends(self) -> int:
    """Clocks when the seed enters its cycle, if nothing changes."""
    return self.at + (_NOISE_LEAD - self.phase) * self.period - self.count

  def run_to(self, clocks):
    if clocks == self.at:  # A count that equals the period shifts later.
      return
    shifts, self.count = divmod(self.count + clocks - self.at, self.period)
    self.at = clocks
    self.phase += shifts
    if self.leading:
      if self.phase < _NOISE_LEAD:
        return
      self.phase -= _NOISE_LEAD
      self._enter(self.table.after[self.mode])
    self.phase %= self.cycle

  def _enter(self, register: int):
    """Goes on in the cycle that holds a state of the register."""
    self.leading, self.moved = False, True
    self.offset = int(self.table.offset[self.mode, register])
    self.cycle = self.table.cycle[self.offset]
    self.phase += int(self.table.place[self.mode, register]) - self.offset

  def set_mode(self, clocks: int, mode: int):
    if mode == self.mode:
      return
    self.run_to(clocks)
    place = self.offset + self.phase
    old, self.mode, self.moved = self.mode, mode, True
    if self.leading:  # Only the first shifts; the two pieces differ little.
      self.offset = self.table.lead[mode]
      return
    self.phase = 0
    self._enter(int(np.flatnonzero(self.table.place[old] == place)[-1]))


def play(log: RegisterLog, as_player: bool = True
        ) -> tuple[Clock, list[ChannelLog]]:
  """Emulates the player's control units over a whole log.

  Args:
    log: register writes and sample memory.
    as_player: whether the frame counter runs at the NTSC rate on PAL consoles
      too, as the player's does, instead of the console's own rate.

  Returns:
    The clock, and the logs of five channels: pulse 1, pulse 2, triangle, noise,
    and the sample channel's level.
  """
  return _Player(log, as_player).run(log)


class _Player:
  """The chip under the player's frame sequencer."""

  def __init__(self, log: RegisterLog, as_player: bool):
    # In quarters of a clock.
    self.frame = int(4 * (nes.PLAYER_QUARTER_FRAME if as_player or not log.pal
                          else nes.QUARTER_FRAME_PAL))
    self.clock = clock_of(log.clock)
    self.noise_periods = NOISE_PERIODS[log.pal]
    self.chip = Chip()
    for register in range(16):  # The player's reset.
      self.chip.write(register, 0)
    self.chip.write(_STATUS, 0)
    self.chip.write(_STATUS, 15)
    self.pulses = _Oscillator(PULSE_CYCLE), _Oscillator(PULSE_CYCLE)
    self.triangle = _Oscillator(TRIANGLE_CYCLE)
    self.triangle.running = False
    self.noise = _Noise()
    self.noise.period = self.noise_periods[0]
    self.step = 0
    self.frame_time = 0  # Quarters of a clock since the last tick.
    self.frame_step, self.frame_steps = 1, 4
    self.samples = SampleChannel(log.pal)
    for voice in range(4):
      self._emit(voice, 0)

  def run(self, log):
    last = self.clock.first_step(log.length)
    effective = np.maximum(log.time - 1, 0)  # The player is a sample early.
    steps = self.clock.first_step(effective)
    # By write only: of two blocks at one address the later one counts.
    blocks = sorted(log.memory, key=operator.itemgetter(0))[::-1]
    for i, (step, register, value) in enumerate(zip(
        steps.tolist(), log.register.tolist(), log.value.tolist(),
        strict=True)):
      while blocks and blocks[-1][0] <= i:
        self.samples.load(*blocks.pop()[1:])
      self._tick_to(step)
      self._write(step, register, value)
    self._tick_to(last)
    self._emit(3, last)
    self.samples.run_to(self.clock.clocks(last))
    step, level = self.samples.rows(self.clock.ratio).T
    still = np.zeros_like(step)
    oscillators = (*self.pulses, self.triangle, self.noise)
    return self.clock, [
        *(o.log() for o in oscillators),
        ChannelLog(step, self.clock.clocks(step), still, still, still, level,
                   still)]

  def _tick_to(self, end: int):
    """Runs the frame sequencer up to a step."""
    clocks, ratio = self.clock.clocks, self.clock.ratio
    while True:
      # The first step that brings the count over the frame's length.
      over = clocks(self.step) + (self.frame - self.frame_time) // 4 + 1
      after = -(-(over << 24) // ratio)
      if after > end:
        self.frame_time += 4 * (clocks(end) - clocks(self.step))
        self.step = end
        return
      self.frame_time += 4 * (clocks(after) - clocks(self.step)) - self.frame
      self.step = after
      if self.frame_step < 4:
        self._tick(after - 1, self.frame_step)
      self.frame_step = (self.frame_step + 1) % self.frame_steps

  def _tick(self, step: int, frame_step: int, lag: int = 1):
    """Ticks the control units.

    The player computes the pulses before it ticks: they change `lag` later.
    """
    changed = self.chip.quarter_frame()
    if frame_step % 2 == 0:
      timers = [p.timer for p in self.chip.pulses]
      changed += self.chip.half_frame()
      for pulse, oscillator, old in zip(self.chip.pulses, self.pulses, timers,
                                        strict=True):
        if pulse.timer != old:
          oscillator.retune(self.clock.clocks(step + lag), pulse.timer + 1)
    for voice in changed:
      self._emit(voice, step + lag if voice < 2 else step)

  def _emit(self, voice: int, step: int):
    """Adds a row if what a voice does has changed."""
    chip, clocks = self.chip, self.clock.clocks(step)
    if voice < 2:
      pulse = chip.pulses[voice]
      oscillator = self.pulses[voice]
      level = 0 if pulse.muted else pulse.envelope.output
      timbre = pulse.duty
    elif voice == 2:
      oscillator, level, timbre = self.triangle, 15, 0
      running = (chip.linear > 0 and chip.triangle_length > 0 and
                 chip.triangle_timer > 0)
      if running != oscillator.running:
        oscillator.run_to(clocks)
        oscillator.running, oscillator.moved = running, True
    else:
      oscillator = self.noise
      if oscillator.leading and oscillator.lead_ends() < clocks:
        end = -(-(oscillator.lead_ends() << 24) // self.clock.ratio)
        oscillator.run_to(self.clock.clocks(end))
        oscillator.emit(end, *oscillator.rows[-1][5:6], oscillator.offset)
      level = chip.noise.output if chip.noise_length else 0
      timbre = oscillator.offset
    if oscillator.moved or oscillator.rows[-1][5:] != (level, timbre):
      oscillator.run_to(clocks)
      timbre = oscillator.offset if voice == 3 else timbre
      oscillator.emit(step, level, timbre)

  def _write(self, step: int, register: int, value: int):
    clocks = self.clock.clocks(step)
    if register == _FRAME_COUNTER:
      self.frame_time = 0
      self.frame_step, self.frame_steps = 1, 4
      if value & 0x80:
        self.frame_steps = 5
        self._tick(step, 0, lag=0)
      return
    self.chip.write(register, value)
    if register < 8:
      pulse, oscillator = register >> 2, self.pulses[register >> 2]
      if register & 3 >= 2:
        oscillator.retune(clocks, self.chip.pulses[pulse].timer + 1)
      if register & 3 == 3:
        oscillator.restart(clocks)
      self._emit(pulse, step)
    elif register < 0x0c:
      if register >= 0x0a:
        self.triangle.retune(clocks, self.chip.triangle_timer + 1)
      self._emit(2, step)
    elif register < 0x10:
      if register == 0x0e:
        self.noise.set_mode(clocks, value >> 7)
        self.noise.retune(clocks, self.noise_periods[value & 15])
      self._emit(3, step)
    elif register == _STATUS:
      self.samples.write(clocks, register, value)
      for voice in range(4):
        self._emit(voice, step)
    elif register < 0x14:
      self.samples.write(clocks, register, value)


def padded_size(n: int) -> int:
  """Rounds a size up to 256 * 4**k, so that few programs are compiled."""
  size = 256
  while size < n:
    size *= 4
  return size


def prefetch_map(work, items):
  """Yields `work(item)` of each item in order, computed ahead.

  One thread per CPU core works on the next items.
  """
  threads = os.cpu_count() or 1
  with concurrent.futures.ThreadPoolExecutor(threads) as pool:
    waiting = collections.deque()
    for item in items:
      waiting.append(pool.submit(work, item))
      if len(waiting) > threads:
        yield waiting.popleft().result()
    while waiting:
      yield waiting.popleft().result()
