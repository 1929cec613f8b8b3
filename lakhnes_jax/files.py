"""Song files of any kind on disk, told apart by their ending."""

import glob
import importlib
import os
import pathlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from lakhnes_jax import events as ev


class Format(NamedTuple):
  """How one kind of file becomes a song, and a song that kind of file."""
  read: Callable[[bytes], np.ndarray]
  write: Callable[[np.ndarray], bytes]


def _lazy(module: str, function: str) -> Callable:
  """Returns a function of this package whose module is imported when used."""
  def call(value):
    return getattr(importlib.import_module(f'lakhnes_jax.{module}'),
                   function)(value)
  return call


def _read_text(data: bytes) -> np.ndarray:
  return ev.from_text(data.decode('utf-8', 'replace'))


def _write_text(vocabulary: ev.Vocabulary) -> Callable[[np.ndarray], bytes]:
  return lambda events: ev.to_text(vocabulary.project(events)).encode()


_MIDI = Format(_lazy('nesmidi', 'read'), _lazy('nesmidi', 'write'))


def _score(form: str) -> Format:
  return Format(_lazy('scorefiles', f'read_{form}'),
                _lazy('scorefiles', f'write_{form}'))


# By ending, in lower case. A new format is a line here.
FORMATS = {
    '.mid': _MIDI,
    '.midi': _MIDI,
    '.tx1.txt': Format(_read_text, _write_text(ev.TX1)),
    '.tx2.txt': Format(_read_text, _write_text(ev.TX2)),
    '.vgm': Format(_lazy('transcribe', 'read_vgm'),
                   _lazy('transcribe', 'write_vgm')),
    '.vgz': Format(_lazy('transcribe', 'read_vgm'),
                   _lazy('transcribe', 'write_vgz')),
    '.exprsco.pkl': _score('expressive'),
    '.seprsco.pkl': _score('separated'),
    '.blndsco.pkl': _score('blended'),
}


def _ending(path: str | os.PathLike) -> str:
  """Returns the ending of a song file, a key of `FORMATS`, or ''."""
  name = pathlib.Path(path).name.lower()
  return next((ending for ending in FORMATS if name.endswith(ending)), '')


def _format(path: str | os.PathLike) -> Format:
  ending = _ending(path)
  if not ending:
    raise ValueError(f'{path}: not the ending of a song file; known are ' +
                     ', '.join(FORMATS))
  return FORMATS[ending]


def song_name(path: str | os.PathLike) -> str:
  """Returns the name of a file without folder and known ending."""
  name = pathlib.Path(path).name
  return name[:len(name) - len(_ending(name))]


def read_song(path: str | os.PathLike) -> np.ndarray:
  """Reads a song file of any known kind.

  Returns:
    int32 song (see `events`).

  Raises:
    ValueError: unknown ending or bad content; names the file and the reason.
    OSError: it cannot be read.
  """
  read = _format(path).read
  try:
    return read(pathlib.Path(path).read_bytes())
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from None


def write_song(path: str | os.PathLike, events: np.ndarray) -> None:
  """Writes a song as its ending says, atomically; makes the folder.

  Raises:
    ValueError: unknown ending, or the format cannot hold the song.
    OSError: it cannot be written.
  """
  write = _format(path).write
  try:
    data = write(events)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from None
  write_atomic(path, data)


def find_songs(sources: Iterable[str | os.PathLike]) -> list[pathlib.Path]:
  """Finds song files.

  Args:
    sources: files (taken whatever their ending), folders (searched at any
      depth for the known endings) and glob patterns.

  Returns:
    their paths, sorted, each once.

  Raises:
    FileNotFoundError: there is no such file or folder.
  """
  return sorted({path for source in sources for path, _ in _find(source)},
                key=lambda path: path.as_posix())


def name_songs(sources: Iterable[str | os.PathLike]
              ) -> dict[str, pathlib.Path]:
  """Finds song files and names each.

  Args:
    sources: as in `find_songs`.

  Returns:
    name -> path, sorted by name. The name of what lay in a given folder starts
    with its place there, as in 'train/song'.

  Raises:
    ValueError: two files have one name; names both.
    FileNotFoundError: there is no such file or folder.
  """
  named = {}
  for source in sources:
    for path, place in _find(source):
      name = place.with_name(song_name(place)).as_posix()
      other = named.setdefault(name, path)
      if other != path:
        raise ValueError(f'{other} and {path} are both named {name!r}; '
                         'rename or leave out one')
  return dict(sorted(named.items()))


def _find(source: str | os.PathLike
         ) -> Iterable[tuple[pathlib.Path, pathlib.PurePath]]:
  """Yields the files of one source, and where below it they lie."""
  root = pathlib.Path(source)
  if root.is_dir():
    for path in root.rglob('*'):
      if _ending(path) and path.is_file():
        yield path, path.relative_to(root)
  elif root.exists():
    yield root, pathlib.PurePath(root.name)
  else:
    found = glob.glob(str(source), recursive=True)
    if not found:
      raise FileNotFoundError(f'{source}: no such file or folder')
    for match in found:
      yield from _find(match)


def write_atomic(path: str | os.PathLike, data: bytes) -> None:
  """Writes a file whole or not at all; makes its folder if need be."""
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f'{path.name}.{os.getpid()}.tmp')
  try:
    temporary.write_bytes(data)
    os.replace(temporary, path)
  except BaseException:
    temporary.unlink(missing_ok=True)
    raise
