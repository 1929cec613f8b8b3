"""Locks by which processes keep out of each other's folders and files.

They are the operating system's (`flock`), so that one is free as soon as its
process ends, however it ends, and nothing is left on the disk. Where there are
none (Windows, some network file systems) nothing is locked.
"""

import contextlib
import errno
import os
import pathlib
from collections.abc import Iterator

try:
  import fcntl
except ImportError:
  fcntl = None

_BUSY = (errno.EAGAIN, errno.EACCES)


@contextlib.contextmanager
def exclusive(folder: str | os.PathLike, *,
              wait: bool = False) -> Iterator[None]:
  """Holds a folder, which is made if need be, while the context lasts.

  Args:
    folder: its path.
    wait: until nobody else holds it.

  Raises:
    OSError: another process, or another context of this one, holds it, without
      `wait`; or it cannot be made. The message names the folder.
  """
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  if fcntl is None:
    yield
    return
  with _opened(folder) as descriptor:
    if not _lock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB)):
      raise OSError(f'{folder}: another process is writing there; wait until '
                    'it has ended, or take another folder')
    yield


@contextlib.contextmanager
def in_turn(path: str | os.PathLike) -> Iterator[bool]:
  """Holds a file, which is made if need be; waits while another holds it.

  Yields:
    whether it had to wait, so that the work may be done already.
  """
  waited = False
  while fcntl is not None:
    with open(path, 'ab') as file:
      if not _lock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB):
        waited = True
        _lock(file.fileno(), fcntl.LOCK_EX)
      if _is_at(file.fileno(), path):
        yield waited
        return
    # Whoever held it has moved it away meanwhile.
  yield waited


@contextlib.contextmanager
def signed(path: str | os.PathLike) -> Iterator[str | None]:
  """Holds a file, made if need be, in which the process leaves its number.

  Yields:
    None if it is held now; else who holds it, as in 'process 123'.
  """
  with open(path, 'a+', encoding='utf-8', errors='replace') as file:
    if fcntl is not None and not _lock(file.fileno(),
                                       fcntl.LOCK_EX | fcntl.LOCK_NB):
      file.seek(0)
      yield file.readline(99).strip() or 'another process'
      return
    file.truncate(0)
    file.write(f'process {os.getpid()}\n')
    file.flush()
    yield None


@contextlib.contextmanager
def _opened(folder: pathlib.Path) -> Iterator[int]:
  descriptor = os.open(folder, os.O_RDONLY)
  try:
    yield descriptor
  finally:
    os.close(descriptor)


def _lock(descriptor: int, how: int) -> bool:
  """Returns whether the lock was had; true as well where there are none."""
  try:
    fcntl.flock(descriptor, how)
  except OSError as error:
    return error.errno not in _BUSY
  return True


def _is_at(descriptor: int, path: str | os.PathLike) -> bool:
  try:
    return os.path.samestat(os.fstat(descriptor), os.stat(path))
  except FileNotFoundError:
    return False
