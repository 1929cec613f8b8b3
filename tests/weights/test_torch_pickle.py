"""Files of strangers that want more than a checkpoint: time, memory, code."""

import pickle
import re
import zipfile

import numpy as np
import pytest

from lakhnes_jax import import_torch
from lakhnes_jax.weights import torch_pickle
from support.pickles import nested

HEAD = b''.join(pickle.dumps(x, 2) for x in (
    0x1950a86a20f9469cfc6c, 1001, {'little_endian': True}))


def _global(module: str, name: str) -> bytes:
  return f'c{module}\n{name}\n'.encode()


def _text(text: str) -> bytes:
  return b'X' + len(text).to_bytes(4, 'little') + text.encode()


def _storage(key: str, size: int) -> bytes:
  return (b'(' + _text('storage') + _global('torch', 'FloatStorage') +
          _text(key) + _text('cpu') + b'J' + size.to_bytes(4, 'little') +
          b'NtQ')


def _tensor(storage: bytes, shape: int, stride: int = 1) -> bytes:
  return (_global('torch._utils', '_rebuild_tensor_v2') + b'(' + storage +
          b'K\x00J' + shape.to_bytes(4, 'little') + b'\x85J' +
          stride.to_bytes(4, 'little') + b'\x85\x89NtR')


def _stream(tmp_path, body: bytes, keys=(), data: bytes = b''):
  path = tmp_path / 'model.pt'
  path.write_bytes(HEAD + b'\x80\x02' + body + b'.' +
                   pickle.dumps(list(keys), 2) + data)
  return path


def _zip(tmp_path, body: bytes, files=(), **kwargs):
  path = tmp_path / 'model.pt'
  with zipfile.ZipFile(path, 'w', **kwargs) as archive:
    archive.writestr('archive/data.pkl', b'\x80\x02' + body + b'.')
    for name, data in files:
      archive.writestr(name, data)
  return path


def _refused(path, message, read=torch_pickle.load):
  with pytest.raises(ValueError, match=re.escape(str(path)) + '.*' + message):
    read(path)


def test_by_hand(tmp_path):
  numbers = np.arange(6, dtype='<f4')
  expected = numbers[::2]
  body = b']' + _tensor(_storage('0', 6), 3, 2) + b'q\x01ah\x01\x85a'
  for path in (
      _stream(tmp_path, body, ['0'],
              (6).to_bytes(8, 'little') + numbers.tobytes()),
      _zip(tmp_path, body, [('archive/data/0', numbers.tobytes())])):
    found, (again,) = torch_pickle.load(path)
    np.testing.assert_array_equal(found, expected)
    assert again is found


def test_shared_nesting_is_filled_once(tmp_path):
  found = torch_pickle.load(_stream(tmp_path, nested(60)[2:]))
  for _ in range(60):
    assert found[0] is found[1]
    found = found[0]


def test_deep_nesting(tmp_path):
  _refused(_stream(tmp_path, b']' * 10**5 + b'a' * (10**5 - 1)), 'recursion')


@pytest.mark.parametrize('body, message', [
    (nested(60)[2:] + b'Q', 'saved in a way'),
    (b'(' + _text('storage') + _global('torch', 'FloatStorage') +
     nested(60)[2:] + _text('cpu') + b'K\x04tQ', 'saved in a way'),
    (_storage('0', 4).replace(b'FloatStorage', b'Size'), 'of type torch Size'),
    (_global('torch.nn.modules.linear', 'Linear') + b'}b', '_Name a state'),
    (_global('collections', 'OrderedDict') + b'}' + _text('clear') +
     b'K\x01sb', '_Name a state'),
    (_global('torch', 'FloatStorage') + b')R', 'no function'),
    (b'K\x01)R', 'no function'),
    (_global('torch.nn.modules.linear', 'Linear.__init__'), 'asks for'),
    (_global('collections', 'OrderedDict') + nested(60)[2:] + b'\x85R',
     'positional argument'),
    (_tensor(_storage('0', 4), 5), 'beyond the end'),
    (_tensor(_storage('0', 4), 3, 2), 'beyond the end'),
    (_tensor(_storage('0', 2**31 - 1), 2**31 - 1, 0), 'storage|ends too soon'),
])
@pytest.mark.parametrize('form', [_stream, _zip])
def test_hostile_objects(tmp_path, form, body, message):
  _refused(form(tmp_path, body), message + '|0')


def test_modules_do_not_share_their_state(tmp_path):
  """What one file gives a module is gone with it."""
  linear = _global('torch.nn.modules.linear', 'Linear') + b')\x81'
  first = torch_pickle.load(_stream(
      tmp_path, linear + b'}' + _text('load') + b'K\x01sb'))
  assert first.load == 1
  second = torch_pickle.load(_stream(tmp_path, linear))
  assert not hasattr(second, 'load')
  odd = torch_pickle.load(_stream(
      tmp_path, linear + b'}' + _text('__class__') + b'K\x01sb'))
  assert type(odd) is torch_pickle.Module


