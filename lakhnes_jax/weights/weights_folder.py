"""Weights as files that anything can read: safetensors beside a JSON config.

A *weights folder* holds `model.safetensors`, `config.json` (model kind and
config, event format, where it came from) and, where training may go on from
it, `optimizer.safetensors`. Arrays are named by their path in the parameter
tree, as in `layers/attention/qkv`. `SHA256SUMS` (in the format of `sha256sum`)
is written last, and where it is, what is read must agree with it.
"""

import hashlib
import json
import os
import pathlib
import re
import sys
from typing import Any

import ml_dtypes
import numpy as np
import safetensors.numpy
from flax import traverse_util

from lakhnes_jax import atomic, input_files, ranges, schema, vocabularies
from lakhnes_jax.weights import checkpoint, fetch

# The pretrained weights that come with the package.
PRETRAINED = pathlib.Path(__file__).parents[1] / 'pretrained'
SUMS = 'SHA256SUMS'
_MODEL, _OPTIMIZER = 'model.safetensors', 'optimizer.safetensors'
_CONFIG, _CARD = 'config.json', 'README.md'
_MAX_BYTES, _MAX_CONFIG_BYTES = 2**34, 2**22
_MOST_SHOWN = 9
_TERMS = {'weight': float, 'square': float}
# Sizes beyond these would be allocated before they are found to be wrong.
_META = {'model': str, 'format': str, 'mem_len?': int,
         'vocabulary_digest?': str,
         'critic?': {
             'ngrams': {'*': float}, 'log_odds': {'*': _TERMS},
             'features': [{'feature': str, 'mean': float, 'deviation': float,
                           **_TERMS}]},
         'config': {
    f'{name}?': schema.Range(1, ranges.MAX_SIZE)
    for name in ('n_token', 'n_layer', 'n_head', 'd_model', 'd_head',
                 'd_inner')}}
# What else any version has written there. Where a newer one has more, it is
# said that this one makes nothing of it.
_OF_OTHERS = frozenset({
    'lineage', 'evaluations', 'step', 'seconds', 'best', 'best_step',
    'averaged_with', 'identity', 'source', 'data', 'since_line', 'flags',
    'versions', 'git_revision', 'device', 'n_devices'})
_DTYPES = {
    'F32': np.dtype(np.float32),
    'BF16': np.dtype(ml_dtypes.bfloat16),
    'I32': np.dtype(np.int32),
}


def _dump(tree: Any) -> bytes:
  """Returns a tree of numpy arrays as a safetensors file."""
  return safetensors.numpy.save({
      name: np.ascontiguousarray(leaf).reshape(np.shape(leaf))
      for name, leaf in checkpoint.leaves(tree).items()})


def _read(path: pathlib.Path) -> dict[str, Any]:
  """Reads a safetensors file as a tree of float32 and int32 arrays."""
  try:
    tensors = safetensors.deserialize(input_files.read(path, _MAX_BYTES))
  except safetensors.SafetensorError as error:
    raise ValueError(f'{path}: damaged or no safetensors file ({error}); '
                     'fetch it again') from None
  flat = {}
  for name, tensor in tensors:
    shown = checkpoint.shown(name)
    if tensor['dtype'] not in _DTYPES:
      raise ValueError(f'{path}: {shown} is of type {tensor["dtype"]}, not one '
                       f'of {", ".join(_DTYPES)}')
    array = np.frombuffer(tensor['data'], _DTYPES[tensor['dtype']])
    if array.dtype != np.int32:
      array = array.astype(np.float32)
    if not np.isfinite(array).all():
      raise ValueError(f'{path}: {shown} holds NaN or infinite numbers')
    flat[tuple(name.split('/'))] = array.reshape(tensor['shape'])
  for place in flat:
    if any(place[:i] in flat for i in range(1, len(place))):
      raise ValueError(f'{path}: {checkpoint.shown("/".join(place))} is below '
                       'another array')
  return traverse_util.unflatten_dict(flat)


