"""Prepares NES-MDB, or any folder of NES songs: song files -> shards.

  python -m data_prep.nesmdb --input=nesmdb_midi --output=data/nesmdb

The input holds any of the folders train, valid and test, with song files at any
depth, of any kind that data_prep.convert knows: .mid in NES-MDB's layout, TX1
and TX2 text, score and NLM pickles, NDF and NDR text, VGM. The output holds the
shards of each (see lakhnes_jax.data.shards): exact events, dynamics included,
songs sorted by name. Bad files are named and left out; the exit status is then
1. The same files give the same bytes, whatever the number of workers.
"""

import argparse
import pathlib
import sys
import time

from data_prep import pool
from lakhnes_jax import command_line, file_lock, progress

SPLITS = ('train', 'valid', 'test')


def main(argv: list[str] | None = None) -> int:
  command_line.escape_output()
  parser = argparse.ArgumentParser(
      prog='python -m data_prep.nesmdb', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--input', required=True, type=command_line.path,
                      help='folder with folders train, valid and test')
  parser.add_argument('--output', required=True, type=command_line.path,
                      help='folder for the shards')
  parser.add_argument('--workers', default=0, metavar='N',
                      type=command_line.whole(0, command_line.MAX_WORKERS),
                      help='processes (default: one per CPU core)')
  parser.add_argument('--shard_events', type=command_line.whole(1),
                      default=2**24, metavar='N',
                      help='events a shard (default %(default)s, 64 MiB)')
  args = parser.parse_args(argv)
  started = time.monotonic()
  n_bad = 0
  try:
    splits = find_splits(args.input)
    with file_lock.exclusive(args.output):
      for split, named in splits.items():
        n_bad += prepare(split, named, args)
  except (OSError, ValueError) as error:
    print(f'data_prep.nesmdb: {error}', file=sys.stderr)
    return 1
  print(f'{args.output}: done in {time.monotonic() - started:.0f} s' +
        (f', {n_bad} bad files left out' if n_bad else ''))
  return 1 if n_bad else 0


def find_splits(folder: pathlib.Path) -> dict[str, dict[str, pathlib.Path]]:
  """Returns split -> song name -> path.

  Raises:
    OSError, ValueError: there is no such folder, or no song in one of them.
  """
  from lakhnes_jax.formats import song_files
  if not folder.is_dir():
    raise FileNotFoundError(f'{folder}: no such folder')
  found = {split: song_files.name_songs([folder / split])
           for split in SPLITS if (folder / split).is_dir()}
  if not found:
    raise ValueError(f'{folder}: no folder {", ".join(SPLITS)} in it')
  for split, named in found.items():
    if not named:
      raise ValueError(f'{folder / split}: no song files there; known endings '
                       'are ' + ', '.join(
                           ending for ending, form in song_files.FORMATS.items()
                           if form.read))
  return found


def prepare(split: str, named: dict[str, pathlib.Path],
            args: argparse.Namespace) -> int:
  """Writes the shards of one split; returns how many files were bad."""
  from data_prep import lakh_files
  from lakhnes_jax import events as ev
  from lakhnes_jax.data import shards
  from lakhnes_jax.formats import song_files
  bad, samples = [], 0

  def songs(bar):
    nonlocal samples
    results = pool.attempt_all(song_files.read_song, named.values(),
                               args.workers)
    for name, (_, song, reason) in zip(named, results, strict=True):
      bar.add(1)
      if reason is not None:
        bad.append(reason)
        continue
      samples += int(ev.times_of(song)[-1]) if len(song) else 0
      yield lakh_files.clean(name), song

  try:
    with progress.Progress(split, 'songs', len(named)) as bar:
      corpus = shards.write_split(
          args.output, split, songs(bar), max_events=args.shard_events,
          metadata={'command': 'data_prep.nesmdb', 'input': str(args.input)})
  finally:
    for reason in bad:
      print(f'bad file: {reason}', file=sys.stderr)
  print(f'{split}: {len(corpus)} songs, {corpus.lengths.sum()} events, '
        f'{samples / ev.SAMPLE_RATE / 3600:.2f} hours, {len(bad)} bad files')
  return len(bad)


if __name__ == '__main__':
  sys.exit(main())
