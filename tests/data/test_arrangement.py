"""Arrangements of instruments, against literal events."""

import collections

import numpy as np
import pytest

from lakhnes_jax import events as ev
from lakhnes_jax.data import arrangement, shards
from lakhnes_jax.data.arrangement import NONE, Assignment, Instruments

NOISE = np.arange(128) % 16 + 1
SONG = Instruments(
    (np.array([[100, 200, 60, 127], [200, 250, 62, 1], [300, 300, 63, 64],
               [400, 500, 32, 64], [500, 600, 64, 64]]),
     np.array([[150, 250, 33, 64], [250, 260, 20, 64]])),
    (np.array([[120, 180, 36, 100], [150, 170, 38, 127],
               [180, 190, 38, 90]]),))


def lone(pitch):
  return np.array([[0, 10, pitch, 64]])


class TestPlay:

  def test_literal_events(self):
    # Before the first note nothing; 62 begins as 60 ends, so no NOTEOFF
    # between; 63 has no length; 32 is too low for P1, 20 for TR; drum 38
    # begins while 36 sounds. 100 -> 1 + 14 * 100 / 127 = 12.02.
    song = arrangement.play(SONG, Assignment((0, NONE, 1), 0, NOISE))
    assert ev.to_text(song).split() == [
        'P1_NOTEON_60', 'P1_VELOCITY_15', 'WT_20', 'NO_NOTEON_5',
        'NO_VELOCITY_12', 'WT_30', 'TR_NOTEON_33', 'WT_30', 'NO_NOTEON_7',
        'NO_VELOCITY_11', 'WT_10', 'NO_NOTEOFF', 'WT_10', 'P1_NOTEON_62',
        'P1_VELOCITY_1', 'WT_50', 'P1_NOTEOFF', 'TR_NOTEOFF', 'WT_250',
        'P1_NOTEON_64', 'P1_VELOCITY_8', 'WT_100', 'P1_NOTEOFF']

  def test_is_cut_at_three_minutes_after_its_first_note(self):
    clip = 180 * 44100
    song = Instruments((np.array(
        [[1000, 2000, 60, 127], [clip + 900, clip + 1100, 61, 127],
         [clip + 1100, clip + 1200, 62, 127]]),), ())
    events = arrangement.play(song, Assignment((-1, -1, 0), -1, NOISE))
    assert ev.to_text(events).split() == [
        'TR_NOTEON_60', 'WT_1000', 'TR_NOTEOFF', f'WT_{clip - 1100}',
        'TR_NOTEON_61', 'WT_100', 'TR_NOTEOFF']

  def test_nothing_in_range(self):
    song = Instruments((lone(21),), ())
    silent = arrangement.play(song, Assignment((0, -1, -1), -1, NOISE))
    assert silent.shape == (0,)
    assert len(arrangement.play(song, Assignment((-1, -1, 0), -1, NOISE))) == 3

  def test_velocity_follows_the_formula(self):
    for velocity in range(1, 128):
      song = Instruments((np.array([[0, 10, 60, velocity]]),), ())
      events = arrangement.play(song, Assignment((-1, 0, -1), -1, NOISE))
      assert ev.value_of(events)[1] == round(1 + 14 * velocity / 127)


class TestArrange:

  @pytest.mark.parametrize(('n_players', 'n_casts'), [
      (1, 3), (2, 6), (3, 6), (4, 24)])
  def test_all_placements_are_equally_likely(self, n_players, n_casts):
    song = Instruments(tuple(lone(60 + i) for i in range(n_players)), ())
    rng = np.random.default_rng(0)
    drawn = 400 * n_casts
    counts = collections.Counter(
        arrangement.arrange(song, rng).tobytes() for _ in range(drawn))
    assert len(counts) == n_casts
    # 400 each, with a standard deviation of at most 20.
    assert 310 < min(counts.values()) <= max(counts.values()) < 490

  def test_draws_drum_track_and_kit(self):
    drums = tuple(np.array([[0, 10, 36, 64], [10, 20, 36 + i, 64]])
                  for i in range(3))
    song = Instruments((lone(60),), drums)
    rng = np.random.default_rng(0)
    kits = collections.Counter()
    for _ in range(2000):
      events = arrangement.arrange(song, rng)
      noise = ev.value_of(events)[(ev.voice_of(events) == ev.NO) &
                                  (ev.kind_of(events) == ev.NOTEON)]
      kits[tuple(noise.tolist())] += 1
    first = collections.Counter()
    for (one, _), count in kits.items():
      first[one] += count
    assert set(first) == set(range(1, 17))
    assert max(first.values()) < 180  # 125 each, deviation 11.
    same = sum(count for (one, two), count in kits.items() if one == two)
    # The first track repeats its drum; others meet by chance only.
    assert pytest.approx(same, abs=90) == 2000 * (1 / 3 + 2 / 3 / 16)


class TestPack:

  def test_literal(self):
    packed = arrangement.pack(Instruments(
        (lone(60), np.array([[5, 6, 1, 2], [7, 9, 3, 4]])), (lone(36),)))
    assert packed.dtype == np.int32
    assert packed.tolist() == [
        2, 1, 1, 2, 1, 0, 10, 60 + 128 * 64, 5, 1, 1 + 128 * 2, 7, 2,
        3 + 128 * 4, 0, 10, 36 + 128 * 64]

  def test_round_trip(self):
    for song in (SONG, SONG._replace(drums=()), Instruments((lone(0),), ())):
      again = arrangement.unpack(arrangement.pack(song))
      for one, two in zip(song, again, strict=True):
        assert len(one) == len(two)
        for notes, found in zip(one, two, strict=True):
          np.testing.assert_array_equal(notes, found)

  @pytest.mark.parametrize('packed', [
      [], [1, 0], [1, 0, 1, 0, 10], [2, 0, 1, 0, 10, 60], [0, 1, 1, 0, 10, 60],
      [1, 0, 2, 0, 10, 60], [1, 0, 1, 0, 10, -60]])
  def test_something_else(self, packed):
    with pytest.raises(ValueError, match='not packed instruments'):
      arrangement.unpack(np.array(packed, np.int32))


def test_corpus_arranges_as_it_reads(tmp_path):
  corpus = shards.write_split(
      tmp_path, 'train', [('a', arrangement.pack(SONG)), ('b', arrangement.pack(
          Instruments((lone(60),), ())))], arranged_on_read=True)
  assert corpus.arranged_on_read and corpus.dynamics
  np.testing.assert_array_equal(corpus.song(0), corpus.song(0))
  drawn = {corpus.song(0, np.random.default_rng(i)).tobytes()
           for i in range(40)}
  assert len(drawn) > 20  # By its drum kit alone.
  np.testing.assert_array_equal(
      corpus.song(0, np.random.default_rng(7)),
      arrangement.arrange(SONG, np.random.default_rng(7)))
  assert len(corpus.song(1)) in (3, 4)
