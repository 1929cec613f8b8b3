"""Register logs -> what a sound driver writes in each frame, and its loop.

A console's driver is called once a frame, so writes are gathered by frames.
Within a frame only the order that is audible is kept: `COLUMNS` says in which
order the driver writes. Writes that change nothing are left out.

Sources: https://www.nesdev.org/wiki/APU (what each write does),
https://www.nesdev.org/wiki/Cycle_reference_chart (frame rates).
"""

from typing import NamedTuple

import numpy as np

from lakhnes_jax import nes
from lakhnes_jax.synth.register_log import RegisterLog

# The driver's six streams of four registers each, less $4000. The status
# appears thrice: first what is switched off, then the state in the end.
STREAMS = ((0x10, 0x11, 0x12, 0x13), (0x15, 0x15, 0x17, 0x15),
           (0, 1, 2, 3), (4, 5, 6, 7), (8, 9, 10, 11), (12, 13, 14, 15))
COLUMNS = tuple(register for stream in STREAMS for register in stream)
_STATUS_OFF, _STATUS, _COUNTER = 4, 5, 6  # Columns.
_VOICES = 8  # The first column of the voices.
_SAMPLE_ADDRESS, _SAMPLE_LENGTH = 2, 3
_DMC = 0x10  # Bit of the status.
_HEARD = 80  # Samples after which a write was heard before the next one.
_MAX_FRAMES = 1 << 20
_STEP = 64  # Bytes; samples begin at multiples.
SAMPLE_SPACE = 0x4000 // _STEP
# Frame lengths to choose from beside the console's own: programs of rippers.
_GRIDS = ((nes.SAMPLE_RATE / nes.FRAME_RATES[0], float(nes.FRAME_60HZ)),
          (nes.SAMPLE_RATE / nes.FRAME_RATES[1], float(nes.FRAME_50HZ)))
_CROSSED = 0.02  # Share of writes near a line from which on others are tried:
_NEAR = 0.003  # rates as near as this. Some rippers' are 60.196 and 50.098 Hz.
_TRIED = 2000  # Writes by which these are judged.


class Frames(NamedTuple):
  """What the driver writes.

  Attributes:
    table: [F, 24] int16, the value that is written to each of `COLUMNS`, in
      that order; -1 where nothing is.
    loop: the frame after the last one's; None if the song ends.
    samples: for the sample channel, in steps of 64 bytes; the values of the
      sample address count from where they will lie.
    pal: whether for a PAL console.
    rate: frames per second.
    notes: what could not be kept, one line each.
  """
  table: np.ndarray
  loop: int | None
  samples: bytes
  pal: bool
  rate: float
  notes: tuple[str, ...] = ()

  def writes(self, frame: int) -> list[tuple[int, int]]:
    """(register less $4000, value) of a frame, in order."""
    row = self.table[frame].tolist()
    return [(register, value)
            for register, value in zip(COLUMNS, row, strict=True)
            if value >= 0]


def grid(time: np.ndarray, pal: bool) -> tuple[float, float]:
  """Finds a frame grid whose lines no burst of writes crosses.

  Args:
    time: [W] samples at 44.1 kHz.
    pal: whether frames are a PAL console's.

  Returns:
    samples a frame, and where its first line lies, within (0, frame].
  """
  best = None
  for length in _GRIDS[pal]:
    best = _clearer(best, time, length)
  if best[0] > _CROSSED:
    best = _clearer(best, time, _rate_near(time, nes.FRAME_RATES[pal]))
  return best[1:]


