"""Songs -> notes on a grid of rows, with instruments, as trackers hold them.

Each voice becomes notes that begin on rows or some frames into them. What a
note does frame by frame (volume, duty or noise mode, steps away from its pitch)
is in its instrument; notes of which one does what another begins with share it.
"""

import itertools
from typing import NamedTuple

import numpy as np

from lakhnes_jax import events as ev
from lakhnes_jax import meter as meter_lib
from lakhnes_jax import nes
from lakhnes_jax.synth import score as scores
from lakhnes_jax.synth.score import NOTE, TIMBRE, VELOCITY

FRAME = nes.SAMPLE_RATE / nes.FRAME_RATES[0]  # Trackers call this 60 Hz.
_NTSC = 0.015  # By how much of it frames may differ to count as such.
_ROW = 8  # Frames, where no row is found.
MAX_MACRO = 250  # Frames; trackers take 252 to 255.


# A tracker's lowest C is MIDI note 24 of a pulse, and the same number an octave
# lower of the triangle; it has eight octaves, and 16 pitches of noise.
LOWEST = (24, 24, 12, 1)
_COUNT = (96, 96, 96, 16)
_VOICE_NAMES = ('pulse 1', 'pulse 2', 'triangle', 'noise')
_PATTERN = 64  # Rows that are easy to read.


class Instrument(NamedTuple):
  """What notes do; each macro holds its last value.

  Attributes:
    level: volumes, 0 to 15; of the triangle 15 or 0.
    tone: duties or noise modes; nothing for the triangle.
    offset: semitones from the note's pitch, or steps of noise.
  """
  level: tuple[int, ...]
  tone: tuple[int, ...]
  offset: tuple[int, ...]


class Note(NamedTuple):
  """A note, or where `pitch` is 0 the silence after one.

  Attributes:
    start: frame.
    end: the frame at which the voice's next note or silence starts.
    pitch: as in `events`; 0 for silence.
    instrument: index; -1 for silence.
  """
  start: int
  end: int
  pitch: int
  instrument: int


class Grid(NamedTuple):
  """Where rows lie.

  Attributes:
    starts: [T + 1] samples at which frames begin and the last one ends.
    rows: [R + 1] frames at which rows begin and the last one ends.
    rows_per_beat, rows_per_bar: rows.
    bar_row: the first row of a bar.
    loop_row: row after the last one's; None where the song ends.
  """
  starts: np.ndarray
  rows: np.ndarray
  rows_per_beat: int
  rows_per_bar: int
  bar_row: int
  loop_row: int | None

  @property
  def loop_frame(self) -> int | None:
    """Likewise a frame."""
    return None if self.loop_row is None else int(self.rows[self.loop_row])


