"""Register logs <-> songs, by the rules with which nesmdb made NES-MDB.

nesmdb asks once a sample what each voice plays, after ticking the frame
counter and taking the writes of that sample. Its frame counter differs from
the chip's and from the player's (`tracks.py`): it runs at 240 or 192 Hz from a
floating-point sum, and a sample after any write to $4017 everything ticks.

Source: nesmdb (Donahue et al., ISMIR 2018).
"""

import numpy as np

from lakhnes_jax import events as ev
from lakhnes_jax import registers
from lakhnes_jax import score as scores
from lakhnes_jax.chip import Chip
from lakhnes_jax.vgm import RegisterLog

_FRAME_COUNTER = 0x17
_MAX_LENGTH = 3600 * ev.SAMPLE_RATE  # An hour takes seconds.
# Voices that a write to each register may change.
_TOUCHED = [*((r // 4,) for r in range(16)), *[()] * 5, range(4), (), ()]
_RATES = ((240.0, 192.0), (200.0, 160.0))  # Hz, four and five steps; PAL.


def _notes(clock: int, steps: int) -> list[int]:
  """Note of each timer value, 0 outside 21..108."""
  frequency = clock / (steps * (np.arange(2048) + 1.0))
  note = np.rint(69 + 12 * np.log2(frequency / 440)).astype(int)
  return np.where((note >= 21) & (note <= 108), note, 0).tolist()


class _Voices:
  """What each voice plays, as its events."""

  def __init__(self, clock: int):
    self.chip = Chip(sweep_first=True)
    self.pulse_notes = _notes(clock, 16)
    self.triangle_notes = _notes(clock, 32)
    self.last = [(0, 0, 0)] * 4
    self.times, self.events = [], []

  def playing(self, voice: int) -> tuple[int, int, int]:
    """Note, velocity and timbre of a voice."""
    chip = self.chip
    if voice < 2:
      pulse = chip.pulses[voice]
      volume = pulse.envelope.now
      if pulse.muted or not volume:
        return 0, 0, pulse.duty
      note = self.pulse_notes[pulse.timer]
      return note, volume if note else 0, pulse.duty
    if voice == 2:
      if not (chip.triangle_length and chip.linear):
        return 0, 0, 0
      note = self.triangle_notes[chip.triangle_timer]
      return note, 1 if note else 0, 0
    volume = chip.noise.now
    if not (chip.noise_length and volume):
      return 0, 0, chip.noise_mode
    return 16 - chip.noise_index, volume, chip.noise_mode

  def record(self, time: int, changed: set[int]):
    """Notes down what changed at a sample."""
    for voice in sorted(changed):
      now, last = self.playing(voice), self.last[voice]
      if now == last:
        continue
      self.last[voice] = now
      told = []
      if now[0] != last[0]:
        told.append((ev.NOTEON, now[0]) if now[0] else (ev.NOTEOFF, 0))
      if voice != ev.TR and now[0] and (
          now[0] != last[0] or now[1] != last[1]):
        told.append((ev.VELOCITY, now[1]))
      if now[2] != last[2]:
        told.append((ev.TIMBRE, now[2]))
      for kind, value in told:
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
    told = np.array(self.events, np.int32)
    voice, kind = ev.voice_of(told), ev.kind_of(told)
    heard = np.isin(voice, voice[kind == ev.NOTEON])
    return np.array(self.times, np.int64)[heard], told[heard]


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
  # Summed up as nesmdb does: rounding decides where a tick falls.
  unit, passed, period = 1 / ev.SAMPLE_RATE, 0.0, 1 / rates[0]
  half = written = False  # The next tick is a half frame; $4017 was written.
  changed = {0, 1, 2, 3}
  time = 0  # Of the next sample whose frame counter has yet to run.
  at, writes = 0, list(zip(log.time.tolist(), log.register.tolist(),
                           log.value.tolist(), strict=True))
  while time < log.length:
    until = writes[at][0] if at < len(writes) else log.length
    for now in range(time, min(until + 1, log.length)):
      if written:
        written, half, passed = False, False, unit
        changed.update(chip.quarter_frame(), chip.half_frame())
      else:
        passed += unit
        if passed < period:
          continue
        passed -= period
        changed.update(chip.quarter_frame())
        if half:
          changed.update(chip.half_frame())
        half = not half
      if now < until:
        voices.record(now, changed)
        changed = set()
    time = until + 1
    while at < len(writes) and writes[at][0] <= until:
      _, register, value = writes[at]
      at += 1
      if register == _FRAME_COUNTER:
        written, period = True, 1 / rates[value >> 7]
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
