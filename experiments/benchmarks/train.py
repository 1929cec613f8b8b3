"""Training steps of the full model: `python -m experiments.benchmarks.train`.

The last line is JSON. `ratio` compares with the original on a quiet 2-core
machine (PyTorch 2.13, same model, batch and lengths, float32; medians).
"""

import argparse
import json
import time

import jax
import numpy as np

from experiments.benchmarks import machine
from lakhnes_jax import command_line, events
from lakhnes_jax.model import transformer_xl
from lakhnes_jax.model.language_model import LanguageModel
from lakhnes_jax.training import optimizer, train_step

# (lanes, tgt_len, mem_len) -> tokens per second of the original.
ORIGINAL = {(4, 128, 512): 141., (30, 128, 512): 121.}


def train_flops(config: transformer_xl.ModelConfig, length: int,
                mem_len: int) -> float:
  """Counts floating-point operations a token: 3 times the forward pass's."""
  d, heads = config.d_model, config.n_head * config.d_head
  keys = mem_len + length
  per_layer = (
      2 * d * heads * 2  # Queries, output.
      + 2 * d * heads * 2 * keys / length  # Keys and values, of memory too.
      + 2 * heads * keys * 3  # Content, position, mixing.
      + 2 * 2 * d * config.d_inner)
  return 3 * (config.n_layer * per_layer + 2 * d * config.n_token)


def stepper(config: transformer_xl.ModelConfig, lanes: int, length: int,
            mem_len: int):
  """Compiles a training step and fills the memory.

  Returns:
    (function that trains one step, seconds it took to compile)
  """
  model, adam = LanguageModel(config), optimizer.make(0.25)
  state = train_step.to_devices(
      train_step.init_state(model, adam, lanes, mem_len, seed=0), 1)
  shape = (1, lanes, length)
  tokens = np.random.default_rng(0).integers(1, config.n_token, shape, np.int32)
  step = jax.pmap(
      lambda *args: train_step.train_step(
          *args, model=model, optimizer=adam, seed=0,
          schedule=optimizer.schedule('constant', 1e-5, 1, 0)),
      axis_name=train_step.AXIS, donate_argnums=0, devices=jax.devices()[:1])
  reset = np.zeros(1, bool)
  started = time.perf_counter()
  compiled = step.lower(state, tokens, tokens, reset).compile()
  compile_seconds = time.perf_counter() - started

  def one():
    nonlocal state
    state, measured = compiled(state, tokens, tokens, reset)
    return measured

  for _ in range(-(-mem_len // length)):
    one()
  return one, compile_seconds


def run(lanes: int = 4, length: int = 128, mem_len: int = 512,
        dtype: str = 'float32', repeats: int = 5) -> dict:
  """Measures training with full memory.

  Returns:
    tokens per second, compile time in seconds, share of the measured matrix
    product's operations, peak memory in bytes, ratio to the original.
  """
  config = transformer_xl.ModelConfig(n_token=events.TX1.size, dtype=dtype)
  step, compile_seconds = stepper(config, lanes, length, mem_len)
  rate = machine.summary(lanes * length, machine.seconds(step, repeats))
  peak = machine.matmul_flops(dtype)
  original = ORIGINAL.get((lanes, length, mem_len))
  return {
      'lanes': lanes, 'tgt_len': length, 'mem_len': mem_len, 'dtype': dtype,
      'tokens_per_second': rate, 'compile_seconds': compile_seconds,
      'flops_share': rate['median'] * train_flops(
          config, length, mem_len) / peak,
      'matmul_flops': peak, 'peak_memory': machine.peak_memory(),
      'ratio': original and rate['median'] / original}


def main(argv: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  size = command_line.whole(1, 2**20)
  parser.add_argument('--lanes', type=size, default=4)
  parser.add_argument('--tgt_len', type=size, default=128)
  parser.add_argument('--mem_len', type=command_line.whole(0, 2**20),
                      default=512)
  parser.add_argument('--dtype', default='float32',
                      choices=['float32', 'bfloat16'])
  args = parser.parse_args(argv)
  print(json.dumps({**machine.describe(), **run(
      args.lanes, args.tgt_len, args.mem_len, args.dtype)}))


if __name__ == '__main__':
  main()
