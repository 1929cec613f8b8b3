"""Scores: the state of each voice of the chip over time, exact to the sample.

A song's events are changes; a score holds the state between them. It is
piecewise constant, so it stays small and loses no timing.
"""

from typing import NamedTuple

import numpy as np

from lakhnes_jax import events as ev
from lakhnes_jax import nes

NOTE, VELOCITY, TIMBRE = range(3)  # Columns of `Score.state`.
MAX_LENGTH = 2**31 - 1  # Samples.


class Score(NamedTuple):
  """What the four voices play, segment by segment.

  Attributes:
    start: [E] int64, samples at 44.1 kHz; begins with 0 and ascends strictly.
    state: [E, 4, 3] uint8: note (0 is silence; the triangle of a MIDI number
      sounds as written; for noise 16 less the period index), velocity 0-15
      (0 in silence, 1 for the triangle), timbre (pulse duty or noise mode).
    onset: [E, 4] bool: a NOTEON begins here, of the same note or another.
    length: samples; the last segment ends here.
  """
  start: np.ndarray
  state: np.ndarray
  onset: np.ndarray
  length: int

  @property
  def seconds(self) -> float:
    return self.length / ev.SAMPLE_RATE


def _held(mask: np.ndarray, values: np.ndarray, initial: int) -> np.ndarray:
  """[n]: at each place the last value at or before it where `mask` holds."""
  last = np.maximum.accumulate(np.where(mask, np.arange(1, len(mask) + 1), 0))
  return np.concatenate([[initial], values])[last]


def from_events(events: np.ndarray) -> Score:
  """Builds the score of a song.

  Velocity and timbre hold until the next event sets them. Before any, a voice
  plays at velocity 15 and timbre 0, as songs without dynamics (TX1) did in the
  original; the triangle, which has no volume, has velocity 1.

  Args:
    events: int32 song (see `events`).

  Raises:
    ValueError: the song is longer than 13 hours.
  """
  events = np.asarray(events)
  times, counts = ev.times_of(events), events < 0
  length = int(times[-1]) if len(times) else 0
  if length > MAX_LENGTH:
    raise ValueError(f'the song is longer than {MAX_LENGTH} samples (13 hours)')
  counts &= times < length  # Events at the very end have no effect.
  times, events = times[counts], events[counts]
  voice, kind = ev.voice_of(events), ev.kind_of(events)
  value = ev.value_of(events)
  # The last row of each instant holds all of its events.
  ends = np.flatnonzero(np.diff(times, append=-1) != 0)
  first = 0 if len(ends) and times[0] == 0 else 1
  start = np.concatenate([np.zeros(first, np.int64), times[ends]])
  state = np.zeros((len(start), 4, 3), np.uint8)
  onset = np.zeros((len(start), 4), bool)
  instant = np.searchsorted(times[ends], times) + first
  for v in range(4):
    mine = voice == v
    is_note = mine & (kind <= ev.NOTEON)
    onset[instant[is_note], v] = kind[is_note] == ev.NOTEON
    for column, mask, initial in (
        (NOTE, is_note, 0), (VELOCITY, mine & (kind == ev.VELOCITY), 15),
        (TIMBRE, mine & (kind == ev.TIMBRE), 0)):
      state[first:, v, column] = _held(mask, value, initial)[ends]
  state[:, ev.TR, VELOCITY] = 1
  state[..., VELOCITY] *= state[..., NOTE] > 0
  return compact(Score(start, state, onset, length))


