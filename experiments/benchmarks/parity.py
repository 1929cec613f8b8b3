"""How far we are from the original on each reference array.

    python -m experiments.benchmarks.parity ../shared/oracles/model

prints the largest deviation of each case beside its limit; exits with 1 where
one is passed. Deviations are relative to the largest number of the array, but
for parameters after steps of Adam (absolute: each element moves by up to the
learning rate, 2e-4, whatever its size).
"""

import argparse
import dataclasses
import functools
import math
import pathlib
import sys
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import plain
from lakhnes_jax import import_torch
from lakhnes_jax.generation import sampling
from lakhnes_jax.model import transformer_xl
from lakhnes_jax.training import optimizer
from lakhnes_jax.weights import torch_names

VARIANTS = ('base', 'same_length', 'clamp', 'clamp_same', 'pre_lnorm',
            'pre_lnorm_same_clamp', 'longmem', 'shortmem', 'shortmem_same',
            'nomem', 'ragged')
TRAINED = ('base', 'pre_lnorm', 'same_length')
CHECKPOINTS = ('ckpt101/model.pt', 'ckpt/model.pt', 'ckpt/model_legacy.pt')
_SCHEDULES = {'w0': ('cosine', 60, 0), 'w10': ('cosine', 60, 10),
              'w200': ('cosine', 400_000, 200),
              'const_w10': ('constant', 60, 10)}
_SAMPLERS = {
    'plain': {'exclude_start': False},
    't95k32': {'temperature': .95, 'top_k': 32},
    't2k5': {'temperature': 2., 'top_k': 5},
    'noeos': {}, 'argmax': {'temperature': 0}}
_RATE = 2e-4  # Of the Adam steps.

_apply = jax.jit(transformer_xl.apply, static_argnums=1)


class Row(NamedTuple):
  """One line of the table.

  Attributes:
    case, what: which arrays.
    deviation: the largest.
    limit: what it may be.
    note: in words.
  """
  case: str
  what: str
  deviation: float
  limit: float
  note: str = ''


def _load(folder: pathlib.Path, name: str) -> dict[str, np.ndarray]:
  with np.load(folder / f'{name}.npz') as arrays:
    return dict(arrays)


def _tree(arrays: dict[str, np.ndarray], prefix: str):
  return torch_names.to_tree({
      name.removeprefix(prefix): array for name, array in arrays.items()
      if name.startswith(prefix)})


def relative(found, expected) -> float:
  """Largest difference, by the largest expected number."""
  found, expected = np.asarray(found), np.asarray(expected)
  if found.shape != expected.shape:
    raise ValueError(f'{list(found.shape)}, not {list(expected.shape)}')
  return float(np.abs(found - expected).max() / np.abs(expected).max())


def _worst(compare, found, expected) -> float:
  return max(jax.tree.leaves(jax.tree.map(compare, found, expected)))


def _case(folder: pathlib.Path, variant: str):
  """Returns (arrays, config, params, tokens [B, T], targets)."""
  arrays, data = _load(folder, f'tinyA_{variant}'), _load(folder, 'tinyA_data')
  config, params = torch_names.from_torch_state_dict(
      _load(folder, 'tinyA_weights'), dropout=0.,
      pre_lnorm=bool(arrays['pre_lnorm']),
      same_length=bool(arrays['same_length']),
      clamp_len=int(arrays['clamp_len']))
  return (arrays, config, params,
          *(jnp.asarray(data[name].T, jnp.int32) for name in ('data',
                                                              'target')))


def _memory_deviation(memory: transformer_xl.Memory, expected) -> float:
  """Compares with [N + 1, M, B, D], whose last layer we do not keep."""
  length = int(memory.length)
  found = np.moveaxis(np.asarray(memory.hidden), 1, 2)
  return relative(found[:, found.shape[1] - length:], expected[:-1])


