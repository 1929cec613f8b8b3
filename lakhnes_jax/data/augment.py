"""Augmentation: trimming and random changes, on songs of exact events.

Songs are those of `lakhnes_jax.events`; wait quantisation comes afterwards.
Every function is pure and vectorised. VELOCITY and TIMBRE events follow their
voice. Which changes there are, their order and their ranges: LakhNES, section
3.3 and its published code; but for tempo and latency, which are not in it.

LakhNES stretches a song by up to 5%, and with it the frames in which a console
plays. These two keep them. A game's music program is called once a frame: notes
begin a whole number of frames apart, which a change of tempo makes another, and
short waits are the time that the program takes, its latency.
"""

import dataclasses
import functools
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from lakhnes_jax import events as ev

MAX_SEMITONES = 6  # Transposition is uniform in -6 .. +6.
MAX_SPEED_CHANGE = .05  # Playback speed is uniform in .95 .. 1.05.
FRAME = 733.79  # Samples; an NES makes 60.0988 frames a second.
TICKS = range(4, 25)  # Frames.
_SAME_FRAME = 180  # Samples; waits below come of how long the program takes.
_OURS = ('tempo', 'latency')  # Not in the original, and so not in 'all'.
_ALL_VOICES = tuple(range(len(ev.VOICES)))
_DROPPED = ~ev.N_CODES  # The event one past the last: to be left out.


def trim(events: np.ndarray) -> np.ndarray:
  """Leaves out one wait at the start and one at the end, where there is one."""
  start = int(len(events) > 0 and events[0] >= 0)
  end = len(events) - int(len(events) > 0 and events[-1] >= 0)
  return events[start:end]


def select_ensemble(events: np.ndarray, voices: Iterable[int]) -> np.ndarray:
  """Keeps the chip events of some voices, and every wait as it is."""
  return _recode(events, _recoding(tuple(sorted(voices)), False, 0))


def switch_pulses(events: np.ndarray) -> np.ndarray:
  """Gives what P1 plays to P2 and the other way round."""
  return _recode(events, _recoding(_ALL_VOICES, True, 0))


def transpose(events: np.ndarray, semitones: int) -> np.ndarray:
  """Shifts the pitches of P1, P2 and TR.

  A NOTEON that leaves its voice's range is dropped; its NOTEOFF stays, and the
  waits on either side of it are not merged.
  """
  return _recode(events, _recoding(_ALL_VOICES, False, int(semitones)))


def stretch(events: np.ndarray, speed: float) -> np.ndarray:
  """Plays a song `speed` times as fast.

  The times of chip events are divided by `speed` and rounded (half to even).
  Waits without an event between them become one, those of length 0 go, and so
  does a wait at the end. At speed 1 the song comes back unchanged.

  Raises:
    ValueError: speed is not positive.
  """
  if not speed > 0:
    raise ValueError(f'speed {speed} is not positive')
  if speed == 1:
    return events
  is_chip = events < 0
  # A product with the inverse, as in the original: a quotient rounds otherwise.
  times = np.rint(ev.times_of(events)[is_chip] * (1 / speed)).astype(np.int64)
  return ev.from_times(times, events[is_chip], times[-1] if times.size else 0)


def tick(events: np.ndarray) -> int:
  """Finds the step in which a song's notes begin, such as a sixteenth.

  Returns:
    the longest of `TICKS` of which nine tenths as many times between NOTEONs
    of a voice are multiples as of any; 0 where those are few, and where the
    program is not called by frames
  """
  chip, times = events[events < 0], ev.times_of(events)[events < 0]
  calls = np.diff(np.unique(times[_first_in_frame(times)])) / FRAME
  if (abs(calls - np.rint(calls)) > .15).sum() > .3 * len(calls):
    return 0
  frame = _frames(times)
  voice, is_on = ev.voice_of(chip), ev.kind_of(chip) == ev.NOTEON
  apart = np.concatenate([
      np.diff(frame[is_on & (voice == v)]) for v in _ALL_VOICES])
  apart = apart[(apart >= TICKS[0] - 1) & (apart < 65)]
  if len(apart) < 8:
    return 0
  share = np.array([np.mean(apart % frames == 0) for frames in TICKS])
  if share.max() < .6:
    return 0
  return TICKS[int(np.flatnonzero(share >= .9 * share.max())[-1])]


