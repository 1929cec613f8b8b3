"""Corpora on disk: memory-mapped arrays of events, and one index per split.

A split is a few files in one folder:

*   `train-00000-of-00002.npy` and so on, the *shards*: 1-D int32 arrays of
    exact (unquantised) events, song after song; no song straddles two shards;
*   `train.json`, the *index* (see `shard_index`), with the checksums of the
    shards.

The index is written last, so a split is there whole or not at all. Where a
split is opened its shards are verified; their sizes and times of modification
are remembered in `~/.cache/lakhnes_jax/verified`, so that they are not read for
that again.
"""

import contextlib
import hashlib
import io
import itertools
import json
import mmap
import os
import pathlib
from collections.abc import Iterable
from typing import Any, BinaryIO

import numpy as np

from lakhnes_jax import atomic, input_files, schema
from lakhnes_jax import events as ev
from lakhnes_jax.data import arrangement, shard_index
from lakhnes_jax.data.shard_index import Shard, file_name

_MAX_EVENTS = 2**24  # A shard of 64 MiB.
_RESIDENT = 2**28  # Bytes of shards mapped in, after which all are let go.
_AROUND = 2**16  # What Linux maps in around a page that is touched.


def write_split(folder: str | os.PathLike, split: str,
                songs: Iterable[tuple[str, np.ndarray]], *,
                max_events: int = _MAX_EVENTS, arranged_on_read: bool = False,
                metadata: dict[str, Any] | None = None) -> 'Corpus':
  """Writes the songs of one split, replacing what was there.

  The same songs and metadata give the same bytes. At most one shard is held
  in memory at a time. While shards are being made an older split stays usable.

  Args:
    folder: made if need be.
    split: 'train', 'valid' or 'test', or any name fit for a file.
    songs: names and int32 events, in the order in which they are to lie.
    max_events: a shard is closed before it would pass this; a longer song has
      one to itself.
    arranged_on_read: whether these are not songs but packed instruments.
    metadata: JSON values kept in the index: where the songs come from.

  Returns:
    The split, opened.

  Raises:
    ValueError: there are no songs, or one holds what is no event.
  """
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  index_path = folder / f'{split}.json'
  shards, pending, held = [], [], 0  # Held: events in `pending`.

  def close_shard():
    path = folder / f'{split}-{len(shards):05d}.npy.tmp'
    with atomic.named(path), open(path, 'wb') as file:
      shards.append(write_shard(file, pending))
    pending.clear()

  try:
    for name, song in songs:
      song = np.asarray(song, np.int32)
      if pending and held + len(song) > max_events:
        close_shard()
        held = 0
      held += len(song)
      pending.append((name, song))
    if not pending:
      raise ValueError(f'{folder}: no songs for split {split}')
    close_shard()
    stale = set(folder.glob(f'{split}-?????-of-?????.npy'))
    # Without its index the split does not exist, so that no index ever names
    # files of another run.
    index_path.unlink(missing_ok=True)
    for i, shard in enumerate(shards):
      shard['file'] = file_name(split, i, len(shards))
      os.replace(folder / f'{split}-{i:05d}.npy.tmp', folder / shard['file'])
      stale.discard(folder / shard['file'])
  finally:
    for path in folder.glob(f'{split}-?????.npy.tmp'):
      path.unlink()
  atomic.write(index_path, shard_index.dump(split, shards, arranged_on_read,
                                            metadata))
  for path in stale:
    path.unlink()
  return Corpus(folder, split, verified=False)


def write_shard(file: BinaryIO, songs: list[tuple[str, np.ndarray]]
               ) -> dict[str, Any]:
  """Writes named int32 songs as one shard to an open file.

  Returns:
    JSON values for `shard_index.dump`, which also needs its `file`.

  Raises:
    ValueError: a song holds what is no event.
  """
  dynamics = [_has_dynamics(name, song) for name, song in songs]
  lengths = [len(song) for _, song in songs]
  header, digest = io.BytesIO(), hashlib.sha256()
  np.lib.format.write_array_header_1_0(header, {
      'descr': '<i4', 'fortran_order': False, 'shape': (sum(lengths),)})
  for data in itertools.chain(
      [header.getvalue()], (song.astype('<i4').tobytes() for _, song in songs)):
    file.write(data)
    digest.update(data)
  return {'songs': len(songs), 'events': sum(lengths),
          'sha256': digest.hexdigest(), 'dynamics': all(dynamics),
          'names': [name for name, _ in songs], 'lengths': lengths}


def _has_dynamics(name: str, song: np.ndarray) -> bool:
  """Whether a song has velocities; checks its events."""
  if song.ndim != 1 or (song.size and song.min() < -ev.N_CODES):
    raise ValueError(f'song {name}: not a 1-D array of events')
  kinds, voices = ev.kind_of(song), ev.voice_of(song)
  notes = (kinds == ev.NOTEON) & (voices != ev.TR)
  return bool((kinds == ev.VELOCITY).any() or not notes.any())


def _sha256(path: pathlib.Path) -> str:
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


