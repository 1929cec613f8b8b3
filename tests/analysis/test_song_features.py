"""Numbers of songs small enough to measure by hand."""

import numpy as np
import pytest

from lakhnes_jax import events as ev
from lakhnes_jax.analysis import song_features


def song(text: str) -> np.ndarray:
  return ev.from_text(text.replace(' ', '\n'))


# Of these there are tests of their own.
ELSEWHERE = {
    'self_repetition', 'ioi_variety', 'ioi_variety_NO', 'figure_variety',
    'commonest_pitch', 'commonest_pitch_NO', 'commonest_class_TR',
    'repeated_notes', 'returning_notes', 'triads', 'structureness_short',
    'structureness_mid', 'structureness_long', 'recurrence', 'synchrony',
    'synchrony_NO', 'dissonance', 'register_drift', 'density_drift',
    'pitch_class_drift', 'pitch_range'}


def test_by_hand():
  # Seconds 0-1: P1 and TR; 1-2: P1; 2-3: nothing; 3-4: P1 and noise.
  found = song_features.measure(song(
      'P1_NOTEON_60 TR_NOTEON_43 WT_44100 TR_NOTEOFF P1_NOTEON_61 WT_44100 '
      'P1_NOTEOFF WT_44100 P1_NOTEON_72 P1_VELOCITY_3 NO_NOTEON_4 WT_22050 '
      'P1_VELOCITY_2 WT_22050'))
  assert found.keys() >= ELSEWHERE
  assert all(np.isnan(found[name]) for name in (
      'self_repetition', 'structureness_short', 'structureness_mid',
      'structureness_long', 'recurrence'))
  found = {name: value for name, value in found.items()
           if name not in ELSEWHERE}
  assert found == pytest.approx({
      'note_density': 5 / 4,
      'polyphony': (2 + 1 + 2) / 3,
      'silence': 1 / 4,
      'silence_P1': 1 / 4,
      'silence_P2': 1,
      'silence_TR': 3 / 4,
      'silence_NO': 3 / 4,
      # C twice, C sharp, G.
      'pitch_class_entropy': 0.5 * 1 + 2 * 0.25 * 2,
      'scale_consistency': 1,  # A flat major.
      # Onsets at 0, 1 and 3: bars of 2 s are alike but for the first onset.
      'groove_consistency': 1 - 1 / 64,
      'groove_recurrence': 2 / 3,
      'stasis': 1,  # From TR's G at 0 s there are three notes.
      'looping': 0,
      # 60, 61 and TR's 43, then 72 and NO's 4; of P1 one class of two stays.
      'variety_change': np.log(3 / 4),
      'pitch_class_change': 1 / 2,
      'longest_pause': 2,
      'longest_note': 0, 'longest_NO': 0,  # TR and P1 twice, NO; 1 s each.
      # P1 for 2 s at 15 and half a second each at 3 and 2, NO for 1 s at 15.
      'volume_mean': (3 * 15 + .5 * 3 + .5 * 2) / 4,
      'volume_entropy': .75 * np.log2(4 / 3) + 2 * .125 * 3,
      'volume_changes': 1 / 4,
      'duty_entropy': 0,
  })


@pytest.mark.parametrize('pitches, share', [
    ((60, 62, 64, 65, 67, 69, 71), 1),  # C major.
    ((69, 71, 72, 74, 76, 77, 79), 1),  # A minor: the same notes.
    ((66, 68, 70, 71, 73, 75, 77), 1),  # F sharp major.
    (range(60, 72), 7 / 12),
    ((60, 61, 62), 2 / 3),
    ((60, 72, 84, 61, 62), 4 / 5),  # Each note counts, not each class.
])
def test_scale_consistency(pitches, share):
  text = ' '.join(f'P2_NOTEON_{p} WT_100' for p in pitches)
  found = song_features.measure(song(text))
  assert found['scale_consistency'] == pytest.approx(share)
  # Noise has no pitch.
  assert song_features.measure(song(f'NO_NOTEON_1 {text} NO_NOTEON_3 WT_100'))[
      'scale_consistency'] == pytest.approx(share)


def test_entropy_is_between_none_and_log_12():
  one = song_features.measure(song('P1_NOTEON_60 WT_5 TR_NOTEON_48 WT_5'))
  assert one['pitch_class_entropy'] == 0
  all_ = song_features.measure(song(
      ' '.join(f'P1_NOTEON_{p} WT_500' for p in range(50, 74))))
  assert all_['pitch_class_entropy'] == pytest.approx(np.log2(12))


