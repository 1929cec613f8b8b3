"""Songs that go round: what is played after the end is what was at the loop."""

import numpy as np
import pytest

from data_prep import convert
from lakhnes_jax import events as ev
from lakhnes_jax.formats import looping, song_files, transcribe, vgm
from support.songs_by_frame import state_by_frame

FRAME = 735


def bars(order):
  """Bars of four notes by letter; each has its pitches, volume and duty."""
  lines = []
  for letter in order:
    root = 50 + 3 * (ord(letter) - ord('a'))
    for step in range(8):
      lines += [f'P1_NOTEON_{root + 5 * step % 7}', f'P1_VELOCITY_{9 - step}',
                f'P1_TIMBRE_{(ord(letter) + step) % 3}']
      if step in (0, 5):
        lines.append(f'TR_NOTEON_{root - 12}')
      if step % 4 == 2:
        lines += ['NO_NOTEON_5', 'NO_VELOCITY_7']
      if step % 4 == 3:
        lines.append('NO_NOTEOFF')
      lines.append(f'WT_{8 * FRAME}')
  return ev.from_text('\n'.join(lines))


SONG = bars('abcdebcde')
BAR = 64 * FRAME


def test_the_loop_is_where_the_song_repeats():
  found = looping.find(SONG)
  length = int(ev.times_of(found.song)[-1])
  assert abs((length - found.loop) - 4 * BAR) < FRAME
  assert found.loop > BAR - FRAME


@pytest.mark.parametrize('loop', [0, BAR, 3 * BAR + 17 * FRAME,
                                  5 * BAR - FRAME])
def test_playing_it_round(loop):
  """Each frame of the second and third time is that of the first."""
  song = looping.truncate(SONG, 5 * BAR)
  log = looping.to_log(looping.Looped(song, loop))
  assert log.loop == loop and log.length == 5 * BAR
  played = vgm.parse(vgm.build(log), loops=3)
  for a, b in zip(looping.unroll(log, 3), played, strict=True):
    np.testing.assert_array_equal(a, b)
  again = transcribe.to_events(played)
  expected = state_by_frame(song, np.arange(0, 5 * BAR + 1, FRAME))
  part = expected[loop // FRAME:]
  expected = np.concatenate([expected, part, part])
  played = state_by_frame(again, np.arange(0, len(expected) + 1) * FRAME)
  np.testing.assert_array_equal(played[:-1], expected[:-1])


def test_a_song_that_does_not_repeat():
  assert looping.find(ev.from_text('P1_NOTEON_60\nWT_30000')) is None


def test_convert(tmp_path, capsys):
  song_files.write_song(tmp_path / 'in/a.tx2.txt', SONG)
  song_files.write_song(tmp_path / 'in/b.tx2.txt',
                        ev.from_text('P1_NOTEON_60\nWT_30000'))
  for ending in ('vgm', 'nsf', 'famistudio.txt', 'tx2.txt'):
    assert convert.main([str(tmp_path / 'in'), f'--to={ending}', '--loop',
                         f'--out={tmp_path / "out"}', '--workers=1']) == 0
    assert ('b.tx2.txt: no part of it comes again; it ends'
            in capsys.readouterr().err)
  log = song_files.read_log(tmp_path / 'out/a.vgm')
  assert abs(log.length - log.loop - 4 * BAR) < FRAME
  assert song_files.read_log(tmp_path / 'out/b.vgm').loop is None
  text = (tmp_path / 'out/a.famistudio.txt').read_text()
  assert 'LoopPoint="-1"' not in text
  short = song_files.read_song(tmp_path / 'out/a.tx2.txt')
  assert ev.times_of(short)[-1] == log.length
