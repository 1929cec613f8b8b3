"""The vocabulary against the original's tables, and songs against a loop."""

import hashlib

import numpy as np
import pytest

from lakhnes_jax import events as ev

# Every kind of event of every voice, with its ids by hand from the ranges.
LITERAL_IDS = {
    'WT_1': (1, 1), 'WT_100': (100, 100), 'WT_110': (101, 101),
    'WT_1000': (190, 190), 'WT_1100': (191, 191), 'WT_10000': (280, 280),
    'WT_11000': (281, 281), 'WT_100000': (370, 370),
    'P1_NOTEOFF': (371, 371), 'P1_NOTEON_33': (372, 372),
    'P1_NOTEON_108': (447, 447), 'P1_VELOCITY_1': (None, 448),
    'P1_TIMBRE_3': (None, 466), 'P2_NOTEOFF': (448, 467),
    'P2_NOTEON_33': (449, 468), 'TR_NOTEOFF': (525, 563),
    'TR_NOTEON_21': (526, 564), 'TR_NOTEON_108': (613, 651),
    'NO_NOTEOFF': (614, 652), 'NO_NOTEON_1': (615, 653),
    'NO_NOTEON_16': (630, 668), 'NO_VELOCITY_15': (None, 683),
    'NO_TIMBRE_1': (None, 685),
}


def to_song(*names):
  return ev.from_text('\n'.join(names))


@pytest.mark.parametrize('name', LITERAL_IDS)
def test_literal_ids(name):
  song = to_song(name)
  for vocabulary, expected in zip((ev.TX1, ev.TX2), LITERAL_IDS[name],
                                  strict=True):
    if expected is None:
      with pytest.raises(ValueError, match=f'{name} is not in vocabulary tx1'):
        vocabulary.encode(song)
    else:
      assert vocabulary.encode(song).tolist() == [expected]
      assert vocabulary.tokens[expected] == name
      assert vocabulary.decode([expected]).tolist() == song.tolist()


def test_sizes():
  assert (ev.TX1.size, ev.TX2.size, ev.N_CODES) == (631, 686, 315)
  assert len(ev.WAITS) == 370
  assert ev.TX1.tokens[ev.BOS_EOS] == '<S>'


@pytest.mark.parametrize('vocabulary', [ev.TX1, ev.TX2], ids=lambda v: v.name)
def test_ids_equal_the_originals(oracles, vocabulary):
  text = (oracles / 'events' / f'{vocabulary.name}_ids.tsv').read_text()
  rows = [line.split('\t') for line in text.splitlines()[1:]]
  assert [name for _, name in rows] == list(vocabulary.tokens)
  assert [int(i) for i, _ in rows] == list(range(vocabulary.size))
  song = to_song(*(name for _, name in rows[1:]))
  assert vocabulary.encode(song).tolist() == list(range(1, vocabulary.size))


def test_wait_quantisation_equals_the_originals(oracles):
  table = np.load(oracles / 'events' / 'wait_table.npz')
  ids = ev.TX1.encode(table['wait'])
  np.testing.assert_array_equal(ids, table['index'])
  np.testing.assert_array_equal(ev.TX1.decode(ids), table['amount'])


@pytest.mark.parametrize('wait, quantised', [
    (735, 730), (105, 100), (10500, 11000), (2050, 2100), (1050, 1000),
    (100001, 100000), (2**31 - 1, 100000), (0, 1)])
def test_literal_waits(wait, quantised):
  ids = ev.TX2.encode(np.array([wait], np.int32))
  assert ev.TX2.decode(ids).tolist() == [quantised]


def test_start_is_left_out_when_decoding():
  assert ev.to_text(ev.TX1.decode([0, 371, 0, 5, 0])) == 'P1_NOTEOFF\nWT_5'


@pytest.mark.parametrize('ids', [[-1], [3, 631]])
def test_decode_refuses_ids_outside(ids):
  with pytest.raises(ValueError, match=r'outside 0 \.\. 630'):
    ev.TX1.decode(ids)


def test_encode_refuses_what_is_no_event():
  with pytest.raises(ValueError, match='-316 is no event'):
    ev.TX2.encode(np.array([5, -316]))


