"""From MIDI to shards to batches: `python -m experiments.benchmarks.prepare`.

Songs are read from music that it composes, batches drawn from made-up songs as
long as NES-MDB's (or from `--data_dir`). CPU time is measured, so that other
work disturbs little. The last line is JSON; `ratio` compares a song's CPU time
with the original converter's half a second.
"""

import argparse
import json
import pathlib
import tempfile
import time

from data_prep import compose
from experiments.benchmarks import corpora, machine
from lakhnes_jax import events
from lakhnes_jax.data import augment, shards, token_stream
from lakhnes_jax.formats import song_files

ORIGINAL = 0.5  # CPU seconds a song.
WANTED = 2e6  # Events a second and core.


def reading(folder: pathlib.Path, repeats: int = 5, n_songs: int = 40) -> dict:
  """Measures songs read from MIDI in a CPU second."""
  compose.main([f'--out={folder}', '--web=1', f'--chip={n_songs}'])
  paths = song_files.find_songs([folder / 'chip'])
  times = []
  for _ in range(repeats):
    started = time.process_time()
    for path in paths:
      song_files.read_song(path)
    times.append(time.process_time() - started)
  rate = machine.summary(len(paths), times)
  return {'case': 'NES MIDI to events', 'songs_per_second': rate,
          'ratio': ORIGINAL * rate['median']}


def drawing(corpus, names: list[str], repeats: int = 5, lanes: int = 60,
            length: int = 512) -> dict:
  """Measures events in the batches drawn in a CPU second, on one core."""
  stream = token_stream.Stream(corpus, events.TX1, lanes, length,
                       augmentation=augment.Augmentation.from_names(names))
  next(stream)
  times = []
  for _ in range(repeats):
    started = time.process_time()
    for _ in range(20):
      next(stream)
    times.append(time.process_time() - started)
  rate = machine.summary(20 * lanes * length, times)
  return {'case': f'batches, augmented by {"+".join(names)}',
          'events_per_second': rate, 'wanted_share': rate['median'] / WANTED}


def main(argv: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--data_dir', help='shards with a train split')
  args = parser.parse_args(argv)
  with tempfile.TemporaryDirectory() as folder:
    with machine.errors_in_a_line('prepare'):
      corpus = (shards.Corpus(args.data_dir, 'train') if args.data_dir else
                corpora.write(folder, 1000))
    results = [reading(pathlib.Path(folder)),
               *(drawing(corpus, names) for names in (
                   ['none'], ['trim', 'transpose', 'stretch'], ['all']))]
  for result in results:
    print(*machine.row('', result)[1:4])
  print(json.dumps(results))


if __name__ == '__main__':
  main()
