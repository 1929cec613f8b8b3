import gzip
import struct
import tarfile

import numpy as np
import pytest

from lakhnes_jax.formats import vgm
from lakhnes_jax.synth.register_log import RegisterLog


def _file(body, version=0x161, clock=1789773, begin=0x100, loop=None, gd3=b''):
  data = bytearray(begin)
  data[:4] = b'Vgm '
  struct.pack_into('<I', data, 8, version)
  struct.pack_into('<I', data, 0x34, begin - 0x34)
  if begin > 0x84:
    struct.pack_into('<I', data, 0x84, clock)
  if loop is not None:
    struct.pack_into('<I', data, 0x1c, begin + loop - 0x1c)
  if gd3:
    struct.pack_into('<I', data, 0x14, begin + len(body) - 0x14)
  return bytes(data) + body + gd3


# Commands of other chips among two writes: 1-, 2-, 3- and 4-byte operands.
BODY = (b'\xb4\x00\x3f' b'\x50\x9f' b'\x52\x01\x02' b'\xc0\x00\x00\x01'
        b'\xe0\x00\x00\x00\x01' b'\x61\x10\x01' b'\x62' b'\x63' b'\x7f'
        b'\x83' b'\xb4\x15\x0f' b'\x95\x00\x00\x00\x01' b'\xb4\x81\x00' b'\x66')


def test_waits_and_other_chips():
  log = vgm.parse(_file(BODY))
  np.testing.assert_array_equal(log.time, [0, 272 + 735 + 882 + 16 + 3])
  np.testing.assert_array_equal(log.register, [0x00, 0x15])
  np.testing.assert_array_equal(log.value, [0x3f, 0x0f])
  assert (log.length, log.clock, log.pal) == (1908, 1789773, False)
  assert log.skipped == 5  # Four of other chips, one of a second NES.


def test_packed_file_and_flags_of_the_clock():
  packed = gzip.compress(_file(BODY, clock=1662607 | 1 << 31))
  log = vgm.parse(packed)
  assert log.clock == 1662607 and log.pal


def test_loop():
  body = b'\xb4\x00\x01\x70' + b'\xb4\x04\x02\x71' + b'\x66'
  assert vgm.parse(_file(body, loop=4)).length == 3
  log = vgm.parse(_file(body, loop=4), loops=3)
  np.testing.assert_array_equal(log.time, [0, 1, 3, 5])
  assert log.length == 7
  assert log.loop == 5 and vgm.parse(_file(body, loop=4)).loop == 1
  assert vgm.parse(_file(body)).loop is None


@pytest.mark.parametrize('loop', [0, 1, 70000, 199999, None])
def test_loop_is_built(loop):
  data = vgm.build(LOG._replace(loop=loop))
  assert by_the_specification(data)[4] == loop
  again = vgm.parse(data, loops=2)
  whole = vgm.parse(data)
  assert whole.loop == loop
  extra = 0 if loop is None else 200000 - loop
  assert again.length == 200000 + extra
  late = [] if loop is None else np.flatnonzero(LOG.time >= loop)
  np.testing.assert_array_equal(
      again.time, [*LOG.time, *(LOG.time[late] + extra)])


def test_memory_of_the_sample_channel():
  block = b'\x00\xc0' + b'\x55' * 5
  body = (b'\xb4\x00\x01' b'\x67\x66\xc2' + struct.pack('<I', len(block)) +
          block + b'\x67\x66\x00' + struct.pack('<I', 3) + b'abc' + b'\x66')
  assert vgm.parse(_file(body)).memory == ((1, 0xc000, b'\x55' * 5),)


def _block(kind, data, flags=0):
  return bytes([0x67, 0x66, kind]) + struct.pack('<I', len(data) | flags) + data


