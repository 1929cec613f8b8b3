"""What telling the model more costs: `python -m experiments.benchmarks.told`.

Training steps of the laptop's model, which is told more and more beside the
tokens; in turn, so that what else the machine does slows all alike. `slower`
says how many times as long as with nothing told a step takes. The last line is
JSON.
"""

import dataclasses
import json
import time

import jax

from experiments import huge_pages
from experiments.benchmarks import machine, train
from lakhnes_jax import events
from lakhnes_jax.model import transformer_xl

_LAPTOP = transformer_xl.ModelConfig(
    n_token=events.TX1.size, n_layer=4, n_head=3, d_model=192, d_inner=768,
    dropout=0., pre_lnorm=True, smear_keys=True, unroll=True)
_TOLD = ({}, {'voice_state': True}, {'recall': 4096}, {'voice_recall': True},
         {'frame_counter': True})


def run(lanes: int = 16, length: int = 256, mem_len: int = 512,
        repeats: int = 9) -> list[dict]:
  """Measures the steps, each option beside those before it."""
  config, steps = _LAPTOP, []
  for told in _TOLD:
    config = dataclasses.replace(config, **told)
    steps.append(train.stepper(config, lanes, length, mem_len)[0])
  seconds = [[] for _ in steps]
  for _ in range(repeats):
    for step, times in zip(steps, seconds, strict=True):
      started = time.perf_counter()
      jax.block_until_ready(step())
      times.append(time.perf_counter() - started)
  return [{
      'case': f'laptop, batch {lanes}, tgt {length}, mem {mem_len}, '
              + ('+ ' + ', '.join(told) if told else 'nothing told'),
      'tokens_per_second': machine.summary(lanes * length, times),
      'slower': machine.spread(
          [a / b for a, b in zip(times, seconds[0], strict=True)]),
  } for told, times in zip(_TOLD, seconds, strict=True)]


if __name__ == '__main__':
  huge_pages.ask()  # As experiments.run does.
  for row in (results := run()):
    print(f"{row['case']}: {row['tokens_per_second']['median']:,.0f} tokens/s, "
          f"{row['slower']['median']:.2f} times as long")
  print(json.dumps(results))
