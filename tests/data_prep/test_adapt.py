"""General MIDI -> instruments -> songs for the chip, against literal events."""

import io

import mido
import numpy as np
import pytest

from data_prep import adapt
from lakhnes_jax import events as ev
from lakhnes_jax.data import arrangement
from lakhnes_jax.data.arrangement import NONE, PITCH
from lakhnes_jax.formats import general_midi

SECOND = ev.SAMPLE_RATE


def midi_bytes(*tracks, ticks_per_beat=480, kind=1):
  """Tracks of (tick, mido message) -> the bytes of a file."""
  midi = mido.MidiFile(type=kind, ticks_per_beat=ticks_per_beat)
  for rows in tracks:
    track, now = mido.MidiTrack(), 0
    for tick, message in rows:
      track.append(message.copy(time=tick - now))
      now = tick
    midi.tracks.append(track)
  buffer = io.BytesIO()
  midi.save(file=buffer)
  return buffer.getvalue()


def on(note, velocity=64, channel=0):
  return mido.Message('note_on', note=note, velocity=velocity, channel=channel)


def off(note, channel=0):
  return mido.Message('note_off', note=note, channel=channel)


def program(number, channel=0):
  return mido.Message('program_change', program=number, channel=channel)


def tempo(microseconds):
  return mido.MetaMessage('set_tempo', tempo=microseconds)


def player(*notes, drums=False):
  """Instrument with notes of (start, end, pitch, velocity)."""
  return general_midi.Instrument(0, drums, np.array(notes, np.int64))


def scale(lowest, n=6):
  """Instrument with a note of a second at each second, rising."""
  return player(*[(i * SECOND, (i + 1) * SECOND, lowest + i, 127)
                  for i in range(n)])


class TestRead:

  def test_times_follow_tempo_changes_of_the_first_track(self):
    # 480 ticks are 0.5 s, from tick 480 on 1 s.
    data = midi_bytes(
        [(480, tempo(1000000))],
        [(0, tempo(1)), (0, on(60)), (240, off(60)), (480, on(62, 1)),
         (960, off(62)), (961, on(64)), (1441, off(64))])
    (only,) = general_midi.read(data)
    np.testing.assert_array_equal(only.notes, [
        [0, 11025, 60, 64], [22050, 66150, 62, 1], [66242, 110342, 64, 64]])

  def test_instruments_are_programs_of_channels_of_tracks(self):
    data = midi_bytes(
        [(0, program(5)), (0, on(60)), (10, off(60)), (10, on(61)),
         (15, program(6)), (20, off(61))],
        [(0, on(62, channel=9)), (10, off(62, channel=9)), (10, on(63)),
         (20, off(63))])
    assert [(i.program, i.is_drum, i.notes[:, PITCH].tolist())
            for i in general_midi.read(data)] == [
                (5, False, [60]), (6, False, [61]), (0, True, [62]),
                (0, False, [63])]

  def test_a_note_off_ends_all_of_its_pitch_begun_before(self):
    (only,) = general_midi.read(midi_bytes(
        [(0, on(60)), (48, on(60, 99)), (96, on(60, 98)), (96, off(60)),
         (96, off(61)), (144, off(60)), (192, on(60))], ticks_per_beat=48))
    np.testing.assert_array_equal(only.notes, [
        [0, 44100, 60, 64], [22050, 44100, 60, 99], [44100, 66150, 60, 98]])

  @pytest.mark.parametrize(('data', 'reason'), [
      (b'', 'MIDI'), (b'RIFF' * 9, 'MIDI'),
      (midi_bytes([(0, on(60))])[:-3], 'MIDI'),
      (midi_bytes([(0, tempo(0))]), 'tempo'),
      (midi_bytes([(0, on(60)), (10**7 + 1, off(60))]), 'too long'),
      (midi_bytes([(0, on(60))]).replace(b'\x01\xe0', b'\xe7\x28', 1),
       'division')])
  def test_damage_has_a_reason(self, data, reason):
    with pytest.raises(ValueError, match=reason):
      general_midi.read(data)

  def test_file_without_notes(self):
    assert general_midi.read(midi_bytes([(0, tempo(500000))])) == []


