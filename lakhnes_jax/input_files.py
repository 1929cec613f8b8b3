"""Input files: found in folders and by patterns, and read if they are sane.

`._*` and `__MACOSX` are left out wherever a folder or pattern is searched:
macOS writes them into archives and onto foreign disks, with the ending of the
file that they describe, and there is no music in them. Links to folders are
not followed there, so that a search ends whatever they lead to.
"""

import contextlib
import glob as globbing
import os
import pathlib
import re
import stat
from collections.abc import Iterator

MIB = 2**20
_CHUNK = MIB
# Larger than any song file known: an hour of register writes is 10 MiB.
MAX_SONG_BYTES = 256 * MIB


def read(path: str | os.PathLike, max_bytes: int = MAX_SONG_BYTES) -> bytes:
  """Reads a regular file that is not too large.

  Raises:
    ValueError: it is a FIFO, a device or a folder, or larger than `max_bytes`;
      the message names the file.
    OSError: it cannot be read.
  """
  size = check(path, max_bytes)
  with open(path, 'rb') as file:
    # Not max_bytes, for which room would be made.
    parts = [file.read(size + 1)]
    while parts[-1] and size <= max_bytes:  # Files in /proc say 0.
      size = sum(map(len, parts))
      parts.append(file.read(_CHUNK))
  if size > max_bytes:
    raise ValueError(_too_large(path, max_bytes))
  return b''.join(parts)


def read_text(path: str | os.PathLike, max_bytes: int = MIB) -> str:
  """Reads UTF-8, a byte order mark left out.

  Raises:
    ValueError: as `read`, or it is no text; names the file.
    OSError: it cannot be read.
  """
  try:
    return read(path, max_bytes).decode('utf-8-sig')
  except UnicodeDecodeError:
    raise ValueError(f'{os.fspath(path)}: is no text (UTF-8)') from None


def check(path: str | os.PathLike, max_bytes: int | None = None) -> int:
  """Checks that a file is regular and not too large.

  Returns:
    its size in bytes; errors are those of `read`.
  """
  try:
    status = os.stat(path)
  except ValueError:  # With a NUL, or what no encoding of file names has.
    raise FileNotFoundError(f'{os.fspath(path)!r}: no such file') from None
  if not stat.S_ISREG(status.st_mode):
    kind = 'a folder' if stat.S_ISDIR(status.st_mode) else 'a pipe or device'
    raise ValueError(f'{os.fspath(path)}: {kind}, not a file')
  if max_bytes is not None and status.st_size > max_bytes:
    raise ValueError(_too_large(path, max_bytes))
  return status.st_size


def _too_large(path: str | os.PathLike, max_bytes: int) -> str:
  amount = next(f'{max_bytes >> shift} {unit}' for shift, unit in (
      (20, 'MiB'), (10, 'KiB'), (0, 'bytes')) if max_bytes >> shift)
  return f'{os.fspath(path)}: over {amount}'


@contextlib.contextmanager
def damage_named(path: str | os.PathLike, fault: str, remedy: str
                ) -> Iterator[None]:
  """Turns whatever a file's content raises into one ValueError of one line.

  Damaged archives of arrays fail in every possible way.

  Args:
    path: of the file.
    fault: what it is then, as in 'no forms of songs'.
    remedy: what to do.
  """
  try:
    yield
  except MemoryError:
    raise
  except Exception as error:
    reason = ' '.join(str(error).split())[:200]
    raise ValueError(f'{path}: {fault} ({type(error).__name__}: {reason}); '
                     f'{remedy}') from None


def is_metadata(name: str) -> bool:
  """Whether a relative path, with `/`, is one of macOS's metadata."""
  parts = name.split('/')
  return parts[-1].startswith('._') or '__MACOSX' in parts


def walk(folder: str | os.PathLike) -> Iterator[pathlib.Path]:
  """Yields the regular files below a folder, sorted within each folder."""
  for place, folders, names in os.walk(folder):
    folders[:] = sorted(name for name in folders if name != '__MACOSX')
    for name in sorted(names):
      path = pathlib.Path(place, name)
      if not is_metadata(name) and path.is_file():
        yield path


def glob(pattern: str) -> list[pathlib.Path]:
  """Returns the files and folders that match a pattern, sorted.

  `**` stands for any number of folders. Nothing is returned that lies below
  a folder that is returned itself.
  """
  parts = pathlib.Path(pattern).parts
  fixed = next((i for i, part in enumerate(parts) if globbing.has_magic(part)),
               len(parts))
  wild = []
  for part in parts[fixed:]:
    if part != '**':
      part = re.sub(r'\*+', '*', part)  # As a shell reads `a**`.
    elif wild and wild[-1] == '**':
      continue
    wild.append(part)
  root = pathlib.Path(*parts[:fixed])
  if not wild or not root.is_dir():
    return []
  found = set(root.glob('/'.join(wild)))
  if wild[-1] == '**':  # Which finds folders alone, until Python 3.13.
    found.add(root)
  return [path for path in sorted(found) if not is_metadata(
      path.relative_to(root).as_posix()) and not found & set(path.parents)]