@pytest.mark.parametrize('call, reason', [
    ((ev.P1, ev.NOTEON, 32), 'P1_NOTEON_32: legal values are 33 to 108'),
    ((ev.TR, ev.NOTEON, 109), 'TR_NOTEON_109: legal values are 21 to 108'),
    ((ev.NO, ev.NOTEON, 0), 'NO_NOTEON_0: legal values are 1 to 16'),
    ((ev.P2, ev.VELOCITY, 300), 'P2_VELOCITY_300: legal values are 1 to 15'),
    ((ev.NO, ev.TIMBRE, -1), 'NO_TIMBRE_-1: legal values are 0 to 1'),
    ((ev.P1, ev.NOTEON, -68), 'P1_NOTEON_-68: legal values are 33 to 108'),
    ((ev.TR, ev.VELOCITY, 3), 'TR_VELOCITY_3: voice TR has no such event'),
])
def test_event_names_value_and_range(call, reason):
  with pytest.raises(ValueError, match=reason):
    ev.event(*call)


@pytest.mark.parametrize('line, reason', [
    ('P1_NOTEON_109', 'line 2: P1_NOTEON_109: legal values are 33 to 108'),
    ('TR_TIMBRE_0', 'line 2: TR_TIMBRE_0: voice TR has no such event'),
    ('WT_-5', "line 2: 'WT_-5' is no event"),
    ('WT_9999999999', "line 2: 'WT_9999999999' is no event"),
    ('wt_5', "line 2: 'wt_5' is no event"),
    ('P1_NOTEON_٤٠', 'line 2: .* is no event'),
    ('WT_٤', 'line 2: .* is no event'),
    ('x' * 99, r"line 2: 'x{37}\.\.\.' is no event"),
])
def test_from_text_names_line_and_reason(line, reason):
  with pytest.raises(ValueError, match=reason):
    ev.from_text(f'WT_1\n{line}\nWT_2')


def test_from_text_skips_start_and_blanks():
  assert ev.from_text('<S>\r\nWT_7\r\n\n TR_NOTEOFF \n<S>\n').tolist() == [
      7, ev.event(ev.TR, ev.NOTEOFF)]
  assert ev.from_text('').dtype == np.int32


def test_text_round_trip():
  song = np.concatenate([~np.arange(ev.N_CODES), [0, 1, 735, 2**29]]).astype(
      np.int32)
  np.testing.assert_array_equal(ev.from_text(ev.to_text(song)), song)


def test_parts_of_events():
  song = to_song('WT_7', 'P2_NOTEON_60', 'P2_VELOCITY_9', 'NO_TIMBRE_1',
                 'WT_3', 'TR_NOTEOFF')
  assert ev.voice_of(song).tolist() == [-1, ev.P2, ev.P2, ev.NO, -1, ev.TR]
  assert ev.voice_bits([ev.TR, ev.P1, ev.TR]) == 5 and ev.voice_bits([]) == 0
  assert ev.kind_of(song).tolist() == [-1, ev.NOTEON, ev.VELOCITY, ev.TIMBRE,
                                       -1, ev.NOTEOFF]
  assert ev.value_of(song).tolist() == [7, 60, 9, 1, 3, 0]
  assert ev.times_of(song).tolist() == [7, 7, 7, 7, 10, 10]


def test_from_times_gives_one_wait_an_instant():
  on, off = ev.event(ev.NO, ev.NOTEON, 3), ev.event(ev.NO, ev.NOTEOFF)
  song = ev.from_times([0, 0, 40], [on, on, off], 100)
  assert song.tolist() == [on, on, 40, off, 60]
  assert song.dtype == np.int32
  assert ev.from_times([], [], 9).tolist() == [9]
  assert ev.from_times([], [], 0).tolist() == []


@pytest.mark.parametrize('times, length, reason', [
    ([5, 3], 9, 'event 1 of 2: time goes back by 2 samples'),
    ([5, 8], 6, 'event 2 of 2: time goes back by 2 samples'),
    ([-1, 2], 6, 'event 0 of 2: time goes back'),
    ([0, 2**31], 2**31, 'longer than'),
])
def test_from_times_refuses(times, length, reason):
  with pytest.raises(ValueError, match=reason):
    ev.from_times(times, [-1, -2], length)


def scalar_without_dynamics(song):
  """The definition, one event after the other."""
  kept, dropped = [], False
  for event in song:
    if event < 0 and ev.CODE_NAMES[~event].split('_')[1] in ('VELOCITY',
                                                              'TIMBRE'):
      dropped = True
      continue
    if event >= 0 and dropped and kept and kept[-1] >= 0:
      kept[-1] += event
    else:
      kept.append(event)
    dropped = False
  return kept


