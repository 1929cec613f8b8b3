"""The form of a song: which bars of its voices come again, and when.

Songs of the chip are made of phrases that return: where a tune repeats a bar,
it is more often the one two, four or eight bars earlier than the last. In half
of all bars some voices repeat one and others do not. A bass keeps its figure
and moves with the harmony, a tune keeps its rhythm, and P2 goes in step with
P1 or echoes it. The forms of real songs (`python -m data_prep.forms`) lie
beside this file, so that new songs can be given the form of one (see
`repeats`).
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
from lakhnes_jax.tracker import vocabulary as voc

PATH = pathlib.Path(__file__).parent / 'forms.npz'
BARS = 128  # That a form has at most.
OFTEN = 3  # Times that a song has a delay, or nudges, that is no accident.
NEW = -1  # A bar that repeats no other.
# What comes again of a bar: its notes; these, all transposed by one interval;
# or the rows in which they begin.
NOTES, TRANSPOSED, RHYTHM = range(3)
_MAX_BYTES = 2**26  # Of a file of forms.
_NEVER = 255  # In a file: repeats no bar.
_MAX_FRAMES = 2**16 - 1  # In a file: of a note.

# Letters: M bars, K forms, D delays.


class Forms(NamedTuple):
  """Forms of songs.

  Attributes:
    source: [K, 4, M] int32, for each bar of a voice the earlier one that it
      repeats; of P2 that bar itself, where it follows P1 in it; `NEW` for none,
      or where it is silent.
    how: [K, 4, M] int32, what of it comes again: `NOTES`, `TRANSPOSED`,
      `RHYTHM`.
    lag: [K, M] int32, rows that P2 is behind P1 where it follows it.
    frames: [K] int32, how long a bar of each song lasts.
    voices: [K] int32, those that play, a bit each.
    delays: [K, D] bool, which delays, in frames, their notes have `OFTEN`.
    longest: [K, 4] int32, frames that each voice's longest note is held; 0 for
      a voice that does not play.
  """
  source: np.ndarray
  how: np.ndarray
  lag: np.ndarray
  frames: np.ndarray
  voices: np.ndarray
  delays: np.ndarray
  longest: np.ndarray

  def take(self, numbers: np.ndarray) -> 'Forms':
    """Returns the forms of these numbers, in their order."""
    return Forms(*(column[numbers] for column in self))

  def having(self, voices: int, n: int) -> 'Forms':
    """Returns those with all of these voices, or all if they are fewer than n.
    """
    has = self.voices & voices == voices
    return self.take(np.flatnonzero(has)) if has.sum() >= n else self

  def nearest(self, frames: float, n: int) -> 'Forms':
    """Returns the n forms of songs whose bars last most nearly so long."""
    return self.take(np.argsort(
        np.abs(np.log(self.frames / frames)), kind='stable')[:n])

  def agreeing(self, source: np.ndarray, how: np.ndarray, n: int,
               voices: Sequence[int] = range(4)) -> 'Forms':
    """Returns the n forms whose voices most nearly begin like this one's."""
    voices, length = list(voices), source.shape[1]
    differs = (self.source[:, voices, :length] != source[voices]) | (
        self.how[:, voices, :length] != how[voices])
    return self.take(np.argsort(differs.sum((1, 2)), kind='stable')[:n])


class Form(NamedTuple):
  """The form of one song, as `Forms` has it, as long as it is."""
  source: np.ndarray
  how: np.ndarray
  lag: np.ndarray
  frames: int
  voices: int
  delays: np.ndarray
  longest: np.ndarray


