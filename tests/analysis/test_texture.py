"""Voices of songs small enough to count by hand."""

import numpy as np
import pytest

from lakhnes_jax import events as ev
from lakhnes_jax.analysis import song_features, texture
from lakhnes_jax.synth import score as scores

FRAME = 735  # Samples.


def song(notes, frames: int) -> np.ndarray:
  """Notes (voice, pitch or None for its end, frame), and a length in frames."""
  text, now = [], 0
  for frame, voice, pitch in sorted(
      ((frame, voice, pitch) for voice, pitch, frame in notes),
      key=lambda note: note[0]):
    if frame > now:
      text.append(f'WT_{round((frame - now) * FRAME)}')
    text.append(f'{voice}_NOTEOFF' if pitch is None else
                f'{voice}_NOTEON_{pitch}')
    now = frame
  return ev.from_text('\n'.join([*text, f'WT_{round((frames - now) * FRAME)}']))


def measure(events) -> dict[str, float]:
  return texture.measure(events, scores.from_events(events))


def together(notes, frames=900) -> dict[str, float]:
  events = song(notes, frames)
  return texture.together(events, scores.from_events(events))


def drift(notes, frames=400) -> dict[str, float]:
  events = song(notes, frames)
  return texture.drift(events, scores.from_events(events))


def test_synchrony_by_hand():
  # Ten notes of P1; of P2's twelve every second comes with one of them, a third
  # of a frame late; of TR's nine all come a frame late.
  p1 = [('P1', 60, 20 * i) for i in range(10)]
  p2 = [('P2', 70, 10 * i + .3) for i in range(12)]
  tr = [('TR', 40, 20 * i + 1) for i in range(9)]
  assert together(p1 + p2)['synchrony'] == pytest.approx(6 / 10)
  # P1 and P2 .6, P1 and TR 0, P2 and TR 0.
  assert together(p1 + p2 + tr)['synchrony'] == pytest.approx(.6 / 3)
  # Eight notes are too few.
  assert together(p1 + p2 + tr[:8])['synchrony'] == pytest.approx(.6)
  assert np.isnan(together(p1)['synchrony'])
  noise = [('NO', 3, 20 * i) for i in range(3, 40)]
  found = together(p1 + p2 + tr + noise)
  assert found['synchrony'] == pytest.approx(.2)
  # P1's last seven; of TR none; P2 is not asked.
  assert found['synchrony_NO'] == pytest.approx((7 / 10 + 0) / 2)


@pytest.mark.parametrize('semitones', range(-13, 14))
def test_dissonance_is_of_seconds_tritones_and_sevenths(semitones):
  share = together([('P1', 60, 0), ('TR', 60 + semitones, 0)])['dissonance']
  assert share == (abs(semitones) % 12 in (1, 2, 6, 10, 11))


def test_dissonance_is_a_mean_of_pairs_by_time():
  notes = [('P1', 60, 0), ('P2', 64, 0), ('P2', 66, 150), ('TR', 41, 540)]
  # P1 and P2, 450 of 600 frames; P1 and TR a fifth; P2 and TR a second.
  assert together(notes, 600)['dissonance'] == pytest.approx((.75 + 0 + 1) / 3)
  # TR sounds for less than a second.
  assert together(notes, 599)['dissonance'] == pytest.approx(449 / 599)


def test_drift_by_hand():
  # A quarter is 100 frames. P1 plays 60 and 64, then 62, nothing, and 72.
  found = drift([('P1', 60, 0), ('P1', 64, 50), ('P1', 62, 100),
                 ('P1', None, 200), ('P1', 72, 300)])
  # Means 62, 62, none, 72: only the first two are compared.
  assert found['register_drift'] == 0
  n = np.log(np.array([2, 1, 0, 1]) + 2)
  assert found['density_drift'] == pytest.approx(abs(np.diff(n)).sum() / 3 / 4)
  # Half C, half E; D; nothing; C.
  assert found['pitch_class_drift'] == pytest.approx(1)
  assert found['pitch_range'] == pytest.approx(np.std([60, 64, 62, 72]))


def test_drift_is_of_neighbouring_quarters():
  notes = [(60, 0), (72, 100), (48, 200), (48, 300)]
  found = drift([('P1', *note) for note in notes])
  assert found['register_drift'] == pytest.approx((12 + 24 + 0) / 3)
  assert found['pitch_class_drift'] == 0
  assert found['density_drift'] == 0
  # A second voice, in which nothing changes, halves what the first does; the
  # noise has no register.
  found = drift([*(('P1', *note) for note in notes),
                 *(('TR', 50, 100 * i) for i in range(4)),
                 *(('NO', 2 + i, 100 * i) for i in range(4))])
  assert found['register_drift'] == pytest.approx(6)


def test_glitches_do_not_count():
  notes = [('P1', 60 + i, 30 * i) for i in range(12)]
  glitch = song([('P1', 99, 20), ('P1', None, 20 + 3 / FRAME), *notes], 400)
  assert song_features.measure(glitch)['pitch_range'] == pytest.approx(
      drift(notes)['pitch_range'])


def test_songs_with_nothing_to_measure():
  for events in (np.zeros(0, np.int32), song([('P1', 60, 0)], 0)):
    assert all(np.isnan(value) for value in measure(events).values())
  silent = measure(ev.from_text('WT_44100'))
  assert silent.pop('density_drift') == 0
  assert all(np.isnan(value) for value in silent.values())
