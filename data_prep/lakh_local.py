"""Runs `data_prep.lakh` on this machine, in a few processes.

First come *parts*, in the folder of that name: `00007.json` has the results of
64 files, `00007.npy` their packed instruments (see
`lakhnes_jax.data.arrangement`), concatenated. The shards are made from these,
in the same folder, and moved when all are complete. A part or shard is finished
once its .json exists; it is remade if its inputs have changed, or if either
file fails the checksums in the .json.
"""

import collections
import hashlib
import io
import itertools
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from data_prep import lakh_files, lakh_shards, pool
from data_prep.lakh_files import Source
from data_prep.lakh_shards import Plan, Row, ShardConfig, Song, Totals
from lakhnes_jax import atomic, file_lock, progress, schema

_FILES_PER_PART = 64
_FORMAT_VERSION = 4


class _Job(NamedTuple):
  """One part or shard to make."""
  stem: str  # Path without ending.
  key: str  # Changes with what it is made of.
  items: list  # Files of a part, or songs of a shard.
  place: tuple[str, int] = ('', 0)  # Split and number of a shard.
  config: ShardConfig = ShardConfig()


class _Packed(NamedTuple):
  """A song and its place in a part."""
  digest: str
  name: str
  seconds: float
  length: int
  stem: str
  start: int

  def read(self) -> Song:
    # A copy, so that no map of the part stays open.
    mapped = np.load(f'{self.stem}.npy', mmap_mode='r')
    return Song(self.digest, self.name, self.seconds,
                np.array(mapped[self.start:self.start + self.length]))


def run(source: str, output: str, config: ShardConfig, workers: int = 0,
        limit: int | None = None) -> dict[str, Any]:
  """Turns a collection of MIDI files into shards, manifest and summary.

  Args:
    source: folder of MIDI files, or a .tar.gz of one.
    output: folder to write to.
    config: of the shards.
    workers: processes; 0 means one per CPU core.
    limit: read the first files only.

  Returns:
    the summary.

  Raises:
    OSError, ValueError: there is no such folder or archive, or no MIDI in it
      that can be adapted.
  """
  folder = pathlib.Path(output)
  sources, total = lakh_files.find(source, limit)  # Before anything is made.
  with file_lock.exclusive(folder):
    return _run(source, sources, total, folder, config, workers)


def _run(source: str, sources: Iterator[Source], total: int | None,
         folder: pathlib.Path, config: ShardConfig, workers: int
        ) -> dict[str, Any]:
  stems = make_parts(sources, total, folder, workers)
  songs, rows = _read_parts(stems)
  if not songs:
    raise ValueError(f'{source}: {lakh_shards.why_nothing(rows)}')
  totals = Totals()
  for song in songs:
    totals = totals.plus(
        lakh_shards.totals_of(song.digest, song.length, config))
  plan = lakh_shards.plan(totals, config)
  jobs = _shard_jobs(songs, plan, config, folder / 'parts')
  _make('writing', 'songs', len(songs), jobs, _make_shard, workers)
  made = [_read_json(job.stem) for job in jobs]
  results = lakh_shards.finish(made, rows, plan, config)
  _install(folder, jobs, made, plan)
  for name, content in results.items():
    atomic.write(folder / name, content)
  shutil.rmtree(folder / 'parts')
  return json.loads(results['summary.json'])


def make_parts(sources: Iterator[Source], total: int | None,
               folder: pathlib.Path, workers: int = 0) -> list[str]:
  """Makes the parts of a collection; those that are there already stay.

  Args:
    sources: MIDI files.
    total: their number, if known.
    folder: for the output; the parts are in `parts` there.
    workers: processes; 0 means one per CPU core.

  Returns:
    paths of the parts, without ending; errors are as of `run`.
  """
  stems = []
  _make('adapting', 'files', total,
        _part_jobs(sources, folder / 'parts', stems), _make_part, workers)
  return stems


def _make(what: str, unit: str, total: int | None, jobs: Iterable[_Job],
          function: Callable[[_Job], None], workers: int) -> None:
  """Does the jobs that are not done yet."""
  with progress.Progress(what, unit, total) as bar:
    def undone():
      for job in jobs:
        if _is_made(job):
          bar.add(len(job.items), skipped=True)
        else:
          yield job

    # Only a few at a time: an archive is read no faster than it is adapted.
    for job, _, reason in pool.attempt_all(function, undone(), workers,
                                           ahead=3):
      if reason is not None:
        raise OSError(f'{job.stem}: {reason}')
      bar.add(len(job.items))


