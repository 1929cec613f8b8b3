"""Generation by the full model: `python -m experiments.benchmarks.decode`.

The memory is full from the start. The last line is JSON, a list with, for each
batch and number format, tokens per second of generation and of reading a known
beginning; then the seconds from the start of a process to its first token, with
an empty compilation cache and with a warm one; with --weights and --data_dir
the perplexity by cached decoding in each format; and with --songs how long
songs take as `sample.flags` has them, beside all at once.

`ratio` compares with the original, which makes about 7 tokens per second on a
quiet 2-core machine, one song at a time.
"""

import argparse
import dataclasses
import functools
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np

from experiments.benchmarks import machine
from lakhnes_jax import command_line, events
from lakhnes_jax.data import shards
from lakhnes_jax.generation import decode, load, sample, tasks
from lakhnes_jax.model import transformer_xl
from lakhnes_jax.model.language_model import LanguageModel
from lakhnes_jax.weights import weights_folder

ORIGINAL = 7.  # Tokens a second.
# What is computed in, and whether kernels are int8.
FORMATS = {'float32': ('float32', False), 'int8': ('float32', True),
           'bfloat16': ('bfloat16', False)}


def step_bytes(params, cache: decode.Cache) -> int:
  """Counts bytes that a step must read: weights and distances once, and the
  keys and values of each song."""
  layers = params['layers']
  read = (params['embedding'], cache.keys, cache.values, cache.distances,
          [[x for name, x in layer.items() if name != 'position']
           for layer in layers])
  return sum(leaf.nbytes for leaf in jax.tree.leaves(read))


def _random(numbers: str, **shape):
  """Returns (model, params as `decode.to_decode_params` returns them)."""
  dtype, int8 = FORMATS[numbers]
  model = LanguageModel(transformer_xl.ModelConfig(
      n_token=events.TX1.size, dtype=dtype, **shape))
  params = jax.jit(model.init_params)(jax.random.key(0))
  return model, decode.to_decode_params(model, params, int8=int8)


