"""Training from a billion events on disk: `... .benchmarks.corpus`.

Writes made-up shards (4 GB; they stay, for the next time, in `--folder`), then
opens them, trains a tiny model and draws batches at full augmentation, watching
what is resident. Linux only. The last line is JSON.
"""

import argparse
import json
import pathlib
import shutil
import sys
import tempfile
import time

from experiments.benchmarks import corpora, machine

_MARGIN = 2 * 10**9  # Bytes of disk that must stay free.


def resident() -> dict[str, int]:
  """Bytes of this process in memory: its own, and of mapped files."""
  lines = pathlib.Path('/proc/self/status').read_text('ascii').splitlines()
  fields = dict(line.split(':', 1) for line in lines)
  return {name: int(fields[key].split()[0]) * 1024
          for name, key in (('own', 'RssAnon'), ('mapped', 'RssFile'))}


def run(folder: pathlib.Path, steps: int, batches: int) -> dict:
  """Measures; see the module.

  Returns:
    seconds to the first batch, events, largest increase of resident memory
    since before the corpus was opened (own and mapped, while training and
    while drawing), events a second drawn.
  """
  import jax
  import numpy as np

  from lakhnes_jax import events
  from lakhnes_jax.data import augment, shards, token_stream
  from lakhnes_jax.model import transformer_xl
  from lakhnes_jax.training import optimizer, train_step
  lanes, length = 60, 64
  config = transformer_xl.ModelConfig(n_token=events.TX1.size, n_layer=2, n_head=2,
                             d_model=32, d_head=16, d_inner=64)
  adam = optimizer.make(.25)
  state = train_step.to_devices(
      train_step.init_state(transformer_xl, config, adam, lanes, length, seed=0), 1)
  step = train_step.pmapped_steps(
      model=transformer_xl, config=config, optimizer=adam, seed=0,
      schedule=optimizer.schedule('constant', 1e-4, 1, 0))
  shape = (1, 1, lanes, length)
  zeros, reset = np.zeros(shape, np.int32), np.zeros((1, 1), bool)
  state, _ = step(state, zeros, zeros, reset)  # Compiled before we look.
  augmentation = augment.Augmentation.from_names(['all'])
  before, peak = resident(), {'own': 0, 'mapped': 0}

  def look():
    for name, size in resident().items():
      peak[name] = max(peak[name], size - before[name])

  started = time.perf_counter()
  corpus = shards.Corpus(folder, 'train')
  stream = token_stream.Stream(corpus, events.TX1, lanes, length,
                       augmentation=augmentation)
  with token_stream.Prefetch(stream) as prefetch:
    next(prefetch)
    opening = time.perf_counter() - started
    waited, began = prefetch.waited, time.perf_counter()
    for _ in range(steps):
      batch = next(prefetch)
      state, measured = step(state, batch.inputs.reshape(shape),
                             batch.targets.reshape(shape), reset)
      jax.block_until_ready(measured)
      look()
    waited = (prefetch.waited - waited) / (time.perf_counter() - began)
  stream = token_stream.Stream(corpus, events.TX1, lanes, 512,
                       augmentation=augmentation)
  started = time.process_time()
  for _ in range(batches):
    next(stream)
    look()
  rate = batches * lanes * 512 / (time.process_time() - started)
  return {'case': f'{int(corpus.lengths.sum()):,} events',
          'start_seconds': machine.spread([opening]),
          'resident_own': peak['own'], 'resident_mapped': peak['mapped'],
          'waiting': waited, 'events_per_cpu_second': rate,
          'peak_memory': machine.peak_memory(), **machine.describe()}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--folder', type=pathlib.Path, default=pathlib.Path(
      tempfile.gettempdir(), 'lakhnes-billion'))
  parser.add_argument('--events', type=float, default=1e9)
  parser.add_argument('--steps', type=int, default=100)
  parser.add_argument('--batches', type=int, default=2000)
  args = parser.parse_args()
  if not (args.folder / 'train.json').exists():
    args.folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(args.folder).free
    if free < 4 * args.events + _MARGIN:
      sys.exit(f'corpus: {args.folder} has {free / 1e9:.1f} GB free, not the '
               f'{(4 * args.events + _MARGIN) / 1e9:.1f} that it takes')
    print('writing ...', file=sys.stderr)
    corpora.write(args.folder, int(args.events / corpora.EVENTS) + 1)
  result = run(args.folder, args.steps, args.batches)
  print(f'{result["case"]}: first batch after '
        f'{result["start_seconds"]["median"]:.1f} s; resident for it at most '
        f'{result["resident_own"] / 1e6:.0f} MB of its own and '
        f'{result["resident_mapped"] / 1e6:.0f} MB mapped')
  print(json.dumps(result))


if __name__ == '__main__':
  main()
