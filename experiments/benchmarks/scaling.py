"""The same step on 1, 2, 4 and 8 devices: `... .benchmarks.scaling`.

Virtual CPU devices share the cores, so their arithmetic cannot get faster; what
is looked at is what our own code adds. Each number of devices is a process of
its own that trains a tiny model, whose arithmetic is next to nothing, on the
same batch of all devices together. The last line is JSON, a result a number:

*   `step_seconds`: from the call to the end of the step;
*   `dispatch_seconds`: until the call returns, which is what the host does;
*   `all_reduces`: in the compiled step; `host_calls`: transfers to the host;
*   `late_compilations`: after step 1.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time

from experiments.benchmarks import machine

DEVICES = (1, 2, 4, 8)
LANES, LENGTH, MEM_LEN = 8, 16, 16
_COMPILED = '/jax/core/compile/backend_compile_duration'


class Compilations:
  """Counts what jax compiles from now on; `number` so far."""

  def __init__(self):
    import jax
    self.number = 0
    jax.monitoring.register_event_duration_secs_listener(self._heard)

  def _heard(self, event: str, duration: float, **_) -> None:
    del duration
    self.number += event == _COMPILED


def tiny_step():
  """Returns (config, host state, `train.pmapped_step`) of the tiny model."""
  from lakhnes_jax import events, model, optimizer, train
  config = model.ModelConfig(n_token=events.TX1.size, n_layer=2, n_head=2,
                             d_model=16, d_head=8, d_inner=16)
  adam = optimizer.make(.25)
  step = train.pmapped_step(
      model=model, config=config, optimizer=adam, seed=0,
      schedule=optimizer.schedule('cosine', 1e-4, 1000, 0))
  return config, train.init_state(model, config, adam, LANES, MEM_LEN, 0), step


def count(hlo: str) -> dict[str, int]:
  """Counts in a compiled program: all-reduces, and transfers to the host."""
  return {
      'all_reduces': len(re.findall(r'= .*\ball-reduce(?:-start)?\(', hlo)),
      'host_calls': len(re.findall(
          r'\b(?:outfeed|infeed|send|recv)\(|callback', hlo))}


def run(steps: int = 200, parts: int = 5) -> dict:
  """Measures on the devices of this process."""
  import jax
  import numpy as np

  from lakhnes_jax import train
  n = jax.local_device_count()
  config, state, step = tiny_step()
  state = train.to_devices(state, n)
  tokens = np.random.default_rng(0).integers(
      1, config.n_token, (n, LANES // n, LENGTH), np.int32)
  reset = np.zeros(n, bool)
  hlo = step.lower(state, tokens, tokens, reset).compile().as_text()
  state, measured = step(state, tokens, tokens, reset)
  jax.block_until_ready(measured)
  compilations = Compilations()
  whole, dispatch = [], []
  for _ in range(parts):
    called, started = 0., time.perf_counter()
    for _ in range(steps // parts):
      begun = time.perf_counter()
      state, measured = step(state, tokens, tokens, reset)
      called += time.perf_counter() - begun
      jax.block_until_ready(measured)
    whole.append((time.perf_counter() - started) / (steps // parts))
    dispatch.append(called / (steps // parts))
  return {'case': f'{n} devices', 'step_seconds': machine.spread(whole),
          'dispatch_seconds': machine.spread(dispatch), **count(hlo),
          'late_compilations': compilations.number, **machine.describe()}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--here', action='store_true', help='measure on the '
                      'devices there are, in this process')
  args = parser.parse_args()
  if args.here:
    print(json.dumps(run()))
    return
  results = []
  for n in DEVICES:
    done = subprocess.run(
        [sys.executable, '-m', 'experiments.benchmarks.scaling', '--here'],
        env={**os.environ, 'JAX_PLATFORMS': 'cpu',
             'XLA_FLAGS': f'--xla_force_host_platform_device_count={n}'},
        check=True, stdout=subprocess.PIPE, text=True)
    results.append(json.loads(done.stdout.splitlines()[-1]))
    print(f'{n} devices: {1e3 * results[-1]["step_seconds"]["median"]:.2f} ms '
          f'a step, {1e3 * results[-1]["dispatch_seconds"]["median"]:.2f} ms '
          f'of it the call; {results[-1]["all_reduces"]} all-reduces, '
          f'{results[-1]["late_compilations"]} late compilations')
  print(json.dumps(results))


if __name__ == '__main__':
  main()
