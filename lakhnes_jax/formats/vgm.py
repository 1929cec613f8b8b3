"""VGM and VGZ files: logs of what a program wrote to the sound chip, when.

Source: VGM file format specification, versions 1.00 to 1.72
(https://vgmrips.net/wiki/VGM_Specification).
"""

import collections
import gzip
import os
import struct
import zlib

from lakhnes_jax import input_files, nes
from lakhnes_jax.formats import vgm_stream
from lakhnes_jax.synth.register_log import (
    Recorder,
    RegisterLog,
    check_clock,
)

_FDS, _DUAL = 1 << 31, 1 << 30  # Flags in the clock field.
_SECOND_CHIP = 1 << 31  # Flag in the size of a data block.
_MAX_BYTES = 1 << 23  # Of an unpacked file; real logs stay below 4 MB.
_GZIP, _MAX_MEMBERS = b'\x1f\x8b', 256
_HEADER = 0xc0  # Bytes of the header of version 1.61.
_VOLUME = 0x7c  # Place of the volume modifier, from version 1.60 on.
_GD3_VERSION = 0x100
# Types of data blocks: samples for streams and 0x68 commands, compressed ones,
# and sample memory.
_NES_SAMPLES, _COMPRESSED, _NES_MEMORY = 0x07, 0x40, 0xc2
_TAGS = ('title', 'title_ja', 'game', 'game_ja', 'system', 'system_ja',
         'author', 'author_ja', 'date', 'ripper', 'notes')


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

  What follows the last gzip member is ignored, as gunzip does.

  Raises:
    ValueError: the file is damaged, or has more than 8 MiB when unpacked.
  """
  unpacked = bytearray() if data[:2] == _GZIP else bytearray(data)
  members = 0
  while data[:2] == _GZIP and len(unpacked) <= _MAX_BYTES:
    member = zlib.decompressobj(wbits=31)
    try:
      unpacked += member.decompress(data, _MAX_BYTES + 1 - len(unpacked))
    except zlib.error as error:
      raise ValueError(f'damaged VGZ file: {error}') from None
    if len(unpacked) <= _MAX_BYTES and not member.eof:
      raise ValueError('damaged VGZ file: it ends too soon')
    data = member.unused_data
    members += 1
    if members == _MAX_MEMBERS:
      raise ValueError(f'damaged VGZ file: over {_MAX_MEMBERS} gzip members')
  if len(unpacked) > _MAX_BYTES:
    raise ValueError(f'a VGM file of more than {_MAX_BYTES >> 20} MiB')
  return bytes(unpacked)


def parse(data: bytes, loops: int = 1) -> RegisterLog:
  """Reads a VGM or VGZ file.

  A file without an end command is read to its end, or to its GD3 tags.

  Args:
    data: the file.
    loops: how often the looped part, if there is one, plays.

  Returns:
    The writes to the first NES chip; `left_out` counts what else there is.

  Raises:
    ValueError: not a VGM file, no NES chip in it, cut off within a command, or
      a command that no version of the format defines.
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
  end = len(data)
  gd3 = 0x14 + field(0x14)
  if begin <= gd3 and data[gd3:gd3 + 4] == b'Gd3 ':
    end = gd3
  loop_at = 0x1c + field(0x1c) if field(0x1c) else None
  body = _Body(data[:end], version, loop_at)
  body.clock = check_clock(clock)
  end = body.read(begin)
  if loop_at is not None and begin <= loop_at < end:
    for _ in range(loops - 1):
      before = body.now
      body.read(loop_at)
      if body.now == before:
        break  # A loop without any wait.
  has_volume = version >= 0x160 and begin > _VOLUME
  return body.log()._replace(
      tags=_tags(data, field(0x14)),
      loop=body.loop if body.loop != body.now else None,
      volume=_volume(data[_VOLUME]) if has_volume else 0)


