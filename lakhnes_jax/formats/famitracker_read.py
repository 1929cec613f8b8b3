"""FamiTracker's text export -> register logs, by playing it frame by frame.

Read are the four voices of the console in the first track: notes, volumes,
macros, and the effects that change notes or order (0 1 2 3 A B C D F G Q R S
V).
What else there is, such as samples, vibrato and expansion sound, is counted by
name. Slides move in semitones, as songs have no other pitches.

Sources: Source/TextExporter.cpp and SoundGen.cpp of Dn-FamiTracker (grammar,
tempo); http://famitracker.com/wiki (effects, macros).
"""

import collections
import re
from typing import NamedTuple

import numpy as np

from lakhnes_jax import events as ev
from lakhnes_jax import nes
from lakhnes_jax.formats import looping
from lakhnes_jax.synth import registers
from lakhnes_jax.synth import score as scores
from lakhnes_jax.synth.register_log import RegisterLog

_MAX_FRAMES = 30 * 60 * 60  # Half an hour.
_TOKEN = re.compile(r'"((?:[^"]|"")*)"|(\S+)')
_SEMITONES = {'C': 0, 'D': 2, 'E': 4, 'F': 5, 'G': 7, 'A': 9, 'B': 11}
_ACCIDENTALS = {'-': 0, '.': 0, '#': 1, '+': 1, 'b': -1, 'f': -1}
_VOLUME, _ARPEGGIO, _PITCH, _HIGH_PITCH, _DUTY = range(5)
_LOWEST = (24, 24, 12, 1)  # MIDI notes of the tracker's lowest.
_SLIDE_STEPS = 8  # Of a volume.
_HALT, _RELEASE = 'halt', 'release'


class Macro(NamedTuple):
  """A sequence of an instrument; `loop` and `release` are -1 if there is none.
  """
  loop: int
  release: int
  setting: int
  values: tuple[int, ...]


class Cell(NamedTuple):
  """A row of a channel: what is None stays as it is."""
  note: int | str | None
  instrument: int | None
  volume: int | None
  effects: tuple[tuple[str, int], ...]


class Module:
  """What a text says, as far as it is read.

  Attributes:
    macros: (kind, number) -> `Macro`.
    instruments: number -> numbers of macros, -1 for none.
    orders: of the first track, a pattern for each channel.
    cells: (pattern, channel, row) -> `Cell`.
    left_out: counts of what is not read, by name.
  """

  def __init__(self, text: str):
    self.macros, self.instruments, self.cells = {}, {}, {}
    self.orders, self.strings = [], {}
    self.length, self.speed, self.tempo, self.split = 0, 6, 150, 32
    self.pal, self.rate, self.n_tracks = False, 0, 0
    self.left_out = collections.Counter()
    self._pattern = None
    for number, line in enumerate(text.split('\n'), 1):
      tokens = [bare or quoted.replace('""', '"')
                for quoted, bare in _TOKEN.findall(line.strip())]
      if tokens and not tokens[0].startswith('#'):
        try:
          self._read(tokens[0].upper(), tokens[1:])
        except (ValueError, IndexError, KeyError) as error:
          raise ValueError(
              f'line {number}: {line.strip()[:60]!r} cannot be read'
              ) from error
    if not self.n_tracks or not self.orders:
      raise ValueError('no track in it')

  def _read(self, name, rest):
    numbers = [int(t) for t in rest if re.fullmatch(r'-?\d{1,6}', t)]
    if name in ('TITLE', 'AUTHOR'):
      self.strings[name] = rest[0]
    elif name == 'MACHINE':
      self.pal = numbers[0] == 1
    elif name == 'FRAMERATE':
      self.rate = min(max(numbers[0], 0), 800)
    elif name == 'SPLIT':
      self.split = numbers[0]
    elif name == 'EXPANSION':
      self.left_out['expansion chips'] += numbers[0] > 0
    elif name == 'MACRO':
      kind, index, loop, release, setting = numbers[:5]
      values = tuple(numbers[5:])
      if values:
        self.macros[kind, index] = Macro(
            loop if loop < len(values) else -1, release, setting, values)
    elif name == 'INST2A03':
      number, *macros = numbers[:6]
      if len(macros) != 5:
        raise ValueError('five macros expected')
      self.instruments[number] = tuple(macros)
    elif name == 'USEGROOVE':
      self.left_out['grooves'] += 1
    elif name == 'TRACK':
      self.n_tracks += 1
      if self.n_tracks == 1:
        self.length, self.speed, self.tempo = numbers[:3]
        if not (1 <= self.length <= 256 and 1 <= self.speed <= 255 and
                0 <= self.tempo <= 255):
          raise ValueError('out of range')
      else:
        self.left_out['further tracks'] += 1
    elif self.n_tracks == 1 and name == 'ORDER':
      self.orders.append([int(p, 16) for p in rest[2:7]])
    elif self.n_tracks == 1 and name == 'PATTERN':
      self._pattern = int(rest[0], 16)
    elif self.n_tracks == 1 and name == 'ROW':
      row = int(rest[0], 16)
      for channel, part in enumerate(' '.join(rest[1:]).split(':')[1:6]):
        self.cells[self._pattern, channel, row] = _cell(part.split(), channel)

  def row(self, order: int, row: int) -> list[Cell]:
    """The cells of the channels, five of them at most."""
    return [self.cells.get((pattern, channel, row), _EMPTY)
            for channel, pattern in enumerate(self.orders[order])]