def segments(folder: pathlib.Path, variant: str) -> Iterator[Row]:
  """Segment after segment, memory carried; then token by token."""
  arrays, config, params, tokens, targets = _case(folder, variant)
  start = memory = transformer_xl.empty_memory(config, 3, int(arrays['mem_len']))
  rows: dict[str, list[float]] = {'logits': [], 'loss': [], 'memory': []}
  at = 0
  for i, length in enumerate(arrays['seglens'].tolist()):
    part = slice(at, at + length)
    logits, memory = _apply(params, config, tokens[:, part], memory)
    rows['logits'].append(relative(
        logits, arrays[f'logits_{i}'].swapaxes(0, 1)))
    rows['loss'].append(relative(
        transformer_xl.nll(logits, targets[:, part]), arrays[f'loss_{i}'].T))
    if arrays['mem_len']:
      rows['memory'].append(_memory_deviation(memory, arrays[f'mems_{i}']))
    at += length
  for what, deviations in rows.items():
    if deviations:
      yield Row(variant, what, max(deviations), 1e-5)
  memory, worst = start, []
  for i, expected in enumerate(arrays['step_logits']):
    logits, memory = _apply(params, config, tokens[:, i:i + 1], memory)
    worst.append(relative(logits[:, 0], expected))
    if memory.length != arrays['step_mlen'][i]:
      raise ValueError(f'{variant}: memory of {memory.length} after step {i}')
  yield Row(variant, 'logits, token by token', max(worst), 1e-5)
  if arrays['mem_len']:
    yield Row(variant, 'memory, token by token', _memory_deviation(
        memory, arrays['step_mems_final']), 1e-5)


@functools.partial(jax.jit, static_argnums=1)
def _loss_and_grads(params, config, memory, tokens, targets):
  def loss_fn(params):
    logits, new_memory = transformer_xl.apply(params, config, tokens, memory)
    return transformer_xl.nll(logits, targets).mean(), new_memory
  return jax.value_and_grad(loss_fn, has_aux=True)(params)


_adam = optimizer.make(.25)


@jax.jit
def _adam_step(params, state, grads):
  updates, state = _adam.update(grads, state, params)
  return jax.tree.map(lambda p, u: p - _RATE * u, params, updates), state


def training(folder: pathlib.Path, variant: str,
             remat: bool = False) -> Iterator[Row]:
  """Gradients of the first and fourth segment; three steps of Adam."""
  arrays, config, params, tokens, targets = _case(folder, variant)
  expected = _load(folder, f'tinyA_{variant}_train')
  config = dataclasses.replace(config, remat=remat)
  empty = transformer_xl.empty_memory(config, 3, int(arrays['mem_len']))

  def grads_of(params, memory, i):
    part = slice(8 * i, 8 * i + 8)
    return _loss_and_grads(params, config, memory, tokens[:, part],
                           targets[:, part])

  case, memory = f'{variant}{", recomputed" * remat}', empty
  for i in range(4):
    (loss, memory), grads = grads_of(params, memory, i)
    if i in (0, 3):
      yield Row(case, f'loss of segment {i}',
                relative(loss, expected[f'loss_seg{i}']), 1e-5)
      yield Row(case, f'gradients of segment {i}', _worst(
          relative, grads, _tree(expected, f'grad_seg{i}/')), 1e-4)
  if remat:
    return
  state, memory = _adam.init(params), empty
  for i in range(3):
    (loss, memory), grads = grads_of(params, memory, i)
    params, state = _adam_step(params, state, grads)
    yield Row(case, f'loss before Adam step {i + 1}',
              relative(loss, expected['adam_loss'][i]), 1e-5)
    yield Row(case, f'parameters after Adam step {i + 1}', _worst(
        lambda a, b: float(np.abs(np.asarray(a) - b).max()), params,
        _tree(expected, f'adam{i + 1}/')), 2e-5)


