"""Songs as a tracker's pattern: notes with instruments, on rows.

What a song sounds like by frame is said by few *entries*: a voice's note (pitch
and macros of an instrument), or the end of one. Each lies in a row, or some
frames after its beginning.
"""

from typing import NamedTuple

import numpy as np

from lakhnes_jax import events as ev
from lakhnes_jax import meter as meter_lib
from lakhnes_jax.meter import bars
from lakhnes_jax.synth import score as score_lib
from lakhnes_jax.tracker import frames as frames_lib
from lakhnes_jax.tracker import instruments as ins
from lakhnes_jax.tracker import notes as notes_lib

LONGEST_GATE = 96  # Frames; a longer note that ends in silence has a note-off.
LONGEST_ROW = 24  # Frames.
MOST_BAR_ROWS = 64
MAX_FRAMES = 1 << 21  # Of a song; 9.7 hours.


class Pattern(NamedTuple):
  """A song on rows.

  Attributes:
    frame: [n] int32, when each entry begins, from 0; ascending, and within a
      frame by voice.
    voice: [n] int32.
    pitch: [n] int32; 0 for a note-off.
    macro: [n, 3] int32, numbers of level, tone and offset macros.
    gate: [n] int32, frames after which the note is silent; 0 for no such end,
      -1 for any end at `stays` or later.
    stays: [n] int32, frames that the note is held at least.
    row_frames: [R + 1] int32, the frame at which each row begins, and the end.
    bar_rows: rows of a bar.
    phase: row 0 is this row of its bar.
    size: frames of the song.
  """
  frame: np.ndarray
  voice: np.ndarray
  pitch: np.ndarray
  macro: np.ndarray
  gate: np.ndarray
  stays: np.ndarray
  row_frames: np.ndarray
  bar_rows: int
  phase: int
  size: int


def from_song(song: np.ndarray, codebook: ins.Codebook) -> Pattern:
  """Finds the pattern of a song.

  Args:
    song: int32 song (see `events`). One without dynamics plays at full volume.
    codebook: of the macros.
  """
  return parse(song, codebook)[0]


def parse(song: np.ndarray, codebook: ins.Codebook, goes_on: bool = False
         ) -> tuple[Pattern, np.ndarray]:
  """Finds the pattern of a song, and when its frames are.

  Args:
    song: int32 song (see `events`). One without dynamics plays at full volume.
    codebook: of the macros.
    goes_on: it is the beginning of one: notes still on at its end do not end
      there.

  Returns:
    the pattern; [size + 1] float64, the sample at which each of its frames
    begins, and the last ends. These are the song's own frames where they are
    an NTSC console's (see `frames.starts_of`).
  """
  if goes_on:  # What happens at the very end counts too.
    song = np.append(song, round(2 * frames_lib.FRAME)).astype(np.int32)
  meter = meter_lib.analyze(song, bars.OF_TRACKER)
  starts = frames_lib.starts_of(meter)
  state = frames_lib.from_events(song, starts)
  parsed = [notes_lib.parse(state[:, voice], kind, codebook)
            for voice, kind in enumerate(ins.KIND_OF_VOICE)]
  rows, added = _fill(frames_lib.rows_of(meter, starts), parsed, len(state))
  bar_rows = int(np.clip(meter.rows_per_bar, 1, MOST_BAR_ROWS))
  open_voices = _open_voices(song) if goes_on else ()
  entries = []
  for voice, (kind, notes) in enumerate(
      zip(ins.KIND_OF_VOICE, parsed, strict=True)):
    ends = codebook.kinds[kind].ends
    following = [*notes.start[1:].tolist(), len(state)][:len(notes.start)]
    last = int(notes.start[-1]) if voice in open_voices and len(
        notes.start) else None
    for start, end, pitch, level, tone, offset, after in zip(
        *(x.tolist() for x in notes), following, strict=True):
      length = end - start
      if (end == after and after < len(state)) or ends[level] == length or (
          start == last):
        gate = -1
      elif length <= LONGEST_GATE:
        gate = length
      else:
        gate = -1
        entries.append((end, voice, 0, 0, 0, 0, 0, 0))
      entries.append((start, voice, pitch, level, tone, offset, gate, length))
  entries.sort()
  table = np.array(entries, np.int32).reshape(-1, 8)
  first = int(table[0, 0]) if len(table) else 0
  table[:, 0] -= first
  return Pattern(table[:, 0], table[:, 1], table[:, 2], table[:, 3:6],
                 table[:, 6], table[:, 7], rows - first, bar_rows,
                 (-meter.bar_row - added) % bar_rows, len(state) - first
                ), starts[first:]


def _open_voices(song: np.ndarray) -> list[int]:
  """Lists the voices whose last note has no end."""
  kind, voice = ev.kind_of(song), ev.voice_of(song)
  last = [np.flatnonzero((voice == v) & (kind <= ev.NOTEON)) for v in range(4)]
  return [v for v in range(4)
          if len(last[v]) and kind[last[v][-1]] == ev.NOTEON]


def _fill(rows: np.ndarray, parsed, size: int) -> tuple[np.ndarray, int]:
  """Rows from the first note to past the end, none longer than LONGEST_ROW.

  Returns:
    the rows, and how many of them are new before the first.
  """
  first = min([int(n.start[0]) for n in parsed if len(n.start)], default=0)
  rows = np.unique(np.asarray(rows, np.int64))
  period = int(np.clip(np.median(np.diff(rows)) if len(rows) > 1 else 6, 2,
                       LONGEST_ROW))
  before = np.arange(rows[0] - period, first - period, -period)[::-1]
  after = np.arange(rows[-1] + period, size + 1 + period, period)
  rows = np.concatenate([before, rows, after])
  extra = [np.arange(rows[i] + period, rows[i + 1], period)
           for i in np.flatnonzero(np.diff(rows) > LONGEST_ROW)]
  return (np.unique(np.concatenate([rows, *extra])).astype(np.int32),
          len(before))


