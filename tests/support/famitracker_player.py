"""Plays FamiTracker's text export frame by frame, as its manual says.

Sources: Source/TextExporter.cpp of Dn-FamiTracker for the grammar, its
SoundGen.cpp for tempo; http://famitracker.com/wiki for effects and macros.
"""

import re
from typing import NamedTuple

import numpy as np

_SEMITONES = {'C': 0, 'D': 2, 'E': 4, 'F': 5, 'G': 7, 'A': 9, 'B': 11}
_TOKEN = re.compile(r'"((?:[^"]|"")*)"|(\S+)')
CHANNELS = 5


class Module:
  """A module of one track, as its text says."""

  def __init__(self, text):
    self.macros, self.instruments, self.orders = {}, {}, []
    self.cells, self.strings = {}, {}
    lines = text.split('\n')
    assert lines[0] == '# FamiTracker text export 0.4.2'
    pattern = None
    for line in lines:
      tokens = [bare if bare else quoted
                for quoted, bare in _TOKEN.findall(line)]
      if not tokens or tokens[0] == '#':
        continue
      name, *rest = tokens
      if name in ('TITLE', 'AUTHOR', 'COPYRIGHT', 'COMMENT'):
        self.strings[name], = [r.replace('""', '"') for r in rest]
      elif name in ('MACHINE', 'FRAMERATE', 'EXPANSION'):
        assert rest == ['0']
      elif name == 'SPLIT':
        assert rest == ['32']
      elif name == 'VIBRATO':
        assert rest in (['0'], ['1'])
      elif name == 'MACRO':
        kind, number, loop, release, setting = map(int, rest[:5])
        assert rest[5] == ':' and 0 <= kind <= 4 and 0 <= number < 128
        values = [int(v) for v in rest[6:]]
        assert 1 <= len(values) <= 252 and release == -1 and setting == 0
        assert all(-128 <= v <= 127 for v in values)
        self.macros[kind, number] = loop, values
      elif name == 'INST2A03':
        number, *used = map(int, rest[:6])
        assert 0 <= number < 64 and len(rest) == 7
        self.instruments[number] = [
            self.macros[kind, index] if index >= 0 else None
            for kind, index in enumerate(used)]
      elif name == 'TRACK':
        self.length, self.speed, self.tempo = map(int, rest[:3])
        assert 1 <= self.length <= 256 and len(rest) == 4
      elif name == 'COLUMNS':
        assert rest[0] == ':'
        self.columns = [int(c) for c in rest[1:]]
        assert len(self.columns) == CHANNELS
        assert all(1 <= c <= 4 for c in self.columns)
      elif name == 'ORDER':
        assert int(rest[0], 16) == len(self.orders) < 128 and rest[1] == ':'
        self.orders.append([int(p, 16) for p in rest[2:]])
        assert len(self.orders[-1]) == CHANNELS
      elif name == 'PATTERN':
        pattern = int(rest[0], 16)
        assert 0 <= pattern < 128
      elif name == 'ROW':
        row = int(rest[0], 16)
        assert row < self.length
        for channel, text_of in enumerate(' '.join(rest[1:]).split(':')[1:]):
          self.cells[pattern, channel, row] = self._cell(
              text_of.split(), channel)
        assert channel == CHANNELS - 1
      else:
        raise AssertionError(line)

  def _cell(self, parts, channel):
    note, instrument, volume, *effects = parts
    assert len(effects) == self.columns[channel]
    assert len(note) == 3 and len(instrument) == 2 and len(volume) == 1
    if note == '---':
      pitch = 'halt'
    elif note == '...':
      pitch = None
    elif channel == 3:
      assert note[1:] == '-#'
      pitch = int(note[0], 16)
    else:
      pitch = (_SEMITONES[note[0]] + {'-': 0, '#': 1}[note[1]] +
               12 * int(note[2]))
      assert 0 <= pitch < 96
    return (pitch, None if instrument == '..' else int(instrument, 16),
            None if volume == '.' else int(volume, 16),
            [(e[0], int(e[1:], 16)) for e in effects if e != '...'])


