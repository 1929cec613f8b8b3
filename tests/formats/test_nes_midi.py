"""NES-MDB MIDI against the original's text, by hand, and by ear (scores)."""

import hashlib
import io
import tarfile

import mido
import numpy as np
import pytest

from lakhnes_jax import events as ev
from lakhnes_jax.formats import nes_midi
from lakhnes_jax.synth import score


def song_of(text):
  return ev.from_text(text.replace(' ', '\n'))


def text_of(song):
  return ev.to_text(song).replace('\n', ' ')


def midi_of(tracks, meta=(), ticks_per_beat=22050, kind=1):
  """Bytes of a file; tracks: name -> messages with absolute ticks."""
  midi = mido.MidiFile(type=kind, ticks_per_beat=ticks_per_beat)
  for name, messages in [(None, meta), *tracks.items()]:
    track, now = mido.MidiTrack(), 0
    if name is not None:
      track.append(mido.MetaMessage('track_name', name=name))
    for message in messages:
      track.append(message.copy(time=message.time - now))
      now = message.time
    midi.tracks.append(track)
  buffer = io.BytesIO()
  midi.save(file=buffer)
  return buffer.getvalue()


def note(time, pitch, velocity=0):
  return mido.Message('note_on', time=time, note=pitch, velocity=velocity)


def control(time, number, value):
  return mido.Message('control_change', time=time, control=number, value=value)


def end(time):
  return mido.MetaMessage('time_signature', time=time, numerator=1,
                          denominator=1)


TINY = song_of(
    'P1_NOTEON_60 P1_VELOCITY_15 P1_TIMBRE_2 TR_NOTEON_33 WT_10 '
    'P1_VELOCITY_7 NO_NOTEON_16 NO_VELOCITY_3 NO_TIMBRE_1 WT_5 '
    'P1_NOTEON_60 P1_VELOCITY_7 WT_200 P1_NOTEOFF TR_NOTEOFF NO_NOTEOFF '
    'P1_TIMBRE_0 WT_1000')
# In the order in which the tracks say it.
TINY = np.concatenate([TINY[:-4], song_of('P1_TIMBRE_0 TR_NOTEOFF NO_NOTEOFF'),
                       TINY[-1:]])


def test_reads_a_file_made_by_hand():
  data = midi_of({
      'p1': [control(0, 12, 2), note(0, 60, 15), control(10, 11, 7),
             note(15, 60), note(15, 60, 7), control(215, 12, 0),
             note(215, 60)],
      'tr': [note(0, 33, 1), note(215, 33)],
      'no': [control(10, 12, 1), note(10, 16, 3), note(215, 16)],
  }, [end(0), end(1215)])
  assert text_of(nes_midi.read(data)) == text_of(TINY)


def test_writes_the_layout_literally():
  midi = mido.MidiFile(file=io.BytesIO(nes_midi.write(TINY)))
  assert (midi.type, midi.ticks_per_beat) == (1, 22050)
  assert [track.name for track in midi.tracks] == ['', 'p1', 'p2', 'tr', 'no']
  assert [str(m) for m in midi.tracks[1]][1:] == [
      'program_change channel=0 program=80 time=0',
      'control_change channel=0 control=12 value=2 time=0',
      'note_on channel=0 note=60 velocity=15 time=0',
      'control_change channel=0 control=11 value=7 time=10',
      'note_on channel=0 note=60 velocity=0 time=5',
      'note_on channel=0 note=60 velocity=7 time=0',
      'control_change channel=0 control=12 value=0 time=200',
      'note_on channel=0 note=60 velocity=0 time=0',
      "MetaMessage('end_of_track', time=1)"]
  assert [(m.channel, m.program) for track in midi.tracks[1:] for m in track
          if m.type == 'program_change'] == [(0, 80), (1, 81), (2, 38),
                                             (9, 121)]
  tempo, first, last, _ = midi.tracks[0]
  assert tempo.tempo == 500000 and tempo.time == first.time == 0
  assert (last.numerator, last.denominator, last.time) == (1, 1, 1215)
  assert [m.velocity for m in midi.tracks[3] if m.type == 'note_on'] == [1, 0]


