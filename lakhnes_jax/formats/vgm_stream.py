"""DAC streams of VGM files: data banks written to a register at a fixed rate.

Commands 0x90 to 0x95 set streams up, start and stop them; the data come from
blocks of types 0x00 to 0x3f, which are joined to one bank per type.

Source: VGM file format specification, "DAC Stream Control Write"
(https://vgmrips.net/wiki/VGM_Specification).
"""

import struct
from collections.abc import Iterator

from lakhnes_jax import nes

_NES = 0x14  # Chip type; with bit 7 set, the second one.
_BY_COMMANDS, _BY_TIME, _TO_THE_END = 1, 2, 3  # How a length is given.
_LOOP, _REVERSE = 0x80, 0x10  # Flags of 0x93; 0x95 has its own loop flag.


class Banks:
  """Data by type, and where each block of a type begins and ends."""

  def __init__(self):
    self.data: dict[int, bytearray] = {}
    self.blocks: dict[int, list[tuple[int, int]]] = {}

  def add(self, kind: int, data: bytes):
    bank = self.data.setdefault(kind, bytearray())
    self.blocks.setdefault(kind, []).append((len(bank), len(bank) + len(data)))
    bank += data


class Stream:
  """One stream; at most one is active per number, 0 to 254.

  Attributes:
    register: of the NES chip; None while it is set up for another chip.
  """

  def __init__(self):
    self.register: int | None = None
    self._kind = self._base = self._hz = self._at = 0
    self._step = 1
    # What plays: `count` bytes of `data`, `stride` apart from `first` on.
    self._data, self._first, self._stride, self._count = b'', 0, 1, 0
    self._loops = False
    # The time `began` of value `offset`, and how many came since.
    self._began = self._offset = self._number = 0

  def set_up(self, operands: bytes):
    """Command 0x90: chip, port and register. The NES has no ports."""
    self.register = operands[2] if operands[0] == _NES else None
    self.stop()

  def set_data(self, operands: bytes):
    """Command 0x91: bank, step size and step base."""
    self._kind, self._step, self._base = operands
    self._step = max(self._step, 1)

  def set_frequency(self, operands: bytes, now: int):
    """Command 0x92: Hz; a stream that plays continues at its position."""
    self._began, self._offset = now, self._offset + self._number
    self._number = 0
    self._hz, = struct.unpack('<I', operands)

  def start(self, operands: bytes, banks: Banks, now: int):
    """Command 0x93: start, length mode and length."""
    at, mode, length = struct.unpack('<IBI', operands)
    if at != 0xffffffff:
      self._at = at
    end = len(banks.data.get(self._kind, b''))
    kind = mode & 0xf
    if kind == _BY_COMMANDS:
      most = length
    elif kind == _BY_TIME:
      most = length * self._hz // 1000
    elif kind == _TO_THE_END:
      most = end
    else:
      return  # Only the position changes.
    self._play(banks, self._at, end, most, mode & _LOOP, mode & _REVERSE, now)

  def start_block(self, operands: bytes, banks: Banks, now: int):
    """Command 0x95: a whole block by its number."""
    number, flags = struct.unpack('<HB', operands)
    blocks = banks.blocks.get(self._kind, [])
    begin, end = blocks[number] if number < len(blocks) else (0, 0)
    self._play(banks, begin, end, end, flags & 1, flags & _REVERSE, now)

  def _play(self, banks, begin, end, most, loops, backwards, now):
    begin += self._base
    self._data = banks.data.get(self._kind, b'')
    self._count = min(max(-(-(end - begin) // self._step), 0), most)
    self._first, self._stride = begin, self._step
    if backwards:
      self._first += (self._count - 1) * self._step
      self._stride = -self._step
    self._loops = bool(loops)
    self._began, self._offset, self._number = now, 0, 0

  def stop(self):
    """Command 0x94."""
    self._count = 0

  def next_time(self) -> int | None:
    """Returns the sample of the next write, None if there is none."""
    if self.register is None or not self._hz or not self._count or not (
        self._loops or self._offset + self._number < self._count):
      return None
    return self._began + self._number * nes.SAMPLE_RATE // self._hz

  def take(self, time: int) -> int:
    """Returns the value to write at `time`; of several in a sample the last."""
    # So many values are due before the next sample.
    due = -(-(time + 1 - self._began) * self._hz // nes.SAMPLE_RATE)
    number = max(self._number, due - 1)
    if not self._loops:
      number = min(number, self._count - 1 - self._offset)
    self._number = number + 1
    place = (self._offset + number) % self._count
    return self._data[self._first + place * self._stride]


class Streams:
  """All streams of a file."""

  def __init__(self):
    self.banks = Banks()
    self._streams: dict[int, Stream] = {}
    self._next: int | None = None  # Sample of the next write of any stream.

  def command(self, command: int, operands: bytes, now: int) -> str | None:
    """Executes a command, 0x90 to 0x95.

    Returns:
      None, or the name of what it is, if it has to be left out.
    """
    number, *_ = operands
    if command == 0x94 and number == 0xff:
      for stream in self._streams.values():
        stream.stop()
    if command == 0x90:
      self._streams.setdefault(number, Stream()).set_up(operands[1:])
    stream = self._streams.get(number)
    if stream is None:
      return None  # It was never set up, and plays nothing anywhere.
    if stream.register is None:
      return 'commands of DAC streams to other chips'
    if command == 0x91:
      stream.set_data(operands[1:])
    elif command == 0x92:
      stream.set_frequency(operands[1:], now)
    elif command == 0x93:
      stream.start(operands[1:], self.banks, now)
    elif command == 0x94:
      stream.stop()
    elif command == 0x95:
      stream.start_block(operands[1:], self.banks, now)
    self._next = min(self._times(), default=None)
    return None

  def _times(self) -> list[int]:
    return [time for stream in self._streams.values()
            if (time := stream.next_time()) is not None]

  def writes(self, until: int) -> Iterator[tuple[int, int, int]]:
    """Yields time, register and value of the writes before sample `until`."""
    while self._next is not None and self._next < until:
      time = self._next
      for stream in self._streams.values():
        if stream.next_time() == time:
          yield time, stream.register, stream.take(time)
      self._next = min(self._times(), default=None)