class _Channel:
  """One channel while it plays."""

  def __init__(self, module, number):
    self.module, self.number = module, number
    self.note, self.instrument, self.column = None, None, 15
    self.default_duty = self.duty = 0
    self.delayed, self.delay = None, 0
    self.triggered = False

  def row(self, cell):
    if self.delayed:
      self.apply(self.delayed)
    self.delayed = None
    delays = [v for e, v in cell[3] if e == 'G' and v]
    if delays:
      self.delayed, self.delay = cell, delays[0]
    else:
      self.apply(cell)

  def apply(self, cell):
    pitch, instrument, volume, effects = cell
    for effect, value in effects:
      if effect == 'V':
        self.default_duty = self.duty = value
    if volume is not None:
      self.column = volume
    if instrument is not None:
      self.instrument = instrument
    if pitch == 'halt':
      self.note = None
    elif pitch is not None:
      self.note, self.offset, self.volume = pitch, 0, 15
      self.duty, self.pointer, self.triggered = self.default_duty, 0, True

  def tick(self):
    """Plays a frame: note, volume, duty, whether it was triggered."""
    if self.delayed:
      if not self.delay:
        self.apply(self.delayed)
        self.delayed = None
      self.delay -= 1
    triggered, self.triggered = self.triggered, False
    if self.note is None:
      return 0, 0, 0, triggered
    macros = self.module.instruments[self.instrument]
    assert macros[2] is None and macros[3] is None
    values = []
    for macro in macros:
      if macro is None:
        values.append(None)
      else:
        loop, items = macro
        assert loop == -1
        values.append(items[min(self.pointer, len(items) - 1)])
    self.pointer += 1
    volume = 15 if values[0] is None else values[0]
    offset = values[1] or 0
    duty = self.duty if values[4] is None else values[4]
    level = volume * self.column // 15
    if volume and self.column:
      level = max(level, 1)
    pitch = self.note + offset
    if self.number == 3:
      assert 0 <= pitch < 16
      pitch += 1
    else:
      assert 0 <= pitch < 96
      pitch += 12 if self.number == 2 else 24
    if self.number == 2:
      level = 15 if level else 0
      duty = 0
    return (pitch, level, duty, triggered) if level else (0, 0, 0, triggered)


class Played(NamedTuple):
  """What a module plays.

  Attributes:
    state: [T, 4, 3] int: MIDI note, or of noise 16 less the period; level;
      duty. All 0 in silence.
    triggered: [T, 4] bool.
    halted: whether it stopped by itself.
    rows: frames at which rows began.
  """
  state: np.ndarray
  triggered: np.ndarray
  halted: bool
  rows: list[int]


def play(text, most):
  """Plays at most so many frames of a module."""
  module = Module(text)
  channels = [_Channel(module, number) for number in range(4)]
  order = row = 0
  speed, tempo, accumulator = module.speed, module.tempo, 0
  frames, rows, halted = [], [], False
  while len(frames) < most:
    if accumulator <= 0:
      rows.append(len(frames))
      jump, skip = None, False
      cells = [module.cells[pattern, channel, row]
               for channel, pattern in enumerate(module.orders[order])]
      for channel, cell in zip(channels, cells[:4], strict=True):
        channel.row(cell)
      assert cells[4][:3] == (None, None, None)
      for cell in cells:
        for effect, value in cell[3]:
          if effect == 'F':
            assert 1 <= value < 32
            speed = value
          elif effect == 'B':
            jump = value
          elif effect == 'D':
            assert not value
            skip = True
          elif effect == 'C':
            halted = True
          else:
            assert effect in 'GV'
      if halted:
        break
      row += 1
      if jump is not None:
        order, row = jump, 0
      elif skip or row == module.length:
        order, row = (order + 1) % len(module.orders), 0
      accumulator += 60 * 60 - tempo * 24 % speed
    accumulator -= tempo * 24 // speed
    frames.append([channel.tick() for channel in channels])
  played = np.array(frames, int).reshape(-1, 4, 4)
  return Played(played[..., :3], played[..., 3] > 0, halted, rows)
