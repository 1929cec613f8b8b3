"""Shared runs, against a brute-force dynamic programme and planted copies."""

import itertools
import pathlib
import tarfile

import numpy as np
import pytest

from experiments import memorisation
from lakhnes_jax import events as ev
from lakhnes_jax.formats import nes_midi


def song(text: str) -> np.ndarray:
  return ev.from_text(text.replace(' ', '\n'))


def random_song(rng, n: int) -> np.ndarray:
  """A song of few different events, so that long runs are shared by chance."""
  pool = [7, 735, ev.event(ev.P1, ev.NOTEOFF), ev.event(ev.NO, ev.NOTEON, 3)]
  pool += [ev.event(v, ev.NOTEON, p) for v in (ev.P1, ev.TR) for p in (60, 62)]
  return rng.choice(pool, n).astype(np.int32)


def sequences(events: np.ndarray, view: str) -> list[list[tuple]]:
  """What is compared, as lists of (what, pitch or None), in plain Python."""
  names = ev.to_text(ev.TX1.decode(ev.TX1.encode(events))).split('\n')
  rows = []
  for i, name in enumerate(names):
    voice, _, pitch = name.partition('_NOTEON_')
    later = names[i + 1:]
    next_ = next((k for k, n in enumerate(later) if n.startswith(f'{voice}_')),
                 len(later))
    heard = pitch and any(n.startswith('WT') for n in later[:next_])
    if pitch and voice != 'NO' and view != 'exact':
      rows.append((voice, int(pitch), heard))
    else:
      rows.append((name, None, heard))
  if view in ('exact', 'transposed'):
    return [[row[:2] for row in rows]]
  rows = [row[:2] for row in rows if row[2]]
  if view == 'notes':
    return [rows]
  return [[('note', p) for p, _ in itertools.groupby(
      p for voice, p in rows if voice == wanted)]
          for wanted in ('P1', 'P2', 'TR')]


def brute_force(a: list[tuple], b: list[tuple]) -> np.ndarray:
  """[len(a) + 1] longest run of `a` that begins at each place and is in b."""
  best = np.zeros(len(a) + 1, int)
  shifts = {p - q for _, p in a if p for _, q in b if q} | {0}
  for shift in shifts:
    table = np.zeros((len(a) + 1, len(b) + 1), int)
    for i in range(len(a) - 1, -1, -1):
      for j in range(len(b) - 1, -1, -1):
        (x, p), (y, q) = a[i], b[j]
        if x == y and (p is None) == (q is None) and (
            p is None or p == q + shift):
          table[i, j] = table[i + 1, j + 1] + 1
    best = np.maximum(best, table.max(1))
  return best


@pytest.mark.parametrize('view', memorisation.LENGTHS)
def test_runs_are_those_of_a_dynamic_programme(view):
  rng = np.random.default_rng(5)
  deepest = 0
  for length in (1, 6):
    songs = [random_song(rng, n) for n in (25, 1, 90, 12)]
    corpus = [random_song(rng, n) for n in (30, 2, 100)]
    songs[2][8:78] = corpus[2][30:]
    mine = [part for s in songs for part in memorisation.view_of(s, view)]
    theirs = [part for s in corpus for part in memorisation.view_of(s, view)]
    runs = memorisation.longest_runs(mine, theirs, length)
    expected = [part for s in songs for part in sequences(s, view)]
    others = [part for s in corpus for part in sequences(s, view)]
    assert len(runs) == len(expected)
    for run, part in zip(runs, expected, strict=True):
      best = np.max([brute_force(part, other) for other in others], 0)
      assert run.length == best.max()
      if run.length:
        assert brute_force(part[run.start:run.start + run.length],
                           others[run.other][run.other_start:]
                           [:run.length])[0] == run.length
        assert best[run.start] == run.length
      covered = np.zeros(len(part), bool)
      for i in np.flatnonzero(best >= length):
        covered[i:i + length] = True
      assert run.covered == covered.sum()
      deepest = max(deepest, run.length)
  assert deepest >= 6  # Else this shows little.


@pytest.mark.parametrize('length', [1, 5, 300])
def test_a_song_is_found_whole_and_alone(length):
  rng = np.random.default_rng(1)
  corpus = [random_song(rng, n) for n in (200, 300, 250)]
  part, = memorisation.view_of(corpus[1], 'exact')
  others = [p for s in corpus for p in memorisation.view_of(s, 'exact')]
  run, = memorisation.longest_runs([part], others, length)
  assert run == (300, 0, 1, 0, 300)
  # Nothing goes from one song into the next.
  joined, = memorisation.view_of(np.concatenate(corpus), 'exact')
  run, = memorisation.longest_runs([joined], others, 300)
  assert run == (300, 200, 1, 0, 300)
  run, = memorisation.longest_runs([part], [joined], length)
  assert run == (300, 0, 0, 200, 300)
  halves = [p for s in (corpus[1][:100], corpus[1][100:])
            for p in memorisation.view_of(s, 'exact')]
  assert [run.length for run in memorisation.longest_runs(
      halves, others, length)] == [100, 200]


