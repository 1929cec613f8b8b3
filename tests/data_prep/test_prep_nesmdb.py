"""The command data_prep.nesmdb on a small folder."""

import sys

import numpy as np
import pytest

from data_prep import nesmdb, pool
from lakhnes_jax import events as ev
from lakhnes_jax.data import shards
from lakhnes_jax.formats import song_files


def make_song(rng):
  names = ['P1_NOTEON_60', 'P1_VELOCITY_9', 'WT_735', 'P1_NOTEOFF', 'WT_5']
  return ev.from_text('\n'.join(names * int(rng.integers(1, 9))))


@pytest.fixture
def songs(tmp_path):
  """A folder of songs of several formats, and what is in it."""
  rng = np.random.default_rng(0)
  found = {}
  for split, n in (('train', 9), ('valid', 2)):
    for i in range(n):
      name = f'game {i // 4}/{n - i}'
      found[split, name] = make_song(rng)
      song_files.write_song(
          tmp_path / 'in' / split / (name + ('.mid', '.tx2.txt')[i % 2]),
          found[split, name])
  return tmp_path / 'in', found


def command(source, target, *flags):
  return nesmdb.main([f'--input={source}', f'--output={target}', *flags])


def files_of(folder):
  return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_writes_every_song(songs, tmp_path, capsys):
  source, found = songs
  assert command(source, tmp_path / 'out', '--workers=1') == 0
  for split in ('train', 'valid'):
    corpus = shards.Corpus(tmp_path / 'out', split)
    corpus.verify()
    assert corpus.names == sorted(n for s, n in found if s == split)
    assert corpus.dynamics
    assert corpus.metadata['command'] == 'data_prep.nesmdb'
    for i, name in enumerate(corpus.names):
      np.testing.assert_array_equal(corpus.song(i), found[split, name])
  out, err = capsys.readouterr()
  samples = sum(np.maximum(song, 0).sum() for (split, _), song in found.items()
                if split == 'train')
  events = sum(len(song) for (split, _), song in found.items()
               if split == 'train')
  assert (f'train: 9 songs, {events} events, {samples / 44100 / 3600:.2f} '
          'hours, 0 bad files') in out
  assert 'train: 9 of 9 songs' in err


def test_same_bytes_whatever_the_workers(songs, tmp_path):
  source, _ = songs
  for name, flag in (('1', '--workers=1'), ('2', '--workers=2'),
                     ('1', '--workers=2')):
    assert command(source, tmp_path / name, flag, '--shard_events=50') == 0
  assert len(files_of(tmp_path / '1')) > 4
  assert files_of(tmp_path / '1') == files_of(tmp_path / '2')


@pytest.mark.parametrize('workers', [1, 2])
def test_bad_files_are_named_and_left_out(songs, tmp_path, capsys, workers):
  source, found = songs
  (source / 'train/bad.mid').write_bytes(b'MThd')
  (source / 'train/game 0/bad.tx1.txt').write_text('P1_NOTEON_5')
  assert command(source, tmp_path / 'out', f'--workers={workers}') == 1
  out, err = capsys.readouterr()
  assert 'bad.mid: not a readable MIDI file: it ends too early' in err
  assert 'bad.tx1.txt: line 1: P1_NOTEON_5: legal values are 33 to 108' in err
  assert err.count('bad file: ') == 2
  assert 'train: 9 songs' in out and '2 bad files left out' in out
  corpus = shards.Corpus(tmp_path / 'out', 'train')
  assert corpus.names == sorted(n for s, n in found if s == 'train')


def one_error(capsys):
  err = capsys.readouterr().err
  line, = [line for line in err.splitlines() if 'data_prep.nesmdb: ' in line]
  return line


def test_nothing_to_prepare(songs, tmp_path, capsys):
  source, _ = songs
  assert command(tmp_path / 'nowhere', tmp_path / 'out') == 1
  assert 'nowhere: no such folder' in one_error(capsys)
  assert command(source / 'train', tmp_path / 'out') == 1
  assert 'no folder train, valid, test in it' in one_error(capsys)
  (source / 'test').mkdir()
  assert command(source, tmp_path / 'out') == 1
  assert 'test: no song files there; known endings are .mid' in one_error(
      capsys)
  (source / 'test/1.mid').write_bytes(b'')
  (source / 'test/1.tx1.txt').write_bytes(b'')
  assert command(source, tmp_path / 'out') == 1
  assert "are both named '1'" in one_error(capsys)
  assert not (tmp_path / 'out').exists()


def test_only_bad_files_leave_no_split(tmp_path, capsys):
  (tmp_path / 'in/train').mkdir(parents=True)
  (tmp_path / 'in/train/a.mid').write_bytes(b'x')
  assert command(tmp_path / 'in', tmp_path / 'out', '--workers=1') == 1
  assert 'no songs for split train' in one_error(capsys)
  assert not files_of(tmp_path / 'out')


@pytest.mark.parametrize('flag', ['--workers=-1', '--shard_events=0'])
def test_impossible_flags(tmp_path, flag):
  with pytest.raises(SystemExit) as error:
    command(tmp_path, tmp_path, flag)
  assert error.value.code == 2


def reciprocal(x):
  return 1 / x if x < 9 else sys.exit()


@pytest.mark.parametrize('workers', [1, 2])
def test_pool_keeps_order_and_reasons(workers):
  items = [1, 2, 0, 4]
  assert list(pool.attempt_all(reciprocal, items * 200, workers)) == [
      (1, 1, None), (2, .5, None),
      (0, None, '0: ZeroDivisionError: division by zero'), (4, .25, None)] * 200


def kill_self(_):
  import os
  os._exit(9)


def test_pool_says_when_a_worker_is_killed():
  with pytest.raises(OSError, match='a worker process was killed'):
    list(pool.attempt_all(kill_self, [1, 2], 2))


@pytest.mark.parametrize('ending', [
    ending for ending, form in song_files.FORMATS.items() if form.read])
def test_every_kind_of_file(tmp_path, ending):
  song = ev.from_text('P1_NOTEON_60\nP1_VELOCITY_9\nWT_7350\nP1_NOTEOFF')
  song_files.write_song(tmp_path / f'in/train/a{ending}', song)
  assert command(tmp_path / 'in', tmp_path / 'out', '--workers=1') == 0
  read = ev.without_dynamics(shards.Corpus(tmp_path / 'out', 'train').song(0))
  song = ev.without_dynamics(song)
  if ending in ('.nsf', '.famitracker.txt'):  # Played once a frame.
    notes, times = read[read < 0], ev.times_of(read)[read < 0]
    np.testing.assert_array_equal(notes, song[song < 0])
    assert abs(times[1] - times[0] - 7350) < 735
  else:
    np.testing.assert_array_equal(read, song)
