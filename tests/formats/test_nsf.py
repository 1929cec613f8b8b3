"""NSF files: every write, under py65 and in a player's audio."""

import io
import struct
import tarfile

import numpy as np
import pytest

from data_prep import convert
from experiments.benchmarks import libgme
from lakhnes_jax import events as ev
from lakhnes_jax import render
from lakhnes_jax.formats import nsf, nsf_read, song_files, transcribe, vgm
from lakhnes_jax.formats.player6502 import frames, image, streams
from lakhnes_jax.synth.chip import Chip
from lakhnes_jax.synth.register_log import RegisterLog
from support import console

FRAME = 44100 / 60.0988
LIMIT = 8000  # Cycles of a frame's 29,780 (33,247 on PAL) that songs take here,
LONGEST = 10000  # and that any song can take.


def random_log(seed, n_frames=300, samples=True, dense=0.7, pal=False,
               burst=8):
  """A log of bursts of writes, with repeats, and samples."""
  rng = np.random.default_rng(seed)
  length = 44100 / 50.007 if pal else FRAME
  registers = np.array([*range(16), 0x15, 0x15, 0x17] +
                       [0x10, 0x11, 0x12, 0x13] * samples)
  riff = [[(rng.choice(registers), rng.integers(256))
           for _ in range(rng.integers(burst))] for _ in range(40)]
  rows = []
  for k in range(n_frames):
    if rng.random() < dense:
      part = riff[k % 40] if rng.random() < 0.8 else riff[rng.integers(40)]
      rows += [(int(k * length) + 5 + 3 * i, *write)
               for i, write in enumerate(part)]
  time, register, value = np.array(rows).T
  memory = ()
  assert burst * 3 < length * 0.6
  if samples:
    # As much as fits however many of the samples are played.
    sizes = register == 0x13
    value = np.where(sizes, value & 1, value)
    value = np.where(register == 0x12, value & 3, value)
    memory = ((0, 0xc000, rng.bytes(256)), (len(rows) // 2, 0xc040,
                                            rng.bytes(128)))
  return RegisterLog(time, register.astype(np.uint8),
                         value.astype(np.uint8), int(n_frames * length),
                         1662607 if pal else 1789773, memory)


def check(data, songs, limit):
  """Plays some of the songs: number -> `frames.Frames`."""
  for number, song in songs.items():
    player = console.Console.of_nsf(data)
    writes, _ = player.call(player.init, number, int(song.pal))
    assert writes[-3:] == [(0x15, 0), (0x15, 15), (0x17, 0x40)]
    assert sorted(writes[:-3]) == [(r, 0) for r in range(0x14)]
    most = console.check(player, song, lambda p=player: p.call(p.play))
    assert most < limit


@pytest.mark.parametrize('seed, loop, pal', [
    (0, None, False), (1, 0, False), (2, 50 * FRAME + 2, False),
    (3, None, True), (4, 120.5 * FRAME, False)])
