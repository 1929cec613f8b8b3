import pathlib
import tarfile

import numpy as np
import pytest
import soundfile

from lakhnes_jax import events as ev
from lakhnes_jax.formats import vgm
from lakhnes_jax.synth import channels, registers
from lakhnes_jax.synth import reference as reference_lib
from lakhnes_jax.synth import score as scores
from lakhnes_jax.synth.register_log import RegisterLog
from support import python_nes_player


def _render(log, voices=channels.VOICES, **kwargs):
  clock, parts = channels.play(log)
  return np.concatenate(list(
      reference_lib.render(clock, parts, log.length - 1, voices, **kwargs)))


def _random_log(seed, samples, clock=1789773):
  rng = np.random.default_rng(seed)
  time = np.sort(rng.integers(0, samples, samples // 12))
  register = rng.choice([*range(12), 12, 14, 15, 17, 21, 21, 23], len(time))
  value = rng.integers(0, 256, len(time))
  value[register == 0x15] |= rng.integers(0, 16, (register == 0x15).sum())
  value[register == 0x15] &= 0xef  # No samples: `python_nes_player` knows none.
  # Low timers now and then, where the sound is.
  value[np.isin(register, (3, 7, 11))] &= 0xf9
  return RegisterLog(time.astype(np.int64), register.astype(np.uint8),
                         value.astype(np.uint8), samples, clock)


@pytest.mark.parametrize('seed,clock', [(0, 1789773), (1, 1789772),
                                        (2, 1662607), (3, 1789773)])
def test_random_registers_against_a_walk(seed, clock):
  log = _random_log(seed, 6000, clock)
  expected = python_nes_player.render(log, 5999)[0]
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
  for voice, expected in enumerate(python_nes_player.render(log, 2999)[1:]):
    assert np.ptp(expected) > 300
    alone = _render(log, (voice,))
    np.testing.assert_array_equal(alone, expected)
  # Windows one by one give what they give together.
  np.testing.assert_array_equal(alone, _render(log, (3,), batch=1))