def save(folder: str | os.PathLike, params: Any, meta: dict[str, Any], *,
         opt_state: Any = None, dtype: str = 'float32',
         card: str | None = None) -> int:
  """Writes a weights folder, the checksums last.

  Whoever is killed meanwhile leaves weights that were there as they were, or no
  `config.json`: never that, or the card, of other arrays.

  Args:
    folder: made if need be.
    params: tree of arrays.
    meta: JSON; `model` (kind), `config` (its settings) and `format` (of the
      events) are needed to use the weights.
    opt_state: state of the optimizer, to go on training; None to leave it out.
    dtype: 'float32' or 'bfloat16', of the weights in the file.
    card: Markdown of `README.md`; None for none.

  Returns:
    Bytes of all files.

  Raises:
    ValueError: another dtype.
  """
  folder = pathlib.Path(folder)
  if dtype not in ('float32', 'bfloat16'):
    raise ValueError(f'dtype {dtype!r} is neither float32 nor bfloat16')
  import jax
  files = {_MODEL: _dump(jax.tree.map(
      lambda x: np.asarray(x).astype(
          ml_dtypes.bfloat16 if dtype == 'bfloat16' else np.float32), params))}
  if opt_state is not None:
    files[_OPTIMIZER] = _dump(jax.tree.map(np.asarray, opt_state))
  if card is not None:
    files[_CARD] = card.encode('utf-8', 'backslashreplace')
  files[_CONFIG] = json.dumps(meta, indent=2).encode()
  files[SUMS] = ''.join(
      f'{hashlib.sha256(files[name]).hexdigest()}  {name}\n'
      for name in sorted(files)).encode()
  atomic.write_together(
      {folder / name: data for name, data in files.items()},
      remove=[folder / name for name in (SUMS, _CONFIG, _OPTIMIZER, _CARD)])
  return sum(map(len, files.values()))


def local(path: str | os.PathLike) -> pathlib.Path:
  """Returns a folder on this machine: `path`, or a copy where that is a URL.

  Args:
    path: a folder; or http(s)://.../FOLDER, whose `SHA256SUMS` says what is in
      it. Copies stay in ~/.cache/lakhnes_jax/weights.

  Raises:
    OSError: the server does not have a file.
    ValueError: it sent something that is not what `SHA256SUMS` says.
  """
  if not re.match(r'https?://', str(path)):
    return pathlib.Path(path)
  url = str(path).rstrip('/')
  name = f'{url.split("/")[-1]}-{hashlib.sha256(url.encode()).hexdigest()[:12]}'
  folder = pathlib.Path('~/.cache/lakhnes_jax/weights', name).expanduser()
  if not (folder / SUMS).exists():
    fetch.fetch(f'{url}/{SUMS}', folder / f'{SUMS}.new')
    for file, sha256 in _sums(folder / f'{SUMS}.new').items():
      fetch.fetch_checked(f'{url}/{file}', folder / file, sha256)
    os.replace(folder / f'{SUMS}.new', folder / SUMS)
  return folder


def _sums(path: pathlib.Path) -> dict[str, str]:
  """Reads `SHA256SUMS`: file names, without any folder, and their hashes."""
  sums: dict[str, str] = {}
  text = input_files.read(path, _MAX_CONFIG_BYTES).decode(
      'utf-8-sig', 'replace')
  for line in text.splitlines():
    if not line.strip():
      continue
    found = re.fullmatch(r'([0-9a-fA-F]{64}) [ *]([\w-][\w.-]*)', line)
    if not found:
      raise ValueError(f'{path}: not lines of a SHA-256 and a file name')
    sha256 = found[1].lower()  # PowerShell writes capitals.
    if sums.setdefault(found[2], sha256) != sha256:
      raise ValueError(f'{path}: two checksums of {found[2][:80]}')
  missing = {_CONFIG, _MODEL} - sums.keys()
  if missing:
    raise ValueError(f'{path}: has no checksum of {min(missing)}')
  return sums