def test_empty_and_foreign_songs():
  none, = memorisation.view_of(song('P1_NOTEON_60'), 'exact')
  empty, = memorisation.view_of(song('')[:0], 'exact')
  other, = memorisation.view_of(song('P2_NOTEON_60 WT_5'), 'exact')
  first, second = memorisation.longest_runs([none, empty], [empty, other], 2)
  assert (first.length, first.covered) == (second.length, second.covered) == (
      0, 0)
  assert memorisation.measure([song('WT_5')], [song('WT_6')], ['x'])[0][
      'melody'] == {'length': 0, 'share': 0.0, 'events': 0, 'notes': 0,
                    'pitches': 0, 'seconds': 0.0}


SONG = ('WT_44100 P1_NOTEON_60 TR_NOTEON_40 WT_22050 P1_NOTEON_64 NO_NOTEON_2 '
        'WT_22050 P1_NOTEON_67 P1_VELOCITY_3 WT_4410 P1_NOTEOFF WT_4410')


def test_description_by_hand():
  # Two up, on P2 in place of P1, without noise, in other times.
  other = song('P2_NOTEON_50 WT_88200 P2_NOTEON_58 WT_1 P2_NOTEON_62 '
               'P1_NOTEON_62 WT_30 P2_NOTEON_65 TR_NOTEON_38 WT_5')
  result, = memorisation.measure([song(SONG)], [song('WT_3'), other],
                                 ['a', 'b'])
  assert result['melody'] == {
      'length': 3, 'share': 0.0, 'events': 7, 'notes': 3, 'pitches': 3,
      'seconds': 1.0, 'at': 1.0, 'song_at': 2.0, 'shift': 2, 'song': 'b'}
  # One note, either voice's: shifted alike to nothing else.
  assert result['notes']['length'] == result['transposed']['length'] == 1
  assert result['exact']['length'] == 0

  # The same song two lower: its waits and noise are as they were.
  text = SONG
  for low, high in ((58, 60), (38, 40), (62, 64), (65, 67)):
    text = text.replace(f'ON_{high}', f'ON_{low}')
  result, = memorisation.measure([song(SONG)], [song(text)], ['low'])
  assert result['transposed'] == {
      'length': 11, 'share': 0.0, 'events': 11, 'notes': 5, 'pitches': 5,
      'seconds': 2.2, 'at': 0.0, 'song_at': 0.0, 'shift': 2, 'song': 'low'}
  assert result['notes']['length'] == 5
  assert result['notes']['at'] == 1.0
  # Unshifted, the end is the same.
  assert result['exact'] == {
      'length': 3, 'share': 0.0, 'events': 3, 'notes': 0, 'pitches': 0,
      'seconds': 0.2, 'at': 2.0, 'song_at': 2.0, 'shift': 0, 'song': 'low'}


def shifted(events: np.ndarray, by: int) -> np.ndarray:
  """Moves all of P1, P2 and TR; a note that leaves its range stays away."""
  names = []
  for name in ev.to_text(events).split('\n'):
    voice, _, pitch = name.partition('_NOTEON_')
    names.append(f'{voice}_NOTEON_{int(pitch) + by}'
                 if pitch and voice != 'NO' else name)
  return ev.from_text('\n'.join(names))


@pytest.fixture(scope='module')
def real_corpus(real_data):
  """Some songs of NES-MDB, (songs, names)."""
  songs = {}
  archive = real_data / 'nesmdb_midi_train_valid.tar.xz'
  with tarfile.open(archive, 'r|xz') as members:
    for member in members:
      if member.isfile():
        song = ev.TX1.project(nes_midi.read(members.extractfile(member).read()))
        if len(song) > 400:
          songs[pathlib.PurePath(member.name).stem] = song
      if len(songs) == 40:
        return list(songs.values()), list(songs)


def test_planted_copies_are_found_where_they_are(real_corpus):
  rng = np.random.default_rng(3)
  corpus, names = real_corpus
  for n, by in ((200, 0), (150, 2), (40, -3)):
    which = int(rng.integers(len(corpus)))
    source = corpus[which]
    start = int(rng.integers(len(source) - n))
    copy = source[start:start + n]
    if by:
      copy = shifted(copy, by)
    # Nothing real around it.
    around = [random_song(rng, 100), random_song(rng, 80)]
    fake = np.concatenate([around[0], copy, around[1]])
    result, = memorisation.measure([fake], corpus, names)
    found = result['transposed']
    assert found['length'] >= n and found['shift'] == by
    assert found['song'] == names[which]
    at = np.maximum(around[0], 0).sum() / 44100
    assert abs(found['at'] - at) < 0.1
    assert found['share'] == pytest.approx(found['length'] / len(fake))
    assert result['exact']['length'] >= n if not by else (
        result['exact']['length'] < n)
    # Other times: what is left of it are its notes.
    slower = np.where(fake > 0, fake * 3 // 2, fake)
    slow, = memorisation.measure([slower], corpus, names)
    assert slow['notes']['notes'] == result['notes']['notes']
    assert slow['notes']['song'] == names[which]
    assert slow['exact']['length'] < 40
    # The pulse voices change places: the melody is still there.
    if n == 200:
      swapped = ev.to_text(slower).replace('P1', 'P0').replace(
          'P2', 'P1').replace('P0', 'P2')
      other, = memorisation.measure([ev.from_text(swapped)], corpus, names)
      assert other['melody']['length'] == slow['melody']['length'] > 16
