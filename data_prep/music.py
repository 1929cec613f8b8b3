"""Composes tunes: keys, progressions, motifs that return, bass, drums.

Everything is counted in ticks, 12 to a beat, and in *steps* of the scale
(step 0 is the tonic, 7 the tonic an octave up), so that the same motif can be
set over any chord of any key. `compose` fills named parts: a `lead` melody,
a `harmony` below it, an `echo` of it, an `arpeggio`, a `bass`, all of one
note at a time; `chords` of three; and `drums` in General MIDI pitches. What
plays them is up to the caller.
"""

from typing import NamedTuple

import numpy as np

from data_prep.styles import CRASH, SNARE, TICKS, TOM, Style

# Lowest root of a chord in the accompaniment; octaves of a fugue's voices.
_LOWEST_ROOT = {'bass': 36, 'arpeggio': 48, 'chords': 52}
_FUGUE_OCTAVE = {'lead': 12, 'harmony': 0, 'bass': -12}
MELODIC_PARTS = ('lead', 'harmony', 'echo', 'arpeggio', 'bass')


class Note(NamedTuple):
  """A note: when and how long in ticks, MIDI pitch, MIDI velocity."""
  start: int
  length: int
  pitch: int
  velocity: int


class Mode(NamedTuple):
  """Seven semitones of a scale, and what single chords change in it."""
  scale: tuple[int, ...]
  altered: dict[tuple[int, int], int]  # (chord, degree) -> semitones.


MODES = {
    'major': Mode((0, 2, 4, 5, 7, 9, 11), {}),
    # The dominant has its leading note.
    'minor': Mode((0, 2, 3, 5, 7, 8, 10), {(4, 6): 1}),
    'dorian': Mode((0, 2, 3, 5, 7, 9, 10), {}),
    # Mixolydian, and the subdominant is a seventh chord too: its minor
    # seventh is the blue third of the key.
    'blues': Mode((0, 2, 4, 5, 7, 9, 10), {(3, 2): -1, (4, 6): 1}),
}
# chord -> chords that may follow it, the likely ones named more than once.
_FOLLOWS = {
    0: (3, 3, 4, 4, 5, 5, 1, 2), 1: (4, 4, 4, 3), 2: (5, 5, 3),
    3: (4, 4, 0, 0, 1), 4: (0, 0, 0, 5), 5: (3, 3, 1, 4), 6: (0, 2),
}
_LOOPS = {
    'major': ((0, 4, 5, 3), (0, 5, 3, 4), (5, 3, 0, 4), (0, 3, 4, 3)),
    'minor': ((0, 6, 5, 4), (0, 5, 2, 6), (0, 3, 5, 4), (0, 6, 5, 6)),
    'dorian': ((0, 3, 0, 6), (0, 6, 3, 0), (0, 2, 3, 6)),
}
_TWELVE_BARS = (0, 3, 0, 0, 3, 3, 0, 0, 4, 3, 0, 4)
_FALLING_FIFTHS = (0, 3, 6, 2, 5, 1, 4, 0)


class Song(NamedTuple):
  """A finished song: `parts` by name, `length` in ticks, `tempo` in bpm."""
  style: Style
  tempo: float
  length: int
  parts: dict[str, list[Note]]


class _Key(NamedTuple):
  tonic: int  # MIDI number of step 0.
  mode: str

  def pitch(self, step: int, chord: int) -> int:
    octave, degree = divmod(step, 7)
    mode = MODES[self.mode]
    return (self.tonic + 12 * octave + mode.scale[degree] +
            mode.altered.get((chord, degree), 0))


  def above_root(self, chord: int, digit: int, lowest: int) -> int:
    """Returns the pitch `digit` steps above a root in lowest .. lowest + 11."""
    root = self.pitch(chord, chord)
    return (lowest + (root - lowest) % 12 +
            self.pitch(chord + digit, chord) - root)


class _Section(NamedTuple):
  """Bars that come back as a whole: a chord and a melody for each."""
  chords: list[int]
  melody: list[list[tuple[int, int, int]]]  # Bars of (onset, length, step).
  bass: str
  arpeggio: str
  backing: str
  drums: dict[int, str]


def compose(rng: np.random.Generator, style: Style, tonic: int,
            tempo: float, max_seconds: float = 55) -> Song:
  """Composes one song.

  Args:
    rng: the only source of chance.
    style: one of `styles.STYLES`.
    tonic: pitch class of the key, 0 (C) to 11.
    tempo: beats a minute.
    max_seconds: the longest form that fits in this is preferred.
  """
  key = _Key(57 + (tonic - 57) % 12, _pick(rng, style.modes))
  parts = {name: [] for name in (*MELODIC_PARTS, 'chords', 'drums')}
  if style.harmony == 'fugue':
    now = _fugue(rng, parts, style, key, tempo, max_seconds)
  else:
    now = _sing(rng, parts, style, key, tempo, max_seconds)
    parts['echo'] = _echo(parts['lead'], 2 * style.grid)
  _finish(parts, now, style, key)
  return Song(style, tempo, now + style.bar, parts)


