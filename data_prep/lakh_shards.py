"""Assignment of `data_prep.lakh`'s songs to shards, and the files written.

Everything is a pure function of the songs and the configuration, independent of
the order of the songs, so that every runner writes the same bytes. Songs lie
in the order of the hashes of their notes. The low digits of its hash decide
whether a song is held out, the high ones in which shard it lies.
"""

import collections
import json
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, NamedTuple, TypeVar

import numpy as np

from data_prep import adapt, lakh_files
from lakhnes_jax import events as ev
from lakhnes_jax.data import arrangement, shard_index, shards

EXAMPLES_PER_FILE = 16  # The paper's.
_SHARD_SIZE = 2**23  # Numbers in a shard of 32 MiB; about.
S = TypeVar('S')
_COLUMNS = ('file', 'result', 'seconds', 'notes', 'examples')


class ShardConfig(NamedTuple):
  """Configuration of the shards.

  Attributes:
    seed: of what is drawn for examples.
    valid_percent: share of songs held out, by their hash; if it is not 0, at
      least one of two songs.
    train_examples: how many of each training song; 0 to store
      instruments (see `lakhnes_jax.data.arrangement`).
  """
  seed: int = 0
  valid_percent: float = 5
  train_examples: int = 0

  def examples(self, split: str) -> int:
    """Examples of each song of a split; 0 if it stores instruments.

    The valid split always holds examples, so that losses on it can be compared.
    """
    return self.train_examples if split == 'train' else EXAMPLES_PER_FILE


class Song(NamedTuple):
  """A file that is kept.

  Attributes:
    digest: hash of its notes, 64 hexadecimal digits.
    name: of the file.
    seconds: its length.
    packed: its instruments (packed, see `lakhnes_jax.data.arrangement`).
  """
  digest: str
  name: str
  seconds: float
  packed: np.ndarray


class Row(NamedTuple):
  """A line of the manifest: the result for one file."""
  name: str
  result: str  # Its split, or why it is in none.
  seconds: float | None = None
  digest: str = ''
  examples: int = 0


class Totals(NamedTuple):
  """Totals over all songs, needed before any is written.

  Attributes:
    songs: their number.
    size: numbers that they will take in train.
    valid_songs: those to be held out.
    valid_size: numbers that those will take in train.
    lowest: (share, digest, size in train) of the one nearest to being held
      out.
  """
  songs: int = 0
  size: int = 0
  valid_songs: int = 0
  valid_size: int = 0
  lowest: tuple[int, str, int] | None = None

  def plus(self, other: 'Totals') -> 'Totals':
    both = [t.lowest for t in (self, other) if t.lowest]
    return Totals(*(a + b for a, b in zip(self[:4], other[:4], strict=True)),
                  min(both, default=None))


class Plan(NamedTuple):
  """The shards of each split, and the rule of what is held out.

  Attributes:
    n_shards: shards of each split that has any.
    held_out: the only song in valid, '' for none; if None, shares decide.
  """
  n_shards: dict[str, int]
  held_out: str | None


def totals_of(digest: str, length: int, config: ShardConfig) -> Totals:
  """Returns the totals of one song, of packed size `length`."""
  size = length * max(1, config.train_examples)
  valid = _is_valid(digest, config)
  return Totals(1, size, int(valid), valid * size,
                (_share(digest), digest, size))