_EMPTY = Cell(None, None, None, ())


def _cell(parts: list[str], channel: int) -> Cell:
  note, instrument, volume, *effects = parts
  if note in ('...', '---', '==='):
    pitch = {'...': None, '---': _HALT, '===': _RELEASE}[note]
  elif channel == 3:
    pitch = int(note[0], 16)
  elif note[0] == '^':
    pitch = None
  else:
    pitch = (_SEMITONES[note[0].upper()] + _ACCIDENTALS[note[1]] +
             12 * int(note[2]))
  return Cell(pitch, None if instrument in ('..', '&&') else
              int(instrument, 16), None if volume == '.' else int(volume, 16),
              tuple((e[0].upper(), int(e[1:], 16)) for e in effects
                    if e != '...'))


class _Channel:
  """One channel while it plays.

  Attributes:
    note: in semitones from the tracker's lowest, or a pitch of noise; None
      where the channel is silent.
  """

  def __init__(self, module: Module, number: int):
    self.module, self.number = module, number
    self.note = self.instrument = self.target = None
    self.volume = 15 * _SLIDE_STEPS
    self.default_duty = 0
    self.delayed, self.delay, self.cut = None, 0, -1
    self.arpeggio = self.tick_count = self.volume_slide = 0
    self.slide = self.portamento = 0.  # Semitones a frame.
    self.macros, self.places = [None] * 5, [0] * 5
    self.values = [15, 0, 0, 0, 0]
    self.triggered = self.releasing = False

  def row(self, cell: Cell):
    if self.delayed:
      self.apply(self.delayed)
    self.delayed = None
    delay = next((v for e, v in cell.effects if e == 'G'), 0)
    if delay:
      self.delayed, self.delay = cell, delay
    else:
      self.apply(cell)

  def apply(self, cell: Cell):
    moves = None
    for effect, value in cell.effects:
      moves = self._effect(effect, value) or moves
    if cell.volume is not None:
      self.volume = cell.volume * _SLIDE_STEPS
    if cell.instrument is not None:
      self.instrument = cell.instrument
    if cell.note == _HALT:
      self.note = None
    elif cell.note == _RELEASE:
      self.releasing = True
      for kind, macro in enumerate(self.macros):
        if macro and macro.release >= 0:
          self.places[kind] = macro.release
    elif cell.note is not None:
      if self.portamento and self.note is not None:
        self.target = cell.note
      else:
        self.note, self.target = float(cell.note), None
      self._trigger()
    if moves and self.note is not None:
      self.target = self.note + moves

  def _effect(self, effect, value) -> int | None:
    """Takes an effect; returns by how many semitones the note shall move."""
    high, low = value >> 4, value & 15
    if effect == '0':
      self.arpeggio = value
    elif effect in '12':
      # About so many semitones a frame, in the middle of the range.
      self.slide, self.portamento = (value / 16 if effect == '1'
                                     else -value / 16), 0.
    elif effect == '3':
      self.portamento, self.slide = value / 16, 0.
    elif effect in 'QR':
      self.portamento = (2 * high + 1) / 16
      return low if effect == 'Q' else -low
    elif effect == 'A':
      self.volume_slide = high - low
    elif effect == 'S':
      self.cut = value
    elif effect == 'V':
      self.default_duty = self.values[_DUTY] = value
    elif effect not in 'BCDFG':
      self.module.left_out[f'effects {effect}xx'] += 1
    return None

  def _trigger(self):
    used = self.module.instruments.get(self.instrument, (-1,) * 5)
    self.macros = [self.module.macros.get((kind, number))
                   for kind, number in enumerate(used)]
    self.places = [0] * 5
    self.values = [15, 0, 0, 0, self.default_duty]
    self.tick_count, self.triggered, self.releasing = 0, True, False

  def tick(self) -> tuple[int, int, int, bool]:
    """Plays a frame: note, level, tone, and whether one was triggered."""
    if self.delayed:
      if not self.delay:
        self.apply(self.delayed)
        self.delayed = None
      self.delay -= 1
    if not self.cut:
      self.note = None
    self.cut -= self.cut >= 0
    triggered, self.triggered = self.triggered, False
    if self.note is None:
      return 0, 0, 0, False
    self._move()
    for kind in range(5):
      self._step(kind)
    level = self._level()
    pitch = self.note + self.values[_ARPEGGIO]
    macro = self.macros[_ARPEGGIO]
    if macro and macro.setting == 1:
      pitch = self.values[_ARPEGGIO]
    steps = 0, self.arpeggio >> 4, self.arpeggio & 15
    pitch = round(pitch) + steps[self.tick_count % 3]
    self.tick_count += 1
    if self.number == 3:
      pitch &= 15
    pitch += _LOWEST[self.number]
    if not level:
      return 0, 0, 0, False
    if pitch not in ev.VOICES[self.number].pitches:
      self.module.left_out['frames with notes out of range'] += 1
      return 0, 0, 0, False
    tone = 0 if self.number == 2 else self.values[_DUTY] & (
        1 if self.number == 3 else 3)
    return pitch, 1 if self.number == 2 else level, tone, triggered

  def _move(self):
    """A frame of the slides of pitch and volume."""
    if self.target is not None and self.portamento:
      distance = self.target - self.note
      self.note += max(-self.portamento, min(self.portamento, distance))
    self.note += self.slide
    self.volume = min(max(self.volume + self.volume_slide, 0),
                      15 * _SLIDE_STEPS)

  def _step(self, kind):
    """A frame of a macro."""
    macro = self.macros[kind]
    if macro is None or self.places[kind] >= len(macro.values):
      return
    place = self.places[kind]
    value = macro.values[place]
    if kind == _ARPEGGIO and macro.setting == 2:
      self.note += value
    else:
      self.values[kind] = value
    if kind in (_PITCH, _HIGH_PITCH):
      self.module.left_out['frames of pitch macros'] += 1
    place += 1
    waits = (place == macro.release + 1 and macro.release >= 0 and
             not self.releasing)
    if macro.loop >= 0 and (place >= len(macro.values) or
                            (waits and macro.loop < macro.release)):
      place = macro.loop
    elif waits:
      place = macro.release
    self.places[kind] = place

  def _level(self) -> int:
    column = self.volume // _SLIDE_STEPS
    level = self.values[_VOLUME] * column // 15
    return max(level, 1) if self.values[_VOLUME] > 0 and column else 0