def change_tempo(events: np.ndarray, ratio: float) -> np.ndarray:
  """Plays a song `ratio` times as slowly, in whole frames.

  What was in one frame stays in one, as far apart as it was, and what was in
  several stays in as many. A wait at the end goes.

  Raises:
    ValueError: ratio is not positive.
  """
  if not ratio > 0:
    raise ValueError(f'ratio {ratio} of tempos is not positive')
  is_chip = events < 0
  times = ev.times_of(events)[is_chip]
  old, which = np.unique(_frames(times), return_inverse=True)
  place = np.arange(len(old))
  new = place + np.maximum.accumulate(
      np.rint(old * ratio).astype(np.int64) - place)
  times = np.maximum.accumulate(
      times + np.rint((new - old)[which] * FRAME).astype(np.int64))
  return ev.from_times(times, events[is_chip], times[-1] if times.size else 0)


def change_latency(events: np.ndarray, factors: np.ndarray) -> np.ndarray:
  """Lets the program take more or less time between what it writes in a frame.

  Frames begin when they did, unless the one before is not over yet. A wait at
  the end goes.

  Args:
    events: a song.
    factors: [4 K, 4 K] of its waits, positive, by voice and kind (of K) of the
      chip event before and of that after.
  """
  is_chip = events < 0
  times, chip = ev.times_of(events)[is_chip], events[is_chip]
  if not times.size:
    return chip
  what = ev.voice_of(chip) * ev.EVENT.shape[1] + ev.kind_of(chip)
  wait = np.diff(times, prepend=times[0])
  first = _first_in_frame(times)
  is_inside = first < np.arange(len(times))
  changed = np.rint(wait * factors[np.roll(what, 1), what]).astype(np.int64)
  late = np.cumsum(np.where(
      is_inside, np.maximum(changed, np.minimum(wait, 1)), 0))
  times = np.maximum.accumulate(times[first] + late - late[first])
  return ev.from_times(times, chip, times[-1])


def _first_in_frame(times: np.ndarray) -> np.ndarray:
  """Returns the index of the first write in each one's frame."""
  is_first = np.diff(times, prepend=-_SAME_FRAME) >= _SAME_FRAME
  return np.maximum.accumulate(np.where(is_first, np.arange(len(times)), 0))


def _frames(times: np.ndarray) -> np.ndarray:
  """Numbers the frames at whose beginnings writes were made, from 0."""
  start = times[_first_in_frame(times)]
  return np.rint((start - times[:1]) / FRAME).astype(np.int64)


@functools.lru_cache(maxsize=1024)
def _recoding(voices: tuple[int, ...], switch: bool,
              semitones: int) -> np.ndarray:
  """[N_CODES] int32: what each event becomes, indexed by the event itself.

  Events are negative, so that `table[event]` counts from the end.
  """
  voice, kind, value = (x.astype(np.int32) for x in (
      ev.CODE_VOICE, ev.CODE_KIND, ev.CODE_VALUE))
  dropped = ~np.isin(voice, voices)
  if switch:
    voice = np.array([ev.P2, ev.P1, ev.TR, ev.NO])[voice]
  moved = (kind == ev.NOTEON) & (voice != ev.NO)
  value = np.where(moved, value + semitones, value)
  inside = (value >= 0) & (value < ev.EVENT.shape[2])
  event = ev.EVENT[voice, kind, np.where(inside, value, 0)]
  dropped |= moved & ~(inside & (event != 0))
  return np.where(dropped, _DROPPED, event).astype(np.int32)[::-1]


def _recode(events: np.ndarray, table: np.ndarray) -> np.ndarray:
  """Replaces each chip event by what `table` says, or drops it."""
  recoded = np.where(events < 0, table[np.minimum(events, -1)], events)
  return recoded[recoded != _DROPPED]


