"""Input files are found and read, or refused in one line; no search hangs."""

import os
import pathlib
import sys

import pytest

from lakhnes_jax import input_files


@pytest.fixture
def tree(tmp_path):
  for name in ('a.mid', 'b/c.mid', 'b/._c.mid', '__MACOSX/b/c.mid', 'b/d/e.mid',
               'b/.hidden.mid', 'x[1]/f.mid'):
    path = tmp_path / 'tree' / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(name.encode())
  return tmp_path / 'tree'


def _names(paths, tree):
  return [path.relative_to(tree).as_posix() for path in paths]


def test_walk_leaves_out_what_macos_adds(tree):
  assert _names(input_files.walk(tree), tree) == [
      'a.mid', 'b/.hidden.mid', 'b/c.mid', 'b/d/e.mid', 'x[1]/f.mid']


@pytest.mark.parametrize('pattern, found', [
    ('*.mid', ['a.mid']), ('b/*', ['b/.hidden.mid', 'b/c.mid', 'b/d']),
    ('**/*.mid', ['a.mid', 'b/.hidden.mid', 'b/c.mid', 'b/d/e.mid',
                  'x[1]/f.mid']),
    ('**/**/e.mid', ['b/d/e.mid']), ('?', ['b']), ('b/d/e**d', ['b/d/e.mid']),
    ('**', ['.']), ('no*', []), ('no/*', [])])
def test_patterns(tree, pattern, found):
  assert _names(input_files.glob(f'{tree}/{pattern}'), tree) == found


def test_patterns_of_the_working_folder(tree, monkeypatch):
  monkeypatch.chdir(tree)
  assert input_files.glob('b/**/e.*') == [pathlib.Path('b/d/e.mid')]
  assert input_files.glob('*.mid') == [pathlib.Path('a.mid')]


def test_links_to_folders_above_end_the_search(tree):
  for number in range(12):  # 12**40 paths for who follows them.
    (tree / 'b' / f'up{number}').symlink_to(tree, target_is_directory=True)
  assert len(input_files.glob(f'{tree}/**/*.mid')) == 5
  assert len(list(input_files.walk(tree))) == 5


def test_read(tree):
  assert input_files.read(tree / 'a.mid') == b'a.mid'
  assert input_files.read(tree / 'a.mid', 5) == b'a.mid'
  assert input_files.read(tree / 'a.mid', 2**60) == b'a.mid'
  with pytest.raises(ValueError, match=r'a\.mid: over 4 bytes'):
    input_files.read(tree / 'a.mid', 4)
  with pytest.raises(FileNotFoundError):
    input_files.read(tree / 'none')


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='needs FIFOs')
def test_only_files_are_read(tree):
  os.mkfifo(tree / 'fifo.mid')
  for path, kind in ((tree / 'fifo.mid', 'a pipe or device'),
                     (pathlib.Path('/dev/zero'), 'a pipe or device'),
                     (tree / 'b', 'a folder')):
    with pytest.raises(ValueError, match=f'{path.name}: {kind}, not a file'):
      input_files.read(path)
  assert 'fifo.mid' not in _names(input_files.walk(tree), tree)
  if sys.platform != 'linux':
    return
  assert input_files.read('/proc/self/status').startswith(b'Name:')
  with pytest.raises(ValueError, match='status: over 10 bytes'):
    input_files.read('/proc/self/status', 10)  # Its size is 0 to `stat`.


@pytest.mark.parametrize('path', ['a\0b', '\ud800'])
def test_what_cannot_be_a_path(path):
  with pytest.raises(FileNotFoundError, match=r'no such file$'):
    input_files.read(path)
