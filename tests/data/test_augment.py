"""Augmentation against the original's token lists, batches and draws."""

import json
import random

import numpy as np
import pytest

from lakhnes_jax import events
from lakhnes_jax.data import augment
from lakhnes_jax.data.augment import Augmentation

SONG = '''WT_10 P1_NOTEON_60 P1_VELOCITY_15 P1_TIMBRE_2 P2_NOTEON_36
  P2_VELOCITY_3 TR_NOTEON_21 NO_NOTEON_16 NO_VELOCITY_1 WT_7 WT_3 P1_VELOCITY_9
  P2_TIMBRE_0 NO_TIMBRE_1 WT_1 P1_NOTEOFF TR_NOTEOFF P2_NOTEON_108
  P2_VELOCITY_2 NO_NOTEOFF WT_30'''


def _song(text: str = SONG) -> np.ndarray:
  return events.from_text('\n'.join(text.split()))


def _text(song: np.ndarray) -> str:
  return ' '.join(events.to_text(song).split('\n'))


def _flat(text: str) -> str:
  return ' '.join(text.split())


@pytest.fixture(scope='module')
def deterministic(oracles) -> dict[str, list[str]]:
  return json.loads((oracles / 'model/aug_deterministic.json').read_text())


def test_each_change_equals_the_original(deterministic):
  raw = events.from_text('\n'.join(deterministic['raw']))
  before = raw.copy()
  number = {voice.name: i for i, voice in enumerate(events.VOICES)}
  change = {
      'transpose': lambda amount: augment.transpose(raw, int(amount)),
      'stretch': lambda speed: augment.stretch(raw, float(speed)),
      'switch': lambda _: augment.switch_pulses(raw),
      'select': lambda names: augment.keep_voices(
          raw, [number[name] for name in names.split('+')]),
      'raw': lambda _: raw,
  }
  assert len(deterministic) == 15
  for case, expected in deterministic.items():
    name, _, argument = case.partition('_')
    got = change[name](argument)
    assert got.dtype == np.int32
    assert events.to_text(got).split('\n') == expected, case
  np.testing.assert_array_equal(raw, before)


def replay(flags: dict[str, bool]) -> augment.AugmentationParams:
  """Draws as the original does: numpy's and Python's global generators."""
  changes = {}
  if flags.get('voice_dropout') and np.random.rand() < .5:
    size = int(np.random.randint(1, 4))
    changes['voices'] = tuple(sorted(random.sample(range(4), size)))
  if flags.get('switch'):
    changes['switch'] = np.random.rand() < .5
  if flags.get('transpose'):
    changes['semitones'] = int(np.random.randint(-6, 7))
  if flags.get('stretch'):
    changes['speed'] = np.random.uniform(.95, 1.05)
  return augment.AugmentationParams(**changes)


@pytest.mark.parametrize('original, names', [
    ('augment_selectens', ['voice_dropout']),
    ('augment_switchp1p2', ['switch']),
    ('augment_transpose', ['transpose']), ('augment_stretch', ['stretch']),
    ('all', ['voice_dropout', 'switch', 'transpose', 'stretch'])])
def test_the_originals_draws_give_the_originals_ids(oracles, original, names):
  with np.load(oracles / 'model/data_pipeline.npz') as arrays:
    path = oracles / 'model/corpus/train' / str(arrays['aug_file'])
    song = events.from_text(path.read_text())
    augmentation = Augmentation.from_names(['trim', *names])
    for seed in range(8):
      np.random.seed(seed)
      random.seed(seed)
      changes = replay(dict.fromkeys(names, True))
      ids = events.TX1.encode(augmentation.apply_params(song, changes))
      np.testing.assert_array_equal(
          [0, *ids, 0], arrays[f'aug/{original}/{seed}'], err_msg=str(seed))