def test_text_of_the_oracle_songs(oracles):
  paths = sorted((oracles / 'audio').glob('*.mid'))
  assert paths
  for path in paths:
    song = nes_midi.read(path)
    for vocabulary in (ev.TX1, ev.TX2):
      expected = path.with_suffix(f'.{vocabulary.name}.txt').read_text()
      assert ev.to_text(vocabulary.project(song)) == expected.rstrip('\n')
    assert nes_midi.write(song) == path.read_bytes()


def read_digests(oracles):
  """Song -> (TX1 events, TX1 digest, TX2 events, TX2 digest)."""
  text = (oracles / 'events' / 'nesmdb_tx_digests.tsv').read_text()
  rows = (line.split('\t') for line in text.splitlines()[1:])
  return {row[0]: row[1:] for row in rows}


def real_songs(archive):
  """Yields name and bytes of each file of NES-MDB."""
  with tarfile.open(archive) as tar:
    for member in tar:
      if member.isfile() and member.name.endswith('.mid'):
        path = member.name.removesuffix('.mid').split('/')
        yield '/'.join(path[-2:]), tar.extractfile(member).read()


def check_digests(song, row):
  for vocabulary, (n_events, digest) in zip((ev.TX1, ev.TX2),
                                            (row[:2], row[2:]), strict=True):
    projected = vocabulary.project(song)
    assert len(projected) == int(n_events)
    text = ev.to_text(projected).encode()
    assert hashlib.sha256(text).hexdigest() == digest


def check_round_trip(song, data):
  written = nes_midi.write(song)
  np.testing.assert_array_equal(nes_midi.read(written), song)
  # The file itself comes back, but for the timbre of a voice without notes.
  voices = set(ev.voice_of(song[ev.kind_of(song) == ev.NOTEON]))
  if voices == {0, 1, 2, 3}:
    assert written == data


def test_a_sample_of_nesmdb_equals_the_original(oracles, real_data):
  digests = read_digests(oracles)
  chosen = set(sorted(digests)[::80])
  archive = real_data / 'nesmdb_midi_train_valid.tar.xz'
  n_checked = 0
  for name, data in real_songs(archive):
    if name in chosen:
      song = nes_midi.read(data)
      check_digests(song, digests[name])
      check_round_trip(song, data)
      n_checked += 1
  assert n_checked == len(chosen) == 62


@pytest.mark.slow
def test_all_of_nesmdb_equals_the_original(oracles, real_data):
  digests = read_digests(oracles)
  archive = real_data / 'nesmdb_midi_train_valid.tar.xz'
  for i, (name, data) in enumerate(real_songs(archive)):
    song = nes_midi.read(data)
    check_digests(song, digests.pop(name))
    if i % 40 == 0:
      check_round_trip(song, data)
  assert not digests


def test_noteoff_is_left_out_before_a_note_at_the_same_sample():
  data = midi_of({'p2': [note(0, 60, 1), note(9, 64, 2), note(9, 60),
                         note(20, 64), note(30, 64, 3), note(31, 64)]})
  assert text_of(nes_midi.read(data)) == (
      'P2_NOTEON_60 P2_VELOCITY_1 WT_9 P2_NOTEON_64 P2_VELOCITY_2 WT_11 '
      'P2_NOTEOFF WT_10 P2_NOTEON_64 P2_VELOCITY_3 WT_1 P2_NOTEOFF')


def test_a_new_note_ends_the_one_before():
  data = midi_of({'p1': [note(0, 60, 1), note(9, 64, 2), note(12, 60),
                         note(20, 64)]})
  assert text_of(nes_midi.read(data)) == (
      'P1_NOTEON_60 P1_VELOCITY_1 WT_9 P1_NOTEON_64 P1_VELOCITY_2 WT_11 '
      'P1_NOTEOFF')


def test_a_note_without_end_lasts_to_the_end():
  data = midi_of({'tr': [note(0, 60, 1)]}, [end(50)])
  assert text_of(nes_midi.read(data)) == 'TR_NOTEON_60 WT_50 TR_NOTEOFF'


def test_a_voice_without_notes_says_nothing():
  data = midi_of({'p1': [control(3, 12, 2)], 'no': [note(5, 1, 1),
                                                     note(6, 1)]}, [end(9)])
  assert text_of(nes_midi.read(data)) == (
      'WT_5 NO_NOTEON_1 NO_VELOCITY_1 WT_1 NO_NOTEOFF WT_3')


