"""Prepares your own music: a folder of song files -> shards, split by song.

  python -m data_prep.prepare --input=mine --output=data/mine

Takes a folder of files of any kind that data_prep.convert knows, mixed, at any
depth. MIDI files in NES-MDB's layout are songs as they are; other MIDI files
(.kar too) are adapted as data_prep.lakh does, up to --examples_per_file
songs each, all in one split. Writes the shards of train, valid and test,
`manifest.tsv` (one line per file: its split, or the reason it is in none) and
`summary.json`.

Files with the same notes at every 24th of a second are one song, whatever their
names and kinds; the most detailed one is kept. The split is a hash of those
notes and --seed, so that new songs move no others (but valid and test get a
song each as soon as there are three). The same files give the same bytes,
whatever the number of workers. All songs are held in memory. Bad files are
named and left out; the exit status is then 1.
"""

import argparse
import collections
import hashlib
import json
import pathlib
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from data_prep import adapt, lakh_files, lakh_shards, nesmdb, pool
from lakhnes_jax import atomic, command_line, file_lock, input_files, progress
from lakhnes_jax import events as ev
from lakhnes_jax.data import arrangement, shards
from lakhnes_jax.formats import nes_midi, score_pickle, song_files
from lakhnes_jax.synth import score


class Song(NamedTuple):
  """What was read from one file.

  Attributes:
    name: its place below the folder.
    digest: hash of its notes.
    seconds: its length.
    events: int32 song, or packed instruments (see
      `lakhnes_jax.data.arrangement`).
    adapted: whether it is packed instruments.
    sampled: whether its times are quantised to the steps of a score.
    dynamics: whether it has velocities.
  """
  name: str
  digest: str
  seconds: float
  events: np.ndarray
  adapted: bool
  sampled: bool
  dynamics: bool


def main(argv: list[str] | None = None) -> int:
  command_line.escape_output()
  parser = argparse.ArgumentParser(
      prog='python -m data_prep.prepare', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--input', required=True, type=command_line.path,
                      help='folder of song files')
  parser.add_argument('--output', required=True, type=command_line.path,
                      help='folder for the shards')
  parser.add_argument('--valid', type=command_line.real(0, .999), default=.05,
                      metavar='SHARE',
                      help='share of songs held out for valid (default '
                      '%(default)s)')
  parser.add_argument('--test', type=command_line.real(0, .999), default=.05,
                      metavar='SHARE',
                      help='share of songs held out for test (default '
                      '%(default)s)')
  parser.add_argument('--seed', type=command_line.whole(), default=0)
  parser.add_argument('--examples_per_file', default=16, metavar='N',
                      type=command_line.whole(1, 1024),
                      help='songs at most that a general MIDI file becomes '
                      '(default %(default)s, as in the paper)')
  parser.add_argument('--workers', default=0, metavar='N',
                      type=command_line.whole(0, command_line.MAX_WORKERS),
                      help='processes (default: one per CPU core)')
  args = parser.parse_args(argv)
  if args.valid + args.test >= 1:
    parser.error('--valid and --test are below 1 together')
  started = time.monotonic()
  try:
    songs, bad = read_all(args.input, args.workers)
    with file_lock.exclusive(args.output):
      summary = write(songs, bad, args)
  except (OSError, ValueError) as error:
    print(f'data_prep.prepare: {error}', file=sys.stderr)
    return 1
  print(lakh_shards.describe(summary))
  print(f'{args.output}: done in {time.monotonic() - started:.0f} s')
  return 1 if bad else 0


