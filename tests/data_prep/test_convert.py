"""The command data_prep.convert between all formats."""

import os
import struct

import numpy as np
import pytest

from data_prep import convert
from lakhnes_jax import atomic
from lakhnes_jax import events as ev
from lakhnes_jax.formats import score_pickle, song_files, vgm
from lakhnes_jax.synth.register_log import RegisterLog

TX2 = ev.from_text('P1_NOTEON_60\nP1_VELOCITY_9\nWT_735\nP1_NOTEOFF\nWT_5')
TX1 = 'P1_NOTEON_60\nWT_735\nP1_NOTEOFF\nWT_5'


@pytest.fixture
def source(tmp_path):
  song_files.write_song(tmp_path / 'in/a.mid', TX2)
  song_files.write_song(tmp_path / 'in/deep/b.tx2.txt', TX2)
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
  np.testing.assert_array_equal(
      song_files.read_song(tmp_path / 'tx2.txt/a.tx2.txt'), TX2)
  assert (tmp_path / 'mid/deep/b.mid').read_bytes() == (
      source / 'a.mid').read_bytes()


@pytest.mark.parametrize('name', [
    'a' * 234, 'é' * 117, os.fsdecode(b'\xff\xfe'), 'a\nb', '$x$ {0} %s "',
    '\u66f2'])
def test_names_of_any_bytes(tmp_path, name, capsys):
  song_files.write_song(tmp_path / f'in/{name}.mid', TX2)
  for ending in song_files.FORMATS:
    assert command(tmp_path / 'in', f'--to={ending}', f'--out={tmp_path}/out'
                  ) == 0, capsys.readouterr().err
  assert tree_of(tmp_path / 'out') == sorted(
      f'{name}{ending}' for ending in song_files.FORMATS)


def test_in_parallel_with_a_bad_file(source, tmp_path, capsys):
  (source / 'bad.mid').write_bytes(b'x')
  assert command(source, '--to=.TX1.txt', f'--out={tmp_path / "o"}',
                 workers=2) == 1
  assert tree_of(tmp_path / 'o') == ['a.tx1.txt', 'deep/b.tx1.txt']
  out, err = capsys.readouterr()
  assert f'bad file: {source}/bad.mid: not a readable MIDI file' in err
  assert '2 songs written, 1 bad files' in out


FORMATS = ('mid', 'tx1.txt', 'tx2.txt', 'exprsco.pkl', 'seprsco.pkl',
           'blndsco.pkl', 'nlm.pkl', 'ndf.txt', 'ndr.txt', 'vgm', 'vgz')
SCALE = ev.from_text('\n'.join(
    f'P1_NOTEON_{note}\nP1_VELOCITY_9\nTR_NOTEON_{note - 24}\nWT_7350'
    for note in range(60, 72)) + '\nP1_NOTEOFF\nTR_NOTEOFF\nWT_5')


@pytest.mark.parametrize('source', FORMATS)
def test_every_format_becomes_every_other(tmp_path, source, capsys):
  """Whatever the way, the notes of the first voice are the same."""
  first = tmp_path / 'in/deep' / f'a.{source}'
  song_files.write_song(first, SCALE)
  for ending in FORMATS:
    out = tmp_path / ending
    assert command(tmp_path / 'in', f'--to={ending}', f'--out={out}') == 0
    song = song_files.read_song(out / f'deep/a.{ending}')
    blended = 'blndsco.pkl' in (source, ending)  # Its lowest goes to P1.
    notes = ev.value_of(song)[(ev.voice_of(song) == ev.P1) &
                              (ev.kind_of(song) == ev.NOTEON)]
    np.testing.assert_array_equal(notes, np.arange(60, 72) - 24 * blended)
    assert ev.times_of(song)[-1] == ev.times_of(SCALE)[-1]
  capsys.readouterr()


BODY = (b'\xb4\x3f\x01\xb4\x15\x0f\xb4\x00\x7f\xb4\x02\x9a\xb4\x10\x0f' +
        b'\x62' * 30 + b'\xb4\x03\x09' + b'\x62' * 30 + b'\x66')


