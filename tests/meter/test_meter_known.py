"""The meter of composed songs is known; that of a song of ours by hand, too."""

import numpy as np
import pytest

from experiments.benchmarks import meter as benchmark
from experiments.benchmarks import meter_songs
from lakhnes_jax import events as ev
from lakhnes_jax import meter


def test_composed_songs():
  """Each tempo at each rate; the benchmark has more."""
  right = {}
  for number in range(24):
    song = meter_songs.make(1, number)
    for what, is_right in benchmark.judge(
        song, meter.analyze(song.events)).items():
      right.setdefault(what, []).append(is_right)
  share = {what: np.mean(found) for what, found in right.items()}
  assert share['frame'] == 1
  assert share['row'] >= .95
  assert share['bar x 2'] >= .95
  assert share['bar'] >= .9
  assert share['loop'] >= .9
  assert share['loop round'] >= .9
  assert share['no loop'] >= .8


def test_a_loop_is_right_if_it_goes_round_alike():
  """Also with both ends later; not a bar longer, or cut in its middle."""
  song = meter_songs.make(1, 2)
  found = meter.analyze(song.events)
  start, end = song.loop

  def judge(*loop):
    said = benchmark.judge(song, found._replace(loop=loop))
    return bool(said['loop']), said['loop round']

  assert found.loop == song.loop  # Here rows are steps.
  assert judge(start, end) == (True, True)
  assert judge(start + 5, end + 5) == (True, True)
  assert judge(start, end + song.steps_per_bar) == (False, False)
  assert judge(start, (start + end) // 2) == (False, False)


def _song(frames: list[int], voice: int = ev.P1, period: float = 735.,
          late: int = 0, pitches=(60, 62, 64, 67)) -> np.ndarray:
  times = np.rint(np.array(frames) * period).astype(np.int64) + late
  notes = [ev.event(voice, ev.NOTEON, pitches[i % len(pitches)])
           for i in range(len(times))]
  return ev.from_times(times, np.array(notes, np.int32),
                       int(times[-1] + 6 * period))


@pytest.mark.parametrize('period', [44100 / 60.0988, 735, 882])
def test_frames_do_not_depend_on_latency(period):
  frames = 6 * np.arange(200) + np.arange(200) % 3
  rng = np.random.default_rng(0)
  times = np.rint(frames * period).astype(np.int64) + rng.integers(
      0, 300, len(frames))
  song = ev.from_times(times, np.full(
      len(frames), ev.event(ev.NO, ev.NOTEON, 3), np.int32), int(times[-1]) + 1)
  found = meter.analyze(song)
  assert found.frame == pytest.approx(period, rel=1e-3)
  got = meter.frames_of(found, times)
  np.testing.assert_array_equal(got - got[0], frames)


def test_frames_follow_a_clock_that_drifts():
  frames = 7 * np.arange(300)
  wander = np.cumsum(np.random.default_rng(1).normal(0, 25, len(frames)))
  times = np.rint(frames * 735 + wander - wander.min()).astype(np.int64)
  assert np.ptp(wander) > 2 * 735 / 5  # An even clock would go wrong.
  song = ev.from_times(times, np.full(
      len(frames), ev.event(ev.P2, ev.NOTEON, 60), np.int32), int(times[-1]))
  got = meter.frames_of(meter.analyze(song), times)
  assert np.mean(np.diff(got) == 7) > .97


def test_rows_of_a_fractional_tempo_are_where_notes_are():
  frames = np.floor(6.4 * np.arange(300)).astype(int)
  found = meter.analyze(_song(frames))
  assert found.row == pytest.approx(6.4, rel=.01)
  assert np.isin(meter.frames_of(found, ev.times_of(_song(frames))[:-1]),
                 found.row_frames).mean() > .98


def test_rows_follow_swing_and_a_change_of_tempo():
  swing = np.cumsum([0, *[8, 6] * 60])
  found = meter.analyze(_song(swing.tolist()))
  assert found.row == pytest.approx(7, rel=.02)
  assert sorted(set(np.diff(found.row_frames)[:-1].tolist())) == [6, 8]
  change = np.cumsum([0, *[9] * 120, *[7] * 120])
  found = meter.analyze(_song(change.tolist()))
  steps = np.diff(found.row_frames)
  assert (steps[:115] == 9).all()
  assert (steps[-110:-1] == 7).all()


def test_broken_chords_do_not_hide_the_row():
  notes = [(8 * row + place, pitch) for row in range(100)
           for place, pitch in enumerate((60, 64, 67, 60, 64, 67))]
  drums = _song([8 * row for row in range(100)], ev.NO, pitches=(3,))
  chords = ev.from_times(
      np.array([735 * frame for frame, _ in notes]),
      np.array([ev.event(ev.P2, ev.NOTEON, pitch) for _, pitch in notes],
               np.int32), 735 * 800)
  times = np.concatenate([ev.times_of(s)[s < 0] for s in (chords, drums)])
  events = np.concatenate([s[s < 0] for s in (chords, drums)])
  order = np.argsort(times, kind='stable')
  found = meter.analyze(ev.from_times(times[order], events[order], 735 * 800))
  assert found.row == pytest.approx(8)
  assert found.row_confidence > .9


def test_loop_of_a_song_that_plays_twice():
  rng = np.random.default_rng(2)
  tune = rng.integers(50, 80, 64).tolist()
  intro = rng.integers(50, 80, 16).tolist()
  pitches = [*intro, *tune, *tune[:48]]
  song = _song([6 * row for row in range(len(pitches))], pitches=pitches)
  found = meter.analyze(song)
  assert found.loop == (16, 80)
  assert found.loop_confidence > .5


def test_a_loop_begins_with_a_bar_and_not_with_the_rest_before():
  """Three rows of rest are before the loop and at its end alike."""
  rng = np.random.default_rng(2)
  rows = np.array([row for row in range(128) if row % 16 < 13])
  pitches = rng.integers(50, 80, 80)
  song = _song((6 * rows).tolist(), pitches=[
      pitches[row if row < 80 else row - 64] for row in rows])
  assert meter.analyze(song).loop == (16, 80)


def test_sections_that_are_alike_share_a_label():
  rng = np.random.default_rng(3)
  a, b = rng.integers(45, 90, (2, 64)).tolist()
  pitches = [*a, *b, *a, *b, *b]
  song = _song([8 * row for row in range(len(pitches))], pitches=pitches)
  found = meter.analyze(song)
  label = dict(found.sections)
  assert [label.get(64 * part) for part in range(5)] == list('ABABB')