def _clearer(best, time: np.ndarray, length: float):
  """The better of two grids: share of writes near lines, length, a line."""
  count = np.histogram(time % length, bins=96, range=(0, length))[0]
  count = count / max(count.sum(), 1)
  clear = np.convolve(np.tile(count, 3), np.hanning(25)[1:-1], 'same')[96:192]
  if best is not None and clear.min() >= best[0] - 1e-3:
    return best
  # In the middle of the widest stretch that is as clear as any.
  low = np.flatnonzero(clear <= clear.min() + 1e-9)
  runs = np.split(low, np.flatnonzero(np.diff(low) > 1) + 1)
  middle = max(runs, key=len)
  return clear.min(), length, (middle[len(middle) // 2] + 0.5) / 96 * length


def _rate_near(time: np.ndarray, rate: float) -> float:
  """Samples per frame at which bursts fall on one place of all frames best.

  Args:
    time: [W] samples at 44.1 kHz.
    rate: Hz; others are tried within a share of `_NEAR`.
  """
  time = time[::max(len(time) // _TRIED, 1)].astype(float) / nes.SAMPLE_RATE
  step = 1 / (6 * max(np.ptp(time), 1))  # Within 1/12 turn of the best.
  for offsets in (np.arange(-_NEAR * rate, _NEAR * rate, step),
                  step * np.linspace(-1, 1, 21)):
    vectors = [abs(np.exp(2j * np.pi * hertz * time).sum())
               for hertz in rate + offsets]
    rate += offsets[int(np.argmax(vectors))]
  return nes.SAMPLE_RATE / rate


def from_log(log: RegisterLog, loop: int | None = None) -> Frames:
  """Gathers the writes of a log by frames.

  Args:
    log: its times may lie anywhere; frames follow their bursts.
    loop: sample from which on the song plays again when it is over.

  Raises:
    ValueError: it is empty or too long, or its samples do not fit.
  """
  length, line = grid(log.time, log.pal)
  if log.length < 1:
    raise ValueError('the song is empty')
  time, n_frames = log.time, round(log.length / length)
  register, value = log.register.astype(int), log.value.astype(int)
  memory, first = list(log.memory), None
  if loop is not None and not 0 <= loop < log.length - length:
    loop = None
  if loop is not None:
    # A burst may be cut by the loop; so its first frame plays before it, and
    # is played again at the end.
    again = np.flatnonzero((time >= loop) & (time < loop + 3 * length))
    period = round((log.length - loop) / length)
    time = np.concatenate([time, time[again] + period * length])
    register = np.append(register, register[again])
    value = np.append(value, value[again])
    first = int(np.floor((loop - line) / length)) + 2
    n_frames = first + period
  n_frames = max(n_frames, 1)
  if n_frames > _MAX_FRAMES:
    raise ValueError(f'{n_frames} frames: {_MAX_FRAMES} at most')
  frame = np.floor((time - line) / length).astype(int) + 1
  lost = _overwritten(frame, time, register)
  if loop is None:  # There is one more, in which all is switched off.
    n_frames = max(n_frames, frame.max(initial=0) + 1) + 1
    frame = np.append(frame, n_frames - 1)
    register, value = np.append(register, 0x15), np.append(value, 0)
  found = _Gatherer(log, n_frames, first, memory).gather(
      frame.tolist(), register.tolist(), value.tolist(),
      float(nes.SAMPLE_RATE / length))
  if lost:
    found = found._replace(notes=(
        f'{lost} writes left out: of those to a register within a frame the '
        'last is played', *found.notes))
  return found


def _overwritten(frame: np.ndarray, time: np.ndarray, register: np.ndarray
                ) -> int:
  """How many writes are heard before the next one of the same frame."""
  order = np.lexsort((time, register, frame))
  frame, time, register = frame[order], time[order], register[order]
  return int(((np.diff(frame) == 0) & (np.diff(register) == 0) & (
      np.diff(time) >= _HEARD) & (register[1:] < 16)).sum())


class _Gatherer:
  """Turns each frame's writes into a row of the table."""

  def __init__(self, log, n_frames, loop, memory):
    self.table = np.full((n_frames, len(COLUMNS)), -1, np.int16)
    self.log, self.loop, self.memory = log, loop, memory
    self.ram = bytearray(0x10000)
    self.address = self.length = 0  # Of the sample, as the log has them.
    self.places = {}  # Of samples, by their bytes, in steps.
    self.samples = bytearray()
    # Of the registers, as far as it is known; the driver starts them at 0.
    self.state = [None] * _VOICES + [0] * 16
    sweeps = log.value[np.isin(log.register, (1, 5))] & 0x80
    registers = log.register[np.isin(log.register, (1, 5))]
    self.sweeps = [bool(sweeps[registers == r].any()) for r in (1, 5)]
    self.status = self.written = 15  # What shall be, and what was written.
    self.dropped = 0  # Writes to the sample channel's level.

  def gather(self, frame, register, value, rate) -> Frames:
    begin = 0
    for row in range(len(self.table)):
      if row == self.loop:  # What was before the last frame is not what was
        self.state = [None] * len(COLUMNS)  # before this one.
      end = begin
      while end < len(frame) and frame[end] <= row:
        end += 1
      self._frame(row, begin, register[begin:end], value[begin:end])
      begin = end
    notes = []
    if self.dropped:
      notes.append(f'{self.dropped} writes to $4011 within a frame left out: '
                   'one a frame is played')
    if self.log.left_out:
      notes.append(f'{self.log.describe_left_out()} left out')
    return Frames(self.table, self.loop, bytes(self.samples), self.log.pal,
                  rate, tuple(notes))

  def _frame(self, row, begin, registers, values):
    out = self.table[row]
    never_off = status = self.status
    touched, loaded = False, [None] * 4  # Voices whose length was loaded.
    levels = 0
    for i, (register, value) in enumerate(zip(registers, values, strict=True)):
      while self.memory and self.memory[0][0] <= begin + i:
        _, address, data = self.memory.pop(0)
        data = data[:len(self.ram) - address]
        self.ram[address:address + len(data)] = data
      if register < 16:
        out[_VOICES + register] = value
        if register & 3 == 3:
          loaded[register >> 2] = status >> (register >> 2) & 1
      elif register == 0x15:
        if not self.log.memory:
          value &= ~_DMC
        status, touched = value & 31, True
        never_off &= status
        for voice in range(4):
          if not status >> voice & 1 and loaded[voice]:
            loaded[voice] = 0
        if status & _DMC:
          self._start(out)
      elif register == 0x10:
        out[0] = value
      elif register == 0x11:
        levels += 1
        out[1] = value & 0x7f
      elif register == 0x12:
        self.address = value
      elif register == 0x13:
        self.length = value
      elif register == 0x17:
        out[_COUNTER] = value & 0xc0 | 0x40
    self.dropped += max(levels - 1, 0)
    self.status = status
    # A voice whose length was not loaded, as it was off, has to stay off: it
    # comes on with the next frame, which is as silent.
    for voice, on in enumerate(loaded):
      if on == 0:
        status &= ~(1 << voice)
        never_off &= status
    if touched or status != self.written:
      if never_off != status and never_off != self.written:
        out[_STATUS_OFF] = never_off
      if (never_off != status or status != self.written or status & _DMC or
          row == self.loop):
        out[_STATUS] = status
      self.written = status
    self._drop_same(out)

  def _drop_same(self, out):
    """Leaves out what is there already."""
    for column in (0, 2, 3, *range(_VOICES, len(COLUMNS))):
      register, value = COLUMNS[column], int(out[column])
      if value < 0 or (register < 16 and register & 3 == 3):
        continue
      # A sweep changes the timer, and begins anew when it is written.
      moves = (register < 8 and register & 3 in (1, 2) and
               self.sweeps[register >> 2])
      if value == self.state[column] and not moves:
        out[column] = -1
      self.state[column] = value

  def _start(self, out):
    """Writes where the sample lies that may start now."""
    place, size = 0xc000 + _STEP * self.address, 16 * self.length + 1
    data = bytes(self.ram[place:place + size])
    data += bytes(self.ram[0x8000:0x8000 + size - len(data)])
    if data not in self.places:
      self.places[data] = len(self.samples) // _STEP
      self.samples += data + bytes(-len(data) % _STEP)
      if len(self.samples) > _STEP * SAMPLE_SPACE:
        raise ValueError(
            f'more than {_STEP * SAMPLE_SPACE} bytes of samples: the sample '
            'channel reads no more')
    out[_SAMPLE_ADDRESS], out[_SAMPLE_LENGTH] = self.places[data], self.length
