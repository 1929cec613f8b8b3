import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from lakhnes_jax import events as ev
from lakhnes_jax import render
from lakhnes_jax.formats import vgm
from lakhnes_jax.synth import output_filter, register_log

SONG = 'P1_NOTEON_69\nWT_22050\nTR_NOTEON_45\nWT_22050\nNO_NOTEON_4\nWT_900'


@pytest.fixture
def song(tmp_path):
  path = tmp_path / 'in' / 'a.tx1.txt'
  path.parent.mkdir()
  path.write_text(SONG)
  return path


@pytest.mark.parametrize('ending', ['wav', 'flac', 'ogg'])
def test_command_writes_by_ending(song, tmp_path, ending, capsys):
  out = tmp_path / f'x.{ending}'
  assert render.main([str(song), f'--out={out}']) == 0
  assert capsys.readouterr().out.strip() == str(out)
  audio, rate = soundfile.read(out)
  assert rate == 44100 and audio.shape == (45000,)
  expected, = render.render_events([ev.from_text(SONG)])
  if ending != 'ogg':
    np.testing.assert_allclose(audio, expected, atol=1 / 32768)


def test_a_bad_file_does_not_stop_the_others(song, tmp_path, capsys):
  song.with_name('b.tx1.txt').write_text('P1_NOTEON_300\nWT_5')
  song.with_name('c.tx1.txt').write_text('')
  song.with_name('d.tx1.txt').write_text(SONG)
  out = tmp_path / 'out'
  missing = str(tmp_path / 'no.mid')
  assert render.main([str(song.parent), missing, f'--out={out}']) == 1
  assert sorted(p.name for p in out.iterdir()) == ['a.wav', 'd.wav']
  errors = capsys.readouterr().err.splitlines()
  assert len(errors) == 3
  for *parts, line in [('b.tx1.txt', 'line 1', '33 to 108', errors[1]),
                       ('c.tx1.txt', 'empty', errors[2]),
                       (missing, errors[0])]:
    assert line.startswith('error: ') and all(part in line for part in parts)


def test_no_stem_is_written_over_another_file(song, tmp_path, capsys):
  song.with_name('a.p1.tx1.txt').write_text(SONG)
  song.with_name('a.x.tx1.txt').write_text(SONG)
  out = tmp_path / 'out'
  assert render.main([str(song.parent), f'--out={out}', '--stems']) == 1
  assert sorted(p.name for p in out.iterdir()) == sorted(
      f'{name}{stem}.wav' for name in ('a', 'a.x')
      for stem in ('', '.p1', '.p2', '.tr', '.no'))
  error, = capsys.readouterr().err.splitlines()
  assert error == (f'error: {song.parent}/a.p1.tx1.txt: would write '
                   f'{out}/a.p1.wav as {song} does; rename one')
  assert render.main([str(song.parent), f'--out={out}']) == 0


def test_one_file_out_of_many_songs_is_refused(song, tmp_path, capsys):
  song.with_name('b.tx1.txt').write_text(SONG)
  with pytest.raises(SystemExit):
    render.main([str(song.parent), f'--out={tmp_path}/x.wav'])
  assert '2 songs' in capsys.readouterr().err


def test_kinds_that_are_not_written_are_refused(song, tmp_path, capsys):
  with pytest.raises(SystemExit):
    render.main([str(song), f'--out={tmp_path}/x.mp3'])
  assert '.wav, .flac or .ogg' in capsys.readouterr().err
  assert not (tmp_path / 'x.mp3').exists()


# 250 bytes with the ending; not UTF-8; what means something elsewhere.
NAMES = ['a' * 242, 'é' * 121, os.fsdecode(b'\xff\xfe'), 'a\nb', '$x$ {0} %s *']


@pytest.mark.parametrize('name', NAMES)
def test_names_of_any_bytes(tmp_path, name, capsys):
  (tmp_path / f'{name}.tx1.txt').write_text('P1_NOTEON_69\nWT_99')
  for ending in ('wav', 'flac', 'ogg'):
    assert render.main([str(tmp_path), f'--out={tmp_path}/out', '--plot',
                        f'--format={ending}']) == 0, capsys.readouterr().err
  assert {path.name for path in (tmp_path / 'out').iterdir()} == {
      f'{name}.{ending}' for ending in ('wav', 'flac', 'ogg', 'png')}


@pytest.mark.parametrize('flag, words', [
    ('--out=x.oga', "end it with /"), ('--out=x.WMA', '.wav, .flac or .ogg'),
    ('--fade=inf', '0 to 3600 expected'), ('--fade=nan', '0 to 3600 expected'),
    ('--fade=-1', '0 to 3600 expected'), ('--loops=0', '1 to 1000'),
    ('--loops=-3', '1 to 1000'), ('--rate=7', '8000 to 192000')])
def test_flags_have_ranges(song, tmp_path, capsys, monkeypatch, flag, words):
  monkeypatch.chdir(tmp_path)
  before = set(tmp_path.iterdir())
  with pytest.raises(SystemExit):
    render.main([str(song), '--out=out', flag])
  assert words in capsys.readouterr().err
  assert set(tmp_path.iterdir()) == before


def test_a_folder_may_be_named_like_a_file(song, tmp_path):
  assert render.main([str(song), f'--out={tmp_path}/a.mp3/']) == 0
  assert render.main([str(song), f'--out={tmp_path}/a.mp3']) == 0
  assert len(list(tmp_path.glob('a.mp3/*.wav'))) == 1


