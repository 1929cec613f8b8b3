"""Runs `data_prep.lakh` as an Apache Beam pipeline, on any number of machines.

  files -> adapted one by one -> grouped by the hash of their notes, one kept
    -> grouped by shard -> shards -> manifest, summary, indices

`lakh_files` and `lakh_shards` implement the steps, for this runner and for the
local one. A worker holds one shard at a time; the last step holds
the manifest, about half a kilobyte per file.
"""

import contextlib
import functools
import itertools
import json
import re
import uuid
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from data_prep import lakh_files, lakh_shards
from data_prep.lakh_files import Source
from data_prep.lakh_shards import Row, ShardConfig, Song, Totals

try:
  import apache_beam as beam
  from apache_beam.io.filesystem import CompressionTypes
  from apache_beam.io.filesystems import FileSystems
  from apache_beam.options.pipeline_options import PipelineOptions
except ImportError as error:
  raise ImportError(
      '--runner needs Apache Beam, the extra `beam`: '
      f'pip install "lakhnes_jax[beam]" ({error})') from error

_ROWS = 'rows'  # Tag of those songs' lines of the manifest that are not kept.


def run(source: str, output: str, config: ShardConfig, limit: int | None,
        options: list[str]) -> dict[str, Any]:
  """Turns a collection of MIDI files into shards, manifest and summary.

  Args:
    source: folder of MIDI files, or a .tar.gz of one, on any file system that
      Beam knows and every worker reaches.
    output: folder to write to, on any such file system.
    config: of the shards.
    limit: read the first files only.
    options: flags of the pipeline.

  Returns:
    the summary.

  Raises:
    OSError, ValueError: there is no such folder or archive, or no MIDI in it
      that can be adapted.
  """
  source, output = source.rstrip('/\\'), output.rstrip('/\\')
  pipeline = beam.Pipeline(options=PipelineOptions(options))
  # Before all is whole again no split is there.
  _delete(path for path in _match(output)
          if path in [f'{output}/{split}.json' for split in ('train', 'valid')])
  _build(pipeline, source, output, config, limit)
  try:
    pipeline.run().wait_until_finish()
  except (RuntimeError, ValueError, OSError) as error:
    raise ValueError(_reason(error)) from error
  with FileSystems.open(f'{output}/summary.json') as file:
    return json.load(file)


def _build(pipeline: beam.Pipeline, source: str, output: str,
           config: ShardConfig, limit: int | None) -> None:
  adapted = (
      pipeline
      | 'Collection' >> beam.Create([source])
      | 'List' >> beam.FlatMap(_find, limit)
      | 'Spread' >> beam.Reshuffle()
      | 'Adapt' >> beam.FlatMap(_adapt).with_outputs(_ROWS, main='songs'))
  chosen = (
      adapted.songs
      | 'Same notes' >> beam.GroupByKey()
      | 'Choose' >> beam.FlatMap(_choose).with_outputs(_ROWS, main='songs'))
  totals = beam.pvalue.AsSingleton(
      chosen.songs
      | 'Count' >> beam.Map(_count, config)
      | 'Add up' >> beam.CombineGlobally(_add_up))
  made = (
      chosen.songs
      | 'Place' >> beam.Map(_place, totals, config)
      | 'Same shard' >> beam.GroupByKey()
      | 'Write' >> beam.Map(_write, totals, output, config))
  rows = (adapted[_ROWS], chosen[_ROWS]) | 'Manifest' >> beam.Flatten()
  _ = (pipeline
       | 'At the end' >> beam.Create([output])
       | 'Finish' >> beam.Map(_finish, beam.pvalue.AsList(made),
                              beam.pvalue.AsList(rows), totals, config))


def _find(source: str, limit: int | None) -> Iterator[Source]:
  """Yields the MIDI files of a folder or archive, those of a folder unread."""
  found = sorted(
      (path[len(source):].lstrip('/\\'), path, size)
      for path, size in _match(source).items()
      if path.lower().endswith(lakh_files.SUFFIXES))[:limit]
  if found:
    for name, path, size in found:
      yield Source(lakh_files.clean(name), size, 0, path)
  elif FileSystems.match([source])[0].metadata_list:
    with FileSystems.open(source, compression_type=CompressionTypes.UNCOMPRESSED
                         ) as file:
      yield from itertools.islice(lakh_files.in_archive(file, source), limit)
  else:
    raise FileNotFoundError(lakh_files.no_such(source))