def read_all(folder: pathlib.Path, workers: int = 0
            ) -> tuple[list[Song], list[lakh_shards.Row]]:
  """Reads all songs of a folder.

  Returns:
    the songs by name, and the manifest of files that are none.

  Raises:
    OSError, ValueError: there is no such folder, or no song in it.
  """
  if not folder.is_dir():
    raise FileNotFoundError(f'{folder}: no such folder')
  if any((folder / split).is_dir() for split in nesmdb.SPLITS):
    print(f'note: {folder} has folders {", ".join(nesmdb.SPLITS)} or one of '
          'them; data_prep.nesmdb keeps to such splits', file=sys.stderr)
  paths = sorted({*song_files.find_songs([folder]), *(
      path for path in input_files.walk(folder)
      if path.suffix.lower() in lakh_files.SUFFIXES)})
  if not paths:
    raise ValueError(f'{folder}: no song files there; known endings are ' +
                     ', '.join([*song_files.FORMATS, '.kar']))
  songs, bad = [], []
  with progress.Progress('reading', 'files', len(paths)) as bar:
    jobs = [(path, lakh_files.clean(path.relative_to(folder).as_posix()))
            for path in paths]
    for (path, name), song, reason in pool.attempt_all(read, jobs, workers):
      bar.add(1)
      if reason is None:
        songs.append(song)
      else:
        print(f'bad file: {reason}', file=sys.stderr)
        bad.append(lakh_shards.Row(name, reason.removeprefix(f'{path}: ')))
  if not songs:
    raise ValueError(f'{folder}: none of {len(paths)} files is a song')
  return songs, bad


def read(job: tuple[pathlib.Path, str]) -> Song:
  """Reads the song at a path, and gives it a name.

  Raises:
    ValueError, OSError: it cannot be used; the message names it and the reason.
  """
  path, name = job
  is_midi = path.suffix.lower() in lakh_files.SUFFIXES
  data = input_files.read(path) if is_midi else b''
  try:
    if is_midi and _is_general(data):
      packed, facts = lakh_files.adapt_file(
          lakh_files.Source(name, len(data), 0, data=data), strict=False)
      return Song(name, facts['hash'], facts['seconds'], packed, True, False,
                  True)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from None
  song = song_files.read_song(path)
  if not (ev.kind_of(song) == ev.NOTEON).any():
    raise ValueError(f'{path}: no notes')
  return Song(name, fingerprint(song),
              int(ev.times_of(song)[-1]) / ev.SAMPLE_RATE, song, False,
              song_files.is_sampled(path),
              bool((ev.kind_of(song) == ev.VELOCITY).any()))


def read_song(path: pathlib.Path, seed: int = 0) -> np.ndarray:
  """Reads a song file of any kind; general MIDI is arranged for the chip.

  Args:
    path: of the file.
    seed: which voice plays which instrument.

  Returns:
    int32 song

  Raises:
    ValueError, OSError: it cannot be used; the message names it and the reason.
  """
  song = read((path, path.name))
  if not song.adapted:
    return song.events
  return arrangement.arrange(arrangement.unpack(song.events),
                             np.random.default_rng(seed))


def _is_general(data: bytes) -> bool:
  """Whether a MIDI file is not in NES-MDB's layout: no track is named so."""
  return not any(track.name.strip().lower() in nes_midi.TRACK_NAMES
                 for track in nes_midi.parse(data).tracks)


def fingerprint(song: np.ndarray) -> str:
  """Hash of the notes of the melodic voices at 24 steps per second.

  It is the same for a song and for any NES-MDB score made of it, blended ones
  included; voices and dynamics do not matter. Of a song with noise alone, or
  shorter than a step, it is a hash of all its events.
  """
  steps = score_pickle.sample(score.from_events(ev.without_dynamics(song)),
                            score_pickle.RATE)
  notes = np.sort(steps[:, :ev.NO, score.NOTE], axis=1)
  if not notes.any():
    return hashlib.sha256(b'whole' + ev.without_dynamics(song).astype(
        '<i4').tobytes()).hexdigest()
  return hashlib.sha256(notes.tobytes()).hexdigest()


