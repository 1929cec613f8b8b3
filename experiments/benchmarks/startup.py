"""How long commands take to begin: `python -m experiments.benchmarks.startup`.

Times `--help` of each command, and a short training run with an empty cache of
compiled programs against one with what the first left there. The last line is
JSON.
"""

import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

from experiments.benchmarks import corpora, machine

COMMANDS = ('experiments.run', 'lakhnes_jax.render', 'lakhnes_jax.export',
            'lakhnes_jax.import_torch', 'data_prep.nesmdb', 'data_prep.lakh',
            'experiments.table2')
_TINY = {'n_layer': 4, 'n_head': 2, 'd_model': 32, 'd_head': 16, 'd_inner': 64,
         'tgt_len': 32, 'mem_len': 32, 'batch_size': 4, 'max_steps': 3,
         'log_every': 1, 'eval_every': 0, 'save_every': 0}


def _timed(command: list[str], env=None, status=(0,)) -> tuple[float, float]:
  """Runs to the end; returns seconds by the clock, and of CPU time.

  Raises:
    RuntimeError: it ended with another status; with what it said.
  """
  def spent():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
  started, cpu = time.perf_counter(), spent()
  done = subprocess.run(command, check=False, env=env, capture_output=True,
                        text=True)
  if done.returncode not in status:
    raise RuntimeError(f'{" ".join(command)}: {done.stderr[-500:]}')
  return time.perf_counter() - started, spent() - cpu


def helps(repeats: int = 5) -> list[dict]:
  """Times `--help` of the commands."""
  results = []
  for name in COMMANDS:
    command = [sys.executable, '-m', name, '--help']
    clock, cpu = [], []
    for _ in range(repeats + 1):  # The first reads from disk.
      spent = _timed(command, status=(0, 1))  # absl's help ends with 1.
      clock.append(spent[0])
      cpu.append(spent[1])
    results.append({'case': f'{name} --help',
                    'clock_seconds': machine.spread(clock[1:]),
                    'cpu_seconds': machine.spread(cpu[1:])})
  return results


def training(repeats: int = 2) -> list[dict]:
  """Times three steps of a tiny model, cold and warm."""
  clock, cpu = {'cold': [], 'warm': []}, {'cold': [], 'warm': []}
  with tempfile.TemporaryDirectory() as folder:
    corpora.write(folder, 20)
    for repeat in range(repeats):
      for which in ('cold', 'warm'):
        run = pathlib.Path(folder, f'{which}{repeat}')
        flags = {**_TINY, 'data_dir': folder, 'workdir': run,
                 'compilation_cache': f'{folder}/cache{repeat}'}
        env = {name: value for name, value in os.environ.items()
               if name != 'JAX_COMPILATION_CACHE_DIR'}
        spent = _timed([sys.executable, '-m', 'experiments.run', *(
            f'--{name}={value}' for name, value in flags.items())], env)
        clock[which].append(spent[0])
        cpu[which].append(spent[1])
  return [{'case': f'3 steps, {which}',
           'clock_seconds': machine.spread(clock[which]),
           'cpu_seconds': machine.spread(cpu[which])} for which in clock]


def main() -> None:
  results = helps() + training()
  for result in results:
    print(f'{result["case"]:32} {result["clock_seconds"]["median"]:6.2f} s, '
          f'CPU {result["cpu_seconds"]["median"]:6.2f} s')
  print(json.dumps([{**result, **machine.describe()} for result in results]))


if __name__ == '__main__':
  main()