def test_memory_of_a_second_chip_is_left_out_as_its_writes_are():
  body = (_block(0xc2, b'\x00\xc0\x55') +
          _block(0xc2, b'\x00\xc0\xaa', 1 << 31) +
          b'\xb4\x15\x10' + b'\xb4\x95\x10' + b'\xb4\x20\x00' + b'\x66')
  log = vgm.parse(_file(body, clock=1789773 | 1 << 30))
  assert log.memory == ((0, 0xc000, b'\x55'),)
  assert log.register.tolist() == [0x15]
  assert log.left_out == {'data blocks of a second NES chip': 1,
                          'writes to a second NES chip': 1,
                          'writes to FDS sound': 1}
  assert log.describe_left_out() == (
      '1 data blocks of a second NES chip, 1 writes to FDS sound, '
      '1 writes to a second NES chip')


def test_memory_writes_take_from_the_bank_of_samples():
  def write(chip, begin, address, size):
    return b'\x68\x66' + bytes([chip]) + b''.join(
        x.to_bytes(3, 'little') for x in (begin, address, size))

  body = (_block(0x07, b'abc') + b'\xb4\x00\x01' + _block(0x07, b'defg') +
          write(0x07, 1, 0xc000, 4) + write(0x07, 5, 0xd000, 0) +
          write(0x87, 0, 0xc000, 4) + write(0x02, 0, 0, 1) + b'\x66')
  log = vgm.parse(_file(body))
  assert log.memory == ((1, 0xc000, b'bcde'), (1, 0xd000, b'fg'))
  assert log.left_out == {'memory writes of a second NES chip': 1,
                          'memory writes of other chips': 1}


def test_memory_that_is_loaded_over_and_over_ends():
  block = _block(0xc2, b'\x00\x80' + bytes(1 << 20))
  with pytest.raises(ValueError, match='256 MiB of sample memory'):
    vgm.parse(_file(block + b'\x70' + b'\x66', loop=0), loops=300)


def _stream(*commands):
  """Stream 0 to $4011, 11,025 Hz, bank 7; then commands."""
  return (b'\x90\x00\x14\x00\x11' b'\x91\x00\x07\x01\x00' b'\x92\x00' +
          struct.pack('<I', 11025) + b''.join(commands) + b'\x66')


def _start(at, mode, length=0):
  return b'\x93\x00' + struct.pack('<IBI', at, mode, length)


@pytest.mark.parametrize('commands, values', [
    # Four samples a value; a wait of 16 ends before the fifth.
    ([_start(0, 3), b'\x7f', b'\x7f'], [1, 2, 3, 4, 5, 6]),
    ([_start(0, 3), b'\x7f'], [1, 2, 3, 4]),
    ([_start(2, 1, 3), b'\x7f', b'\x7f'], [3, 4, 5]),
    ([_start(0, 2, 0), b'\x7f'], []),
    ([_start(3, 0x83), b'\x7f', b'\x7f'], [4, 5, 6, 4, 5, 6, 4, 5]),
    ([_start(3, 0x13), b'\x7f'], [6, 5, 4]),
    ([_start(4, 0), _start(0xffffffff, 3), b'\x7f'], [5, 6]),
    ([_start(0, 3), b'\x77', b'\x94\x00', b'\x7f'], [1, 2]),
    ([_start(0, 3), b'\x77', b'\x94\xff', b'\x7f'], [1, 2]),
    ([b'\x91\x00\x07\x02\x01', _start(0, 3), b'\x7f'], [2, 4, 6]),
    ([b'\x95\x00\x01\x00\x00', b'\x7f'], [4, 5, 6]),
    ([b'\x95\x00\x01\x00\x01', b'\x7f', b'\x73'], [4, 5, 6, 4, 5]),
    ([b'\x95\x00\x00\x00\x10', b'\x7f'], [3, 2, 1]),
    ([b'\x95\x00\x09\x00\x00', b'\x7f'], []),
])
def test_dac_streams(commands, values):
  body = (_block(7, b'\x01\x02\x03') + _block(7, b'\x04\x05\x06') +
          _stream(*commands))
  log = vgm.parse(_file(body))
  assert log.value.tolist() == values
  assert (log.register == 0x11).all() and not log.left_out
  if values:
    np.testing.assert_array_equal(log.time, 4 * np.arange(len(values)))


