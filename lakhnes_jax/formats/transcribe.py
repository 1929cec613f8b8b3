"""Register logs <-> songs, by the rules with which nesmdb made NES-MDB.

nesmdb asks once a sample what each voice plays, after ticking the frame
counter and applying the writes of that sample. Its frame counter differs from
the chip's and from the player's (`channels.py`): it runs at 240 or 192 Hz from
a floating-point sum, and a sample after any write to $4017 everything ticks.

Source: nesmdb (Donahue et al., ISMIR 2018).
"""

import functools

import numpy as np

from lakhnes_jax import events as ev
from lakhnes_jax.synth import registers
from lakhnes_jax.synth import score as scores
from lakhnes_jax.synth.chip import Chip
from lakhnes_jax.synth.register_log import RegisterLog

_FRAME_COUNTER = 0x17
_SECONDS = 1 / ev.SAMPLE_RATE  # Of a sample.
_MAX_LENGTH = 3600 * ev.SAMPLE_RATE  # An hour takes seconds.
# Voices that a write to each register may change.
_TOUCHED = [*((r // 4,) for r in range(16)), *[()] * 5, range(4), (), ()]
_RATES = ((240.0, 192.0), (200.0, 160.0))  # Hz, four and five steps; PAL.


def _notes(clock: int, steps: int, voice: int) -> list[int]:
  """Note of each timer value, 0 outside the voice's range."""
  frequency = clock / (steps * (np.arange(2048) + 1.0))
  note = np.rint(69 + 12 * np.log2(frequency / 440)).astype(int)
  return np.where(np.isin(note, ev.VOICES[voice].pitches), note, 0).tolist()


class _Schedule:
  """When the frame counter ticks, in samples since it was reset."""

  def __init__(self, rate: float):
    self._period = 1 / rate
    self._now, self._passed = 0, _SECONDS  # The first sample never ticks.
    self._row = np.full(int(ev.SAMPLE_RATE / rate) + 3, _SECONDS)
    self._ticks = []

  def up_to(self, samples: int) -> list[int]:
    """Returns the ticks of at least the first `samples`, and one more."""
    ticks = self._ticks
    while not ticks or ticks[-1] < samples:
      # Summed up one by one as nesmdb does: rounding decides where ticks fall.
      self._row[0] = self._passed
      sums = np.add.accumulate(self._row)
      steps = int(np.searchsorted(sums, self._period, 'right'))
      self._now += steps
      self._passed = sums[steps] - self._period
      ticks.append(self._now)
    return ticks


# They are the same for all songs.
_schedule = functools.cache(_Schedule)


class _Voices:
  """What each voice plays, as its events."""

  def __init__(self, clock: int):
    self.chip = Chip(sweep_first=True)
    self.pulse_notes = _notes(clock, 16, ev.P1)
    self.triangle_notes = _notes(clock, 32, ev.TR)
    self.last = [(0, 0, 0)] * 4
    self.times, self.events = [], []

  def playing(self, voice: int) -> tuple[int, int, int]:
    """Note, velocity and timbre of a voice."""
    chip = self.chip
    if voice < 2:
      pulse = chip.pulses[voice]
      volume = pulse.envelope.output
      if pulse.muted or not volume:
        return 0, 0, pulse.duty
      note = self.pulse_notes[pulse.timer]
      return note, volume if note else 0, pulse.duty
    if voice == 2:
      if not (chip.triangle_length and chip.linear):
        return 0, 0, 0
      note = self.triangle_notes[chip.triangle_timer]
      return note, 1 if note else 0, 0
    volume = chip.noise.output
    if not (chip.noise_length and volume):
      return 0, 0, chip.noise_mode
    return 16 - chip.noise_index, volume, chip.noise_mode

  def record(self, time: int, changed: set[int]):
    """Appends the events of voices that changed at a sample."""
    for voice in sorted(changed):
      now, last = self.playing(voice), self.last[voice]
      if now == last:
        continue
      self.last[voice] = now
      found = []
      if now[0] != last[0]:
        found.append((ev.NOTEON, now[0]) if now[0] else (ev.NOTEOFF, 0))
      if voice != ev.TR and now[0] and (
          now[0] != last[0] or now[1] != last[1]):
        found.append((ev.VELOCITY, now[1]))
      if now[2] != last[2]:
        found.append((ev.TIMBRE, now[2]))
      for kind, value in found:
        self.times.append(time)
        self.events.append(ev.event(voice, kind, value))

  def finish(self, time: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns times and events of the song.

    As in NES-MDB's MIDI, notes that still sound end with the song, and there
    is no timbre of voices that never sound.
    """
    for voice, (note, _, _) in enumerate(self.last):
      if note:
        self.times.append(time)
        self.events.append(ev.event(voice, ev.NOTEOFF))
    events = np.array(self.events, np.int32)
    voice, kind = ev.voice_of(events), ev.kind_of(events)
    sounds = np.isin(voice, voice[kind == ev.NOTEON])
    return np.array(self.times, np.int64)[sounds], events[sounds]


def to_events(log: RegisterLog) -> np.ndarray:
  """Turns a register log into a song, exact to the sample.

  The sample channel is left out; a pulse below note 33 is silent.

  Returns:
    int32 song with dynamics (see `events`).

  Raises:
    ValueError: it is longer than an hour.
  """
  if log.length > _MAX_LENGTH:
    raise ValueError(f'{log.length / ev.SAMPLE_RATE / 60:.0f} minutes: more '
                     'than an hour is not transcribed')
  voices = _Voices(log.clock)
  chip = voices.chip
  rates = _RATES[log.pal]
  schedule = _schedule(rates[0])
  begin = tick = 0  # The counter's last reset; number of the next tick since.
  written = False  # To $4017: everything ticks at the next sample.
  changed = {0, 1, 2, 3}
  time = 0  # Of the next sample whose frame counter has yet to run.
  at, writes = 0, list(zip(log.time.tolist(), log.register.tolist(),
                           log.value.tolist(), strict=True))
  while time < log.length:
    until = writes[at][0] if at < len(writes) else log.length
    end = min(until + 1, log.length)
    if written and time < end:
      written, begin, tick = False, time, 0
      changed.update(chip.quarter_frame(), chip.half_frame())
      if time < until:
        voices.record(time, changed)
        changed = set()
    ticks = schedule.up_to(end - begin)
    while (now := begin + ticks[tick]) < end:
      changed.update(chip.quarter_frame())
      if tick & 1:
        changed.update(chip.half_frame())
      tick += 1
      if now < until:
        voices.record(now, changed)
        changed = set()
    time = until + 1
    while at < len(writes) and writes[at][0] <= until:
      _, register, value = writes[at]
      at += 1
      if register == _FRAME_COUNTER:
        written, schedule = True, _schedule(rates[value >> 7])
      else:
        chip.write(register, value)
        changed.update(_TOUCHED[register])
    if until < log.length:
      voices.record(until, changed)
      changed = set()
  return ev.from_times(*voices.finish(log.length), log.length)


def from_events(events: np.ndarray) -> RegisterLog:
  """Turns a song into a register log that sounds on a console.

  Unlike nesmdb's it lets pulses sound at note 33.
  """
  return registers.from_score(scores.from_events(events), low_notes=True)
