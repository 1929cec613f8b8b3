"""Imports a checkpoint of the original LakhNES; PyTorch is not needed.

    python -m lakhnes_jax.import_torch model.pt --optimizer=optimizer.pt \
        --out=weights/nes

writes a folder that `--init_from` and `--mode=sample` take like our own.
"""

import argparse
import os
import sys
from typing import Any, NamedTuple

import numpy as np

from lakhnes_jax import command_line, events, file_lock
from lakhnes_jax.formats import safe_pickle
from lakhnes_jax.weights import torch_pickle

_MAX_NUMBER = 2**31 - 1


class Imported(NamedTuple):
  """A model of the original.

  Attributes:
    config: `ModelConfig`.
    params: tree of float32 arrays.
    names: of the parameters, in the order in which the optimizer has them.
  """
  config: Any
  params: Any
  names: list[str]


def _arrays(model: torch_pickle.Module) -> dict[str, np.ndarray]:
  """Collects parameters by name, as torch's `named_parameters` orders them.

  Each module and each array counts once, under its first name.
  """
  arrays, seen = {}, set()
  waiting = [('', model)]
  while waiting:
    prefix, module = waiting.pop()
    if id(module) in seen:
      continue
    seen.add(id(module))
    for name, value in module._parameters.items():
      if isinstance(value, np.ndarray) and id(value) not in seen:
        seen.add(id(value))
        arrays[prefix + name] = value
    waiting += [(f'{prefix}{name}.', child)
                for name, child in reversed(module._modules.items())
                if isinstance(child, torch_pickle.Module)]
  return arrays


def _number(value: Any, name: str, low: int, high: int) -> int | float:
  """Returns a number of a file; raises ValueError if it is out of range."""
  if isinstance(value, np.ndarray) and value.size == 1:
    value = value.item()
  if not isinstance(value, int | float) or not low <= value <= high:
    raise ValueError(f'{name} is no number from {low} to {high}')
  return value


def _check_finite(arrays: dict[str, np.ndarray]) -> None:
  """Raises ValueError if an array has numbers that float32 does not hold."""
  for name, array in arrays.items():
    with np.errstate(over='ignore'):
      if not np.isfinite(array.astype(np.float32)).all():
        raise ValueError(f'{name} holds NaN, infinite or too large numbers')


def read_model(path: str | os.PathLike) -> Imported:
  """Reads what `torch.save(model)` of the original wrote.

  Raises:
    FileNotFoundError: no such file.
    ValueError: damaged, refused, or a kind of model that is none of ours.
  """
  from lakhnes_jax.weights import torch_names
  found = torch_pickle.load(path)
  if not isinstance(found, torch_pickle.Module):
    raise ValueError(f'{path}: holds no model but '
                     f'{type(found).__name__} (is it optimizer.pt?)')
  try:
    if attn_type := _number(found.attn_type, 'attn_type', 0, 9):
      raise ValueError(f'attn_type {int(attn_type)}, not 0')
    layer = found._modules['layers']._modules['0']
    attention = layer._modules['dec_attn']
    settings = {
        'dropout': float(_number(found._modules['drop'].p, 'dropout', 0, 1)),
        'dropatt': float(_number(attention._modules['dropatt'].p, 'dropatt', 0,
                                 1)),
        'pre_lnorm': bool(_number(attention.pre_lnorm, 'pre_lnorm', 0, 1)),
        'same_length': bool(_number(found.same_length, 'same_length', 0, 1)),
        'clamp_len': int(_number(found.clamp_len, 'clamp_len', -_MAX_NUMBER,
                                 _MAX_NUMBER)),
    }
    if settings['clamp_len'] <= 0:
      settings['clamp_len'] = -1
    arrays = _arrays(found)
    _check_finite(arrays)
    config, params = torch_names.from_torch_state_dict(arrays, **settings)
  except (KeyError, AttributeError, TypeError) as error:
    reason = safe_pickle.describe(error)
    raise ValueError(f'{path}: holds another model than LakhNES\'s '
                     f'Transformer-XL ({reason})') from None
  except ValueError as error:
    raise ValueError(f'{path}: {safe_pickle.describe(error)}') from None
  return Imported(config, params,
                  [name for name in arrays if name != torch_names.TIED])


