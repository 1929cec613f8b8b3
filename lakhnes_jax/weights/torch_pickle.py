"""Files of `torch.save`, read without PyTorch and without running their code.

A pickle stream can name any function and have it called. This reader knows a
list of names, gives each an inert stand-in, and refuses all others; sizes
in a file are trusted only up to its length. Both formats are read: the
old stream (magic number, 1001, system info, the object, storage keys, then the
data of each storage) and the zip archive of PyTorch 1.6 and later.
"""

import io
import math
import os
import pathlib
import re
import struct
import zipfile
from typing import Any, NamedTuple

import numpy as np

from lakhnes_jax import input_files
from lakhnes_jax.formats import safe_pickle

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
_MAX_AXES = 32
_MAX_BYTES = 2**34
_MAX_SIZE = 2**48  # Of an axis or a stride; products stay small numbers.


class Module:
  """Stand-in for a module: what the file gives it, as attributes."""

  def __init__(self):
    self.state: dict[str, Any] = {}

  def __getattr__(self, name):
    try:
      return self.__dict__['state'][name]
    except KeyError:
      raise AttributeError(f'no {name}') from None


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


def _tensor(storage, offset, shape, strides, *_):
  if not (isinstance(storage, Storage) and type(shape) is type(strides) is tuple
          and len(shape) == len(strides) <= _MAX_AXES and
          all(type(n) is int and 0 <= n < _MAX_SIZE
              for n in (offset, *shape, *strides))):
    raise ValueError('a tensor that makes no sense')
  last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
  # Without this a few bytes could ask for any amount of memory.
  if math.prod(shape) > storage.size or (math.prod(shape) and
                                         last >= storage.size):
    raise ValueError(f'a tensor {list(shape)} beyond the end of its storage of '
                     f'{storage.size}')
  return Tensor(storage, offset, shape, strides)


# What calls of these return, by what they are called with.
_FUNCTIONS = {
    'collections OrderedDict': lambda: {},
    '__builtin__ set': lambda entries=(): entries,
    'builtins set': lambda entries=(): entries,
    'torch Size': lambda sizes=(): sizes,
    'torch._utils _rebuild_tensor_v2': _tensor,
    'torch._utils _rebuild_parameter': lambda tensor, *_: tensor,
    'torch.nn.backends.thnn _get_thnn_function_backend': lambda *_: None,
}


class _Name(NamedTuple):
  """Stand-in for a function or class."""
  full: str


class _Builder:
  """Returns stand-ins only, for `safe_pickle.read`.

  Attributes:
    storages: those that were mentioned, by key.
  """

  def __init__(self):
    self.storages: dict[str, Storage] = {}

  def find_class(self, module: str, name: str) -> _Name:
    full = f'{module} {name}'
    if (full in _FUNCTIONS or _MODULES.fullmatch(full) or
        (module == 'torch' and name in _STORAGES)):
      return _Name(full)
    raise ValueError(f'it asks for {module[:60]}.{name[:60]}, which no LakhNES '
                     'checkpoint needs')

  def reduce(self, function: Any, args: tuple) -> Any:
    if isinstance(function, _Name):
      if function.full in _FUNCTIONS:
        return _FUNCTIONS[function.full](*args)
      if _MODULES.fullmatch(function.full):
        return Module()
    raise ValueError('it calls what is no function')

  def build(self, instance: Any, state: Any) -> None:
    if isinstance(instance, Module) and isinstance(state, dict):
      instance.state = state
    elif not isinstance(instance, dict):  # torch saves versions with dicts.
      raise ValueError(f'it gives a {type(instance).__name__} a state')

  def persistent_load(self, saved: Any) -> Any:
    if type(saved) is tuple and len(saved) >= 2:
      if saved[0] == 'module':
        return saved[1]
      _, kind, key, _, size, *view = *saved, None, None, None
      # A sixth entry would make it a view of another storage; none are.
      if saved[0] == 'storage' and isinstance(kind, _Name) and isinstance(
          key, str | int) and type(size) is int and not any(view):
        dtype = _STORAGES.get(kind.full.removeprefix('torch '))
        if dtype is None:
          raise ValueError(f'a storage of type {kind.full}')
        storage = Storage(str(key), dtype, size)
        return self.storages.setdefault(storage.key, storage)
    raise ValueError('an object saved in a way that is unknown')


