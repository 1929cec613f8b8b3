import pathlib
import tarfile

import numpy as np
import pytest

from lakhnes_jax import events as ev
from lakhnes_jax import files, nesmidi, registers, transcribe, vgm
from lakhnes_jax import score as scores


@pytest.mark.parametrize('name', [
    '202_LawnMower_00_01Title', '202_LawnMower_02_03LevelClear',
    '202_LawnMower_03_04OutofFuel'])
def test_logs_become_what_nesmdb_made_of_them(oracles, name):
  song = files.read_song(oracles / 'audio' / f'{name}.vgm')
  expected = (oracles / 'audio' / f'{name}.tx2.txt').read_text()
  assert ev.to_text(song) == expected.strip()


@pytest.mark.slow
def test_nesmdb_logs_and_their_midi(real_data):
  with tarfile.open(real_data / 'nesmdb_vgm_sample.tar.xz') as archive:
    logs = {pathlib.PurePath(m.name).stem: archive.extractfile(m).read()
            for m in archive if m.name.endswith('.vgm')}
  equal = checked = 0
  with tarfile.open(real_data / 'nesmdb_midi_train_valid.tar.xz') as archive:
    for member in archive:
      log = logs.get(pathlib.PurePath(member.name).stem)
      if log is not None and checked < 60:
        checked += 1
        equal += np.array_equal(
            transcribe.read_vgm(log),
            nesmidi.read(archive.extractfile(member).read()))
  assert equal >= 0.95 * checked > 50


def test_a_score_comes_back_from_its_registers():
  text = '\n'.join([
      'WT_300', 'P1_NOTEON_60', 'P1_VELOCITY_7', 'P1_TIMBRE_2', 'WT_900',
      'P1_NOTEON_64', 'P1_VELOCITY_9', 'TR_NOTEON_40', 'WT_700',
      'P2_NOTEON_70', 'P2_VELOCITY_15', 'NO_NOTEON_3', 'NO_VELOCITY_4',
      'NO_TIMBRE_1', 'WT_500', 'P1_NOTEOFF', 'TR_NOTEOFF', 'NO_NOTEOFF',
      'NO_TIMBRE_0', 'WT_300', 'P2_NOTEOFF'])
  back = transcribe.read_vgm(transcribe.write_vgm(ev.from_text(text)))
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