class Corpus:
  """The songs of one split, read from disk as they are asked for.

  Attributes:
    names: the name of each song.
    lengths: [songs] int64, events of each song, or size of packed instruments.
    arranged_on_read: whether it stores instruments, arranged when read.
    dynamics: whether every song has velocities, as format TX2 needs.
    metadata: what the writer noted down.
    checksum: short digest of names and events, for run configs.
    folder, split: where it lies.
  """

  def __init__(self, folder: str | os.PathLike, split: str,
               verified: bool = True):
    """Opens a split.

    Args:
      folder: what `write_split` wrote to.
      split: its name.
      verified: check the shards' checksums, unless that was done before.

    Raises:
      FileNotFoundError: there is none; the message says how to make it.
      ValueError: it is damaged or of another format version; names the file.
    """
    self.folder = self._folder = pathlib.Path(folder)
    self.split = split
    path = self._folder / f'{split}.json'
    if not path.exists():
      raise FileNotFoundError(_how_to_make(self._folder, split))
    data = input_files.read(path, shard_index.MAX_BYTES)
    try:
      index = shard_index.load(data)
    except ValueError as error:
      raise ValueError(f'{path}: not an index of shards, or damaged: {error}; '
                       'prepare the data again') from None
    self.names, self.lengths = index.names, index.lengths
    self.dynamics = index.dynamics
    self.arranged_on_read = index.arranged_on_read
    self.metadata, self.checksum = index.metadata, index.checksum
    self._index = index.shards
    if verified:
      self._verify_once(_record(path))
    self._shards = [self._open(shard) for shard in index.shards]
    self._touched = 0
    counts = [shard.songs for shard in index.shards]
    self._shard_of = np.repeat(np.arange(len(counts)), counts)
    ends = np.cumsum(self.lengths)
    first = np.cumsum([0, *(shard.events for shard in index.shards)])
    self._start = ends - self.lengths - first[self._shard_of]

  def verify(self, known: dict[str, Any] | None = None) -> dict[str, Any]:
    """Reads every shard that is not known to be good, and checks it.

    Args:
      known: what this method returned earlier; None to read all.

    Returns:
      JSON: size, time of modification, number (inode) and SHA-256 of each.

    Raises:
      ValueError: one is missing or damaged; names it.
    """
    found = {}
    for shard in self._index:
      path = self._folder / shard.file
      try:
        input_files.check(path)
        status = path.stat()
        # The number, as a copy may keep the time.
        mark = [status.st_size, status.st_mtime_ns, status.st_ino, shard.sha256]
        if (known or {}).get(shard.file) != mark and (
            _sha256(path) != shard.sha256):
          raise ValueError(f'{path}: damaged: its SHA-256 is not that of its '
                           'index')
      except (OSError, ValueError) as error:
        raise ValueError(f'{error}; prepare the data again') from None
      found[shard.file] = mark
    return found

  def _verify_once(self, record: pathlib.Path) -> None:
    """Does `verify`, and records what is good in a file."""
    try:
      known = schema.parse(input_files.read(record, shard_index.MAX_BYTES), {})
    except (OSError, ValueError):
      known = None
    found = self.verify(known)
    if found != known:
      with contextlib.suppress(OSError):  # No home, or it is read-only.
        atomic.write(record, json.dumps(found).encode())

  def _open(self, shard: Shard) -> np.ndarray:
    """Maps one shard into memory, read only."""
    path = self._folder / shard.file
    try:
      data = np.load(path, mmap_mode='r' if shard.events else None)
    except MemoryError:
      raise
    except Exception as error:  # Odd headers fail in every possible way.
      raise ValueError(f'{path}: not a shard ({" ".join(str(error).split())}); '
                       'prepare the data again') from None
    if data.dtype != np.int32 or data.shape != (shard.events,):
      raise ValueError(f'{path}: holds {data.dtype}{list(data.shape)}, its '
                       f'index says int32[{shard.events}]')
    return np.asarray(data)  # A plain array slices faster than np.memmap.

  def __len__(self) -> int:
    return len(self.names)

  def song(self, i: int, rng: np.random.Generator | None = None) -> np.ndarray:
    """Returns the int32 events of song `i`: a read-only view of the disk.

    Of stored instruments it returns the arrangement that `rng` draws; without
    `rng` always the same one.

    Raises:
      IndexError: there is no such song.
      ValueError: what is stored there is no song; names the shard.
    """
    if not 0 <= i < len(self):
      raise IndexError(f'song {i} of {len(self)}')
    start = self._start[i]
    stored = self._shards[self._shard_of[i]][start:start + self.lengths[i]]
    self._touched += stored.nbytes + _AROUND
    if self._touched > _RESIDENT:
      self._touched = 0
      self._let_go()
    try:
      if self.arranged_on_read:
        return arrangement.arrange(arrangement.unpack(stored),
                                   rng or np.random.default_rng(i))
      if stored.min(initial=0) < -ev.N_CODES:
        raise ValueError('holds what is no event')
      return stored
    except ValueError as error:
      path = self._folder / self._index[self._shard_of[i]].file
      raise ValueError(f'{path}: song {self.names[i]!r}: {error}; prepare the '
                       'data again') from None

  def _let_go(self):
    """Gives mapped pages back, so that a large corpus needs little memory.

    Whoever still reads one gets it again from the system's cache of files.
    """
    if not hasattr(mmap, 'MADV_DONTNEED'):  # Windows does it by itself.
      return
    for shard in self._shards:
      mapping = getattr(shard.base, 'base', None)
      if isinstance(mapping, mmap.mmap):
        mapping.madvise(mmap.MADV_DONTNEED)


def _record(path: pathlib.Path) -> pathlib.Path:
  """Returns where it is remembered that the shards of an index are good."""
  cache = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
  name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:32]
  return pathlib.Path(cache, 'lakhnes_jax', 'verified', f'{name}.json')


def _how_to_make(folder: pathlib.Path, split: str) -> str:
  """Returns what is missing and which command makes it."""
  others = sorted(p.stem for p in folder.glob('*.json')) or ['nothing']
  there = (f'it holds {", ".join(others)}' if folder.is_dir() else
           'the folder does not exist')
  return (f'{folder}: no split {split!r} here ({there}). Make it with '
          f'`python -m data_prep.nesmdb --input=FOLDER --output={folder}` from '
          'NES songs, or from General MIDI (Lakh) with '
          f'`python -m data_prep.lakh --input=FOLDER --output={folder}`')
