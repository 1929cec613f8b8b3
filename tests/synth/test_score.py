import numpy as np
import pytest

from lakhnes_jax import events as ev
from lakhnes_jax.synth import clean, oscillators
from lakhnes_jax.synth import score as scores


def _song(text):
  return ev.from_text(text.replace(' ', '\n'))


def test_tx1_plays_at_full_velocity():
  score = scores.from_events(_song(
      'WT_10 P1_NOTEON_60 TR_NOTEON_40 WT_5 P1_NOTEOFF NO_NOTEON_3 WT_7'))
  np.testing.assert_array_equal(score.start, [0, 10, 15])
  assert score.length == 22
  np.testing.assert_array_equal(score.state[:, :, 0], [
      [0, 0, 0, 0], [60, 0, 40, 0], [0, 0, 40, 3]])
  np.testing.assert_array_equal(score.state[:, :, 1], [
      [0, 0, 0, 0], [15, 0, 1, 0], [0, 0, 1, 15]])
  assert not score.state[:, :, 2].any()


def test_dynamics_hold_and_a_repeated_note_is_an_onset():
  score = scores.from_events(_song(
      'P1_NOTEON_60 P1_VELOCITY_4 P1_TIMBRE_2 WT_1 P1_NOTEON_60 P1_VELOCITY_4 '
      'WT_1 P1_NOTEON_60 P1_NOTEOFF WT_1 P1_TIMBRE_1 WT_1'))
  np.testing.assert_array_equal(score.start, [0, 1, 2, 3])
  np.testing.assert_array_equal(
      score.state[:, 0], [[60, 4, 2], [60, 4, 2], [0, 0, 2], [0, 0, 1]])
  np.testing.assert_array_equal(score.onset[:, 0], [True, True, False, False])


def test_segments_without_change_are_joined():
  score = scores.from_events(_song('WT_3 P1_NOTEOFF WT_4 P2_NOTEON_50 WT_2'))
  np.testing.assert_array_equal(score.start, [0, 7])


def test_what_is_told_at_the_end_is_not_heard():
  score = scores.from_events(_song('P1_NOTEON_60 WT_5 P1_NOTEON_62'))
  np.testing.assert_array_equal(score.start, [0])
  assert scores.from_events(np.zeros(0, np.int32)).length == 0


def test_every_sample_of_a_random_song_against_a_walk():
  rng = np.random.default_rng(0)
  codes = rng.integers(0, ev.N_CODES, 400)
  times = np.sort(rng.integers(0, 300, 400))
  song = ev.from_times(times, ~codes, 300)
  score = scores.from_events(song)
  now, walked = [[0, 15, 0], [0, 15, 0], [0, 1, 0], [0, 15, 0]], []
  for event in song.tolist():
    if event >= 0:
      heard = [[n, v if n else 0, t] for n, v, t in now]
      walked += [heard] * event
    else:
      voice, kind, value = (int(x[~event]) for x in (
          ev.CODE_VOICE, ev.CODE_KIND, ev.CODE_VALUE))
      now[voice][max(kind - 1, 0)] = value
  walked = np.array(walked)
  walked[:, 2, 1] = walked[:, 2, 0] > 0
  at = np.searchsorted(score.start, np.arange(300), 'right') - 1
  np.testing.assert_array_equal(score.state[at], walked)


def test_decay_leaves_notes_alone():
  song = _song('P1_NOTEON_60 WT_9000 P1_NOTEON_60 WT_100 TR_NOTEON_40 WT_100 '
               'P1_NOTEOFF NO_NOTEON_3 WT_9000')
  flat = scores.from_events(song)
  score = scores.with_decay(flat)
  at = np.arange(flat.length)
  rows, flat_rows = (np.searchsorted(s.start, at, 'right') - 1
                     for s in (score, flat))
  np.testing.assert_array_equal(score.state[rows][..., [0, 2]],
                                flat.state[flat_rows][..., [0, 2]])
  level = score.state[rows, 0, 1].astype(int)
  np.testing.assert_array_equal(level[:9000], 12 - np.arange(9000) // 2940)
  np.testing.assert_array_equal(level[9000:9200], 12)
  assert not level[9200:].any()
  np.testing.assert_array_equal(
      score.state[rows, 3, 1][9200:].astype(int),
      np.maximum(10 - np.arange(9000) // 735, 1))
  np.testing.assert_array_equal(score.start[score.onset[:, 0]], [0, 9000])


def test_songs_that_int32_does_not_hold():
  hours = ev.from_text('TR_NOTEON_50\n' + 'WT_999999999\n' * 3)
  with pytest.raises(ValueError, match='longer than 2147483647 samples'):
    scores.from_events(hours)
  six = scores.from_events(hours[:2])
  with pytest.raises(ValueError, match='4353741492 samples: at most'):
    oscillators.from_score(six, 192000)
  seg = oscillators.from_score(six)
  with pytest.raises(ValueError, match='2147483648 samples: at most'):
    next(clean.windows(seg, 2**31))
