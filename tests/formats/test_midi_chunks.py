"""What other readers take: files that break the standard are mended.

Files are built byte by byte; what is right is the song of the sound one.
"""

import numpy as np
import pytest

from lakhnes_jax import events as ev
from lakhnes_jax.formats import general_midi, midi_chunks, nes_midi

# Ticks are samples. Note 60 for 20,000 of them, 500 later note 62.
WAIT = b'\x81\x9c\x20'  # 20,000.
NAME = b'\x00\xff\x03\x02p1'
NOTES = (b'\x87\x68\x90\x3c\x0a', WAIT + b'\x80\x3c\x00',
         b'\x83\x74\x90\x3e\x0a', WAIT + b'\x80\x3e\x00')
END = b'\x00\xff\x2f\x00'
TEMPO = b'\x00\xff\x51\x03\x07\xa1\x20'
SONG = ('WT_1000 P1_NOTEON_60 P1_VELOCITY_10 WT_20000 P1_NOTEOFF WT_500 '
        'P1_NOTEON_62 P1_VELOCITY_10 WT_20000 P1_NOTEOFF')


def chunk(data, name=b'MTrk', size=None):
  size = len(data) if size is None else size
  return name + size.to_bytes(4, 'big') + data


def smf(*chunks, kind=1, count=2, division=22050):
  return chunk(b''.join(x.to_bytes(2, 'big') for x in (kind, count, division)),
               b'MThd') + b''.join(chunks)


def voice(*extra, between=0, name=NAME, end=END):
  """The track of P1 with more events after some of its notes."""
  return b''.join((name, *NOTES[:between], *extra, *NOTES[between:], end))


def song_of(data):
  return ev.to_text(nes_midi.read(data)).replace('\n', ' ')


HEAD = chunk(TEMPO + END)


def test_a_sound_file():
  data = smf(HEAD, chunk(voice()))
  assert song_of(data) == SONG
  strict, mended = (nes_midi.parse(data, strict).tracks
                    for strict in (True, False))
  assert [list(track) for track in strict] == [list(track) for track in mended]


@pytest.mark.parametrize('event', [
    b'\xff\x59\x02\x20\x00', b'\xff\x59\x00', b'\xff\x58\x01\x04',  # Keys.
    b'\xff\x54\x01\x00', b'\xff\x20\x00', b'\xff\x00\x01\x00',  # Short ones.
    b'\xff\x7f\x88\x4c' + b'\xff' * 1100,  # A sequencer's own.
    b'\xff\x05\x89\x30' + 'あいう'.encode()[:3] * 400,  # Lyrics.
    b'\xff\x51\x00', b'\xff\x60\x00',  # A tempo of nothing; unknown.
    b'\xb0\x07\xff', b'\xe0\xff\xff', b'\xb0\xff\x00',
    b'\xf0\x05\x7e\xff\x09\x01\xf7', b'\xf7\x02\xf3\x01', b'\xf7\x00',
    b'\xf8', b'\xfe', b'\xf1\x00', b'\xf2\x00\x00', b'\xf3\x00', b'\xf6',
    b'\xf4', b'\xa0\x3c\x40', b'\xd0\x40',
], ids=lambda event: event[:5].hex())
@pytest.mark.parametrize('between', [0, 1, 4])
def test_events_that_nobody_uses(event, between):
  assert song_of(smf(HEAD, chunk(
      voice(b'\x00' + event, between=between)))) == SONG


def test_the_times_of_what_is_dropped_count():
  track = NAME + b'\x83\x74\xf8' + b'\x83\x74\x90\x3c\x0a' + b''.join(
      NOTES[1:]) + END
  assert song_of(smf(HEAD, chunk(track))) == SONG


def test_values_above_127_of_notes_are_127():
  track = NAME + b'\x00\x90\x3c\xff\x00\x90\x3c\x00' + END
  on, off = nes_midi.parse(smf(chunk(track))).tracks[0][1:3]
  assert (on.velocity, off.velocity) == (127, 0)


@pytest.mark.parametrize('event', [
    b'\x00\xf0\x05\x7e\x7f\x09\x01\xf7', b'\x00\xff\x01\x01x',
    b'\x00\xf7\x01\xf6', b'\x00\xf8'])
