"""VGM and VGZ files: logs of what a program wrote to the sound chip, when.

Source: VGM file format specification, versions 1.00 to 1.72
(https://vgmrips.net/wiki/VGM_Specification).
"""

import gzip
import io
import os
import pathlib
import struct
import zlib
from typing import NamedTuple

import numpy as np

from lakhnes_jax import nes

_FDS, _DUAL = 1 << 31, 1 << 30  # Flags in the clock field.
_MAX_BYTES = 1 << 23  # Of an unpacked file; real logs stay below 4 MB.
_MAX_SAMPLES = nes.SAMPLE_RATE * 3600 * 6
_HEADER = 0xc0  # Bytes of the header of version 1.61.
_GD3_VERSION = 0x100
_NES_MEMORY = 0xc2  # Type of data block.
_TAGS = ('title', 'title_ja', 'game', 'game_ja', 'system', 'system_ja',
         'author', 'author_ja', 'date', 'ripper', 'notes')


class RegisterLog(NamedTuple):
  """Writes to the chip's registers, in playing order.

  Attributes:
    time: [W] int64, samples at 44.1 kHz, not descending.
    register: [W] uint8, address less $4000: 0x00 to 0x17.
    value: [W] uint8.
    length: samples, the end of the song.
    clock: Hz of the chip.
    memory: (write index, address, bytes) of data for the sample channel,
      there before that write.
    tags: title, game, author and so on, those that are not empty.
    skipped: count of writes to other chips and to expansion sound.
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
  skipped: int = 0
  loop: int | None = None

  @property
  def pal(self) -> bool:
    return nes.is_pal(self.clock)


def _operands() -> list[int]:
  """Bytes after each command; -1 for those that no version defines."""
  sizes = [-1] * 256
  for first, last, size in (
      (0x30, 0x3f, 1), (0x40, 0x4e, 2), (0x4f, 0x50, 1), (0x51, 0x5f, 2),
      (0x61, 0x61, 2), (0x62, 0x63, 0), (0x66, 0x66, 0), (0x67, 0x67, 6),
      (0x68, 0x68, 11), (0x70, 0x8f, 0), (0x90, 0x91, 4), (0x92, 0x92, 5),
      (0x93, 0x93, 10), (0x94, 0x94, 1), (0x95, 0x95, 4), (0xa0, 0xbf, 2),
      (0xc0, 0xdf, 3), (0xe0, 0xff, 4)):
    sizes[first:last + 1] = [size] * (last - first + 1)
  return sizes


_OPERANDS = _operands()


def unpack(data: bytes) -> bytes:
  """Undoes the gzip of a VGZ file; a plain VGM file stays as it is.

  Raises:
    ValueError: the file is damaged, or has more than 8 MiB when unpacked.
  """
  if data[:2] == b'\x1f\x8b':
    try:
      with gzip.GzipFile(fileobj=io.BytesIO(data)) as packed:
        data = packed.read(_MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
      raise ValueError(f'damaged VGZ file: {error}') from error
  if len(data) > _MAX_BYTES:
    raise ValueError(f'a VGM file of more than {_MAX_BYTES >> 20} MiB')
  return data


def parse(data: bytes, loops: int = 1) -> RegisterLog:
  """Reads a VGM or VGZ file.

  Args:
    data: the file.
    loops: how often the looped part, if there is one, plays.

  Returns:
    The writes to the NES chip. Commands of other chips are skipped.

  Raises:
    ValueError: not a VGM file, no NES chip in it, cut off, or a command that
      no version of the format defines.
  """
  data = unpack(data)
  if data[:4] != b'Vgm ':
    raise ValueError('not a VGM file: it does not begin with "Vgm "')

  def field(offset):
    if offset + 4 > len(data):
      return 0
    return struct.unpack_from('<I', data, offset)[0]

  version = field(8)
  begin = 0x40
  if version >= 0x150 and field(0x34):
    begin = 0x34 + field(0x34)
  raw = field(0x84) if version >= 0x161 and begin >= 0x88 else 0
  clock = raw & ~(_FDS | _DUAL)
  if not clock:
    raise ValueError(f'no NES chip in this VGM file (version '
                     f'{version >> 8:x}.{version & 0xff:02x})')
  loop_at = 0x1c + field(0x1c) if field(0x1c) else None
  body = _Body(data, version, loop_at)
  body.clock = check_clock(clock)
  end = body.read(begin)
  if loop_at is not None and begin <= loop_at < end:
    for _ in range(loops - 1):
      before = body.now
      body.read(loop_at)
      if body.now == before:
        break  # A loop without any wait.
  loop = body.loop if body.loop != body.now else None
  return body.log()._replace(tags=_tags(data, field(0x14)), loop=loop)


def check_clock(clock: int) -> int:
  """Returns a clock; raises ValueError where no NES could run at it."""
  if not 1000000 <= clock <= 4000000:
    raise ValueError(f'NES clock of {clock} Hz: 1 to 4 MHz expected')
  return clock


class Recorder:
  """Gathers what is written to the chip, one write after the other.

  Attributes:
    now: samples, the time of the next write.
    clock: Hz of the chip.
    skipped: count of writes to other chips and to expansion sound.
  """

  def __init__(self, clock: int = nes.CLOCK):
    self.now = self.skipped = 0
    self.clock = clock
    self._rows, self._memory = [], []

  def wait(self, samples: int):
    """Lets time pass; raises ValueError past six hours."""
    self.now += samples
    if self.now > _MAX_SAMPLES:
      raise ValueError('longer than 6 hours')

  def write(self, register: int, value: int):
    """Writes 8 bits to $4000 + `register`; skips what is no NES register."""
    if register > 0x17:  # FDS sound, or a second chip.
      self.skipped += 1
    else:
      self._rows.append((self.now, register, value))

  def log(self) -> RegisterLog:
    time, register, value = np.array(self._rows, np.int64).reshape(-1, 3).T
    return RegisterLog(time, register.astype(np.uint8), value.astype(np.uint8),
                       self.now, self.clock, tuple(self._memory),
                       skipped=self.skipped)


class _Body(Recorder):
  """Walks over commands and gathers what concerns the NES chip.

  Attributes:
    loop: samples, when the command at `loop_at` was last met; None if never.
  """

  def __init__(self, data, version, loop_at=None):
    super().__init__()
    self.data, self.version = data, version
    self.loop_at, self.loop = loop_at, None

  def read(self, at: int) -> int:
    """Takes commands from offset `at` to the end command; returns its offset.
    """
    data, size = self.data, len(self.data)
    while True:
      if at == self.loop_at:
        self.loop = self.now
      if at >= size:
        raise ValueError(f'cut off: no end command in {size} bytes')
      command = data[at]
      operands = _OPERANDS[command]
      if 0x40 <= command <= 0x4e and self.version < 0x160:
        operands = 1
      if operands < 0:
        raise ValueError(f'unknown command {command:#04x} at byte {at:#x}')
      if at + operands >= size:
        raise ValueError(f'cut off in command {command:#04x} at byte {at:#x}')
      if command == 0xb4:
        self.write(data[at + 1], data[at + 2])
      elif command == 0x61:
        self.wait(data[at + 1] | data[at + 2] << 8)
      elif command == 0x62:
        self.wait(nes.FRAME_60HZ)
      elif command == 0x63:
        self.wait(nes.FRAME_50HZ)
      elif 0x70 <= command <= 0x7f:
        self.wait((command & 15) + 1)
      elif 0x80 <= command <= 0x8f:
        self.wait(command & 15)
      elif command == 0x66:
        return at
      elif command == 0x67:
        operands += self._block(at)
      elif command >= 0x30 and not 0x90 <= command <= 0x95:
        self.skipped += 1
      at += 1 + operands

  def _block(self, at) -> int:
    """Takes a data block; returns the size of its contents."""
    size = struct.unpack_from('<I', self.data, at + 3)[0] & 0x7fffffff
    if at + 7 + size > len(self.data):
      raise ValueError(f'cut off in the data block at byte {at:#x}')
    if self.data[at + 2] == _NES_MEMORY and size > 2:
      address, = struct.unpack_from('<H', self.data, at + 7)
      self._memory.append((len(self._rows), address,
                           self.data[at + 9:at + 7 + size]))
    return size


def _tags(data: bytes, offset: int) -> dict[str, str]:
  """Reads the GD3 tags; what is damaged is left out."""
  at = 0x14 + offset
  if not offset or data[at:at + 4] != b'Gd3 ' or at + 12 > len(data):
    return {}
  size, = struct.unpack_from('<I', data, at + 8)
  text = data[at + 12:at + 12 + size]
  fields = text[:len(text) & ~1].decode('utf-16-le', 'replace').split('\0')
  return {k: v for k, v in zip(_TAGS, fields, strict=False) if v}


def read(path: str | os.PathLike, loops: int = 1) -> RegisterLog:
  """Reads a file; errors name it (see `parse`)."""
  try:
    return parse(pathlib.Path(path).read_bytes(), loops)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from error


def build(log: RegisterLog) -> bytes:
  """Writes a VGM file, version 1.61, that NES players play, with its tags.

  A log that was read with several plays holds them all; its loop is the last.
  Without tags, sample data and loop the bytes are those that nesmdb writes.
  """
  body = bytearray()

  def wait(samples):
    while samples > 0:
      part = min(samples, 0xffff)
      body.extend((0x61, part & 0xff, part >> 8))
      samples -= part

  now, memory, loop, loop_at = 0, list(log.memory), log.loop, None
  for i, (time, register, value) in enumerate(zip(
      log.time.tolist(), log.register.tolist(), log.value.tolist(),
      strict=True)):
    if loop is not None and time >= loop:
      wait(loop - now)
      now, loop, loop_at = loop, None, len(body)
    wait(time - now)
    now = time
    while memory and memory[0][0] <= i:
      body += _memory_block(*memory.pop(0)[1:])
    body.extend((0xb4, register, value))
  if loop is not None:
    wait(loop - now)
    now, loop_at = loop, len(body)
  wait(log.length - now)
  body.append(0x66)
  gd3 = _gd3(log.tags)
  header = bytearray(_HEADER)
  header[:4] = b'Vgm '
  end = len(header) + len(body)
  looped = loop_at is not None
  for offset, field in ((0x04, end + len(gd3) - 4), (0x08, 0x161),
                        (0x14, end - 0x14 if gd3 else 0), (0x18, log.length),
                        (0x1c, len(header) + loop_at - 0x1c if looped else 0),
                        (0x20, log.length - log.loop if looped else 0),
                        (0x34, len(header) - 0x34), (0x84, log.clock)):
    struct.pack_into('<I', header, offset, field)
  return bytes(header + body + gd3)


def build_packed(log: RegisterLog) -> bytes:
  """Writes a VGZ file; the same log gives the same bytes."""
  return gzip.compress(build(log), mtime=0)


def _memory_block(address: int, data: bytes) -> bytes:
  return struct.pack('<BBBIH', 0x67, 0x66, _NES_MEMORY, len(data) + 2,
                     address) + data


def _gd3(tags: dict[str, str]) -> bytes:
  """Writes GD3 tags; nothing if there are none."""
  if not tags:
    return b''
  text = ''.join(f'{tags.get(name, "")}\0' for name in _TAGS).encode(
      'utf-16-le', 'replace')
  return b'Gd3 ' + struct.pack('<II', _GD3_VERSION, len(text)) + text
