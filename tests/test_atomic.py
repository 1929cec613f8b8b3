"""Files are written whole or not at all, whatever their names."""

import os

import pytest

from lakhnes_jax import atomic


@pytest.mark.parametrize('name', [
    'a', 'a' * 255, 'é' * 127, os.fsdecode(b'\xff' * 255)])
def test_any_name(tmp_path, name):
  path = tmp_path / 'new' / name
  for data in (b'one', b'another'):
    atomic.write(path, data)
    assert path.read_bytes() == data
  assert list(path.parent.iterdir()) == [path]


def test_nothing_is_left_of_a_write_that_fails(tmp_path):
  (tmp_path / 'folder').mkdir()
  with pytest.raises(OSError, match='folder'):
    atomic.write(tmp_path / 'folder', b'x')
  with pytest.raises(TypeError):
    atomic.write(tmp_path / 'text', 'x')
  assert [path.name for path in tmp_path.iterdir()] == ['folder']


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='no /dev/full')
def test_a_full_disk_is_said_with_the_file():
  with (pytest.raises(OSError, match=r"No space left on device: 'x\.mid'"),
        atomic.named('x.mid'), open('/dev/full', 'wb', 0) as file):
    file.write(b'x')
  with (pytest.raises(OSError, match=r'^x\.npy: cannot be written: 2 req'),
        atomic.named('x.npy')):
    raise OSError('2 requested and 0 written')  # As numpy does.
  with pytest.raises(FileNotFoundError, match="'/nowhere'"), atomic.named('x'):
    os.listdir('/nowhere')
