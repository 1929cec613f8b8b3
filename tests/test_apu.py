import numpy as np
import pytest

from lakhnes_jax import apu
from lakhnes_jax import events as ev
from lakhnes_jax import score as scores


def _play(text, count):
  score = scores.from_events(ev.from_text(text.replace(' ', '\n')))
  start, state = scores.pad([score], 64)
  return np.asarray(apu.render(start, state, count=count))[0]


def _frequency(audio):
  audio = (audio - audio.mean()) * np.hanning(len(audio))
  spectrum = np.abs(np.fft.rfft(audio))
  peak = int(spectrum.argmax())
  a, b, c = np.log(spectrum[peak - 1:peak + 2])
  return (peak + (a - c) / (a - 2 * b + c) / 2) * 44100 / len(audio)


@pytest.mark.parametrize('text,steps', [
    ('P1_NOTEON_{} P1_TIMBRE_2', 16), ('P2_NOTEON_{} P2_TIMBRE_2', 16),
    ('TR_NOTEON_{}', 32)])
@pytest.mark.parametrize('note', [33, 57, 69, 96])
def test_pitch(text, steps, note):
  audio = _play(text.format(note) + ' WT_44100', 44100)
  ideal = 440 * 2 ** ((note - 69) / 12)
  timer = round(1789773 / (steps * ideal) - 1)
  assert abs(_frequency(audio) - 1789773 / (steps * (timer + 1))) < 0.02


def _spectrum(audio, rate):
  """Complex spectrum below 18 kHz of a Hann-windowed tenth of a second."""
  window = np.hanning(len(audio) + 1)[:-1]
  return np.fft.rfft(audio * window)[:1800] * 44100 / rate


@pytest.mark.parametrize('duty,high', [
    (0, [2, 3]), (1, range(2, 6)), (2, range(2, 10)),
    (3, [0, 1, *range(6, 16)])])
def test_pulse_against_a_walk_over_clocks(duty, high):
  audio = _play(f'P1_NOTEON_96 P1_VELOCITY_5 P1_TIMBRE_{duty} WT_4410', 4410)
  timer = round(1789773 / (16 * 440 * 2 ** (27 / 12)) - 1)
  # 128 points a sample: what they alias lies far below the tolerance.
  clocks = (np.arange(4410 * 128) + 0.5) * 1789773 / 44100 / 128
  level = 95.88 / (8128 / 5 + 100)
  walk = np.isin(clocks // (timer + 1) % 16, list(high)) * level
  expected = _spectrum(walk, 44100 * 128)
  # The walk's points lie at the middle of 128ths, the samples' at 0.5.
  hertz = np.arange(1800) * 10
  expected *= np.exp(-2j * np.pi * hertz / 44100 * (0.5 / 128 - 0.5))
  np.testing.assert_allclose(_spectrum(audio, 44100), expected,
                             atol=0.004 * np.abs(expected).max())


def test_levels_of_the_mixing_law():
  """The player's int16 levels: both pulses at 15 etc. (nesmdb)."""
  for text, level in (('P1_NOTEON_40', 4892),
                      ('P1_NOTEON_40 P2_NOTEON_40', 8464),
                      ('NO_NOTEON_1', 4284), ('TR_NOTEON_40', 6052)):
    audio = _play(f'{text} WT_4000', 4000) * 32768
    top = np.median(audio[audio > 0.98 * level])  # Edges ring a little.
    assert abs(top - level) < 8, text


def test_padding_windows_and_batch_agree():
  songs = ['WT_9 P1_NOTEON_60 WT_700 TR_NOTEON_40 WT_300',
           'NO_NOTEON_9 WT_55 P2_NOTEON_90 WT_800']
  every = [scores.from_events(ev.from_text(s.replace(' ', '\n')))
           for s in songs]
  start, state = scores.pad(every, 8)
  whole = np.asarray(apu.render(start, state, count=1024))
  late = np.asarray(apu.render(start, state, 600, count=424))
  np.testing.assert_allclose(whole[:, 600:], late, atol=1e-6)
  for row, text in enumerate(songs):
    np.testing.assert_allclose(whole[row], _play(text, 1024), atol=1e-6)
  np.testing.assert_allclose(whole[1, 880:], 0, atol=1e-6)


def test_stems_and_silence():
  text = 'P1_NOTEON_60 TR_NOTEON_40 NO_NOTEON_5 WT_500'
  score = scores.from_events(ev.from_text(text.replace(' ', '\n')))
  start, state = scores.pad([score], 4)
  alone = apu.render(start, state, count=1024, voices=(0,))
  np.testing.assert_array_equal(
      np.asarray(alone)[0], _play('P1_NOTEON_60 WT_500', 1024))
  assert not np.asarray(apu.render(start, state, count=1024, voices=(1,))).any()
