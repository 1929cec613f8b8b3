"""Checkpoints of PyTorch made worse, and pickles of nothing but malice.

A zip archive has checksums: what is read is right or refused. The older stream
has none: a flipped bit of a number is that number, or one of the settings, and
nothing else. What has bytes too many or too few is refused.
"""

import io
import pickle
import zipfile

import jax
import numpy as np
import pytest

from lakhnes_jax import import_torch
from lakhnes_jax.weights import torch_names
from support import mutations
from support.pickles import nested

pytestmark = [pytest.mark.faults, pytest.mark.filterwarnings('error')]
FILES = ['ckpt/model.pt', 'ckpt/model_legacy.pt', 'ckpt101/model.pt']
HEAD = b''.join(pickle.dumps(x, 2) for x in (
    0x1950a86a20f9469cfc6c, 1001, {'little_endian': True}))
_FLIPS = mutations.flip, mutations.overwrite
_NAMES = [b'torch._utils\n_rebuild_tensor_v2\n', b'torch\nFloatStorage\n',
          b'collections\nOrderedDict\n', b'torch.nn.modules.linear\nLinear\n',
          b'mem_transformer\nMemTransformerLM\n', b'builtins\neval\n',
          b'os\nsystem\n', b'__builtin__\nset\n', b'torch\nSize\n',
          b'torch._utils\n_rebuild_parameter\n', b'\\Rx\n\xff\n', b'\n\n',
          b'torch.nn.backends.thnn\n_get_thnn_function_backend\n']
# Instructions that build something, more often than those that read it.
_CODES = [b'(', b')', b']', b'}', b'N', b'K\1', b'K\0', b'q\1', b'h\1', b'q\2',
          b'h\2', b'\x85', b'\x86', b'\x87', b't', b'a', b'e', b's', b'u', b'l',
          b'd', b'0', b'1', b'2', b'\x88', b'R', b'b', b'Q', b'\x81', b'o',
          b'J\xff\xff\xff\x7f', b'X\7\0\0\0storage', b'X\1\0\0\x000',
          b'X\x0b\0\0\0_parameters', b'X\x08\0\0\0_modules', b'r\0\0\0\x7f',
          b'G\x7f\xf0\0\0\0\0\0\0', b'I1\n', b'I' + b'9' * 5000 + b'\n',
          b'L1L\n', b"S'\\Ra'\n", b"S'\\477'\n", b'S"a"\n', b'Vx\\u00e9\n',
          b'Pzero\n', b'.', b'X\xff\xff\xff\x7f', b'\x8a\xff', b'\x93', b'\x94',
          b'\x95\xff\xff\xff\xff\xff\xff\xff\xff', b'\x80\5', b'\x82\1',
          b'F1\n']


def _read(path):
  """Returns (config, names, arrays) of a model."""
  found = import_torch.read_model(path)
  return found.config, found.names, [
      np.asarray(leaf) for leaf in jax.tree.leaves(found.params)]


def _refused(error, path):
  reason = str(error)
  assert not isinstance(error, UnicodeError), error
  assert str(path) in reason and reason.isprintable(), reason
  assert len(reason) < 500, reason


def _mutated(data: bytes, rng):
  """Returns (data, how many bytes differ; 0 if the length does)."""
  if not rng.integers(3):
    mutator = mutations.ANY[int(rng.integers(len(mutations.ANY)))]
  else:
    mutator = _FLIPS[int(rng.integers(2))]
  # The structure, which is a few per cent of it, in half of the cases.
  head = len(data) if rng.integers(2) else 14000
  part = mutator(bytearray(data[:head]), rng, [data])
  new = bytes(part) + data[head:]
  changed = sum(a != b for a, b in zip(data, new, strict=False)) if len(
      new) == len(data) else 0
  return new, changed


def _taken(read, good, path, count: int) -> list[tuple]:
  """Reads mutants of a file; the others are refused in a line.

  Returns:
    number, bytes changed and what was read, of each that is taken.
  """
  taken, data = [], good.read_bytes()
  for number in range(count):
    new, changed = _mutated(data, np.random.default_rng(number))
    path.write_bytes(new)
    try:
      taken.append((number, changed, read(path)))
    except (ValueError, OSError) as error:
      _refused(error, path)
  return taken


def _n_different(found, whole) -> int:
  """Counts the numbers that differ in any bit."""
  return sum(int((a.view(np.int32) != b.view(np.int32)).sum())
             for a, b in zip(found, whole, strict=True))


@pytest.mark.parametrize('name', FILES)
def test_mutated_models(oracles, tmp_path, n_faults, name):
  good = oracles / 'model' / name
  with np.load(good.parent / 'expected.npz') as arrays:
    whole = [np.asarray(leaf) for leaf in jax.tree.leaves(
        torch_names.to_tree(dict(arrays)))]
  config, names, _ = _read(good)
  is_zip, count = zipfile.is_zipfile(good), 8 * n_faults
  taken = _taken(_read, good, tmp_path / 'model.pt', count)
  for number, changed, found in taken:
    others = _n_different(found[2], whole)
    settings = sum(getattr(found[0], key) != getattr(config, key)
                   for key in config.__dict__)
    assert found[1] == names, number
    assert [a.shape for a in found[2]] == [a.shape for a in whole], number
    assert others + settings <= (0 if is_zip else changed), number
  assert len(taken) < count and (taken or is_zip), len(taken)


@pytest.mark.parametrize('name', FILES)
def test_mutated_optimizers(oracles, tmp_path, n_faults, name):
  imported = import_torch.read_model(oracles / 'model' / name)
  good = oracles / 'model' / name.replace('model', 'optimizer')

  def read(path):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(
        import_torch.read_optimizer(path, imported))]

  whole = read(good)
  is_zip, count = zipfile.is_zipfile(good), 3 * n_faults
  taken = _taken(read, good, tmp_path / 'optimizer.pt', count)
  for number, changed, found in taken:
    assert _n_different(found, whole) <= (0 if is_zip else changed), number
  assert len(taken) < count


def test_hostile_pickles(tmp_path, n_faults):
  """Instructions in any order, in a stream and in a zip archive."""
  path = tmp_path / 'model.pt'
  for number in range(10 * n_faults):
    rng = np.random.default_rng(number)
    body = b'\x80\2'
    for _ in range(int(rng.integers(1, 60))):
      kind = int(rng.integers(12))
      body += (b'c' + _NAMES[int(rng.integers(len(_NAMES)))] if kind < 3 else
               nested(50)[2:] if kind == 3 and not rng.integers(9) else
               _CODES[int(rng.integers(len(_CODES)))])
    body += b'.'
    if number % 2:
      content = HEAD + body + pickle.dumps(['0'], 2) + bytes(24)
    else:
      file = io.BytesIO()
      with zipfile.ZipFile(file, 'w') as archive:
        archive.writestr('a/data.pkl', body)
        archive.writestr('a/data/0', bytes(16))
      content = file.getvalue()
    path.write_bytes(content)
    with pytest.raises((ValueError, OSError)) as caught:
      import_torch.read_model(path)
    _refused(caught.value, path)

