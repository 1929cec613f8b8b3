import subprocess
import sys

import numpy as np
import pytest
import soundfile

from lakhnes_jax import events as ev
from lakhnes_jax import render

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
  for line, parts in zip(errors, [('b.tx1.txt', 'line 1', '33 to 108'),
                                  ('c.tx1.txt', 'empty'), (missing,)],
                         strict=True):
    assert line.startswith('error: ') and all(part in line for part in parts)


def test_one_file_out_of_many_songs_is_refused(song, tmp_path, capsys):
  song.with_name('b.tx1.txt').write_text(SONG)
  with pytest.raises(SystemExit):
    render.main([str(song.parent), f'--out={tmp_path}/x.wav'])
  assert '2 songs' in capsys.readouterr().err


def test_windows_join_without_a_seam(monkeypatch):
  rng = np.random.default_rng(1)
  codes = rng.integers(0, ev.N_CODES, 600)
  song = ev.from_times(np.sort(rng.integers(0, 90000, 600)), ~codes, 90000)
  whole, = render.render_events([song])
  monkeypatch.setattr(render, 'WINDOW', 7000)
  parts, = render.render_events([song])
  assert whole.shape == (90000,) and whole.dtype == np.float32
  np.testing.assert_array_equal(whole, parts)


def test_help_does_not_load_jax():
  code = ('import sys, lakhnes_jax.render\n'
          'assert not {"jax", "soundfile", "mido"} & set(sys.modules)')
  subprocess.run([sys.executable, '-c', code], check=True)
