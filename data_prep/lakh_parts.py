"""The first half of `data_prep.lakh`: MIDI files -> parts, in parallel.

A *part* is what became of 64 files: `00007.json` says it for each, and
`00007.npy` holds the packed ensembles (see `lakhnes_jax.ensemble`), one after
the other. A part is finished when its .json is there, and is made again only
if its files have changed.
"""

import hashlib
import io
import itertools
import json
import pathlib
import shutil
import tarfile
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from data_prep import adapt, gmidi, pool, progress
from lakhnes_jax import ensemble, files

SUFFIXES = ('.mid', '.midi', '.kar')
MAX_BYTES = 512 * 1024  # The original skipped larger files.
_FILES_PER_PART = 64
_FORMAT_VERSION = 2


class Source(NamedTuple):
  """A MIDI file: on disk (`path`), or in memory (`data`), or too large."""
  name: str
  size: int
  modified: int
  path: str | None = None
  data: bytes | None = None


class _Job(NamedTuple):
  """One part to make."""
  stem: str  # Path of the part, without ending.
  key: str
  sources: list[Source]


def make(source: str, output: str, workers: int = 0,
         limit: int | None = None) -> list[str]:
  """Makes the parts of a collection; those that are there already stay.

  Args:
    source: folder of MIDI files, or a .tar.gz of one.
    output: the parts go to a folder in it.
    workers: processes; 0 means one per CPU core.
    limit: read the first files only.

  Returns:
    paths of the parts, without ending.

  Raises:
    OSError, ValueError: there is no such folder or archive, or no MIDI in it.
  """
  folder = _folder(output)
  sources, total = _sources(source, limit)
  stems = []
  with progress.Progress('adapting', 'files', total) as bar:
    jobs = _jobs(sources, folder, stems, bar)
    # Only a few at a time: an archive is read no faster than it is adapted.
    for job, _, reason in pool.attempt_all(_make_part, jobs, workers, ahead=3):
      if reason is not None:
        raise OSError(f'{job.stem}: {reason}')
      bar.add(len(job.sources))
  if not stems:
    raise ValueError(f'{source}: no {", ".join(SUFFIXES)} file there')
  return stems


def remove(output: str) -> None:
  """Removes the parts."""
  shutil.rmtree(_folder(output))


def read_entries(stem: str) -> list[dict[str, Any]]:
  """Returns what became of each file of a part (see `adapt_file`)."""
  return json.loads(pathlib.Path(f'{stem}.json').read_text('utf-8'))['files']


def read_packed(stem: str) -> np.ndarray:
  """Maps the packed ensembles of a part, which lie in order of its files."""
  return np.load(f'{stem}.npy', mmap_mode='r')


def _folder(output: str) -> pathlib.Path:
  return pathlib.Path(output) / 'parts'


def _sources(source: str, limit: int | None
             ) -> tuple[Iterator[Source], int | None]:
  """Returns the MIDI files of a folder or archive, and how many, if known."""
  path = pathlib.Path(source)
  if path.is_dir():
    found = sorted(p for p in path.rglob('*')
                   if p.suffix.lower() in SUFFIXES and p.is_file())[:limit]
    return (_on_disk(p, path) for p in found), len(found)
  if not path.is_file():
    raise FileNotFoundError(f'{source}: no such folder or archive; give the '
                            'folder of the MIDI files or lmd_full.tar.gz')
  return itertools.islice(_in_archive(path), limit), None


def _on_disk(path: pathlib.Path, root: pathlib.Path) -> Source:
  status = path.stat()
  return Source(path.relative_to(root).as_posix(), status.st_size,
                 status.st_mtime_ns, path=str(path))


def _in_archive(path: pathlib.Path) -> Iterator[Source]:
  """Yields the MIDI files of an archive in the order they lie in it."""
  try:
    with tarfile.open(path, 'r|*') as archive:
      for member in archive:
        if member.isfile() and member.name.lower().endswith(SUFFIXES):
          data = None
          if member.size <= MAX_BYTES:
            data = archive.extractfile(member).read()
          yield Source(member.name, member.size, int(member.mtime), data=data)
  except (tarfile.TarError, EOFError, OSError) as error:
    raise ValueError(f'{path}: not a .tar.gz, or damaged ({error}); download '
                     'it again') from error


def _jobs(sources, folder, stems, bar) -> Iterator[_Job]:
  """Yields the parts still to be made; lists all of them in `stems`."""
  while batch := list(itertools.islice(sources, _FILES_PER_PART)):
    stem = str(folder / f'{len(stems):05d}')
    stems.append(stem)
    identity = [_FORMAT_VERSION, [source[:3] for source in batch]]
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    if _is_made(stem, key):
      bar.add(len(batch), skipped=True)
    else:
      yield _Job(stem, key, batch)


def _is_made(stem: str, key: str) -> bool:
  try:
    return json.loads(
        pathlib.Path(f'{stem}.json').read_text('utf-8'))['key'] == key
  except (OSError, ValueError):
    return False


def _make_part(job: _Job) -> None:
  """Adapts the files of one part and writes it."""
  entries, packed = [], [np.empty(0, np.int32)]
  for source in job.sources:
    try:
      song, facts = adapt_file(source)
      packed.append(song)
    except (ValueError, OSError) as error:
      facts = {'error': str(error)}
    entries.append({'name': source.name, **facts})
  buffer = io.BytesIO()
  np.save(buffer, np.concatenate(packed))
  files.write_atomic(f'{job.stem}.npy', buffer.getvalue())
  part = {'key': job.key, 'files': entries}
  files.write_atomic(f'{job.stem}.json', json.dumps(part).encode())


def adapt_file(source: Source) -> tuple[np.ndarray, dict[str, Any]]:
  """Adapts one file.

  Returns:
    its packed ensemble, and the `hash` of its notes, its `seconds`, and the
    `length` of what is packed.

  Raises:
    ValueError, OSError: it cannot be adapted; the message is the reason.
  """
  if source.size > MAX_BYTES:
    raise ValueError(f'over {MAX_BYTES // 1024} KiB')
  data = source.data
  if data is None:
    data = pathlib.Path(source.path).read_bytes()
  instruments = gmidi.read(data)
  song = ensemble.pack(adapt.ensemble(instruments))
  return song, {'hash': adapt.content_hash(instruments), 'length': len(song),
                'seconds': adapt.seconds(instruments)}