@pytest.fixture
def log(tmp_path):
  """A PAL log with a loop, tags, and a write to expansion sound."""
  data = bytearray(vgm.build(RegisterLog(
      *np.zeros((3, 0), np.uint8), 0, 1662607, tags={'title': 'T'})))
  begin = len(data) - 1 - len(vgm._gd3({'title': 'T'}))
  gd3 = data[begin + 1:]
  data = data[:begin] + BODY + gd3
  struct.pack_into('<I', data, 0x14, begin + len(BODY) - 0x14)
  struct.pack_into('<I', data, 0x1c, begin + 15 + 30 - 0x1c)
  path = tmp_path / 'logs/a.vgm'
  atomic.write(path, bytes(data))
  return path


@pytest.mark.parametrize('ending, notes', [
    ('vgm', ['1 data blocks of a second NES chip left out']),
    ('ndr.txt', ['1 data blocks of a second NES chip left out',
                 'its volume, 0.50 times, left out']),
    ('tx2.txt', ['1 data blocks of a second NES chip left out',
                 'its volume, 0.50 times, left out'])])
def test_what_is_left_out_is_named(tmp_path, capsys, ending, notes):
  log = RegisterLog(np.array([0]), np.array([0x15], np.uint8),
                    np.array([15], np.uint8), 735, volume=-32)
  block = (b'\x67\x66\xc2' + struct.pack('<I', 3 | 1 << 31) + b'\x00\xc0\x55')
  path = tmp_path / 'in/a.vgm'
  atomic.write(path, vgm.build(log)[:-1] + block + b'\x66')
  assert command(path, f'--to={ending}', f'--out={tmp_path / "o"}') == 0
  lines = capsys.readouterr().err.splitlines()
  assert [line for line in lines if line.startswith('note: ')] == [
      f'note: {path}: {note}' for note in notes]
  if ending == 'vgm':
    assert vgm.read(tmp_path / 'o/a.vgm').gain == .5


def test_logs_stay_logs(log, tmp_path):
  original = vgm.read(log)
  assert original.pal and original.length == 60 * 735
  for ending in ('vgz', 'ndr.txt'):
    assert command(log, f'--to={ending}', f'--out={tmp_path / "o"}') == 0
    copy = song_files.read_log(tmp_path / f'o/a.{ending}')
    for a, b in zip(copy[:5], original[:5], strict=True):
      np.testing.assert_array_equal(a, b)
    assert copy.tags == (original.tags if ending == 'vgz' else {})
  assert original.tags == {'title': 'T'}


@pytest.mark.parametrize('ending', ['vgm', 'tx2.txt', 'nlm.pkl'])
def test_loops(log, tmp_path, ending):
  assert command(log, f'--to={ending}', '--loops=3',
                 f'--out={tmp_path / "o"}') == 0
  song = song_files.read_song(tmp_path / f'o/a.{ending}')
  assert ev.times_of(song)[-1] == (60 + 2 * 30) * 735


def test_rate(source, tmp_path, capsys):
  assert command(source, '--to=seprsco.pkl', '--rate=60',
                 f'--out={tmp_path / "o"}') == 0
  rate, length, steps = score_pickle.unpickle(
      (tmp_path / 'o/a.seprsco.pkl').read_bytes())
  assert (rate, length, steps.values.tolist()) == (60, 740, [[60, 0, 0, 0]])
  for flags, message in (
      (['--to=mid', '--rate=60'], '--rate is for scores, not for mid'),
      (['--to=exprsco.pkl', '--rate=0'], '--rate: rate 0.0: legal values are'),
      (['--to=mid', '--loops=0'], '--loops: a whole number from 1 to 100')):
    with pytest.raises(SystemExit):
      command(source, f'--out={tmp_path}', *flags)
    assert message in capsys.readouterr().err


def test_nothing_is_overwritten_unless_asked(source, tmp_path, capsys):
  out = tmp_path / 'o'
  atomic.write(out / 'a.tx1.txt', b'mine')
  flags = source, '--to=tx1.txt', f'--out={out}'
  assert command(*flags) == 1
  assert (f'{out / "a.tx1.txt"} is there already; nothing was written'
          in capsys.readouterr().err)
  assert tree_of(out) == ['a.tx1.txt']
  assert command(*flags, '--overwrite') == 0
  assert (out / 'a.tx1.txt').read_text() == TX1


def test_two_inputs_of_one_name(source, tmp_path, capsys):
  song_files.write_song(tmp_path / 'other/a.tx2.txt', TX2)
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
