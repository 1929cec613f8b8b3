"""Score pickles: NES-MDB's own, by hand, and such as mean harm."""

import collections
import io
import os
import pickle
import struct
import tarfile

import numpy as np
import pytest

from lakhnes_jax import events as ev
from lakhnes_jax.formats import nes_midi, score_pickle
from lakhnes_jax.synth import score


def song_of(text):
  return ev.from_text(text.replace(' ', '\n'))


def text_of(song):
  return ev.to_text(song).replace('\n', ' ')


def expressive(*steps):
  """[N, 4, 3] of steps that give some voices."""
  array = np.zeros((len(steps), 4, 3), np.uint8)
  for i, step in enumerate(steps):
    for voice, state in step.items():
      array[i, voice] = state
  return array


STEPS = expressive({0: (60, 9, 2), 2: (40, 0, 0)},
                   {0: (60, 8, 2), 2: (40, 0, 0), 3: (5, 1, 1)},
                   {0: (62, 8, 2), 3: (5, 1, 1)}, {})


@pytest.mark.parametrize('protocol', range(5))
def test_expressive_literally(protocol):
  data = pickle.dumps((44100., 6, STEPS), protocol=protocol)
  assert text_of(score_pickle.read_expressive(data)) == (
      'P1_NOTEON_60 P1_VELOCITY_9 P1_TIMBRE_2 TR_NOTEON_40 WT_1 P1_VELOCITY_8 '
      'NO_NOTEON_5 NO_VELOCITY_1 NO_TIMBRE_1 WT_1 P1_NOTEON_62 P1_VELOCITY_8 '
      'TR_NOTEOFF WT_1 P1_NOTEOFF P1_TIMBRE_0 NO_NOTEOFF NO_TIMBRE_0 WT_3')


def test_separated_literally():
  data = pickle.dumps((44100, 4, STEPS[..., 0].astype(np.int64)))
  assert text_of(score_pickle.read_separated(data)) == (
      'P1_NOTEON_60 TR_NOTEON_40 WT_1 NO_NOTEON_5 WT_1 P1_NOTEON_62 '
      'TR_NOTEOFF WT_1 P1_NOTEOFF NO_NOTEOFF WT_1')


@pytest.mark.parametrize('array', [
    np.asfortranarray(STEPS), STEPS.astype('>i4'), STEPS.astype('<u2')])
def test_arrays_of_any_layout(array):
  expected = score_pickle.read_expressive(pickle.dumps((44100., 6, STEPS)))
  np.testing.assert_array_equal(score_pickle.read_expressive(
      pickle.dumps((44100., 6, array))), expected)


def test_onsets_are_told_or_seen():
  """A repeated note needs its onset; a change of note is one of itself."""
  song = song_of('TR_NOTEON_40 WT_5 TR_NOTEON_40 WT_5 TR_NOTEON_41 WT_5 '
                 'TR_NOTEOFF WT_1')
  exact = score.from_events(song)
  np.testing.assert_array_equal(score.to_events(exact), song)
  untold = exact._replace(onset=np.zeros_like(exact.onset))
  assert text_of(score.to_events(untold)) == (
      'TR_NOTEON_40 WT_10 TR_NOTEON_41 WT_5 TR_NOTEOFF WT_1')


def test_blended_literally():
  steps = [[40, 60, 70], [np.uint8(40)], [], [30, 50]]
  data = pickle.dumps((44100., 4, steps), protocol=2)
  assert text_of(score_pickle.read_blended(data)) == (
      'P1_NOTEON_40 P2_NOTEON_60 TR_NOTEON_70 WT_1 P2_NOTEOFF TR_NOTEOFF WT_1 '
      'P1_NOTEOFF WT_1 P1_NOTEON_50 TR_NOTEON_30 WT_1 P1_NOTEOFF TR_NOTEOFF')


def test_steps_of_24_a_second():
  """1837.5 samples each, cut at the end of the song."""
  data = pickle.dumps((24., 6000, STEPS[[0, 3, 0, 0]]), protocol=2)
  song = score_pickle.read_separated(
      pickle.dumps((24., 6000, STEPS[[0, 3, 0, 0]][..., 0])))
  assert text_of(song) == ('P1_NOTEON_60 TR_NOTEON_40 WT_1837 P1_NOTEOFF '
                           'TR_NOTEOFF WT_1838 P1_NOTEON_60 TR_NOTEON_40 '
                           'WT_2325 P1_NOTEOFF TR_NOTEOFF')
  assert ev.times_of(score_pickle.read_expressive(data))[-1] == 6000


def test_steps_after_the_end_are_not_played():
  data = pickle.dumps((44100., 2, STEPS[..., 0]))
  assert text_of(score_pickle.read_separated(data)) == (
      'P1_NOTEON_60 TR_NOTEON_40 WT_1 NO_NOTEON_5 WT_1 P1_NOTEOFF TR_NOTEOFF '
      'NO_NOTEOFF')
  for steps in (STEPS[:0], 0 * STEPS):
    assert text_of(score_pickle.read_expressive(
        pickle.dumps((44100., 7, steps)))) == 'WT_7'


