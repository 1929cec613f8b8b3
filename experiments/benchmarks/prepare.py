"""From MIDI to shards to batches: `python -m experiments.benchmarks.prepare`.

Works on music that it composes. The last line is JSON; `ratio` compares a
song's CPU time with the original converter's half a second.
"""

import json
import pathlib
import tempfile
import time

from lakhnes_jax import augment, data, events, files, shards

ORIGINAL = 0.5  # CPU seconds a song.


def run(repeats: int = 5, n_songs: int = 40) -> dict:
  """Measures reading MIDI and drawing augmented batches.

  Returns:
    CPU milliseconds a song and ratio to the original; tokens a CPU second of
    batches with every augmentation, quantisation included.
  """
  from data_prep import compose
  from experiments.benchmarks import machine
  with tempfile.TemporaryDirectory() as folder:
    corpus_dir = pathlib.Path(folder)
    compose.main([f'--out={corpus_dir}', '--web=1', f'--chip={n_songs}'])
    paths = files.find_songs([corpus_dir / 'chip'])
    reading, songs = [], []
    for _ in range(repeats):
      started = time.process_time()
      songs = [(path.stem, files.read_song(path)) for path in paths]
      reading.append(time.process_time() - started)
    corpus = shards.write_split(corpus_dir / 'shards', 'train', songs)
    stream = data.Stream(
        corpus, events.TX1, 8, 512,
        augmentation=augment.Augmentation.from_names(['all']))
    drawing = []
    for _ in range(repeats):
      started = time.process_time()
      for _ in range(20):
        next(stream)
      drawing.append(time.process_time() - started)
  per_song = machine.summary(len(paths), reading)
  return {'songs': len(paths), 'songs_per_cpu_second': per_song,
          'ratio': ORIGINAL * per_song['median'],
          'tokens_per_cpu_second': machine.summary(20 * 8 * 512, drawing)}


if __name__ == '__main__':
  print(json.dumps(run()))
