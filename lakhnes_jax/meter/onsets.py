"""Where notes begin, in frames, and how much of a beginning each one is.

Much of what NES-MDB writes as a note is an ornament: chords broken up into a
pitch per frame, vibrato that crosses into the next semitone, drums of falling
pitch. What begins a note is a rest before it, a rise of volume, or a pitch that
stays after one that stayed.
"""

from typing import NamedTuple

import numpy as np

from lakhnes_jax import events as ev

_SHORT = 3  # Frames; notes that follow one another faster are ornaments.
_TRILL = 8  # Frames that a pitch of a trill or of vibrato may last.
_STEP = 2  # Semitones of a trill.
_ORNAMENT, _HELD, _STRUCK = .02, .5, 1.  # Weights.


class Onsets(NamedTuple):
  """Notes in the order of their beginnings.

  Attributes:
    frame: [n] int64, ascending.
    weight: [n] float64, 0 to 1: how much it sounds like a beginning.
    voice: [n] int64, 0 to 3.
    pitch: [n] int64, as in `events`.
    level: [n] int64, volume at the beginning, 0 to 15; 15 if not known.
    frames: [n] int64, to the next note or rest of the voice.
  """
  frame: np.ndarray
  weight: np.ndarray
  voice: np.ndarray
  pitch: np.ndarray
  level: np.ndarray
  frames: np.ndarray


def find(frames: np.ndarray, events: np.ndarray, n_frames: int) -> Onsets:
  """Finds the notes of a song.

  Args:
    frames: [n] int64, frames of chip events in playing order.
    events: [n] int32, those events.
    n_frames: length of the song.
  """
  voice, kind = ev.voice_of(events), ev.kind_of(events)
  value = ev.value_of(events)
  parts = [_of_voice(v, *(x[voice == v] for x in (frames, kind, value)),
                     n_frames) for v in range(len(ev.VOICES))]
  found = Onsets(*map(np.concatenate, zip(*parts, strict=True)))
  order = np.argsort(found.frame, kind='stable')
  return Onsets(*(x[order] for x in found))


def _of_voice(voice: int, frames, kind, value, n_frames: int) -> Onsets:
  """Finds the notes of one voice."""
  is_note = kind <= ev.NOTEON
  at, on, pitch = frames[is_note], kind[is_note] == ev.NOTEON, value[is_note]
  if not on.any():
    return Onsets(*(np.zeros(0, np.int64) for _ in Onsets._fields))
  lasts = np.diff(at, append=n_frames)[on]
  after_rest = ~np.concatenate([[False], on[:-1]])[on]
  at, pitch = at[on], pitch[on]
  is_level = kind == ev.VELOCITY
  level_at = frames[is_level]
  levels = np.concatenate([[15 if voice == ev.TR or not len(level_at) else 0],
                           value[is_level]])
  level = levels[np.searchsorted(level_at, at, 'right')]
  before = levels[np.searchsorted(level_at, at)]
  # A note whose volume was on the rise already goes on.
  rises = (level > before) & (
      before <= levels[np.searchsorted(level_at, at - 1)])
  last, following = np.roll(pitch, 1), np.roll(pitch, -1)
  struck = after_rest | rises | (pitch == last)
  # There and back again: vibrato and trills.
  trill = ((lasts <= _TRILL) & ~struck & (abs(pitch - last) <= _STEP) &
           ((last == following) | (pitch == np.roll(pitch, 2))))
  weight = np.where(struck, _STRUCK, np.where(trill, _ORNAMENT, _HELD))
  # Of notes that follow one another at once the first is where they begin.
  first = np.flatnonzero(np.diff(at, prepend=-_SHORT) >= _SHORT)
  strongest = np.maximum.reduceat(weight, first)
  weight = np.full(len(at), _ORNAMENT)
  weight[first] = strongest
  return Onsets(at, weight, np.full(len(at), voice), pitch, level, lasts)
