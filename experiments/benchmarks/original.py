"""The original in PyTorch against us, paired: `... .benchmarks.original`.

    python -m experiments.benchmarks --stages=original -- --original=LakhNES

Needs torch and a checkout of github.com/chrisdonahue/LakhNES; without either it
says so and does nothing. Training steps, evaluation segments and generation of
the full model with full memory are timed by turns, each in a process of its own
that sleeps while the other works, on the GPU where both see one. The last line
is JSON; `ratio` is our rate by theirs, peaks are bytes of main memory.
"""

import argparse
import json
import multiprocessing
import pathlib
import sys
import time

from experiments.benchmarks import machine
from lakhnes_jax import command_line

# Stage -> (lanes, tgt_len, mem_len) to compare at. Generation makes tgt_len
# tokens a turn, one by one.
SETTINGS = {'train': (4, 128, 512), 'evaluate': (10, 128, 896),
            'generate': (1, 16, 512)}
_PAUSE = 0.3  # Seconds, until the other's threads sleep.
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
  parts = tgt_len if stage == 'generate' else 1
  model = MemTransformerLM(
      _VOCABULARY, 12, 8, 512, 64, 2048, .1, 0., tgt_len=tgt_len // parts,
      ext_len=0, mem_len=mem_len)
  for parameter in model.parameters():
    torch.nn.init.normal_(parameter, 0., .02)
  model = model.to(device).train(stage == 'train')
  adam = torch.optim.Adam(model.parameters(), lr=1e-5)
  tokens = torch.randint(1, _VOCABULARY, (tgt_len, lanes), device=device)
  memory: list = []
  if stage == 'generate':
    known = torch.ones((mem_len, lanes), dtype=torch.long, device=device)
    with torch.no_grad():
      _, *memory = model(known, known)

  def step():
    nonlocal memory
    with torch.set_grad_enabled(stage == 'train'), torch.autocast(
        device, torch.bfloat16, enabled=dtype == 'bfloat16'):
      for part in tokens.chunk(parts):
        loss, *memory = model(part, part, *memory)
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

  from lakhnes_jax.generation import decode
  from lakhnes_jax.model import transformer_xl
  from lakhnes_jax.model.language_model import LanguageModel
  from lakhnes_jax.training import evaluate, optimizer, train_step
  lanes, tgt_len, mem_len = shape
  model = LanguageModel(transformer_xl.ModelConfig(
      n_token=_VOCABULARY, dtype=dtype))
  tokens = np.random.default_rng(0).integers(
      1, _VOCABULARY, (lanes, tgt_len), np.int32)
  adam = optimizer.make(.25)
  state = train_step.init_state(model, adam, lanes, mem_len, 0)
  if stage == 'evaluate':
    params, read_lanes = jax.device_put(state.params), state.lanes
    segment = evaluate.segment_fn(model)
    weights = np.ones(tokens.shape, np.float32)

    def read():
      nonlocal read_lanes
      loss, read_lanes = segment(
          params, read_lanes, tokens, tokens, weights, False)
      return float(loss)

    return read
  if stage == 'generate':
    params = decode.to_decode_params(model, state.params)
    _, logits, cache = decode.prefill(
        model, params, decode.init_cache(model, params, lanes, mem_len),
        np.ones((lanes, mem_len), np.int32))
    songs = decode.begin(logits, cache,
                         jax.random.split(jax.random.key(0), lanes))

    def draw():
      nonlocal songs
      found, _, songs = decode.generate(model, params, songs, tgt_len,
                                        chunk=tgt_len)
      return found

    return draw
  state = train_step.to_devices(state, 1)
  step = jax.pmap(
      lambda *args: train_step.train_step(
          *args, model=model, optimizer=adam, seed=0,
          schedule=optimizer.schedule('constant', 1e-5, 1, 0)),
      axis_name=train_step.AXIS, donate_argnums=0, devices=jax.devices()[:1])

  def take():
    nonlocal state
    state, measured = step(state, tokens[None], tokens[None], np.zeros(1, bool))
    return float(measured['loss'][0])

  return take


def _work(connection, make, *args) -> None:
  """Takes two steps whenever asked, and says how long the second took.

  The first one after a pause is a third slower. In the end it says its memory.
  """
  step = make(*args)
  while connection.recv():
    step()
    started = time.perf_counter()
    step()
    connection.send(time.perf_counter() - started)
  connection.send(machine.peak_memory())


def compare(checkout: pathlib.Path, stage: str, shape: tuple[int, int, int],
            dtype: str, repeats: int) -> dict:
  """Times both by turns; the first turns fill the memory, and compile."""
  spawn = multiprocessing.get_context('spawn')
  asked = {}
  for name, work in (('original', (theirs, checkout)), ('ours', (ours,))):
    asked[name], other_end = spawn.Pipe()
    spawn.Process(target=_work, args=(other_end, *work, stage, shape, dtype),
                  daemon=True).start()
    other_end.close()  # So that the end of the process is heard of.
  times: dict[str, list[float]] = {name: [] for name in asked}
  lanes, tgt_len, mem_len = shape
  full = 1 if stage == 'generate' else -(-mem_len // tgt_len) // 2 + 1
  for turn in range(full + repeats):
    for name, connection in asked.items():
      time.sleep(_PAUSE)
      connection.send(True)
      seconds = connection.recv()
      if turn >= full:
        times[name].append(seconds)
  peaks = {}
  for name, connection in asked.items():
    connection.send(False)
    peaks[name] = connection.recv()
  rates = {name: machine.summary(lanes * tgt_len, spent)
           for name, spent in times.items()}
  return {'case': f'{stage}, batch {lanes}, tgt {tgt_len}, mem {mem_len}, '
                  f'{dtype}', 'tokens_per_second': rates['ours'],
          'original_tokens_per_second': rates['original'],
          'peak_memory': peaks['ours'],
          'original_peak_memory': peaks['original'],
          'ratio': rates['ours']['median'] / rates['original']['median']}


def main(argv: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--original', type=pathlib.Path,
                      help='checkout of the original')
  parser.add_argument('--stages', nargs='+', choices=SETTINGS,
                      default=list(SETTINGS))
  parser.add_argument('--shape', type=command_line.whole(1, 2**20), nargs=3,
                      help='batch, tgt_len and mem_len; default: as in the '
                      'issue, stage by stage')
  parser.add_argument('--dtype', default='float32',
                      choices=['float32', 'bfloat16'])
  parser.add_argument('--repeats', type=command_line.whole(1, 1000),
                      default=9)
  args = parser.parse_args(argv)
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
  results = [compare(args.original, stage, tuple(args.shape or SETTINGS[stage]),
                     args.dtype, args.repeats) for stage in args.stages]
  for result in results:
    print(f'{result["case"]}: {result["tokens_per_second"]["median"]:.0f} '
          'tokens/s, the original '
          f'{result["original_tokens_per_second"]["median"]:.0f}')
  print(json.dumps([{**result, **machine.describe()} for result in results]))


if __name__ == '__main__':
  main()
