"""Files of `torch.save`, read without PyTorch and without running their code.

A pickle stream can name any function and have it called. This reader knows a
list of names, gives each an inert stand-in, and refuses all others. Both
formats are read: the old stream (magic number, 1001, system info, the object,
storage keys, then the data of each storage) and the zip archive of PyTorch 1.6
and later.
"""

import collections
import io
import math
import os
import pathlib
import pickle
import re
import struct
import zipfile
from typing import Any, NamedTuple

import numpy as np

_MAGIC = 0x1950a86a20f9469cfc6c
_PROTOCOL = 1001
_STORAGES = {
    'FloatStorage': np.dtype('<f4'), 'DoubleStorage': np.dtype('<f8'),
    'HalfStorage': np.dtype('<f2'), 'LongStorage': np.dtype('<i8'),
    'IntStorage': np.dtype('<i4'),
}
# Modules of the original's model; of torch.nn whatever is a class by its name.
_MODULES = re.compile(
    r'(mem_transformer|proj_adaptive_softmax|utils\.[a-z_]+|'
    r'torch\.nn\.modules\.[a-z]+) [A-Z]\w*', re.ASCII)


class Module:
  """Stand-in for a module: only the attributes that the file gives it."""


class Storage(NamedTuple):
  """A block of numbers, by its name in the file."""
  key: str
  dtype: np.dtype
  size: int  # Elements.


class Tensor(NamedTuple):
  """Where in a storage the elements of a tensor are; counted in elements."""
  storage: Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


class _StorageType(NamedTuple):
  dtype: np.dtype


def _tensor(storage, offset, shape, strides, *_):
  if not (isinstance(storage, Storage) and len(shape) == len(strides) and
          all(type(n) is int and n >= 0 for n in (offset, *shape, *strides))):
    raise pickle.UnpicklingError('a tensor that makes no sense')
  last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
  # Without this a few bytes could ask for any amount of memory.
  if math.prod(shape) > storage.size or (math.prod(shape) and
                                         last >= storage.size):
    raise pickle.UnpicklingError(f'a tensor {list(shape)} beyond the end of '
                                 f'its storage of {storage.size}')
  return Tensor(storage, offset, tuple(shape), tuple(strides))


def _parameter(tensor, *_):
  return tensor


class _Size(tuple):
  """Stand-in for torch.Size, which is made as a class is."""


def _nothing(*_):
  return None


_FUNCTIONS = {
    'collections OrderedDict': collections.OrderedDict,
    '__builtin__ set': set, 'builtins set': set,
    'torch Size': _Size,
    'torch._utils _rebuild_tensor_v2': _tensor,
    'torch._utils _rebuild_parameter': _parameter,
    'torch.nn.backends.thnn _get_thnn_function_backend': _nothing,
    **{f'torch {name}': _StorageType(dtype)
       for name, dtype in _STORAGES.items()},
}


class _Unpickler(pickle.Unpickler):
  """Builds stand-ins only.

  Attributes:
    storages: those that were mentioned, by key.
  """

  def __init__(self, file):
    super().__init__(file, encoding='latin1')
    self.storages: dict[str, Storage] = {}

  def find_class(self, module, name):
    full = f'{module} {name}'
    if full in _FUNCTIONS:
      return _FUNCTIONS[full]
    if _MODULES.fullmatch(full):
      return Module
    raise pickle.UnpicklingError(
        f'it asks for {module}.{name}, which no LakhNES checkpoint needs')

  def persistent_load(self, saved):
    if type(saved) is tuple and len(saved) >= 2:
      if saved[0] == 'module':
        return saved[1]
      # A sixth entry would make it a view of another storage; none are.
      if saved[0] == 'storage' and len(saved) >= 5 and isinstance(
          saved[1], _StorageType) and type(saved[4]) is int and not any(
              saved[5:]):
        storage = Storage(str(saved[2]), saved[1].dtype, saved[4])
        return self.storages.setdefault(storage.key, storage)
    raise pickle.UnpicklingError(f'an object saved as {str(saved)[:60]}')


