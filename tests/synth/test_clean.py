import os
import pathlib
import subprocess
import sys
from functools import partial

import jax
import numpy as np
import pytest
import soundfile
from jax import numpy as jnp

from lakhnes_jax import events as ev
from lakhnes_jax.formats import vgm
from lakhnes_jax.synth import channels, oscillators
from lakhnes_jax.synth import clean as clean_lib
from lakhnes_jax.synth import score as scores


def _play(text, count):
  score = scores.from_events(ev.from_text(text.replace(' ', '\n')))
  start, state = scores.pad([score], 64)
  # One length for all, so that only one program compiles.
  return np.asarray(clean_lib.render(start, state, count=45056))[0, :count]


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
  whole = np.asarray(clean_lib.render(start, state, 0, count=1024))
  late = np.asarray(clean_lib.render(start, state, 600, count=1024))
  np.testing.assert_allclose(whole[:, 600:], late[:, :424], atol=1e-6)
  for row, text in enumerate(songs):
    np.testing.assert_allclose(whole[row], _play(text, 1024), atol=1e-6)
  np.testing.assert_allclose(whole[1, 880:], 0, atol=1e-6)


def test_stems_and_silence():
  text = 'P1_NOTEON_60 TR_NOTEON_40 NO_NOTEON_5 WT_500'
  score = scores.from_events(ev.from_text(text.replace(' ', '\n')))
  start, state = scores.pad([score], 64)
  alone = clean_lib.render(start, state, count=1024,
                           voice_mask=clean_lib.voice_mask([0]))
  np.testing.assert_allclose(
      np.asarray(alone)[0], _play('P1_NOTEON_60 WT_500', 1024), atol=1e-6)
  silent = clean_lib.render(start, state, count=1024,
                            voice_mask=clean_lib.voice_mask([1]))
  assert not np.asarray(silent).any()


def test_an_hour_long_tone_keeps_its_frequency():
  """Phase after an hour, against exact integers."""
  hour = 3600 * 44100
  period = 16 * (round(1789773 / (16 * 440) - 1) + 1)
  text = f'P1_NOTEON_69 P1_TIMBRE_2 WT_{hour + 4096}'
  score = scores.from_events(ev.from_text(text.replace(' ', '\n')))
  start, state = scores.pad([score], 64)
  late = np.asarray(
      clean_lib.render(start, state, hour, count=45056))[0].astype(np.float64)
  top = late.max()
  # The first crossings of half the height tell where in its period it is.
  crossing = [i + (late[i] - top / 2) / (late[i] - late[i + 1])
              for i in range(900) if (late[i] - top / 2) *
              (late[i + 1] - top / 2) < 0]
  clocks = (hour + np.array(crossing[:4]) + 0.5) * 1789773 / 44100
  at = np.sort(clocks % period / period)
  np.testing.assert_allclose(at, [2 / 16, 2 / 16, 10 / 16, 10 / 16], atol=2e-3)


def test_aliases_lie_far_below_those_of_naive_sampling():
  """High pulse notes: all that is not a harmonic, below 18 kHz."""
  for note in (96, 103, 108):
    text = f'P1_NOTEON_{note} P1_TIMBRE_2 WT_60000'
    clean = _play(text, 44100)
    period = 16 * (round(1789773 / (16 * 440 * 2 ** ((note - 69) / 12)) - 1)
                   + 1)
    phase = (np.arange(44100) + 0.5) * 1789773 / 44100 % period / period
    naive = ((phase >= 2 / 16) & (phase < 10 / 16)) * clean.max()
    hertz = np.arange(22051)
    fundamental = 1789773 / period
    harmonic = np.abs(hertz / fundamental -
                      np.round(hertz / fundamental)) * fundamental < 12
    other = ~harmonic & (hertz < 18000)
    power = [np.square(np.abs(np.fft.rfft(
        (x - x.mean()) * np.blackman(44100))))[other].sum()
             for x in (naive, clean)]
    assert 10 * np.log10(power[0] / power[1]) > 30, note


def test_gradients_of_volumes():
  text = ('P1_NOTEON_60 P1_VELOCITY_7 NO_NOTEON_4 NO_VELOCITY_3 WT_400 '
          'P2_NOTEON_64 P2_VELOCITY_9 WT_624')
  score = scores.from_events(ev.from_text(text.replace(' ', '\n')))
  start, state = scores.pad([score], 64)
  state = state.astype(np.float32)

  def energy(state):
    return jnp.square(clean_lib.render(start, state, count=1024)).sum()

  gradient = np.asarray(jax.grad(energy)(state))
  assert np.isfinite(gradient).all()
  for where in ((0, 0, 0, 1), (0, 1, 1, 1), (0, 0, 3, 1)):
    more, less = state.copy(), state.copy()
    more[where] += 0.1
    less[where] -= 0.1
    slope = float(energy(more) - energy(less)) / 0.2
    np.testing.assert_allclose(gradient[where], slope, rtol=0.01)
    assert slope > 0
  assert not gradient[..., [0, 2]].any()


