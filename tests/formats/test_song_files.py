"""Song files by their ending."""

import numpy as np
import pytest

from lakhnes_jax import atomic
from lakhnes_jax import events as ev
from lakhnes_jax.formats import song_files

SONG = ev.from_text('P1_NOTEON_60\nP1_VELOCITY_9\nWT_735\nP1_NOTEOFF\nWT_5')


@pytest.mark.parametrize('ending', ['.mid', '.midi', '.tx2.txt', '.MID'])
def test_round_trip(tmp_path, ending):
  path = tmp_path / 'new' / f'a song.v2{ending}'
  song_files.write_song(path, SONG)
  np.testing.assert_array_equal(song_files.read_song(path), SONG)
  assert song_files.song_name(path) == 'a song.v2'


def test_text_on_disk(tmp_path):
  song_files.write_song(tmp_path / 'a.tx1.txt', SONG)
  song_files.write_song(tmp_path / 'a.tx2.txt', SONG)
  assert (tmp_path / 'a.tx1.txt').read_bytes() == (
      b'P1_NOTEON_60\nWT_735\nP1_NOTEOFF\nWT_5')
  assert (tmp_path / 'a.tx2.txt').read_bytes() == (
      b'P1_NOTEON_60\nP1_VELOCITY_9\nWT_735\nP1_NOTEOFF\nWT_5')


def test_song_name_keeps_unknown_endings():
  assert song_files.song_name('x/b.wav') == 'b.wav'
  assert song_files.song_name('x/b.tx1.txt') == 'b'


def test_errors_name_the_file(tmp_path):
  path = tmp_path / 'a.tx1.txt'
  path.write_bytes(b'WT_1\n\xff\xfe')
  with pytest.raises(ValueError, match=r'a\.tx1\.txt: line 2: .* is no event'):
    song_files.read_song(path)
  with pytest.raises(FileNotFoundError, match=r'nowhere\.mid'):
    song_files.read_song(tmp_path / 'nowhere.mid')
  (tmp_path / 'a.mid').write_bytes(b'not midi')
  with pytest.raises(ValueError, match=r'a\.mid: not a readable MIDI file'):
    song_files.read_song(tmp_path / 'a.mid')
  for call in (song_files.read_song,
               lambda path: song_files.write_song(path, SONG)):
    with pytest.raises(ValueError, match=r'a\.wav: not the ending of a song '
                       r'file; known are \.mid'):
      call(tmp_path / 'a.wav')
  with pytest.raises(ValueError, match=r'long\.mid: a pause of'):
    song_files.write_song(tmp_path / 'long.mid', np.array([2**28]))
  assert not (tmp_path / 'long.mid').exists()


@pytest.fixture
def tree(tmp_path):
  for name in ('b/2.tx1.txt', 'b/1.mid', 'b/deep/3.TX2.TXT', 'a.mid',
               'b/note.txt', 'b/4.mid.gz', 'pyramid'):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(b'')
  return tmp_path


def test_find_songs(tree):
  def found(*sources):
    return [path.relative_to(tree).as_posix()
            for path in song_files.find_songs(
                tree / source for source in sources)]
  assert found('.') == ['a.mid', 'b/1.mid', 'b/2.tx1.txt', 'b/deep/3.TX2.TXT']
  assert found('b', 'a.mid', 'b/1.mid') == found('.')
  assert found('*.mid', '**/*.tx1.txt') == ['a.mid', 'b/2.tx1.txt']
  assert found('b/note.txt') == ['b/note.txt']  # Asked for by name.
  for missing in ('c', '*.vgm'):
    with pytest.raises(FileNotFoundError, match='no such file or folder'):
      found(missing)


def test_name_songs(tree):
  assert list(song_files.name_songs([tree]).items()) == [
      ('a', tree / 'a.mid'), ('b/1', tree / 'b/1.mid'),
      ('b/2', tree / 'b/2.tx1.txt'), ('b/deep/3', tree / 'b/deep/3.TX2.TXT')]
  assert list(song_files.name_songs([tree / 'b/deep', tree / 'b/1.mid'])) == [
      '1', '3']
  (tree / 'b/1.tx1.txt').write_bytes(b'')
  with pytest.raises(ValueError, match=r"1\.(mid|tx1\.txt) and .* both named "
                     "'b/1'"):
    song_files.name_songs([tree])


def test_write_atomic_replaces_whole_files(tmp_path, monkeypatch):
  path = tmp_path / 'x.bin'
  atomic.write(path, b'old')
  atomic.write(path, b'new')
  assert path.read_bytes() == b'new'

  def fail(*_):
    raise OSError('disk full')
  monkeypatch.setattr('os.replace', fail)
  with pytest.raises(OSError, match='disk full'):
    atomic.write(path, b'newer')
  assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [
      ('x.bin', b'new')]


def test_a_file_named_like_an_ending(tmp_path):
  for name in ('.mid', '.tx1.txt'):
    song_files.write_song(tmp_path / name, SONG)
  assert list(song_files.name_songs([tmp_path])) == ['.mid', '.tx1.txt']


def test_a_byte_order_mark_is_no_event(tmp_path):
  path = tmp_path / 'a.tx1.txt'
  path.write_bytes(b'\xef\xbb\xbfTR_NOTEON_50\r\nWT_9')
  assert song_files.read_song(path)[1] == 9