@pytest.mark.parametrize('before, after', [
    ('WT_1 TR_NOTEOFF WT_2', 'TR_NOTEOFF'),
    ('WT_1 WT_2 TR_NOTEOFF WT_3 WT_4', 'WT_2 TR_NOTEOFF WT_3'),
    ('TR_NOTEOFF WT_2', 'TR_NOTEOFF'),
    ('WT_2 TR_NOTEOFF', 'TR_NOTEOFF'),
    ('TR_NOTEOFF', 'TR_NOTEOFF'),
    ('WT_1', ''),
    ('WT_1 WT_2', ''),
    ('', '')])
def test_trim_takes_one_wait_at_each_end(before, after):
  assert _text(augment.trim(_song(before))) == after


def test_dynamics_follow_their_voice():
  assert _text(augment.keep_voices(_song(), [events.P2])) == _flat('''
      WT_10 P2_NOTEON_36 P2_VELOCITY_3 WT_7 WT_3 P2_TIMBRE_0 WT_1 P2_NOTEON_108
      P2_VELOCITY_2 WT_30''')
  assert _text(augment.switch_pulses(_song())) == _flat('''
      WT_10 P2_NOTEON_60 P2_VELOCITY_15 P2_TIMBRE_2 P1_NOTEON_36 P1_VELOCITY_3
      TR_NOTEON_21 NO_NOTEON_16 NO_VELOCITY_1 WT_7 WT_3 P2_VELOCITY_9
      P1_TIMBRE_0 NO_TIMBRE_1 WT_1 P2_NOTEOFF TR_NOTEOFF P1_NOTEON_108
      P1_VELOCITY_2 NO_NOTEOFF WT_30''')
  assert _text(augment.stretch(_song(), .5)) == _flat('''
      WT_20 P1_NOTEON_60 P1_VELOCITY_15 P1_TIMBRE_2 P2_NOTEON_36 P2_VELOCITY_3
      TR_NOTEON_21 NO_NOTEON_16 NO_VELOCITY_1 WT_20 P1_VELOCITY_9 P2_TIMBRE_0
      NO_TIMBRE_1 WT_2 P1_NOTEOFF TR_NOTEOFF P2_NOTEON_108 P2_VELOCITY_2
      NO_NOTEOFF''')


@pytest.mark.parametrize('semitones, text', [
    (1, 'P1_NOTEON_61 P2_NOTEON_37 TR_NOTEON_22 NO_NOTEON_16'),
    (-1, 'P1_NOTEON_59 P2_NOTEON_35 P2_NOTEON_107 NO_NOTEON_16'),
    (-4, 'P1_NOTEON_56 P2_NOTEON_104 NO_NOTEON_16'),
    (1000, 'NO_NOTEON_16'), (-1000, 'NO_NOTEON_16')])
def test_transposed_notes_outside_the_range_are_dropped(semitones, text):
  notes = _song('P1_NOTEON_60 P2_NOTEON_36 P2_NOTEON_108 TR_NOTEON_21 '
                'NO_NOTEON_16')
  got = augment.transpose(notes, semitones)
  assert sorted(_text(got).split()) == sorted(text.split())
  others = _song('WT_5 WT_6 P1_NOTEOFF NO_NOTEOFF P1_VELOCITY_3 P2_TIMBRE_1')
  np.testing.assert_array_equal(augment.transpose(others, semitones), others)


def test_stretch_rounds_half_to_even_and_merges_what_falls_together():
  song = _song('WT_1 TR_NOTEON_40 WT_2 TR_NOTEOFF WT_2 TR_NOTEON_41 WT_1 '
               'TR_NOTEOFF')  # At 1, 3, 5 and 6; twice as fast 0, 2, 2 and 3.
  assert _text(augment.stretch(song, 2.)) == (
      'TR_NOTEON_40 WT_2 TR_NOTEOFF TR_NOTEON_41 WT_1 TR_NOTEOFF')
  # 60 / .96 is 62.5 and would go down; the original's 60 * (1 / .96) goes up.
  assert _text(augment.stretch(_song('WT_60 TR_NOTEOFF'), .96)) == (
      'WT_63 TR_NOTEOFF')
  assert augment.stretch(_song('WT_5 WT_6'), .99).size == 0
  assert augment.stretch(_song(''), .99).size == 0
  for speed in (0, -1, float('nan')):
    with pytest.raises(ValueError, match='not positive'):
      augment.stretch(song, speed)


