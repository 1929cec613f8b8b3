"""The comparison with libgme, without libgme."""

import numpy as np
import pytest

from experiments.benchmarks import libgme
from lakhnes_jax.synth import clean
from lakhnes_jax.synth.register_log import RegisterLog


def sound(seed, seconds=2.):
  """Tones of a tenth of a second."""
  rng = np.random.default_rng(seed)
  hertz = np.repeat(rng.uniform(100, 4000, int(seconds * 10)), 4410)
  return np.sin(2 * np.pi * np.cumsum(hertz) / 44100)


def test_the_delay_is_found():
  audio = sound(0)
  silence = np.zeros(44100)
  for ours, theirs, early in (
      (audio, audio, 0), (np.append(silence, audio), audio, 1),
      (audio, np.append(silence[:4410], audio), -.1),
      (np.append(silence[:5000], audio), audio, 5000 / 44100)):
    value, found = libgme.compare(ours, theirs)
    assert value > .97
    assert found == pytest.approx(early, abs=735 / 44100 / 4)
  assert libgme.compare(audio, sound(1))[0] < .7
  # Less than what is compared is no agreement.
  assert libgme.compare(audio[:3000], np.zeros(3000))[0] == -1


def test_a_voice_alone():
  register = np.array([0x15, 0, 4, 0x10, 0x12, 0x13, 0x15, 8, 0x0f, 0x11, 0x17])
  log = RegisterLog(np.arange(11), register, np.arange(11), 20,
                    memory=((3, 0xc000, b'a'), (10, 0xc040, b'b')))
  kept = {0: [0], 1: [4], 2: [8], 3: [0x0f], 4: [0x10, 0x12, 0x13, 0x11]}
  for voice, registers in kept.items():
    found = libgme.alone(log, voice)
    assert [r for r in found.register if r < 0x15] == registers
    assert sum(found.register >= 0x15) == 3
    for (at, *_), (was, *_) in zip(found.memory, log.memory, strict=True):
      # As many writes before as there were, of those that are kept.
      assert (found.time[:at] < was).all() and (found.time[at:] >= was).all()


def test_the_mixing_law_is_undone():
  level = np.arange(16.)
  for voice, law in ((0, clean.pulse_law), (2, lambda x: clean.tnd_law(x, 0)),
                     (3, lambda x: clean.tnd_law(0, x))):
    back = libgme._linear(voice, law(level))
    np.testing.assert_allclose(back / back[15], level / 15, atol=1e-9)
    assert abs(law(level) / law(15) - level / 15).max() > .01
  back = libgme._linear(4, clean.tnd_law(0, 0, np.arange(128.)))
  np.testing.assert_allclose(back / back[127], np.arange(128) / 127, atol=1e-9)


def test_without_ffmpeg(monkeypatch, capsys):
  monkeypatch.setattr(libgme, 'has_libgme', lambda: False)
  with pytest.raises(SystemExit, match='2'):
    libgme.main(['a.vgm'])
  assert 'apt-get install ffmpeg' in capsys.readouterr().err
