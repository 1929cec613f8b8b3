"""Augmentation: trimming and random transformations of songs.

Songs are int32 arrays of exact events (see `lakhnes_jax.events`); waits are
quantised afterwards. All functions are pure and vectorised. VELOCITY and
TIMBRE events stay with their voice. The transformations, their order and their
ranges are those of LakhNES, section 3.3 and its published code, except tempo
and driver_jitter, which are ours.

Time stretching by up to 5% also stretches the video frames in which the
console plays; tempo and driver_jitter keep them. A game's music driver is
called once per frame. Notes begin a whole number of frames apart, which tempo
changes; the short waits within a frame are the time that the driver takes to
write, which driver_jitter changes.
"""

import dataclasses
import functools
import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from lakhnes_jax import events as ev
from lakhnes_jax import meter, nes

MAX_SEMITONES = 6  # Transposition is uniform in -6 .. +6.
MAX_SPEED_CHANGE = .05  # Playback speed is uniform in .95 .. 1.05.
_VIDEO_FRAMES = (nes.VIDEO_FRAME, nes.FRAME_60HZ, nes.FRAME_50HZ)  # Samples.
_SAME_ROW = .1  # Frames by which rows of the same tempo differ at most.
_SAME_FRAME = 180  # Samples; shorter waits are within a call of the driver.
_OURS = ('tempo', 'driver_jitter')  # Not in the original, and so not in 'all'.
_ALL_VOICES = tuple(range(len(ev.VOICES)))
_DROPPED = ~ev.N_CODES  # One past the last event: to be removed.


def trim(events: np.ndarray) -> np.ndarray:
  """Removes one wait at the start and one at the end, if there."""
  start = int(len(events) > 0 and events[0] >= 0)
  end = len(events) - int(len(events) > 0 and events[-1] >= 0)
  return events[start:end]


def keep_voices(events: np.ndarray, voices: Iterable[int]) -> np.ndarray:
  """Removes the chip events of all other voices; keeps every wait."""
  return _recode(events, _recoding(tuple(sorted(voices)), False, 0))


def switch_pulses(events: np.ndarray) -> np.ndarray:
  """Swaps what P1 and P2 play."""
  return _recode(events, _recoding(_ALL_VOICES, True, 0))


def transpose(events: np.ndarray, semitones: int) -> np.ndarray:
  """Shifts the pitches of P1, P2 and TR.

  A NOTEON that leaves its voice's range is dropped; its NOTEOFF stays, and the
  waits on either side of it are not merged.
  """
  return _recode(events, _recoding(_ALL_VOICES, False, int(semitones)))


def stretch(events: np.ndarray, speed: float) -> np.ndarray:
  """Speeds a song up by the factor `speed`.

  The times of chip events are divided by `speed` and rounded (half to even).
  Adjacent waits are merged; waits of length 0 and a final wait are dropped. At
  speed 1 the song is returned unchanged.

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


def row_of(events: np.ndarray) -> tuple[float, float]:
  """Finds the rows of a song's notes, such as sixteenths (see `meter`).

  Returns:
    frames per row; samples per frame. Both 0 where the meter is not sure of
    them, or the driver's calls do not follow video frames.
  """
  found = meter.analyze(events)
  is_video = any(abs(found.frame / frame - 1) < .002 for frame in _VIDEO_FRAMES)
  if min(found.row_confidence, found.frame_confidence) < .5 or not is_video:
    return 0., 0.
  return found.row, found.frame


def change_tempo(events: np.ndarray, ratio: float,
                 frame: float = nes.VIDEO_FRAME) -> np.ndarray:
  """Slows a song down by `ratio`, moving its events by whole frames.

  Events of one frame stay in one frame, at the same distances; events of
  different frames stay in different frames. A final wait is dropped.

  Args:
    events: int32 song.
    ratio: of its new length to its own.
    frame: samples per frame.

  Raises:
    ValueError: ratio is not positive.
  """
  if not ratio > 0:
    raise ValueError(f'tempo ratio {ratio} is not positive')
  is_chip = events < 0
  times = ev.times_of(events)[is_chip]
  start = times[_first_in_frame(times)]
  old, which = np.unique(np.rint((start - times[:1]) / frame).astype(np.int64),
                         return_inverse=True)
  place = np.arange(len(old))
  new = place + np.maximum.accumulate(
      np.rint(old * ratio).astype(np.int64) - place)
  times = np.maximum.accumulate(
      times + np.rint((new - old)[which] * frame).astype(np.int64))
  return ev.from_times(times, events[is_chip], times[-1] if times.size else 0)


def jitter_driver(events: np.ndarray, factors: np.ndarray) -> np.ndarray:
  """Scales the waits between the driver's writes within a frame.

  Frames begin when they did, or when the frame before ends if that is later.
  A final wait is dropped.

  Args:
    events: int32 song.
    factors: [4 K, 4 K] positive factors, indexed by voice * K + kind (of K
      kinds) of the chip event before a wait and of the one after it.
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
  """[n]: for each write, the index of the first write of its frame."""
  is_first = np.diff(times, prepend=-_SAME_FRAME) >= _SAME_FRAME
  return np.maximum.accumulate(np.where(is_first, np.arange(len(times)), 0))