def test_of_controls_at_one_sample_the_last_counts():
  data = midi_of({'p1': [control(0, 11, 9), note(0, 60, 15), control(4, 11, 7),
                         control(4, 12, 3), control(4, 12, 1),
                         control(4, 11, 3), note(9, 60)]})
  assert text_of(nes_midi.read(data)) == (
      'P1_NOTEON_60 P1_VELOCITY_9 WT_4 P1_VELOCITY_3 P1_TIMBRE_1 WT_5 '
      'P1_NOTEOFF')


def test_note_off_messages_names_in_capitals_and_foreign_controls():
  data = midi_of({
      ' P1 ': [note(0, 60, 4), control(2, 7, 99),
               mido.Message('note_off', note=60, time=8), control(500, 64, 0)],
      'Lyrics': [mido.MetaMessage('lyrics', text='la')],
      'tr': [note(2, 50, 127), control(3, 11, 0), note(8, 50)]})
  assert text_of(nes_midi.read(data)) == (
      'P1_NOTEON_60 P1_VELOCITY_4 WT_2 TR_NOTEON_50 WT_6 P1_NOTEOFF '
      'TR_NOTEOFF')


def test_other_tempi_are_rounded_to_samples():
  """480 ticks a beat at 100, then 150, then 120 beats a minute."""
  tempi = [mido.MetaMessage('set_tempo', tempo=600000),
           mido.MetaMessage('set_tempo', tempo=400000, time=480),
           mido.MetaMessage('set_tempo', tempo=500000, time=960)]
  ticks = [1, 479, 481, 960, 1001, 1440, 1500]
  messages = [note(t, 60 + i, 1) for i, t in enumerate(ticks)]
  song = nes_midi.read(midi_of({'p1': messages}, tempi, ticks_per_beat=480))
  onsets = ev.times_of(song)[ev.kind_of(song) == ev.NOTEON]
  seconds = [t * .6 / 480 if t < 480 else .6 + (t - 480) * .4 / 480 if t < 960
             else 1. + (t - 960) * .5 / 480
             for t in ticks[:-1]]  # No time is left for the last.
  assert onsets.tolist() == [round(44100 * s) for s in seconds]


@pytest.mark.parametrize('tracks, reason', [
    ({'p1': [note(7, 20, 3)]},
     'track p1, sample 7: P1_NOTEON_20: legal values are 33 to 108'),
    ({'no': [note(0, 5, 3), control(4, 12, 3), note(9, 5)]},
     'track no, sample 4: NO_TIMBRE_3: legal values are 0 to 1'),
    ({'p2': [note(0, 60, 64)]},
     'track p2, sample 0: P2_VELOCITY_64: legal values are 1 to 15'),
    ({'p1': [note(3, 60, 5), note(3, 64, 5)]},
     'track p1: notes 60 and 64 start at the same sample, 3'),
    ({'Piano': [note(3, 60, 5)], 'p1': []},
     "track 'Piano' has notes, but is not one of p1, p2, tr, no"),
    ({'p1': [note(3, 60, 5)], 'P1': [note(3, 60, 5)]},
     "track 'P1' has notes, but is there twice"),
    ({}, 'no track is named p1, p2, tr, no'),
    ({'tr': [note(2**31, 60, 5)]}, 'longer than 2147483647 samples'),
])
def test_errors_name_track_value_and_range(tracks, reason):
  # A long end, so that notes have time to sound.
  with pytest.raises(ValueError, match=reason):
    nes_midi.read(midi_of(tracks, [end(100)]))


@pytest.mark.parametrize('data, reason', [
    (b'', 'ends too early'), (b'RIFF' + bytes(50), 'MThd not found'),
    (midi_of({'p1': []})[:-3], 'ends too early'),
    (midi_of({'p1': []}, kind=2), 'type 2'),
    (midi_of({'p1': []}, ticks_per_beat=-30), 'SMPTE'),
])
def test_damaged_and_foreign_files(data, reason):
  with pytest.raises(ValueError, match=reason):
    nes_midi.read(data)


