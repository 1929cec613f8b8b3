"""Lakh -> NES: music for many instruments, on four voices.

`ensemble` keeps of a MIDI file what the chip could play: its monophonic
instruments, and its drums. `draw` puts three of the former on P1, P2 and TR
and one of the latter on NO; `play` writes the events of that. `adapt` does all
of it as the paper did, up to 16 examples a file.

Source: `adapt_lakh_to_nes` of LakhNES (Donahue et al., ISMIR 2019, section 4).
"""

import hashlib
import itertools
from typing import NamedTuple

import numpy as np

from data_prep import gmidi
from data_prep.gmidi import END, PITCH, START, VELOCITY
from lakhnes_jax import events as ev

EXAMPLES_PER_FILE = 16
_MIN_SECONDS, _MAX_SECONDS = 5, 600  # Of a file.
_CLIP = 180 * ev.SAMPLE_RATE  # An example's length in samples.
_RANGE = ev.VOICES[ev.TR].pitches  # The widest of the melodic voices.
_MAX_SURVIVORS = 32
NOBODY = -1


class Ensemble(NamedTuple):
  """What of a file can be played by the chip: notes as in `Instrument`.

  Attributes:
    melodic: the notes of each monophonic instrument, at least one.
    drums: the notes of each drum track, polyphonic, maybe none.
  """
  melodic: tuple[np.ndarray, ...]
  drums: tuple[np.ndarray, ...]


class Part(NamedTuple):
  """Who plays what in one example.

  Attributes:
    melodic: index into `Ensemble.melodic` for P1, P2, TR, or `NOBODY`.
    drums: index into `Ensemble.drums`, or `NOBODY`.
    noise: [128] the noise pitch, 1 to 16, for each drum.
  """
  melodic: tuple[int, int, int]
  drums: int
  noise: np.ndarray


def content_hash(instruments: list[gmidi.Instrument]) -> str:
  """SHA-256 of the notes: not of tracks' order, names or leading silence."""
  if not instruments:
    return hashlib.sha256().hexdigest()
  first = min(int(i.notes[0, START]) for i in instruments)
  shift = np.array([first, first, 0, 0])
  digests = sorted(
      hashlib.sha256(bytes([i.is_drum]) +
                     (i.notes - shift).astype('<i8').tobytes()).digest()
      for i in instruments)
  return hashlib.sha256(b''.join(digests)).hexdigest()


def seconds(instruments: list[gmidi.Instrument]) -> float:
  """Returns when the last note ends, from the beginning of the file."""
  return max((int(i.notes[:, END].max()) for i in instruments),
             default=0) / ev.SAMPLE_RATE


def ensemble(instruments: list[gmidi.Instrument]) -> Ensemble:
  """Keeps the instruments that the chip could play.

  Raises:
    ValueError: there is nothing to adapt; the message is the reason.
  """
  length = seconds(instruments)
  if length < _MIN_SECONDS:
    raise ValueError(f'shorter than {_MIN_SECONDS} s')
  if length > _MAX_SECONDS:
    raise ValueError(f'longer than {_MAX_SECONDS} s')
  melodic, seen = [], set()
  for is_drum, notes in ((i.is_drum, i.notes) for i in instruments):
    pitches = notes[:, PITCH]
    out_of_range = pitches.max() < _RANGE[0] or pitches.min() > _RANGE[-1]
    if is_drum or out_of_range or (notes[:-1, END] > notes[1:, START]).any():
      continue
    # Two that play the same to a tenth of a second are one.
    tenths = np.rint(notes[:, START] * (10 / ev.SAMPLE_RATE)).astype(np.int64)
    key = np.stack([tenths, pitches]).tobytes()
    if key not in seen:
      seen.add(key)
      melodic.append(notes)
  if not melodic:
    raise ValueError('no monophonic instrument')
  return Ensemble(tuple(melodic),
                  tuple(i.notes for i in instruments if i.is_drum))


def placements(n_melodic: int, rng: np.random.Generator,
               limit: int) -> list[tuple[int, int, int]]:
  """Draws up to `limit` different ways to put instruments on P1, P2 and TR.

  All ordered choices of three are equally likely; with two instruments one
  voice stays empty, with one two do. Over 32 instruments a random 32 are left.
  """
  who = range(n_melodic)
  if n_melodic > _MAX_SURVIVORS:
    who = rng.choice(n_melodic, _MAX_SURVIVORS, replace=False).tolist()
  players = [*who, *[NOBODY] * (3 - len(who))]
  # With two empty places, each placement comes up twice.
  ways = sorted(set(itertools.permutations(players, 3)))
  return [ways[i] for i in rng.permutation(len(ways))[:limit]]


def draw(song: Ensemble, placement: tuple[int, int, int],
         rng: np.random.Generator) -> Part:
  """Draws a drum track, and a noise pitch for each drum."""
  drums = int(rng.integers(len(song.drums))) if song.drums else NOBODY
  noise = ev.VOICES[ev.NO].pitches
  return Part(placement, drums,
              rng.integers(noise[0], noise[-1] + 1, 128))


def play(song: Ensemble, part: Part) -> np.ndarray:
  """Writes the events of one example, with velocities.

  Notes outside the range of their voice are dropped, drums that begin while
  another sounds too; the song begins at its first note and is cut at 180 s.

  Returns:
    int32 song; empty if no note is left.
  """
  voices = []
  for voice, who in enumerate(part.melodic):
    if who != NOBODY:
      notes, pitches = song.melodic[who], ev.VOICES[voice].pitches
      inside = ((notes[:, PITCH] >= pitches[0]) &
                (notes[:, PITCH] <= pitches[-1]))
      voices.append((voice, notes[inside]))
  if part.drums != NOBODY:
    notes = _one_at_a_time(song.drums[part.drums])
    notes[:, PITCH] = part.noise[notes[:, PITCH]]
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


def adapt(instruments: list[gmidi.Instrument], rng: np.random.Generator,
          limit: int = EXAMPLES_PER_FILE) -> list[np.ndarray]:
  """Makes up to `limit` examples of a file, each an int32 song.

  Raises:
    ValueError: there is nothing to adapt; the message is the reason.
  """
  song = ensemble(instruments)
  examples = [play(song, draw(song, placement, rng)) for placement in
              placements(len(song.melodic), rng, limit)]
  examples = [example for example in examples if len(example)]
  if not examples:
    raise ValueError('no note in the range of a voice')
  return examples
