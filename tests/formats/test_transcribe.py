import pathlib
import tarfile

import numpy as np
import pytest

from lakhnes_jax import events as ev
from lakhnes_jax.formats import (
  nes_midi,
  score_pickle,
  song_files,
  transcribe,
  vgm,
)
from lakhnes_jax.synth import registers
from lakhnes_jax.synth import score as scores
from lakhnes_jax.synth.register_log import Recorder


@pytest.mark.parametrize('name', [
    '202_LawnMower_00_01Title', '202_LawnMower_02_03LevelClear',
    '202_LawnMower_03_04OutofFuel'])
def test_logs_become_what_nesmdb_made_of_them(oracles, name):
  song = song_files.read_song(oracles / 'audio' / f'{name}.vgm')
  expected = (oracles / 'audio' / f'{name}.tx2.txt').read_text()
  assert ev.to_text(song) == expected.strip()


def _members(archive, ending):
  """name -> content of the files of an archive."""
  with tarfile.open(archive) as tar:
    return {pathlib.PurePath(m.name).name.removesuffix(ending):
                tar.extractfile(m).read()
            for m in tar if m.name.endswith(ending)}


@pytest.mark.parametrize('every', [
    25, pytest.param(1, marks=pytest.mark.slow)])
def test_nesmdb_logs_and_their_scores(real_data, every):
  """The 24 Hz scores of NES-MDB, note for note, from the 298 logs.

  287 are equal. The other 11 differ in nothing but the timbre of a voice that
  never plays a note: a song says nothing of such a voice, nor does NES-MDB's
  MIDI.
  """
  logs = _members(real_data / 'nesmdb_vgm_sample.tar.xz', '.vgm')
  theirs = _members(real_data / 'nesmdb_exprsco_sample.tar.xz', '.exprsco.pkl')
  equal = 0
  names = sorted(logs)[::every]
  for name in names:
    rate, length, steps = score_pickle.unpickle(theirs[name])
    steps = steps.values.copy()
    exact = scores.from_events(transcribe.to_events(vgm.parse(logs[name])))
    ours = score_pickle.sample(exact, rate)
    ours[:, ev.TR, scores.VELOCITY] = 0
    assert (rate, length) == (24, exact.length), name
    equal += np.array_equal(ours, steps)
    unheard = ~steps[..., scores.NOTE].any(0)
    steps[:, unheard, scores.TIMBRE] = 0
    np.testing.assert_array_equal(ours, steps, err_msg=name)
  assert (len(names), equal) == {1: (298, 287), 25: (12, 11)}[every]


@pytest.mark.slow
def test_nesmdb_logs_and_their_midi(real_data):
  """All 298 give NES-MDB's own MIDI, event for event."""
  logs = _members(real_data / 'nesmdb_vgm_sample.tar.xz', '.vgm')
  equal = 0
  with tarfile.open(real_data / 'nesmdb_midi_train_valid.tar.xz') as archive:
    for member in archive:
      log = logs.get(pathlib.PurePath(member.name).stem)
      if log is not None:
        np.testing.assert_array_equal(
            transcribe.to_events(vgm.parse(log)),
            nes_midi.read(archive.extractfile(member).read()),
            err_msg=member.name)
        equal += 1
  assert equal == 298


def test_a_score_comes_back_from_its_registers():
  text = '\n'.join([
      'WT_300', 'P1_NOTEON_60', 'P1_VELOCITY_7', 'P1_TIMBRE_2', 'WT_900',
      'P1_NOTEON_64', 'P1_VELOCITY_9', 'TR_NOTEON_40', 'WT_700',
      'P2_NOTEON_70', 'P2_VELOCITY_15', 'NO_NOTEON_3', 'NO_VELOCITY_4',
      'NO_TIMBRE_1', 'WT_500', 'P1_NOTEOFF', 'TR_NOTEOFF', 'NO_NOTEOFF',
      'NO_TIMBRE_0', 'WT_300', 'P2_NOTEOFF'])
  back = transcribe.to_events(transcribe.from_events(ev.from_text(text)))
  # The triangle's first note waits for a quarter frame, here at 7 * 183.75.
  expected = text.replace('TR_NOTEON_40\nWT_700', 'WT_86\nTR_NOTEON_40\nWT_614')
  assert ev.to_text(back) == expected


def test_note_33_of_a_pulse():
  """nesmdb's registers leave it silent; ours for listening do not."""
  score = scores.from_events(ev.from_text('P1_NOTEON_33\nWT_900'))
  silent, sounds = (transcribe.to_events(registers.from_score(score, low))
                    for low in (False, True))
  assert ev.to_text(silent) == 'WT_900'
  assert 'P1_NOTEON_33' in ev.to_text(sounds)
  # Files are for listening.
  np.testing.assert_array_equal(
      transcribe.from_events(ev.from_text('P1_NOTEON_33\nWT_900')).value,
      registers.from_score(score, True).value)


def test_writes_of_registers_as_nesmdb_makes_them():
  """One pulse note to the next, then off: only what changes is written."""
  score = scores.from_events(ev.from_text(
      'P1_NOTEON_60\nWT_9\nP1_NOTEON_61\nWT_9\nP1_NOTEOFF\nWT_9'))
  log = registers.from_score(score)
  writes = list(zip(log.time.tolist(), log.register.tolist(),
                    log.value.tolist(), strict=True))[7:]
  # Timers 427 = 0x1ab and 403 = 0x193.
  assert writes == [(0, 0x15, 1), (0, 0, 0x3f), (0, 2, 0xab), (0, 3, 1),
                    (9, 2, 0x93), (18, 0x15, 0), (18, 2, 0), (18, 3, 0)]
  assert vgm.parse(vgm.build(log)).length == 27


def test_more_than_an_hour_is_refused():
  log = Recorder()
  log.wait(3601 * ev.SAMPLE_RATE)
  with pytest.raises(ValueError, match='60 minutes: more than an hour'):
    transcribe.to_events(log.log())


@pytest.mark.parametrize('rate', [240, 192, 200, 160])
def test_ticks_fall_where_the_sum_says(rate):
  """nesmdb adds up seconds sample by sample; a tick takes a period off."""
  passed, expected = 0., []
  for sample in range(200000):
    passed += 1 / 44100
    if passed > 1 / rate:
      passed -= 1 / rate
      expected.append(sample)
  for samples in (1, 700, 100, 150000):
    ticks = transcribe._Schedule(rate).up_to(samples)
    assert ticks == expected[:len(ticks)] and ticks[-1] >= samples


def test_low_pulses_on_a_pal_console_are_silent():
  """Their timers reach below note 33, the lowest of the vocabulary."""
  log = Recorder(clock=1662607)
  for register, value in ((0, 0x3f), (1, 0x08), (2, 0xff), (3, 7)):
    log.write(register, value)
  log.wait(900)
  log.write(2, 0x00)
  log.wait(100)
  assert ev.to_text(transcribe.to_events(log.log())) == (
      'WT_900\nP1_NOTEON_34\nP1_VELOCITY_15\nWT_100\nP1_NOTEOFF')
