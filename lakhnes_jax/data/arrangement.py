"""Arrangements of a song's instruments for the four voices of the NES.

`Instruments` holds what the chip could play of a MIDI file: monophonic
melodic instruments, three at a time (P1, P2, TR), and drum tracks, one at a
time (NO). A corpus may store instruments in place of songs. Reading one draws
a new arrangement each time, which takes a sixteenth of the disk space of the
paper's 16 fixed arrangements of each file.

Notes are rows of (start, end, pitch, velocity), times in samples at 44.1 kHz,
by start.

Source: `adapt_lakh_to_nes` of LakhNES (Donahue et al., ISMIR 2019, section 4).
"""

from typing import NamedTuple

import numpy as np

from lakhnes_jax import events as ev

START, END, PITCH, VELOCITY = range(4)  # Columns of notes.
NONE = -1
_CLIP = 180 * ev.SAMPLE_RATE  # Longest arrangement, in samples.


class Instruments(NamedTuple):
  """All that can be played of one file.

  Attributes:
    melodic: [n, 4] notes of each monophonic instrument, at least one.
    drums: [n, 4] notes of each drum track, polyphonic, maybe none.
  """
  melodic: tuple[np.ndarray, ...]
  drums: tuple[np.ndarray, ...]


class Assignment(NamedTuple):
  """Which instrument each voice plays in one arrangement.

  Attributes:
    melodic: indices into `Instruments.melodic` for P1, P2, TR; or `NONE`.
    drums: index into `Instruments.drums`, or `NONE`.
    noise: [128] the noise pitch, 1 to 16, of each General MIDI drum.
  """
  melodic: tuple[int, int, int]
  drums: int
  noise: np.ndarray


def assign(song: Instruments, melodic: tuple[int, int, int],
         rng: np.random.Generator) -> Assignment:
  """Adds a random drum track and drum kit to the choice for P1, P2, TR."""
  drums = int(rng.integers(len(song.drums))) if song.drums else NONE
  noise = ev.VOICES[ev.NO].pitches
  return Assignment(melodic, drums, rng.integers(noise[0], noise[-1] + 1, 128))


def arrange(song: Instruments, rng: np.random.Generator) -> np.ndarray:
  """Draws one assignment, uniformly, and returns its int32 song.

  All ordered choices of three instruments are equally likely. With two
  instruments one voice stays empty, with one two do.
  """
  n_melodic = len(song.melodic)
  candidates = [*range(n_melodic), *[NONE] * (3 - n_melodic)]
  chosen = rng.choice(candidates, 3, replace=False)
  return play(song, assign(song, tuple(chosen.tolist()), rng))


def play(song: Instruments, assignment: Assignment) -> np.ndarray:
  """Returns the events of one arrangement, with velocities.

  Notes outside the range of their voice are dropped, as are drums that begin
  while another sounds. The song begins at its first note and is truncated at
  180 s.

  Returns:
    int32 song; empty if no note is left.
  """
  voices = []
  for voice, instrument in enumerate(assignment.melodic):
    if instrument != NONE:
      notes, pitches = song.melodic[instrument], ev.VOICES[voice].pitches
      inside = ((notes[:, PITCH] >= pitches[0]) &
                (notes[:, PITCH] <= pitches[-1]))
      voices.append((voice, notes[inside]))
  if assignment.drums != NONE:
    notes = _one_at_a_time(song.drums[assignment.drums])
    notes[:, PITCH] = assignment.noise[notes[:, PITCH]]
    voices.append((ev.NO, notes))
  voices = [(voice, notes[notes[:, START] < notes[:, END]])
            for voice, notes in voices]
  voices = [(voice, notes) for voice, notes in voices if len(notes)]
  if not voices:
    return np.empty(0, np.int32)
  begin = min(int(notes[0, START]) for _, notes in voices)
  timed = np.concatenate([_timed_events_of(voice, notes, begin)
                            for voice, notes in voices])
  order = np.lexsort((timed[:, 2], timed[:, 1], timed[:, 0]))
  times, _, _, events = timed[order].T
  return ev.from_times(times, events, int(times[-1]))


def _one_at_a_time(notes: np.ndarray) -> np.ndarray:
  """Returns those notes that begin when the last one returned has ended."""
  kept, free = [], 0
  for row, (start, end) in enumerate(notes[:, :PITCH].tolist()):
    if start >= free:
      kept.append(row)
      free = end
  return notes[kept]


def _timed_events_of(voice: int, notes: np.ndarray, begin: int) -> np.ndarray:
  """[n, 4]: time, voice, rank in its instant, event, for notes of a voice."""
  notes = notes[notes[:, START] < begin + _CLIP]
  start = notes[:, START] - begin
  end = np.minimum(notes[:, END] - begin, _CLIP)
  # Where the next note begins at once, its NOTEON alone ends this one.
  off = end[end != np.append(start[1:], -1)]
  columns = [(off, np.full(len(off), ev.EVENT[voice, ev.NOTEOFF, 0])),
             (start, ev.EVENT[voice, ev.NOTEON, notes[:, PITCH]])]
  if voice != ev.TR:
    level = np.rint(1 + 14 * notes[:, VELOCITY] / 127).astype(np.int64)
    columns.append((start, ev.EVENT[voice, ev.VELOCITY, level]))
  return np.concatenate([
      np.stack([times, np.full(len(times), voice),
                np.full(len(times), rank), events], axis=1)
      for rank, (times, events) in enumerate(columns)])


def pack(song: Instruments) -> np.ndarray:
  """Packs instruments into one int32 array of values >= 0.

  Layout: the number of melodic instruments and of drum tracks; the number of
  notes of each; then per note its start, length, and pitch + 128 * velocity.
  """
  parts = [*song.melodic, *song.drums]
  head = [len(song.melodic), len(song.drums), *map(len, parts)]
  notes = np.concatenate(parts)
  body = np.stack([notes[:, START], notes[:, END] - notes[:, START],
                   notes[:, PITCH] + 128 * notes[:, VELOCITY]], axis=1)
  return np.concatenate([head, body.ravel()]).astype(np.int32)


def unpack(packed: np.ndarray) -> Instruments:
  """Reads what `pack` wrote.

  Raises:
    ValueError: the array does not have that layout.
  """
  if len(packed) < 3 or packed[0] < 1 or (packed < 0).any():
    raise ValueError('not packed instruments')
  n_melodic, n_parts = int(packed[0]), int(packed[0] + packed[1])
  counts, body = packed[2:2 + n_parts], packed[2 + n_parts:]
  if len(counts) < n_parts or len(body) != 3 * counts.sum():
    raise ValueError('not packed instruments')
  start, length, rest = body.reshape(-1, 3).T.astype(np.int64)
  if (rest >= 128 * 128).any():
    raise ValueError('not packed instruments')
  notes = np.stack([start, start + length, rest % 128, rest // 128], axis=1)
  parts = tuple(np.split(notes, np.cumsum(counts)[:-1]))
  return Instruments(parts[:n_melodic], parts[n_melodic:])
