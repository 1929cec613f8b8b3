"""Shards on disk: what is written is read, and damage is named."""

import hashlib
import json
import os
import shutil
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


def forge(folder, change, split='train'):
  """Changes an index and the checksums in it, as who means harm would."""
  path = folder / f'{split}.json'
  index = change(json.loads(path.read_text()))
  if isinstance(index, dict):
    index.pop('checksum', None)
    for shard in index.get('shards', ()):
      data = folder / shard['file'] if isinstance(shard, dict) else folder
      if data.is_file():
        shard['sha256'] = hashlib.sha256(data.read_bytes()).hexdigest()
  path.write_text(json.dumps(index))


def test_damaged_shards_are_named(tmp_path):
  corpus = shards.write_split(tmp_path, 'train', make_songs(), max_events=400)
  path = tmp_path / f'train-00001-of-{len(corpus._shards):05d}.npy'
  good = path.read_bytes()
  for bad in (good[:-1] + bytes([good[-1] ^ 1]), good[:-4], good[:50], b''):
    path.write_bytes(bad)
    with pytest.raises(ValueError, match=f'{path.name}: damaged: its SHA-256'):
      shards.Corpus(tmp_path, 'train')
  path.unlink()
  with pytest.raises(ValueError, match=rf'No such file.*{path.name}'):
    shards.Corpus(tmp_path, 'train')


def test_forged_shards_are_named(tmp_path):
  corpus = shards.write_split(tmp_path, 'train', make_songs(), max_events=400)
  path = tmp_path / f'train-00001-of-{len(corpus._shards):05d}.npy'
  good = np.load(path)
  for bad in (b'', b'\x80\x04}.', path.read_bytes()[:50]):
    path.write_bytes(bad)
    forge(tmp_path, lambda index: index)
    with pytest.raises(ValueError, match=f'{path.name}: not a shard'):
      shards.Corpus(tmp_path, 'train')
  for array in (np.zeros(3, np.int32), good.astype(np.int64)):
    np.save(path, array)
    forge(tmp_path, lambda index: index)
    with pytest.raises(ValueError, match=rf'{path.name}: holds int.*\[\d+\]'):
      shards.Corpus(tmp_path, 'train')
  good[:] = -10**6
  np.save(path, good)
  forge(tmp_path, lambda index: index)
  corpus = shards.Corpus(tmp_path, 'train')
  with pytest.raises(ValueError, match=rf'{path.name}: song .* no event'):
    for i in range(len(corpus)):
      corpus.song(i)


def test_forged_instruments_are_named(tmp_path):
  for packed in ([7], [1, 0, 1, 0, 9, 60 + 128 * 200], [1, 0, 2, 0, 9, 60]):
    shards.write_split(tmp_path, 'train', [('a', packed)],
                       arranged_on_read=True)
    with pytest.raises(ValueError,
                       match=r"-of-00001\.npy: song 'a': not packed instr"):
      shards.Corpus(tmp_path, 'train').song(0)


def test_what_is_verified_is_remembered(tmp_path, monkeypatch):
  read, original = [], shards._sha256
  monkeypatch.setattr(
      shards, '_sha256',
      lambda path: (read.append(path.name), original(path))[1])
  n_shards = len(shards.write_split(tmp_path, 'train', make_songs(),
                                    max_events=400)._shards)
  assert not read  # What was just written is not read.
  shards.Corpus(tmp_path, 'train')
  assert len(read) == n_shards
  shards.Corpus(tmp_path, 'train')
  assert len(read) == n_shards
  path = tmp_path / read[1]
  os.utime(path, ns=(1, 1))
  shards.Corpus(tmp_path, 'train')
  assert read[n_shards:] == [path.name]
  copy = tmp_path / 'copy'
  shutil.copy2(path, copy)
  os.replace(copy, path)  # The same size and time, but another file.
  shards.Corpus(tmp_path, 'train')
  assert read[n_shards:] == [path.name] * 2
  for content in (b'', b'[1]', b'{"train-00000-of-00001.npy": 7}', b'\xff'):
    shards._record(tmp_path / 'train.json').write_bytes(content)
    read.clear()
    shards.Corpus(tmp_path, 'train')
    assert len(read) == n_shards


