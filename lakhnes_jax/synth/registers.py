"""Scores -> register writes, as nesmdb makes them.

Source: nesmdb (Donahue et al., ISMIR 2018), the way from scores to VGM.
"""

import numpy as np

from lakhnes_jax import nes
from lakhnes_jax.synth.register_log import RegisterLog
from lakhnes_jax.synth.score import Score

_LOW, _HIGH = 2, 3  # Registers of a voice: its period.
_STATUS = 0x15
_SWEEP_UP, _SWEEP_DOWN = 0x07, 0x0f  # Off, but their target may still mute.
# Voices off, constant volume 0, and the triangle's linear counter at its top.
_START = ((_STATUS, 0x00), (0x00, 0x30), (0x01, _SWEEP_UP), (0x04, 0x30),
          (0x05, _SWEEP_UP), (0x08, 0xff), (0x0c, 0x30))


def timer(note, steps: int = 16) -> np.ndarray:
  """Timer value of MIDI notes: round(clock / (steps f) - 1); int64.

  Args:
    note: MIDI numbers.
    steps: of the waveform, 16 for a pulse and 32 for the triangle.
  """
  frequency = 440 * 2.0**((np.asarray(note) - 69) / 12)
  return np.round(nes.CLOCK / (steps * frequency) - 1).astype(np.int64)


_TIMERS = [[0, *timer(np.arange(1, 128), steps).tolist()]
           for steps in (16, 16, 32)]


def from_score(score: Score, low_notes: bool = False) -> RegisterLog:
  """Turns a score into the register writes that nesmdb makes of it.

  Only changes are written. A pulse that comes out of silence is enabled and
  starts at phase 0; one that goes from note to note runs on.

  Args:
    score: what to play.
    low_notes: whether pulses sound at note 33. nesmdb leaves their sweeps in a
      state in which the chip mutes it.
  """
  sweep = _SWEEP_DOWN if low_notes else _SWEEP_UP
  log = [(0, register, sweep if register in (0x01, 0x05) else value)
         for register, value in _START]
  enabled = 0
  last = [[0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]]
  settings = [0x30, 0x30, 0, 0x30]  # Duty, flags and volume of each voice.
  timers = [0, 0, 0]
  noise = 0  # Mode and period.
  changed = np.ones(score.state.shape[:2], bool)
  changed[1:] = (score.state[1:] != score.state[:-1]).any(-1)
  times, state = score.start.tolist(), score.state.tolist()
  for row, voice in np.argwhere(changed).tolist():
    now, (note, velocity, timbre) = times[row], state[row][voice]
    before = last[voice][0]
    last[voice] = state[row][voice]
    base = 4 * voice
    if (note > 0) != (before > 0):
      enabled ^= 1 << voice
      log.append((now, _STATUS, enabled))
    if voice != 2:
      setting = settings[voice]
      if voice < 2:
        setting = setting & 0x3f | timbre << 6
      if velocity:
        setting = setting & 0xf0 | velocity
      if setting != settings[voice]:
        settings[voice] = setting
        log.append((now, base, setting))
    if voice == 3:
      mode = (timbre & 1) << 7
      if mode != noise & 0x80:
        noise = noise & 0x0f | mode
        log.append((now, base + _LOW, noise))
      if note and note != before:
        noise = mode | 16 - note
        log += (now, base + _LOW, noise), (now, base + _HIGH, 0)
      continue
    new, old = _TIMERS[voice][note], timers[voice]
    timers[voice] = new
    if voice == 2:
      if new != old:
        log += (now, base + _LOW, new & 0xff), (now, base + _HIGH, new >> 8)
      continue
    if (new ^ old) & 0xff:
      log.append((now, base + _LOW, new & 0xff))
    if (new ^ old) >> 8 or (note and not before):
      log.append((now, base + _HIGH, new >> 8))
  time, register, value = np.array(log).T
  return RegisterLog(time, register.astype(np.uint8), value.astype(np.uint8),
                     score.length, nes.CLOCK)
