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

_FDS, _DUAL = 1 << 31, 1 << 30  # Flags in the clock field.
_MAX_BYTES = 1 << 26  # Of an unpacked file; real logs stay below 4 MB.
_MAX_SAMPLES = 44100 * 3600 * 6
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
  """
  time: np.ndarray
  register: np.ndarray
  value: np.ndarray
  length: int
  clock: int = 1789773
  memory: tuple[tuple[int, int, bytes], ...] = ()
  tags: dict[str, str] = {}  # noqa: RUF012 - never written to.
  skipped: int = 0

  @property
  def pal(self) -> bool:
    return abs(self.clock - 1789773) > 50000


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
    ValueError: the file is damaged, or unpacks to more than 64 MiB.
  """
  if data[:2] != b'\x1f\x8b':
    return data
  try:
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as packed:
      data = packed.read(_MAX_BYTES + 1)
  except (OSError, EOFError, zlib.error) as error:
    raise ValueError(f'damaged VGZ file: {error}') from error
  if len(data) > _MAX_BYTES:
    raise ValueError(f'unpacks to more than {_MAX_BYTES >> 20} MiB')
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
  if not 1000000 <= clock <= 4000000:
    raise ValueError(f'NES clock of {clock} Hz: 1 to 4 MHz expected')
  loop_at = 0x1c + field(0x1c) if field(0x1c) else None
  body = _Body(data, version)
  end = body.read(begin, loop_at)
  if loop_at is not None and begin <= loop_at < end:
    for _ in range(loops - 1):
      if not body.read(loop_at, None):
        break
  return RegisterLog(
      np.array(body.time, np.int64), np.array(body.register, np.uint8),
      np.array(body.value, np.uint8), body.now, clock, tuple(body.memory),
      _tags(data, field(0x14)), body.skipped)


class _Body:
  """Walks over commands and gathers what concerns the NES chip."""

  def __init__(self, data, version):
    self.data, self.version = data, version
    self.now = self.skipped = 0
    self.time, self.register, self.value, self.memory = [], [], [], []

  def read(self, at: int, loop_at: int | None) -> int:
    """Takes commands from offset `at` to the end command; returns its offset.
    """
    data, size = self.data, len(self.data)
    while True:
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
        self._write(data[at + 1], data[at + 2])
      elif command == 0x61:
        self.now += data[at + 1] | data[at + 2] << 8
      elif command == 0x62:
        self.now += 735
      elif command == 0x63:
        self.now += 882
      elif 0x70 <= command <= 0x7f:
        self.now += (command & 15) + 1
      elif 0x80 <= command <= 0x8f:
        self.now += command & 15
      elif command == 0x66:
        return at
      elif command == 0x67:
        operands += self._block(at)
      elif command >= 0x30 and not 0x90 <= command <= 0x95:
        self.skipped += 1
      if self.now > _MAX_SAMPLES:
        raise ValueError('longer than 6 hours')
      at += 1 + operands

  def _write(self, register, value):
    if register > 0x17:  # FDS sound, or a second chip.
      self.skipped += 1
      return
    self.time.append(self.now)
    self.register.append(register)
    self.value.append(value)

  def _block(self, at) -> int:
    """Takes a data block; returns the size of its contents."""
    size = struct.unpack_from('<I', self.data, at + 3)[0] & 0x7fffffff
    if at + 7 + size > len(self.data):
      raise ValueError(f'cut off in the data block at byte {at:#x}')
    if self.data[at + 2] == 0xc2 and size > 2:  # Memory of the NES.
      address, = struct.unpack_from('<H', self.data, at + 7)
      self.memory.append((len(self.time), address,
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
  """Writes a VGM file, version 1.61, that NES players play; no loop, no tags.

  Data of the sample channel is left out.
  """
  body = bytearray()

  def wait(samples):
    while samples > 0:
      part = min(samples, 0xffff)
      body.extend((0x61, part & 0xff, part >> 8))
      samples -= part

  now = 0
  for time, register, value in zip(
      log.time.tolist(), log.register.tolist(), log.value.tolist(),
      strict=True):
    wait(time - now)
    now = time
    body.extend((0xb4, register, value))
  wait(log.length - now)
  body.append(0x66)
  header = bytearray(0x100)
  header[:4] = b'Vgm '
  for offset, field in ((0x04, len(header) + len(body) - 4), (0x08, 0x161),
                        (0x18, log.length), (0x34, len(header) - 0x34),
                        (0x84, log.clock)):
    struct.pack_into('<I', header, offset, field)
  return bytes(header + body)
