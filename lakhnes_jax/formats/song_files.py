"""Song files of any kind on disk, told apart by their ending."""

import functools
import importlib
import os
import pathlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from lakhnes_jax import atomic, command_line, input_files
from lakhnes_jax import events as ev
from lakhnes_jax.synth.register_log import RegisterLog


class Format(NamedTuple):
  """How one kind of file becomes a song, and a song that kind of file.

  Attributes:
    read: from the content of a file to a song; None if only written.
    write: back; takes a keyword `rate` as well if `sampled`, and `title` if
      `titled`.
    read_log, write_log: of formats that hold register logs, these; `read_log`
      takes a keyword `loops` too if `looped`.
    sampled: whether songs are cut into steps.
    looped: whether a part can be marked to play again.
    titled: whether a file has a title; without one, its name is taken.
    notes: of a log, what this format cannot hold of it, one line each.
  """
  read: Callable[[bytes], np.ndarray] | None
  write: Callable[..., bytes]
  read_log: Callable | None = None
  write_log: Callable | None = None
  sampled: bool = False
  looped: bool = False
  titled: bool = False
  notes: Callable | None = None


def _lazy(module: str, function: str) -> Callable:
  """Returns a function of this package whose module is imported when used."""
  def call(*args, **options):
    return getattr(importlib.import_module(f'lakhnes_jax.formats.{module}'),
                   function)(*args, **options)
  return call


def _read_text(data: bytes) -> np.ndarray:
  return ev.from_text(data.decode('utf-8-sig', 'replace'))


def _write_text(vocabulary: ev.Vocabulary) -> Callable[[np.ndarray], bytes]:
  return lambda events: ev.to_text(vocabulary.project(events)).encode()


_MIDI = Format(_lazy('nes_midi', 'read'), _lazy('nes_midi', 'write'))


def _score(form: str) -> Format:
  return Format(_lazy('score_pickle', f'read_{form}'),
                _lazy('score_pickle', f'write_{form}'), sampled=True)


def _log(module: str, read: str, write: str, looped: bool = False) -> Format:
  """Returns the format of a register log, transcribed where songs are asked."""
  read_log, write_log = _lazy(module, read), _lazy(module, write)
  to_song, to_log = (_lazy('transcribe', f'{way}_events')
                     for way in ('to', 'from'))
  return Format(lambda data: to_song(read_log(data)),
                lambda events: write_log(to_log(events)),
                read_log, write_log, looped=looped)


def _program(writer: str, reader: str | None = None) -> Format:
  """Returns the format of songs as programs for the console's processor."""
  write_log = _lazy(writer, 'write')
  to_log = _lazy('transcribe', 'from_events')
  read, read_log = None, None
  if reader is not None:
    read, _, read_log, *_ = _log(reader, 'read', '')
  return Format(read, lambda events, title: write_log(to_log(events)._replace(
      tags={'title': title})), read_log, write_log, titled=True,
                notes=_lazy(writer, 'notes'))


def _tracker(module: str, reader: str | None = None) -> Format:
  """Returns the format of a tracker's text."""
  read, read_log = None, None
  if reader is not None:
    read, _, read_log, *_ = _log(reader, 'read', '')
  return Format(read, _lazy(module, 'write'), read_log,
                _lazy(module, 'write_log'), titled=True,
                notes=_lazy(module, 'notes'))


# By ending, in lower case. A new format is a line here.
FORMATS = {
    '.mid': _MIDI,
    '.midi': _MIDI,
    '.tx1.txt': Format(_read_text, _write_text(ev.TX1)),
    '.tx2.txt': Format(_read_text, _write_text(ev.TX2)),
    '.exprsco.pkl': _score('expressive'),
    '.seprsco.pkl': _score('separated'),
    '.blndsco.pkl': _score('blended'),
    '.nlm.pkl': _log('nlm', 'read', 'write'),
    '.ndf.txt': _log('ndf', 'read_ndf', 'write_ndf'),
    '.ndr.txt': _log('ndf', 'read_ndr', 'write_ndr'),
    '.vgm': _log('vgm', 'parse', 'build', looped=True),
    '.vgz': _log('vgm', 'parse', 'build_packed', looped=True),
    '.nsf': _program('nsf', 'nsf_read'),
    '.nes': _program('nes_rom'),
    '.famitracker.txt': _tracker('famitracker', 'famitracker_read'),
    '.famistudio.txt': _tracker('famistudio'),
}


_UNKNOWN = Format(None, lambda events: b'')


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
  """Returns the name of a file without folder and known ending.

  A file named `.mid`, say, keeps its ending.
  """
  name = pathlib.Path(path).name
  return name[:len(name) - len(_ending(name))] or name


