"""The same step on 1, 2, 4 and 8 devices: `... .benchmarks.scaling`.

Virtual CPU devices share the cores, so their arithmetic cannot get faster; what
is looked at is what our own code adds. Each case is a process of its own that
trains a tiny model, whose arithmetic is next to nothing, on the same batch of
all devices together. The last line is JSON, a result a case:

*   `step_seconds`: from the call to the end of the step;
*   `dispatch_seconds`: until the call returns, which is what the host does, for
    each of the steps that the call takes;
*   `all_reduces`: in the compiled step; `host_calls`: transfers to the host;
*   `late_compilations`: after the first call.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time

from experiments.benchmarks import machine

CASES = ((1, 1), (2, 1), (4, 1), (8, 1), (1, 8), (8, 8))  # Devices, steps.
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
  """Returns (config, host state, `train_step.pmapped_steps`) of the tiny model."""
  from lakhnes_jax import events
  from lakhnes_jax.model import transformer_xl
  from lakhnes_jax.training import optimizer, train_step
  config = transformer_xl.ModelConfig(n_token=events.TX1.size, n_layer=2, n_head=2,
                             d_model=16, d_head=8, d_inner=16)
  adam = optimizer.make(.25)
  step = train_step.pmapped_steps(
      model=transformer_xl, config=config, optimizer=adam, seed=0,
      schedule=optimizer.schedule('cosine', 1e-4, 1000, 0))
  return config, train_step.init_state(transformer_xl, config, adam, LANES, MEM_LEN, 0), step


def count(hlo: str) -> dict[str, int]:
  """Counts in a compiled program: all-reduces, and transfers to the host."""
  return {
      'all_reduces': len(re.findall(r'= .*\ball-reduce(?:-start)?\(', hlo)),
      'host_calls': len(re.findall(
          r'\b(?:outfeed|infeed|send|recv)\(|callback', hlo))}


def run(at_once: int = 1, steps: int = 200, parts: int = 5) -> dict:
  """Measures calls of `at_once` steps on the devices of this process."""
  import jax
  import numpy as np

  from lakhnes_jax.training import train_step
  n = jax.local_device_count()
  config, state, step = tiny_step()
  state = train_step.to_devices(state, n)
  tokens = np.random.default_rng(0).integers(
      1, config.n_token, (n, at_once, LANES // n, LENGTH), np.int32)
  reset = np.zeros((n, at_once), bool)
  hlo = step.lower(state, tokens, tokens, reset).compile().as_text()
  state, measured = step(state, tokens, tokens, reset)
  jax.block_until_ready(measured)
  compilations = Compilations()
  whole, dispatch, calls = [], [], steps // parts // at_once
  for _ in range(parts):
    called, started = 0., time.perf_counter()
    for _ in range(calls):
      begun = time.perf_counter()
      state, measured = step(state, tokens, tokens, reset)
      called += time.perf_counter() - begun
      jax.block_until_ready(measured)
    whole.append((time.perf_counter() - started) / (calls * at_once))
    dispatch.append(called / (calls * at_once))
  return {'case': f'{n} devices, {at_once} steps a call',
          'step_seconds': machine.spread(whole),
          'dispatch_seconds': machine.spread(dispatch), **count(hlo),
          'late_compilations': compilations.number, **machine.describe()}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--here', type=int, metavar='STEPS', help='measure calls '
                      'of so many steps on the devices there are, in this '
                      'process')
  args = parser.parse_args()
  if args.here:
    print(json.dumps(run(args.here)))
    return
  results = []
  for n, at_once in CASES:
    done = subprocess.run(
        [sys.executable, '-m', 'experiments.benchmarks.scaling',
         '--here', str(at_once)],
        env={**os.environ, 'JAX_PLATFORMS': 'cpu',
             'XLA_FLAGS': f'--xla_force_host_platform_device_count={n}'},
        check=True, stdout=subprocess.PIPE, text=True)
    result = json.loads(done.stdout.splitlines()[-1])
    results.append(result)
    print(f'{result["case"]}: '
          f'{1e3 * result["step_seconds"]["median"]:.2f} ms a step, '
          f'{1e3 * result["dispatch_seconds"]["median"]:.2f} ms of it the '
          f'call; {result["all_reduces"]} all-reduces, '
          f'{result["late_compilations"]} late compilations')
  print(json.dumps(results))


if __name__ == '__main__':
  main()