def read(data: bytes) -> RegisterLog:
  """Plays a text once, to its end or until it comes round.

  Returns:
    The log, with `loop` if it comes round.

  Raises:
    ValueError: it is no such text; names the line.
  """
  text = data.decode('utf-8', 'replace')
  if 'FamiTracker' not in text[:80] and 'TRACK' not in text:
    raise ValueError("not FamiTracker's text export")
  module = Module(text)
  frames, loop = _play(module)
  rate = module.rate or nes.FRAME_RATES[module.pal]
  starts = np.rint(
      np.arange(len(frames)) * nes.SAMPLE_RATE / rate).astype(np.int64)
  played = np.array(frames, np.int64).reshape(-1, 4, 4)
  onset = played[..., 3] > 0
  score = scores.compact(scores.Score(
      starts, played[..., :3].astype(np.uint8), onset,
      round(len(frames) * nes.SAMPLE_RATE / rate)))
  log = registers.from_score(score, low_notes=True)
  tags = {'title': module.strings.get('TITLE', ''),
          'author': module.strings.get('AUTHOR', '')}
  if loop is not None:
    log = looping.close(log, int(starts[loop]))
  return log._replace(
      tags={k: v for k, v in tags.items() if v},
      left_out={k: v for k, v in module.left_out.items() if v})


def _play(module: Module) -> tuple[list, int | None]:
  """(note, level, tone, triggered) of each voice and frame; loop frame."""
  channels = [_Channel(module, number) for number in range(4)]
  order = row = accumulator = 0
  speed, tempo = module.speed, module.tempo
  ticks = 60 * (module.rate or (50 if module.pal else 60))
  frames, seen = [], {}
  while len(frames) < _MAX_FRAMES:
    if accumulator <= 0:
      if (order, row) in seen:
        return frames, seen[order, row]
      seen[order, row] = len(frames)
      cells = module.row(order, row)
      for channel, cell in zip(channels, cells, strict=False):
        channel.row(cell)
      module.left_out['samples'] += sum(
          isinstance(cell.note, int) for cell in cells[4:])
      jump = None
      for effect, value in (e for cell in cells for e in cell.effects):
        if effect == 'F' and value and (value < module.split or not tempo):
          speed = value
        elif effect == 'F' and value:
          tempo = value
        elif effect == 'B':
          jump = min(value, len(module.orders) - 1), 0
        elif effect == 'D':
          jump = ((jump[0] if jump else (order + 1) % len(module.orders)),
                  min(value, module.length - 1))
        elif effect == 'C':
          return frames, None
      row += 1
      if jump is not None:
        order, row = jump
      elif row >= module.length:
        order, row = (order + 1) % len(module.orders), 0
      accumulator += (ticks - tempo * 24 % speed) if tempo else speed
    accumulator -= tempo * 24 // speed if tempo else 1
    frames.append([channel.tick() for channel in channels])
  raise ValueError(f'more than {_MAX_FRAMES} frames')
