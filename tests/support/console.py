"""Consoles under py65 that note what programs write to the sound chip."""

import struct

from py65.devices import mpu6502

_RETURN = 0x4ff0


class Cartridge:
  """Address space with program memory in 4-KB banks.

  Attributes:
    program: bytes of all banks.
    banks: [8] of those at $8000 and on; None where nothing can be read.
    writes: (register less $4000, value) since `writes` was last emptied.
  """

  def __init__(self, program, banks, banked):
    self.program, self.banks, self.banked = program, list(banks), banked
    self.ram, self.writes = bytearray(b'\xa5' * 0x800), []

  def __getitem__(self, address):
    if isinstance(address, slice):
      return [self[i] for i in range(*address.indices(1 << 16))]
    if address < 0x2000:
      return self.ram[address & 0x7ff]
    if address == 0x2002:
      return 0x80  # The PPU: a frame has just ended.
    assert address >= 0x8000, hex(address)
    bank = self.banks[(address - 0x8000) >> 12]
    assert bank is not None, hex(address)
    return self.program[bank << 12 | address & 0xfff]

  def __setitem__(self, address, value):
    if address < 0x2000:
      self.ram[address & 0x7ff] = value
    elif 0x4000 <= address < 0x4018:
      self.writes.append((address - 0x4000, value))
    elif self.banked and 0x5ff8 <= address < 0x6000:
      assert value << 12 < len(self.program), value
      self.banks[address - 0x5ff8] = value
    else:
      assert address in (0x2000, 0x2001, 0x5ffa), hex(address)

  def samples(self, address, length):
    """Bytes that the sample channel reads."""
    begin = 0xc000 + 64 * address
    return bytes(self[begin:begin + 16 * length + 1])


class Console:
  """A processor, and the program of an NSF file or a ROM."""

  def __init__(self, cartridge):
    self.cartridge = cartridge
    self.mpu = mpu6502.MPU(memory=cartridge, pc=0)
    self.mpu.p |= self.mpu.INTERRUPT

  @classmethod
  def of_nsf(cls, data):
    size = int.from_bytes(data[0x7d:0x80], 'little')
    program, banks = data[0x80:0x80 + size], data[0x70:0x78]
    if any(banks):
      assert size % 4096 == 0
      self = cls(Cartridge(program, banks, True))
    else:
      load, = struct.unpack_from('<H', data, 8)
      assert load == 0x8000 and size <= 0x8000
      self = cls(Cartridge(program.ljust(0x8000, b'\0'), range(8), False))
    self.init, self.play = struct.unpack_from('<HH', data, 10)
    return self

  @classmethod
  def of_rom(cls, data):
    """A console that was just switched on, and has got through its start."""
    assert data[:4] == b'NES\x1a' and data[7] & 0x0c == 0x08
    program = data[16:16 + 0x4000 * data[4]]
    mapper = data[6] >> 4 | data[7] & 0xf0
    assert mapper in (0, 31)
    if mapper:
      last = len(program) // 4096 - 1
      self = cls(Cartridge(program, [None] * 7 + [last], True))
    else:
      assert len(program) == 0x8000
      self = cls(Cartridge(program, range(8), False))
    mpu = self.mpu
    mpu.pc = mpu.WordAt(0xfffc)
    before = None
    while mpu.pc != before:  # It ends in a jump to itself.
      before = mpu.pc
      mpu.step()
    return self

  def call(self, address, a=0, x=0):
    """Calls a routine; returns its writes and how many cycles it took."""
    mpu = self.mpu
    mpu.a, mpu.x, mpu.sp = a, x, 0xff
    mpu.stPushWord(_RETURN - 1)
    mpu.pc = address
    return self._run(lambda: mpu.pc == _RETURN)

  def interrupt(self):
    """Begins a frame of the picture; returns as `call`."""
    mpu = self.mpu
    pc, state = mpu.pc, (mpu.a, mpu.x, mpu.y, mpu.sp)
    mpu.stPushWord(pc)
    mpu.stPush(mpu.p & ~mpu.BREAK | mpu.UNUSED)
    mpu.pc = mpu.WordAt(0xfffa)
    done = self._run(lambda: mpu.pc == pc)
    assert state == (mpu.a, mpu.x, mpu.y, mpu.sp)
    return done

  def _run(self, ends):
    self.cartridge.writes = []
    before = self.mpu.processorCycles
    while not ends():
      self.mpu.step()
      assert self.mpu.processorCycles - before < 10**5
    return self.cartridge.writes, self.mpu.processorCycles - before


def check(console, song, frame, extra=50, limit=None):
  """Plays a song to its end and on; returns the most cycles of a frame.

  Args:
    console: that has been told to start the song.
    song: `frames.Frames`; each write has to be in it, and nothing else.
    frame: function, plays a frame and returns as `Console.call`.
    extra: frames after the end, or the loop.
    limit: frames in all; None for no limit.
  """
  order = list(range(len(song.table)))
  if song.loop is None:
    order += [None] * extra
  else:
    order += order[song.loop:][:extra]
  most, base = 0, None
  for number in order[:limit]:
    writes, cycles = frame()
    most = max(most, cycles)
    ours = [] if number is None else song.writes(number)
    if any(register == 0x12 for register, _ in ours):
      # Samples lie elsewhere; where they lie, they are the same.
      values, others = dict(ours), dict(writes)
      base = others[0x12] - values[0x12] if base is None else base
      ours = [(r, v + base * (r == 0x12)) for r, v in ours]
    if any(r == 0x15 and v & 0x10 for r, v in ours):
      state = _sample_of(song, number)
      assert (console.cartridge.samples(state[0] + base, state[1]) ==
              song.samples[64 * state[0]:][:16 * state[1] + 1]), number
    assert writes == ours, number
  return most


def _sample_of(song, number):
  """Address and length that the sample channel has in a frame."""
  return [[v for v in song.table[:number + 1, column].tolist() if v >= 0][-1]
          for column in (2, 3)]