def test_one_song_that_fails_does_not_end_the_rest(
    song, tmp_path, capsys, monkeypatch):
  other = song.with_name('other.tx1.txt')
  other.write_bytes(song.read_bytes())
  read = render.read

  def fails(path, *args):
    if path == song:
      raise RecursionError('deep')
    return read(path, *args)

  monkeypatch.setattr(render, 'read', fails)
  assert render.main([str(song), str(other), f'--out={tmp_path}/out']) == 1
  assert f'{song}: RecursionError: deep' in capsys.readouterr().err
  assert len(list(tmp_path.glob('out/*.wav'))) == 1


def test_help_does_not_load_jax():
  code = ('import sys, lakhnes_jax.render\n'
          'assert not {"jax", "soundfile", "mido"} & set(sys.modules)')
  subprocess.run([sys.executable, '-c', code], check=True)


@pytest.mark.parametrize('engine', ['clean', 'reference'])
def test_what_is_asked_for_is_made(song, tmp_path, capsys, engine):
  out = tmp_path / 'out'
  assert render.main([
      str(song), f'--out={out}', f'--engine={engine}', '--json', '--stems',
      '--plot', '--normalize=peak', '--fade=0.5', '--format=flac',
      '--expression=decay']) == 0
  made = json.loads(capsys.readouterr().out)
  audio, _ = soundfile.read(made['output'])
  assert made['samples'] == len(audio) == 45000 - (engine == 'reference')
  assert abs(np.abs(audio).max() - 0.9) < 1e-3
  assert abs(made['peak'] - 0.9) < 1e-3
  assert np.abs(audio[-20:]).max() < 1e-3
  # The voices of one group of the mixer alone add up to the whole.
  stems = [soundfile.read(path)[0] for path in made['stems']]
  assert [np.ptp(stem) > 0.01 for stem in stems] == [True, False, True, True]
  np.testing.assert_allclose(audio[:44000], (stems[0] + stems[2])[:44000],
                             atol=3 / 32768)
  assert pathlib.Path(made['plot']).read_bytes().startswith(b'\x89PNG')


def test_a_failure_of_any_kind_does_not_stop_the_others(
    song, tmp_path, capsys, monkeypatch):
  song.with_name('b.tx1.txt').write_text(SONG)
  read = render.read

  def fail(path, *args):
    if path.name == 'a.tx1.txt':
      raise IndexError('bytearray index out of range')
    return read(path, *args)

  monkeypatch.setattr(render, 'read', fail)
  assert render.main([str(song.parent), f'--out={tmp_path / "out"}']) == 1
  assert [p.name for p in (tmp_path / 'out').iterdir()] == ['b.wav']
  error, = capsys.readouterr().err.splitlines()
  assert 'a.tx1.txt: IndexError: bytearray' in error


@pytest.mark.parametrize('engine', ['clean', 'reference'])
def test_volume_of_a_log_and_what_it_leaves_out(tmp_path, engine, capsys):
  recorder = register_log.Recorder()
  for register, value in ((0x15, 1), (0, 0xbf), (2, 0xfd), (3, 0), (0x80, 1)):
    recorder.write(register, value)
  recorder.wait(2000)
  loud, quiet = (np.concatenate(list(render.windows(
      recorder.log()._replace(volume=volume), engine)))
                 for volume in (0, -32))
  assert loud.max() > .1
  np.testing.assert_array_equal(quiet, loud / 2)
  path = tmp_path / 'a.vgm'
  path.write_bytes(vgm.build(recorder.log())[:-1] + b'\xb4\x95\x01\x66')
  assert render.main([str(path), f'--out={tmp_path / "a.wav"}']) == 0
  assert capsys.readouterr().err == (
      f'note: {path}: left out 1 writes to a second NES chip\n')


def test_unwritable_output(song, tmp_path, capsys):
  (tmp_path / 'file').write_text('')
  assert render.main([str(song), f'--out={tmp_path}/file/x.wav']) == 1
  assert capsys.readouterr().err.startswith('error: ')


def test_console_filters_take_off_the_constant_part():
  rate = 44100
  t = np.arange(rate) / rate
  for hertz, expected in ((0, 0), (60, None), (2000, None), (8000, None)):
    x = (0.3 * np.cos(2 * np.pi * hertz * t)).astype(np.float32)
    y = np.concatenate(list(output_filter.apply(np.split(x, 10), rate)))
    assert y.shape == x.shape
    level = np.abs(y[-4410:]).max() / 0.3
    if expected is None:  # First-order responses, to a few percent.
      expected = np.prod([1 / np.hypot(1, f / hertz) for f in (90, 440)])
      expected /= np.hypot(1, hertz / 14000)
    assert abs(level - expected) < 0.06, hertz


def test_decay_only_where_there_are_no_dynamics():
  flat, decay = ([np.abs(np.diff(a))[-9000:].max() for a in
                  render.render_events([ev.from_text(
                      'P1_NOTEON_69\nWT_30000')], expression=e)]
                 for e in ('flat', 'decay'))
  assert decay[0] < 0.6 * flat[0]
  song = ev.from_text('P1_NOTEON_69\nP1_VELOCITY_15\nWT_30000')
  a, b = (render.render_events([song], expression=e)[0]
          for e in ('flat', 'decay'))
  np.testing.assert_array_equal(a, b)
