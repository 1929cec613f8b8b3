"""The same run on several devices and processes: `... .benchmarks.devices`.

Trains a tiny model, without dropout, through the user's own command: on one
device, on four, in two processes of one and of two devices each, and begun in
one way and finished in another. All losses should be the same but for the order
of sums; the largest relative difference to one device is printed, a line a way.
"""

import argparse
import contextlib
import os
import pathlib
import socket
import subprocess
import sys
import tempfile

import numpy as np

from experiments.benchmarks import corpora

LIMIT = 1e-4  # Rounding grows from step to step.
_FLAGS = {'n_layer': 2, 'n_head': 2, 'd_model': 32, 'd_head': 16, 'd_inner': 64,
          'tgt_len': 32, 'mem_len': 32, 'batch_size': 8, 'dropout': 0,
          'learning_rate': 1e-3, 'augment': 'all', 'log_every': 1,
          'eval_every': 0, 'save_every': 0}
# Name -> (processes, devices of each) of the first and of the second half.
WAYS = {
    '1 device': ((1, 1), (1, 1)),
    '4 devices': ((1, 4), (1, 4)),
    '2 processes': ((2, 1), (2, 1)),
    '2 processes x 2 devices': ((2, 2), (2, 2)),
    '2 x 2, then 1 device': ((2, 2), (1, 1)),
    '1 device, then 2 processes': ((1, 1), (2, 1)),
}


def train(data_dir: pathlib.Path, workdir: pathlib.Path, steps: int,
          processes: int, devices: int) -> None:
  """Trains (on) to `steps`.

  Raises:
    RuntimeError: a process failed; with what it said.
  """
  flags = {**_FLAGS, 'data_dir': data_dir, 'workdir': workdir,
           'max_steps': steps, 'schedule': 'constant'}
  if processes > 1:
    with socket.socket() as free:
      free.bind(('localhost', 0))
      flags |= {'coordinator': f'localhost:{free.getsockname()[1]}',
                'num_processes': processes}
  env = {**os.environ, 'JAX_PLATFORMS': 'cpu',
         'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices}'}
  with contextlib.ExitStack() as stack:
    running = []
    for i in range(processes):
      said = stack.enter_context(tempfile.TemporaryFile('w+'))
      own = {'process_id': i} if processes > 1 else {}
      running.append((subprocess.Popen(
          [sys.executable, '-m', 'experiments.run', *(
              f'--{name}={value}' for name, value in (flags | own).items())],
          env=env, stderr=said, stdout=said), said))
    for process, said in running:
      if process.wait():
        said.seek(0)
        raise RuntimeError(said.read()[-2000:])


def curves(steps: int) -> dict[str, np.ndarray]:
  """Trains in all ways; returns the losses of each."""
  from lakhnes_jax.training import log
  found = {}
  with tempfile.TemporaryDirectory() as folder:
    data_dir = pathlib.Path(folder, 'data')
    corpora.write(data_dir, 40, 200)
    for i, (name, halves) in enumerate(WAYS.items()):
      workdir = pathlib.Path(folder, f'run{i}')
      parts = [(steps, halves[0])] if halves[0] == halves[1] else [
          (steps // 2, halves[0]), (steps, halves[1])]
      for until, (processes, devices) in parts:
        train(data_dir, workdir, until, processes, devices)
      found[name] = np.array([line['loss'] for line in log.read(workdir)
                              if line['kind'] == 'train'])
      print(f'{name:28} loss {found[name][0]:.6f} to {found[name][-1]:.6f}, '
            f'largest difference {difference(found, name):.1e}', flush=True)
  return found


def difference(found: dict[str, np.ndarray], name: str) -> float:
  """Largest relative difference from one device."""
  one = found['1 device']
  return float(np.abs(found[name] / one - 1).max())


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--steps', type=int, default=30)
  parser.add_argument('--plot', help='PNG file for the curves')
  args = parser.parse_args()
  found = curves(args.steps)
  if args.plot:
    from lakhnes_jax.report import plot
    fig = plot.figure(figsize=(7, 4))
    axes = fig.subplots()
    for i, (name, losses) in enumerate(found.items()):
      axes.plot(np.arange(1, len(losses) + 1), losses, label=name,
                linewidth=8 - 1.2 * i)
    axes.set(xlabel='step', ylabel='loss, nats')
    axes.legend()
    plot.save(fig, args.plot)
  return int(max(difference(found, name) for name in found) > LIMIT)


if __name__ == '__main__':
  sys.exit(main())
