"""Songs that have hardly anything in them, and the shape of what comes back."""

import numpy as np
import pytest

from lakhnes_jax import events as ev
from lakhnes_jax import meter

_ON = ev.event(ev.P1, ev.NOTEON, 60)


def _steady(n: int, wait: int) -> np.ndarray:
  """A song of `n` notes, `wait` samples each."""
  song = np.empty(2 * n, np.int32)
  song[::2], song[1::2] = _ON, wait
  return song


@pytest.mark.parametrize('song', [
    [], [1000], [_ON], [5, _ON], [_ON, 1], [_ON] * 40, [_ON, 2**31 - 1],
    [_ON, 1] * 500])
def test_songs_of_hardly_anything(song):
  if song[-1:] == [2**31 - 1]:
    song = [_ON, 44100 * 3600]
  found = meter.analyze(np.array(song, np.int32))
  assert found.row_frames[0] >= 0
  assert (np.diff(found.row_frames) > 0).all()
  assert found.row_frames.dtype == np.int32
  assert (np.diff(found.frame_starts) > 0).all()
  assert found.frame_starts[0] <= 0


def test_a_steady_song():
  found = meter.analyze(_steady(120, 8 * 735))
  assert found.frame == pytest.approx(735)
  assert found.row == pytest.approx(8)
  assert found.row_confidence > .9
  np.testing.assert_array_equal(np.diff(found.row_frames), 8)
  times = ev.times_of(_steady(120, 8 * 735))[::2]
  np.testing.assert_array_equal(
      meter.frames_of(found, times), found.row_frames[:-1])


def test_frames_go_on_before_and_after():
  found = meter.analyze(_steady(120, 8 * 735))
  frames = meter.frames_of(found, np.array([-735, 0, 735 * 2000]))
  np.testing.assert_array_equal(frames, [-1, 0, 2000])
