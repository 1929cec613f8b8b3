"""Shards on disk: what is written is read, and damage is named."""

import json
import subprocess
import sys

import numpy as np
import pytest

from lakhnes_jax import events as ev
from lakhnes_jax.data import shards


def make_songs(n=40, seed=0):
  rng = np.random.default_rng(seed)
  return [(f'game/sóng {i}', rng.integers(-315, 2000, rng.integers(0, 60)
                                         ).astype(np.int32))
          for i in range(n)]


def files_of(folder):
  return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize('max_events', [1, 100, 2**20])
def test_round_trip(tmp_path, max_events):
  songs = make_songs()
  corpus = shards.write_split(tmp_path, 'train', iter(songs),
                              max_events=max_events, metadata={'from': 'here'})
  assert len(corpus) == 40
  assert corpus.names == [name for name, _ in songs]
  assert corpus.lengths.dtype == np.int64
  assert corpus.lengths.tolist() == [len(song) for _, song in songs]
  assert corpus.metadata == {'from': 'here'}
  for i, (_, song) in enumerate(songs):
    np.testing.assert_array_equal(corpus.song(i), song)
    assert corpus.song(i).dtype == np.int32
  corpus.verify()


def test_the_form_on_disk(tmp_path):
  """What any other program needs to read it."""
  songs = [('a', [1, 2]), ('b', [3, 4, 5]), ('c', [-6])]
  shards.write_split(tmp_path, 'train', songs, max_events=4)
  assert sorted(files_of(tmp_path)) == [
      'train-00000-of-00002.npy', 'train-00001-of-00002.npy', 'train.json']
  assert np.load(tmp_path / 'train-00000-of-00002.npy').tolist() == [1, 2]
  assert np.load(tmp_path / 'train-00001-of-00002.npy').tolist() == [3, 4, 5,
                                                                     -6]
  index = json.loads((tmp_path / 'train.json').read_text())
  assert index['version'] == 1
  assert index['names'] == ['a', 'b', 'c']
  assert index['lengths'] == [2, 3, 1]
  assert [(s['file'], s['songs'], s['events']) for s in index['shards']] == [
      ('train-00000-of-00002.npy', 1, 2), ('train-00001-of-00002.npy', 2, 4)]


def test_songs_are_read_only_views(tmp_path):
  corpus = shards.write_split(tmp_path, 'train', [('a', [1, 2]), ('b', [3])])
  first, second = corpus.song(0), corpus.song(1)
  assert first.base is not None and first.base is second.base
  with pytest.raises(ValueError, match='read-only'):
    first[0] = 5
  for i in (-1, 2):
    with pytest.raises(IndexError, match=f'song {i} of 2'):
      corpus.song(i)


def test_same_songs_same_bytes(tmp_path):
  for name in ('once', 'twice', 'once'):
    shards.write_split(tmp_path / name, 'train', make_songs(), max_events=200)
  assert files_of(tmp_path / 'once') == files_of(tmp_path / 'twice')


def test_checksum_tells_content(tmp_path):
  def checksum(songs, **kwargs):
    return shards.write_split(tmp_path, 'train', songs, **kwargs).checksum
  assert checksum([('a', [1])]) == checksum([('a', [1])], metadata={'x': 1})
  assert len({checksum([('a', [1])]), checksum([('b', [1])]),
              checksum([('a', [2])]), checksum([('a', [1]), ('b', [])])}) == 4


def test_rewriting_removes_the_shards_of_before(tmp_path):
  shards.write_split(tmp_path, 'valid', make_songs(), max_events=100)
  shards.write_split(tmp_path, 'train', make_songs(), max_events=100)
  shards.write_split(tmp_path, 'train', make_songs(3))
  assert [f for f in sorted(files_of(tmp_path)) if 'train' in f] == [
      'train-00000-of-00001.npy', 'train.json']
  shards.Corpus(tmp_path, 'valid').verify()


@pytest.mark.parametrize('text, dynamics', [
    ('P1_NOTEON_60\nP1_VELOCITY_4', True), ('TR_NOTEON_60\nWT_4', True),
    ('P1_NOTEON_60\nWT_4', False), ('NO_NOTEON_6\nNO_TIMBRE_1', False),
    ('WT_4', True)])
def test_dynamics_are_known_if_every_song_has_them(tmp_path, text, dynamics):
  loud = ev.from_text('P2_NOTEON_60\nP2_VELOCITY_4')
  corpus = shards.write_split(tmp_path, 'train', [
      ('loud', loud), ('song', ev.from_text(text)), ('again', loud)])
  assert corpus.dynamics is dynamics


@pytest.mark.parametrize('song', [[[1, 2]], [5, -316]])
def test_what_is_no_song_is_refused(tmp_path, song):
  with pytest.raises(ValueError, match='song bad: not a 1-D array of events'):
    shards.write_split(tmp_path, 'train', [('bad', np.array(song))])
  assert not files_of(tmp_path)


def test_no_songs(tmp_path):
  with pytest.raises(ValueError, match='no songs for split train'):
    shards.write_split(tmp_path, 'train', [])