def plan(totals: Totals, config: ShardConfig) -> Plan:
  """Computes the number of shards; there must be at least one song."""
  n_valid, valid_size, held_out = totals.valid_songs, totals.valid_size, None
  if totals.songs == 1:
    n_valid, valid_size, held_out = 0, 0, ''
  elif config.valid_percent and not 0 < n_valid < totals.songs:
    n_valid, (_, held_out, valid_size) = 1, totals.lowest
  sizes = {'train': totals.size - valid_size}
  if n_valid:
    sizes['valid'] = (valid_size // max(1, config.train_examples) *
                      EXAMPLES_PER_FILE)
  return Plan({split: 1 + size // _SHARD_SIZE for split, size in sizes.items()},
              held_out)


def place(digest: str, plan: Plan, config: ShardConfig) -> tuple[str, int]:
  """Returns split and number of the shard of a song."""
  valid = (_is_valid(digest, config) if plan.held_out is None else
           digest == plan.held_out)
  split = 'valid' if valid else 'train'
  return split, int(digest[:8], 16) * plan.n_shards[split] >> 32


def _share(digest: str) -> int:
  return int(digest[-8:], 16)


def _is_valid(digest: str, config: ShardConfig) -> bool:
  return _share(digest) / 2**32 * 100 < config.valid_percent


def choose(same: Iterable[S]) -> tuple[S, list[Row]]:
  """Chooses one of files with the same notes.

  Args:
    same: `Song`s, or anything else with name, seconds and digest.

  Returns:
    the one whose name sorts first, and the manifest of the others.
  """
  chosen, *others = sorted(same, key=lambda song: (song.name, song.seconds))
  return chosen, [Row(song.name, f'same notes as {chosen.name}', song.seconds,
                      song.digest) for song in others]


def write_shard(file: BinaryIO, songs: Iterable[Song], split: str,
                config: ShardConfig) -> dict[str, Any]:
  """Writes the songs of one shard, in whatever order they come.

  Returns:
    JSON values for `finish`, which also wants its `split` and `number`.
  """
  songs = sorted(songs, key=lambda song: song.digest)
  limit, stored, rows = config.examples(split), [], []
  counts = collections.Counter()
  for song in songs:
    made = list(_examples(song, limit, config.seed) if limit else
                _whole(song))
    rows.append(Row(song.name, split, song.seconds, song.digest, len(made)))
    for name, kept, played in made:
      stored.append((name, kept))
      counts['events'] += len(played)
      counts['samples'] += int(np.maximum(played, 0).sum(dtype=np.int64))
  return {**shards.write_shard(file, stored), 'counts': dict(counts),
          'rows': rows}


def _whole(song: Song) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
  """Yields name, what to store, and one of its arrangements."""
  rng = np.random.default_rng(int(song.digest, 16))
  yield (song.name, song.packed,
         arrangement.arrange(arrangement.unpack(song.packed), rng))


def _examples(song: Song, limit: int, seed: int
             ) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
  """Yields name, what to store, and the same again, of each example."""
  rng = np.random.default_rng((seed, int(song.digest, 16)))
  for number, example in enumerate(
      adapt.examples(arrangement.unpack(song.packed), rng, limit)):
    yield f'{song.name}#{number}', example, example


def finish(made: Iterable[dict[str, Any]], rows: Iterable[Row],
           plan: Plan, config: ShardConfig) -> dict[str, bytes]:
  """Makes the files that are written once all shards exist.

  Args:
    made: of each shard what `write_shard` returned, its `split` and `number`.
    rows: of the manifest, except those of the songs in the shards.
    plan: of the shards.
    config: see there.

  Returns:
    contents of files by their names: an index a split, which must come last,
    manifest.tsv and summary.json.
  """
  splits = {split: [] for split in plan.n_shards}
  for shard in sorted(made, key=lambda shard: shard['number']):
    splits[shard['split']].append(shard)
  rows = list(rows)
  summary = {'files': 0, 'results': {}, 'splits': {}}
  indices = {}
  for split, of_split in splits.items():
    kept = [Row(*row) for shard in of_split for row in shard['rows']]
    rows.extend(kept)
    counts = collections.Counter()
    for shard in of_split:
      counts.update(shard['counts'])
      shard['file'] = file_of(shard, plan)
    summary['splits'][split] = {
        'songs': len(kept), 'examples': sum(row.examples for row in kept),
        'events': counts['events'],
        'hours': counts['samples'] / (3600 * ev.SAMPLE_RATE)}
    indices[f'{split}.json'] = shard_index.dump(
        split, of_split, not config.examples(split),
        {'command': 'data_prep.lakh', **config._asdict()})
  rows.sort(key=lambda row: (row.name, row.result, row.digest))
  summary['files'] = len(rows)
  summary['results'] = dict(collections.Counter(
      'kept' if row.result in splits else
      'same notes as another' if row.digest else
      row.result.split(':')[0] for row in rows).most_common())
  return {'manifest.tsv': manifest(rows),
          'summary.json': json.dumps(summary, indent=1).encode(), **indices}


def file_of(shard: dict[str, Any], plan: Plan) -> str:
  """Returns the name of the file of a shard with `split` and `number`."""
  return shard_index.file_name(shard['split'], shard['number'],
                          plan.n_shards[shard['split']])


def manifest(rows: Iterable[Row]) -> bytes:
  """Returns the content of manifest.tsv: a line per file, sorted by name."""
  rows = sorted(rows, key=lambda row: (row.name, row.result, row.digest))
  lines = ['\t'.join(_COLUMNS), *map(_line, rows), '']
  return '\n'.join(lines).encode('utf-8', 'backslashreplace')


def _line(row: Row) -> str:
  cells = (row.name, row.result,
           '' if row.seconds is None else f'{row.seconds:.3f}', row.digest,
           str(row.examples))
  return '\t'.join(' '.join(cell.split()) for cell in cells)


def why_nothing(rows: list[Row]) -> str:
  """Summarises why no file was kept."""
  if not rows:
    return f'no {", ".join(lakh_files.SUFFIXES)} file there'
  reasons = collections.Counter(row.result.split(':')[0] for row in rows)
  return f'none of {reasons.total()} files can be adapted: ' + ', '.join(
      f'{n} {reason}' for reason, n in reasons.most_common(5))


def describe(summary: dict[str, Any]) -> str:
  """Returns the summary as lines to read."""
  results = ''.join(f'\n{count:8d}  {result}'
                    for result, count in summary['results'].items())
  splits = ''.join(
      f'\n{split}: {counts["songs"]} songs; an epoch has '
      f'{counts["examples"]} examples, {counts["hours"]:.2f} hours, '
      f'{counts["events"]} events'
      for split, counts in summary['splits'].items())
  return f'{summary["files"]} files{results}{splits}'
