"""FamiTracker's text export, version 0.4.2, which every FamiTracker reads.

Rows are those of the song's meter. What notes do frame by frame is in the
macros of their instruments; where that takes more than 64 instruments, every
frame is a row instead. The fifth channel has no samples, only the effects that
concern all channels: speed, end of pattern, loop.

Source: Source/TextExporter.cpp of Dn-FamiTracker (grammar, limits);
http://famitracker.com/wiki (effects).
"""

import itertools

import numpy as np

from lakhnes_jax import events as ev
from lakhnes_jax.formats import note_macros, transcribe
from lakhnes_jax.synth.register_log import RegisterLog
from lakhnes_jax.synth.score import NOTE, TIMBRE, VELOCITY

MAX_ORDERS, MAX_ROWS = 128, 256
_MIN_ROWS = 2  # FamiStudio cannot import patterns of one.
_MAX_INSTRUMENTS = 64
_MAX_SPEED = 31
_TEMPO = 150  # With it a row lasts as many frames as the speed says.
_NAMES = ('C-', 'C#', 'D-', 'D#', 'E-', 'F-', 'F#', 'G-', 'G#', 'A-', 'A#',
          'B-')
_VOLUME, _ARPEGGIO, _DUTY = 0, 1, 4  # Kinds of macros.
_EMPTY, _EMPTY_EFFECT = '... .. . ...', '...'


def write(song: np.ndarray, title: str = '', author: str = '',
          loop: int | None = None, comment: str = '') -> bytes:
  """Writes a song as text.

  Args:
    song: int32 song (see `events`).
    title, author, comment: of the module.
    loop: sample at which the song goes on after its end.

  Raises:
    ValueError: it is empty or too long, or a note is out of range.
  """
  grid = note_macros.grid_of(song, loop, _MAX_SPEED)
  state, begins = note_macros.states_of(song, grid)
  note_macros.check_range(state, 'FamiTracker')
  notes = note_macros.notes_of(state, begins, grid, _MAX_INSTRUMENTS)
  if notes is None:
    comment = ' '.join((comment, 'Every row is a frame.')).strip()
    instruments = [note_macros.Instrument((), (), ())]
    n_frames = len(state)
    rows = np.arange(n_frames + 1)
    loop_row = grid.loop_frame
    cells = [_frame_cells(state[:, v], begins[:, v], v, loop_row)
             for v in range(4)]
    bounds = sorted({*range(0, loop_row or 0, MAX_ROWS),
                     *range(loop_row or 0, n_frames, MAX_ROWS)})
  else:
    instruments, rows, loop_row = notes.instruments, grid.rows, grid.loop_row
    cells = [_note_cells(notes.voices[v], rows, v) for v in range(4)]
    bounds = note_macros.pattern_bounds(grid, MAX_ORDERS, MAX_ROWS)
  lines = _head(title, author, comment)
  lines += _instruments(instruments)
  lines += _track(title, cells, rows, bounds, loop_row)
  return '\n'.join(lines).encode('ascii', 'replace')


def write_log(log: RegisterLog) -> bytes:
  """Writes a register log as text, as it is transcribed; see `write`."""
  return write(transcribe.to_events(log), log.tags.get('title', ''),
               log.tags.get('author', ''), log.loop, log.tags.get('game', ''))


def notes(log: RegisterLog) -> list[str]:
  """What the text cannot hold of a log, one line each."""
  lines = []
  if np.isin(log.register, (0x11, 0x15)).any() and log.memory:
    lines.append('the sample channel is left out')
  if log.left_out:
    lines.append(f'{log.describe_left_out()} left out')
  return lines


def _note_name(pitch: int, voice: int) -> str:
  number = pitch - note_macros.LOWEST[voice]
  if voice == ev.NO:
    return f'{number:X}-#'
  return f'{_NAMES[number % 12]}{number // 12}'


def _note_cells(notes, rows, voice) -> dict[int, str]:
  """Row -> cell of a channel."""
  cells = {}
  for note in notes:
    row = int(np.searchsorted(rows, note.start, 'right')) - 1
    delay = note.start - int(rows[row])
    effect = f'G{delay:02X}' if delay else _EMPTY_EFFECT
    cells[row] = (f'{_note_name(note.pitch, voice)} {note.instrument:02X} . '
                  f'{effect}' if note.pitch else f'--- .. . {effect}')
  return cells


def _frame_cells(state, begins, voice, loop) -> dict[int, str]:
  """Frame -> cell: note, volume and duty of each frame, if they change.

  They are there at the frame that a loop goes to in any case.
  """
  cells, before = {}, (0, 15, 0)
  tones = voice != ev.TR
  sounding = False
  for frame, (now, begin) in enumerate(zip(state.tolist(), begins.tolist(),
                                           strict=True)):
    pitch, level, tone = now[NOTE], now[VELOCITY], now[TIMBRE]
    if not pitch:
      if sounding or frame == loop:
        cells[frame] = f'--- .. . {_EMPTY_EFFECT}'
      sounding = False
      continue
    start = begin or not sounding or pitch != before[0]
    volume = f'{level:X}' if start or level != before[1] else '.'
    effect = (f'V{tone:02X}' if tones and (start or tone != before[2])
              else _EMPTY_EFFECT)
    if start or volume != '.' or effect != _EMPTY_EFFECT:
      name = f'{_note_name(pitch, voice)} 00' if start else '... ..'
      cells[frame] = f'{name} {volume} {effect}'
    before, sounding = (pitch, level, tone), True
  return cells


