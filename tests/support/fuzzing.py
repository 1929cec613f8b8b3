"""Mutated files for every reader, in tests: `python -m support.fuzzing --help`.

Number i of a kind and seed is always the same file. Memory is capped and every
file has ten seconds of CPU time. The last line is JSON: how many files gave a
result, how many a reason, and what went wrong otherwise; --save=FOLDER keeps
the files that it went wrong with, --first=I begins with number I.
"""

import argparse
import collections
import contextlib
import functools
import hashlib
import json
import os
import pathlib
import resource
import signal
import sys
import tempfile
import time

import numpy as np

from support import process_memory
from support.mutations import KINDS, mutate

SECONDS = 10  # CPU time for one file.
MAX_BYTES = 10**9  # Memory for one file.


class Hang(BaseException):
  """A file took too long. No `except Exception` hides it."""


def use_song(song: np.ndarray, number: int) -> None:
  """Does with a song what is done with songs."""
  from lakhnes_jax import events as ev
  from lakhnes_jax.data import augment
  from lakhnes_jax.formats import song_files
  vocabulary = (ev.TX1, ev.TX2)[number % 2]
  rng = np.random.default_rng(number)
  augmented = augment.Augmentation.from_names(['all']).apply(
      song, rng)
  vocabulary.decode(vocabulary.encode(vocabulary.project(augmented)))
  # Programs and trackers' text take long to write: of short songs alone.
  formats = [found for found in song_files.FORMATS.values()
             if len(song) < 1000 or not found.titled]
  found = formats[number % len(formats)]
  found.write(song, **({'title': 'of a test'} if found.titled else {}))


def adapt_web(path: pathlib.Path, number: int) -> None:
  """What `data_prep.lakh` does with a file, and what training does then."""
  from data_prep import adapt, lakh_files
  from lakhnes_jax.data import arrangement
  data = path.read_bytes()
  packed, _ = lakh_files.adapt_file(lakh_files.Source(
      str(path), len(data), 0, data=data))
  rng = np.random.default_rng(number)
  whole = arrangement.unpack(packed)
  for song in (arrangement.arrange(whole, rng), *adapt.examples(whole, rng, 2)):
    use_song(song, number)


def read_song(path: pathlib.Path, number: int) -> None:
  from lakhnes_jax.formats import song_files
  try:
    song = song_files.read_song(path)
  except ValueError as error:
    if path.name not in str(error):
      raise AssertionError(f'{error}: does not name its file') from None
    raise
  use_song(song, number)


def read_shards(path: pathlib.Path, number: int) -> None:
  from lakhnes_jax import events as ev
  from lakhnes_jax.data import shards, token_stream
  try:
    corpus = shards.Corpus(path.parent, 'train')
    songs = [corpus.song(i) for i in range(len(corpus))]
  except ValueError as error:
    if str(path.parent) not in str(error):
      raise AssertionError(f'{error}: does not name its file') from None
    raise
  assert len(songs) == len(corpus.lengths)
  next(token_stream.Stream(corpus, ev.TX1, 2, 16))


def read_archive(path: pathlib.Path, number: int) -> None:
  from data_prep import lakh_files
  try:
    sources, _ = lakh_files.find(str(path))
    sources = list(sources)
  except ValueError as error:
    if str(path) not in str(error):
      raise AssertionError(f'{error}: does not name its file') from None
    raise
  for source in sources:
    assert source.data is None or len(source.data) == source.size


def read_weights(path: pathlib.Path, number: int) -> None:
  from lakhnes_jax.weights import weights_folder
  try:
    weights_folder.load(path.parent)
  except ValueError as error:
    if str(path.parent) not in str(error):
      raise AssertionError(f'{error}: does not name its folder') from None
    raise


def render(path: pathlib.Path, number: int) -> None:
  """The first seconds of a file, by either engine."""
  import itertools

  from lakhnes_jax import render
  from lakhnes_jax.formats import song_files
  engine = render.ENGINES[number % 2]
  log = (song_files.read_log(path) if song_files.holds_log(path) else
         render.to_source(song_files.read_song(path), engine))
  for window in itertools.islice(render.windows(log, engine), 2):
    assert np.isfinite(window).all()


def _reason(error: Exception) -> str | None:
  """Returns what is wrong with how a file was refused; None if nothing."""
  if not isinstance(error, ValueError | OSError) or isinstance(
      error, UnicodeError):
    return f'{type(error).__name__}: {error}'
  text = str(error)
  if not text.strip() or '\n' in text or len(text) > 600:
    return f'no clear reason: {text[:200]!r}'
  return None


def _hang(*_):
  raise Hang


