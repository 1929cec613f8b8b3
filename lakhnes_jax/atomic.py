"""Files that are written whole or not at all."""

import contextlib
import hashlib
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping

_MAX_NAME = 255  # Bytes, on most file systems.


def write(path: str | os.PathLike, data: bytes) -> None:
  """Writes a file whole or not at all; makes its folder if need be.

  Raises:
    OSError: it cannot be written; names it.
  """
  write_together({pathlib.Path(path): data})


def write_together(files: Mapping[pathlib.Path, bytes],
                   remove: Iterable[pathlib.Path] = ()) -> None:
  """Writes files that belong together, of which the last says so.

  All are on the disk before anything is changed that was there, so that a full
  disk changes nothing. Then the files of `remove` go, and the new ones take
  their places in order: who is killed amid that leaves the last ones missing.

  Args:
    files: path -> content; their folders are made if need be.
    remove: old ones, which may be missing; the last of `files`, so that it
      never stands beside files of others.

  Raises:
    OSError: a file cannot be written; names it.
  """
  try:
    for path, data in files.items():
      path.parent.mkdir(parents=True, exist_ok=True)
      with named(path):
        temporary_of(path).write_bytes(data)
    for path in remove:
      path.unlink(missing_ok=True)
    for path in files:
      os.replace(temporary_of(path), path)
  except BaseException:
    for path in files:
      temporary_of(path).unlink(missing_ok=True)
    raise


@contextlib.contextmanager
def named(path: str | os.PathLike) -> Iterator[None]:
  """Puts the file's name into an OSError that has none.

  The system says that a disk is full to who writes, but not which of maybe
  thousands of files it was about.
  """
  try:
    yield
  except OSError as error:
    if error.filename is not None:
      raise
    if error.errno is None:  # Of numpy.
      raise OSError(f'{os.fspath(path)}: cannot be written: {error}') from None
    raise OSError(error.errno, error.strerror, os.fspath(path)) from None


def temporary_of(path: pathlib.Path) -> pathlib.Path:
  """Returns where to write what is to replace `path` when it is whole."""
  suffix = f'.{os.getpid()}.tmp'
  encoded = os.fsencode(path.name)
  if len(encoded) + len(suffix) > _MAX_NAME:
    return path.with_name(hashlib.sha256(encoded).hexdigest() + suffix)
  return path.with_name(path.name + suffix)