def test_dac_streams_mix_with_writes_and_change_their_rate():
  body = _block(7, bytes(range(9))) + _stream(
      _start(0, 3), b'\x75', b'\xb4\x00\x3f',
      b'\x92\x00' + struct.pack('<I', 22050), b'\x75')
  log = vgm.parse(_file(body))
  assert list(zip(log.time.tolist(), log.register.tolist(),
                  log.value.tolist(), strict=True)) == [
      (0, 0x11, 0), (4, 0x11, 1), (6, 0, 0x3f), (6, 0x11, 2), (8, 0x11, 3),
      (10, 0x11, 4)]


def test_of_values_within_one_sample_the_last_is_written():
  body = _block(7, bytes(range(100))) + _stream(
      b'\x92\x00' + struct.pack('<I', 441000), _start(0, 3), b'\x72')
  log = vgm.parse(_file(body))
  assert log.time.tolist() == [0, 1, 2] and log.value.tolist() == [9, 19, 29]


def test_dac_streams_of_other_chips_are_named():
  body = b'\x90\x00\x02\x00\x2a' b'\x92\x00' + bytes(4) + b'\x66'
  assert vgm.parse(_file(body)).left_out == {
      'commands of DAC streams to other chips': 2}


def test_without_an_end_command_all_is_played_but_the_tags():
  text = 'Title\0'.encode('utf-16-le')
  gd3 = b'Gd3 ' + struct.pack('<II', 0x100, len(text)) + text
  body = b'\xb4\x00\x01\x7f'
  for tail in (b'', gd3):
    log = vgm.parse(_file(body, gd3=tail))
    assert (log.length, len(log.time)) == (16, 1)
    assert log.tags == ({'title': 'Title'} if tail else {})


def test_what_follows_a_gzip_stream_is_ignored():
  packed = gzip.compress(_file(BODY))
  for tail in (b'\r\n', bytes(512), b'x' * 99):
    assert vgm.unpack(packed + tail) == _file(BODY)
  halves = [gzip.compress(part) for part in (_file(BODY)[:99],
                                             _file(BODY)[99:])]
  assert vgm.unpack(b''.join(halves)) == _file(BODY)


@pytest.mark.parametrize('modifier, gain', [
    (0, 1), (0x20, 2), (0xc0, 64), (0xe0, .5), (0xff, 2**(-1 / 32)),
    (0xc1, .25)])
def test_volume_modifier(modifier, gain):
  data = bytearray(_file(BODY))
  data[0x7c] = modifier
  log = vgm.parse(bytes(data))
  assert log.gain == pytest.approx(gain)
  assert vgm.parse(vgm.build(log)).gain == log.gain
  data[8] = 0x51  # The header of 1.51 ended before.
  with pytest.raises(ValueError, match='no NES chip'):
    vgm.parse(bytes(data))


def test_tags():
  text = 'Title\0\0Game\0\0NES\0\0A. Uthor\0\0'.encode('utf-16-le')
  gd3 = b'Gd3 ' + struct.pack('<II', 0x100, len(text)) + text
  assert vgm.parse(_file(BODY, gd3=gd3)).tags == {
      'title': 'Title', 'game': 'Game', 'system': 'NES', 'author': 'A. Uthor'}