def test_the_changes_come_in_the_papers_order():
  # The kept voice is P1's as it was before the switch; P2_108 of the switch's
  # result is out of range once transposed; stretch comes last.
  changes = augment.AugmentationParams(
      (events.P1, events.P2), True, 3, speed=.5)
  got = Augmentation.from_names(['all']).apply_params(_song(), changes)
  assert _text(got) == _flat('''
      P2_NOTEON_63 P2_VELOCITY_15 P2_TIMBRE_2 P1_NOTEON_39 P1_VELOCITY_3 WT_20
      P2_VELOCITY_9 P1_TIMBRE_0 WT_2 P2_NOTEOFF P1_VELOCITY_2''')
  low = augment.AugmentationParams((events.TR, events.P2), True, -1)
  assert _text(Augmentation().apply_params(_song(), low)) == _flat('''
      WT_10 P1_NOTEON_35 P1_VELOCITY_3 WT_7 WT_3 P1_TIMBRE_0 WT_1 TR_NOTEOFF
      P1_NOTEON_107 P1_VELOCITY_2 WT_30''')


def _in_frames(frames: list[int], late: int = 0) -> np.ndarray:
  """P1 begins a note in each frame, and P2 a little later."""
  times = np.rint(np.repeat(frames, 2) * 733.79).astype(int) + [
      0, late] * len(frames)
  chip = [events.EVENT[voice, events.NOTEON, 60] for voice in (0, 1)]
  return events.from_times(times, chip * len(frames), times[-1])


@pytest.mark.parametrize('ratio, before, after', [
    (1, [0, 1, 3, 10], [0, 1, 3, 10]),
    (1.5, [0, 2, 4, 6, 30], [0, 3, 6, 9, 45]),
    (7 / 6, [0, 1, 6, 12, 13, 18], [0, 1, 7, 14, 15, 21]),
    # No two frames become one; what is late catches up.
    (.5, [0, 1, 2, 3, 10], [0, 1, 2, 3, 5])])
def test_tempo_changes_in_whole_frames(ratio, before, after):
  for late in 0, 9, 170:
    got, wanted = (augment.change_tempo(_in_frames(before, late), ratio),
                   _in_frames(after, late))
    np.testing.assert_array_equal(got[got < 0], wanted[wanted < 0])
    np.testing.assert_allclose(  # Sums of rounded times.
        events.times_of(got), events.times_of(wanted), rtol=0, atol=1)


def test_tempo_of_little_or_nothing():
  assert augment.change_tempo(_song(''), 2).size == 0
  one = _song('TR_NOTEOFF WT_9')
  assert _text(augment.change_tempo(one, 2)) == 'TR_NOTEOFF'
  with pytest.raises(ValueError, match='ratio 0 '):
    augment.change_tempo(_song(), 0)


_BARS = np.add.outer(16 * np.arange(4),
                     [0, 1, 2, 4, 5, 6, 8, 11, 12, 14]).ravel()


@pytest.mark.parametrize('row', [4, 6, 7, 24])
def test_rows_are_those_that_nearly_all_notes_keep(row):
  found, frame = augment.row_of(_in_frames(row * _BARS))
  assert found == pytest.approx(row)
  assert frame == pytest.approx(733.79, abs=.01)
  # An ornament a frame before the beat is no tempo.
  with_ornament = _in_frames([*row * _BARS, row * 65 - 1])
  assert augment.row_of(with_ornament)[0] == pytest.approx(row, rel=.01)


def test_songs_without_rows():
  assert augment.row_of(_in_frames(6 * _BARS[:4])) == (0, 0)  # A few notes.
  assert augment.row_of(_song('')) == (0, 0)
  # A program that is called 192 times a second.
  chip = events.EVENT[events.P1, events.NOTEON, 60]
  times = np.rint(7 * _BARS * 44100 / 192).astype(int)
  assert augment.row_of(events.from_times(
      times, np.repeat(chip, len(times)), times[-1])) == (0, 0)
  assert augment.row_of(_UNEVEN) == (0, 0)


