"""A training step against length, memory, batch and depth: `... .costs`.

One of the four is varied, the others stay as in `BASE`. The time of a step
should grow as the number of operations does (`train_flops`), plus what it costs
to begin; a line through the measured points says how much of each. The last
line is JSON; `--plot` writes a picture.
"""

import argparse
import json

import jax
import numpy as np

from experiments.benchmarks import machine
from experiments.benchmarks import train as full
from lakhnes_jax import events
from lakhnes_jax.model import transformer_xl
from lakhnes_jax.training import optimizer, train_step

BASE = {'length': 128, 'memory': 128, 'batch': 4, 'depth': 4}
VARIED = {'length': (32, 64, 128, 256, 512), 'memory': (0, 128, 256, 512, 1024),
          'batch': (1, 2, 4, 8, 16), 'depth': (1, 2, 4, 8)}


def measure(length: int, memory: int, batch: int, depth: int,
            repeats: int = 5) -> dict:
  """Times a step of a model of width 128; counts its operations."""
  config = transformer_xl.ModelConfig(n_token=events.TX1.size, n_layer=depth, n_head=4,
                             d_model=128, d_head=32, d_inner=512)
  adam = optimizer.make(.25)
  state = train_step.to_devices(
      train_step.init_state(transformer_xl, config, adam, batch, memory, 0), 1)
  step = jax.pmap(
      lambda *args: train_step.train_step(
          *args, model=transformer_xl, config=config, optimizer=adam, seed=0,
          schedule=optimizer.schedule('constant', 1e-5, 1, 0)),
      axis_name=train_step.AXIS, donate_argnums=0, devices=jax.devices()[:1])
  tokens = np.ones((1, batch, length), np.int32)

  def take():
    nonlocal state
    state, measured = step(state, tokens, tokens, np.zeros(1, bool))
    return measured

  for _ in range(3):
    jax.block_until_ready(take())
  return {'step_seconds': machine.spread(machine.seconds(take, repeats)),
          'flops': batch * length * full.train_flops(config, length, memory)}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--vary', nargs='+', default=list(VARIED),
                      choices=list(VARIED))
  parser.add_argument('--plot', help='PNG file')
  args = parser.parse_args()
  results = []
  for name in args.vary:
    points = [{'case': f'{name} {value}', 'value': value,
               **measure(**{**BASE, name: value})} for value in VARIED[name]]
    seconds = np.array([p['step_seconds']['median'] for p in points])
    flops = np.array([p['flops'] for p in points])
    slope, start = np.polyfit(flops, seconds, 1)
    share = np.abs(slope * flops + start - seconds).max() / seconds.max()
    print(f'{name}: {1e3 * start:.1f} ms and {1e-9 / slope:.1f} GFLOP/s, '
          f'off by {share:.0%} of the longest at most', flush=True)
    results += [{**point, 'vary': name} for point in points]
  if args.plot:
    _draw(results, args.vary, args.plot)
  print(json.dumps([{**point, **machine.describe()} for point in results]))


def _draw(results: list[dict], names: list[str], path: str) -> None:
  from lakhnes_jax.report import plot
  fig = plot.figure(figsize=(9, 6))
  for axes, name in zip(fig.subplots(2, 2).flat, names, strict=False):
    points = [point for point in results if point['vary'] == name]
    values = [point['value'] for point in points]
    seconds = np.array([point['step_seconds']['median'] for point in points])
    flops = np.array([point['flops'] for point in points])
    slope, start = np.polyfit(flops, seconds, 1)
    axes.plot(values, 1e3 * seconds, 'o', label='measured')
    axes.plot(values, 1e3 * (slope * flops + start),
              label='line through the operations')
    axes.set(xlabel=name, ylabel='ms a step', ylim=0)
    axes.legend()
  plot.save(fig, path)


if __name__ == '__main__':
  main()
