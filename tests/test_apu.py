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


def _levels(timer, high, volume, samples):
  """[samples] a pulse by a walk over CPU clocks, mean level a sample."""
  clocks = np.arange(int(samples * apu.CLOCK / 44100) + 1)
  on = np.isin(clocks // (timer + 1) % 16, high) * volume
  total = np.concatenate([[0], np.cumsum(on)])
  edges = np.arange(samples + 1) * apu.CLOCK / 44100
  area = np.interp(edges, np.arange(len(total)), total)
  return np.diff(area) / (apu.CLOCK / 44100)


@pytest.mark.parametrize('duty,high', [
    (0, [2, 3]), (1, range(2, 6)), (2, range(2, 10)),
    (3, [0, 1, *range(6, 16)])])
def test_pulse_against_a_walk_over_clocks(duty, high):
  audio = _play(f'P1_NOTEON_76 P1_VELOCITY_5 P1_TIMBRE_{duty} WT_900', 900)
  timer = round(apu.CLOCK / (16 * 440 * 2 ** (7 / 12)) - 1)
  level = 95.88 / (8128 / 5 + 100)
  expected = _levels(timer, list(high), 1, 900) * level
  np.testing.assert_allclose(audio, expected, atol=2e-5)


def test_levels_of_the_mixing_law():
  """The player's int16 levels: both pulses at 15 etc. (nesmdb)."""
  for text, level in (('P1_NOTEON_40', 4892),
                      ('P1_NOTEON_40 P2_NOTEON_40', 8464),
                      ('NO_NOTEON_1', 4284), ('TR_NOTEON_40', 6052)):
    peak = _play(f'{text} WT_4000', 4000).max() * 32768
    assert abs(peak - level) < 8, text


def test_padding_windows_and_batch_agree():
  songs = ['WT_9 P1_NOTEON_60 WT_700 TR_NOTEON_40 WT_300',
           'NO_NOTEON_9 WT_55 P2_NOTEON_90 WT_800']
  every = [scores.from_events(ev.from_text(s.replace(' ', '\n')))
           for s in songs]
  start, state = scores.pad(every, 8)
  whole = np.asarray(apu.render(start, state, count=1000))
  late = np.asarray(apu.render(start, state, 600, count=400))
  np.testing.assert_array_equal(whole[:, 600:], late)
  for row, text in enumerate(songs):
    np.testing.assert_array_equal(whole[row], _play(text, 1000))
  np.testing.assert_array_equal(whole[1, 855:], whole[1, -1])


def test_stems_and_silence():
  text = 'P1_NOTEON_60 TR_NOTEON_40 NO_NOTEON_5 WT_500'
  score = scores.from_events(ev.from_text(text.replace(' ', '\n')))
  start, state = scores.pad([score], 4)
  alone = apu.render(start, state, count=500, voices=(0,))
  np.testing.assert_array_equal(
      np.asarray(alone)[0], _play('P1_NOTEON_60 WT_500', 500))
  assert not np.asarray(apu.render(start, state, count=500, voices=(1,))).any()
