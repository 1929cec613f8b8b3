"""Lakh -> NES: selects the instruments of a MIDI file that the chip can play.

`select_instruments` keeps the monophonic instruments and the drums of a file.
`examples` draws arrangements of them, up to 16 per file in the paper.

Source: `adapt_lakh_to_nes` of LakhNES (Donahue et al., ISMIR 2019, section 4).
"""

import hashlib
import itertools

import numpy as np

from lakhnes_jax import events as ev
from lakhnes_jax.data import arrangement as arr
from lakhnes_jax.data.arrangement import END, PITCH, START
from lakhnes_jax.formats import general_midi

_MIN_SECONDS, _MAX_SECONDS = 5, 600  # Of a file.
_RANGE = ev.VOICES[ev.TR].pitches  # The widest of the melodic voices.
_MAX_SURVIVORS = 32


def content_hash(song: arr.Instruments) -> str:
  """SHA-256 of the selected notes.

  It does not depend on the order and names of tracks, leading silence, or what
  else the file has (such as chords), as files that differ in that alone have
  the same examples, which must not be in two splits.
  """
  parts = [(is_drum, notes) for is_drum, group in enumerate(song)
             for notes in group]
  first = min(int(notes[0, START]) for _, notes in parts)
  shift = np.array([first, first, 0, 0])
  digests = sorted(
      hashlib.sha256(bytes([is_drum]) +
                     (notes - shift).astype('<i8').tobytes()).digest()
      for is_drum, notes in parts)
  return hashlib.sha256(b''.join(digests)).hexdigest()


def seconds(instruments: list[general_midi.Instrument]) -> float:
  """Returns when the last note ends, from the beginning of the file."""
  return max((int(i.notes[:, END].max()) for i in instruments),
             default=0) / ev.SAMPLE_RATE


def select_instruments(
    instruments: list[general_midi.Instrument]) -> arr.Instruments:
  """Selects the instruments that the chip can play.

  Raises:
    ValueError: nothing can be adapted; the message is the reason.
  """
  length = seconds(instruments)
  if length < _MIN_SECONDS:
    raise ValueError(f'shorter than {_MIN_SECONDS} s')
  if length > _MAX_SECONDS:
    raise ValueError(f'longer than {_MAX_SECONDS} s')
  melodic, seen = [], set()
  for notes in (i.notes for i in instruments if not i.is_drum):
    pitches = notes[:, PITCH]
    sounds = ((notes[:, START] < notes[:, END]) & (pitches >= _RANGE[0]) &
              (pitches <= _RANGE[-1]))
    if not sounds.any() or (notes[:-1, END] > notes[1:, START]).any():
      continue
    # Instruments equal to a tenth of a second count once.
    tenths = np.rint(notes[:, START] * (10 / ev.SAMPLE_RATE)).astype(np.int64)
    key = np.stack([tenths, pitches]).tobytes()
    if key not in seen:
      seen.add(key)
      melodic.append(notes)
  if not melodic:
    raise ValueError('no monophonic instrument')
  return arr.Instruments(tuple(melodic),
                         tuple(i.notes for i in instruments if i.is_drum))


def placements(n_melodic: int, rng: np.random.Generator,
               limit: int) -> list[tuple[int, int, int]]:
  """Draws up to `limit` different assignments of instruments to P1, P2, TR.

  All ordered choices of three are equally likely. With two instruments one
  voice stays empty, with one two do. Of more than 32 instruments a random 32
  are used.
  """
  candidates = range(n_melodic)
  if n_melodic > _MAX_SURVIVORS:
    candidates = rng.choice(n_melodic, _MAX_SURVIVORS, replace=False).tolist()
  parts = [*candidates, *[arr.NONE] * (3 - len(candidates))]
  # With two empty places, each placement comes up twice.
  orders = sorted(set(itertools.permutations(parts, 3)))
  return [orders[i] for i in rng.permutation(len(orders))[:limit]]


def examples(song: arr.Instruments, rng: np.random.Generator,
             limit: int) -> list[np.ndarray]:
  """Makes up to `limit` different int32 songs, at least one."""
  songs = [arr.play(song, arr.assign(song, placement, rng)) for placement in
           placements(len(song.melodic), rng, limit)]
  return [example for example in songs if len(example)]