def _sing(rng, parts, style, key, tempo, max_seconds) -> int:
  """Fills the parts with sections of melody and accompaniment."""
  sections = {name: _section(rng, style, key) for name in 'AB'}
  if rng.random() < .5:  # B contrasts in melody over the drums and bass of A.
    sections['B'] = sections['B']._replace(
        bass=sections['A'].bass, drums=sections['A'].drums)
  seconds = style.bar / TICKS * 60 / tempo
  forms = [form for form in ('AABA', 'ABA', 'AAB', 'AB', 'AA')
           if seconds * sum(len(sections[s].chords) for s in form)
           <= max_seconds]
  form = _pick(rng, forms[:3]) if forms else 'A'
  now = 0
  if rng.random() < .4:
    now = _introduce(parts, style, key, sections['A'])
  for turn, name in enumerate(form):
    again = name in form[:turn]
    melody = sections[name].melody
    if again:
      melody = _ornament(rng, melody, style.grid)
    now = _play(parts, now, style, key, sections[name], melody)
  return now


def _fugue(rng, parts, style, key, tempo, max_seconds) -> int:
  """Fills three parts with a subject handed around, two bars at a time.

  A voice sings the subject, then the countersubject, then free long notes,
  while the next voice enters with the subject over the next chords, which
  makes the answer tonal.
  """
  rhythms = [_pick(rng, style.rhythms) for _ in range(4)]
  subject, counter = (
      [_motif(rng, rhythm, style.grid) for rhythm in pair]
      for pair in (rhythms[:2], rhythms[2:]))
  free = [_motif(rng, 'x-------x---x---', style.grid)] * 2
  order = _pick(rng, (('lead', 'harmony', 'bass'),
                      ('harmony', 'lead', 'bass'),
                      ('bass', 'harmony', 'lead')))
  entries = int(np.clip(max_seconds * tempo / 60 / style.beats // 2 - 1, 3, 9))
  chords = [0, 0, 4, 4, 0, 4, *_FALLING_FIFTHS[:-1] * 2][:2 * entries]
  chords[-2:] = 1, 4
  for entry in range(entries):
    pair = chords[2 * entry:2 * entry + 2]
    for age, motifs in enumerate((subject, counter, free)[:entry + 1]):
      name = order[(entry - age) % 3]
      for bar, (chord, motif) in enumerate(zip(pair, motifs, strict=True)):
        for onset, length, step in motif:
          step += chord if chord < 4 else chord - 7
          if onset % TICKS == 0:
            step = _nearest(step, chord)
          parts[name].append(Note(
              (2 * entry + bar) * style.bar + onset, length,
              key.pitch(step, chord) + _FUGUE_OCTAVE[name], 100 - 8 * age))
  return 2 * entries * style.bar


def _pick(rng, items):
  return items[int(rng.integers(len(items)))]


def _section(rng, style, key) -> _Section:
  chords = _progression(rng, style, key.mode)
  return _Section(chords, _melody(rng, style, chords),
                  _pick(rng, style.bass), _pick(rng, style.arpeggio),
                  _pick(rng, style.chords), _pick(rng, style.drums))


def _progression(rng, style, mode) -> list[int]:
  """Returns a chord (its root's degree) for each bar of a section."""
  if style.harmony == 'blues':
    return list(_TWELVE_BARS)
  if style.harmony == 'loop':
    return list(_pick(rng, _LOOPS[mode])) * 2
  if rng.random() < .2:
    return list(_FALLING_FIFTHS)
  # A period: a phrase that stops on the dominant, and one that comes home.
  opening = [int(_pick(rng, (0, 0, 0, 5)))]
  for _ in range(2):
    opening.append(int(_pick(rng, _FOLLOWS[opening[-1]])))
  return [*opening, 4, *opening[:2], 4, 0]


def _motif(rng, rhythm: str, grid: int) -> list[tuple[int, int, int]]:
  """Gives a bar of rhythm a contour: (onset, length, step from the first)."""
  notes, step = [], 0
  for onset, length, _ in _read(rhythm, grid):
    notes.append((onset, length, step))
    move = int(_pick(rng, (-2, -1, -1, -1, 1, 1, 1, 2, 3)))
    step += move if abs(step + move) <= 3 else -move
  return notes


def _melody(rng, style, chords):
  """Sets two motifs over the chords: a b a' c, the last bar a cadence."""
  first, second = (
      _motif(rng, _pick(rng, style.rhythms), style.grid) for _ in range(2))
  close = [(0, style.bar - TICKS, 0)]
  bars, base = [], int(rng.integers(0, 5))
  for number, chord in enumerate(chords):
    place = number % 4
    at_end = number == len(chords) - 1
    motif = (first, second, first, close)[3 if at_end else place]
    # The line rises through the phrase and comes down at its end.
    goal = base + (0, 1, 2, 0)[place]
    if at_end:
      goal = 0 if base < 4 else 7
    bars.append([
        (onset, length,
         _nearest(goal + step, chord) if onset % TICKS == 0 else goal + step)
        for onset, length, step in motif])
  return bars


def _nearest(step: int, chord: int) -> int:
  """Returns the chord tone nearest to `step`; of two the lower one."""
  return next(step + move for move in (0, -1, 1, -2, 2)
              if (step + move - chord) % 7 in (0, 2, 4))


def _ornament(rng, melody, grid):
  """Varies a melody on its return: some long notes turn to the step above."""
  bars = []
  for bar in melody:
    notes = []
    for onset, length, step in bar:
      if length == TICKS and rng.random() < .3:
        turn = onset + length - 2 * grid
        notes += [(onset, length - 2 * grid, step), (turn, grid, step + 1),
                  (turn + grid, grid, step)]
      else:
        notes.append((onset, length, step))
    bars.append(notes)
  return bars


def _read(pattern: str, grid: int):
  """Yields (onset, length, character) of each note of a pattern."""
  at = 0
  while at < len(pattern):
    end = at + 1
    if pattern[at] not in '-.':
      while end < len(pattern) and pattern[end] == '-':
        end += 1
      yield at * grid, (end - at) * grid, pattern[at]
    at = end


def _play(parts, start, style, key, section, melody) -> int:
  """Adds the bars of a section to the parts; returns where it ends."""
  for number, (chord, bar) in enumerate(
      zip(section.chords, melody, strict=True)):
    now = start + number * style.bar
    _backing(parts, now, style, key, chord, section)
    fill = number % 4 == 3
    _strike(parts, now, style, section.drums, fill, number == 0)
    for onset, length, step in bar:
      velocity = 100 + 6 * (onset == 0) + 2 * (number % 4)
      parts['lead'].append(
          Note(now + onset, length, key.pitch(step, chord), velocity))
      # A third below, or a sixth where only that is of the chord.
      below = step - 2
      if onset % TICKS == 0 and (below - chord) % 7 not in (0, 2, 4):
        below = step - 5
      parts['harmony'].append(
          Note(now + onset, length, key.pitch(below, chord), velocity - 16))
  return start + len(section.chords) * style.bar


def _backing(parts, now, style, key, chord, section) -> None:
  for name, pattern, velocity in (
      ('bass', section.bass, 96), ('arpeggio', section.arpeggio, 76)):
    for onset, length, digit in _read(pattern, style.grid):
      pitch = key.above_root(chord, int(digit), _LOWEST_ROOT[name])
      parts[name].append(Note(now + onset, length, pitch, velocity))
  for onset, length, _ in _read(section.backing, style.grid):
    parts['chords'] += [
        Note(now + onset, length,
             key.above_root(chord, digit, _LOWEST_ROOT['chords']), 70)
        for digit in (0, 2, 4)]


def _strike(parts, now, style, drums, fill, first) -> None:
  """Adds a bar of drums; the last beat of a phrase is a fill."""
  if not drums:
    return
  for pitch, pattern in drums.items():
    for onset, _, mark in _read(pattern, style.grid):
      if not (fill and onset >= style.bar - TICKS):
        parts['drums'].append(
            Note(now + onset, style.grid, pitch,
                 {'o': 60, 'x': 90, 'X': 115}[mark]))
  if fill:
    for onset in range(style.bar - TICKS, style.bar, style.grid):
      late = onset >= style.bar - TICKS // 2
      parts['drums'].append(
          Note(now + onset, style.grid, TOM if late else SNARE, 105))
  if first:
    parts['drums'].append(Note(now, TICKS, CRASH, 110))


def _introduce(parts, style, key, section) -> int:
  """Two bars of accompaniment over the first chord."""
  for number in range(2):
    now = number * style.bar
    _backing(parts, now, style, key, section.chords[0], section)
    _strike(parts, now, style, section.drums, number == 1, False)
  return 2 * style.bar


def _finish(parts, now, style, key) -> None:
  """Everybody holds the tonic chord, each near the note before."""
  for name, steps in (('lead', (0,)), ('harmony', (2,)), ('arpeggio', (4,)),
                      ('chords', (0, 2, 4)), ('bass', (0,))):
    if parts[name]:
      last = parts[name][-1].pitch
      for step in steps:
        pitch = last - 5 + (key.pitch(step, 0) - last + 5) % 12
        parts[name].append(Note(now, style.bar - 3, pitch, 96))
  if parts['drums']:
    parts['drums'].append(Note(now, TICKS, CRASH, 110))


def _echo(lead, delay):
  """Returns the lead again, later and softer."""
  return [note._replace(start=note.start + delay, velocity=note.velocity - 30)
          for note in lead]