class TestEnsemble:

  def test_keeps_monophonic_instruments_in_range_once(self):
    low, high = scale(10), scale(109)  # 10 .. 15 and 109 .. 114.
    edge = scale(105)  # 105 .. 110: partly inside.
    chord = player((0, 10 * SECOND, 60, 1), (SECOND, 2 * SECOND, 61, 1))
    late = player(*[(s + 100, e + 100, p, 5) for s, e, p, _ in
                    scale(60).notes.tolist()])  # 2 ms later: the same.
    other = player(*[(s + 4410, e + 4410, p, 5) for s, e, p, _ in
                     scale(60).notes.tolist()])
    drums = player((0, 9, 36, 1), (0, 9, 38, 1), drums=True)
    kept = adapt.select_instruments(
        [low, chord, scale(60), high, edge, late, drums, other])
    assert [notes is i.notes for notes, i in
            zip(kept.melodic, (scale(60), edge, other), strict=True)][1:] == [
                True, True]
    np.testing.assert_array_equal(kept.melodic[0], scale(60).notes)
    assert len(kept.drums) == 1

  @pytest.mark.parametrize(('instruments', 'reason'), [
      ([], 'shorter than 5 s'), ([scale(60, 4)], 'shorter than 5 s'),
      ([scale(60), player((0, 601 * SECOND, 60, 1))], 'longer than 600 s'),
      ([scale(120, 6)], 'no monophonic'),
      ([player((0, 0, 60, 1), (6 * SECOND, 6 * SECOND, 60, 1))],
       'no monophonic'),
      ([scale(60)._replace(is_drum=True)], 'no monophonic')])
  def test_reasons(self, instruments, reason):
    with pytest.raises(ValueError, match=reason):
      adapt.select_instruments(instruments)

  def test_exact_limits_are_inside(self):
    assert adapt.select_instruments([player((0, 5 * SECOND, 21, 1))])
    assert adapt.select_instruments([player((0, 600 * SECOND, 108, 1))])


class TestPlacements:

  @pytest.mark.parametrize(('n_melodic', 'count'), [
      (1, 3), (2, 6), (3, 6), (4, 24), (5, 60)])
  def test_all_are_found_when_there_is_room(self, n_melodic, count):
    ways = adapt.placements(n_melodic, np.random.default_rng(0), 100)
    assert len(set(ways)) == len(ways) == count
    for way in ways:
      players = [who for who in way if who != NONE]
      assert len(set(players)) == len(players) == min(3, n_melodic)
      assert set(players) <= set(range(n_melodic))

  def test_a_limit_draws_at_random(self):
    rng = np.random.default_rng(0)
    counts = {}
    for _ in range(600):
      ways = adapt.placements(4, rng, 16)
      assert len(set(ways)) == 16
      for way in ways:
        counts[way] = counts.get(way, 0) + 1
    assert len(counts) == 24
    # Each is drawn 400 times of 600, with a standard deviation of 12.
    assert 340 < min(counts.values()) <= max(counts.values()) < 460

  def test_of_many_instruments_a_random_32_are_left(self):
    ways = adapt.placements(40, np.random.default_rng(0), 10**6)
    assert len(ways) == 32 * 31 * 30
    left = set(np.unique(ways).tolist())
    assert len(left) == 32
    assert left != set(range(32))


class TestExamples:

  def make(self, players, seed=0, limit=16):
    return adapt.examples(adapt.select_instruments(players),
                          np.random.default_rng(seed), limit)

  def test_differ_by_placement_and_drums(self):
    drums = player(*[(i * 1000, i * 1000 + 500, 35 + i, 100)
                     for i in range(40)], drums=True)
    songs = self.make([scale(50), scale(60), scale(70), scale(80), drums])
    assert len(songs) == 16
    kits = set()
    for events in songs:
      noise = ev.value_of(events)[(ev.voice_of(events) == ev.NO) &
                                  (ev.kind_of(events) == ev.NOTEON)]
      assert len(noise) == 40
      kits.add(noise.tobytes())
    assert len(kits) == 16  # Redrawn for each example.
    leads = {tuple(ev.value_of(e)[(ev.voice_of(e) == voice) &
                                  (ev.kind_of(e) == ev.NOTEON)][0]
                   for voice in (ev.P1, ev.P2, ev.TR)) for e in songs}
    assert len(leads) == 16

  def test_equal_for_equal_randomness(self):
    players = [scale(50), scale(60), scale(70), scale(80)]
    one, two, three = ([e.tobytes() for e in self.make(players, seed)]
                       for seed in (1, 1, 2))
    assert one == two != three

  def test_silence_is_left_out(self):
    # A note 21 can only be played by TR.
    assert len(self.make([player((0, 6 * SECOND, 21, 1))])) == 1


class TestContentHash:

  def test_is_of_the_notes(self):
    a, b = scale(60).notes, scale(50).notes
    shift = np.array([500, 500, 0, 0])

    def hashes(*songs):
      return {adapt.content_hash(arrangement.Instruments(*song))
              for song in songs}

    assert len(hashes(((a, b), ()), ((b, a), ()),
                      ((b + shift, a + shift), ()))) == 1
    assert len(hashes(((a, b), ()), ((a, b + shift), ()),
                      ((a, b - [0, 0, 0, 1]), ()), ((a,), ()), ((a, a), ()),
                      ((b,), (a,)))) == 6

  def test_what_the_chip_cannot_play_makes_no_other_song(self):
    one = adapt.select_instruments([scale(60)])
    chords = player((0, 2 * SECOND, 60, 64), (SECOND, 3 * SECOND, 64, 64))
    assert adapt.content_hash(one) == adapt.content_hash(
        adapt.select_instruments([chords, scale(60)._replace(program=9)]))