def _match(folder: str) -> dict[str, int]:
  """Returns paths and sizes of all files below a folder."""
  # Patterns know no quoting.
  pattern = re.sub(r'[*?[]', '?', folder.rstrip('/\\')) + '/**'
  return {found.path: found.size_in_bytes
          for found in FileSystems.match([pattern])[0].metadata_list
          if found.path.startswith(folder)}


def _adapt(source: Source) -> Iterator[Any]:
  """Yields (hash, song), or a row with the reason."""
  try:
    if source.data is None and source.size <= lakh_files.MAX_BYTES:
      with FileSystems.open(
          source.path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        source = source._replace(data=file.read())
    packed, facts = lakh_files.attempt(source)
  except OSError as error:
    facts = {'error': str(error)}
  if 'error' in facts:
    yield beam.pvalue.TaggedOutput(_ROWS, Row(source.name, facts['error']))
  else:
    yield facts['hash'], Song(facts['hash'], source.name, facts['seconds'],
                              packed)


def _choose(same: tuple[str, Iterable[Song]]) -> Iterator[Any]:
  """Yields one of the songs that have the same notes, and rows of the rest."""
  song, rows = lakh_shards.choose(same[1])
  yield song
  for row in rows:
    yield beam.pvalue.TaggedOutput(_ROWS, row)


def _count(song: Song, config: ShardConfig) -> Totals:
  return lakh_shards.totals_of(song.digest, len(song.packed), config)


def _add_up(totals: Iterable[Totals]) -> Totals:
  return functools.reduce(Totals.plus, totals, Totals())


def _place(song: Song, totals: Totals, config: ShardConfig
          ) -> tuple[tuple[str, int], Song]:
  plan = lakh_shards.plan(totals, config)
  return lakh_shards.place(song.digest, plan, config), song


def _write(shard: tuple[tuple[str, int], Iterable[Song]], totals: Totals,
           output: str, config: ShardConfig) -> dict[str, Any]:
  """Writes a shard; returns what `lakh_shards.finish` wants to know of it."""
  (split, number), songs = shard
  plan = lakh_shards.plan(totals, config)
  described = {'split': split, 'number': number}
  with _new(f'{output}/{lakh_shards.file_of(described, plan)}') as file:
    return {**described,
            **lakh_shards.write_shard(file, songs, split, config)}


def _finish(output: str, made: list[dict[str, Any]], rows: list[Row],
            totals: Totals, config: ShardConfig) -> None:
  """Writes manifest, summary and indices; removes what is of earlier runs."""
  if not made:
    raise ValueError(lakh_shards.why_nothing(rows))
  plan = lakh_shards.plan(totals, config)
  results = lakh_shards.finish(made, rows, plan, config)
  names = {lakh_shards.file_of(shard, plan) for shard in made}
  _delete(path for path in _match(output)
          if re.fullmatch(r'(train|valid)-\d{5}-of-\d{5}\.npy(\..*\.tmp)?',
                          path[len(output) + 1:]) and
          path[len(output) + 1:] not in names)
  for name, content in results.items():
    with _new(f'{output}/{name}') as file:
      file.write(content)


@contextlib.contextmanager
def _new(path: str) -> Iterator[BinaryIO]:
  """Opens a file that appears once it is complete."""
  # Two workers may be at work on one shard, if the first is slow.
  temporary = f'{path}.{uuid.uuid4().hex}.tmp'
  with FileSystems.create(temporary, 'application/octet-stream',
                          CompressionTypes.UNCOMPRESSED) as file:
    yield file
  FileSystems.rename([temporary], [path])


def _delete(paths: Iterable[str]) -> None:
  paths = list(paths)
  if paths:
    FileSystems.delete(paths)


def _reason(error: Exception) -> str:
  """Returns a worker's message, without trace and name of the step."""
  line = str(error).strip().splitlines()[-1]
  return re.sub(r"^(\w+Error: )?(.*?)( \[while running '.*'\])?$", r'\2', line)