def grid_of(song: np.ndarray, loop: int | None = None, longest: int = 31
           ) -> Grid:
  """Finds the rows of a song.

  Args:
    song: int32 song (see `events`).
    loop: sample at which the song goes on after its end; a row begins there.
    longest: most frames of a row.

  Raises:
    ValueError: the song is empty.
  """
  meter = meter_lib.analyze(song)
  starts, rows = meter.frame_starts, meter.row_frames
  length = int(ev.times_of(song)[-1]) if len(song) else 0
  if length < 1:
    raise ValueError('the song is empty: it has no wait, so no length')
  if abs(meter.frame / FRAME - 1) > _NTSC:  # Not what trackers can call.
    samples = np.interp(rows, np.arange(len(starts)), starts)
    starts = starts[0] + FRAME * np.arange(
        max(round((length - starts[0]) / FRAME), 1) + 1)
    rows = np.rint((samples - starts[0]) / FRAME)
  n_frames = len(starts) - 1
  rows = np.unique(np.clip([0, *rows, n_frames], 0, n_frames).astype(int))
  bar_sample = np.interp(meter.row_frames[min(
      meter.bar_row, len(meter.row_frames) - 1)],
                         np.arange(len(meter.frame_starts)),
                         meter.frame_starts)
  if loop is not None:
    frame = int(np.argmin(np.abs(starts - loop)))
    loop = frame if 0 <= frame < n_frames else None
  if loop is not None:
    rows = np.union1d(rows, loop)
  parts = [np.linspace(a, b, -(-(b - a) // longest) + 1)[:-1].round()
           for a, b in itertools.pairwise(rows.tolist())]
  rows = np.append(np.concatenate(parts), n_frames).astype(int)
  bar_row = int(np.argmin(np.abs(starts[rows] - bar_sample)))
  return Grid(starts, rows, max(meter.rows_per_beat, 1),
              max(meter.rows_per_bar, 1), bar_row,
              None if loop is None else int(np.searchsorted(rows, loop)))


def states_of(song: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
  """What is played at the end of each frame, and where notes begin.

  Where a loop goes to, all that sounds begins.

  Args:
    song: int32 song.
    grid: its frames.

  Returns:
    [T, 4, 3] int: note, level and tone, as `Score.state`, but of the triangle
    level 15; in silence the tone holds. [T, 4] bool: whether a note begins.
  """
  score = scores.from_events(song)
  starts = grid.starts
  n_frames = len(starts) - 1
  last = np.searchsorted(score.start, starts[1:], 'left') - 1
  state = score.state[np.maximum(last, 0)].astype(int)
  state[..., NOTE] *= state[..., VELOCITY] > 0
  state[:, ev.TR, VELOCITY] *= 15
  frame = np.clip(np.searchsorted(starts, score.start, 'right') - 1, 0,
                  n_frames - 1)
  begins = np.zeros((n_frames, 4), bool)
  np.logical_or.at(begins, frame, score.onset)
  sounds = state[..., NOTE] > 0
  before = np.concatenate([np.zeros((1, 4), bool), sounds[:-1]])
  begins |= ~before
  if grid.loop_row is not None:
    begins[grid.loop_frame] = True
  return state, begins & sounds


class _Cells:
  """Cuts one voice into notes, at most one of them a row."""

  def __init__(self, state, begins, rows, loop):
    """Takes [T, 3], [T], [R + 1] and the frame that a loop goes to."""
    self.state, self.loop = state, loop
    self.sounds = state[:, NOTE] > 0
    self.begins, self.rows = begins, rows

  def starts(self, longest: int) -> list[tuple[int, bool]]:
    """(frame, whether it sounds) of notes and of silences.

    Args:
      longest: frames after which what sounds begins anew with the next row; 0
        for with every row.
    """
    on_rows_too = not longest
    starts, sounding = [], False
    for row, end in itertools.pairwise(self.rows.tolist()):
      if row == self.loop and not self.sounds[row]:
        starts.append((row, False))
        sounding = False
      onsets = np.flatnonzero(self.begins[row:end])
      sound = self.sounds[row:end]
      if len(onsets) and (onsets[0] == 0 or not (on_rows_too and sounding and
                                                 sound[0])):
        starts.append((row + int(onsets[0]), True))
        sounding = True
      elif sound[0] and sounding and on_rows_too:
        starts.append((row, True))
      elif sounding and not sound.all() and not sound[-1]:
        # Silent to the end of the row, and from here on.
        quiet = len(sound) - int(np.argmax(sound[::-1])) if sound.any() else 0
        starts.append((row + quiet, False))
        sounding = False
      elif sounding and sound[0] and row - starts[-1][0] > longest:
        starts.append((row, True))
    return starts

  def cells(self, longest: int) -> list[tuple[int, int, int, bytes]]:
    """(start, end, pitch, what it does); pitch 0 and nothing for silence."""
    result = []
    starts = [*self.starts(longest), (len(self.state), False)]
    for (start, sounds), (end, _) in itertools.pairwise(starts):
      if not sounds:
        result.append((start, end, 0, b''))
        continue
      part = self.state[start:end].copy()
      pitch = int(part[0, NOTE])
      # In silence pitch and tone are what they were.
      shown = np.maximum.accumulate(np.where(part[:, NOTE] > 0,
                                             np.arange(len(part)), 0))
      part[:, NOTE] = part[shown, NOTE] - pitch + 128
      part[:, TIMBRE] = part[shown, TIMBRE]
      result.append((start, end, pitch, part.astype(np.uint8).tobytes()))
    return result


class Notes(NamedTuple):
  """Notes of all voices, and their instruments.

  Attributes:
    voices: [4] lists of `Note`, by start.
    instruments: of all notes; each is of one kind of voice.
  """
  voices: list[list[Note]]
  instruments: list[Instrument]


def notes_of(state: np.ndarray, begins: np.ndarray, grid: Grid,
             most: int) -> Notes | None:
  """Cuts all voices into notes with few instruments.

  Args:
    state, begins: see `states_of`.
    grid: the rows.
    most: instruments.

  Returns:
    The notes, with long ones if that can be; None where it takes more
    instruments, or macros longer than `MAX_MACRO`.
  """
  for longest in (len(state), MAX_MACRO - 32, 0):
    cells = [_Cells(state[:, v], begins[:, v], grid.rows, grid.loop_frame
                    ).cells(longest)
             for v in range(4)]
    found = _instruments(cells, most)
    if found is not None:
      return found
  return None


def _instruments(cells, most) -> Notes | None:
  """Gives each cell an instrument; None if there are too many."""
  kinds = (0, 0, 1, 2)
  shapes = sorted({(kinds[v], shape) for v in range(4)
                   for *_, shape in cells[v] if shape},
                  key=lambda item: (-len(item[1]), item))
  names, whole = {}, []  # Each instrument's kind and longest shape.
  for kind, shape in shapes:
    for number, (other, longer) in enumerate(whole):
      if other == kind and longer.startswith(shape):
        names[kind, shape] = number
        break
    else:
      names[kind, shape] = len(whole)
      whole.append((kind, shape))
      if len(whole) > most:
        return None
  instruments = []
  for kind, shape in whole:
    columns = np.frombuffer(shape, np.uint8).reshape(-1, 3).astype(int)
    offset, level, tone = (_trim(column) for column in (
        columns[:, NOTE] - 128, columns[:, VELOCITY], columns[:, TIMBRE]))
    if max(map(len, (offset, level, tone))) > MAX_MACRO:
      return None
    instruments.append(Instrument(level, tone if kind != 1 else (), offset))
  return Notes([[Note(start, end, pitch,
                      names[kinds[v], shape] if shape else -1)
                 for start, end, pitch, shape in cells[v]]
                for v in range(4)], instruments)


def _trim(values: np.ndarray) -> tuple[int, ...]:
  """Leaves out what repeats the value before, at the end."""
  changes = np.flatnonzero(np.diff(values))
  return tuple(values[:changes[-1] + 2 if len(changes) else 1].tolist())


def check_range(state: np.ndarray, tracker: str) -> None:
  """Raises ValueError where trackers have no such note; see `states_of`."""
  for voice, name in enumerate(_VOICE_NAMES):
    pitches = state[:, voice, NOTE]
    low, high = LOWEST[voice], LOWEST[voice] + _COUNT[voice] - 1
    wrong = pitches[(pitches > 0) & ((pitches < low) | (pitches > high))]
    if len(wrong):
      raise ValueError(f'{name}: note {wrong[0]}, but {tracker} has {low} to '
                       f'{high}')


def pattern_bounds(grid: Grid, most: int, longest: int) -> list[int]:
  """Rows at which patterns begin: whole bars, and the loop.

  Args:
    grid: the rows.
    most: patterns, if they can be so few.
    longest: rows of a pattern.
  """
  n_rows = len(grid.rows) - 1
  bar = min(grid.rows_per_bar, longest)
  size = bar * max(min(_PATTERN, longest) // bar, 1)
  while size + bar <= longest and n_rows / size > most - 4:
    size += bar
  if n_rows / size > most - 4:
    size = longest
  bounds = {0, *range(grid.bar_row % size, n_rows, size)}
  if grid.loop_row is not None:
    bounds.add(grid.loop_row)
  return sorted(bounds)