def to_events(score: Score, dynamics: bool = True) -> np.ndarray:
  """Turns a score into a song.

  As in NES-MDB, a voice without notes has no events, and a note still on at
  the end ends there.

  Args:
    score: as `from_events` builds it; a change of note is an onset, marked or
      not.
    dynamics: whether to include velocities and timbres.

  Returns:
    int32 song (see `events`).

  Raises:
    ValueError: a note, velocity or timbre is outside its voice's range.
  """
  rows = []
  state = score.state.astype(np.int64)
  for v in range(4):
    note, level, tone = state[:, v].T
    if not note.any():
      continue
    before, level_before, tone_before = np.vstack(
        [np.zeros((1, 3), np.int64), state[:-1, v]]).T
    on = (note > 0) & (score.onset[:, v] | (note != before))
    off = (note == 0) & (before > 0)
    changes = [(off, ev.NOTEOFF, note), (on, ev.NOTEON, note)]
    if dynamics and v != ev.TR:
      changes += [
          (on | (note > 0) & (level != level_before), ev.VELOCITY, level),
          (tone != tone_before, ev.TIMBRE, tone)]
    for mask, kind, value in changes:
      events = ev.EVENT[v, kind, np.minimum(value[mask], 127)]
      for wrong in value[mask][events == 0][:1]:
        ev.event(v, kind, int(wrong))  # Raises, and says what is legal.
      rows.append((score.start[mask], events))
    if note[-1]:
      rows.append(([score.length], [ev.event(v, ev.NOTEOFF)]))
  if not rows:
    return ev.from_times([], [], score.length)
  times, events = (np.concatenate(parts) for parts in zip(*rows, strict=True))
  order = np.argsort(times, kind='stable')  # Voices stay in their order.
  return ev.from_times(times[order], events[order], score.length)


def compact(score: Score) -> Score:
  """Joins segments between which nothing changes."""
  changes = np.ones(len(score.start), bool)
  changes[1:] = ((score.state[1:] != score.state[:-1]).any((1, 2)) |
                 score.onset[1:].any(1))
  return Score(score.start[changes], score.state[changes],
               score.onset[changes], score.length)


def pad(scores: list[Score], size: int) -> tuple[np.ndarray, np.ndarray]:
  """Stacks scores for the synthesizer.

  Args:
    scores: B scores of at most `size` - 1 segments.
    size: E, segments in the result.

  Returns:
    start [B, E] int32, state [B, E, 4, 3] uint8. Silence follows each song.
  """
  start = np.full((len(scores), size), np.iinfo(np.int32).max, np.int32)
  state = np.zeros((len(scores), size, 4, 3), np.uint8)
  for row, score in enumerate(scores):
    n = len(score.start)
    start[row, :n] = score.start
    state[row, :n] = score.state
    start[row, n] = score.length
    state[row, n, :, TIMBRE] = score.state[-1, :, TIMBRE]
  return start, state


def with_decay(score: Score) -> Score:
  """Adds a volume decay to notes, as chip music usually has.

  A pulse starts at velocity 12 and falls by one every 4 frames (60 per second)
  to 5; noise starts at 10 and falls by one per frame to 1. Notes, their times
  and the triangle stay as they are.
  """
  frame = nes.FRAME_60HZ
  curves = {ev.P1: (12, 5, 4 * frame), ev.P2: (12, 5, 4 * frame),
            ev.NO: (10, 1, frame)}
  note = score.state[..., NOTE]
  began = score.onset.copy()
  began[1:] |= (note[1:] != note[:-1]) & (note[1:] > 0)
  began[0] |= note[0] > 0
  times = [score.start]
  for voice, (top, floor, period) in curves.items():
    onsets = score.start[began[:, voice]]
    times.append((onsets[:, None] + period * np.arange(
        1, top - floor + 1)).reshape(-1))
  start = np.unique(np.concatenate(times))
  start = start[start < score.length]
  row = np.searchsorted(score.start, start, 'right') - 1
  state = score.state[row]
  for voice, (top, floor, period) in curves.items():
    last = np.maximum.accumulate(np.where(began[:, voice], score.start, 0))
    fallen = (start - last[row]) // period
    level = np.maximum(top - fallen, floor)
    state[:, voice, VELOCITY] = np.where(state[:, voice, NOTE] > 0, level, 0)
  onset = score.onset[row] & (start == score.start[row])[:, None]
  return compact(Score(start, state, onset, score.length))