class Changes(NamedTuple):
  """What happens to one song at one epoch.

  Attributes:
    voices: those that are kept.
    switch: whether P1 and P2 change places.
    semitones: of transposition.
    tempo: which of the tempos near its own it gets, 0 to 1; None for its own.
    latency: seed of the time that the program takes; None for its own.
    speed: of playback.
  """
  voices: tuple[int, ...] = _ALL_VOICES
  switch: bool = False
  semitones: int = 0
  tempo: float | None = None
  latency: int | None = None
  speed: float = 1.


@dataclasses.dataclass(frozen=True)
class Augmentation:
  """Which changes are made, in this order.

  Attributes:
    trim: leave out a leading and a trailing wait, always.
    ensemble: with probability 1/2 keep 1 to 3 of the voices.
    switch: with probability 1/2 let P1 and P2 change places.
    transpose: by -6 to +6 semitones, uniformly.
    tempo: with probability 0.7 give the `tick` another number of frames, 3/4
      to 4/3 of its own, uniformly.
    latency: with probability 0.7 multiply the waits within frames by numbers
      around 1, drawn by what is before and after.
    stretch: to 0.95 to 1.05 of the speed, uniformly.
  """
  trim: bool = False
  ensemble: bool = False
  switch: bool = False
  transpose: bool = False
  tempo: bool = False
  latency: bool = False
  stretch: bool = False

  @classmethod
  def from_names(cls, names: Iterable[str]) -> 'Augmentation':
    """Reads a flag's value: 'none', names of attributes, or 'all'.

    The last are the original's, which has neither tempo nor latency.

    Raises:
      ValueError: an unknown name; the message lists those there are.
    """
    names = list(names)
    known = [field.name for field in dataclasses.fields(cls)]
    for name in names:
      if name not in (*known, 'all', 'none') or (
          name in ('all', 'none') and len(names) > 1):
        raise ValueError(f'augmentation {",".join(names)!r}: expected none, '
                         f'all, or some of {", ".join(known)}')
    chosen = ([name for name in known if name not in _OURS]
              if names == ['all'] else names)
    return cls(**{name: True for name in chosen if name != 'none'})

  def draw(self, rng: np.random.Generator) -> Changes:
    """Draws what happens to a song, whatever is in it."""
    changes = {}
    if self.ensemble and rng.random() < .5:
      size = int(rng.integers(1, len(_ALL_VOICES)))
      changes['voices'] = tuple(sorted(
          rng.choice(len(_ALL_VOICES), size, replace=False).tolist()))
    if self.switch:
      changes['switch'] = bool(rng.random() < .5)
    if self.transpose:
      changes['semitones'] = int(
          rng.integers(-MAX_SEMITONES, MAX_SEMITONES, endpoint=True))
    if self.tempo and rng.random() < .7:
      changes['tempo'] = float(rng.random())
    if self.latency and rng.random() < .7:
      changes['latency'] = int(rng.integers(1 << 32))
    if self.stretch:
      changes['speed'] = float(
          rng.uniform(1 - MAX_SPEED_CHANGE, 1 + MAX_SPEED_CHANGE))
    return Changes(**changes)

  def apply(self, events: np.ndarray,
            rng: np.random.Generator) -> np.ndarray:
    """Changes a song in the way drawn from `rng`."""
    return self.change(events, self.draw(rng))

  def change(self, events: np.ndarray, changes: Changes) -> np.ndarray:
    """Changes a song in a given way, after trimming it if that is asked for."""
    if self.trim:
      events = trim(events)
    *recoding, tempo, latency, speed = changes
    if tuple(recoding) != Changes()[:-3]:
      events = _recode(events, _recoding(*recoding))
    if tempo is not None and (frames := tick(events)):
      near = range(-(-3 * frames // 4), 4 * frames // 3 + 1)
      others = [other for other in near if other != frames]
      events = change_tempo(events, others[int(tempo * len(others))] / frames)
    if latency is not None:
      rng = np.random.default_rng(latency)
      size = ev.EVENT.shape[0] * ev.EVENT.shape[1]
      events = change_latency(events, np.exp(
          rng.normal(0, .3) + rng.normal(0, .15, (size, size))))
    return stretch(events, speed)


TRIM = Augmentation(trim=True)
