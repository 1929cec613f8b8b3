"""N-grams of a song: figures, rhythms and chords, as strings."""

from collections.abc import Iterator

import numpy as np

from lakhnes_jax import events as ev
from lakhnes_jax import nes

_ORDERS = (1, 2, 3)  # Of n-grams.
_FINE = 24  # Frames that are told apart; what is longer is told by sixths.


def extract(song: np.ndarray) -> Iterator[str]:
  """Yields the n-grams of a song, each as often as it comes.

  Each voice is read alone: intervals in semitones (of noise, its values),
  times between NOTEONs and lengths of notes in frames of 1/60 s, and one to
  three notes in a row with their intervals and times. Together the voices
  make chords: at each NOTEON, what sounds above the lowest note. Transposing
  a song, or moving its events within a frame, changes (nearly) nothing, and
  notes too short to be heard do not count (`events.without_glitches`).

  Args:
    song: int32 events (see `lakhnes_jax.events`).
  """
  song = ev.without_glitches(song)
  is_note = (song < 0) & (ev.kind_of(song) <= ev.NOTEON)
  frames = np.rint(ev.times_of(song) / nes.VIDEO_FRAME).astype(int)[is_note]
  song = song[is_note]
  voice, pitch = ev.voice_of(song), ev.value_of(song)
  on = ev.kind_of(song) == ev.NOTEON
  for v in range(len(ev.VOICES)):
    mine = np.flatnonzero(voice == v)
    begins = mine[on[mine]]
    ends = np.append(frames[mine][1:], frames[-1:])[on[mine]]
    name = ev.VOICES[v].name
    moves = pitch[begins] if v == ev.NO else np.diff(
        pitch[begins], prepend=pitch[begins][:1])
    times = [_coarse(x) for x in np.diff(
        frames[begins], prepend=frames[begins][:1]).tolist()]
    for length in (ends - frames[begins]).tolist():
      yield f'{name} holds {_coarse(length)}'
    notes = [f'{move}/{time}' for move, time in zip(moves, times, strict=True)]
    for kind, row in (('moves', map(str, moves)), ('times', map(str, times)),
                      ('plays', notes)):
      row = list(row)
      for order in _ORDERS:
        for start in range(1, len(row) - order + 1):
          yield f'{name} {kind} {" ".join(row[start:start + order])}'
  yield from _chords(frames, voice, np.where(on, pitch, 0))


def _coarse(frames: int) -> int:
  """Rounds what is long: to about a sixth of itself."""
  if frames <= _FINE:
    return frames
  step = 1 << (int(np.log2(frames / _FINE)) + 2)
  return round(frames / step) * step


def _chords(frames: np.ndarray, voice: np.ndarray,
            pitch: np.ndarray) -> Iterator[str]:
  """Yields the chord after each frame in which a melodic voice changes."""
  sounding = {}
  for i in range(len(frames)):
    if voice[i] != ev.NO:
      sounding[voice[i]] = int(pitch[i])
    is_last = i + 1 == len(frames) or frames[i + 1] != frames[i]
    notes = [p for p in sounding.values() if p]
    if is_last and notes:
      low = min(notes)
      yield f'chord {sorted({(p - low) % 12 for p in notes})}'
