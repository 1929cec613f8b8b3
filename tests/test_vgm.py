import gzip
import struct

import numpy as np
import pytest

from lakhnes_jax import vgm


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
    (gzip.compress(_file(BODY))[:-12], 'damaged'),
    (_file(b'\x61\xff\xff' * 20000 + b'\x66'), 'longer than')])
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


def test_what_is_built_is_read():
  log = vgm.RegisterLog(
      np.array([0, 0, 70000]), np.array([0, 21, 3], np.uint8),
      np.array([1, 2, 255], np.uint8), 200000, 1662607)
  read = vgm.parse(vgm.build(log))
  for a, b in zip(read[:5], log[:5], strict=True):
    np.testing.assert_array_equal(a, b)
