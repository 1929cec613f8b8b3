"""Tar archives, read once from front to back, and only if they are complete.

`tarfile` takes a header that it cannot read, and the end of the file, for the
end of the archive, and in its stream mode checks no CRC of gzip: a damaged
archive becomes a smaller one. Here an archive must end as POSIX has it, with
two blocks of zeros and zeros behind them, and its compression must end as it
should: gzip's CRC-32 and length, the checks of bzip2 and xz.
"""

import bz2
import gzip
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO

# A name, or the attributes of a file, for which tarfile sets aside what the
# header asks for.
_MAX_EXTENSION = 2**20
_EXTENSIONS = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
               tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
_MAX_MEMBER = 2**40
_CHUNK = 2**20
_DAMAGE = (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError,
           OverflowError)
_OPENERS = ((b'\x1f\x8b', gzip.GzipFile), (b'BZh', bz2.BZ2File),
            (b'\xfd7zXZ\0', lzma.LZMAFile))


class Content:
  """What is in one file of an archive; errors as of `read`, below."""

  def __init__(self, file, archive_name: str):
    self._file, self._archive_name = file, archive_name

  def read(self, size: int = -1) -> bytes:
    try:
      return self._file.read(size)
    except _DAMAGE as error:
      raise _damaged(self._archive_name, error) from error


def _damaged(name: str, error: Exception) -> ValueError:
  return ValueError(f'{name}: not a tar archive, damaged, or cut off ({error})')


class _Header(tarfile.TarInfo):
  """A header; one that cannot be read is an error, not the end."""

  @classmethod
  def frombuf(cls, buf, encoding, errors):
    try:
      header = super().frombuf(buf, encoding, errors)
    except tarfile.EOFHeaderError:  # A block of zeros.
      raise
    except tarfile.HeaderError as error:
      raise tarfile.ReadError(
          f'{error}: cut off, or not a tar archive') from None
    if not 0 <= header.size <= (
        _MAX_EXTENSION if header.type in _EXTENSIONS else _MAX_MEMBER):
      raise tarfile.ReadError(f'a header declares {header.size} bytes')
    return header


class _Forward:
  """A file that is only read onwards, as `tarfile.TarFile` reads one."""

  mode = 'rb'
  name = ''

  def __init__(self, file):
    self._file, self._position = file, 0

  def tell(self) -> int:
    return self._position

  def read(self, size: int) -> bytes:
    parts, wanted = [], size
    while wanted and (part := self._file.read(min(wanted, _CHUNK))):
      parts.append(part)
      wanted -= len(part)
    self._position += size - wanted
    return b''.join(parts)

  def seek(self, position: int) -> None:
    if position < self._position:
      raise tarfile.StreamError('seeking backwards')
    while self._position < position and self.read(
        min(position - self._position, _CHUNK)):
      pass


def read(file: BinaryIO, name: str
        ) -> Iterator[tuple[tarfile.TarInfo, Content | None]]:
  """Yields the members of an archive, and the content of its files.

  Args:
    file: open for reading, at its beginning, able to seek; compressed with
      gzip, bzip2 or xz, or not at all.
    name: what errors call it.

  Yields:
    (member, content): content must be read before the next member is asked
    for; it is None for what is no regular file.

  Raises:
    ValueError: it is no archive, or damaged, or cut off. Everything before the
      fault was yielded by then.
  """
  try:
    head = file.read(6)
    file.seek(0)
    opener = next((opener for magic, opener in _OPENERS
                   if head.startswith(magic)), None)
    unpacked = _Forward(opener(filename=file) if opener in (
        bz2.BZ2File, lzma.LZMAFile) else opener(fileobj=file)
        if opener else file)
    with tarfile.TarFile(fileobj=unpacked, tarinfo=_Header) as archive:
      while (member := archive.next()) is not None:
        if member.issparse():  # A few bytes may claim any size.
          raise tarfile.ReadError(f'{member.name!r} is a sparse file')
        yield member, (Content(archive.extractfile(member), name)
                       if member.isreg() else None)
        archive.members.clear()
    _check_end(unpacked)
  except MemoryError:
    raise
  except Exception as error:  # tarfile lets any come out of odd headers.
    raise _damaged(name, error) from error


def _check_end(file: _Forward) -> None:
  """Reads on behind the first block of zeros; only zeros may be there."""
  n_bytes = 0
  while chunk := file.read(_CHUNK):
    if chunk.strip(b'\0'):
      raise tarfile.ReadError('data behind the end of the archive')
    n_bytes += len(chunk)
  if n_bytes < tarfile.BLOCKSIZE:
    raise tarfile.ReadError('the end of the archive is missing')
