"""The MIDI files of a collection, and the adaptation of each."""

import hashlib
import itertools
import json
import pathlib
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from data_prep import adapt, archives
from lakhnes_jax import command_line, input_files
from lakhnes_jax.data import arrangement
from lakhnes_jax.formats import general_midi

SUFFIXES = ('.mid', '.midi', '.kar')
MAX_BYTES = 512 * 1024  # The original skipped larger files.


class Source(NamedTuple):
  """A MIDI file: on disk (`path`), or in memory (`data`), or too large."""
  name: str
  size: int
  modified: int
  path: str | None = None
  data: bytes | None = None


def find(source: str, limit: int | None = None
        ) -> tuple[Iterator[Source], int | None]:
  """Returns the MIDI files of a folder or archive, and how many, if known.

  Args:
    source: folder of MIDI files, or a .tar.gz of one.
    limit: the first files only.

  Raises:
    OSError, ValueError: there is no such folder or archive, or it is damaged.
  """
  path = command_line.path(source)
  if path.is_dir():
    found = sorted(p for p in input_files.walk(path)
                   if p.suffix.lower() in SUFFIXES)[:limit]
    return (_on_disk(p, path) for p in found), len(found)
  if not path.is_file():
    raise FileNotFoundError(no_such(source))
  return itertools.islice(_in_file(path), limit), None


def no_such(source: str) -> str:
  return (f'{source}: no such folder or archive; give the folder of the MIDI '
          'files or lmd_full.tar.gz')


def _on_disk(path: pathlib.Path, root: pathlib.Path) -> Source:
  status = path.stat()
  return Source(clean(path.relative_to(root).as_posix()), status.st_size,
                status.st_mtime_ns, path=str(path))


def _in_file(path: pathlib.Path) -> Iterator[Source]:
  with open(path, 'rb') as file:
    yield from in_archive(file, str(path))


def in_archive(file: BinaryIO, name: str) -> Iterator[Source]:
  """Yields the MIDI files of an open archive in the order they lie in it.

  Raises:
    ValueError: it is no archive, or damaged; calls it by its `name`.
  """
  try:
    for member, content in archives.read(file, name):
      if content is not None and member.name.lower().endswith(
          SUFFIXES) and not input_files.is_metadata(member.name):
        data = content.read() if member.size <= MAX_BYTES else None
        yield Source(clean(member.name), member.size, int(member.mtime),
                     data=data)
  except ValueError as error:
    raise ValueError(f'{error}; download it again') from error


def clean(name: str) -> str:
  """Escapes the bytes of a file's name that are no UTF-8."""
  return name.encode('utf-8', 'backslashreplace').decode()


def attempt(source: Source) -> tuple[np.ndarray, dict[str, Any]]:
  """Adapts one file, whatever is in it.

  Returns:
    its packed instruments (see `lakhnes_jax.data.arrangement`), and facts: its
    `name`, the `hash` of its notes, its `seconds` and the `length` of what is
    packed; or an empty array, its `name` and the `error`.
  """
  try:
    packed, facts = adapt_file(source)
  except (ValueError, OSError) as error:
    packed, facts = np.empty(0, np.int32), {'error': str(error)}
  except Exception as error:  # One file must not end the job of thousands.
    packed = np.empty(0, np.int32)
    facts = {'error': f'{type(error).__name__}: {error}'}
  return packed, {'name': source.name, **facts}


def adapt_file(source: Source, strict: bool = True
              ) -> tuple[np.ndarray, dict[str, Any]]:
  """Adapts one file.

  Args:
    source: the file.
    strict: whether to refuse what the original refused (see
      `general_midi.read`).

  Returns:
    its packed instruments, and the `hash` of its notes, its `seconds`, and the
    `length` of what is packed.

  Raises:
    ValueError, OSError: it cannot be adapted; the message is the reason.
  """
  if source.size > MAX_BYTES:
    raise ValueError(f'over {MAX_BYTES // 1024} KiB')
  data = source.data
  if data is None:
    data = pathlib.Path(source.path).read_bytes()
  instruments = general_midi.read(data, strict)
  song = adapt.select_instruments(instruments)
  packed = arrangement.pack(song)
  return packed, {'hash': adapt.content_hash(song), 'length': len(packed),
                  'seconds': adapt.seconds(instruments)}


def digest_of(*values: Any) -> str:
  """Returns a SHA-256 of JSON values."""
  return hashlib.sha256(json.dumps(values).encode()).hexdigest()