def _limit_memory() -> None:
  """Lets this process take so much more than it has now."""
  pages = int(pathlib.Path('/proc/self/statm').read_text().split()[0])
  most = pages * os.sysconf('SC_PAGE_SIZE') + MAX_BYTES
  resource.setrlimit(resource.RLIMIT_AS, (most, most))


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('bases', type=pathlib.Path,
                      help='folder with a folder of good files for each kind')
  parser.add_argument('counts', nargs='+', metavar='KIND=N')
  parser.add_argument('--first', type=int, default=0)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--render', action='store_true',
                      help='render what is read')
  parser.add_argument('--save', type=pathlib.Path, metavar='FOLDER')
  args = parser.parse_args()
  # What is needed is loaded before the limit is set.
  from data_prep import lakh_files  # noqa: F401
  from lakhnes_jax.formats import song_files, transcribe  # noqa: F401
  if any(count.startswith('weights=') for count in args.counts):
    _good_weights()
  if args.render:
    import jax
    jax.numpy.zeros(1).block_until_ready()
  elif sys.platform == 'linux':
    _limit_memory()
  signal.signal(signal.SIGPROF, _hang)
  results = [_fuzz(*count.split('='), args) for count in args.counts]
  print(json.dumps(results))
  return any(result['failures'] for result in results)


def _fuzz(kind: str, count: str, args: argparse.Namespace) -> dict:
  """Tries files of one kind."""
  ending = KINDS[kind][2]
  bases = [path.read_bytes() for path in sorted((args.bases / kind).iterdir())]
  use = render if args.render else {
      'web': adapt_web, 'shards': read_shards, 'tar': read_archive,
      'weights': read_weights}.get(kind, read_song)
  counts, failures, slowest = collections.Counter(), [], (0, '')
  with tempfile.TemporaryDirectory() as folder:
    for number in range(args.first, args.first + int(count)):
      data, done = mutate(kind, number, args.seed, bases)
      path = pathlib.Path(folder) / f'file{ending}'
      if kind == 'shards':
        path = _shards(pathlib.Path(folder), number)
      elif kind == 'weights':
        path = _weights(pathlib.Path(folder), number)
      else:
        path.write_bytes(data)
      started = time.process_time()
      failure = None
      signal.setitimer(signal.ITIMER_PROF, SECONDS)
      try:
        use(path, number)
        counts['result'] += 1
      except Hang:
        failure = f'took over {SECONDS} s'
      except Exception as error:
        failure = _reason(error)
        counts['reason'] += failure is None
      finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
      slowest = max(slowest, (round(time.process_time() - started, 2),
                              f'{number} ({done})'))
      if failure:
        failures.append(f'{kind} {number} ({done}): {failure}')
        if args.save:
          args.save.mkdir(parents=True, exist_ok=True)
          (args.save / f'{number}{ending}').write_bytes(data)
  return {
      'kind': kind, 'result': counts['result'], 'reason': counts['reason'],
      'failures': failures, 'slowest': slowest,
      'peak_mb': process_memory.peak_bytes() // 2**20}


def _shards(folder: pathlib.Path, number: int) -> pathlib.Path:
  """Writes a split of which one file is mutated."""
  from lakhnes_jax.data import shards
  rng = np.random.default_rng(number)
  shards.write_split(folder, 'train', [
      (f'song {i}', rng.integers(-300, 900, 30)) for i in range(6)],
      max_events=90)
  which = ('train.json', 'train-00000-of-00002.npy')[number % 2]
  path = folder / which
  mutators = KINDS['shards'][0]
  mutator = mutators[int(rng.integers(len(mutators)))]
  if number % 16 == 0:
    return path
  whole = path.read_bytes()
  path.write_bytes(bytes(mutator(bytearray(whole), rng, [whole])))
  if number // 2 % 2:
    _forge(folder / 'train.json')
  return path


@functools.cache
def _good_weights() -> dict[str, bytes]:
  """Files of a folder of tiny weights, without checksums."""
  import jax

  from lakhnes_jax.model import transformer_xl
  from lakhnes_jax.model.language_model import LanguageModel
  from lakhnes_jax.weights import weights_folder
  config = transformer_xl.ModelConfig(
      n_token=631, n_layer=1, n_head=2, d_model=8, d_head=4, d_inner=12)
  with tempfile.TemporaryDirectory() as folder:
    weights_folder.save(folder, jax.device_get(LanguageModel(
        config).init_params(jax.random.key(0))), {
            'model': 'txl', 'config': config.to_dict(), 'format': 'tx1',
            'mem_len': 16, 'step': 3})
    return {path.name: path.read_bytes()
            for path in pathlib.Path(folder).iterdir()
            if path.name != weights_folder.SUMS}


def _weights(folder: pathlib.Path, number: int) -> pathlib.Path:
  """Writes weights of which one file is mutated, most often the config."""
  rng = np.random.default_rng(number)
  for name, data in _good_weights().items():
    (folder / name).write_bytes(data)
  path = folder / ('model.safetensors' if number % 3 == 1 else 'config.json')
  mutators = KINDS['weights'][0]
  mutator = mutators[int(rng.integers(len(mutators)))]
  if number % 16:
    data = path.read_bytes()
    path.write_bytes(bytes(mutator(bytearray(data), rng, [data])))
  return path


def _forge(path: pathlib.Path) -> None:
  """Makes the checksums of an index right, where there is anything to do."""
  with contextlib.suppress(ValueError, TypeError, LookupError, OSError,
                           AttributeError, RecursionError):
    index = json.loads(path.read_bytes())
    index.pop('checksum', None)
    for shard in index['shards']:
      shard['sha256'] = hashlib.sha256(
          (path.parent / shard['file']).read_bytes()).hexdigest()
    path.write_text(json.dumps(index))


if __name__ == '__main__':
  sys.exit(main())