@functools.lru_cache(maxsize=1024)
def _recoding(voices: tuple[int, ...], switch: bool,
              semitones: int) -> np.ndarray:
  """[N_CODES] int32: the event that replaces each event.

  Indexed by the event itself, which is negative: `table[event]` counts from
  the end.
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
  """Replaces each chip event by its entry in `table`, or drops it."""
  recoded = np.where(events < 0, table[np.minimum(events, -1)], events)
  return recoded[recoded != _DROPPED]


class AugmentationParams(NamedTuple):
  """The parameters drawn for one song in one epoch.

  Attributes:
    voices: those kept.
    switch: whether P1 and P2 are swapped.
    semitones: of transposition.
    tempo: in [0, 1), selects one of the tempos near the song's own; None keeps
      its own.
    driver_jitter: seed of the factors of waits within frames; None keeps them.
    speed: playback speed.
  """
  voices: tuple[int, ...] = _ALL_VOICES
  switch: bool = False
  semitones: int = 0
  tempo: float | None = None
  driver_jitter: int | None = None
  speed: float = 1.


@dataclasses.dataclass(frozen=True)
class Augmentation:
  """Which transformations are applied, in this order.

  Attributes:
    trim: always remove a leading and a trailing wait.
    voice_dropout: with probability 1/2 keep a random 1 to 3 of the voices.
    switch: with probability 1/2 swap P1 and P2.
    transpose: by -6 to +6 semitones, uniformly.
    tempo: with probability 0.7 change the rows to another whole number of
      frames, 3/4 to 4/3 of their own, uniformly.
    driver_jitter: with probability 0.7 multiply the waits within frames by
      random factors around 1, one for each pair of event kinds around a wait.
    stretch: to 0.95 to 1.05 of the speed, uniformly.
  """
  trim: bool = False
  voice_dropout: bool = False
  switch: bool = False
  transpose: bool = False
  tempo: bool = False
  driver_jitter: bool = False
  stretch: bool = False

  @classmethod
  def from_names(cls, names: Iterable[str]) -> 'Augmentation':
    """Parses a flag's value: 'none', 'all', or names of attributes.

    'all' is what the original has: all but tempo and driver_jitter.

    Raises:
      ValueError: an unknown name; the message lists the known ones.
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

  def draw(self, rng: np.random.Generator) -> AugmentationParams:
    """Draws the parameters, independently of the song."""
    params = {}
    if self.voice_dropout and rng.random() < .5:
      size = int(rng.integers(1, len(_ALL_VOICES)))
      params['voices'] = tuple(sorted(
          rng.choice(len(_ALL_VOICES), size, replace=False).tolist()))
    if self.switch:
      params['switch'] = bool(rng.random() < .5)
    if self.transpose:
      params['semitones'] = int(
          rng.integers(-MAX_SEMITONES, MAX_SEMITONES, endpoint=True))
    if self.tempo and rng.random() < .7:
      params['tempo'] = float(rng.random())
    if self.driver_jitter and rng.random() < .7:
      params['driver_jitter'] = int(rng.integers(1 << 32))
    if self.stretch:
      params['speed'] = float(
          rng.uniform(1 - MAX_SPEED_CHANGE, 1 + MAX_SPEED_CHANGE))
    return AugmentationParams(**params)

  def apply(self, events: np.ndarray,
            rng: np.random.Generator) -> np.ndarray:
    """Augments a song with parameters drawn from `rng`."""
    return self.apply_params(events, self.draw(rng))

  def apply_params(self, events: np.ndarray,
                   params: AugmentationParams) -> np.ndarray:
    """Augments a song with given parameters; trims it first if `trim`."""
    if self.trim:
      events = trim(events)
    *recoding, tempo, driver_jitter, speed = params
    if tuple(recoding) != AugmentationParams()[:-3]:
      events = _recode(events, _recoding(*recoding))
    row, frame = row_of(events) if tempo is not None else (0., 0.)
    near = range(math.ceil(.75 * row), math.floor(4 / 3 * row + .01) + 1)
    others = [other for other in near if abs(other - row) > _SAME_ROW]
    if others:
      events = change_tempo(
          events, others[int(tempo * len(others))] / row, frame)
    if driver_jitter is not None:
      rng = np.random.default_rng(driver_jitter)
      size = ev.EVENT.shape[0] * ev.EVENT.shape[1]
      events = jitter_driver(events, np.exp(
          rng.normal(0, .3) + rng.normal(0, .15, (size, size))))
    return stretch(events, speed)


TRIM = Augmentation(trim=True)
