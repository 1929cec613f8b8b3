"""The original in PyTorch against us, paired: `... .benchmarks.original`.

    python -m experiments.benchmarks.original --original=LakhNES

Needs torch and a checkout of github.com/chrisdonahue/LakhNES; without either it
says so and does nothing. Training steps and evaluation segments of the full
model with full memory are timed by turns, on the GPU where both see one. The
last line is JSON; `ratio` is our rate by theirs.
"""

import argparse
import json
import pathlib
import sys
import time

from experiments import huge_pages
from experiments.benchmarks import machine

# Stage -> (lanes, tgt_len, mem_len) to compare at.
SETTINGS = {'train': (4, 128, 512), 'evaluate': (10, 128, 896)}
_VOCABULARY = 631


def theirs(checkout: pathlib.Path, stage: str, shape: tuple[int, int, int],
           dtype: str):
  """Returns a function that takes one step or segment, and waits for it."""
  import torch
  for folder in (checkout / 'model', checkout / 'model' / 'utils'):
    sys.path.insert(0, str(folder))
  from mem_transformer import MemTransformerLM
  torch.Tensor.byte = torch.Tensor.bool  # What masks have to be by now.
  lanes, tgt_len, mem_len = shape
  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  model = MemTransformerLM(
      _VOCABULARY, 12, 8, 512, 64, 2048, .1, 0., tgt_len=tgt_len, ext_len=0,
      mem_len=mem_len)
  for parameter in model.parameters():
    torch.nn.init.normal_(parameter, 0., .02)
  model = model.to(device).train(stage == 'train')
  adam = torch.optim.Adam(model.parameters(), lr=1e-5)
  tokens = torch.randint(1, _VOCABULARY, (tgt_len, lanes), device=device)
  memory: list = []

  def step():
    nonlocal memory
    with torch.set_grad_enabled(stage == 'train'), torch.autocast(
        device, torch.bfloat16, enabled=dtype == 'bfloat16'):
      loss, *memory = model(tokens, tokens, *memory)
    loss = loss.float().mean()
    if stage == 'train':
      adam.zero_grad()
      loss.backward()
      torch.nn.utils.clip_grad_norm_(model.parameters(), .25)
      adam.step()
    return loss.item()

  return step


def ours(stage: str, shape: tuple[int, int, int], dtype: str):
  """Returns the same of ours."""
  import jax
  import numpy as np

  from lakhnes_jax import evaluate, model, optimizer, train
  lanes, tgt_len, mem_len = shape
  config = model.ModelConfig(n_token=_VOCABULARY, dtype=dtype)
  tokens = np.random.default_rng(0).integers(
      1, _VOCABULARY, (lanes, tgt_len), np.int32)
  adam = optimizer.make(.25)
  state = train.init_state(model, config, adam, lanes, mem_len, 0)
  if stage == 'evaluate':
    params, memory = jax.device_put(state.params), state.memory
    segment = evaluate.segment_fn(model, config)
    weights = np.ones(tokens.shape, np.float32)

    def read():
      nonlocal memory
      loss, memory = segment(params, memory, tokens, tokens, weights, False)
      return float(loss)

    return read
  state = train.to_devices(state, 1)
  step = jax.pmap(
      lambda *args: train.train_step(
          *args, model=model, config=config, optimizer=adam, seed=0,
          schedule=optimizer.schedule('constant', 1e-5, 1, 0)),
      axis_name=train.AXIS, donate_argnums=0, devices=jax.devices()[:1])

  def take():
    nonlocal state
    state, measured = step(state, tokens[None], tokens[None], np.zeros(1, bool))
    return float(measured['loss'][0])

  return take


def compare(checkout: pathlib.Path, stage: str, shape: tuple[int, int, int],
            dtype: str, repeats: int) -> dict:
  """Times both by turns; the first turns fill the memory."""
  steps = {'original': theirs(checkout, stage, shape, dtype),
           'ours': ours(stage, shape, dtype)}
  times: dict[str, list[float]] = {name: [] for name in steps}
  lanes, tgt_len, mem_len = shape
  full = -(-mem_len // tgt_len) + 1
  for turn in range(full + repeats):
    for name, step in steps.items():
      started = time.perf_counter()
      step()
      if turn >= full:
        times[name].append(time.perf_counter() - started)
  rates = {name: machine.summary(lanes * tgt_len, spent)
           for name, spent in times.items()}
  return {'case': f'{stage}, batch {lanes}, tgt {tgt_len}, mem {mem_len}, '
                  f'{dtype}', 'tokens_per_second': rates['ours'],
          'original_tokens_per_second': rates['original'],
          'ratio': rates['ours']['median'] / rates['original']['median']}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--original', type=pathlib.Path,
                      help='checkout of the original')
  parser.add_argument('--shape', type=int, nargs=3, help='batch, tgt_len and '
                      'mem_len; default: as in the issue, stage by stage')
  parser.add_argument('--dtype', default='float32',
                      choices=['float32', 'bfloat16'])
  parser.add_argument('--repeats', type=int, default=9)
  args = parser.parse_args()
  try:
    import torch  # noqa: F401
  except ImportError:
    print('no torch here: not compared')
    print(json.dumps([]))
    return
  if not args.original:
    print('no --original=CHECKOUT: not compared')
    print(json.dumps([]))
    return
  results = [compare(args.original, stage, tuple(args.shape or shape),
                     args.dtype, args.repeats)
             for stage, shape in SETTINGS.items()]
  for result in results:
    print(f'{result["case"]}: {result["tokens_per_second"]["median"]:.0f} '
          'tokens/s, the original '
          f'{result["original_tokens_per_second"]["median"]:.0f}')
  print(json.dumps([{**result, **machine.describe()} for result in results]))


if __name__ == '__main__':
  huge_pages.ask()  # As experiments.run does.
  main()