def run(batch: int = 1, length: int = 64, mem_len: int = 512,
        numbers: str = 'float32', repeats: int = 5, **shape) -> dict:
  """Measures generation, and reading 2,048 tokens of each song.

  Args:
    batch: songs at once.
    length: tokens a repeat.
    mem_len: of the memory.
    numbers: one of `FORMATS`.
    repeats: after a first call, which compiles.
    **shape: of the model, where not the full one.
  """
  model, params = _random(numbers, **shape)
  keys = jax.random.split(jax.random.key(1), batch)
  cache = decode.init_cache(model, params, batch, mem_len)
  read = step_bytes(params, cache)
  known = np.random.default_rng(0).integers(
      1, model.config.n_token, (batch, max(2048 // batch, 512)), np.int32)

  def prefill():
    nonlocal logits, cache
    _, logits, cache = decode.prefill(model, params, cache, known)
    return logits

  def chunk():
    nonlocal songs
    tokens, _, songs = decode.generate(
        model, params, songs, length, temperature=.95, top_k=32, chunk=length)
    return tokens

  logits = None
  reading = machine.summary(known.size, machine.seconds(prefill, repeats))
  songs = decode.begin(logits, cache, keys)
  rate = machine.summary(batch * length, machine.seconds(chunk, repeats))
  return {
      'batch': batch, 'mem_len': mem_len, 'numbers': numbers,
      'tokens_per_second': rate, 'read_tokens_per_second': reading,
      'bytes_per_token': read // batch,
      'bandwidth_share': round(
          rate['median'] / batch * read / machine.read_bandwidth(), 3),
      'ratio': round(rate['median'] / ORIGINAL, 2), **machine.describe()}


def first_token(folder: str) -> None:
  """Makes a token with the model of a weights folder, from nothing."""
  model, params, _ = weights_folder.load(folder)
  params = decode.to_decode_params(model, params)
  _, logits, cache = decode.prefill(
      model, params, decode.init_cache(model, params, 1, 512),
      np.full((1, 1), events.BOS_EOS))
  decode.generate(model, params, decode.begin(
      logits, cache, jax.random.split(jax.random.key(0), 1)), 1)


def start_up() -> dict:
  """Measures processes until their first token: imports, reading 165 MB of
  weights, compilation."""
  model = LanguageModel(transformer_xl.ModelConfig(n_token=events.TX1.size))
  with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    params = jax.jit(model.init_params)(jax.random.key(0))
    weights_folder.save(folder / 'weights', params, {
        'model': model.name, 'config': model.to_dict(), 'format': 'tx1'})
    environment = os.environ | {
        'JAX_COMPILATION_CACHE_DIR': str(folder / 'cache'),
        'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0'}

    def seconds():
      started = time.perf_counter()
      subprocess.run(
          [sys.executable, '-m', 'experiments.benchmarks.decode',
           '--first_token', str(folder / 'weights')],
          check=True, env=environment)
      return round(time.perf_counter() - started, 2)

    return {'first_token_seconds': {
        'cold': seconds(), 'warm': [seconds() for _ in range(3)]}}


def quality(folder: str, data_dir: str, numbers: str, songs: int = 32,
            length: int = 512, mem_len: int = 512) -> dict:
  """Measures the perplexity of the beginnings of validation songs."""
  model, params, _ = weights_folder.load(folder)
  dtype, int8 = FORMATS[numbers]
  model = LanguageModel.from_dict(
      model.to_dict() | {'dtype': dtype}, events.TX1)
  corpus = shards.Corpus(data_dir, 'valid')
  ids = [events.TX1.encode(events.TX1.project(corpus.song(i)))
         for i in range(len(corpus))]
  tokens = np.stack([row[:length] for row in ids if len(row) >= length][:songs])
  params = decode.to_decode_params(model, params, int8=int8)
  nll, *_ = decode.prefill(
      model, params, decode.init_cache(model, params, len(tokens), mem_len),
      np.pad(tokens, ((0, 0), (1, 0)), constant_values=events.BOS_EOS))
  return {'weights': folder, 'numbers': numbers, 'tokens': tokens.size,
          'perplexity': round(math.exp(nll[:, 1:].mean(dtype=np.float64)), 4)}


def pretrained_songs(n: int, repeats: int) -> dict:
  """Measures `n` songs of 30 s of the pretrained model, nothing to compile.

  Returns:
    Seconds as `sample.flags` has them, where the place of a song that ends is
    filled, seconds if all are drawn at once, and the ratio.
  """
  model = load.load(weights_folder.PRETRAINED)
  task = tasks.new_song(model.vocabulary, tasks.Limits(3000, 30.))

  def draw(**settings):
    list(sample.generate(
        model, [task], dataclasses.replace(sample.RECOMMENDED, **settings),
        n=n))

  filled = machine.spread(machine.seconds(draw, repeats))
  at_once = machine.spread(machine.seconds(functools.partial(
      draw, batch=n * sample.best_of(model)), repeats))
  return {'songs': n, 'best_of': sample.best_of(model), 'seconds': filled,
          'seconds_at_once': at_once,
          'ratio': round(at_once['median'] / filled['median'], 2),
          **machine.describe()}


def main(argv: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(
      prog='python -m experiments.benchmarks.decode',
      description=__doc__.split('\n')[0])
  size = command_line.whole(1, 2**20)
  parser.add_argument('--batch', type=command_line.whole(1, 4096),
                      nargs='+', default=[1, 32],
                      help='songs at once (default: %(default)s)')
  parser.add_argument('--numbers', nargs='+', choices=FORMATS,
                      default=['float32', 'int8'],
                      help='number formats (default: %(default)s)')
  parser.add_argument('--length', type=size, default=64)
  parser.add_argument('--mem_len', type=size, default=512)
  parser.add_argument('--repeats', type=command_line.whole(1, 1000),
                      default=5)
  parser.add_argument('--no_start_up', action='store_true',
                      help='do not measure the first token')
  parser.add_argument('--weights', help='folder of a trained model')
  parser.add_argument('--data_dir', help='shards to measure its perplexity on')
  parser.add_argument('--songs', type=command_line.whole(1, 1000),
                      help='measure so many songs of the pretrained model')
  parser.add_argument('--first_token', help=argparse.SUPPRESS)
  args = parser.parse_args(argv)
  if args.weights and not args.data_dir:
    parser.error('--weights needs --data_dir')
  if args.first_token:
    first_token(args.first_token)
    return
  results = []

  def add(result):
    results.append(result)
    print({key: value for key, value in result.items()
           if key not in machine.describe()}, flush=True)

  if args.weights:
    with machine.errors_in_a_line('decode'):
      for numbers in args.numbers:
        add(quality(args.weights, args.data_dir, numbers))
  if args.songs:
    add(pretrained_songs(args.songs, args.repeats))
  for numbers in args.numbers:
    for batch in args.batch:
      add(run(batch, args.length, args.mem_len, numbers, args.repeats))
  if not args.no_start_up:
    add(start_up())
  results.append({'peak_memory': machine.peak_memory()})
  print(json.dumps(results))


if __name__ == '__main__':
  main()