def _volume(modifier: int) -> int:
  """Returns the header's volume modifier: -64 to 192, in 32nds of an octave.

  0xc1 to 0xff are -63 to -1, of which -63 stands for -64.
  """
  signed = modifier if modifier <= 0xc0 else modifier - 0x100
  return -64 if signed == -63 else signed


class _Body(Recorder):
  """Executes commands, and records what concerns the first NES chip.

  Attributes:
    loop: samples, when the command at `loop_at` was last met; None if never.
  """

  def __init__(self, data: bytes, version: int, loop_at: int | None):
    super().__init__()
    self.data, self.version = data, version
    self.loop_at, self.loop = loop_at, None
    self.streams = vgm_stream.Streams()

  def wait(self, samples: int):
    end = self.now + samples
    for time, register, value in self.streams.writes(end):
      super().wait(time - self.now)
      self.write(register, value)
    super().wait(end - self.now)

  def read(self, at: int) -> int:
    """Executes commands from offset `at` on.

    Returns:
      The offset of the end command, or of the end of the data.
    """
    data, size = self.data, len(self.data)
    while at < size:
      if at == self.loop_at:
        self.loop = self.now
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
        break
      elif command == 0x67:
        operands += self._block(at)
      elif command == 0x68:
        self._copy(data[at + 2:at + 12])
      elif 0x90 <= command <= 0x95:
        name = self.streams.command(
            command, data[at + 1:at + 1 + operands], self.now)
        if name:
          self.left_out[name] += 1
      else:
        self.left_out['commands of other chips'] += 1
      at += 1 + operands
    return at

  def _block(self, at: int) -> int:
    """Takes a data block; returns the size of its contents."""
    raw, = struct.unpack_from('<I', self.data, at + 3)
    size = raw & ~_SECOND_CHIP
    if at + 7 + size > len(self.data):
      raise ValueError(f'cut off in the data block at byte {at:#x}')
    kind, block = self.data[at + 2], self.data[at + 7:at + 7 + size]
    if kind < _COMPRESSED:
      self.streams.banks.add(kind, block)
    elif kind == _NES_MEMORY and raw & _SECOND_CHIP:
      self.left_out['data blocks of a second NES chip'] += 1
    elif kind == _NES_MEMORY and size > 2:
      self.load(*struct.unpack_from('<H', block), block[2:])
    elif kind == _COMPRESSED + _NES_SAMPLES:
      self.left_out['compressed data blocks'] += 1
    return size

  def _copy(self, operands: bytes):
    """Executes 0x68: copies samples from their bank to the chip's memory."""
    if operands[0] & 0x7f != _NES_SAMPLES:
      self.left_out['memory writes of other chips'] += 1
      return
    if operands[0] & 0x80:
      self.left_out['memory writes of a second NES chip'] += 1
      return
    begin, address, size = (int.from_bytes(operands[i:i + 3], 'little')
                            for i in (1, 4, 7))
    bank = self.streams.banks.data.get(_NES_SAMPLES, b'')
    # No more than the 64 KiB that the chip can address.
    part = bytes(bank[begin:begin + min(size or 1 << 24, 1 << 16)])
    if address < 1 << 16 and part:
      self.load(address, part)
    else:
      self.left_out['memory writes out of range'] += 1


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
  data = input_files.read(path)
  try:
    return parse(data, loops)
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

  now, loop, loop_at = 0, log.loop, None
  memory = collections.deque(block for block in log.memory if block[2])
  for i, (time, register, value) in enumerate(zip(
      log.time.tolist(), log.register.tolist(), log.value.tolist(),
      strict=True)):
    if loop is not None and time >= loop:
      wait(loop - now)
      now, loop, loop_at = loop, None, len(body)
    wait(time - now)
    now = time
    while memory and memory[0][0] <= i:
      body += _memory_block(*memory.popleft()[1:])
    body.extend((0xb4, register, value))
  if loop is not None:
    wait(loop - now)
    now, loop_at = loop, len(body)
  for _, *block in memory:
    body += _memory_block(*block)
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
  header[_VOLUME] = (-63 if log.volume == -64 else log.volume) & 0xff
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
