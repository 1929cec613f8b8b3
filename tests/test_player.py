import pathlib
import tarfile

import numpy as np
import pytest
import soundfile

from lakhnes_jax import events as ev
from lakhnes_jax import player, registers, tracks, vgm
from lakhnes_jax import score as scores
from lakhnes_jax.chip import NOISE_PERIODS, Chip


def _render(log, voices=tracks.VOICES, **kwargs):
  clock, parts = tracks.play(log)
  return np.concatenate(list(
      player.render(clock, parts, log.length - 1, voices, **kwargs)))


def _walk(log):
  """The player, step by step; control units by `Chip`, all else on its own."""
  rate = log.clock // 4
  ratio = (log.clock << 24) // rate
  samples = log.length - 1
  position = [n * 2048 * rate // 44100 for n in range(samples + 1)]
  writes = {}
  for time, register, value in zip(*(x.tolist() for x in log[:3]),
                                   strict=True):
    step = -(-position[max(time - 1, 0)] // 2048)
    writes.setdefault(step, []).append((register, value))
  chip = Chip()
  for register in (*range(16), 0x15):
    chip.write(register, 0)
  chip.write(0x15, 15)
  high = [{2, 3}, set(range(2, 6)), set(range(2, 10)), {0, 1, *range(6, 16)}]
  phase, count = [0, 0, 0], [0, 0, 0, 0]
  register_bits, noise_period, sample_level = 1804289383 | 1, 4, 0
  frame, frame_count, frame_steps = 1, 0, 4
  out = []

  def clamp():
    for i in range(2):
      count[i] = min(count[i], chip.pulses[i].timer)
    count[2] = min(count[2], chip.triangle_timer)
    count[3] = min(count[3], noise_period)

  for step in range(position[-1] // 2048 + 14):
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
      pulses.append(pulse.envelope.now if not pulse.muted and
                    phase[i] in high[pulse.duty] else 0)
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
    volume = chip.noise.now if chip.noise_length else 0
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
    level = 0
    if sum(pulses):
      voltage = int(8192 * 95.88 / (8128 / sum(pulses) + 100))
      level += sum(4 * (p * voltage // sum(pulses)) for p in pulses)
    load = triangle / 8227 + noise / 12241 + sample_level / 22638
    if load:
      voltage = int(6144 * 159.79 / (100 + 1 / load))
      shares = [int(6144 * k * x / 208)
                for k, x in ((3, triangle), (2, noise), (1, sample_level))]
      level += sum(4 * (s * voltage // sum(shares)) for s in shares)
    out.append(level)
  fine = np.concatenate([[0], np.cumsum(out, dtype=np.int64) * 2048])
  width = 2048 * rate // 44100

  def area(at):
    return fine[at // 2048] + at % 2048 * out[at // 2048]

  return np.array([(area(p + width) - area(p)) // width
                   for p in position[:samples]])


def _random_log(seed, samples, clock=1789773):
  rng = np.random.default_rng(seed)
  time = np.sort(rng.integers(0, samples, samples // 12))
  register = rng.choice([*range(12), 12, 14, 15, 17, 21, 21, 23], len(time))
  value = rng.integers(0, 256, len(time))
  value[register == 0x15] |= rng.integers(0, 16, (register == 0x15).sum())
  value[register == 0x15] &= 0xef  # No samples: `_walk` knows none.
  # Low timers now and then, where the sound is.
  value[np.isin(register, (3, 7, 11))] &= 0xf9
  return vgm.RegisterLog(time.astype(np.int64), register.astype(np.uint8),
                         value.astype(np.uint8), samples, clock)


@pytest.mark.parametrize('seed,clock', [(0, 1789773), (1, 1789772),
                                        (2, 1662607), (3, 1789773)])
def test_random_registers_against_a_walk(seed, clock):
  log = _random_log(seed, 6000, clock)
  expected = _walk(log)
  assert np.ptp(expected) > 5000
  np.testing.assert_array_equal(_render(log), expected)


@pytest.mark.parametrize('name,route', [
    ('202_LawnMower_02_03LevelClear', 'mid.none'),
    ('202_LawnMower_02_03LevelClear', 'tx1.none'),
    ('202_LawnMower_03_04OutofFuel', 'mid.none'),
    ('202_LawnMower_03_04OutofFuel', '')])
def test_reference_renders_sample_for_sample(oracles, name, route):
  folder = oracles / 'audio'
  if route:
    form = 'tx2' if route == 'mid.none' else 'tx1'
    text = folder / f'{name}.{form}.txt'
    log = registers.from_score(
        scores.from_events(ev.from_text(text.read_text())))
    reference = folder / f'{name}.{route}.flac'
  else:
    log, reference = vgm.read(folder / f'{name}.vgm'), folder / f'{name}.flac'
  expected, _ = soundfile.read(reference, dtype='int16')
  np.testing.assert_array_equal(_render(log), expected)


@pytest.mark.slow
def test_all_reference_renders(oracles, real_data):
  with tarfile.open(real_data / 'nesmdb_vgm_sample.tar.xz') as archive:
    logs = {pathlib.PurePath(m.name).stem: archive.extractfile(m).read()
            for m in archive if m.name.endswith('.vgm')}
  for path in sorted((oracles / 'audio').glob('*.flac')):
    if path.name.count('.') == 1 and path.stem in logs:
      expected, _ = soundfile.read(path, dtype='int16')
      np.testing.assert_array_equal(
          _render(vgm.parse(logs[path.stem])), expected, err_msg=path.stem)


def test_voices_alone():
  log = _random_log(5, 3000)
  pulse = _render(log, (0,))
  assert pulse.max() in (380, 752, 1116, 1472, 1820, 2156, 2488, 2812, 3132,
                         3440, 3744, 4040, 4332, 4616, 4892)
  # Windows one by one give what they give together.
  np.testing.assert_array_equal(pulse, _render(log, (0,), batch=1))