def holds_log(path: str | os.PathLike) -> bool:
  """Returns whether files of this ending hold register logs."""
  ending = _ending(path)
  return bool(ending and FORMATS[ending].read_log)


def takes_log(path: str | os.PathLike) -> bool:
  """Returns whether register logs can be written to files of this ending."""
  ending = _ending(path)
  return bool(ending and FORMATS[ending].write_log)


def is_sampled(path: str | os.PathLike) -> bool:
  """Returns whether files of this ending hold scores, cut into steps."""
  ending = _ending(path)
  return bool(ending and FORMATS[ending].sampled)


def read_song(path: str | os.PathLike, loops: int = 1) -> np.ndarray:
  """Reads a song file of any known kind.

  Args:
    path: its ending says what it is.
    loops: how often the looped part plays, where there is one.

  Returns:
    int32 song (see `events`).

  Raises:
    ValueError: unknown ending or bad content; names the file and the reason.
    OSError: it cannot be read.
  """
  if holds_log(path):
    return to_song(path, read_log(path, loops))
  read = _format(path).read
  if read is None:
    raise ValueError(f'{path}: {_ending(path)[1:]} files are written only')
  return _read(path, read)


def to_song(path: str | os.PathLike, log: RegisterLog) -> np.ndarray:
  """Transcribes the register log that was read from `path`.

  Raises:
    ValueError: it is too long; names the file.
  """
  try:
    return _lazy('transcribe', 'to_events')(log)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from None


def read_log(path: str | os.PathLike, loops: int = 1) -> RegisterLog:
  """Reads a register log (see `register_log.RegisterLog`) of any known kind.

  Args and errors are those of `read_song`.
  """
  found = _format(path)
  if not found.read_log:
    raise ValueError(f'{path}: no register log')
  if found.looped or loops == 1:
    return _read(path, functools.partial(found.read_log, loops=loops)
                 if found.looped else found.read_log)
  from lakhnes_jax.formats import looping
  return looping.unroll(_read(path, found.read_log), loops)


def _read(path, read):
  data = input_files.read(path)  # Its errors name the file.
  try:
    return read(data)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from None


def write_song(path: str | os.PathLike, events: np.ndarray,
               rate: float | None = None, loop: int | None = None) -> None:
  """Writes a song as its ending says, atomically; makes the folder.

  Args:
    path: where to.
    events: int32 song (see `events`).
    rate: steps per second of a score, 24 if None; other formats have none.
    loop: sample at which it goes on after its end; only formats that take
      register logs have one, the others leave it out.

  Raises:
    ValueError: unknown ending, or the format cannot hold the song.
    OSError: it cannot be written.
  """
  found = _format(path)
  if loop is not None and found.write_log:
    from lakhnes_jax.formats import looping
    write_log(path, looping.to_log(looping.Looped(events, loop)))
    return
  if rate is None and found.titled:
    _write(path, functools.partial(found.write, title=song_name(path)), events)
  elif rate is None:
    _write(path, found.write, events)
  elif found.sampled:
    _write(path, functools.partial(found.write, rate=rate), events)
  else:
    raise ValueError(f'{path}: only scores have a rate')


def write_log(path: str | os.PathLike, log: RegisterLog) -> list[str]:
  """Writes a register log as its ending says, as `write_song`.

  Returns:
    what the file does not hold of it, one line each.
  """
  found = _format(path)
  if not found.write_log:
    raise ValueError(f'{path}: cannot hold a register log')
  if found.titled and not log.tags.get('title'):
    log = log._replace(tags=log.tags | {'title': song_name(path)})
  _write(path, found.write_log, log)
  return found.notes(log) if found.notes else []


def _write(path, write, value):
  try:
    data = write(value)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from None
  atomic.write(path, data)


def find_songs(sources: Iterable[str | os.PathLike]) -> list[pathlib.Path]:
  """Finds song files.

  Args:
    sources: files (taken whatever their ending), folders (searched at any
      depth for the known endings, links to folders and macOS's `._*` left
      out) and glob patterns; a leading `~` is the home folder.

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
  root = command_line.path(os.fspath(source))
  if root.is_dir():
    for path in input_files.walk(root):
      if FORMATS.get(_ending(path), _UNKNOWN).read:
        yield path, path.relative_to(root)
  elif root.exists():
    yield root, pathlib.PurePath(root.name)
  else:
    found = input_files.glob(str(root))
    if not found:
      raise FileNotFoundError(f'{source}: no such file or folder')
    for match in found:
      yield from _find(match)
