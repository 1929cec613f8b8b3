"""Numbers of a corpus small enough to count by hand."""

import importlib.util
import json
import tarfile

import numpy as np
import pytest

from data_prep import nesmdb, stats
from lakhnes_jax import events as ev
from lakhnes_jax.data import shards

SONGS = {
    '001_Game_00_Title': (
        'P1_NOTEON_60 P1_VELOCITY_9 WT_735 P1_VELOCITY_8 WT_735 P1_NOTEON_72 '
        'P1_VELOCITY_1 WT_30 P1_NOTEOFF TR_NOTEON_21 WT_132300'),
    '001_Game_01_End': (
        'P1_NOTEON_60 P1_VELOCITY_9 WT_500 P1_NOTEOFF WT_500 P1_NOTEON_60 '
        'P1_VELOCITY_9 WT_100 P1_NOTEOFF'),
    '002_Other_00_Silence': 'WT_44100',
}


@pytest.fixture
def folder(tmp_path):
  shards.write_split(tmp_path, 'valid', [
      (name, ev.from_text(text.replace(' ', '\n')))
      for name, text in SONGS.items()])
  (tmp_path / 'summary.json').write_text('{}')  # As data_prep.lakh leaves it.
  return tmp_path


def test_counts_by_hand(folder):
  found = stats.measure(shards.Corpus(folder, 'valid'))
  assert (found['songs'], found['games'], found['dynamics']) == (3, 2, True)
  # TX1: the two waits of 735 are one of 1470.
  assert (found['events_tx1'], found['events_tx2']) == (7 + 7 + 1, 11 + 9 + 1)
  samples = 1470 + 30 + 132300, 1100, 44100
  assert found['hours'] == pytest.approx(sum(samples) / 44100 / 3600)
  assert found['events_per_second'] == pytest.approx(
      15 / (sum(samples) / 44100))
  assert found['events_per_song']['mean'] == 5
  assert found['events_per_song']['median'] == 7
  assert (found['events_per_song']['shortest'],
          found['events_per_song']['longest']) == (1, 7)
  assert found['seconds_per_song']['longest'] == pytest.approx(
      samples[0] / 44100)
  assert sum(found['seconds_per_song']['histogram']) == 3
  # 1470 becomes 1500, 132300 becomes 100000, 44100 becomes 44000.
  assert found['waits'] == {
      'count': 7, 'inexact': 3, 'over_longest': 1, 'hours_as_tokens':
          pytest.approx((sum(samples) + 30 - 32300 - 100) / 44100 / 3600)}
  ids = ev.TX1.encode(np.array([1470, 30, 132300, 500, 500, 100, 44100]))
  assert found['wait_ids'] == np.bincount(ids, minlength=371).tolist()


def test_voices_by_hand(folder):
  voices = stats.measure(shards.Corpus(folder, 'valid'))['voices']
  p1 = voices['P1']
  assert (p1['songs'], p1['notes'], p1['cut']) == (2, 4, 1)
  assert (p1['lowest'], p1['median'], p1['highest']) == (60, 60, 72)
  assert p1['pitch_counts'][60 - 33] == 3 and p1['pitch_counts'][72 - 33] == 1
  assert p1['spacing_median'] == 1000  # Of 1000 and 1470.
  assert sum(p1['spacing_ids']) == 2
  triangle = voices['TR']
  assert (triangle['songs'], triangle['notes'], triangle['cut']) == (1, 1, 1)
  assert triangle['lowest'] == triangle['highest'] == 21
  assert triangle['spacing_median'] is None
  assert (voices['NO']['songs'], voices['NO']['lowest']) == (0, None)


def test_command_prints(folder, capsys):
  assert stats.main([str(folder)]) == 0
  out = capsys.readouterr().out
  assert 'valid: 3 songs of 2 games, 0.00 hours, with dynamics' in out
  rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()}
  assert rows['P1'] == ['2', '4', '60', '60', '72', '23', 'ms', '1']
  assert rows['NO'] == ['0', '0', '-', '-', '-', '-', '0']
  assert stats.main([str(folder), '--json']) == 0
  assert json.loads(capsys.readouterr().out) == {
      'valid': stats.measure(shards.Corpus(folder, 'valid'))}


def test_names_without_games(tmp_path, capsys):
  shards.write_split(tmp_path, 'train', [('one', [5]), ('001_b', [5])])
  assert stats.main([str(tmp_path)]) == 0
  assert 'train: 2 songs, 0.00 hours' in capsys.readouterr().out


@pytest.mark.skipif(not importlib.util.find_spec('matplotlib'),
                    reason='no matplotlib')
def test_plot(folder):
  assert stats.main([str(folder), f'--plot={folder}/a.png']) == 0
  assert (folder / 'a.png').read_bytes().startswith(b'\x89PNG')


def test_nothing_there(tmp_path, capsys):
  assert stats.main([str(tmp_path)]) == 1
  assert 'Make it with `python -m data_prep.nesmdb' in capsys.readouterr().err


@pytest.mark.slow
def test_nesmdb_itself(real_data, tmp_path):
  """The published numbers of train and valid."""
  with tarfile.open(real_data / 'nesmdb_midi_train_valid.tar.xz') as archive:
    archive.extractall(tmp_path / 'in', filter='data')
  source, = {path.parent for path in tmp_path.glob('in/**/train')}
  assert nesmdb.main([f'--input={source}', f'--output={tmp_path}/out']) == 0
  measured = {split: stats.measure(shards.Corpus(tmp_path / 'out', split))
              for split in ('train', 'valid')}
  assert {split: (of['songs'], of['events_tx1'], of['games'])
          for split, of in measured.items()} == {
              'train': (4502, 8390590, 318), 'valid': (403, 641729, 40)}
  assert measured['train']['events_per_song']['longest'] == 133068
