"""The index of a split of a corpus: what is written, what is accepted.

`train.json` holds the format's version, whether every song has dynamics,
whether the shards store instruments to arrange (see `arrangement`) in place of
songs, metadata, the file, number of songs, number of events and SHA-256 of each
shard, the name and length of each song in the order in which they lie in the
shards, and a checksum of all that. Indices of older versions of this package
have no checksum.
"""

import hashlib
import json
import re
from typing import Any, NamedTuple

import numpy as np

from lakhnes_jax import schema

FORMAT_VERSION = 1
MAX_BYTES = 2**31  # Of an index; one of Lakh's, 16 examples a file, has 2**28.
_COUNT = schema.Range(0, 2**31)
_SCHEMA = {
    'version': int, 'dynamics': bool, 'arranged_on_read?': bool,
    'ensembles?': bool, 'metadata': dict, 'names': [str], 'lengths': [_COUNT],
    'checksum?': str,
    'shards': [{'file': str, 'songs': _COUNT, 'events': _COUNT, 'sha256': str}]}
_FILE = re.compile(r'[^/\\:\0.][^/\\:\0]*\.npy')
_SHA256 = re.compile('[0-9a-f]{64}')


class Shard(NamedTuple):
  """One file of a split; see the schema."""
  file: str
  songs: int
  events: int
  sha256: str


class Index(NamedTuple):
  """A split.

  Attributes:
    shards: its files, at least one.
    names: of the songs.
    lengths: [songs] int64, numbers that each takes in its shard.
    dynamics: whether every song has velocities.
    arranged_on_read: whether it stores instruments.
    metadata: JSON values.
    checksum: digest of names, lengths and shards, 16 characters.
  """
  shards: tuple[Shard, ...]
  names: list[str]
  lengths: np.ndarray
  dynamics: bool
  arranged_on_read: bool
  metadata: dict[str, Any]
  checksum: str


def file_name(split: str, number: int, n_shards: int) -> str:
  """Returns the name of a shard."""
  return f'{split}-{number:05d}-of-{n_shards:05d}.npy'


def dump(split: str, shards: list[dict[str, Any]],
         arranged_on_read: bool = False,
         metadata: dict[str, Any] | None = None) -> bytes:
  """Returns the contents of the index of shards that are there.

  Args:
    split: its name.
    shards: in order, what `shards.write_shard` returned, and `file`, their
      names.
    arranged_on_read: whether they store instruments.
    metadata: JSON values: where the songs come from.
  """
  index = {'version': FORMAT_VERSION, 'split': split,
           'dynamics': all(shard['dynamics'] for shard in shards),
           'arranged_on_read': arranged_on_read, 'metadata': metadata or {},
           'shards': [{key: shard[key] for key in
                       ('songs', 'events', 'sha256', 'file')}
                      for shard in shards],
           'names': [name for shard in shards for name in shard['names']],
           'lengths': [n for shard in shards for n in shard['lengths']]}
  return json.dumps({**index, 'checksum': _digest(index)}, indent=1).encode()


def load(data: bytes) -> Index:
  """Reads what `dump` wrote.

  Raises:
    ValueError: it is no index, damaged, or of another version. One line, which
      does not name the file.
  """
  found = schema.parse(data, {'version': int})
  if found['version'] != FORMAT_VERSION:
    raise ValueError(f'format version {str(found["version"])[:20]}, this '
                     f'program reads {FORMAT_VERSION}')
  schema.check(found, _SCHEMA)
  checksum = found.pop('checksum', None)
  if checksum is not None and checksum != _digest(found):
    raise ValueError('its checksum is wrong: it was damaged or edited')
  shards = tuple(Shard(*(shard[field] for field in Shard._fields))
                 for shard in found['shards'])
  for shard in shards:
    if not _FILE.fullmatch(shard.file) or not _SHA256.fullmatch(shard.sha256):
      raise ValueError(f'not the name or SHA-256 of a shard: {shard.file!r}, '
                       f'{shard.sha256!r}'[:200])
  names, lengths = found['names'], np.array(found['lengths'], np.int64)
  counts = np.array([shard.songs for shard in shards], np.int64)
  events = np.array([shard.events for shard in shards], np.int64)
  if not (shards and len(names) == len(lengths) == counts.sum() and
          np.array_equal(events, [part.sum() for part in np.split(
              lengths, np.cumsum(counts)[:-1])])):
    raise ValueError(
        f'contradicts itself: {len(names)} names, {len(lengths)} lengths, '
        f'{counts.sum()} songs; {lengths.sum()} and {events.sum()} events')
  digest = hashlib.sha256(json.dumps(
      [names, found['lengths'], [shard.sha256 for shard in shards]]
  ).encode()).hexdigest()
  return Index(shards, names, lengths, found['dynamics'],
               # Its name once was another.
               found.get('arranged_on_read', found.get('ensembles', False)),
               found['metadata'], digest[:16])


def _digest(index: dict[str, Any]) -> str:
  return hashlib.sha256(
      json.dumps(index, sort_keys=True).encode()).hexdigest()