def loop_sample(song, rate):
  """The definition, sample by sample and step by step."""
  dense = np.zeros((int(ev.times_of(song)[-1]), 4, 3), int)
  exact = score.from_events(song)
  for start, state in zip(exact.start, exact.state, strict=True):
    dense[start:] = state
  steps = []
  for i in range(int(len(dense) / 44100 * rate)):
    window = dense[int(i / rate * 44100):int((i + 1) / rate * 44100)]
    step = np.zeros((4, 3), int)
    for voice in range(4):
      on = window[window[:, voice, 0] > 0, voice]
      if not len(on):
        on = window[:, voice] * [0, 0, 1]
      for column in range(3):
        counts = collections.Counter(on[:, column].tolist())
        step[voice, column] = min(counts, key=lambda v: (-counts[v], v))
    steps.append(step)
  return np.array(steps)


@pytest.mark.parametrize('rate', [24., 100., 999.5])
def test_sampling_equals_a_loop(rate):
  rng = np.random.default_rng(1)
  for _ in range(8):
    ids = np.where(rng.random(120) < .4, rng.integers(90, 200, 120),
                   rng.integers(371, ev.TX2.size, 120))
    song = ev.TX2.decode(np.append(ids, 280))
    np.testing.assert_array_equal(
        score_pickle.sample(score.from_events(song), rate),
        loop_sample(song, rate))


def test_too_short_for_a_step():
  data = score_pickle.write_expressive(song_of('TR_NOTEON_60 WT_1800'))
  assert text_of(score_pickle.read_expressive(data)) == 'WT_1800'


def test_round_trip_of_all_forms():
  song = score_pickle.read_expressive(pickle.dumps(
      (24., 8000, STEPS[[0, 0, 1, 2]])))
  again = score_pickle.read_expressive(score_pickle.write_expressive(song))
  assert text_of(again) == text_of(song)
  plain = song_of(text_of(ev.without_dynamics(song)))
  assert text_of(score_pickle.read_separated(
      score_pickle.write_separated(song))) == text_of(plain)
  blended = score_pickle.read_blended(score_pickle.write_blended(song))
  assert text_of(blended) == (
      'P1_NOTEON_40 P2_NOTEON_60 WT_5512 P1_NOTEON_62 P2_NOTEOFF WT_2488 '
      'P1_NOTEOFF')


def test_what_is_written_suits_any_numpy():
  data = score_pickle.write_expressive(song_of('TR_NOTEON_60 WT_9999'))
  assert data[:2] == b'\x80\x02'
  assert b'numpy.core.multiarray' in data and b'numpy._core' not in data
  rate, length, steps = pickle.loads(data)  # Of our own making.
  assert (rate, length, steps.shape, steps.dtype) == (24., 9999, (5, 4, 3),
                                                      np.uint8)
  assert steps[:, ev.TR, 1].max() == 0


def test_nesmdbs_own_scores(real_data):
  """Their scores and our sampling of their MIDI are the same, note for note.

  Only the timbre of voices without notes, which MIDI does not have, differs.
  """
  theirs = {}
  with tarfile.open(real_data / 'nesmdb_exprsco_sample.tar.xz') as tar:
    names = sorted(n for n in tar.getnames() if n.endswith('.exprsco.pkl'))
    for name in names[::4]:
      song_name = name.split('/')[-1].removesuffix('.exprsco.pkl')
      theirs[song_name] = tar.extractfile(name).read()
  n_checked = 0
  with tarfile.open(real_data / 'nesmdb_midi_train_valid.tar.xz') as tar:
    for member in tar:
      name = member.name.split('/')[-1].removesuffix('.mid')
      if name not in theirs or 'train' not in member.name:
        continue
      song = nes_midi.read(tar.extractfile(member).read())
      exact = score.from_events(song)
      np.testing.assert_array_equal(score.to_events(exact), song)
      rate, length, steps = score_pickle._read(theirs[name])
      expected = steps.values.copy()
      expected[:, ~expected[..., 0].any(0), 2] = 0
      ours = score_pickle.sample(exact, rate)
      ours[:, ev.TR, 1] = 0
      assert length == exact.length
      np.testing.assert_array_equal(ours, expected)
      written = score_pickle.write_expressive(
          score_pickle.read_expressive(theirs[name]))
      np.testing.assert_array_equal(score_pickle._read(written)[2].values,
                                    expected)
      n_checked += 1
  assert n_checked == len(theirs) == 75


