"""Macros: what a note does frame by frame, as a tracker's instruments have it.

A note of a chip song is a pitch and three macros, each a short sequence by
frame: *level* (the volume envelope; 0 is silence, after which nothing sounds),
*tone* (pulse duty or noise mode) and *offset* (semitones above the note's own
pitch: arpeggios, trills, slides; noise periods likewise). A macro holds its
last value, or an offset goes back to its loop point, until the note is over.

The codebooks are learnt from songs (`python -m data_prep.instruments`) and lie
beside this file. Source of the idea: FamiTracker's instrument sequences.
"""

import functools
import hashlib
import io
import pathlib
from typing import NamedTuple

import numpy as np

from lakhnes_jax import atomic, input_files
from lakhnes_jax import events as ev

PATH = pathlib.Path(__file__).parent / 'instruments.npz'
WIDTH = 256  # Frames of the expanded macros; longer notes hold the last.
PULSE, TRIANGLE, NOISE = KINDS = range(3)
KIND_NAMES = ('PU', 'TR', 'NO')
KIND_OF_VOICE = (PULSE, PULSE, TRIANGLE, NOISE)
LEVEL, TONE, OFFSET = MACROS = range(3)
MACRO_NAMES = ('LEVEL', 'TONE', 'OFFSET')
_MAX_BYTES = 2**26  # Of a codebook file; ours has 11 KB.
NEVER = 1 << 20  # Frame at which a level macro that never ends is silent.


class Macros(NamedTuple):
  """The macros of one kind of voice.

  Attributes:
    table: [macro] -> [n, WIDTH] int8, expanded over frames; of `LEVEL`, `TONE`
      and `OFFSET`.
    ends: [n levels] int32, the frame at which each level macro is silent.
  """
  table: tuple[np.ndarray, np.ndarray, np.ndarray]
  ends: np.ndarray


class Codebook(NamedTuple):
  """All macros.

  Attributes:
    kinds: `Macros` of pulses, triangle and noise.
    digest: of the file that they are from.
  """
  kinds: tuple[Macros, Macros, Macros]
  digest: str

  def sizes(self, kind: int) -> tuple[int, int, int]:
    """Returns how many level, tone and offset macros there are."""
    return tuple(len(table) for table in self.kinds[kind].table)


def expand(sequence: np.ndarray, loop: int) -> np.ndarray:
  """Lays a macro out over WIDTH frames.

  Args:
    sequence: [n] int, n >= 1.
    loop: index to go back to after the last; n - 1 holds the last value.
  """
  frame = np.arange(WIDTH)
  period = len(sequence) - loop
  index = np.where(frame < len(sequence), frame,
                   loop + (frame - loop) % max(period, 1))
  return np.asarray(sequence, np.int8)[index]


def pack(macros: list[list[tuple[np.ndarray, int]]]) -> dict[str, np.ndarray]:
  """Arrays of a codebook file from [kind * 3 + macro] -> (sequence, loop)s."""
  arrays = {}
  for number, sequences in enumerate(macros):
    name = (f'{KIND_NAMES[number // 3]}_{MACRO_NAMES[number % 3]}').lower()
    arrays[f'{name}_values'] = np.concatenate(
        [s for s, _ in sequences]).astype(np.int8)
    arrays[f'{name}_lengths'] = np.array([len(s) for s, _ in sequences],
                                         np.int16)
    arrays[f'{name}_loops'] = np.array([loop for _, loop in sequences],
                                       np.int16)
  return arrays


def write(path: pathlib.Path,
          macros: list[list[tuple[np.ndarray, int]]]) -> None:
  """Writes a codebook file; the same macros give the same bytes."""
  buffer = io.BytesIO()
  np.savez_compressed(buffer, **pack(macros))
  atomic.write(path, buffer.getvalue())


def read(path: pathlib.Path = PATH) -> Codebook:
  """Reads a codebook file.

  Raises:
    OSError, ValueError: it is not there, or no codebook.
  """
  data = input_files.read(path, _MAX_BYTES)
  kinds = []
  with input_files.damage_named(
      path, 'no codebook of instruments',
      'make one with python -m data_prep.instruments'), np.load(
          io.BytesIO(data), allow_pickle=False) as arrays:
    for kind in KIND_NAMES:
      tables = []
      for macro in MACRO_NAMES:
        name = f'{kind}_{macro}'.lower()
        ends = np.cumsum(arrays[f'{name}_lengths'], dtype=np.int64)
        tables.append(np.stack([
            expand(part, int(loop)) for part, loop in zip(
                np.split(arrays[f'{name}_values'], ends[:-1]),
                arrays[f'{name}_loops'], strict=True)]))
      silent = tables[LEVEL] == 0
      ends = np.where(silent.any(1), silent.argmax(1), NEVER)
      kinds.append(Macros(tuple(tables), ends.astype(np.int32)))
  return Codebook(tuple(kinds), hashlib.sha256(data).hexdigest()[:16])


@functools.cache
def default() -> Codebook:
  """Returns the codebook that comes with the package."""
  return read(PATH)


def pitches(voice: int) -> range:
  """Returns the legal pitches of a voice."""
  return ev.VOICES[voice].pitches
