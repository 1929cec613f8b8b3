import gzip
import struct
import tarfile

import numpy as np
import pytest

from lakhnes_jax.formats import vgm


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


def test_tags():
  text = 'Title\0\0Game\0\0NES\0\0A. Uthor\0\0'.encode('utf-16-le')
  gd3 = b'Gd3 ' + struct.pack('<II', 0x100, len(text)) + text
  assert vgm.parse(_file(BODY, gd3=gd3)).tags == {
      'title': 'Title', 'game': 'Game', 'system': 'NES', 'author': 'A. Uthor'}


@pytest.mark.parametrize('data,message', [
    (b'', 'not a VGM file'), (b'RIFF' * 80, 'not a VGM file'),
    (_file(b'\x66', begin=0x40), 'no NES chip'),
    (_file(b'\x66', clock=0), 'no NES chip'), (_file(b'\x66', clock=5), 'MHz'),
    (_file(b'\x70'), 'no end command'), (_file(b'\x61\x00'), 'cut off'),
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


LOG = vgm.RegisterLog(
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