def test_without_dynamics_equals_a_loop():
  rng = np.random.default_rng(5)
  for n in (*range(8), *[50] * 40):
    song = np.where(rng.random(n) < .5, rng.integers(0, 99, n),
                    ~rng.integers(0, ev.N_CODES, n)).astype(np.int32)
    assert ev.without_dynamics(song).tolist() == scalar_without_dynamics(
        song.tolist())


def test_without_dynamics_literally():
  song = to_song('P1_VELOCITY_3', 'WT_5', 'P1_TIMBRE_2', 'NO_VELOCITY_1',
                 'WT_6', 'P1_NOTEOFF', 'P1_VELOCITY_2', 'WT_1', 'WT_2')
  assert ev.to_text(ev.TX1.project(song)) == 'WT_11\nP1_NOTEOFF\nWT_1\nWT_2'
  assert ev.TX2.project(song) is song


def test_tx1_of_the_originals_tx2(oracles):
  for path in (oracles / 'audio').glob('*.tx2.txt'):
    song = ev.from_text(path.read_text())
    tx1 = path.with_name(path.name.replace('tx2', 'tx1')).read_text()
    assert ev.to_text(ev.TX1.project(song)) == tx1.rstrip('\n')
    assert hashlib.sha256(ev.to_text(song).encode()).digest() == hashlib.sha256(
        path.read_text().rstrip('\n').encode()).digest()


@pytest.mark.parametrize('vocabulary', ev.VOCABULARIES.values(),
                         ids=lambda v: v.name)
def test_tables_say_what_the_text_says(vocabulary):
  voices = [voice.name for voice in ev.VOICES]
  kinds = ['NOTEOFF', 'NOTEON', 'VELOCITY', 'TIMBRE']
  for token, text in enumerate(vocabulary.tokens):
    voice, *rest = text.split('_')
    if voice == '<S>':
      expected = -1, -1, 0, 0
    elif voice == 'WT':
      expected = -1, -1, int(rest[0]), int(rest[0])
    else:
      kind, *value = rest
      expected = voices.index(voice), kinds.index(kind), int(*value), 0
    assert tuple(table[token] for table in (
        vocabulary.voice, vocabulary.kind, vocabulary.value, vocabulary.wait
    )) == expected


def test_truncation_is_exact_to_the_sample():
  note = ev.event(ev.P1, ev.NOTEON, 60)
  song = np.array([5, note, 10, note, 10], np.int32)
  for samples, expected in ((3, [3]), (5, [5]), (6, [5, note, 1]),
                            (15, [5, note, 10]), (25, song), (99, song)):
    np.testing.assert_array_equal(ev.truncate(song, samples), expected)
  np.testing.assert_array_equal(ev.truncate(song[1:], 0), [note])


def test_glitches_are_not_heard():
  """A pulse's period is two bytes, written some samples apart."""
  on = [ev.event(ev.P1, ev.NOTEON, pitch) for pitch in (60, 61, 62)]
  off, other = ev.event(ev.P1, ev.NOTEOFF), ev.event(ev.TR, ev.NOTEON, 40)

  def check(song, wanted):
    got = ev.without_glitches(np.array(song, np.int32))
    assert ev.times_of(got)[-1] == ev.times_of(np.array(song))[-1]
    chip = got < 0
    assert list(zip(ev.times_of(got)[chip].tolist(), got[chip].tolist(),
                    strict=True)) == wanted

  # The second note is passed through, whatever another voice does meanwhile.
  check([on[0], 700, on[1], 3, other, 4, on[2], 700],
        [(0, on[0]), (703, other), (707, on[2])])
  # It goes back to the first, which goes on.
  check([on[0], 700, on[1], 5, on[0], 700], [(0, on[0])])
  check([on[0], 700, on[1], 5, on[2], 5, on[0], 700, off, 9],
        [(0, on[0]), (1410, off)])
  # Notes of 100 samples are notes, and one may be struck again.
  for song in ([on[0], 700, on[1], 100, on[2], 700],
               [on[0], 700, off, 5, on[0], 700],
               [on[0], 700, on[0], 700], [on[2], 99]):
    song = np.array(song, np.int32)
    np.testing.assert_array_equal(ev.without_glitches(song), song)
  check([on[0], 700, on[1], 5, off, 5, on[0], 7],
        [(0, on[0]), (705, off), (710, on[0])])
