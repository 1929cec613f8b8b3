"""Moves and chords of songs small enough to count by hand."""

import numpy as np
import pytest

from lakhnes_jax import events as ev
from lakhnes_jax.analysis import idiom, song_features
from lakhnes_jax.synth import score

FRAME = 735  # Samples.
OF_ONE_VOICE = 'ioi_variety_NO', 'commonest_pitch_NO', 'commonest_class_TR'


def voice(name: str, pitches, frames) -> np.ndarray:
  """A voice that plays these pitches, and waits so many frames after each."""
  return ev.from_text('\n'.join(
      f'{name}_NOTEON_{pitch}\nWT_{wait * FRAME}'
      for pitch, wait in zip(pitches, frames, strict=True)))


def test_by_hand():
  # 13 notes, 12 moves: 0 2 -2 2 -2 0 0 5 0 0 0 -5.
  song = voice('P1', [60, 60, 62, 60, 62, 60, 60, 60, 65, 65, 65, 65, 60],
               [6] * 10 + [12, 6, 99])
  found = idiom.moves(song)
  assert found == pytest.approx({
      'ioi_variety': np.log(2 / np.sqrt(12)),
      # 0 2, 2 -2, -2 2, -2 0, 0 0, 0 5, 5 0, 0 -5; of 11.
      'figure_variety': np.log(8 / np.sqrt(11)),
      'commonest_pitch': 7 / 13,
      'repeated_notes': 6 / 12,
      'returning_notes': 3 / 11,
      **dict.fromkeys(OF_ONE_VOICE, np.nan)}, nan_ok=True)


def test_a_mean_over_the_voices_that_play_enough():
  same, rising = voice('P2', [50] * 13, [4] * 13), voice(
      'TR', range(40, 53), range(1, 14))
  few = voice('P1', [60] * 12, [5] * 12)
  drums = voice('NO', [3] * 14 + [4] * 3, [9] * 17)
  found = idiom.moves(np.concatenate([same, rising, few, drums]))
  assert found == pytest.approx({
      'ioi_variety': np.log([1 / 12**.5, 12 / 12**.5]).mean(),
      'ioi_variety_NO': np.log(1 / 4), 'commonest_pitch_NO': 14 / 17,
      'commonest_class_TR': 2 / 13,  # 40 and 52.
      'figure_variety': np.log(1 / 11**.5), 'repeated_notes': 1 / 2,
      'commonest_pitch': (1 + 1 / 13) / 2, 'returning_notes': 0})
  assert all(np.isnan(value) for value in idiom.moves(few).values())
  drums_alone = idiom.moves(drums)
  assert drums_alone['ioi_variety_NO'] == pytest.approx(np.log(1 / 4))
  assert np.isnan(drums_alone['ioi_variety'])


@pytest.mark.parametrize('pitches, share', [
    ((60, 64, 43), 1),  # C major; the fifth is the lowest.
    ((69, 72, 40), 1),  # A minor.
    ((60, 64, 44), 0),  # Augmented.
    ((60, 63, 42), 0),  # Diminished.
    ((60, 64, 48), np.nan),  # No three classes.
])
def test_triads(pitches, share):
  song = ev.from_text('\n'.join(
      f'{name}_NOTEON_{pitch}' for name, pitch in zip(
          ('P1', 'P2', 'TR'), pitches, strict=True)) + '\nWT_88200')
  assert idiom.triads(score.from_events(song)) == pytest.approx(
      share, nan_ok=True)


def test_all_without_glitches():
  song = voice('P1', range(48, 62), [3] * 14)
  glitch = ev.from_text('P1_NOTEON_47\nWT_50')
  found = song_features.measure(np.concatenate([glitch, song]))
  assert np.isnan(found['triads'])
  moves = idiom.moves(song)
  assert {name: found[name] for name in moves} == pytest.approx(
      moves, nan_ok=True)


def test_triads_are_weighted_by_time():
  song = ev.from_text(
      'P1_NOTEON_60\nP2_NOTEON_64\nTR_NOTEON_43\nNO_NOTEON_2\nWT_44100\n'
      'TR_NOTEON_44\nWT_88200\nTR_NOTEON_43\nWT_44100\nP2_NOTEOFF\nWT_99999')
  assert idiom.triads(score.from_events(song)) == pytest.approx(1 / 2)