def test_every_write(seed, loop, pal):
  log = random_log(seed, samples=seed != 1, pal=pal)
  loop = None if loop is None else int(loop)
  song = frames.from_log(log, loop)
  assert song.pal == pal and song.loop == (
      None if loop is None else loop // FRAME + 1)
  check(nsf.write(log._replace(loop=loop)), {0: song}, LIMIT)


def test_long_songs_take_banks():
  log = random_log(5, 1500, dense=1, burst=100)._replace(loop=9000)
  rng = np.random.default_rng(0)  # So that nothing repeats.
  value = rng.integers(0, 256, len(log.value)).astype(np.uint8)
  fixed = np.isin(log.register, (0x12, 0x13))
  log = log._replace(value=np.where(fixed, log.value, value))
  data = nsf.write(log)
  assert len(data) > 0x8000 and any(data[0x70:0x78])
  check(data, {0: frames.from_log(log, log.loop)}, LIMIT)


@pytest.mark.parametrize('banked', [False, True])
def test_no_frame_takes_longer(banked, monkeypatch):
  """The longest that tokens can take: whatever a song is, it fits a frame.

  In each frame of each stream there is one record. Here it has four values, is
  reached by as many calls within calls as there may be, all of which it ends,
  and behind a jump.
  """
  write = streams.Token(bytes([0x0f, 1, 2, 3, 4]))
  calls = [streams.Token(b'\xc0', i) for i in range(streams.MAX_DEPTH)]
  jump = streams.Token(b'\xbf', streams.MAX_DEPTH)
  monkeypatch.setattr(image, '_pack', lambda songs, bases, size: (
      [write, *calls, jump], [[len(calls) + 1] * 6]))
  if banked:
    monkeypatch.setattr(image, '_flat', lambda songs, rom: None)
  data = nsf.write(random_log(0, 60, samples=False))
  assert any(data[0x70:0x78]) == banked
  player = console.Console.of_nsf(data)
  player.call(player.init)
  for _ in range(9):
    writes, cycles = player.call(player.play)
    assert len(writes) == 24
    assert 7000 < cycles < LONGEST


def test_an_album():
  logs = [random_log(seed, 120, samples=seed != 7)._replace(
      tags={'title': f'Song {seed}', 'game': 'Game', 'author': 'Ann'},
      loop=seed % 2 * 1000 or None) for seed in range(6, 10)]
  for size in (1, 60):  # With banks, and without.
    data = nsf.write_album(logs * size)
    assert any(data[0x70:0x78]) == (size > 1)
    songs = [frames.from_log(log, log.loop) for log in logs]
    check(data, dict(enumerate(songs, 4 * size - 4)), LIMIT)
    assert data[6:8] == bytes([4 * size, 1])
    assert data[0x0e:0x13] == b'Game\0' and data[0x2e:0x32] == b'Ann\0'
    chunks = metadata(data)
    assert chunks[b'tlbl'].decode().split('\0')[:5] == [
        'Song 6', 'Song 7', 'Song 8', 'Song 9', 'Song 6' * (size > 1)]
    times = np.frombuffer(chunks[b'time'], '<i4')
    np.testing.assert_allclose(times[:2], [2000, 4000], atol=60)


def metadata(data):
  """Chunks behind the program, by https://www.nesdev.org/wiki/NSF2."""
  file = io.BytesIO(data[0x80 + int.from_bytes(data[0x7d:0x80], 'little'):])
  chunks = {}
  while b'NEND' not in chunks:
    size, name = struct.unpack('<I4s', file.read(8))
    chunks[name] = file.read(size)
    assert len(chunks[name]) == size
  assert not file.read()
  return chunks


def test_header():
  """Field by field, by https://www.nesdev.org/wiki/NSF."""
  for pal in (False, True):
    log = random_log(0, pal=pal)._replace(
        tags={'title': 'T' * 40, 'author': 'Zoë', 'date': '1987'})
    data = nsf.write(log)
    assert data[:8] == b'NESM\x1a\x01\x01\x01'
    load, init, play = struct.unpack_from('<HHH', data, 8)
    assert load == 0x8000 and load <= init < play
    assert data[0x0e:0x2e] == b'T' * 31 + b'\0'
    assert data[0x2e:0x4e].rstrip(b'\0') == b'Zo?'
    assert data[0x4e:0x6e].rstrip(b'\0') == b'1987'
    assert struct.unpack_from('<H', data, 0x6e) == (16639,)
    assert struct.unpack_from('<H', data, 0x78) == (19997,)
    assert data[0x7a:0x7d] == bytes([pal, 0, 0])


def state_of(chip):
  """What sounds, but for when counters tick."""
  pulses = [(p.timer, p.duty, p.length, p.envelope.output, p.envelope.start,
             p.envelope.loop, p.envelope.constant, p.envelope.volume,
             p.sweep_on, p.sweep_negate, p.sweep_shift, p.sweep_period)
            for p in chip.pulses]
  noise = chip.noise
  return (*pulses, chip.triangle_timer, chip.triangle_length,
          chip.linear_reload, chip.linear_control, chip.linear_halt,
          chip.noise_index, chip.noise_mode, chip.noise_length, noise.constant,
          noise.volume, noise.loop, noise.start)


@pytest.mark.parametrize('seed', range(8))
def test_frames_do_what_the_log_does(seed):
  """However the writes of a frame are ordered, the chip ends up the same."""
  log = random_log(seed + 20, samples=False)
  song = frames.from_log(log)
  chips = Chip(), Chip()
  for register in range(16):
    for chip in chips:
      chip.write(register, 0)
  at = 0
  for number in range(len(song.table) - 1):
    while at < len(log.time) and log.time[at] < (number + 0.9) * FRAME:
      if log.register[at] < 0x17:
        chips[0].write(int(log.register[at]), int(log.value[at]))
      at += 1
    for register, value in song.writes(number):
      if register < 0x17:
        chips[1].write(register, value)
    assert state_of(chips[0]) == state_of(chips[1]), number
    for chip in chips:
      chip.quarter_frame()
      if seed % 2:
        chip.half_frame()
  assert at == len(log.time)


def test_grid_follows_bursts():
  """Bursts stay whole wherever in a frame a log begins."""
  rng = np.random.default_rng(0)
  for length, pal in ((FRAME, 0), (735, 0), (882, 1), (44100 / 50.007, 1),
                      (44100 / 60.1964, 0), (44100 / 50.0981, 1)):
    for _ in range(5):
      phase = rng.uniform(0, length)
      number = np.repeat(np.arange(1000), 4)
      time = (phase + number * length +
              rng.uniform(0, length * 0.4, len(number))).astype(int)
      frame, line = frames.grid(time, bool(pal))
      assert frame == pytest.approx(length, abs=0.2)
      found = np.floor((time - line) / frame).astype(int)
      np.testing.assert_array_equal(found - found[0], number)


def test_speed_is_that_of_the_log():
  """Field by field as in `test_header`; at rates that rippers had."""
  rng = np.random.default_rng(0)
  for hertz, speed in ((60.1964, 16612), (60, 16667), (60.0988, 16639)):
    time = np.repeat(np.arange(1000) * 44100 / hertz, 4) + rng.uniform(
        0, 300, 4000)
    log = RegisterLog(np.sort(time.astype(int)), np.tile([0, 2, 4, 6], 1000),
                      rng.integers(0, 256, 4000), int(1000 * 44100 / hertz))
    data = nsf.write(log)
    assert struct.unpack_from('<H', data, 0x6e) == (speed,)
    assert struct.unpack_from('<H', data, 0x78) == (19997,)
    seconds = np.frombuffer(metadata(data)[b'time'], '<i4')[0] / 1000
    assert seconds == pytest.approx(log.length / 44100, abs=.05)
    album = nsf.write_album([log, random_log(0, 60)])  # One speed for all.
    assert struct.unpack_from('<H', album, 0x6e) == (16639,)


def test_what_a_frame_overwrites_is_counted():
  rows = [(i, 2, i // 100) for i in range(0, 7338, 100)]  # 7 or 8 a frame,
  rows += [(i + 1, 0, i // 100 & 1) for i in range(0, 7338, 100)]
  rows += [(i + 1, 4, i // 700) for i in range(0, 7338, 734)]  # and one.
  log = RegisterLog(*np.array(sorted(rows)).T, 7338)
  [note] = nsf.notes(log)
  count = int(note.split()[0])
  assert note.startswith(f'{count} writes left out') and 126 <= count <= 128


def test_levels_of_the_sample_channel_are_counted():
  rows = [(i, 0x11, i & 127) for i in range(0, 7000, 100)]
  log = RegisterLog(*np.array(rows).T, 7338)
  notes = nsf.notes(log._replace(left_out={'writes to FDS sound': 3}))
  assert notes[0].startswith(f'{70 - 10} writes to $4011 within a frame')
  assert notes[1].startswith('3 writes to FDS sound left out')


def test_errors(tmp_path):
  empty = RegisterLog(*np.zeros((3, 0), int), 0)
  with pytest.raises(ValueError, match='the song is empty'):
    nsf.write(empty)
  good = random_log(0)
  with pytest.raises(ValueError, match='track 2 Void: the song is empty'):
    nsf.write_album([good, empty._replace(tags={'title': 'Void'})])
  with pytest.raises(ValueError, match='some songs are for NTSC and some for'):
    nsf.write_album([good, random_log(0, pal=True)])
  with pytest.raises(ValueError, match='256 songs: 1 to 255 expected'):
    nsf.write_album([good] * 256)
  with pytest.raises(ValueError, match='1323288 frames: 1048576 at most'):
    nsf.write(empty._replace(length=735 * 1323000 * 44100 // 44163))
  many = [(800 * i, register, value) for i in range(8)
          for register, value in ((0x12, 32 * i), (0x13, 255), (0x15, 16))]
  log = RegisterLog(
      *np.array(many).T, 7000,
      memory=((0, 0xc000, np.random.default_rng(0).bytes(0x4000)),))
  path = tmp_path / 'a.nsf'
  with pytest.raises(ValueError, match=r'a\.nsf: more than 16384 bytes of sam'):
    song_files.write_log(path, log)
  assert not path.exists()


def test_convert(tmp_path, capsys):
  song = ev.from_text('P1_NOTEON_60\nP1_VELOCITY_9\nWT_22050\nP1_NOTEOFF\n'
                      'TR_NOTEON_50\nWT_22050\nTR_NOTEOFF\nWT_5')
  for name in ('b', 'a'):
    song_files.write_song(tmp_path / f'in/{name}.mid', song)
  vgm_log = transcribe.from_events(song)._replace(
      tags={'title': 'First', 'game': 'G'})
  song_files.write_log(tmp_path / 'in/0.vgm', vgm_log)
  out = tmp_path / 'out'
  flags = [str(tmp_path / 'in'), '--to=nsf', f'--out={out}', '--workers=1']
  assert convert.main(flags) == 0
  assert sorted(p.name for p in out.iterdir()) == ['0.nsf', 'a.nsf', 'b.nsf']
  assert (out / 'a.nsf').read_bytes()[0x0e:0x10] == b'a\0'
  assert (out / '0.nsf').read_bytes()[0x0e:0x14] == b'First\0'
  assert convert.main([*flags, '--album=All of it', '--artist=Me']) == 0
  data = (out / 'All of it.nsf').read_bytes()
  assert data[6] == 3 and data[0x0e:0x18] == b'All of it\0'
  assert data[0x2e:0x31] == b'Me\0'
  assert metadata(data)[b'tlbl'] == b'First\0a\0b\0'
  assert convert.main([*flags, '--album=All of it']) == 1
  assert 'is there already' in capsys.readouterr().err
  # What is written is read; the notes are the same, to a frame.
  again = song_files.read_song(out / 'a.nsf')
  for kind in (ev.NOTEON, ev.NOTEOFF):
    at, was = (ev.times_of(s)[ev.kind_of(s) == kind] for s in (again, song))
    np.testing.assert_allclose(at[:len(was)], was, atol=FRAME)
  notes = ev.value_of(again)[ev.kind_of(again) == ev.NOTEON]
  np.testing.assert_array_equal(notes, [60, 50])


def test_reading_notes_writes_frame_by_frame():
  log = random_log(11, 120)
  song = frames.from_log(log)
  read = nsf_read.read(nsf.write(log), seconds=2)
  number = np.rint(read.time / FRAME).astype(int)
  start = int(np.argmax(read.register == 0x17)) + 1
  start += 0x14 + 3  # What INIT writes.
  for frame in range(100):
    mine = [(int(r), int(v)) for r, v in zip(
        read.register[start:][number[start:] == frame],
        read.value[start:][number[start:] == frame], strict=True)
            if r != 0x12]
    assert mine == [w for w in song.writes(frame) if w[0] != 0x12]
  (_, address, data), *_ = read.memory
  assert address == 0xc000 and len(data) == 0x4000
  assert data.rstrip(b'\0').endswith(song.samples.rstrip(b'\0'))


def nsf_of(program, banks=bytes(8), play=0x8001, speed=16639):
  """An NSF file of a program at $8000 with INIT at its first byte."""
  return (b'NESM\x1a\x01\x01\x01' +
          struct.pack('<HHH', 0x8000, 0x8000, play) + bytes(0x60) +
          struct.pack('<H', speed) + banks + struct.pack('<H', 19997) +
          bytes(6) + program)


def test_reading_other_programs():
  """One that writes its frame's number, and to sound that is not there."""
  program = bytes([0x60,  # INIT: rts
                   0xe6, 0x10, 0xa5, 0x10,  # PLAY: inc $10; lda $10
                   0x8d, 0x00, 0x40,  # sta $4000
                   0x8d, 0x00, 0x90, 0x60])  # sta $9000 (VRC6); rts
  log = nsf_read.read(nsf_of(program), seconds=1)
  plays = log.register == 0
  np.testing.assert_array_equal(log.value[plays], np.arange(1, 62))
  np.testing.assert_allclose(log.time[plays], np.arange(61) * FRAME, atol=1)
  assert log.length == 44100
  assert log.left_out == {'writes to expansion sound': 61}
  assert nsf_read.read(nsf_of(b'\x60\x60')).length < 12 * 44100  # Silent.
  quick = nsf_read.read(nsf_of(program, speed=2000), seconds=1)
  assert (quick.register == 0).sum() == 500


@pytest.mark.parametrize('data, message', [
    (b'', 'not an NSF file'), (b'NESM\x1a' + bytes(200), 'without songs'),
    (nsf_of(b''), 'no program in it'),
    (nsf_of(b'\x4c\x00\x80'), r'INIT at \$8000 does not return within'),
    (nsf_of(b'\x60\x4c\x01\x80'), r'PLAY at \$8001 does not return within'),
    (nsf_of(b'\x60\x60', speed=1999), 'every 1999 microseconds: 2000 or more'),
    (nsf_of(b'\x60' * 9)[:8] + bytes(200), r'load address \$0000')])
def test_reading_errors(data, message):
  with pytest.raises(ValueError, match=message):
    nsf_read.read(data)


def test_damaged_files_give_a_reason():
  rng = np.random.default_rng(0)
  whole = np.frombuffer(nsf.write(random_log(1, 30)), np.uint8)
  reasons = set()
  for _ in range(25):
    data = whole[:rng.integers(100, len(whole))].copy()
    at = rng.integers(0, len(data), 8)
    data[at] = rng.integers(0, 256, 8)
    try:
      nsf_read.read(data.tobytes(), seconds=0.3)
    except ValueError as error:
      reasons.add(str(error))
  assert reasons


def real_logs(folder, names):
  with tarfile.open(folder / 'nesmdb_vgm_sample.tar.xz') as tar:
    for member in tar.getmembers():
      if any(name in member.name for name in names):
        yield vgm.parse(tar.extractfile(member).read())


REAL = ('BGMCArea56', 'WorldRecord', 'JustAnotherDeadSoldier')


def test_real_songs(real_data):
  """With samples and a loop, with samples, and with neither."""
  logs = list(real_logs(real_data, REAL))
  assert len(logs) == 3
  for log in logs:
    check(nsf.write(log), {0: frames.from_log(log, log.loop)}, LIMIT)


@pytest.mark.slow
def test_all_real_songs(real_data):
  logs = list(real_logs(real_data, ('.vgm',)))
  assert len(logs) == 298
  for log in logs:
    check(nsf.write(log), {0: frames.from_log(log, log.loop)}, LIMIT)


@pytest.mark.skipif(not libgme.has_libgme(),
                    reason='no ffmpeg with libgme here')
def test_sounds_as_we_render_it(real_data):
  for log in real_logs(real_data, ('LossPoint',)):
    ours = np.concatenate(list(render.windows(log)))
    theirs = libgme.play(nsf.write(log), len(ours) / 44100 + .25)
    assert libgme.compare(ours, theirs)[0] > 0.9
    assert libgme.compare(ours, theirs[::-1])[0] < 0.8