def test_missing_split_says_what_makes_it(tmp_path):
  shards.write_split(tmp_path, 'train', make_songs(2))
  with pytest.raises(FileNotFoundError) as error:
    shards.Corpus(tmp_path, 'valid')
  assert f"{tmp_path}: no split 'valid' here (it holds train)" in str(
      error.value)
  assert (f'python -m data_prep.nesmdb --input=FOLDER --output={tmp_path}'
          in str(error.value))
  with pytest.raises(FileNotFoundError, match='folder does not exist'):
    shards.Corpus(tmp_path / 'nowhere', 'train')


def test_damaged_shards_are_named(tmp_path):
  corpus = shards.write_split(tmp_path, 'train', make_songs(), max_events=400)
  path = tmp_path / f'train-00001-of-{len(corpus._shards):05d}.npy'
  good = path.read_bytes()
  path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
  with pytest.raises(ValueError, match=f'{path.name}: checksum differs'):
    shards.Corpus(tmp_path, 'train').verify()
  for bad in (good[:-4], good[:50], b'', b'\x80\x04}.'):
    path.write_bytes(bad)
    with pytest.raises(ValueError, match=f'{path.name}: missing or trunc'):
      shards.Corpus(tmp_path, 'train')
  for array in (np.zeros(3, np.int32), np.load(tmp_path / (
      'train-00000' + path.name[11:])).astype(np.int64)):
    np.save(path, array)
    with pytest.raises(ValueError, match=rf'{path.name}: holds int.*\[\d+\]'):
      shards.Corpus(tmp_path, 'train')
  path.unlink()
  with pytest.raises(ValueError, match=f'{path.name}: missing or truncated'):
    shards.Corpus(tmp_path, 'train')


@pytest.mark.parametrize('change, reason', [
    (lambda index: index | {'version': 2}, 'format version 2'),
    (lambda index: index | {'names': ['a']}, 'contradicts itself'),
    (lambda index: index | {'lengths': [1, 1]}, 'contradicts itself'),
    (lambda index: {'version': 1}, 'not an index of shards'),
    (lambda index: [], 'not an index of shards'),
])
def test_damaged_index(tmp_path, change, reason):
  shards.write_split(tmp_path, 'train', [('a', [1]), ('b', [2, 3])])
  path = tmp_path / 'train.json'
  path.write_text(json.dumps(change(json.loads(path.read_text()))))
  with pytest.raises(ValueError, match=f'train.json: {reason}'):
    shards.Corpus(tmp_path, 'train')
  path.write_text('{"version": 1, ')
  with pytest.raises(ValueError, match=r'train.json: not an index'):
    shards.Corpus(tmp_path, 'train')


def test_an_error_on_the_way_leaves_the_old_split(tmp_path):
  def broken():
    yield from make_songs(20)
    raise OSError('disk on fire')

  old = shards.write_split(tmp_path, 'train', make_songs(5, seed=1))
  before = files_of(tmp_path)
  with pytest.raises(OSError, match='on fire'):
    shards.write_split(tmp_path, 'train', broken(), max_events=100)
  assert files_of(tmp_path) == before
  assert shards.Corpus(tmp_path, 'train').checksum == old.checksum


def test_never_an_index_of_another_run(tmp_path, monkeypatch):
  shards.write_split(tmp_path, 'train', make_songs(5, seed=1))

  def fail(*_):
    raise OSError('disk full')
  monkeypatch.setattr('os.replace', fail)
  with pytest.raises(OSError, match='disk full'):
    shards.write_split(tmp_path, 'train', make_songs(5))
  with pytest.raises(FileNotFoundError):
    shards.Corpus(tmp_path, 'train')


def test_killed_on_the_way_there_is_no_split(tmp_path):
  program = '''
import os, sys
from lakhnes_jax.data import shards
def songs():
  for i in range(9):
    yield str(i), [i] * 9
  os._exit(9)
shards.write_split(sys.argv[1], 'train', songs(), max_events=20)
'''
  run = subprocess.run([sys.executable, '-c', program, tmp_path], check=False)
  assert run.returncode == 9
  assert files_of(tmp_path)  # It had begun.
  with pytest.raises(FileNotFoundError):
    shards.Corpus(tmp_path, 'train')
  shards.write_split(tmp_path, 'train', [('a', [1])])
  assert sorted(files_of(tmp_path)) == ['train-00000-of-00001.npy',
                                        'train.json']


def test_mapped_pages_are_let_go(tmp_path, monkeypatch):
  """What was read before stays right, and so does what is read after."""
  monkeypatch.setattr(shards, '_RESIDENT', 2**17)
  let_go, original = [], shards.Corpus._let_go

  def counted(corpus):
    let_go.append(1)
    original(corpus)

  monkeypatch.setattr(shards.Corpus, '_let_go', counted)
  songs = [(f'{i}', np.arange(i, i + 5000, dtype=np.int32)) for i in range(20)]
  corpus = shards.write_split(tmp_path, 'train', songs, max_events=20_000)
  found = [corpus.song(i) for i in range(20)]
  assert len(let_go) == 10
  for song, (_, expected) in zip(found, songs, strict=True):
    np.testing.assert_array_equal(song, expected)