def test_a_note_that_never_ends_ends_before_a_timbre_at_the_end():
  song = nes_midi.read(midi_of(
      {'p1': [note(5, 60, 3), control(9, 12, 2)]}, [end(9)]))
  assert ev.to_text(song).split('\n') == [
      'WT_5', 'P1_NOTEON_60', 'P1_VELOCITY_3', 'WT_4', 'P1_NOTEOFF',
      'P1_TIMBRE_2']


def test_mutated_files_give_a_song_or_a_reason():
  rng = np.random.default_rng(8)
  good = nes_midi.write(TINY)
  n_read = 0
  for _ in range(400):
    data = bytearray(good)
    for place in rng.integers(0, len(data), rng.integers(1, 5)):
      data[place] = rng.integers(256)
    try:
      song = nes_midi.read(bytes(data[:rng.integers(len(data) // 2, 999)]))
    except ValueError:
      continue
    n_read += 1
    np.testing.assert_array_equal(nes_midi.read(nes_midi.write(song)), song)
  assert 20 < n_read < 380


def heard(song):
  """State and onset of each voice at each change, timbre of notes only."""
  result = score.from_events(song)
  sounding = result.state[..., score.NOTE] > 0
  state = result.state * sounding[..., None]
  changes = np.r_[True, (state[1:] != state[:-1]).any((1, 2)) |
                  (result.onset & sounding)[1:].any(1)]
  return (result.start[changes].tolist(), state[changes].tolist(),
          (result.onset & sounding)[changes].tolist(), result.length)


@pytest.mark.parametrize('vocabulary', [ev.TX1, ev.TX2], ids=lambda v: v.name)
def test_what_a_model_may_write_sounds_the_same_after_midi(vocabulary):
  rng = np.random.default_rng(3)
  for n in (1, 2, 3, 10, *[150] * 30):
    # Few waits, so that voices are told many things in one instant.
    ids = np.where(rng.random(n) < .3, rng.integers(1, 100, n),
                   rng.integers(371, vocabulary.size, n))
    song = vocabulary.decode(ids)
    again = nes_midi.read(nes_midi.write(song))
    assert heard(again) == heard(song)
    np.testing.assert_array_equal(nes_midi.read(nes_midi.write(again)), again)


@pytest.mark.parametrize('text, expected', [
    ('', ''), ('WT_9', 'WT_9'),
    ('P1_NOTEOFF WT_4 TR_NOTEOFF WT_5', 'WT_9'),  # Off in silence.
    ('TR_NOTEON_40 WT_4 TR_NOTEON_40 WT_5',  # The same note, no off.
     'TR_NOTEON_40 WT_4 TR_NOTEON_40 WT_5 TR_NOTEOFF'),
    ('NO_VELOCITY_3 NO_TIMBRE_1 WT_4 NO_NOTEON_2 WT_5 NO_NOTEOFF',
     'NO_VELOCITY_3 NO_TIMBRE_1 WT_4 NO_NOTEON_2 NO_VELOCITY_3 WT_5 '
     'NO_NOTEOFF'),
    ('P1_NOTEON_40 WT_4 P1_NOTEON_41 P1_NOTEOFF WT_5',  # Too short to hear.
     'P1_NOTEON_40 P1_VELOCITY_15 WT_4 P1_NOTEOFF WT_5'),
    ('P1_NOTEON_40 P1_NOTEON_41 WT_4 P1_NOTEON_50',  # The last one counts.
     'P1_NOTEON_41 P1_VELOCITY_15 WT_4 P1_NOTEOFF'),
    ('TR_NOTEOFF WT_4 WT_3 TR_NOTEON_30 WT_1',
     'WT_7 TR_NOTEON_30 WT_1 TR_NOTEOFF'),
])
def test_odd_songs_literally(text, expected):
  assert text_of(nes_midi.read(nes_midi.write(song_of(text)))) == expected


def test_no_note_is_written_without_time_to_sound():
  song = song_of('P1_NOTEON_40 P1_NOTEOFF P1_NOTEON_41 WT_4 P1_NOTEON_50')
  midi = mido.MidiFile(file=io.BytesIO(nes_midi.write(song)))
  assert [(m.note, m.velocity) for m in midi.tracks[1]
          if m.type == 'note_on'] == [(41, 15), (41, 0)]


def test_a_pause_too_long_for_midi():
  with pytest.raises(ValueError, match='268435456 samples is longer than'):
    nes_midi.write(np.array([2**28], np.int32))
