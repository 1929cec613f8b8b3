"""An archive is read whole, or refused; `tarfile` itself wrote them."""

import bz2
import gzip
import io
import lzma
import pathlib
import struct
import tarfile
import time

import numpy as np
import pytest

from data_prep import archives, download, lakh_files

BLOCK = 512


def plain(members, format=tarfile.GNU_FORMAT):
  """An uncompressed archive; three blocks and more of zeros end it."""
  file = io.BytesIO()
  with tarfile.open(fileobj=file, mode='w', format=format) as archive:
    for name, data in members:
      member = tarfile.TarInfo(name)
      member.size = len(data)
      archive.addfile(member, io.BytesIO(data))
  return file.getvalue()


LONG = 'd/' + 'é' * 120 + '.mid'
MEMBERS = [('d/a.mid', b'a' * 700), ('d/b.mid', b''), (LONG, b'c' * 1024),
           ('d/e.mid', np.random.default_rng(0).bytes(3000))]
TAR = plain(MEMBERS)
PACKERS = [lambda data: data, lambda data: gzip.compress(data, mtime=0),
           bz2.compress, lzma.compress]


def read(data):
  return [(member.name, content and content.read()) for member, content in
          archives.read(io.BytesIO(data), 'x.tar')]


def refused(data, reason=''):
  with pytest.raises(ValueError, match=rf'^x\.tar: .*{reason}') as error:
    read(data)
  assert '\n' not in str(error.value)


def same_or_refused(damaged):
  try:
    found = read(bytes(damaged))
  except ValueError:
    refused(bytes(damaged))
  else:
    assert found == MEMBERS


@pytest.mark.parametrize('pack', PACKERS)
@pytest.mark.parametrize('format', [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_whole(pack, format):
  assert read(pack(plain(MEMBERS, format))) == MEMBERS


def test_content_that_is_not_asked_for_is_skipped():
  names = [member.name for member, _ in
           archives.read(io.BytesIO(gzip.compress(TAR)), 'x.tar')]
  assert names == [name for name, _ in MEMBERS]


@pytest.mark.parametrize('pack', PACKERS)
def test_any_cut_is_noticed(pack):
  whole = pack(TAR.rstrip(b'\0') + bytes(BLOCK * 3))
  for length in range(0, len(whole), 1 if len(whole) < 2000 else 97):
    if pack is not PACKERS[0] or length < len(TAR.rstrip(b'\0')) + BLOCK:
      refused(whole[:length])


def test_any_flipped_bit_of_a_packed_archive_is_noticed():
  # Bytes 3 to 9 say when and where it was packed. The number of a stored
  # block's unused bits is no one's.
  whole = gzip.compress(TAR, mtime=0)
  rng = np.random.default_rng(1)
  for bit in rng.choice(np.arange(10 * 8, len(whole) * 8), 300, replace=False):
    damaged = bytearray(whole)
    damaged[bit // 8] ^= 1 << bit % 8
    same_or_refused(damaged)


def test_any_flipped_bit_of_a_header_is_noticed():
  # Nothing reads the last byte of the checksum.
  for bit in range(0, BLOCK * 8, 7):
    damaged = bytearray(TAR)
    damaged[bit // 8] ^= 1 << bit % 8
    same_or_refused(damaged)


@pytest.mark.parametrize('data, reason', [
    (b'', 'cut off'), (b'no archive' * 200, 'not a tar archive'),
    (TAR[:-BLOCK] + b'more' + bytes(BLOCK - 4), 'data behind the end'),
    (TAR.rstrip(b'\0') + bytes(1 + BLOCK), 'the end of the archive is missing'),
    (gzip.compress(TAR)[:-3], 'ended before'),
    (gzip.compress(TAR) + b'garbage', 'Not a gzipped')])
def test_reasons(data, reason):
  if reason == 'the end of the archive is missing':
    used = len(TAR.rstrip(b'\0'))
    data = TAR[:used + -used % BLOCK + BLOCK]
  refused(data, reason)


def header(size, type=tarfile.REGTYPE, name='x.mid'):
  """A header that declares any size; the checksum is right."""
  member = tarfile.TarInfo(name)
  member.type, member.size = type, size
  return member.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize('type, size', [
    (tarfile.REGTYPE, 2**43), (tarfile.REGTYPE, 2**33),
    (tarfile.GNUTYPE_LONGNAME, 3 * 10**9), (tarfile.XHDTYPE, 3 * 10**9),
    (tarfile.XGLTYPE, 2**62), (tarfile.GNUTYPE_LONGLINK, 2**21)])
def test_lying_sizes_are_refused_at_once(type, size):
  started = time.process_time()
  refused(gzip.compress(header(size, type) + bytes(2 * BLOCK)))
  refused(TAR.rstrip(b'\0') + bytes(-len(TAR.rstrip(b'\0')) % BLOCK) +
          header(size, type))
  assert time.process_time() - started < 2


def test_negative_and_sparse():
  negative = bytearray(header(1))
  negative[124:136] = b'\xff' * 12  # -1, in base 256.
  negative[148:156] = b' ' * 8
  negative[148:156] = b'%06o\0 ' % sum(negative)
  refused(bytes(negative) + bytes(2 * BLOCK))
  sparse = bytearray(header(0, tarfile.GNUTYPE_SPARSE))
  sparse[386:410] = struct.pack('24s', b'00000000000\x0000000000000')
  sparse[483:495] = b'77777777777\0'
  sparse[148:156] = b' ' * 8
  sparse[148:156] = b'%06o\0 ' % sum(sparse)
  refused(bytes(sparse) + bytes(2 * BLOCK), 'sparse')


def test_cases(cases, tmp_path):
  """Archives that other programs damaged."""
  found, _ = lakh_files.find(str(cases / 'tar/a.tar.gz'))
  # A byte that is no UTF-8 is escaped; macOS's ._Aicha.mid is left out.
  assert [source.name for source in found] == [
      'd/Aicha.mid', r'd/caf\udce9.mid']
  assert download.unpack(cases / 'tar/a.tar.gz', tmp_path / 'a') == 3
  for name in ('tar/cut.tar.gz', 'tar/crc.tar.gz',
               'faults/lakh_lying_size.tar.gz'):
    found, _ = lakh_files.find(str(cases / name))
    with pytest.raises(ValueError, match=pathlib.Path(name).name):
      list(found)
    with pytest.raises(ValueError, match=pathlib.Path(name).name):
      download.unpack(cases / name, tmp_path / 'b')
    assert [path.name for path in tmp_path.iterdir()] == ['a']