@pytest.mark.parametrize('value, reason', [
    ((0, 9, STEPS), 'rate 0: legal values are 0.001 to 44100'),
    ((float('nan'), 9, STEPS), 'rate nan: legal values'),
    ((24., -1, STEPS), '-1 samples: legal values are 0 to'),
    ((24., 2**31, STEPS), '2147483648 samples: legal'),
    ((24., 9), r'should be \(rate, samples, steps\)'),
    (['24'], r'should be \(rate, samples, steps\)'),
    ((24., 9, STEPS[:, :3]), r'array of integers \[N, 4, 3\]'),
    ((24., 9, STEPS / 2), r'array of integers \[N, 4, 3\]'),
    ((24., 9, STEPS.tolist()), r'array of integers \[N, 4, 3\]'),
    ((24., 9, STEPS.astype(int) - 1), 'values should be 0 to 255'),
    ((24., 9, expressive({1: (20, 5, 1)})),
     'P2_NOTEON_20: legal values are 33 to 108'),
    ((24., 9, expressive({1: (60, 0, 1)})),
     'P2_VELOCITY_0: legal values are 1 to 15'),
    ((24., 9, expressive({3: (6, 2, 200)})),
     'NO_TIMBRE_200: legal values are 0 to 1'),
])
def test_what_is_no_score(value, reason):
  with pytest.raises(ValueError, match=reason):
    score_pickle.read_expressive(pickle.dumps(value))


@pytest.mark.parametrize('steps', [[5], [[1, 2, 3, 4]], [[0]], [['a']]])
def test_what_is_no_blended_score(steps):
  with pytest.raises(ValueError, match='step 0: should be a list of at most 3'):
    score_pickle.read_blended(pickle.dumps((24., 9, steps)))


class Harm:
  def __reduce__(self):
    return os.system, ('echo harm',)


@pytest.mark.parametrize('data, reason', [
    (pickle.dumps((24., 9, Harm())), r'asks for (posix|nt)\.system, which no'),
    (b'cnumpy\nload\n.', r'asks for numpy\.load, which no song needs'),
    (b'(S"id"\ni__builtin__\neval\n.', 'instruction INST, which no data need'),
    (b'\x80\x02I1\nr\xff\xff\xff\x7f.', 'not a score'),
    (b'\x80\x04\x96' + struct.pack('<Q', 2**40) + b'.', 'BYTEARRAY8|not a'),
    (b'\x80\x04\x8c\x05x', "not a song's pickle"),
    (b'', "not a song's pickle"),
    (b'\x80\x04\x8c\x03o\ns\x8c\x02xy\x93.', r'o\?s\.xy'),
    (pickle.dumps((24., 9, np.array([None]))), 'values of type object'),
    (pickle.dumps((24., 9, STEPS)).replace(b'K\x03\x87', b'K\x04\x87'),
     "not a song's pickle: cannot reshape"),
])
def test_harmful_and_damaged_pickles(data, reason, capfd):
  with pytest.raises(ValueError, match=reason):
    score_pickle.read_expressive(data)
  assert capfd.readouterr().out == ''


def test_mutated_pickles_give_a_song_or_a_reason():
  rng = np.random.default_rng(4)
  good = [pickle.dumps((24., 9000, STEPS), protocol=p) for p in (0, 2, 4)]
  n_read = 0
  for i in range(1500):
    data = bytearray(good[i % 3])
    for place in rng.integers(0, len(data), rng.integers(1, 3)):
      data[place] = rng.integers(256)
    try:
      score_pickle.read_expressive(bytes(data))
      n_read += 1
    except ValueError:
      pass
  assert 10 < n_read < 1400


def test_files_read_them(tmp_path):
  from lakhnes_jax.formats import song_files
  song = song_of('P1_NOTEON_60 P1_VELOCITY_9 WT_3675 P1_NOTEOFF')
  for ending in ('exprsco', 'seprsco', 'blndsco'):
    path = tmp_path / f'a.{ending}.pkl'
    song_files.write_song(path, song)
    np.testing.assert_array_equal(
        song_files.read_song(path),
        song if ending == 'exprsco' else ev.without_dynamics(song))
    assert song_files.song_name(path) == 'a'
  assert io.BytesIO(path.read_bytes()).read(2) == b'\x80\x02'


def test_other_rates():
  """A full-rate score is the song itself; others have the steps asked for."""
  song = song_of('P1_NOTEON_60 P1_VELOCITY_9 WT_735 P1_NOTEOFF WT_66')
  data = score_pickle.write_expressive(song, rate=44100)
  np.testing.assert_array_equal(score_pickle.read_expressive(data), song)
  rate, length, steps = pickle.loads(data)  # Of our own making.
  assert (rate, length, len(steps)) == (44100., 801, 801)
  short = song_of('P1_NOTEON_60 WT_15')  # int(15 / 44100 * 44100) is 14.
  data = score_pickle.write_separated(short, rate=44100)
  assert len(pickle.loads(data)[2]) == 15
  rate, length, steps = pickle.loads(score_pickle.write_blended(song, rate=100))
  assert (rate, length, steps) == (100., 801, [[60]])
  for wrong in (0, 44101):
    with pytest.raises(ValueError, match=f'rate {wrong}: legal values are'):
      score_pickle.write_separated(song, rate=wrong)


def test_too_many_steps_are_refused_at_once():
  long = np.full(2, 2**30 - 1, np.int32)
  with pytest.raises(ValueError, match='2147483646 steps of 44100'):
    score_pickle.write_expressive(long, rate=44100)
  with pytest.raises(ValueError, match='longer than 2147483647 samples'):
    score_pickle.write_expressive(np.repeat(long, 2))
