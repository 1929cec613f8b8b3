"""Patterns of a corpus on disk, so that each song is parsed once.

Beside the index of a split, `train.json`, lies `train.tracker.npz`: the pattern
of every song, under the digest of its events. It is a cache: without it a song
is parsed when it is first read, which takes a tenth of a second or more.
`python -m data_prep.tracker` makes it.
"""

import hashlib
import io
import os
import pathlib
from collections.abc import Iterable

import numpy as np

from lakhnes_jax import atomic, input_files
from lakhnes_jax.tracker import pattern as pattern_lib

_MAX_BYTES = 2**32
_ENTRY_TYPES = {'frame': np.int32, 'voice': np.int8, 'pitch': np.int8,
                'macro': np.int16, 'gate': np.int8, 'stays': np.int32}


def path_of(folder: str | os.PathLike, split: str) -> pathlib.Path:
  """Returns where the patterns of a split lie."""
  return pathlib.Path(folder) / f'{split}.tracker.npz'


def digest(song: np.ndarray) -> bytes:
  """Returns 16 bytes that stand for a song's events."""
  return hashlib.blake2b(np.ascontiguousarray(song, np.int32).tobytes(),
                         digest_size=16).digest()


def write(path: pathlib.Path, version: str,
          patterns: Iterable[tuple[bytes, pattern_lib.Pattern]]) -> None:
  """Writes patterns under the digests of their songs.

  Args:
    path: of the file.
    version: of what made them.
    patterns: (digest, pattern) of each song.
  """
  patterns = list(patterns)
  arrays = {
      'version': np.array(version),
      'digest': np.frombuffer(b''.join(d for d, _ in patterns), np.uint8
                             ).reshape(-1, 16),
      'entries': np.array([len(p.frame) for _, p in patterns], np.int64),
      'rows': np.array([len(p.row_frames) for _, p in patterns], np.int64),
      'song': np.array([(p.bar_rows, p.phase, p.size) for _, p in patterns],
                       np.int32),
      'row_frames': np.concatenate([p.row_frames for _, p in patterns]),
      **{name: np.concatenate([getattr(p, name) for _, p in patterns]
                             ).astype(dtype)
         for name, dtype in _ENTRY_TYPES.items()}}
  buffer = io.BytesIO()
  np.savez_compressed(buffer, **arrays)
  atomic.write(path, buffer.getvalue())


def read(path: pathlib.Path, version: str
        ) -> dict[bytes, pattern_lib.Pattern]:
  """Reads patterns by digest; none where the file is of another version.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is damaged.
  """
  data = input_files.read(path, _MAX_BYTES)
  with input_files.damage_named(
      path, 'damaged',
      'delete it, or make it anew with python -m data_prep.tracker'):
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
      if str(file['version']) != version:
        return {}
      arrays = {name: file[name] for name in file.files}
    entry = np.append(0, np.cumsum(arrays['entries']))
    row = np.append(0, np.cumsum(arrays['rows']))
    columns = {name: arrays[name].astype(np.int32) for name in _ENTRY_TYPES}
    found = {}
    for i, key in enumerate(arrays['digest']):
      span = slice(entry[i], entry[i + 1])
      bar_rows, phase, size = arrays['song'][i].tolist()
      found[key.tobytes()] = pattern_lib.Pattern(
          row_frames=arrays['row_frames'][row[i]:row[i + 1]],
          bar_rows=bar_rows, phase=phase, size=size,
          **{name: column[span] for name, column in columns.items()})
  return found
