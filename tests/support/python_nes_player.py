"""nesmdb's player, step by step in plain Python: an oracle for the engines.

Slow (seconds for a second of audio), and written apart from them: only the
control units come from `lakhnes_jax.synth.chip`. The sample channel plays no
samples, only its level.
"""

import numpy as np

from lakhnes_jax.synth.chip import NOISE_PERIODS, Chip
from lakhnes_jax.synth.register_log import RegisterLog

_HIGH = {2, 3}, set(range(2, 6)), set(range(2, 10)), {0, 1, *range(6, 16)}


def _mix(pulses, triangle: int, noise: int, sample: int) -> int:
  """int16 output for the levels of all voices."""
  level = 0
  if sum(pulses):
    voltage = int(8192 * 95.88 / (8128 / sum(pulses) + 100))
    level += sum(4 * (p * voltage // sum(pulses)) for p in pulses)
  load = triangle / 8227 + noise / 12241 + sample / 22638
  if load:
    voltage = int(6144 * 159.79 / (100 + 1 / load))
    shares = [int(6144 * k * x / 208)
              for k, x in ((3, triangle), (2, noise), (1, sample))]
    level += sum(4 * (s * voltage // sum(shares)) for s in shares)
  return level


def steps(log: RegisterLog, samples: int) -> np.ndarray:
  """Computes what the chip puts out every four clocks.

  Returns:
    [5, K] int64 that `samples` output samples take: all voices, then pulse 1,
    pulse 2, triangle, noise alone.
  """
  rate = log.clock // 4
  ratio = (log.clock << 24) // rate
  writes = {}
  for time, register, value in zip(*(x.tolist() for x in log[:3]),
                                   strict=True):
    step = -(-(max(time - 1, 0) * 2048 * rate // 44100) // 2048)
    writes.setdefault(step, []).append((register, value))
  chip = Chip()
  for register in (*range(16), 0x15):
    chip.write(register, 0)
  chip.write(0x15, 15)
  phase, count = [0, 0, 0], [0, 0, 0, 0]
  register_bits, noise_period, sample_level = 1804289383 | 1, 4, 0
  frame, frame_count, frame_steps = 1, 0, 4
  out = []

  def clamp():
    for i in range(2):
      count[i] = min(count[i], chip.pulses[i].timer)
    count[2] = min(count[2], chip.triangle_timer)
    count[3] = min(count[3], noise_period)

  for step in range(samples * rate // 44100 + 14):
    for register, value in writes.get(step, ()):
      chip.write(register, value)
      if register in (3, 7):
        phase[register >> 2] = 0
      elif register == 0x0e:
        noise_period = NOISE_PERIODS[log.pal][value & 15]
      elif register == 0x11:
        sample_level = value & 127
      elif register == 0x17:
        frame_count, frame, frame_steps = 0, 1, 4 + (value >> 7)
        if value >> 7:
          chip.quarter_frame()
          chip.half_frame()
      clamp()
    clocks = (ratio * (step + 1) >> 24) - (ratio * step >> 24)
    pulses = []
    for i, pulse in enumerate(chip.pulses):
      count[i] += clocks
      while count[i] > pulse.timer:
        count[i] -= pulse.timer + 1
        phase[i] = (phase[i] + 1) % 16
      pulses.append(pulse.envelope.output if not pulse.muted and
                    phase[i] in _HIGH[pulse.duty] else 0)
    frame_count += clocks
    if frame_count > 7458:
      frame_count -= 7458
      if frame < 4:
        chip.quarter_frame()
        if frame in (0, 2):
          chip.half_frame()
        clamp()
      frame = (frame + 1) % frame_steps
    if chip.linear and chip.triangle_length and chip.triangle_timer:
      count[2] += clocks
      while count[2] > chip.triangle_timer:
        count[2] -= chip.triangle_timer + 1
        phase[2] = (phase[2] + 1) % 32
    triangle = min(phase[2], 31 - phase[2])
    volume = chip.noise.output if chip.noise_length else 0
    count[3] += clocks
    before, last, shifts = 0, volume * (register_bits >> 14 & 1), 0
    while count[3] >= noise_period:
      tap = 6 if chip.noise_mode else 1
      bit = (register_bits ^ register_bits >> tap) & 1
      register_bits = register_bits >> 1 | bit << 14
      before, shifts = before + last, shifts + 1
      last = volume * (register_bits >> 14 & 1)
      count[3] -= noise_period
    noise = last
    if shifts:
      noise = ((before * (clocks - count[3]) + last * count[3] * shifts) //
               (clocks * shifts))
    out.append((_mix(pulses, triangle, noise, sample_level),
                _mix((pulses[0], 0), 0, 0, 0), _mix((0, pulses[1]), 0, 0, 0),
                _mix((0, 0), triangle, 0, 0), _mix((0, 0), 0, noise, 0)))
  return np.array(out).T


def average(levels: np.ndarray, clock: int, samples: int) -> np.ndarray:
  """[5, K] steps -> [5, samples] int64, as the player does it."""
  rate = clock // 4
  width = 2048 * rate // 44100
  fine = np.pad(np.cumsum(levels, 1) * 2048, ((0, 0), (1, 0)))

  def area(at):
    return fine[:, at // 2048] + at % 2048 * levels[:, at // 2048]

  at = np.arange(samples) * 2048 * rate // 44100
  return (area(at + width) - area(at)) // width


def ideal(levels: np.ndarray, clock: int, samples: int) -> np.ndarray:
  """[5, K] steps -> [5, samples] float64, what lies above 22 kHz taken off.

  A windowed sinc over 64 samples on either side.
  """
  per = clock // 4 / 44100  # Steps a sample.
  reach = int(64 * per)
  padded = np.pad(levels, ((0, 0), (reach, 2 * reach)), 'edge')
  out = np.empty((len(levels), samples))
  for n in range(samples):
    middle = (n + 0.5) * per
    first = int(middle) - reach
    off = (first + 0.5 + np.arange(2 * reach) - middle) / per
    taps = np.sinc(off) * np.cos(np.pi * np.clip(off / 64, -1, 1) / 2)**2
    out[:, n] = padded[:, first + reach:first + 3 * reach] @ (
        taps / taps.sum())
  return out


def render(log: RegisterLog, samples: int) -> np.ndarray:
  """Renders the first samples of a log, [5, samples]; see `steps`."""
  return average(steps(log, samples), log.clock, samples)