def test_running_status_outlasts_what_stands_between(event):
  """Never a note of 40,000: the second message is a note-off."""
  track = (NAME + NOTES[0] + event + WAIT + b'\x3c\x00' + b'\x83\x74\x3e\x0a' +
           event + WAIT + b'\x3e\x00' + END)
  assert song_of(smf(HEAD, chunk(track))) == SONG


@pytest.mark.parametrize('data', [
    smf(chunk(b'odd bytes', b'XFIH'), HEAD, chunk(voice())),
    smf(HEAD, chunk(b'MTrk' * 5, b'XFKM'), chunk(voice()), chunk(b'', b'abcd')),
    smf(HEAD, chunk(voice()), count=3), smf(HEAD, chunk(voice()), count=1),
    smf(HEAD, chunk(voice()), count=0),
    smf(HEAD, chunk(voice(), size=len(voice()) + 3)),
    smf(chunk(TEMPO + END, size=14), chunk(voice())),
    smf(chunk(TEMPO + END, size=9), chunk(voice())),
    smf(HEAD, chunk(voice(), size=10)), smf(HEAD, chunk(voice(), size=0)),
    smf(HEAD, chunk(voice(), size=2**32 - 1)),
    smf(HEAD, chunk(voice(end=b''))), smf(chunk(voice(end=b'')), HEAD),
    smf(HEAD, chunk(voice(end=b'\x00'))),
    smf(HEAD, chunk(voice())) + b'\r\n', smf(HEAD, chunk(voice()), kind=0),
    smf(HEAD, chunk(voice(name=b'\x00\xff\x03\x04p1\0 '))),
    smf(HEAD, chunk(voice() + b'\x00\x90\x3c')),  # Behind the end of a track.
], ids=range(18))
def test_chunks(data):
  assert song_of(data) == SONG


def test_riff():
  plain = smf(HEAD, chunk(voice()))
  info = b'LIST' + (5).to_bytes(4, 'little') + b'INFO!' + b'\0'
  body = b'RMID' + info + b'data' + len(plain).to_bytes(4, 'little') + plain
  data = b'RIFF' + len(body).to_bytes(4, 'little') + body + b'\0'
  assert song_of(data) == SONG
  with pytest.raises(ValueError, match='without a MIDI file'):
    nes_midi.read(data.replace(b'data', b'atad'))


@pytest.mark.parametrize('data, reason', [
    (smf(HEAD, chunk(voice()), division=0), 'time division of 0'),
    (smf(chunk(b'\x00\xff\x51\x03\0\0\0' + END), chunk(voice())), 'tempo of 0'),
    (smf(HEAD, chunk(voice()))[:-9], 'ends too early'),
    (smf(HEAD, chunk(voice()))[:-3], 'ends too early'),
    (smf(), 'no tracks'), (smf(HEAD)[:13], 'ends too early'),
    (smf(chunk(b'\x00\x3c\x00')), 'data without a status at byte 0x17|23'),
    (smf(chunk(b'\xff' * 2000)), 'a number that does not end'),
    (smf(*[chunk(END)] * 40000), '40000 tracks'),
])
def test_what_cannot_be_mended(data, reason):
  with pytest.raises(ValueError, match=reason):
    nes_midi.read(data)


def test_strict_refuses_what_the_original_refused():
  """Lakh's rules are the paper's: mido as pretty_midi called it."""
  for event in (b'\xff\x59\x02\x20\x00', b'\xb0\x07\xff', b'\xff\x58\x00'):
    data = smf(HEAD, chunk(voice(b'\x00' + event)))
    with pytest.raises(ValueError, match='not a readable MIDI file'):
      general_midi.read(data, strict=True)
    (instrument,) = general_midi.read(data)
    np.testing.assert_array_equal(
        instrument.notes, [[1000, 21000, 60, 10], [21500, 41500, 62, 10]])


def test_mutated_files_are_mended_or_have_a_reason():
  rng = np.random.default_rng(5)
  good = smf(HEAD, chunk(voice()))
  n_read = 0
  for _ in range(2000):
    data = bytearray(good)
    for place in rng.integers(0, len(data), rng.integers(1, 5)):
      data[place] = rng.integers(256)
    try:
      mended = midi_chunks.mend(bytes(data[:rng.integers(20, 200)]))
    except ValueError as error:
      assert str(error)
      continue
    n_read += 1
    assert midi_chunks.mend(mended) == mended
    nes_midi.parse(mended, strict=True)  # Any parser takes it.
  assert 100 < n_read < 1900