def _head(title: str, author: str, comment: str) -> list[str]:
  return ['# FamiTracker text export 0.4.2', '', '# INFO block',
          f'TITLE           {_quoted(title[:31])}',
          f'AUTHOR          {_quoted(author[:31])}', 'COPYRIGHT       ""', '',
          '# COMMENTS block', f'COMMENT {_quoted(comment)}', '',
          '# PARAMS block', 'MACHINE         0', 'FRAMERATE       0',
          'EXPANSION       0', 'VIBRATO         1', 'SPLIT           32', '']


def _quoted(text: str) -> str:
  clean = ''.join(c if c.isprintable() else ' ' for c in text)
  return '"' + clean.replace('"', '""') + '"'


def _instruments(instruments) -> list[str]:
  """Blocks of macros and of instruments."""
  numbers = {_VOLUME: {}, _ARPEGGIO: {}, _DUTY: {}}
  lines = []
  for number, (level, tone, offset) in enumerate(instruments):
    used = [-1] * 5
    for kind, values in ((_VOLUME, level), (_ARPEGGIO, offset), (_DUTY, tone)):
      if values and (kind != _ARPEGGIO or any(values)):
        used[kind] = numbers[kind].setdefault(values, len(numbers[kind]))
    lines.append(f'INST2A03 {number:3d}   ' +
                 ''.join(f'{u:3d} ' for u in used) +
                 _quoted(f'Instrument {number}'))
  macros = [f'MACRO     {kind:3d} {number:3d}  -1  -1   0 : ' +
            ' '.join(map(str, values))
            for kind, of_kind in numbers.items()
            for values, number in of_kind.items()]
  return ['# SEQUENCES block', *macros, '', '# INSTRUMENTS block', *lines, '']


def _track(title, cells, rows, bounds, loop_row) -> list[str]:
  """Blocks of the one track: header, orders and patterns."""
  n_rows = len(rows) - 1
  speeds = np.diff(rows).tolist()
  if loop_row is None:  # A row more, which ends all.
    cells = [channel | {n_rows: f'--- .. . {_EMPTY_EFFECT}'}
             for channel in cells]
    speeds.append(1)
    if n_rows - bounds[-1] >= MAX_ROWS:
      bounds = [*bounds, n_rows]
    n_rows += 1
  if len(bounds) > MAX_ORDERS:
    raise ValueError(f'{n_rows} rows make {len(bounds)} patterns: FamiTracker '
                     f'has {MAX_ORDERS} at most')
  spans = list(itertools.pairwise([*bounds, n_rows]))
  length = max(_MIN_ROWS, *(end - begin for begin, end in spans))
  loop_order = None if loop_row is None else bounds.index(loop_row)
  effects = _effects(speeds, spans, length, loop_order)
  channels = [*cells, effects]
  empty = [_EMPTY] * 4 + [f'{_EMPTY} {_EMPTY_EFFECT}']
  orders, patterns = [], [{} for _ in channels]
  for begin, end in spans:
    order = []
    for channel, cell_of in enumerate(channels):
      content = tuple(cell_of.get(row, empty[channel])
                      for row in range(begin, end))
      content += (empty[channel],) * (length - len(content))
      order.append(patterns[channel].setdefault(content,
                                                len(patterns[channel])))
    orders.append(order)
  lines = ['# track HEADER block',
           f'TRACK {length:3d} {speeds[0]:3d} {_TEMPO:3d} {_quoted(title)}',
           'COLUMNS : 1 1 1 1 2', '', '# track FRAMES block']
  lines += [f'ORDER {i:02X} : ' + ' '.join(f'{p:02X}' for p in order)
            for i, order in enumerate(orders)]
  lines += ['', '# track PATTERNS block']
  contents = [list(of_channel) for of_channel in patterns]
  for number in range(max(map(len, contents))):
    lines.append(f'PATTERN {number:02X}')
    for row in range(length):
      line = ' : '.join(
          content[number][row] if number < len(content) else empty[channel]
          for channel, content in enumerate(contents))
      lines.append(f'ROW {row:02X} : {line}')
    lines.append('')
  return [*lines, '# End of export', '']


def _effects(speeds, spans, length, loop_order) -> dict[int, str]:
  """Row -> cell of the fifth channel: speeds, ends of patterns, and the end."""
  found = {}
  for number, (begin, end) in enumerate(spans):
    speed = None
    for row in range(begin, end):
      if speeds[row] != speed:
        speed = speeds[row]
        found[row] = [f'F{speed:02X}']
    last = None
    if number == len(spans) - 1:
      last = 'C00' if loop_order is None else f'B{loop_order:02X}'
    elif end - begin < length:
      last = 'D00'
    if last:
      found.setdefault(end - 1, []).append(last)
  return {row: '... .. . ' + ' '.join([*values, _EMPTY_EFFECT][:2])
          for row, values in found.items()}