def load(path: str | os.PathLike) -> Any:
  """Reads what `torch.save` wrote.

  Returns:
    The object: containers, numbers, strings, `Module` for each module, numpy
    arrays for tensors and parameters, one where the file says one.

  Raises:
    FileNotFoundError: no such file.
    ValueError: no such format, truncated, or it asks for something else; names
      the file and what.
  """
  path = pathlib.Path(path)
  raw = input_files.read(path, _MAX_BYTES)
  try:
    found, storages = (_from_zip if raw[:4] == b'PK\3\4' else _from_stream)(raw)
    return _Filler(storages, len(raw)).fill(found)
  except EOFError:
    raise ValueError(f'{path}: the file ends too soon; copy it again') from None
  except (zipfile.BadZipFile, struct.error, KeyError, AttributeError,
          ValueError, TypeError, IndexError, OverflowError, RecursionError,
          MemoryError, NotImplementedError, RuntimeError) as error:
    raise ValueError(
        f'{path}: cannot be imported: {safe_pickle.describe(error)}') from None


def _from_stream(raw: bytes):
  file = io.BytesIO(raw)
  if raw[:2] != b'\x80\x02' or safe_pickle.read(file, _Builder()) != _MAGIC:
    raise ValueError('not a file of torch.save')
  version = safe_pickle.read(file, _Builder())
  if version != _PROTOCOL:
    raise ValueError(f'a version of the format that is not {_PROTOCOL}')
  system = safe_pickle.read(file, _Builder())
  if not system.get('little_endian', True):
    raise ValueError('it comes from a big-endian machine')
  builder = _Builder()
  found = safe_pickle.read(file, builder)
  storages = {}
  for key in safe_pickle.read(file, _Builder()):
    if not isinstance(key, str) or key not in builder.storages:
      raise ValueError('a storage that nothing needs')
    storage = builder.storages[key]
    size, = struct.unpack('<q', _exactly(file, 8))
    if size != storage.size:
      raise ValueError(f'storage {key} has {size} elements, not {storage.size}')
    storages[key] = np.frombuffer(
        _exactly(file, size * storage.dtype.itemsize), storage.dtype)
  if file.read(1):  # Bytes too many shift all numbers behind them.
    raise ValueError('it goes on behind its last storage; copy it again')
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
  # torch compresses nothing; what is larger outside than inside is a trap.
  if sum(entry.file_size for entry in archive.infolist()) > len(raw):
    raise ValueError('a zip archive of files that are larger than itself')
  pickles = [n for n in archive.namelist() if n.endswith('/data.pkl')]
  if len(pickles) != 1:
    raise ValueError('a zip archive, but not one of torch.save')
  folder = pickles[0].removesuffix('/data.pkl')
  order = f'{folder}/byteorder'
  if order in archive.namelist() and archive.read(order) != b'little':
    raise ValueError('it comes from a big-endian machine')
  return (safe_pickle.read(io.BytesIO(archive.read(pickles[0])), _Builder()),
          _Archive(archive, folder))


class _Filler:
  """Puts arrays in the place of tensors, in all that can hold them."""

  def __init__(self, storages, n_bytes: int):
    self._storages = storages
    self._left = 2 * n_bytes  # Tied weights may be there twice.
    # Old and new by the id of the old, kept so that no id comes up again.
    self._done: dict[int, tuple[Any, Any]] = {}

  def fill(self, found: Any) -> Any:
    if id(found) in self._done:
      return self._done[id(found)][1]
    filled = found
    if isinstance(found, Tensor):
      filled = self._array(found)
    elif isinstance(found, dict):
      self._done[id(found)] = found, found
      for key in found:
        found[key] = self.fill(found[key])
    elif isinstance(found, list):
      self._done[id(found)] = found, found
      found[:] = [self.fill(entry) for entry in found]
    elif isinstance(found, Module):
      self._done[id(found)] = found, found
      self.fill(found.state)
    elif type(found) is tuple:
      filled = tuple(self.fill(entry) for entry in found)
    else:
      return found
    self._done[id(found)] = found, filled
    return filled

  def _array(self, tensor: Tensor) -> np.ndarray:
    storage = tensor.storage
    data = self._storages[storage.key]
    if isinstance(data, bytes):
      data = np.frombuffer(data, storage.dtype)
    if len(data) != storage.size:
      raise ValueError(f'storage {storage.key} has {len(data)} elements, not '
                       f'{storage.size}')
    self._left -= math.prod(tensor.shape) * storage.dtype.itemsize
    if self._left < 0:
      raise ValueError('its tensors are larger than the file')
    return np.lib.stride_tricks.as_strided(
        data[tensor.offset:], tensor.shape,
        [s * storage.dtype.itemsize for s in tensor.strides]).copy()