def into_range(pitch, low, high):
  """Moves pitches by octaves into a range of one octave or more.

  Args:
    pitch, low, high: ints or arrays, also JAX's.
  """
  below = -((pitch - low) // 12)
  pitch = pitch + 12 * below * (below > 0)
  above = -((high - pitch) // 12)
  return pitch - 12 * above * (above > 0)


def change(pattern: Pattern, voices, switch: bool, semitones: int) -> Pattern:
  """Augments: keeps some voices, lets pulses change places, transposes.

  A note that leaves its voice's range is moved back by octaves.
  """
  pattern = pattern._replace(pitch=pattern.pitch.copy())
  if semitones:
    for voice in (ev.P1, ev.P2, ev.TR):
      legal = ev.VOICES[voice].pitches
      mine = (pattern.voice == voice) & (pattern.pitch > 0)
      pattern.pitch[mine] = into_range(
          pattern.pitch[mine] + semitones, legal[0], legal[-1])
  keep = np.isin(pattern.voice, list(voices))
  voice = pattern.voice
  if switch:
    voice = np.array([ev.P2, ev.P1, ev.TR, ev.NO], np.int32)[voice]
  order = np.flatnonzero(keep)
  order = order[np.lexsort((voice[order], pattern.frame[order]))]
  columns = [getattr(pattern, name)[order] for name in (
      'frame', 'pitch', 'macro', 'gate', 'stays')]
  return pattern._replace(frame=columns[0], voice=voice[order],
                          pitch=columns[1], macro=columns[2], gate=columns[3],
                          stays=columns[4])


def length_of(frame, voice, pitch, macro, gate, codebook: ins.Codebook) -> int:
  """Returns frames until all is silent, or one after the last entry."""
  size = int(frame[-1]) + 1 if len(frame) else 1
  for v, kind in enumerate(ins.KIND_OF_VOICE):
    mine = np.flatnonzero(voice == v)
    if len(mine) and pitch[mine[-1]]:
      last = mine[-1]
      end = int(codebook.kinds[kind].ends[macro[last][0]])
      if gate[last] > 0:
        end = min(end, int(gate[last]))
      if end < ins.NEVER:
        size = max(size, int(frame[last]) + end)
  return min(size, MAX_FRAMES)


def render(frame, voice, pitch, macro, gate, codebook: ins.Codebook,
           size: int | None = None) -> tuple[np.ndarray, np.ndarray]:
  """Plays entries.

  Args:
    frame, voice, pitch, macro, gate: as in `Pattern`; of entries of one voice
      in one frame the last counts. Gates of 0 and below are none.
    codebook: of the macros.
    size: frames; by default those of `length_of`.

  Returns:
    state [T, 4, 3] uint8, and source [T, 4] int32: the number of the entry that
    each voice is at, -1 before its first.
  """
  frame, voice, pitch, gate = (np.asarray(x, np.int64) for x in (
      frame, voice, pitch, gate))
  if size is None:
    size = length_of(frame, voice, pitch, macro, gate, codebook)
  state = np.zeros((size, 4, 3), np.uint8)
  source = np.full((size, 4), -1, np.int32)
  for v, kind in enumerate(ins.KIND_OF_VOICE):
    mine = np.flatnonzero((voice == v) & (frame < size))
    if not len(mine):
      continue
    start = frame[mine]
    following = np.append(start[1:], size)
    marks = np.zeros(size, np.int32)
    marks[start] = np.arange(1, len(mine) + 1)  # The last of a frame counts.
    number = np.maximum.accumulate(marks) - 1
    source[:, v] = np.where(number < 0, -1, mine[number])
    limit = np.where(gate[mine] > 0, start + gate[mine], size)
    end = np.minimum(following, limit)
    on = pitch[mine] > 0
    notes = notes_lib.Notes(*(np.asarray(x)[on] for x in (
        start, end, pitch[mine], *np.asarray(macro)[mine].T)))
    state[:, v] = notes_lib.render(notes, kind, codebook, size)
    # Silence keeps its tone, so that nothing is to be said of it.
    sounds = state[:, v, 0] > 0
    held = np.maximum.accumulate(np.where(sounds, np.arange(size), -1))
    state[:, v, 2] = np.where(held < 0, 0, state[np.maximum(held, 0), v, 2])
  return state, source


def to_events(state: np.ndarray, source: np.ndarray,
              edges: np.ndarray | None = None
             ) -> tuple[np.ndarray, np.ndarray]:
  """Turns frames into a song.

  Args:
    state: [T, 4, 3] uint8.
    source: [T, 4] int, where each voice's state is from (see `render`).
    edges: [T + 1] int64 samples, not descending, when frames begin and the last
      ends; by default those of an NTSC console. Frames without length are left
      out.

  Returns:
    int32 song, and for each of its elements its source; -1 for waits.
  """
  if edges is None:
    edges = np.rint(np.arange(len(state) + 1) * frames_lib.FRAME).astype(
        np.int64)
  lasts = np.diff(edges) > 0
  begin = edges[:-1][lasts]
  state, source = state[lasts], source[lasts]
  score = score_lib.compact(score_lib.Score(
      begin, state, np.zeros((len(state), 4), bool), int(edges[-1])))
  song = score_lib.to_events(score)
  times, chip = ev.times_of(song), song < 0
  frame = np.searchsorted(begin, times[chip], 'right') - 1
  owner = np.full(len(song), -1, np.int32)
  owner[chip] = source[frame, ev.voice_of(song[chip])]
  return song, owner
