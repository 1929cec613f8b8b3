"""The command data_prep.convert between all formats."""

import numpy as np
import pytest

from data_prep import convert
from lakhnes_jax import events as ev
from lakhnes_jax import files

TX2 = ev.from_text('P1_NOTEON_60\nP1_VELOCITY_9\nWT_735\nP1_NOTEOFF\nWT_5')
TX1 = 'P1_NOTEON_60\nWT_735\nP1_NOTEOFF\nWT_5'


@pytest.fixture
def source(tmp_path):
  files.write_song(tmp_path / 'in/a.mid', TX2)
  files.write_song(tmp_path / 'in/deep/b.tx2.txt', TX2)
  return tmp_path / 'in'


def command(*flags, workers=1):
  return convert.main([*map(str, flags), f'--workers={workers}'])


def tree_of(folder):
  return sorted(path.relative_to(folder).as_posix()
                for path in folder.rglob('*') if path.is_file())


def test_every_format(source, tmp_path, capsys):
  for ending in ('tx1.txt', 'tx2.txt', 'mid'):
    out = tmp_path / ending
    assert command(source, f'--to={ending}', f'--out={out}') == 0
    assert tree_of(out) == [f'a.{ending}', f'deep/b.{ending}']
    assert '2 songs written, 0 bad files' in capsys.readouterr().out
  assert (tmp_path / 'tx1.txt/deep/b.tx1.txt').read_text() == TX1
  np.testing.assert_array_equal(files.read_song(tmp_path / 'tx2.txt/a.tx2.txt'),
                                TX2)
  assert (tmp_path / 'mid/deep/b.mid').read_bytes() == (
      source / 'a.mid').read_bytes()


def test_in_parallel_with_a_bad_file(source, tmp_path, capsys):
  (source / 'bad.mid').write_bytes(b'x')
  assert command(source, '--to=.TX1.txt', f'--out={tmp_path / "o"}',
                 workers=2) == 1
  assert tree_of(tmp_path / 'o') == ['a.tx1.txt', 'deep/b.tx1.txt']
  out, err = capsys.readouterr()
  assert f'bad file: {source}/bad.mid: not a readable MIDI file' in err
  assert '2 songs written, 1 bad files' in out


def test_two_inputs_of_one_name(source, tmp_path, capsys):
  files.write_song(tmp_path / 'other/a.tx2.txt', TX2)
  assert command(source, tmp_path / 'other', '--to=mid',
                 f'--out={tmp_path / "o"}') == 1
  assert "are both named 'a'" in capsys.readouterr().err
  assert not (tmp_path / 'o').exists()


def test_nothing_found(tmp_path, capsys):
  assert command(tmp_path, '--to=mid', f'--out={tmp_path}') == 1
  assert 'no song files in' in capsys.readouterr().err
  assert command(tmp_path / 'x', '--to=mid', f'--out={tmp_path}') == 1
  assert 'x: no such file or folder' in capsys.readouterr().err


def test_unknown_format(source, tmp_path, capsys):
  with pytest.raises(SystemExit) as error:
    command(source, '--to=wav', f'--out={tmp_path}')
  assert error.value.code == 2
  assert '--to=wav: known are mid, midi, tx1.txt' in capsys.readouterr().err


def test_a_source_is_never_overwritten(source, capsys):
  before = (source / 'a.mid').read_bytes()
  assert command(source / 'a.mid', '--to=mid', f'--out={source}') == 1
  assert 'would be overwritten by its own result' in capsys.readouterr().err
  assert (source / 'a.mid').read_bytes() == before
