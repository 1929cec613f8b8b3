"""Register logs: what a program wrote to the sound chip, and when."""

import array
import collections
from typing import NamedTuple

import numpy as np

from lakhnes_jax import nes

_MAX_SAMPLES = nes.SAMPLE_RATE * 3600 * 6
_MAX_WRITES = 1 << 24
_MAX_MEMORY = 1 << 28  # Bytes loaded, all in all.


class RegisterLog(NamedTuple):
  """Writes to the chip's registers, in playing order.

  Attributes:
    time: [W] int64, samples at 44.1 kHz, not descending.
    register: [W] uint8, address less $4000: 0x00 to 0x17.
    value: [W] uint8.
    length: samples, the end of the song.
    clock: Hz of the chip.
    memory: (write index, address, bytes) of data for the sample channel, in
      the order in which they are loaded; each is there before that write.
    tags: title, game, author and so on, those that are not empty.
    volume: of the whole song, in 32nds of a doubling; 0 leaves it as it is.
    left_out: counts of what the file holds and the log does not, by name, such
      as 'writes to FDS sound'.
    loop: sample from which on the song plays again when it is over; None if it
      ends.
  """
  time: np.ndarray
  register: np.ndarray
  value: np.ndarray
  length: int
  clock: int = nes.CLOCK
  memory: tuple[tuple[int, int, bytes], ...] = ()
  tags: dict[str, str] = {}  # noqa: RUF012 - never written to.
  volume: int = 0
  left_out: dict[str, int] = {}  # noqa: RUF012 - never written to.
  loop: int | None = None

  @property
  def pal(self) -> bool:
    return nes.is_pal(self.clock)

  @property
  def gain(self) -> float:
    """The factor that `volume` stands for."""
    return 2.0**(self.volume / 32)

  @property
  def skipped(self) -> int:
    """How many writes and commands were left out."""
    return sum(self.left_out.values())

  def describe_left_out(self) -> str:
    """Returns what was left out, for a message; '' if nothing was."""
    return ', '.join(f'{count} {name}' for name, count in
                     sorted(self.left_out.items()))


def check_clock(clock: int) -> int:
  """Returns a clock; raises ValueError where no NES could run at it."""
  if not 1000000 <= clock <= 4000000:
    raise ValueError(f'NES clock of {clock} Hz: 1 to 4 MHz expected')
  return clock


class Recorder:
  """Collects register writes, in time order.

  Attributes:
    now: samples, the time of the next write.
    clock: Hz of the chip.
    left_out: counts of what could not be recorded, by name.
  """

  def __init__(self, clock: int = nes.CLOCK):
    self.now = 0
    self.clock = clock
    self.left_out: collections.Counter[str] = collections.Counter()
    self._times = array.array('q')
    self._registers, self._values = bytearray(), bytearray()
    self._memory: list[tuple[int, int, bytes]] = []
    self._loaded = 0

  @property
  def n_writes(self) -> int:
    return len(self._times)

  def wait(self, samples: int):
    """Advances the time; raises ValueError past six hours."""
    self.now += samples
    if self.now > _MAX_SAMPLES:
      raise ValueError('longer than 6 hours')

  def write(self, register: int, value: int):
    """Writes 8 bits to $4000 + `register`; leaves out what is no NES register.

    Raises:
      ValueError: these are more than 16,777,216 writes.
    """
    if register > 0x7f:
      self.left_out['writes to a second NES chip'] += 1
    elif register > 0x17:
      self.left_out['writes to FDS sound'] += 1
    elif len(self._times) == _MAX_WRITES:
      raise ValueError(f'more than {_MAX_WRITES} register writes')
    else:
      self._times.append(self.now)
      self._registers.append(register)
      self._values.append(value)

  def load(self, address: int, data: bytes):
    """Loads sample memory from `address` on, before the next write.

    Raises:
      ValueError: these are more than 256 MiB in all.
    """
    self._loaded += len(data)
    if self._loaded > _MAX_MEMORY:
      raise ValueError(f'more than {_MAX_MEMORY >> 20} MiB of sample memory')
    self._memory.append((len(self._times), address, data))

  def log(self) -> RegisterLog:
    return RegisterLog(
        np.array(self._times, np.int64),
        np.frombuffer(self._registers, np.uint8).copy(),
        np.frombuffer(self._values, np.uint8).copy(),
        self.now, self.clock, tuple(self._memory),
        left_out=dict(self.left_out))
