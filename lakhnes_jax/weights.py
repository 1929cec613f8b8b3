"""Weights as files that anything can read: safetensors beside a JSON config.

A *weights folder* holds `model.safetensors`, `config.json` (model kind and
config, event format, where it came from) and, where training may go on from
it, `optimizer.safetensors`. Arrays are named by their path in the parameter
tree, as in `layers/attention/qkv`.
"""

import json
import os
import pathlib
from typing import Any

import ml_dtypes
import numpy as np
import safetensors.numpy

from lakhnes_jax import checkpoint, files

_MODEL, _OPTIMIZER = 'model.safetensors', 'optimizer.safetensors'
_DTYPES = {
    'F32': np.dtype(np.float32),
    'BF16': np.dtype(ml_dtypes.bfloat16),
    'I32': np.dtype(np.int32),
}


def _write(path: pathlib.Path, tree: Any) -> None:
  """Writes a tree of numpy arrays as one safetensors file."""
  files.write_atomic(path, safetensors.numpy.save({
      name: np.ascontiguousarray(leaf).reshape(np.shape(leaf))
      for name, leaf in checkpoint.leaves(tree).items()}))


def _read(path: pathlib.Path) -> dict[str, Any]:
  """Reads a safetensors file as a tree of float32 and int32 arrays."""
  try:
    tensors = safetensors.deserialize(path.read_bytes())
  except safetensors.SafetensorError as error:
    raise ValueError(f'{path}: damaged or no safetensors file ({error}); '
                     'fetch it again') from None
  tree = {}
  for name, tensor in tensors:
    if tensor['dtype'] not in _DTYPES:
      raise ValueError(f'{path}: {name} is of type {tensor["dtype"]}, not one '
                       f'of {", ".join(_DTYPES)}')
    array = np.frombuffer(tensor['data'], _DTYPES[tensor['dtype']])
    if array.dtype != np.int32:
      array = array.astype(np.float32)
    *parents, last = name.split('/')
    branch = tree
    for parent in parents:
      branch = branch.setdefault(parent, {})
    branch[last] = array.reshape(tensor['shape'])
  return tree


def save(folder: str | os.PathLike, params: Any, meta: dict[str, Any], *,
         opt_state: Any = None, dtype: str = 'float32') -> None:
  """Writes a weights folder, the config last.

  Args:
    folder: made if need be.
    params: tree of arrays.
    meta: JSON; `model` (kind), `config` (its settings) and `format` (of the
      events) are needed to use the weights.
    opt_state: state of the optimizer, to go on training; None to leave it out.
    dtype: 'float32' or 'bfloat16', of the weights in the file.

  Raises:
    ValueError: another dtype.
  """
  folder = pathlib.Path(folder)
  if dtype not in ('float32', 'bfloat16'):
    raise ValueError(f'dtype {dtype!r} is neither float32 nor bfloat16')
  import jax
  _write(folder / _MODEL, jax.tree.map(
      lambda x: np.asarray(x).astype(
          ml_dtypes.bfloat16 if dtype == 'bfloat16' else np.float32), params))
  if opt_state is None:
    (folder / _OPTIMIZER).unlink(missing_ok=True)
  else:
    _write(folder / _OPTIMIZER, jax.tree.map(np.asarray, opt_state))
  files.write_atomic(folder / 'config.json',
                     json.dumps(meta, indent=2).encode())


def read(path: str | os.PathLike) -> tuple[dict[str, Any], dict[str, Any]]:
  """Reads a weights folder, or the best checkpoint of a run directory.

  Returns:
    {'params': tree of float32 numpy arrays, 'opt_state': likewise, where there
    is one}, and meta as in `save`.

  Raises:
    FileNotFoundError: neither is there.
    ValueError: a file is damaged.
  """
  path = pathlib.Path(path)
  if not (path / _MODEL).exists():
    return checkpoint.restore(path)
  tree = {'params': _read(path / _MODEL)}
  if (path / _OPTIMIZER).exists():
    tree['opt_state'] = _read(path / _OPTIMIZER)
  try:
    meta = json.loads((path / 'config.json').read_text('utf-8'))
    for name in ('model', 'config', 'format'):
      _ = meta[name]
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise ValueError(f'{path / "config.json"}: does not describe the weights '
                     f'beside it ({error!r})') from None
  return tree, meta


def load(path: str | os.PathLike, model=None):
  """Reads a model from a weights folder or a run directory.

  Args:
    path: of the folder.
    model: module of its kind; `lakhnes_jax.model` if None.

  Returns:
    (the model's ModelConfig, params as float32 numpy arrays, meta)

  Raises:
    FileNotFoundError, ValueError: as `read`; or it is another kind of model,
      or the arrays do not fit the config.
  """
  import jax
  if model is None:
    from lakhnes_jax import model
  tree, meta = read(path)
  if meta['model'] != model.NAME:
    raise ValueError(f'{path}: holds a model of kind {meta["model"]!r}, not '
                     f'{model.NAME!r}')
  config = model.ModelConfig.from_dict(meta['config'])
  template = jax.eval_shape(
      lambda: model.init_params(config, jax.random.key(0)))
  return config, checkpoint.fill(template, tree['params'], str(path)), meta