def choose(songs: Iterable[Song]) -> tuple[list[Song], list[lakh_shards.Row]]:
  """Keeps the most detailed file of each song.

  Exact times win over quantised ones, then dynamics, then the number of events,
  then the name that sorts first.

  Returns:
    what is kept, by name, and the manifest of what is not.
  """
  same = collections.defaultdict(list)
  for song in songs:
    same[song.digest].append(song)
  kept, rows = [], []
  for group in same.values():
    first, *others = sorted(group, key=lambda song: (
        song.sampled, not song.dynamics, -len(song.events), song.name))
    kept.append(first)
    rows += [lakh_shards.Row(song.name, f'same song as {first.name}',
                             song.seconds, song.digest) for song in others]
  return sorted(kept, key=lambda song: song.name), rows


def split_of(songs: list[Song], valid: float, test: float, seed: int
            ) -> dict[str, str]:
  """Assigns songs to splits by their hash.

  Returns:
    digest -> 'train', 'valid' or 'test'.

  Raises:
    ValueError: none is left to train on.
  """
  def share(digest):
    return int(hashlib.sha256(f'{seed} {digest}'.encode()).hexdigest()[:8],
               16) / 2**32

  found = {digest: 'test' if share(digest) < test else
           'valid' if share(digest) < test + valid else 'train'
           for digest in sorted((song.digest for song in songs), key=share)}
  for split, wanted in (('valid', valid), ('test', test)):
    training = [d for d, where in found.items() if where == 'train']
    if wanted and split not in found.values() and len(training) > 1:
      found[training[0]] = split
  if 'train' not in found.values():
    raise ValueError(f'none of {len(songs)} songs is left to train on; take '
                     'another --seed, or less for --valid and --test')
  return found


def write(songs: list[Song], bad: list[lakh_shards.Row],
          args: argparse.Namespace) -> dict[str, Any]:
  """Writes shards, manifest and summary; returns the summary."""
  kept, rows = choose(songs)
  where = split_of(kept, args.valid, args.test, args.seed)
  summary = {'files': len(songs) + len(bad), 'results': {}, 'splits': {}}
  for split in nesmdb.SPLITS:
    mine = [song for song in kept if where[song.digest] == split]
    if not mine:
      (args.output / f'{split}.json').unlink(missing_ok=True)  # Of another run.
      continue
    counts = collections.Counter()
    shards.write_split(
        args.output, split, _examples(mine, args, counts),
        metadata={'command': 'data_prep.prepare', 'input': str(args.input),
                  'seed': args.seed, 'valid': args.valid, 'test': args.test})
    rows += [lakh_shards.Row(song.name, split, song.seconds, song.digest,
                             counts[song.name]) for song in mine]
    summary['splits'][split] = {
        'songs': len(mine),
        'examples': sum(counts[song.name] for song in mine),
        'events': counts[None, 'events'],
        'hours': counts[None, 'samples'] / (3600 * ev.SAMPLE_RATE)}
  summary['results'] = {
      'kept': len(kept), 'same song as another': len(songs) - len(kept),
      **collections.Counter(row.result.split(':')[0] for row in bad)}
  atomic.write(args.output / 'manifest.tsv',
                     lakh_shards.manifest([*rows, *bad]))
  atomic.write(args.output / 'summary.json',
                     json.dumps(summary, indent=1).encode())
  return summary


def _examples(songs: list[Song], args: argparse.Namespace,
              counts: collections.Counter) -> Iterator[tuple[str, np.ndarray]]:
  """Yields names and events to store, and counts them."""
  for song in songs:
    if song.adapted:
      rng = np.random.default_rng((args.seed, int(song.digest, 16)))
      made = adapt.examples(arrangement.unpack(song.events), rng,
                            args.examples_per_file)
    else:
      made = [song.events]
    for number, events in enumerate(made):
      counts[song.name] += 1
      counts[None, 'events'] += len(events)
      counts[None, 'samples'] += int(np.maximum(events, 0).sum(dtype=np.int64))
      yield f'{song.name}#{number}' if song.adapted else song.name, events


if __name__ == '__main__':
  sys.exit(main())