def _batch(*texts):
  return scores.pad([scores.from_events(ev.from_text(t.replace(' ', '\n')))
                     for t in texts], 64)


@pytest.mark.parametrize('rate', [8000, 22050, 96000])
def test_other_rates(rate):
  start, state = _batch('P1_NOTEON_60 P1_TIMBRE_3 NO_NOTEON_16 TR_NOTEON_48 '
                        'WT_99999')
  audio = np.asarray(clean_lib.render(
      start, state, count=rate, rate=rate,
      voice_mask=clean_lib.voice_mask([0])))[0]
  timer = round(1789773 / (16 * 440 * 2 ** (-9 / 12)) - 1)
  spectrum = np.abs(np.fft.rfft((audio - audio.mean()) * np.hanning(rate)))
  assert abs(spectrum.argmax() - 1789773 / (16 * (timer + 1))) < 1
  # Three quarters of the time at the level of volume 15.
  assert abs(audio.mean() / (4892 / 32768) - 0.75) < 0.01
  noise = np.asarray(clean_lib.render(
      start, state, count=rate, rate=rate,
      voice_mask=clean_lib.voice_mask([3])))[0]
  assert abs(noise.mean() / (4284 / 32768) - 0.5) < 0.02


def test_vmap_and_pmap():
  start, state = _batch(
      'P1_NOTEON_60 WT_300 TR_NOTEON_40 WT_700', 'NO_NOTEON_3 WT_999',
      'WT_70 P2_NOTEON_80 WT_9', 'TR_NOTEON_60 P2_NOTEON_50 WT_800')
  together = np.asarray(clean_lib.render(start, state, count=1024))
  one = partial(clean_lib.render, count=1024)
  split = start[:, None], state[:, None]
  for mapped in (jax.vmap(one)(*split), jax.pmap(one)(*split)):
    assert mapped.shape == (4, 1, 1024)
    np.testing.assert_allclose(mapped[:, 0], together, atol=1e-6)
  assert len(jax.pmap(one)(*split).devices()) == 4


def test_songs_of_many_lengths_compile_few_programs():
  programs = clean_lib.render_windows, oscillators.segments_jit
  for program in programs:
    program.clear_cache()
  rng = np.random.default_rng(0)
  for length in rng.integers(1, 9, 200).tolist():
    notes = rng.integers(40, 90, rng.integers(1, 1000))
    song = np.ravel([(ev.event(0, ev.NOTEON, n), length * 10) for n in notes])
    audio = next(clean_lib.windows(
        oscillators.from_score(scores.from_events(song)), 100))
    assert audio.shape == (100,)
  assert 2 < sum(program._cache_size() for program in programs) <= 10


@pytest.mark.slow
@pytest.mark.parametrize('engine', ['clean', 'reference'])
def test_memory_of_an_hour(tmp_path, engine):
  """Peak resident memory of a process of its own, below 1 GB."""
  minute = ('P1_NOTEON_69\nWT_9000\nNO_NOTEON_4\nTR_NOTEON_50\nWT_2025\n'
            'P1_NOTEON_71\nP2_NOTEON_60\nWT_11025\n' * 120)
  song = tmp_path / 'a.tx1.txt'
  song.write_text(minute * 60)
  code = (
      'import sys; from lakhnes_jax import render\n'
      'from support import process_memory\n'
      'assert render.main(sys.argv[1:]) == 0\n'
      'print(process_memory.peak_bytes())')
  done = subprocess.run(
      [sys.executable, '-c', code, str(song), f'--out={tmp_path}/a.flac',
       f'--engine={engine}'], check=True, capture_output=True, text=True,
      env={**os.environ, 'PYTHONPATH': str(pathlib.Path(__file__).parents[1])})
  assert int(done.stdout.split()[-1]) < 1e9
  assert soundfile.info(tmp_path / 'a.flac').duration > 3500


@pytest.mark.parametrize('name', ['202_LawnMower_02_03LevelClear',
                                  '202_LawnMower_03_04OutofFuel'])
def test_clean_engine_beside_the_reference(oracles, name):
  log = vgm.read(oracles / 'audio' / f'{name}.vgm')
  expected, _ = soundfile.read(oracles / 'audio' / f'{name}.flac')
  seg = oscillators.from_channels(*channels.play(log))
  audio = np.concatenate(list(clean_lib.windows(seg, log.length)))
  audio = audio[:len(expected)]
  assert np.corrcoef(audio, expected)[0, 1] > 0.999
  assert abs(20 * np.log10(audio.std() / expected.std())) < 0.05
  # Windows of another size give the same.
  other = np.concatenate(list(clean_lib.windows(seg, 30000, size=4096)))
  np.testing.assert_allclose(other, audio[:30000], atol=1e-6)
