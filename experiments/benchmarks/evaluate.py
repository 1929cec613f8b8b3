"""Evaluation of the full model: `python -m experiments.benchmarks.evaluate`.

The paper's protocol (10 lanes, tgt 128, mem 896). The last line is JSON;
`ratio` compares with the original on a quiet 2-core machine (PyTorch 2.13;
median).
"""

import argparse
import json

import jax
import numpy as np

from experiments.benchmarks import machine
from lakhnes_jax import events
from lakhnes_jax.model import transformer_xl
from lakhnes_jax.model.language_model import LanguageModel
from lakhnes_jax.training import evaluate

ORIGINAL = 227.  # Tokens a second.


def run(repeats: int = 5) -> dict:
  """Measures segments with full memory; see the module."""
  config = evaluate.EvalConfig()
  model = LanguageModel(transformer_xl.ModelConfig(n_token=events.TX1.size))
  params = jax.jit(model.init_params)(jax.random.key(0))
  state = model.init_state(config.batch_size, config.mem_len)
  shape = (config.batch_size, config.tgt_len)
  tokens = np.random.default_rng(0).integers(
      1, events.TX1.size, shape, np.int32)
  segment_nll = evaluate.segment_fn(model)
  weights = np.ones(shape, np.float32)

  def segment():
    nonlocal state
    loss, state = segment_nll(params, state, tokens, tokens, weights, False)
    return loss

  for _ in range(config.mem_len // config.tgt_len):
    segment()
  rate = machine.summary(tokens.size, machine.seconds(segment, repeats))
  return {**config.to_dict(), 'tokens_per_second': rate,
          'peak_memory': machine.peak_memory(),
          'ratio': rate['median'] / ORIGINAL}


def main(argv: list[str] | None = None) -> None:
  argparse.ArgumentParser(
      prog='python -m experiments.benchmarks.evaluate',
      description=__doc__.split('\n')[0]).parse_args(argv)
  print(json.dumps({**machine.describe(), **run()}))


if __name__ == '__main__':
  main()