def schedules(folder: pathlib.Path) -> Iterator[Row]:
  """The learning rate of each step."""
  for case, expected in _load(folder, 'lr_schedule').items():
    kind, max_steps, warmup = _SCHEDULES[case]
    rate = jax.vmap(optimizer.schedule(kind, _RATE, max_steps, warmup))
    yield Row(f'schedule {case}', 'learning rates', relative(
        rate(jnp.arange(len(expected))), expected), 1e-5)


def samplers(folder: pathlib.Path) -> Iterator[Row]:
  """The probabilities that are drawn from, model included."""
  arrays = _load(folder, 'tinyA_sampler')
  config, params = torch_names.from_torch_state_dict(
      _load(folder, 'tinyA_weights'), dropout=0.)
  memory, logits = transformer_xl.empty_memory(config, 1, 16), []
  for token in arrays['forced'].tolist():
    step, memory = _apply(params, config, jnp.array([[token]]), memory)
    logits.append(step[0, 0])
  for case, settings in _SAMPLERS.items():
    yield Row(f'sampler {case}', 'probabilities', relative(
        jax.nn.softmax(sampling.restrict(jnp.stack(logits), **settings)),
        arrays[f'probs_{case}']), 1e-5)


def checkpoint(folder: pathlib.Path, name: str) -> Iterator[Row]:
  """What import makes of a checkpoint, and how it then predicts.

  The perplexity is expected to be that of `plain` with the parameters that
  PyTorch has read from the file.
  """
  path, data = folder / name, _load(folder, 'tinyA_data')
  imported = import_torch.read_model(path)
  state = import_torch.read_optimizer(
      path.with_name(path.name.replace('model', 'optimizer')), imported)
  expected = _load(path.parent, 'expected')
  moments = _load(path.parent, 'expected_optim')
  names = moments['param_names'].tolist()
  yield Row(name, 'parameters', _worst(
      relative, imported.params, torch_names.to_tree(expected)), 0.)
  for ours, theirs in (('mu', 'exp_avg'), ('nu', 'exp_avg_sq')):
    yield Row(name, theirs, _worst(
        relative, getattr(state[1], ours), torch_names.to_tree({
            n: moments[f'{i}/{theirs}'] for i, n in enumerate(names)})), 0.)
  memory, losses = transformer_xl.empty_memory(imported.config, 3, 16), []
  tokens, targets = (jnp.asarray(data[x].T, jnp.int32)
                     for x in ('data', 'target'))
  for at in range(0, 48, 8):
    logits, memory = _apply(imported.params, imported.config,
                            tokens[:, at:at + 8], memory)
    losses.append(transformer_xl.nll(logits, targets[:, at:at + 8]))
  loss, wanted = np.mean(losses), np.mean(plain.nll(
      expected, data['data'][:48], data['target'][:48], 16, 8))
  yield Row(name, 'perplexity', abs(math.exp(loss - wanted) - 1), 1e-5,
            f'{math.exp(loss):.5f}, expected {math.exp(wanted):.5f}')


def rows(folder: pathlib.Path) -> Iterator[Row]:
  """All cases, one after another."""
  for variant in VARIANTS:
    yield from segments(folder, variant)
  for variant in TRAINED:
    yield from training(folder, variant)
  yield from training(folder, 'base', remat=True)
  yield from schedules(folder)
  yield from samplers(folder)
  for name in CHECKPOINTS:
    yield from checkpoint(folder, name)


def main() -> int:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('folder', type=pathlib.Path,
                      help='the reference arrays, ../shared/oracles/model')
  folder = parser.parse_args().folder
  passed = False
  try:
    for row in rows(folder):
      over = row.deviation > row.limit
      passed |= over
      print(f'{row.case:22} {row.what:32} {row.deviation:8.1e}  '
            f'(limit {row.limit:.0e}){" TOO MUCH" * over}'
            f'{"  " + row.note if row.note else ""}', flush=True)
  except (OSError, ValueError) as error:
    sys.exit(f'experiments.benchmarks.parity: {error}')
  return int(passed)


if __name__ == '__main__':
  sys.exit(main())