def test_songs_with_nothing_to_measure():
  for text in ('', 'P1_NOTEON_60', 'P1_NOTEON_60 P1_NOTEON_61'):
    found = song_features.measure(song(text) if text else np.zeros(0, np.int32))
    assert all(np.isnan(value) for value in found.values()), text
  silent = song_features.measure(song('WT_441000'))
  assert silent['note_density'] == 0
  assert silent['silence'] == silent['silence_P1'] == 1
  for name in ('polyphony', 'pitch_class_entropy', 'scale_consistency',
               'groove_consistency', 'groove_recurrence', 'self_repetition',
               'stasis', 'looping'):
    assert np.isnan(silent[name])
  drums = song_features.measure(song('NO_NOTEON_3 WT_44100'))
  assert np.isnan(drums['scale_consistency'])
  assert drums['note_density'] == drums['polyphony'] == 1


def hamming(onsets: list[float], seconds: float, bar: float) -> float:
  """One less the mean distance of neighbouring bars, step by step."""
  on = {round(t * 32) for t in onsets}
  steps, bar = int(seconds * 32), int(bar * 32)
  differ = [(t in on) != (t + bar in on) for t in range(steps - bar)]
  return 1 - sum(differ) / len(differ)


def test_groove_finds_the_bar():
  odd = (0, 0.5, 0.75)  # In a bar of 1.5 s.

  def measure(seconds_list, total, kind='consistency'):
    onsets = np.array(seconds_list) * 44100
    return song_features.groove(onsets.astype(int), int(total * 44100))[
        f'groove_{kind}']

  steady = [1.5 * bar + t for bar in range(8) for t in odd]
  assert measure(steady, 12) == 1
  # The last of eight bars is empty: a bar of 1.5 s differs in three steps once.
  broken = [t for t in steady if t < 10.5]
  best = max(hamming(broken, 12, bar / 32) for bar in range(32, 129))
  assert measure(broken, 12) == pytest.approx(best)
  assert best == pytest.approx(1 - 3 / (7 * 48))
  assert measure(steady, 12, 'recurrence') == 1
  # Of 7 and 6 bars that are played, 6 and 6 have the like beside them.
  assert measure(broken, 12, 'recurrence') == pytest.approx(2 * 6 / (7 + 6))
  # Few onsets at random: alike for Hamming, not for Dice.
  assert measure([0.3, 2.1, 3.9, 8.4], 12) > 0.95
  assert measure([0.3, 2.1, 3.9, 8.4], 12, 'recurrence') < 0.7
  # Nothing that is played by chance is as regular.
  rng = np.random.default_rng(0)
  chance = np.sort(rng.integers(0, 12 * 44100, 24 * 4))
  steady = np.sort(np.concatenate([np.array(steady) + d for d in (
      0, 1 / 32, 1 / 16, 3 / 32)]))
  assert measure(chance / 44100, 12) < 0.8 < measure(steady, 12)


@pytest.mark.parametrize('seconds, measured', [(1.99, False), (2.01, True)])
def test_groove_needs_two_bars(seconds, measured):
  found = song_features.groove(np.array([0, 44100]), int(seconds * 44100))
  assert list(np.isfinite(list(found.values()))) == [measured] * 2
  nothing = song_features.groove(np.zeros(0, int), 441000)
  assert np.isnan(list(nothing.values())).all()


def test_groove_holds_an_onset_at_the_end():
  found = song_features.groove(np.array([0, 88200 - 1]), 88200)
  assert found == {'groove_consistency': 1 - 2 / 32, 'groove_recurrence': 0}


def test_self_repetition():
  def notes(*pitches, wait=10):
    return song(' '.join(f'P1_NOTEON_{p} WT_{wait}' for p in pitches))

  assert song_features.self_repetition(notes(*range(40, 48)), 4) == 0
  twice = np.concatenate([notes(40, 41, 42, 43, 44),
                          notes(40, 41, 42, 43, 50, wait=7)])
  assert song_features.self_repetition(twice, 4) == 8 / 10
  assert song_features.self_repetition(twice, 3) == 8 / 10
  assert song_features.self_repetition(twice, 5) == 0
  # Another voice's note is another note.
  other = notes(40, 41, 42, 43).tolist() + [
      ev.event(ev.P2, ev.NOTEON, p) for p in (40, 41, 42, 43)]
  assert song_features.self_repetition(np.array(other), 4) == 0
  assert np.isnan(song_features.self_repetition(notes(*range(40, 47)), 4))
  # Runs that overlap repeat as well.
  assert song_features.self_repetition(notes(*[40] * 8), 4) == 1


@pytest.mark.parametrize('text, share', [
    ('P1_NOTEON_60 WT_10 P1_NOTEON_61 WT_10', 1),
    # Four notes, one after the other: three of them fill the last 40 of 50.
    ('P1_NOTEON_60 WT_10 P1_NOTEON_61 WT_10 P1_NOTEON_62 WT_10 P1_NOTEON_63 '
     'WT_20', 4 / 5),
    # The voice counts, noise does not, nor a wait before the first note.
    ('WT_50 P1_NOTEON_60 P2_NOTEON_60 NO_NOTEON_1 NO_NOTEON_2 TR_NOTEON_60 '
     'WT_10 P1_NOTEON_61 WT_30 TR_NOTEON_61 WT_10', 5 / 10),
    # A trill of two notes in a song of four.
    ('P1_NOTEON_60 WT_10 P1_NOTEON_64 WT_10' + 4 * (
        ' P1_NOTEON_67 WT_10 P1_NOTEON_69 WT_10'), 9 / 10),
])
def test_stasis(text, share):
  assert song_features.stasis(song(text)) == pytest.approx(share)


