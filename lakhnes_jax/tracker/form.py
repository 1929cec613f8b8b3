"""The form of a song: which bars of its voices come again, and when.

Songs of the chip are made of phrases that return: where a tune repeats a bar,
it is more often the one two, four or eight bars earlier than the last. In half
of all bars some voices repeat one and others do not. The forms of real songs
(`python -m data_prep.forms`) lie beside this file, so that new songs can be
given the form of one (see `repeats`).
"""

import functools
import io
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lakhnes_jax import atomic, input_files
from lakhnes_jax import events as ev
from lakhnes_jax.tracker import pattern as pattern_lib

PATH = pathlib.Path(__file__).parent / 'forms.npz'
BARS = 128  # That a form has at most.
NEW = -1  # A bar that repeats no other.
_MAX_BYTES = 2**26  # Of a file of forms.

# Letters: M bars, K forms.


class Forms(NamedTuple):
  """Forms of songs.

  Attributes:
    source: [K, 4, M] int32, for each bar of a voice the earlier one that it
      repeats, or `NEW`; `NEW` too where it is silent.
    frames: [K] int32, how long a bar of each song lasts.
    voices: [K] int32, those that play, a bit each.
  """
  source: np.ndarray
  frames: np.ndarray
  voices: np.ndarray

  def take(self, numbers: np.ndarray) -> 'Forms':
    """Returns the forms of these numbers, in their order."""
    return Forms(*(column[numbers] for column in self))

  def nearest(self, frames: float, n: int) -> 'Forms':
    """Returns the n forms of songs whose bars last most nearly so long."""
    return self.take(np.argsort(
        np.abs(np.log(self.frames / frames)), kind='stable')[:n])

  def agreeing(self, source: np.ndarray, n: int,
               voices: Sequence[int] = range(4)) -> 'Forms':
    """Returns the n forms whose voices most nearly begin like this one's."""
    voices, length = list(voices), source.shape[1]
    differs = self.source[:, voices, :length] != source[voices]
    return self.take(np.argsort(differs.sum((1, 2)), kind='stable')[:n])


def of_pattern(pattern: pattern_lib.Pattern) -> tuple[np.ndarray, int, int]:
  """Finds the form of a song.

  A voice's bar repeats another if the same notes begin in the same rows. Where
  there are several, it is the one after the bar that the bar before repeats,
  else the first.

  Args:
    pattern: of the song.

  Returns:
    [4, M] int32, for each bar of a voice the earlier one that it repeats, or
    `NEW`, as of the bar that the song's first note is in, at most `BARS`; how
    many frames a bar lasts; and the voices that play, a bit each. A voice that
    plays `A B A C A B` has -1 -1 0 -1 0 1.

  Raises:
    ValueError: nothing is played.
  """
  played = pattern.pitch > 0
  if not played.any():
    raise ValueError('nothing is played')
  rows = pattern.row_frames
  row = np.searchsorted(rows, pattern.frame[played], 'right') - 1
  bar, place = np.divmod(row + pattern.phase, pattern.bar_rows)
  bar -= bar[0]
  frames = round((rows[-1] - rows[0]) / (len(rows) - 1) * pattern.bar_rows)
  voice, pitch = pattern.voice[played], pattern.pitch[played]
  source = np.full((4, min(int(bar[-1]) + 1, BARS)), NEW, np.int32)
  for which, found in enumerate(source):
    notes = [set() for _ in found]
    for number, *note in zip(*(x[(voice == which) & (bar < BARS)].tolist()
                               for x in (bar, place, pitch)), strict=True):
      notes[number].add(tuple(note))
    for i in range(1, len(found)):
      like = int(found[i - 1]) + 1
      if not 0 < like < i or notes[like] != notes[i]:
        like = notes.index(notes[i])
      if like < i and notes[i]:
        found[i] = like
  return source, frames, ev.voice_bits(voice)


def write(path: pathlib.Path, forms: list[tuple[np.ndarray, int, int]]) -> None:
  """Writes forms as `of_pattern` returns them; the same give the same bytes."""
  back = np.zeros((len(forms), 4, BARS), np.uint8)  # Bars; 0 for none.
  for row, (source, *_) in zip(back, forms, strict=True):
    bars = np.arange(source.shape[1])
    row[:, :len(bars)] = np.where(source == NEW, 0, bars - source)
  buffer = io.BytesIO()
  np.savez_compressed(
      buffer, back=back,
      frames=np.array([frames for _, frames, _ in forms], np.uint16),
      voices=np.array([voices for *_, voices in forms], np.uint8))
  atomic.write(path, buffer.getvalue())


def read(path: pathlib.Path = PATH) -> Forms:
  """Reads a file of forms.

  Raises:
    OSError, ValueError: it is not there, or holds no forms.
  """
  data = input_files.read(path, _MAX_BYTES)
  with input_files.damage_named(path, 'no forms of songs',
                                'make them with python -m data_prep.forms'):
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
      back = arrays['back'].astype(np.int32)
      frames, voices = (arrays[name].astype(np.int32)
                        for name in ('frames', 'voices'))
    bars = np.arange(BARS)
    if back.shape != (len(frames), 4, BARS) or frames.shape != voices.shape or (
        not len(frames) or (back > bars).any() or frames.min() < 1):
      raise ValueError('not forms of songs')
  return Forms(np.where(back == 0, NEW, bars - back), frames, voices)


@functools.cache
def default() -> Forms:
  """Returns the forms that come with the package."""
  return read(PATH)
