"""Parses songs for --format=tracker: shards -> their patterns, beside them.

  python -m data_prep.tracker --input=data/nesmdb

Each song is parsed once into notes, instruments and rows, so that training
reads it at once. Without this, it is done while training reads. The same
shards give the same file, whatever the number of workers.
"""

import argparse
import functools
import os
import sys
import time

from data_prep import pool
from lakhnes_jax import command_line, progress


def main(argv: list[str] | None = None) -> int:
  command_line.escape_output()
  parser = argparse.ArgumentParser(
      prog='python -m data_prep.tracker', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--input', required=True, type=command_line.path,
                      help='folder of shards; the patterns go there too')
  parser.add_argument('--splits', default='train,valid,test',
                      help='those that are there of (default: %(default)s)')
  parser.add_argument('--workers', default=0, metavar='N',
                      type=command_line.whole(0, command_line.MAX_WORKERS),
                      help='processes (default: one per CPU core)')
  args = parser.parse_args(argv)
  # Small matrices: threads would only wait for one another.
  os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')
  from lakhnes_jax.data import shards
  from lakhnes_jax.tracker import store, vocabulary
  started, done = time.monotonic(), 0
  try:
    splits = [split for split in args.splits.split(',')
              if (args.input / f'{split}.json').exists()]
    for split in splits or ['train']:  # 'train': for its error.
      corpus = shards.Corpus(args.input, split)
      if corpus.arranged_on_read:
        raise ValueError(f'{args.input}: {split} holds instruments that are '
                         'arranged anew at each reading, which cannot be '
                         'parsed beforehand')
      patterns = []
      jobs = [(str(args.input), split, range(i, min(i + 16, len(corpus))))
              for i in range(0, len(corpus), 16)]
      with progress.Progress(split, 'songs', len(corpus)) as bar:
        for job, found, reason in pool.attempt_all(_parse, jobs, args.workers):
          if reason is not None:
            raise ValueError(f'{split}, songs {job[2]}: {reason}')
          patterns += found
          bar.add(len(found))
      store.write(store.path_of(args.input, split),
                  vocabulary.default().version, patterns)
      done += len(patterns)
  except (OSError, ValueError) as error:
    print(f'data_prep.tracker: {error}', file=sys.stderr)
    return 1
  print(f'{args.input}: {done} songs in {time.monotonic() - started:.0f} s')
  return 0


@functools.cache
def _open(folder: str, split: str):
  from lakhnes_jax.data import shards
  return shards.Corpus(folder, split)


def _parse(job):
  from lakhnes_jax.tracker import store, vocabulary
  folder, split, songs = job
  corpus, tracker = _open(folder, split), vocabulary.default()
  return [(store.digest(song), tracker.parse(song))
          for song in map(corpus.song, songs)]


if __name__ == '__main__':
  sys.exit(main())
