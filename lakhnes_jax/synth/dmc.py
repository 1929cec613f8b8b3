"""The delta modulation channel (DMC): 1-bit samples from memory.

Source: https://www.nesdev.org/wiki/APU_DMC.
"""

import numpy as np

PERIODS = (
    (428, 380, 340, 320, 286, 254, 226, 214, 190, 160, 142, 128, 106, 84, 72,
     54),
    (398, 354, 316, 298, 276, 236, 210, 198, 176, 148, 132, 118, 98, 78, 66,
     50))  # Clocks a bit, by rate; NTSC and PAL.
_BASE = 0xc000  # Samples lie from here on; $FFFF is followed by $8000.


class SampleChannel:
  """Plays samples and records the output level.

  Writes to $4012 and $4013 take effect when a sample starts or restarts.

  Attributes:
    levels: (clocks, level 0-127) of each change so far.
  """

  def __init__(self, pal: bool):
    self.periods = PERIODS[pal]
    self.memory = bytearray(0x10000)
    self.period = self.periods[0]
    self.loop = self.playing = False
    self.address, self.length = _BASE, 1  # Of the next sample to start.
    self.place, self.bits = _BASE, 8  # Of this one: next byte, bits left.
    self.level = 0
    self.next = 0  # Clocks of the next bit.
    self.levels = [(0, 0)]

  def load(self, address: int, data: bytes):
    end = min(address + len(data), len(self.memory))
    self.memory[address:end] = data[:end - address]

  def write(self, clocks: int, register: int, value: int):
    """Takes a write to $4010 .. $4013 or $4015."""
    self.run_to(clocks)
    if register == 0x10:
      self.period, self.loop = self.periods[value & 15], value & 0x40 > 0
    elif register == 0x11:
      self.level = value & 0x7f
      self.levels.append((clocks, self.level))
    elif register == 0x12:
      self.address = _BASE + 64 * value
    elif register == 0x13:
      self.length = 16 * value + 1
    elif not value & 0x10:
      self.playing = False
    elif not self.playing:
      self.playing = True
      self.next = clocks + self.period
      self._restart()

  def _restart(self):
    self.place, self.bits = self.address, 8 * self.length

  def run_to(self, clocks: int):
    """Plays the bits that are due before `clocks`."""
    while self.playing and self.next < clocks:
      up = self.memory[self.place] >> (-self.bits & 7) & 1
      if 0 <= self.level + 4 * up - 2 <= 127:
        self.level += 4 * up - 2
        self.levels.append((self.next, self.level))
      self.next += self.period
      self.bits -= 1
      if not self.bits & 7:
        self.place = self.place + 1 if self.place < 0xffff else 0x8000
      if not self.bits:
        self.playing = self.loop
        self._restart()

  def rows(self, ratio: int) -> np.ndarray:
    """[R, 2] int64: step (of `ratio` / 2**24 clocks) and level; the last one
    of each step."""
    levels = np.array(self.levels, np.int64)
    step = -(-(levels[:, 0] << 24) // ratio)
    last = np.diff(step, append=-1) != 0
    return np.stack([step, levels[:, 1]], 1)[last]