_UNEVEN = _in_frames(np.cumsum(np.random.default_rng(3).integers(4, 40, 60)))


def test_a_drawn_tempo_is_another_near_by():
  song = _in_frames(6 * _BARS)
  augmentation = Augmentation.from_names(['tempo'])
  rng = np.random.default_rng(0)
  n, seen = 300, []
  for _ in range(n):
    apart = np.diff(events.times_of(augmentation.apply(song, rng)))
    seen.append(round(apart[apart > 200].min() / 733.79))
  # 3/4 to 4/3 of 6, where 5 is 5, 7 and 8 too; five deviations around 0.3.
  assert set(seen) == {5, 6, 7, 8}
  assert abs(seen.count(6) / n - .3) < .133
  for other in 5, 7, 8:
    assert abs(seen.count(other) / n - .7 / 3) < .123
  np.testing.assert_array_equal(
      augmentation.apply_params(_UNEVEN, augment.AugmentationParams(tempo=.5)),
      _UNEVEN)


def test_a_fractional_tempo_becomes_a_whole_one():
  song = _in_frames(np.floor(6.4 * _BARS).astype(int))
  assert augment.row_of(song)[0] == pytest.approx(6.4, rel=.01)
  got = augment.Augmentation.from_names(['tempo']).apply_params(
      song, augment.AugmentationParams(tempo=.99))
  assert augment.row_of(got)[0] == pytest.approx(8, rel=.01)


def test_real_songs_at_another_tempo(real_songs):
  rows = []
  for song in map(augment.trim, real_songs):
    chip = song[song < 0]
    same = augment.change_tempo(song, 1)
    np.testing.assert_array_equal(
        events.times_of(same)[same < 0],
        events.times_of(song)[song < 0] - events.times_of(song)[song < 0][0])
    row, frame = augment.row_of(song)
    if row:
      slower = augment.change_tempo(song, 1 + 1 / row, frame)
      np.testing.assert_array_equal(slower[slower < 0], chip)
      length, before = (np.ptp(events.times_of(s)[s < 0]) for s in (
          slower, song))
      assert abs(length - (1 + 1 / row) * before) <= 1.5 * frame
      rows.append((row + 1, augment.row_of(slower)[0]))
  assert len(rows) > 2 / 3 * len(real_songs)
  wanted, got = np.array(rows).T
  # A song of rows of 6 and 8 frames is read otherwise once it is slower.
  assert np.mean(abs(got / wanted - 1) < .01) > .95


def test_latency_changes_within_frames():
  song = _song('''P1_NOTEON_60 WT_10 P2_NOTEON_64 WT_4 WT_6 P1_VELOCITY_3
      P2_VELOCITY_2 WT_1 P1_NOTEOFF WT_713 NO_NOTEON_3 WT_179 NO_NOTEOFF WT_180
      P1_NOTEON_50 WT_9''')
  size = 4 * events.EVENT.shape[1]
  doubled, thirds = np.full((size, size), 2.), np.full((size, size), .34)
  # The noise of the second frame is over only when P1 comes in.
  assert _text(augment.jitter_driver(song, doubled)) == _flat('''
      P1_NOTEON_60 WT_20 P2_NOTEON_64 WT_20 P1_VELOCITY_3 P2_VELOCITY_2 WT_2
      P1_NOTEOFF WT_692 NO_NOTEON_3 WT_358 NO_NOTEOFF WT_1 P1_NOTEON_50''')
  # A wait of one sample stays.
  assert _text(augment.jitter_driver(song, thirds)) == _flat('''
      P1_NOTEON_60 WT_3 P2_NOTEON_64 WT_3 P1_VELOCITY_3 P2_VELOCITY_2 WT_1
      P1_NOTEOFF WT_727 NO_NOTEON_3 WT_61 NO_NOTEOFF WT_298 P1_NOTEON_50''')
  assert _text(augment.jitter_driver(song, 10 * doubled)).endswith(
      'NO_NOTEON_3 WT_3580 NO_NOTEOFF P1_NOTEON_50')
  # Factors are told by what is before and after.
  before, after = (voice * events.EVENT.shape[1] + events.NOTEON
                   for voice in (events.P1, events.P2))
  one = np.ones((size, size))
  one[before, after] = 3
  assert _text(augment.jitter_driver(song, one)) == _flat('''
      P1_NOTEON_60 WT_30 P2_NOTEON_64 WT_10 P1_VELOCITY_3 P2_VELOCITY_2 WT_1
      P1_NOTEOFF WT_693 NO_NOTEON_3 WT_179 NO_NOTEOFF WT_180 P1_NOTEON_50''')
  assert augment.jitter_driver(_song(''), one).size == 0


