"""FamiStudio's text: what a player of its own makes of it, frame by frame."""

import numpy as np
import pytest
from test_famitracker import random_song

from data_prep import compose_chip
from lakhnes_jax import events as ev
from lakhnes_jax import meter
from lakhnes_jax.formats import famistudio, song_files, transcribe
from support.famistudio_player import Project
from support.songs_by_frame import state_by_frame


def check(song, loop=None):
  project = Project(famistudio.write(song, 'A "song"', 'Zoë', loop).decode())
  starts = meter.analyze(song).frame_starts
  state, again = project.play()
  np.testing.assert_array_equal(state, state_by_frame(song, starts))
  assert again == (None if loop is None
                   else int(np.argmin(np.abs(starts - loop))))
  assert project.attributes['Name'] == 'A "song"'
  assert project.attributes['Author'] == 'Zoë'
  return project


def test_composed_song():
  song = compose_chip.compose_game(np.random.default_rng(1), 1)[0][1]
  project = check(song, loop=int(ev.times_of(song)[-1]) // 2)
  assert project.song['Length'] > 1
  # Rows are rows: most patterns have a note length of their own.
  assert sum(map(len, project.patterns['Square1'].values())) > 5


@pytest.mark.parametrize('seed', range(3))
def test_songs_without_a_grid(seed):
  check(random_song(seed, 150, low=40, high=96))


def test_without_an_author():
  """FamiStudio has no project where a line holds an empty attribute."""
  project = Project(famistudio.write(random_song(0, 20)).decode())
  assert 'Author' not in project.attributes
  assert 'Name' not in project.attributes


def test_real_songs(real_songs):
  for song in real_songs[5::10]:
    check(song)


def test_files_and_errors(tmp_path):
  path = tmp_path / 'My song.famistudio.txt'
  song = random_song(2, 20)
  song_files.write_song(path, song)
  assert Project(path.read_text()).attributes['Name'] == 'My song'
  log = transcribe.from_events(song)._replace(
      loop=5 * 735, left_out={'writes to FDS sound': 2})
  assert song_files.write_log(path, log) == [
      '2 writes to FDS sound left out']
  assert Project(path.read_text()).song['LoopPoint'] >= 0
  path = tmp_path / 'a.famistudio.txt'
  with pytest.raises(ValueError, match=r'a\.fam.*triangle: note 108, but FamiSt'
                     'udio has 12 to 107'):
    song_files.write_song(path, ev.from_text('TR_NOTEON_108\nWT_9000'))
  fast = '\n'.join(f'P1_NOTEON_{33 + 72 * (k % 2)}\nWT_735' for k in range(99))
  with pytest.raises(ValueError, match=r'an arpeggio of -?72 semitones: Fam'):
    song_files.write_song(path, ev.from_text(fast))
  assert not path.exists()