def read_optimizer(path: str | os.PathLike, imported: Imported):
  """Reads what `torch.save(optimizer.state_dict())` of the original wrote.

  Returns:
    State of `training.optimizer.make`: Adam's moments, arranged as our
    parameters, and the number of steps.

  Raises:
    FileNotFoundError: no such file.
    ValueError: damaged, refused, or of another model.
  """
  from lakhnes_jax.training import optimizer
  from lakhnes_jax.weights import torch_names
  found = torch_pickle.load(path)
  try:
    group, = found['param_groups']
    keys = list(group['params'])
    # From a stranger's file even the hash of a key could take for ever.
    if not all(isinstance(key, int) for key in keys):
      raise ValueError('parameters without a number')
    states = [found['state'][key] for key in keys]
    if not all(isinstance(state[kind], np.ndarray) for state in states
               for kind in ('exp_avg', 'exp_avg_sq')):
      raise ValueError('moments that are no tensors')
    moments = []
    for kind in ('exp_avg', 'exp_avg_sq'):
      arrays = {name: state[kind] for name, state in
                zip(imported.names, states, strict=True)}
      _check_finite(arrays)
      moments.append(torch_names.to_tree(arrays))
    steps = {int(_number(state['step'], 'step', 0, _MAX_NUMBER))
             for state in states}
  except (KeyError, IndexError, TypeError, ValueError) as error:
    raise ValueError(f'{path}: holds no Adam state of this model '
                     f'({safe_pickle.describe(error)})') from None
  if len(steps) != 1:
    raise ValueError(f'{path}: parameters are at different steps: '
                     f'{sorted(steps)[:4]}')
  # The moments must have the sizes of the parameters.
  import jax
  expected = jax.tree.map(np.shape, imported.params)
  if any(jax.tree.map(np.shape, tree) != expected for tree in moments):
    raise ValueError(f'{path}: moments of a model of another size')
  clipping, adam = optimizer.make(1.).init(imported.params)
  return clipping, adam._replace(
      count=np.int32(steps.pop()), mu=moments[0], nu=moments[1])


def convert(model_path: str | os.PathLike, out: str | os.PathLike,
            optimizer_path: str | os.PathLike | None = None) -> Imported:
  """Writes a weights folder from files of the original.

  Raises:
    OSError, ValueError: as `read_model` and `read_optimizer`; or another
      process writes to `out`.
  """
  from flax import serialization

  from lakhnes_jax.model import language_model
  from lakhnes_jax.weights import weights_folder
  imported = read_model(model_path)
  opt_state = None
  if optimizer_path:
    opt_state = serialization.to_state_dict(
        read_optimizer(optimizer_path, imported))
  formats = [name for name, vocabulary in events.VOCABULARIES.items()
             if vocabulary.size == imported.config.n_token]
  if not formats:
    raise ValueError(
        f'{model_path}: a vocabulary of {imported.config.n_token} tokens; '
        'TX1 has 631, TX2 686')
  model = language_model.LanguageModel(imported.config)
  with file_lock.exclusive(out):
    weights_folder.save(out, imported.params, {
        'model': model.name, 'config': model.to_dict(),
        'format': formats[0], 'source': os.path.basename(model_path)},
        opt_state=opt_state)
  return imported


def main(argv: list[str] | None = None) -> None:
  command_line.escape_output()
  parser = argparse.ArgumentParser(
      prog='python -m lakhnes_jax.import_torch', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('model', type=command_line.expand, metavar='MODEL.pt')
  parser.add_argument('--out', required=True, type=command_line.expand,
                      help='folder for the weights')
  parser.add_argument('--optimizer', type=command_line.expand,
                      metavar='OPTIMIZER.pt', help="for Adam's moments; "
                      'without it they are left out')
  args = parser.parse_args(argv)
  try:
    imported = convert(args.model, args.out, args.optimizer)
  except (OSError, ValueError) as error:
    sys.exit(f'import_torch: {error}')
  c = imported.config
  print(f'{args.out}: {c.n_layer} layers of {c.d_model}, {c.n_token} tokens'
        f'{", with optimizer" if args.optimizer else ""}')


if __name__ == '__main__':
  main()