def test_a_drawn_latency_is_the_songs_own():
  song = _in_frames(6 * np.arange(20), 40)
  augmentation = Augmentation.from_names(['driver_jitter'])
  rng = np.random.default_rng(0)
  seen = []
  for _ in range(2000):
    got = augmentation.apply(song, rng)
    times = events.times_of(got)[got < 0]
    wait = times[1::2] - times[::2]
    assert (wait == wait[0]).all()
    seen.append(wait[0])
  logs = np.log(np.array(seen) / 40)
  logs = logs[logs != 0]  # Of the factors drawn, 4% are rounded to this.
  assert abs(len(logs) / 2000 - .7 * .96) < .05
  assert abs(logs.mean()) < .05
  assert abs(logs.std() - np.hypot(.3, .15)) < .04


def test_draws_cover_their_ranges_evenly():
  rng = np.random.default_rng(5)
  augmentation = Augmentation.from_names(['all'])
  n = 6000
  drawn = [augmentation.draw(rng) for _ in range(n)]
  sizes = np.bincount([len(d.voices) for d in drawn], minlength=5)
  # Five standard deviations of the mean around what the paper says.
  np.testing.assert_allclose(sizes / n, [0, 1/6, 1/6, 1/6, 1/2], atol=.033)
  for voice in range(4):
    kept = np.mean([voice in d.voices for d in drawn])
    assert abs(kept - .75) < .03
  assert abs(np.mean([d.switch for d in drawn]) - .5) < .033
  shifts = np.bincount([d.semitones + 6 for d in drawn], minlength=13)
  assert len(shifts) == 13
  np.testing.assert_allclose(shifts / n, 1 / 13, atol=.018)
  speeds = np.array([d.speed for d in drawn])
  assert .95 <= speeds.min() < .9501 and 1.0499 < speeds.max() < 1.05
  assert abs(speeds.mean() - 1) < .002


def test_no_flag_changes_nothing_and_one_flag_only_its_own():
  rng = np.random.default_rng(0)
  assert Augmentation().draw(rng) == augment.AugmentationParams()
  np.testing.assert_array_equal(Augmentation().apply(_song(), rng), _song())
  for field, name in zip(augment.AugmentationParams._fields,
                         ('voice_dropout', 'switch', 'transpose', 'tempo',
                          'driver_jitter', 'stretch'), strict=True):
    seen = {field: set() for field in augment.AugmentationParams._fields}
    for _ in range(50):
      changes = Augmentation.from_names([name]).draw(rng)
      for key, value in changes._asdict().items():
        seen[key].add(value)
    assert [key for key in seen if len(seen[key]) > 1] == [field]


def test_names():
  names = Augmentation.from_names
  assert names(['none']) == names([]) == Augmentation()
  assert names(['all']) == Augmentation(
      trim=True, voice_dropout=True, switch=True, transpose=True, stretch=True)
  assert names(['trim', 'stretch']) == Augmentation(trim=True, stretch=True)
  assert names(['trim']) == augment.TRIM
  for wrong in (['louder'], ['all', 'trim'], ['none', 'trim'], ['']):
    with pytest.raises(ValueError, match='transpose'):
      names(wrong)
