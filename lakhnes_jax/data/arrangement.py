"""Music for any number of players, and its arrangement for the chip's voices.

An *ensemble* is what of a MIDI file the chip could play: monophonic melodies,
of which it takes three at a time, and drum tracks, of which it takes one. A
corpus may hold ensembles in place of songs; whoever reads one gets a new
arrangement each time, which costs a sixteenth of the disk that the paper's 16
arrangements of each file take.

Notes are rows of (start, end, pitch, velocity), times in samples at 44.1 kHz,
by start.

Source: `adapt_lakh_to_nes` of LakhNES (Donahue et al., ISMIR 2019, section 4).
"""

from typing import NamedTuple

import numpy as np

from lakhnes_jax import events as ev

START, END, PITCH, VELOCITY = range(4)  # Columns of notes.
NOBODY = -1
_CLIP = 180 * ev.SAMPLE_RATE  # Longest arrangement, in samples.


class Ensemble(NamedTuple):
  """All that may be played.

  Attributes:
    melodic: [n, 4] notes of each monophonic instrument, at least one.
    drums: [n, 4] notes of each drum track, polyphonic, maybe none.
  """
  melodic: tuple[np.ndarray, ...]
  drums: tuple[np.ndarray, ...]


class Cast(NamedTuple):
  """Who plays what in one arrangement.

  Attributes:
    melodic: index into `Ensemble.melodic` for P1, P2, TR, or `NOBODY`.
    drums: index into `Ensemble.drums`, or `NOBODY`.
    noise: [128] the noise pitch, 1 to 16, for each drum.
  """
  melodic: tuple[int, int, int]
  drums: int
  noise: np.ndarray


def cast(song: Ensemble, melodic: tuple[int, int, int],
         rng: np.random.Generator) -> Cast:
  """Adds to the players of P1, P2 and TR a random drum track and drum kit."""
  drums = int(rng.integers(len(song.drums))) if song.drums else NOBODY
  noise = ev.VOICES[ev.NO].pitches
  return Cast(melodic, drums, rng.integers(noise[0], noise[-1] + 1, 128))


def arrange(song: Ensemble, rng: np.random.Generator) -> np.ndarray:
  """Draws one of all casts, and returns the int32 song that it plays.

  All ordered choices of three players are equally likely; of two players one
  voice stays empty, of one two do.
  """
  n_players = len(song.melodic)
  players = [*range(n_players), *[NOBODY] * (3 - n_players)]
  chosen = rng.choice(players, 3, replace=False)
  return play(song, cast(song, tuple(chosen.tolist()), rng))


def play(song: Ensemble, cast: Cast) -> np.ndarray:
  """Writes the events of one arrangement, with velocities.

  Notes outside the range of their voice are dropped, drums that begin while
  another sounds too; the song begins at its first note and is cut at 180 s.

  Returns:
    int32 song; empty if no note is left.
  """
  voices = []
  for voice, who in enumerate(cast.melodic):
    if who != NOBODY:
      notes, pitches = song.melodic[who], ev.VOICES[voice].pitches
      inside = ((notes[:, PITCH] >= pitches[0]) &
                (notes[:, PITCH] <= pitches[-1]))
      voices.append((voice, notes[inside]))
  if cast.drums != NOBODY:
    notes = _one_at_a_time(song.drums[cast.drums])
    notes[:, PITCH] = cast.noise[notes[:, PITCH]]
    voices.append((ev.NO, notes))
  voices = [(voice, notes[notes[:, START] < notes[:, END]])
            for voice, notes in voices]
  voices = [(voice, notes) for voice, notes in voices if len(notes)]
  if not voices:
    return np.empty(0, np.int32)
  begin = min(int(notes[0, START]) for _, notes in voices)
  moments = np.concatenate([_moments(voice, notes, begin)
                            for voice, notes in voices])
  order = np.lexsort((moments[:, 2], moments[:, 1], moments[:, 0]))
  times, _, _, events = moments[order].T
  return ev.from_times(times, events, int(times[-1]))


def _one_at_a_time(notes: np.ndarray) -> np.ndarray:
  """Returns those notes that begin when the last one returned has ended."""
  kept, free = [], 0
  for row, (start, end) in enumerate(notes[:, :PITCH].tolist()):
    if start >= free:
      kept.append(row)
      free = end
  return notes[kept]


def _moments(voice: int, notes: np.ndarray, begin: int) -> np.ndarray:
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


def pack(song: Ensemble) -> np.ndarray:
  """Writes an ensemble as one int32 array, none of it negative.

  It holds the number of melodies and of drum tracks, the number of notes of
  each, then three numbers a note: start, length, and pitch + 128 velocity.
  """
  players = [*song.melodic, *song.drums]
  head = [len(song.melodic), len(song.drums), *map(len, players)]
  notes = np.concatenate(players)
  body = np.stack([notes[:, START], notes[:, END] - notes[:, START],
                   notes[:, PITCH] + 128 * notes[:, VELOCITY]], axis=1)
  return np.concatenate([head, body.ravel()]).astype(np.int32)


def unpack(packed: np.ndarray) -> Ensemble:
  """Reads what `pack` wrote.

  Raises:
    ValueError: it is something else.
  """
  if len(packed) < 3 or packed[0] < 1 or (packed < 0).any():
    raise ValueError('no packed ensemble')
  n_melodic, n_players = int(packed[0]), int(packed[0] + packed[1])
  counts, body = packed[2:2 + n_players], packed[2 + n_players:]
  if len(counts) < n_players or len(body) != 3 * counts.sum():
    raise ValueError('no packed ensemble')
  start, length, rest = body.reshape(-1, 3).T.astype(np.int64)
  notes = np.stack([start, start + length, rest % 128, rest // 128], axis=1)
  players = tuple(np.split(notes, np.cumsum(counts)[:-1]))
  return Ensemble(players[:n_melodic], players[n_melodic:])