@pytest.mark.parametrize('data,message', [
    (b'', 'not a VGM file'), (b'RIFF' * 80, 'not a VGM file'),
    (_file(b'\x66', begin=0x40), 'no NES chip'),
    (_file(b'\x66', clock=0), 'no NES chip'), (_file(b'\x66', clock=5), 'MHz'),
    (_file(b'\x61\x00'), 'cut off'),
    (_file(b'\x67\x66\xc2\xff\xff\xff\x7f'), 'data block'),
    (_file(b'\x07\x66'), 'unknown command 0x07 at byte 0x100'),
    (gzip.compress(_file(BODY), mtime=0)[:-12], 'damaged'),
    (_file(b'\x61\xff\xff' * 20000 + b'\x66'), 'longer than'),
    (_file(b'\x50\x00' * 2**22), 'more than 8 MiB'),
    (gzip.compress(_file(b'\x50\x00' * 2**22)), 'more than 8 MiB')])
def test_errors(tmp_path, data, message):
  path = tmp_path / 'a.vgm'
  path.write_bytes(data)
  with pytest.raises(ValueError, match=message) as error:
    vgm.read(path)
  assert str(path) in str(error.value)


def test_damaged_files_give_a_reason():
  rng = np.random.default_rng(0)
  whole = np.frombuffer(_file(BODY * 20), np.uint8)
  for _ in range(300):
    data = whole[:rng.integers(len(whole))].copy()
    data[rng.integers(0, max(len(data), 1), 3 * (len(data) > 0))] = (
        rng.integers(0, 256, 3 * (len(data) > 0)))
    try:
      vgm.parse(data.tobytes())
    except ValueError as error:
      assert str(error)


def test_a_loop_without_waits_ends():
  body = b'\x70' + b'\xb4\x04\x02' + b'\x66'
  log = vgm.parse(_file(body, loop=1), loops=10**9)
  assert (log.length, len(log.time)) == (1, 2)


@pytest.mark.parametrize('clock, pal', [
    (1789772, False), (1789773, False), (1662607, True), (1652097, True),
    (1773448, False)])  # The last is of clones, with the timing of NTSC.
def test_clocks(clock, pal):
  for flags in (0, 1 << 31, 1 << 30):
    log = vgm.parse(_file(BODY, clock=clock | flags))
    assert (log.clock, log.pal) == (clock, pal)


def test_each_command_has_its_length():
  """By the specification: every command of another chip, then an NES write."""
  lengths = {0x31: 2, 0x4f: 2, 0x50: 2, 0x51: 3, 0x5f: 3, 0x90: 5, 0x91: 5,
             0x92: 6, 0x93: 11, 0x94: 2, 0x95: 5, 0xa0: 3, 0xb0: 3, 0xb3: 3,
             0xb5: 3, 0xbf: 3, 0xc0: 4, 0xc8: 4, 0xd0: 4, 0xd6: 4, 0xdf: 4,
             0xe0: 5, 0xe1: 5, 0xff: 5, 0x68: 12, 0x41: 3}
  for command, length in lengths.items():
    # Operands that would be an end command, were they taken for one.
    body = bytes([command]) + b'\x66' * (length - 1) + b'\xb4\x00\x01\x66'
    assert len(vgm.parse(_file(body)).time) == 1, hex(command)
  old = b'\x41\x66' + b'\xb4\x00\x01\x66'  # One operand before 1.60; no NES.
  with pytest.raises(ValueError, match='no NES chip'):
    vgm.parse(_file(old, version=0x151))


LOG = RegisterLog(
    np.array([0, 0, 70000]), np.array([0, 21, 3], np.uint8),
    np.array([1, 2, 255], np.uint8), 200000, 1662607)
FULL = LOG._replace(
    memory=((1, 0xc000, b'\x55' * 9), (3, 0xc100, b'')),
    tags={'title': 'A \u30bc\u30eb', 'author': 'B', 'notes': 'two\nlines'})


@pytest.mark.parametrize('log', [LOG, FULL])
@pytest.mark.parametrize('build', [vgm.build, vgm.build_packed])
def test_what_is_built_is_read(log, build):
  data = build(log)
  assert data == build(log)
  read = vgm.parse(data)
  for a, b in zip(read, log._replace(memory=log.memory[:1]), strict=True):
    np.testing.assert_array_equal(a, b)


