"""The composed corpora: lawful, musical by rule, the same for a seed."""

import collections
import io
import itertools

import mido
import numpy as np
import pytest

from data_prep import compose, compose_chip, compose_web, music, styles
from lakhnes_jax import events as ev
from lakhnes_jax.formats import nes_midi

MAJOR, HARMONIC_AND_NATURAL_MINOR = {0, 2, 4, 5, 7, 9, 11}, {
    0, 2, 3, 5, 7, 8, 10, 11}


def songs_of(style, n=12, tonic=4, tempo=120):
  return [music.compose(np.random.default_rng(i), styles.STYLES[style], tonic,
                        tempo) for i in range(n)]


@pytest.fixture(scope='module', params=list(styles.STYLES))
def songs(request):
  return songs_of(request.param)


@pytest.fixture(scope='module')
def files():
  return [compose_web.compose(np.random.default_rng(i)) for i in range(24)]


@pytest.fixture(scope='module')
def games():
  return [compose_chip.compose_game(np.random.default_rng(i), i)
          for i in range(3)]


class TestMusic:

  def test_parts_are_monophonic_and_end_with_the_song(self, songs):
    for song in songs:
      for name in music.MELODIC_PARTS:
        notes = song.parts[name]
        for one, following in itertools.pairwise(notes):
          assert one.length > 0
          assert one.start + one.length <= following.start
        assert all(n.start + n.length <= song.length for n in notes)
      assert song.length / styles.TICKS * 60 / song.tempo < 65

  def test_no_part_leaves_its_register(self, songs):
    for song in songs:
      fugue = song.style.name == 'fugue'
      for name, low, high in (
          ('lead', 55 if fugue else 50, 96 if fugue else 86),
          ('harmony', 43, 84), ('bass', 31 if fugue else 36, 72),
          ('arpeggio', 48, 77)):
        assert all(low <= n.pitch <= high for n in song.parts[name]), name

  def test_the_lead_is_above_and_the_bass_below(self, songs):
    for song in songs:
      lead, harmony, bass = (
          np.median([n.pitch for n in song.parts[name]])
          for name in ('lead', 'harmony', 'bass'))
      assert lead > harmony > bass

  def test_ends_on_the_tonic(self, songs):
    for song in songs:
      assert song.parts['lead'][-1].pitch % 12 == 4
      assert song.parts['bass'][-1].pitch % 12 == 4

  def test_a_motif_comes_back_and_a_phrase_ends_long(self, songs):
    for song in songs:
      if song.style.name == 'fugue':
        continue
      bar = song.style.bar
      bars = collections.defaultdict(list)
      for note in song.parts['lead']:
        bars[note.start // bar].append((note.start % bar, note.length))
      first = min(bars)
      for phrase in (first, first + 4):
        assert bars[phrase] == bars[phrase + 2]
        assert bars[phrase + 3] == [(0, bar - styles.TICKS)]

  def test_notes_are_of_the_key(self):
    for style in ('march', 'waltz', 'ballad'):
      for song in songs_of(style):
        degrees = {(note.pitch - 4) % 12 for name in music.MELODIC_PARTS
                   for note in song.parts[name]}
        assert degrees <= MAJOR or degrees <= HARMONIC_AND_NATURAL_MINOR

  def test_beats_are_consonant(self):
    # On a beat, a third or a sixth between lead and harmony.
    intervals = [
        (lead.pitch - harmony.pitch) % 12
        for song in songs_of('march') + songs_of('waltz')
        for lead, harmony in zip(song.parts['lead'], song.parts['harmony'],
                                 strict=True)
        if lead.start % styles.TICKS == 0]
    assert np.isin(intervals, (3, 4, 8, 9)).mean() > .97

  def test_fugue_answers_its_subject(self):
    # Each voice enters with the same rhythm, two bars after the one before.
    for song in songs_of('fugue'):
      bar = song.style.bar
      heads = []
      for name in ('lead', 'harmony', 'bass'):
        first = song.parts[name][0].start // (2 * bar) * 2 * bar
        heads.append((first, [n.start - first for n in song.parts[name]
                              if first <= n.start < first + 2 * bar]))
      heads.sort()
      assert [first for first, _ in heads] == [0, 2 * bar, 4 * bar]
      assert heads[0][1] == heads[1][1] == heads[2][1]


class TestWeb:

  def test_is_general_midi(self, files):
    with_drums = 0
    for title, midi in files:
      buffer = io.BytesIO()
      midi.save(file=buffer)
      read = mido.MidiFile(file=io.BytesIO(buffer.getvalue()))
      assert read.tracks[0].name == title
      assert 25 < read.length < 65
      channels = {m.channel for m in read if m.type == 'note_on'}
      assert len(channels - {9}) >= 2
      with_drums += 9 in channels
      starts = sum(m.type == 'note_on' for m in read)
      assert starts == sum(m.type == 'note_off' for m in read)
    assert 6 < with_drums < 24

  def test_styles_are_all_there(self, files):
    assert {title.split()[0] for title, _ in files} == set(styles.STYLES)


class TestChip:

  def test_survives_its_midi_file(self, games):
    for _, song in games[0]:
      np.testing.assert_array_equal(nes_midi.read(nes_midi.write(song)), song)

  def test_driver_works_sixty_times_a_second(self, games):
    for _, song in (named for game in games for named in game):
      times = ev.times_of(song)[song < 0]
      assert (times % 735).max() <= 3 * 7
      assert len(np.unique(times // 735)) > 100
      assert times[-1] <= ev.times_of(song)[-1]

  def test_has_dynamics(self, games):
    for _, song in (named for game in games for named in game):
      kinds, voices = ev.kind_of(song), ev.voice_of(song)
      for voice in (ev.P1, ev.P2):
        notes = ((kinds == ev.NOTEON) & (voices == voice)).sum()
        assert ((kinds == ev.VELOCITY) & (voices == voice)).sum() >= notes > 0
        assert ((kinds == ev.TIMBRE) & (voices == voice)).sum() == 1

  def test_names_are_like_those_of_nes_mdb(self, games):
    names = [name for game in games for name, _ in game]
    assert names[:2] == ['000_TurnipQuest_00_01TitleScreen',
                         '000_TurnipQuest_01_02Overworld']
    assert len(set(names)) == 18


def run(folder, *flags):
  assert compose.main([f'--out={folder}', '--web=2', '--chip=7', *flags]) == 0
  return {path.relative_to(folder).as_posix(): path.read_bytes()
          for path in folder.rglob('*.mid')}


@pytest.fixture(scope='module')
def made(tmp_path_factory):
  return run(tmp_path_factory.mktemp('made'))


class TestCommand:

  def test_the_seed_decides_all(self, made, tmp_path, capsys):
    assert run(tmp_path / 'a') == made
    assert '2 songs' in capsys.readouterr().out
    other = run(tmp_path / 'b', '--seed=1', '--chip=1')
    assert not set(made.values()) & set(other.values())

  def test_layout(self, made):
    names = sorted(made)
    folders = [name.rpartition('/')[0] for name in names]
    assert {f: folders.count(f) for f in folders} == {
        'web': 2, 'chip/train': 7, 'chip/valid': 2, 'chip/test': 2}
    games = {split: {name.split('/')[2][:3] for name in names
                     if name.startswith(f'chip/{split}')}
             for split in compose.SPLITS}
    assert games == {'train': {'000', '001'}, 'valid': {'002'},
                     'test': {'003'}}

  def test_bad_flags(self, capsys):
    with pytest.raises(SystemExit):
      compose.main(['--out=x', '--seed=-1'])
    assert '--seed: a whole number from 0' in capsys.readouterr().err
