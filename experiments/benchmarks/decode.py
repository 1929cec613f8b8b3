"""Generation by the full model: `python -m experiments.benchmarks.decode`.

The memory is full from the start. The last line is JSON. `ratio` compares with
the original, which makes about 7 tokens a second on a quiet 2-core machine, one
song at a time.
"""

import argparse
import json
import time

import jax
import jax.numpy as jnp

from experiments.benchmarks import machine
from lakhnes_jax import decode, events, model

ORIGINAL = 7.  # Tokens a second.


def step_bytes(config: model.ModelConfig, batch: int, mem_len: int) -> int:
  """Counts bytes that a step must read: weights and distances once, and the
  keys and values of each song."""
  heads = config.n_head * config.d_head
  weights = config.n_layer * config.d_model * (
      4 * heads + 2 * config.d_inner) + config.n_token * config.d_model
  ring = config.n_layer * (mem_len + 1) * heads
  return jnp.dtype(config.dtype).itemsize * (
      weights + ring * (1 + 2 * batch))


def run(batch: int = 1, length: int = 64, mem_len: int = 512,
        dtype: str = 'float32', repeats: int = 5) -> dict:
  """Measures generation.

  Returns:
    tokens a second of all songs, seconds to the first chunk (compilation
    included), bytes a token, share of the measured read bandwidth, ratio to
    the original.
  """
  config = model.ModelConfig(n_token=events.TX1.size, dtype=dtype)
  params = decode.prepare(jax.jit(model.init_params, static_argnums=0)(
      config, jax.random.key(0)), config)
  keys = jax.random.split(jax.random.key(1), batch)
  cache = decode.init_cache(config, params, batch, mem_len)
  cache = cache._replace(count_B=jnp.full(batch, mem_len + 1))
  logits = jnp.zeros((batch, config.n_token))

  def chunk():
    nonlocal logits, cache
    tokens, _, logits, cache, _ = decode.generate(
        params, config, cache, logits, keys, length, temperature=.95,
        top_k=32, chunk=length)
    return tokens

  started = time.perf_counter()
  chunk()
  first = time.perf_counter() - started
  times = machine.seconds(chunk, repeats)
  rate = machine.summary(batch * length, times)
  read = step_bytes(config, batch, mem_len)
  return {
      'batch': batch, 'mem_len': mem_len, 'dtype': dtype,
      'tokens_per_second': rate, 'first_chunk_seconds': round(first, 2),
      'bytes_per_token': read // batch,
      'bandwidth_share': round(
          rate['median'] / batch * read / machine.read_bandwidth(), 3),
      'ratio': round(rate['median'] / ORIGINAL, 2), **machine.describe()}


def main() -> None:
  parser = argparse.ArgumentParser(
      prog='python -m experiments.benchmarks.decode',
      description=__doc__.split('\n')[0])
  parser.add_argument('--batch', type=int, nargs='+', default=[1, 32],
                      help='songs at once (default: %(default)s)')
  parser.add_argument('--length', type=int, default=64)
  parser.add_argument('--mem_len', type=int, default=512)
  parser.add_argument('--dtype', choices=model.DTYPES, default='float32')
  parser.add_argument('--repeats', type=int, default=5)
  args = parser.parse_args()
  results = [run(batch, args.length, args.mem_len, args.dtype, args.repeats)
             for batch in args.batch]
  for result in results:
    print(f'batch {result["batch"]}: '
          f'{result["tokens_per_second"]["median"]:.1f} tokens/s')
  print(json.dumps(results))


if __name__ == '__main__':
  main()
