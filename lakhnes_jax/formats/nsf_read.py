"""NSF files -> register logs, by running their program for some time.

The processor is py65's, which is no dependency of this package but in its extra
`nsf`. Only the console's own sound is recorded; expansion sound is counted.

Source: https://www.nesdev.org/wiki/NSF.
"""

import math
import re
import struct
from typing import NamedTuple

from lakhnes_jax import nes
from lakhnes_jax.synth.register_log import Recorder, RegisterLog

SECONDS = 180  # Where the file does not say how long a track is.
MAX_SECONDS = 3600
_HEADER = 128
# Microseconds between calls; programs of trackers are called up to 400 times
# per second.
_FASTEST = 2000
# What headers say for once a frame, whatever exactly a frame is.
_USUAL = (range(16620, 16720), range(19970, 20100))
_RETURN = 0x4ff0  # An address where no program lies.
_MAX_CYCLES = (1_000_000, 100_000)  # Of INIT, and of a call of PLAY.
# That calls of PLAY may take on average, and to spare.
_FRAME_CYCLES = math.ceil(nes.FRAME_CLOCKS[1])
_SPARE = 20 * _FRAME_CYCLES
_QUIET = 10  # Seconds without a write, after which a track is over.
_EXPANSIONS = ('VRC6', 'VRC7', 'FDS', 'MMC5', 'Namco 163', 'Sunsoft 5B')


class Header(NamedTuple):
  """What an NSF file says of itself.

  Attributes:
    songs, first: how many tracks, and the one to start with, from 1.
    load, init, play: addresses.
    title, artist, copyright: text.
    speed: microseconds between calls of PLAY.
    banks: [8] 4-KB banks first seen; all 0 if there are none.
    pal: whether to be played as on a PAL console.
    expansions: names of further sound chips.
    program: from the load address on.
    lengths: milliseconds of the tracks, as far as they are known.
  """
  songs: int
  first: int
  load: int
  init: int
  play: int
  title: str
  artist: str
  copyright: str
  speed: int
  banks: tuple[int, ...]
  pal: bool
  expansions: tuple[str, ...]
  program: bytes
  lengths: tuple[int, ...]


def header(data: bytes) -> Header:
  """Reads the header of an NSF file.

  Raises:
    ValueError: it is none, or cannot be played.
  """
  if data[:5] != b'NESM\x1a':
    raise ValueError('not an NSF file: it does not begin with "NESM"')
  if len(data) <= _HEADER:
    raise ValueError(f'an NSF file of {len(data)} bytes: no program in it')
  songs, first, load, init, play = struct.unpack_from('<BBHHH', data, 6)
  names = [data[at:at + 32].split(b'\0')[0].decode('utf-8', 'replace')
           for at in (0x0e, 0x2e, 0x4e)]
  region = data[0x7a] & 3
  pal = region == 1
  speed, = struct.unpack_from('<H', data, 0x78 if pal else 0x6e)
  banks = tuple(data[0x70:0x78])
  size = int.from_bytes(data[0x7d:0x80], 'little') or len(data)
  expansions = [name for i, name in enumerate(_EXPANSIONS)
                if data[0x7b] >> i & 1]
  if not songs:
    raise ValueError('an NSF file without songs')
  if load < 0x6000 or (load < 0x8000 and not any(banks) and not
                       data[0x7b] & 4):
    raise ValueError(f'load address ${load:04x}: $8000 to $ffff expected')
  speed = speed or nes.FRAME_MICROSECONDS[pal]
  if speed < _FASTEST:
    raise ValueError(f'an NSF file to be called every {speed} microseconds: '
                     f'{_FASTEST} or more expected')
  return Header(songs, min(max(first, 1), songs), load, init, play, *names,
                speed, banks, pal, tuple(expansions),
                data[_HEADER:_HEADER + size], _lengths(data, size))


