"""FamiTracker's text: what a player of its own makes of it, frame by frame."""

import numpy as np
import pytest

from data_prep import compose_chip
from lakhnes_jax import events as ev
from lakhnes_jax import meter
from lakhnes_jax.formats import famitracker, song_files, transcribe
from support.famitracker_player import Module, play
from support.songs_by_frame import state_by_frame

FRAME = 44100 / 60.0988


def check(song, loop=None, extra=40):
  """Plays a song; returns its `Module`."""
  text = famitracker.write(song, 'A "song"', loop=loop).decode()
  starts = meter.analyze(song).frame_starts
  expected = state_by_frame(song, starts)
  n = len(expected)
  played = play(text, n + extra)
  np.testing.assert_array_equal(played.state[:n], expected)
  if loop is None:
    assert played.halted and len(played.state) == n
  else:
    again = int(np.argmin(np.abs(starts - loop)))
    rest = played.state[n:]
    np.testing.assert_array_equal(
        rest, np.tile(expected[again:], (extra, 1, 1))[:len(rest)])
    assert len(rest) == extra and again in played.rows
  return Module(text), played


def test_patterns_of_one_row_have_two():
  song = ev.from_text('P1_NOTEON_60\nWT_4000')
  module, _ = check(song, loop=0)
  assert module.length == 2


@pytest.fixture(scope='module')
def composed():
  """Songs of a composer, as a console's program plays them."""
  return [song for _, song in
          compose_chip.compose_game(np.random.default_rng(1), 1)[:2]]


def test_composed_songs(composed):
  for song in composed:
    module, played = check(song)
    assert len(module.orders) > 1
    assert module.strings['TITLE'] == 'A "song"'
    # Notes are notes, not one instrument for all: they are triggered.
    assert played.triggered.sum() > len(song) / 50


def test_loops(composed):
  length = int(ev.times_of(composed[0])[-1])
  for part in (0, 0.4, 0.77):
    check(composed[0], loop=int(length * part))


def random_song(seed, n=400, every=3, low=33, high=109):
  """Notes, volumes and duties that follow no grid."""
  rng = np.random.default_rng(seed)
  lines = []
  for _ in range(n):
    for voice, first, end in (('P1', low, high), ('P2', low, high),
                              ('TR', low - 12, high - 1), ('NO', 1, 17)):
      if rng.random() < 1 / every:
        lines.append(f'{voice}_NOTEON_{rng.integers(first, end)}')
        if voice != 'TR':
          lines.append(f'{voice}_VELOCITY_{rng.integers(1, 16)}')
          timbres = 2 if voice == 'NO' else 4
          lines.append(f'{voice}_TIMBRE_{rng.integers(timbres)}')
      elif rng.random() < 0.2:
        lines.append(f'{voice}_NOTEOFF')
    lines.append(f'WT_{round(FRAME * rng.integers(1, 4))}')
  return ev.from_text('\n'.join(lines))


def test_a_row_a_frame_where_instruments_do_not_suffice():
  for seed in range(2):
    song = random_song(seed, 200)
    module, played = check(song, loop=None if seed else 100 * 735)
    assert len(module.instruments) == 1 and 'V' in str(module.cells)
    assert 'Every row is a frame' in module.strings['COMMENT']
    assert all(np.diff(played.rows) == 1)


def test_notes_between_rows_are_delayed():
  lines = []
  for beat in range(24):
    late = 250 * (beat % 3 == 2) * 10
    lines += [f'WT_{late}'] * bool(late)
    lines += [f'P1_NOTEON_{60 + beat}', 'P1_VELOCITY_9', 'WT_3000',
              'P1_NOTEOFF', f'WT_{round(16 * FRAME) - 3000 - late}']
  module, played = check(ev.from_text('\n'.join(lines)))
  assert any(effect == 'G' for cell in module.cells.values()
             for effect, _ in cell[3])
  assert any(cell[0] == 'halt' for cell in module.cells.values())
  assert played.triggered[:, 0].sum() == 24
  assert len(module.instruments) == 1  # All of them do the same.


def test_arpeggios_are_macros():
  """A chord played one frame a note is a note with an arpeggio."""
  lines = []
  for root in (60, 65, 67, 60) * 3:
    for _ in range(4):
      for step in (0, 4, 7):
        lines += [f'P1_NOTEON_{root + step}', 'P1_VELOCITY_9',
                  f'WT_{round(FRAME)}']
  module, played = check(ev.from_text('\n'.join(lines)))
  arpeggios = [values for (kind, _), (_, values) in module.macros.items()
               if kind == 1]
  assert any(values[:6] == [0, 4, 7, 0, 4, 7] for values in arpeggios)
  assert played.triggered[:, 0].sum() < 30


def test_long_notes():
  lines = ['P1_NOTEON_60'] + [line for k in range(500) for line in (
      f'P1_VELOCITY_{1 + k * 7 % 15}', f'WT_{round(FRAME)}')]
  check(ev.from_text('\n'.join([*lines, 'P1_NOTEOFF', 'WT_9000'])))


def test_real_songs(real_songs):
  for song in real_songs[::10]:
    check(song)


def test_files(tmp_path):
  song = random_song(9, 30)
  path = tmp_path / 'My song.famitracker.txt'
  song_files.write_song(path, song)
  assert Module(path.read_text()).strings['TITLE'] == 'My song'
  log = transcribe.from_events(song)._replace(
      tags={'title': 'Töne', 'author': 'Me', 'game': 'G'},
      left_out={'writes to FDS sound': 5}, loop=20 * 735)
  notes = song_files.write_log(path, log)
  module = Module(path.read_text())
  assert [module.strings[k] for k in ('TITLE', 'AUTHOR', 'COMMENT')][:2] == [
      'T?ne', 'Me']
  assert notes == ['5 writes to FDS sound left out']
  assert any(effect == 'B' for cell in module.cells.values()
             for effect, _ in cell[3])


def test_errors(tmp_path):
  path = tmp_path / 'a.famitracker.txt'
  for lines, message in (
      ('TR_NOTEON_108\nWT_9000', r'a\.fam.*triangle: note 108, but FamiTracker '
       'has 12 to 107'), ('', 'the song is empty'),
      ('P1_NOTEON_50', 'the song is empty')):
    with pytest.raises(ValueError, match=message):
      song_files.write_song(path, ev.from_text(lines))
  assert not path.exists()