def _is_made(job: _Job) -> bool:
  try:
    described = schema.parse(pathlib.Path(f'{job.stem}.json').read_bytes(),
                             {'key': str, 'data': str, 'checksum': str})
    with open(f'{job.stem}.npy', 'rb') as file:
      data = hashlib.file_digest(file, 'sha256').hexdigest()
  except (OSError, ValueError):
    return False
  checksum = described.pop('checksum')
  return (described['key'] == job.key and described['data'] == data and
          checksum == lakh_files.digest_of(described))


def _read_json(stem: str) -> dict[str, Any]:
  return json.loads(pathlib.Path(f'{stem}.json').read_text('utf-8'))


def _part_jobs(sources: Iterator[Source], folder: pathlib.Path,
               stems: list[str]) -> Iterator[_Job]:
  """Yields the parts; lists them in `stems` as it goes."""
  while batch := list(itertools.islice(sources, _FILES_PER_PART)):
    stem = str(folder / f'{len(stems):05d}')
    stems.append(stem)
    key = lakh_files.digest_of(_FORMAT_VERSION, [s[:3] for s in batch])
    yield _Job(stem, key, batch)


def _make_part(job: _Job) -> None:
  """Adapts the files of one part."""
  packed, facts = zip(*map(lakh_files.attempt, job.items), strict=True)
  buffer = io.BytesIO()
  np.save(buffer, np.concatenate(packed))
  _write(job, buffer.getvalue(), {'files': facts})


def _write(job: _Job, data: bytes, described: dict[str, Any]) -> None:
  """Writes a part or shard; its .json comes last."""
  atomic.write(f'{job.stem}.npy', data)
  # Through JSON once, as what is read back has lists for tuples.
  described = json.loads(json.dumps(
      {'key': job.key, 'data': hashlib.sha256(data).hexdigest(), **described}))
  atomic.write(f'{job.stem}.json', json.dumps(
      {**described, 'checksum': lakh_files.digest_of(described)}).encode())


def _read_parts(stems: list[str]) -> tuple[list[_Packed], list[Row]]:
  """Returns the songs to write, and the manifest of all other files."""
  same_notes, rows = collections.defaultdict(list), []
  for stem in stems:
    start = 0
    for facts in _read_json(stem)['files']:
      if 'error' in facts:
        rows.append(Row(facts['name'], facts['error']))
        continue
      song = _Packed(facts['hash'], facts['name'], facts['seconds'],
                     facts['length'], stem, start)
      same_notes[song.digest].append(song)
      start += song.length
  songs = []
  for same in same_notes.values():
    chosen, others = lakh_shards.choose(same)
    songs.append(chosen)
    rows.extend(others)
  return songs, rows


def _shard_jobs(songs: list[_Packed], plan: Plan, config: ShardConfig,
                folder: pathlib.Path) -> list[_Job]:
  """Returns the shards."""
  placed = collections.defaultdict(list)
  for song in sorted(songs):
    placed[lakh_shards.place(song.digest, plan, config)].append(song)
  part_keys = {stem: _read_json(stem)['key']
               for stem in {song.stem for song in songs}}
  return [
      _Job(str(folder / f'{place[0]}-{place[1]:05d}'), lakh_files.digest_of(
          _FORMAT_VERSION, config, plan.n_shards,
          [(*song, part_keys[song.stem]) for song in of_shard]),
          of_shard, place, config)
      for place, of_shard in sorted(placed.items())]


def _make_shard(job: _Job) -> None:
  """Writes the songs of one shard."""
  buffer = io.BytesIO()
  split, number = job.place
  described = lakh_shards.write_shard(
      buffer, (song.read() for song in job.items), split, job.config)
  _write(job, buffer.getvalue(),
         {'split': split, 'number': number, **described})


def _install(folder: pathlib.Path, jobs: list[_Job],
             made: list[dict[str, Any]], plan: Plan) -> None:
  """Moves shards to where they belong, in place of those that are there."""
  # Without its index a split does not exist, so that no index ever names files
  # of another run.
  for split in ('train', 'valid'):
    (folder / f'{split}.json').unlink(missing_ok=True)
    for path in folder.glob(f'{split}-?????-of-?????.npy'):
      path.unlink()
  for job, shard in zip(jobs, made, strict=True):
    os.replace(f'{job.stem}.npy',
               folder / lakh_shards.file_of(shard, plan))