def _lengths(data: bytes, size: int) -> tuple[int, ...]:
  """The tracks' lengths by the metadata behind the program, if any."""
  at = _HEADER + size
  while at + 8 <= len(data):
    length, name = struct.unpack_from('<I4s', data, at)
    at += 8
    if not re.fullmatch(rb'\w{4}', name) or at + length > len(data):
      break
    if name == b'time':
      return struct.unpack(f'<{length // 4}i', data[at:at + length // 4 * 4])
    at += length
  return ()


def read(data: bytes, track: int | None = None, seconds: float | None = None
        ) -> RegisterLog:
  """Plays a track and records what it writes.

  Args:
    data: the file.
    track: from 1; the one that the file starts with if None.
    seconds: how long to play; if None as the file says, or `SECONDS`.

  Returns:
    The log. It ends earlier if nothing is written for long.

  Raises:
    ValueError: no NSF file, no such track, its program does not return, or
      py65 is not installed.
  """
  head = header(data)
  track = head.first if track is None else track
  if not 1 <= track <= head.songs:
    raise ValueError(f'track {track}: 1 to {head.songs} expected')
  if seconds is None:
    known = head.lengths[track - 1:track]
    seconds = known[0] / 1000 if known and known[0] > 0 else SECONDS
  if not 0 < seconds <= MAX_SECONDS:
    raise ValueError(f'{seconds:g} seconds: up to {MAX_SECONDS} expected')
  try:
    from py65.devices.mpu6502 import MPU
  except ImportError:
    raise ValueError('reading NSF files takes py65: pip install '
                     "'lakhnes_jax[nsf]'") from None
  machine = _Machine(head, MPU)
  log = machine.run(track, seconds)
  tags = {'title': head.title, 'author': head.artist, 'date': head.copyright}
  return log._replace(tags={k: v for k, v in tags.items() if v})


class _Memory:
  """The processor's address space; notes what is written to the chip."""

  def __init__(self, head: Header, recorder: Recorder):
    self.recorder = recorder
    self.ram, self.work = bytearray(0x800), bytearray(0x2000)
    self.banked = any(head.banks)
    self.rom = bytearray(0x8000)
    self.bank_of = list(head.banks)
    if self.banked:
      self.image = bytes(head.load & 0xfff) + head.program
      for i in range(8):
        self._show(i)
    else:
      whole = bytearray(0x10000)
      program = head.program[:0x10000 - head.load]
      whole[head.load:head.load + len(program)] = program
      self.rom[:], self.work[:] = whole[0x8000:], whole[0x6000:0x8000]
    self.samples_changed = True  # What the sample channel may read.
    self.status = 0

  def _show(self, window):
    begin = self.bank_of[window] << 12
    self.rom[window << 12:window + 1 << 12] = self.image[
        begin:begin + 0x1000].ljust(0x1000, b'\0')

  def __getitem__(self, address):
    if address >= 0x8000:
      return self.rom[address - 0x8000]
    if address < 0x2000:
      return self.ram[address & 0x7ff]
    if address >= 0x6000:
      return self.work[address - 0x6000]
    return self.status if address == 0x4015 else 0

  def __setitem__(self, address, value):
    if address < 0x2000:
      self.ram[address & 0x7ff] = value
    elif 0x4000 <= address < 0x4018 and address not in (0x4014, 0x4016):
      if address == 0x4015:
        self.status = value & 0x1f
        if value & 0x10 and self.samples_changed:
          self.recorder.load(0xc000, bytes(self.rom[0x4000:]))
          self.samples_changed = False
      self.recorder.write(address - 0x4000, value)
    elif 0x5ff8 <= address < 0x6000 and self.banked:
      window = address - 0x5ff8
      if self.bank_of[window] != value:
        self.bank_of[window] = value
        self._show(window)
        self.samples_changed |= window >= 4
    elif 0x6000 <= address < 0x8000:
      self.work[address - 0x6000] = value
    elif address >= 0x4018:
      self.recorder.left_out['writes to expansion sound'] += 1


class _Machine:
  """A console as an NSF player is one."""

  def __init__(self, head: Header, processor):
    self.head = head
    self.log = Recorder(nes.CLOCKS[head.pal])
    self.memory = _Memory(head, self.log)
    self.mpu = processor(memory=self.memory, pc=0)

  def run(self, track: int, seconds: float) -> RegisterLog:
    head, log = self.head, self.log
    period = nes.SAMPLE_RATE * (
        1 / nes.FRAME_RATES[head.pal] if head.speed in _USUAL[head.pal]
        else head.speed * 1e-6)
    for register, value in ((0x15, 0x0f), (0x17, 0x40)):
      self.memory[0x4000 + register] = value
    self._call('INIT', head.init, _MAX_CYCLES[0], track - 1, int(head.pal))
    quiet, frame, start = 0, 0, self.mpu.processorCycles
    end = round(seconds * nes.SAMPLE_RATE)
    while frame * period < end and quiet * period < _QUIET * nes.SAMPLE_RATE:
      log.now = round(frame * period)
      before = log.n_writes
      self._call('PLAY', head.play, min(
          _MAX_CYCLES[1], start + _SPARE + _FRAME_CYCLES * frame -
          self.mpu.processorCycles))
      quiet = 0 if log.n_writes > before else quiet + 1
      frame += 1
    log.now = min(round(frame * period), end)
    return log.log()

  def _call(self, name, address, most, a=0, x=0):
    """Runs a routine. Its writes count as simultaneous, so that what a driver
    does step by step within a frame makes no notes of a few samples."""
    mpu = self.mpu
    mpu.a, mpu.x, mpu.sp = a, x, 0xff
    mpu.stPushWord(_RETURN - 1)
    mpu.pc = address
    first = mpu.processorCycles
    while mpu.pc != _RETURN:
      mpu.step()
      if mpu.processorCycles - first > most:
        raise ValueError(f'{name} at ${address:04x} does not return within '
                         f'{most} cycles')