def notes(pitches) -> str:
  return ' '.join(f'P1_NOTEON_{pitch} WT_1000' for pitch in pitches)


@pytest.mark.parametrize('text, share', [
    (notes(range(60, 70)), 0),
    # After four notes a figure of two comes three times.
    (notes([60, 61, 62, 63, 70, 72, 70, 72, 70, 72]), 6 / 10),
    # The beginning of another time counts too, if it came twice in full.
    (notes([60, 61, 70, 72, 70, 72, 70, 63]), 5 / 8),
    (notes([60, 70, 72, 74, 70, 72, 61, 62]), 0),
    # The longest; till the next note, or the end.
    (notes([70, 70, 60, 71, 71, 71]) + ' WT_1000', 4 / 7),
    # Of notes in one frame the order does not count, nor does noise.
    ('P1_NOTEON_60 TR_NOTEON_48 WT_1000 NO_NOTEON_3 TR_NOTEON_48 P1_NOTEON_60 '
     'WT_1000', 1),
    (notes(2 * list(range(60, 76))), 1),
    (notes(2 * list(range(60, 77))), 0),  # 17 notes are no figure.
])
def test_looping(text, share):
  assert song_features.looping(song(text)) == pytest.approx(share)


@pytest.mark.parametrize('text, variety, classes', [
    # Of three notes in the first third one is left in the last.
    (notes([60, 62, 64, 60, 62, 64, 60, 60, 60]), 2 / 4, 2 / 3),
    # An octave is another note, but not another pitch class.
    (notes([60, 60, 62, 62, 72, 60]), 3 / 2, 0),
    # The voice counts, and noise as one; its classes do not.
    ('P1_NOTEON_60 NO_NOTEON_1 NO_NOTEON_2 WT_3000 P2_NOTEON_60 WT_3000 '
     'P1_NOTEON_61 NO_NOTEON_7 WT_3000', 3 / 4, 1),
    # A mean over the voices that play in both.
    ('P1_NOTEON_60 TR_NOTEON_50 WT_3000 P2_NOTEON_60 WT_3000 '
     'P1_NOTEON_61 TR_NOTEON_50 P2_NOTEON_61 WT_3000', 4 / 3, 1 / 2),
    ('WT_3000 P1_NOTEON_60 WT_6000', 1, np.nan),
])
def test_change_from_the_first_third_to_the_last(text, variety, classes):
  found = song_features.change(song(text))
  assert found['variety_change'] == pytest.approx(np.log(variety))
  assert found['pitch_class_change'] == pytest.approx(classes, nan_ok=True)


def test_duties_and_volumes_of_silence_do_not_count():
  found = song_features.measure(song(
      'P1_TIMBRE_2 P1_VELOCITY_4 WT_100 P1_NOTEON_60 P1_VELOCITY_8 WT_300 '
      'P2_NOTEON_50 P2_VELOCITY_8 P2_TIMBRE_1 WT_100 P2_NOTEOFF WT_1'))
  assert found['volume_mean'] == 8
  assert found['duty_entropy'] == pytest.approx(
      -sum(p * np.log2(p) for p in (401 / 501, 100 / 501)))


@pytest.mark.parametrize('text, melodic, noise', [
    ('P1_NOTEON_60 WT_44100 P1_NOTEON_60 TR_NOTEON_43 NO_NOTEON_3 WT_22050 '
     'P1_NOTEOFF NO_NOTEOFF WT_88200', 2.5, .5),  # TR, to the end.
    ('P2_NOTEON_60 WT_44100 P2_VELOCITY_3 WT_88200 P2_NOTEOFF WT_1', 3, None),
    ('WT_44100', None, None)])
def test_longest_notes(text, melodic, noise):
  found = song_features.measure(song(text))
  wanted = [np.nan if x is None else np.log(x) for x in (melodic, noise)]
  assert [found['longest_note'], found['longest_NO']] == pytest.approx(
      wanted, nan_ok=True)


def test_loudness_range():
  tone = np.sin(np.arange(44100 * 8) * .1)
  assert song_features.loudness_range(tone) == pytest.approx(0, abs=.1)
  # Half of the time at a tenth of the amplitude: 20 dB.
  loud = tone * np.where(np.arange(len(tone)) < len(tone) / 2, 1, .1)
  assert song_features.loudness_range(loud) == pytest.approx(20, abs=.2)
  assert np.isnan(song_features.loudness_range(0 * tone))
  # The triangle's level that is held is no sound.
  assert np.isnan(song_features.loudness_range(np.ones(44100 * 8)))