def of_pattern(pattern: pattern_lib.Pattern) -> Form:
  """Finds the form of a song.

  A voice's bar repeats another if the same notes begin in the same rows. Where
  there are several, it is the one after the bar that the bar before repeats,
  else the first. If there is none, a bar of two notes or more of P1, P2 or TR
  repeats the last that is the same transposed, else the last of its rhythm;
  P2's rather P1's bar at that time than one of those; but rather than a rhythm,
  the notes that P1 played some rows before, a bar at most. A bar of NO repeats
  the first that is nearly the same: drums are one figure with fills.

  Args:
    pattern: of the song.

  Returns:
    The form, from the bar that the song's first note is in. A voice that plays
    `A B A C A B` has the source -1 -1 0 -1 0 1.

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
  n_bars = min(int(bar[-1]) + 1, BARS)
  bars: list[list[_Bar]] = [[() for _ in range(n_bars)] for _ in range(4)]
  for v, number, *note in zip(*(x[bar < BARS].tolist() for x in (
      voice, bar, place, pitch)), strict=True):
    bars[v][number] += tuple(note),
  source = np.full((4, n_bars), NEW, np.int32)
  how = np.full_like(source, NOTES)
  lag = np.zeros(n_bars, np.int32)
  for v, mine in enumerate(bars):
    for i in range(n_bars):
      others = mine[:i] + [bars[ev.P1][i]] * (v == ev.P2)
      after = int(source[v, i - 1]) + 1 if i else 0
      found = _same(mine[i], mine[:i], after)
      if found == NEW and v == ev.NO:
        found = _nearly(mine[i], mine[:i])
      elif found == NEW:
        found, how[v, i] = _like(mine[i], others)
        if v == ev.P2 and (found != i or how[v, i] == RHYTHM):
          lag[i] = _echo(mine[i], bars[ev.P1][i - 1] if i else (),
                         bars[ev.P1][i], pattern.bar_rows)
          if lag[i]:
            found, how[v, i] = i, NOTES
      source[v, i] = found
  n_late = np.bincount(pattern.frame[played] - rows[row],
                       minlength=voc.N_DELAYS)
  longest = np.zeros(4, np.int32)
  np.maximum.at(longest, voice, pattern.stays[played])
  return Form(source, how, lag, frames, ev.voice_bits(voice),
              n_late[:voc.N_DELAYS] >= OFTEN, longest)


_Bar = tuple[tuple[int, int], ...]  # (row, pitch) of its notes.


def _same(bar: _Bar, others: list[_Bar], first: int) -> int:
  """Returns the number of one with the same notes, `first` if it has, or NEW.
  """
  if not bar or bar not in others:
    return NEW
  return first if others[first:first + 1] == [bar] else others.index(bar)


def _nearly(bar: _Bar, others: list[_Bar]) -> int:
  """Returns the number of the first most like it, or NEW.

  Of all notes of both they have three quarters in common (Jaccard index).
  """
  notes = set(bar)
  likeness = [len(notes & set(other)) / max(len(notes | set(other)), 1)
              for other in others]
  return int(np.argmax(likeness)) if max(likeness, default=0) >= .75 else NEW


def _like(bar: _Bar, others: list[_Bar]) -> tuple[int, int]:
  """Returns the number of the one that is most like it, and how; or NEW."""
  found = NEW, NOTES
  if len(bar) < 2:
    return found
  rows, pitches = zip(*bar, strict=True)
  for i in reversed(range(len(others))):
    if tuple(row for row, _ in others[i]) == rows:
      moves = {a - b for a, (_, b) in zip(pitches, others[i], strict=True)}
      how = RHYTHM if len(moves) > 1 else NOTES if moves == {0} else TRANSPOSED
      if found[0] == NEW or how < found[1]:
        found = i, how
  return found


def _echo(bar: _Bar, before: _Bar, now: _Bar, n_rows: int) -> int:
  """Returns how many rows a bar is behind another voice, or 0.

  Args:
    bar: of one note it is no echo.
    before, now: the other voice's bar before it, and that at its time.
    n_rows: of a bar.
  """
  if len(bar) < 2:
    return 0
  notes = [*((row - n_rows, pitch) for row, pitch in before), *now]
  for lag in range(1, n_rows + 1):
    if bar == tuple((row + lag, pitch) for row, pitch in notes
                    if 0 <= row + lag < n_rows):
      return lag
  return 0


def write(path: pathlib.Path, forms: list[Form]) -> None:
  """Writes forms; the same give the same bytes."""
  back = np.full((len(forms), 4, BARS), _NEVER, np.uint8)  # Bars.
  how = np.full(back.shape, NOTES, np.uint8)
  lag = np.zeros((len(forms), BARS), np.uint8)
  for i, form in enumerate(forms):
    bars = np.arange(form.source.shape[1])
    back[i, :, :len(bars)] = np.where(
        form.source == NEW, _NEVER, bars - form.source)
    how[i, :, :len(bars)] = form.how
    lag[i, :len(bars)] = form.lag
  buffer = io.BytesIO()
  np.savez_compressed(
      buffer, back=back, how=how, lag=lag,
      frames=np.array([form.frames for form in forms], np.uint16),
      voices=np.array([form.voices for form in forms], np.uint8),
      delays=np.array([form.delays for form in forms], bool),
      longest=np.array([form.longest for form in forms]).clip(
          max=_MAX_FRAMES).astype(np.uint16))
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
      back, how, lag, frames, voices, longest = (
          arrays[name].astype(np.int32)
          for name in ('back', 'how', 'lag', 'frames', 'voices', 'longest'))
      delays = arrays['delays'].astype(bool)
    bars = np.arange(BARS)
    is_new = back == _NEVER
    if back.shape != (len(frames), 4, BARS) or how.shape != back.shape or (
        lag.shape != (len(frames), BARS) or
        frames.shape != voices.shape or not len(frames) or frames.min() < 1 or
        (~is_new & (back > bars)).any() or how.max() > RHYTHM or
        (back[:, [ev.P1, ev.TR, ev.NO]] == 0).any() or
        delays.shape != (len(frames), voc.N_DELAYS) or
        longest.shape != (len(frames), 4)):
      raise ValueError('not forms of songs')
  return Forms(np.where(is_new, NEW, bars - back), how, lag, frames, voices,
               delays, longest)


@functools.cache
def default() -> Forms:
  """Returns the forms that come with the package."""
  return read(PATH)