def test_many_tensors_of_one_storage(tmp_path):
  """A few bytes each, they could ask for any amount of memory."""
  body = (b']' + _tensor(_storage('0', 1000), 1000) +
          b'a' + (_tensor(_storage('0', 1000), 1000) + b'a') * 100)
  data = np.zeros(1000, '<f4').tobytes()
  _refused(_zip(tmp_path, body, [('archive/data/0', data)]),
           'larger than the file')


@pytest.mark.parametrize('size', [-1, 3, 5, 2**62])
def test_storages_of_another_size(tmp_path, size):
  body = _tensor(_storage('0', 4), 4)
  data = size.to_bytes(8, 'little', signed=True) + bytes(16)
  _refused(_stream(tmp_path, body, ['0'], data), 'storage 0 has')


def test_truncated_storages(tmp_path):
  body = _tensor(_storage('0', 4), 4)
  _refused(_stream(tmp_path, body, ['0'], (4).to_bytes(8, 'little') + bytes(9)),
           'ends too soon')
  _refused(_zip(tmp_path, body, [('archive/data/0', bytes(12))]),
           'storage 0 has 3 elements')
  _refused(_zip(tmp_path, body), 'archive/data/0')


def test_storage_keys_that_are_none(tmp_path):
  path = tmp_path / 'model.pt'
  path.write_bytes(HEAD + b'\x80\x02N.\x80\x02]' + nested(60)[2:] + b'a.')
  _refused(path, 'a storage that nothing needs')


def test_zip_paths_lead_nowhere(tmp_path):
  (tmp_path / 'secret').write_bytes(bytes(16))
  body = _tensor(_storage('../../secret', 4), 4)
  _refused(_zip(tmp_path, body), 'secret')
  _refused(_zip(tmp_path, body, [('secret', bytes(16))]), 'secret')
  body = _tensor(_storage(str(tmp_path / 'secret'), 4), 4)
  _refused(_zip(tmp_path, body), 'secret')


def test_zip_bomb(tmp_path):
  _refused(_zip(tmp_path, _tensor(_storage('0', 2**20), 2**20),
                [('archive/data/0', bytes(2**22))],
                compression=zipfile.ZIP_DEFLATED), 'larger than itself')


def test_zip_that_lies_of_its_sizes(tmp_path):
  path = _zip(tmp_path, b'N', [('archive/data/0', bytes(64))])
  raw = bytearray(path.read_bytes())
  entry = raw.rindex(b'PK\1\2')
  raw[entry + 20:entry + 28] = b'\xff\xff\xff\x7f' * 2  # Both sizes.
  path.write_bytes(raw)
  _refused(path, 'larger than itself')


def test_two_objects_in_a_zip(tmp_path):
  _refused(_zip(tmp_path, b'N', [('b/data.pkl', b'\x80\x02N.')]),
           'not one of torch.save')


def test_models_of_shared_modules_are_walked_once(tmp_path):
  """2**60 paths lead through these modules."""
  made = _global('torch.nn.modules.linear', 'Linear') + b')\x81'
  body = made + b'}(' + _text('_parameters') + b'}' + _text('_modules') + b'}ub'
  for i in range(60):
    place = b'r' + i.to_bytes(4, 'little')
    body += (place + made + b'}(' + _text('_parameters') + b'}' +
             _text('_modules') + b'}(' + _text('a') + b'j' + place[1:] +
             _text('b') + b'j' + place[1:] + b'uub')
  path = _stream(tmp_path, body)
  assert import_torch._arrays(torch_pickle.load(path)) == {}
  _refused(path, 'another model', import_torch.read_model)


@pytest.mark.parametrize('param', [nested(60)[2:], b'K\x01'])
def test_hostile_optimizer(oracles, tmp_path, param):
  imported = import_torch.read_model(oracles / 'model/ckpt/model.pt')
  body = (b'}(' + _text('state') + b'}' + b'K\x01}(' + _text('exp_avg') +
          nested(60)[2:] + _text('exp_avg_sq') + b'NK\x00' + b'Nus' +
          _text('param_groups') + b']}' + _text('params') + b']' + param +
          b'asau')
  _refused(_stream(tmp_path, body), 'no Adam state',
           lambda path: import_torch.read_optimizer(path, imported))


def test_pickle_is_not_called():
  """Nor could it be by accident: the module is not even imported."""
  for module in (torch_pickle, import_torch):
    assert 'pickle' not in vars(module)


def test_bytes_behind_the_last_storage(tmp_path):
  """One byte too many in it would shift all numbers that follow."""
  body = _tensor(_storage('0', 4), 4)
  data = (4).to_bytes(8, 'little') + bytes(17)
  _refused(_stream(tmp_path, body, ['0'], data),
           'goes on behind its last storage')
