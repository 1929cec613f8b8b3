"""The form of a song: which of its bars come again, and when.

Songs of the chip are made of phrases that return: a bar that has been there
before is mostly the one two, four or eight bars earlier. The forms of real
songs (`python -m data_prep.forms`) lie beside this file, so that new songs can
be given the form of one (see `repeats`).
"""

import functools
import io
import pathlib
from typing import NamedTuple

import numpy as np

from lakhnes_jax import atomic, input_files
from lakhnes_jax.tracker import pattern as pattern_lib

PATH = pathlib.Path(__file__).parent / 'forms.npz'
BARS = 128  # That a form has at most.
NEW = -1  # A bar that repeats no other.
_MAX_BYTES = 2**26  # Of a file of forms.

# Letters: M bars, K forms.


class Forms(NamedTuple):
  """Forms of songs.

  Attributes:
    source: [K, M] int32, for each bar the earlier one that it repeats, or
      `NEW`; `NEW` too after the end of a song.
    frames: [K] int32, how long a bar of each song lasts.
  """
  source: np.ndarray
  frames: np.ndarray

  def nearest(self, frames: float, n: int) -> 'Forms':
    """Returns the n forms of songs whose bars last most nearly so long."""
    order = np.argsort(np.abs(np.log(self.frames / frames)), kind='stable')[:n]
    return Forms(self.source[order], self.frames[order])

  def agreeing(self, source: np.ndarray, n: int) -> 'Forms':
    """Returns the n forms that most nearly begin like this one."""
    order = np.argsort((self.source[:, :len(source)] != source).sum(1),
                       kind='stable')[:n]
    return Forms(self.source[order], self.frames[order])


def of_pattern(pattern: pattern_lib.Pattern) -> tuple[np.ndarray, int]:
  """Finds the form of a song.

  A bar repeats another if the same notes begin in the same rows. Where there
  are several, it is the one after the bar that the bar before repeats, else the
  first.

  Args:
    pattern: of the song.

  Returns:
    [M] int32, for each bar the earlier one that it repeats, or `NEW`, as of
    the bar that the first note is in, at most `BARS`; and how many frames a bar
    lasts. For `A B A C A B` they are -1 -1 0 -1 0 1.

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
  notes = np.stack([place, pattern.voice[played], pattern.pitch[played]], 1)
  bars = [frozenset(map(tuple, notes[bar == number].tolist()))
          for number in range(min(int(bar[-1]) + 1, BARS))]
  source = np.full(len(bars), NEW, np.int32)
  for i in range(1, len(bars)):
    like = int(source[i - 1]) + 1
    if not 0 < like < i or bars[like] != bars[i]:
      like = bars.index(bars[i])
    if like < i and bars[i]:
      source[i] = like
  return source, frames


def write(path: pathlib.Path, forms: list[tuple[np.ndarray, int]]) -> None:
  """Writes forms as `of_pattern` returns them; the same give the same bytes."""
  back = np.zeros((len(forms), BARS), np.uint8)  # Bars; 0 for none.
  for row, (source, _) in zip(back, forms, strict=True):
    bars = np.arange(len(source))
    row[:len(source)] = np.where(source == NEW, 0, bars - source)
  buffer = io.BytesIO()
  np.savez_compressed(buffer, back=back, frames=np.array(
      [frames for _, frames in forms], np.uint16))
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
      frames = arrays['frames'].astype(np.int32)
    bars = np.arange(back.shape[1])
    if back.shape != (len(frames), BARS) or not len(frames) or (
        back > bars).any() or frames.min() < 1:
      raise ValueError('not forms of songs')
  return Forms(np.where(back == 0, NEW, bars - back), frames)


@functools.cache
def default() -> Forms:
  """Returns the forms that come with the package."""
  return read(PATH)
