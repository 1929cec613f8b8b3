"""FamiStudio's text, which FamiStudio of any version imports.

It has no `Version`, so that it is taken for the reader's own. Patterns are
whole bars of the song's meter; notes lie at frames, and what they do frame by
frame is in the envelopes of their instruments.

Source: Docs/docs/export.md of FamiStudio (grammar), and what its reader checks:
note lengths of 1 to 18 frames, patterns of 2,048 frames, songs of 256 patterns.
"""

import itertools

import numpy as np

from lakhnes_jax import events as ev
from lakhnes_jax.formats import note_macros, transcribe
from lakhnes_jax.formats.famitracker import notes
from lakhnes_jax.synth.register_log import RegisterLog

__all__ = ('notes', 'write', 'write_log')

_MAX_NOTE = 18  # Frames of a row.
_MAX_ROWS, _MAX_PATTERNS = 112, 256
_STEPS = range(-64, 64)
_NAMES = ('C', 'C#', 'D', 'D#', 'E', 'F', 'F#', 'G', 'G#', 'A', 'A#', 'B')
_CHANNELS = ('Square1', 'Square2', 'Triangle', 'Noise')
# Rows of the default that no pattern uses, with as many frames each.
_DEFAULT = 16, 4, 6


def write(song: np.ndarray, title: str = '', author: str = '',
          loop: int | None = None) -> bytes:
  """Writes a song as text.

  Args:
    song: int32 song (see `events`).
    title, author: of the project.
    loop: sample at which the song goes on after its end.

  Raises:
    ValueError: it is empty or too long, or a note is out of range.
  """
  grid = note_macros.grid_of(song, loop, _MAX_NOTE)
  state, begins = note_macros.states_of(song, grid)
  note_macros.check_range(state, 'FamiStudio')
  found = note_macros.notes_of(state, begins, grid, len(state))
  bounds = note_macros.pattern_bounds(grid, _MAX_PATTERNS, _MAX_ROWS)
  if len(bounds) > _MAX_PATTERNS:
    raise ValueError(f'{len(grid.rows) - 1} rows make {len(bounds)} patterns: '
                     f'FamiStudio has {_MAX_PATTERNS} at most')
  spans = list(itertools.pairwise([*bounds, len(grid.rows) - 1]))
  length, beat, frames = _DEFAULT
  lines = [_line(0, 'Project', TempoMode='FamiStudio', Name=title,
                 Author=author)]
  for number, instrument in enumerate(found.instruments):
    lines += _instrument(number, instrument)
  lines.append(_line(
      1, 'Song', Name=title or 'Song', Length=len(spans),
      LoopPoint=-1 if loop is None or grid.loop_row is None
      else bounds.index(grid.loop_row),
      PatternLength=length, BeatLength=beat, NoteLength=frames, Groove=frames,
      GroovePaddingMode='Middle'))
  lines += [_settings(time, grid.rows[begin:end + 1], grid.rows_per_beat)
            for time, (begin, end) in enumerate(spans)]
  limits = [int(grid.rows[row]) for row in (*bounds, spans[-1][1])]
  for voice, name in enumerate(_CHANNELS):
    lines += _channel(voice, name, found.voices[voice], limits)
  return '\n'.join([*lines, '']).encode('utf-8', 'replace')


def write_log(log: RegisterLog) -> bytes:
  """Writes a register log as text, as it is transcribed; see `write`."""
  return write(transcribe.to_events(log), log.tags.get('title', ''),
               log.tags.get('author', ''), log.loop)


def _line(depth: int, name: str, **attributes) -> str:
  """A line of an object and its attributes, in quotes.

  Empty ones are left out: FamiStudio takes no line that has one.
  """
  def quoted(value):
    text = ''.join(c if c.isprintable() else ' ' for c in str(value))
    return text.replace('"', '""')
  return '\t' * depth + ' '.join(
      [name, *(f'{key}="{quoted(value)}"'
               for key, value in attributes.items() if value != '')])


def _instrument(number: int, instrument: note_macros.Instrument) -> list[str]:
  lines = [_line(1, 'Instrument', Name=_instrument_name(number))]
  for kind, values in (('Volume', instrument.level),
                       ('Arpeggio', instrument.offset),
                       ('DutyCycle', instrument.tone)):
    if not any(values) and kind != 'Volume':
      continue
    if kind == 'Arpeggio':
      wrong = [v for v in values if v not in _STEPS]
      if wrong:
        raise ValueError(f'an arpeggio of {wrong[0]} semitones: FamiStudio has '
                         f'{_STEPS[0]} to {_STEPS[-1]}')
    lines.append(_line(2, 'Envelope', Type=kind, Length=len(values),
                       Values=','.join(map(str, values))))
  return lines


def _instrument_name(number: int) -> str:
  return f'Instrument {number}'


def _settings(time: int, rows: np.ndarray, rows_per_beat: int) -> str:
  """The length of a pattern: so many rows, or frames if they differ."""
  frames = np.diff(rows)
  if (frames == frames[0]).all():
    length, note, beat = len(frames), int(frames[0]), rows_per_beat
  else:
    length, note = int(frames.sum()), 1
    beat = max(round(float(frames.mean()) * rows_per_beat), 1)
  return _line(2, 'PatternCustomSettings', Time=time, Length=length,
               NoteLength=note, BeatLength=beat, Groove=note,
               GroovePaddingMode='Middle')


def _channel(voice: int, name: str, voice_notes, limits) -> list[str]:
  """A channel: its patterns, each once, and when they are played.

  Args:
    limits: frames at which patterns begin, and the last one ends.
  """
  contents = [[] for _ in limits[1:]]
  for note in voice_notes:
    if note.pitch:
      place = int(np.searchsorted(limits, note.start, 'right')) - 1
      contents[place].append(_line(
          4, 'Note', Time=note.start - limits[place],
          Value=_note_name(note.pitch, voice), Duration=note.end - note.start,
          Instrument=_instrument_name(note.instrument)))
  numbers, lines, instances = {}, [], []
  for time, content in enumerate(map(tuple, contents)):
    if not content:
      continue
    if content not in numbers:
      numbers[content] = f'Pattern {len(numbers) + 1}'
      lines += [_line(3, 'Pattern', Name=numbers[content]), *content]
    instances.append(_line(3, 'PatternInstance', Time=time,
                           Pattern=numbers[content]))
  return [_line(2, 'Channel', Type=name), *lines, *instances]


def _note_name(pitch: int, voice: int) -> str:
  number = pitch - note_macros.LOWEST[voice]
  if voice == ev.NO:
    number += 15  # The reader takes the lowest four bits of number + 1.
  return f'{_NAMES[number % 12]}{number // 12}'