def test_a_cache_that_cannot_be_written_to(tmp_path, monkeypatch):
  shards.write_split(tmp_path, 'train', make_songs())

  def refuse(*_):
    raise PermissionError('read-only file system')
  monkeypatch.setattr(shards.atomic, 'write', refuse)
  assert len(shards.Corpus(tmp_path, 'train')) == 40


def with_shard(**changes):
  return lambda index: index | {'shards': [index['shards'][0] | changes]}


@pytest.mark.parametrize('change, reason', [
    (lambda index: index | {'version': 2}, 'format version 2'),
    (lambda index: index | {'names': ['a']}, 'contradicts itself'),
    (lambda index: index | {'lengths': [1, 1]}, 'contradicts itself'),
    (lambda index: index | {'lengths': [-1, 4]}, r'lengths\[0\]: a whole'),
    (lambda index: index | {'lengths': [2**40, 4]}, r'lengths\[0\]: a whole'),
    (lambda index: index | {'names': ['a', 7]}, r'names\[1\]: a string'),
    (lambda index: index | {'shards': []}, 'contradicts itself'),
    (lambda index: index | {'shards': 'train.npy'}, 'shards: a list expected'),
    (with_shard(file='../train-00000-of-00001.npy'), 'not the name or SHA'),
    (with_shard(file='/etc/passwd'), 'not the name or SHA'),
    (with_shard(file='a\n.npy\n'), 'not the name or SHA'),
    (with_shard(events=True), r'shards\[0\]\.events: a whole number'),
    (lambda index: {'version': 1}, "the whole: 'dynamics' is missing"),
    (lambda index: [], 'the whole: an object expected'),
])
def test_forged_index(tmp_path, change, reason):
  shards.write_split(tmp_path, 'train', [('a', [1]), ('b', [2, 3])])
  forge(tmp_path, change)
  with pytest.raises(ValueError, match=f'^{tmp_path}/train.json: not an index '
                     f'of shards, or damaged: {reason}') as error:
    shards.Corpus(tmp_path, 'train')
  assert '\n' not in str(error.value)


def test_every_flipped_bit_of_an_index_is_noticed(tmp_path):
  written = shards.write_split(tmp_path, 'train', make_songs(3))
  path = tmp_path / 'train.json'
  good = path.read_bytes()
  changed = 0
  for bit in range(0, len(good) * 8, 19):
    damaged = bytearray(good)
    damaged[bit // 8] ^= 1 << bit % 8
    path.write_bytes(damaged)
    try:
      corpus = shards.Corpus(tmp_path, 'train')
    except ValueError as error:
      assert str(tmp_path) in str(error)
      changed += 1
    else:  # White space, or the name of the checksum.
      assert corpus.checksum == written.checksum
      assert corpus.names == written.names
      assert corpus.metadata == written.metadata
      assert (corpus.dynamics, corpus.arranged_on_read) == (
          written.dynamics, written.arranged_on_read)
  assert changed > .7 * len(good) * 8 / 19


def test_indices_of_before(tmp_path):
  """They had no checksum, and another name for stored instruments."""
  packed = np.array([1, 0, 1, 0, 9, 60 + 128 * 90], np.int32)
  shards.write_split(tmp_path, 'train', [('a', packed)], arranged_on_read=True)
  forge(tmp_path, lambda index: {
      {'arranged_on_read': 'ensembles'}.get(key, key): value
      for key, value in index.items()})
  corpus = shards.Corpus(tmp_path, 'train')
  assert corpus.arranged_on_read
  assert len(corpus.song(0)) > len(packed) // 2


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='needs FIFOs')
@pytest.mark.parametrize('name', ['train.json', 'train-00000-of-00001.npy'])
def test_pipes_are_not_waited_for(tmp_path, name):
  shards.write_split(tmp_path, 'train', [('a', [1])])
  (tmp_path / name).unlink()
  os.mkfifo(tmp_path / name)
  with pytest.raises(ValueError, match=f'{name}: a pipe or device'):
    shards.Corpus(tmp_path, 'train')


def test_case(cases):
  """`names` is a number."""
  with pytest.raises(ValueError, match=r'shards3_244/train\.json: '):
    shards.Corpus(cases / 'faults/shards3_244', 'train')


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