def _check(folder: pathlib.Path) -> None:
  """Checks the files of a folder against `SHA256SUMS` there.

  Raises:
    OSError: a file is missing.
    ValueError: a file is another one, or has no checksum.
  """
  sums = _sums(folder / SUMS)
  if (folder / _OPTIMIZER).exists() and _OPTIMIZER not in sums:
    raise ValueError(f'{folder / SUMS}: has no checksum of {_OPTIMIZER}')
  for file, sha256 in sums.items():
    try:
      fetch.check(folder / file, sha256)
    except ValueError as error:
      raise ValueError(f'{error}: damaged, or edited (then delete '
                       f'{folder / SUMS})') from None


def read(path: str | os.PathLike) -> tuple[dict[str, Any], dict[str, Any]]:
  """Reads a weights folder, or the best checkpoint of a run directory.

  Args:
    path: as for `local`.

  Returns:
    {'params': tree of float32 numpy arrays, 'opt_state': likewise, where there
    is one}, and meta as in `save`.

  Raises:
    FileNotFoundError: neither is there.
    OSError: a URL cannot be fetched.
    ValueError: a file is damaged, or its tokens mean something else here.
  """
  path = local(path)
  if not (path / _MODEL).exists():
    tree, meta = checkpoint.restore(path)
    try:
      schema.check(meta, _META)
    except ValueError as error:
      raise ValueError(f'{path}: its checkpoint: {error}') from None
    vocabularies.check(meta, path)
    return tree, meta
  if (path / SUMS).exists():
    _check(path)
  tree = {'params': _read(path / _MODEL)}
  if (path / _OPTIMIZER).exists():
    tree['opt_state'] = _read(path / _OPTIMIZER)
  config = path / _CONFIG
  try:
    meta = schema.parse(input_files.read(config, _MAX_CONFIG_BYTES), _META)
  except (OSError, ValueError) as error:
    raise ValueError(f'{config}: does not describe the weights beside it '
                     f'({error})') from None
  vocabularies.check(meta, path)
  unknown = meta.keys() - _OF_OTHERS - {key.removesuffix('?') for key in _META}
  if unknown:
    print(f'{config}: not used here: ' + ', '.join(sorted(map(
        checkpoint.shown, unknown))[:_MOST_SHOWN]) + ' (misspelt, or of '
          'another version)', file=sys.stderr, flush=True)
  return tree, meta


def load(path: str | os.PathLike, kind=None):
  """Reads a model from a weights folder or a run directory.

  Args:
    path: of the folder, or its URL.
    kind: a `language_model.SequenceModel` class; `LanguageModel` if None.

  Returns:
    (the model, params as float32 numpy arrays, meta)

  Raises:
    OSError, ValueError: as `read`; or it is another kind of model,
      or the arrays do not fit the config.
  """
  tree, meta = read(path)
  model, params = fit(tree['params'], meta, path, kind)
  return model, params, meta


def fit(params: Any, meta: dict[str, Any], path: str | os.PathLike, kind=None):
  """Makes the model that `read` found, and checks that its arrays fit.

  Args:
    params: tree of arrays.
    meta, path: of the weights.
    kind: as in `load`.

  Returns:
    (the model, params)

  Raises:
    ValueError: it is another kind of model, or the arrays do not fit the
      config; names the path.
  """
  import jax

  from lakhnes_jax.model import language_model
  kind = kind or language_model.LanguageModel
  try:
    if meta['model'] != kind.name:
      raise ValueError(f'holds a model of kind {meta["model"]!r}, not '
                       f'{kind.name!r}')
    model = kind.from_dict(meta['config'], (
        vocabularies.get(meta['format'])
        if meta['format'] in vocabularies.NAMES else None))
    template = jax.eval_shape(
        lambda: model.init_params(jax.random.key(0)))
  except Exception as error:  # JAX refuses sizes in many ways.
    reason = ' '.join(str(error).split())[:200] or type(error).__name__
    raise ValueError(f'{path}: {reason}') from None
  params = checkpoint.fill(template, params, str(path))
  for name, array in checkpoint.leaves(params).items():
    if not np.isfinite(array).all():
      raise ValueError(f'{path}: {name} holds NaN or infinite numbers')
  return model, params
