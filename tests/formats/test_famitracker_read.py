"""FamiTracker's text read: our own, and small ones by hand."""

import numpy as np
import pytest
from test_famitracker import random_song

from lakhnes_jax import meter
from lakhnes_jax.formats import famitracker, famitracker_read, song_files
from lakhnes_jax.formats.transcribe import to_events
from support.songs_by_frame import state_by_frame

FRAME = 44100 / 60.0988
HEAD = '''# FamiTracker text export 0.4.2
TITLE "A ""song"""
MACRO 0 0 -1 -1 0 : 15 12 9 6
MACRO 0 1 1 -1 0 : 3 2 1
MACRO 0 2 -1 1 0 : 10 8 4 0
MACRO 1 0 0 -1 0 : 0 4 7
MACRO 4 0 -1 -1 0 : 2
INST2A03 0 0 -1 -1 -1 0 "Lead"
INST2A03 1 1 0 -1 -1 -1 "Chord"
INST2A03 2 2 -1 -1 -1 -1 "Release"
TRACK 4 4 150 "T"
COLUMNS : 2 1 1 1 1
ORDER 00 : 00 00 00 00 00
ORDER 01 : 00 00 00 00 01
PATTERN 00
'''
NOTHING = ' : '.join(['... .. . ... ...'] + ['... .. . ...'] * 4)


def read(*pulse, tail='C00'):
  """State by frame of four rows of the first pulse, and the log."""
  lines = [f'ROW {i:02X} : {cell} ' + NOTHING[NOTHING.index(' :'):]
           for i, cell in enumerate(pulse)]
  last = 'PATTERN 01\n' + '\n'.join(
      f'ROW {i:02X} : ' + NOTHING for i in range(3)) + (
          '\nROW 03 : ' + NOTHING[:-3] + tail)
  log = famitracker_read.read((HEAD + '\n'.join(lines) + '\n' + last).encode())
  song = song_files.to_song('a.famitracker.txt', log)
  n = round(log.length / FRAME)
  # In the middle of frames, as writes lie at their beginnings.
  state = state_by_frame(song, (np.arange(n + 1) - 0.4) * FRAME)
  return state[:, 0].tolist(), log


REST = '... .. . ... ...'
A4 = 69


def test_macros_and_rows():
  state, log = read('A-3 00 . ... ...', REST, '--- .. . ... ...',
                    'C#4 01 F ... ...')
  assert state[:9] == [[A4, 15, 2], [A4, 12, 2], [A4, 9, 2]] + [
      [A4, 6, 2]] * 5 + [[0, 0, 0]]
  chord = [[73, 3, 0], [77, 2, 0], [80, 1, 0], [73, 2, 0]]
  assert state[12:16] == chord
  assert log.tags == {'title': 'A "song"'} and log.loop is None
  assert len(state) == 28  # The last row stops at once.


def test_effects():
  state, _ = read('A-3 00 8 G02 F06', '... .. . 047 ...', '... .. . S02 V01',
                  'A-2 02 . ... ...')
  assert state[:2] == [[0, 0, 0]] * 2
  # Volume 8 of 15, rounded down; the row has six frames.
  assert [s[1] for s in state[2:6]] == [8, 6, 4, 3]
  assert [s[0] - A4 for s in state[6:12]] == [4, 7, 0, 4, 7, 0]
  assert [s[2] for s in state[12:14]] == [1, 1]
  assert state[14:18] == [[0, 0, 0]] * 4
  assert [s[1] for s in state[18:24]] == [5, 4, 4, 4, 4, 4]  # Until released.


def test_release_and_volume_slide():
  state, _ = read('A-3 02 F ... ...', '=== .. . ... ...', 'A-3 00 F A08 ...',
                  '... .. . A00 ...')
  assert [s[1] for s in state[:7]] == [10, 8, 8, 8, 8, 4, 0]
  assert [s[1] for s in state[8:12]] == [14, 10, 7, 4]
  assert state[12] == state[15]


def test_slides_reach_their_notes():
  state, _ = read('A-3 00 . 340 ...', 'C-4 .. . ... ...', 'A-3 .. . ... ...',
                  'A-3 .. . Q72 ...')
  notes = [s[0] for s in state]
  assert notes[3] == 69 and notes[7] == 72 and notes[11] == 69
  assert notes[15] == 71


def test_what_is_left_out_is_counted():
  _, log = read('A-3 00 . 4A4 P80', 'A-3 00 . 4A4 ...', REST,
                'C-0 00 . ... ...')
  assert log.left_out['effects 4xx'] == 4  # The pattern plays twice.
  assert log.left_out['effects Pxx'] == 2
  assert log.left_out['frames with notes out of range'] > 0


def test_loop(tmp_path):
  state, log = read('A-3 00 . ... ...', REST, REST, REST, tail='B01')
  assert log.loop == round(16 * FRAME)
  assert len(state) == 32
  path = tmp_path / 'a.famitracker.txt'
  song = random_song(4, 60)
  path.write_bytes(famitracker.write(song, loop=40 * 735))
  log, again = (song_files.read_log(path, loops) for loops in (1, 3))
  assert again.length == log.length + 2 * (log.length - log.loop)
  once, thrice = (state_by_frame(
      to_events(x), (np.arange(round(x.length / FRAME)) - 0.4) *
      FRAME) for x in (log, again))
  loop = round(log.loop / FRAME)
  np.testing.assert_array_equal(thrice[:len(once)], once)
  np.testing.assert_array_equal(thrice[-20:], once[-20:])
  np.testing.assert_array_equal(
      thrice[len(once) + 2:][:30], once[loop + 1:][:30])


def test_our_own_text():
  for seed, loop in ((0, None), (1, 50 * 735)):
    song = random_song(seed, 100)
    log = famitracker_read.read(famitracker.write(song, 'T', 'A', loop))
    starts = meter.analyze(song).frame_starts
    expected = state_by_frame(song, starts)
    again = song_files.to_song('a.famitracker.txt', log)
    played = state_by_frame(again, (np.arange(len(expected) + 1) - 0.4) * FRAME)
    np.testing.assert_array_equal(played[:-1], expected[:-1])
    assert log.tags == {'title': 'T', 'author': 'A'}
    assert (log.loop is None) == (loop is None)
    if loop:
      assert round(log.loop / FRAME) == np.argmin(np.abs(starts - loop))


@pytest.mark.parametrize('text, message', [
    ('', "not FamiTracker's text"), ('# FamiTracker text export', 'no track'),
    (HEAD + 'ROW 00 : H-3 00 . ...', "line 16: 'ROW 00 : H-3"),
    (HEAD.replace('TRACK 4 4', 'TRACK 4 0'), 'line 11')])
def test_errors(text, message):
  with pytest.raises(ValueError, match=message):
    famitracker_read.read(text.encode())


def test_damaged_texts_give_a_reason():
  text = bytearray(famitracker.write(random_song(3, 20)))
  rng = np.random.default_rng(0)
  reasons = set()
  for _ in range(200):
    data = text.copy()
    for at in rng.integers(0, len(data), 5):
      data[at] = rng.choice(list(b'0123456789ABCDEF:.- "\n\xff'))
    try:
      log = famitracker_read.read(bytes(data))
      assert log.length >= 0 and (np.diff(log.time) >= 0).all()
    except ValueError as error:
      reasons.add(str(error)[:5])
  assert reasons