def by_the_specification(data):
  """Reads a file as the VGM specification describes it, field by field.

  Returns:
    clock, the writes (time, register, value), the GD3 strings, memory blocks,
    and when the loop begins.
  """
  def u32(at):
    return int.from_bytes(data[at:at + 4], 'little')

  assert data[:4] == bytes([0x56, 0x67, 0x6d, 0x20])
  assert u32(0x04) == len(data) - 4  # End of file.
  assert u32(0x08) == 0x00000161
  assert u32(0x0c) == u32(0x10) == 0  # Neither SN76489 nor YM2413.
  begin = 0x34 + u32(0x34)
  assert begin >= 0x88 and begin == 0xc0  # Where a 1.61 header ends.
  # No other chip, no volume or loop modifiers.
  assert not any(data[0x24:0x34]) and not any(data[0x38:0x84])
  assert not any(data[0x88:begin])
  at, now, writes, memory, loop = begin, 0, [], [], None
  while data[at] != 0x66:
    if u32(0x1c) and at == 0x1c + u32(0x1c):
      loop = now
    if data[at] == 0x61:
      now += data[at + 1] + 256 * data[at + 2]
      at += 3
    elif data[at] == 0x67:
      assert data[at + 1:at + 3] == b'\x66\xc2'  # NES APU memory.
      size = u32(at + 3)
      memory.append((now, data[at + 7:at + 7 + size]))
      at += 7 + size
    else:
      assert data[at] == 0xb4 and data[at + 1] < 0x20
      writes.append((now, data[at + 1], data[at + 2]))
      at += 3
  assert now == u32(0x18)  # Samples in all.
  assert u32(0x20) == (0 if loop is None else now - loop)
  assert (loop is not None) == bool(u32(0x1c))
  strings = []
  if u32(0x14):
    gd3 = 0x14 + u32(0x14)
    assert gd3 == at + 1
    assert data[gd3:gd3 + 8] == b'Gd3 \x00\x01\x00\x00'
    assert gd3 + 12 + u32(gd3 + 8) == len(data)
    text = data[gd3 + 12:].decode('utf-16-le')
    assert text.endswith('\0')
    strings = text[:-1].split('\0')
    assert len(strings) == 11
  else:
    assert at + 1 == len(data)
  return u32(0x84), writes, strings, memory, loop


def test_what_is_built_is_by_the_specification():
  writes = [(0, 0, 1), (0, 21, 2), (70000, 3, 255)]
  assert by_the_specification(vgm.build(LOG)) == (
      1662607, writes, [], [], None)
  clock, read, tags, memory, _ = by_the_specification(vgm.build(FULL))
  assert (clock, read) == (1662607, writes)
  assert tags == ['A \u30bc\u30eb', '', '', '', '', '', 'B', '', '', '',
                  'two\nlines']
  assert memory == [(0, b'\x00\xc0' + b'\x55' * 9)]


def test_real_files_are_built_as_they_were(real_data):
  """All that an NES plays, and the tags, outlive reading and writing."""
  with tarfile.open(real_data / 'nesmdb_vgm_sample.tar.xz') as tar:
    members = [m for m in tar.getmembers() if m.name.endswith('.vgm')]
    n_tagged = n_memory = 0
    for member in members[::30]:
      log = vgm.parse(tar.extractfile(member).read())
      data = vgm.build(log)
      _, writes, tags, memory, loop = by_the_specification(data)
      again = vgm.parse(data)
      np.testing.assert_array_equal(
          writes, np.stack([log.time, log.register, log.value], 1))
      assert again.memory == log.memory and again.tags == log.tags
      assert again.length == log.length and loop == again.loop == log.loop
      n_tagged += bool(tags)
      n_memory += bool(memory)
  assert n_tagged == 10 and n_memory