def load(path: str | os.PathLike) -> Any:
  """Reads what `torch.save` wrote.

  Returns:
    The object: containers, numbers, strings, `Module` for each module, numpy
    arrays for tensors and parameters.

  Raises:
    FileNotFoundError: no such file.
    ValueError: no such format, truncated, or it asks for something else; names
      the file and what.
  """
  path = pathlib.Path(path)
  raw = path.read_bytes()
  try:
    found, storages = (_from_zip if raw[:4] == b'PK\3\4' else _from_stream)(raw)
    return _fill(found, storages, {})
  except EOFError:
    raise ValueError(f'{path}: the file ends too soon; copy it again') from None
  except (pickle.UnpicklingError, zipfile.BadZipFile, struct.error, KeyError,
          AttributeError, ValueError, TypeError, IndexError, OverflowError,
          RecursionError, MemoryError, NotImplementedError,
          ImportError) as error:
    raise ValueError(
        f'{path}: cannot be imported: {str(error)[:200]}') from None


def _from_stream(raw: bytes):
  file = io.BytesIO(raw)
  if raw[:2] != b'\x80\x02' or _Unpickler(file).load() != _MAGIC:
    raise ValueError('not a file of torch.save')
  version = _Unpickler(file).load()
  if version != _PROTOCOL:
    raise ValueError(f'version {version} of the format, not {_PROTOCOL}')
  system = _Unpickler(file).load()
  if not system.get('little_endian', True):
    raise ValueError('it comes from a big-endian machine')
  unpickler = _Unpickler(file)
  found = unpickler.load()
  storages = {}
  for key in _Unpickler(file).load():
    storage = unpickler.storages[key]
    size, = struct.unpack('<q', _exactly(file, 8))
    if size != storage.size:
      raise ValueError(f'storage {key} has {size} elements, not {storage.size}')
    storages[key] = np.frombuffer(
        _exactly(file, size * storage.dtype.itemsize), storage.dtype)
  return found, storages


def _exactly(file, n: int) -> bytes:
  data = file.read(max(n, 0))
  if len(data) != n:
    raise EOFError
  return data


class _Archive(dict):
  """Storages of a zip archive by key, read when asked for."""

  def __init__(self, archive: zipfile.ZipFile, folder: str):
    super().__init__()
    self._archive, self._folder = archive, folder

  def __missing__(self, key):
    self[key] = self._archive.read(f'{self._folder}/data/{key}')
    return self[key]


def _from_zip(raw: bytes):
  archive = zipfile.ZipFile(io.BytesIO(raw))
  pickles = [n for n in archive.namelist() if n.endswith('/data.pkl')]
  if len(pickles) != 1:
    raise ValueError('a zip archive, but not one of torch.save')
  folder = pickles[0].removesuffix('/data.pkl')
  order = f'{folder}/byteorder'
  if order in archive.namelist() and archive.read(order) != b'little':
    raise ValueError('it comes from a big-endian machine')
  return (_Unpickler(io.BytesIO(archive.read(pickles[0]))).load(),
          _Archive(archive, folder))


def _array(tensor: Tensor, storages) -> np.ndarray:
  storage = tensor.storage
  data = storages[storage.key]
  if isinstance(data, bytes):
    data = np.frombuffer(data, storage.dtype)
  if len(data) != storage.size:
    raise ValueError(f'storage {storage.key} has {len(data)} elements, not '
                     f'{storage.size}')
  return np.lib.stride_tricks.as_strided(
      data[tensor.offset:], tensor.shape,
      [s * storage.dtype.itemsize for s in tensor.strides]).copy()


def _fill(found: Any, storages, seen: dict[int, Any]) -> Any:
  """Puts arrays in the place of tensors, in all that can hold them."""
  if isinstance(found, Tensor):
    return _array(found, storages)
  if id(found) in seen:
    return found
  if isinstance(found, (dict, Module)):
    seen[id(found)] = found
    holder = found if isinstance(found, dict) else vars(found)
    for key in list(holder):
      holder[key] = _fill(holder[key], storages, seen)
  elif isinstance(found, list):
    seen[id(found)] = found
    found[:] = [_fill(entry, storages, seen) for entry in found]
  elif type(found) is tuple:
    return tuple(_fill(entry, storages, seen) for entry in found)
  return found
