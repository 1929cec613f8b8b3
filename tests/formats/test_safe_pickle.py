"""The stack machine of pickle streams, against pickle itself and by hand."""

import io
import pickle

import pytest

from lakhnes_jax.formats import safe_pickle
from support.pickles import nested


class _Nothing:
  """A builder that refuses everything."""

  def find_class(self, module, name):
    raise ValueError(f'no {module}.{name}')

  def reduce(self, function, args):
    raise ValueError('no calls')

  def persistent_load(self, saved):
    raise ValueError('no objects from elsewhere')

  def build(self, instance, state):
    raise ValueError('no state')


def _read(data: bytes):
  return safe_pickle.read(io.BytesIO(data), _Nothing())


SHARED = ['x', (1, 2)]
VALUES = [
    None, True, False, 0, 255, 65535, -7, 2**31, -2**63, 2**300, 1.5, 'text',
    'é' * 300, (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [], [1],
    [1, 'a', []],
    {}, {'a': 1}, {'a': {1: [2]}, None: (3,)}, [SHARED, SHARED, (SHARED,)]]


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize('value', VALUES, ids=range(len(VALUES)))
def test_equals_pickle(value, protocol):
  assert _read(pickle.dumps(value, protocol)) == value


def test_what_is_shared_stays_shared():
  first, second, (third,) = _read(pickle.dumps([SHARED, SHARED, (SHARED,)], 2))
  assert first is second is third


def test_pickles_one_after_another():
  file = io.BytesIO(pickle.dumps([1], 2) + pickle.dumps('b', 2) + b'rest')
  assert safe_pickle.read(file, _Nothing()) == [1]
  assert safe_pickle.read(file, _Nothing()) == 'b'
  assert file.read() == b'rest'


def test_shared_nesting_takes_the_time_of_its_bytes():
  found = _read(nested(2000) + b'.')
  assert found[0] is found[1] and found[0][0] is found[1][0]


@pytest.mark.parametrize('stream, message', [
    # A dict whose key has 2**60 leaves: Python would hash them all.
    (b'\x80\x02}' + nested(60)[2:] + b'K\x01s.', 'a tuple as a key'),
    (b'\x80\x02(' + nested(60)[2:] + b'K\x01d.', 'a tuple as a key'),
    (b'\x80\x04\x8f(' + nested(60)[2:] + b'\x90.', 'EMPTY_SET'),
    (b'\x80\x02}(K\x01u.', 'without a value'),
    (b'\x80\x02K\x01K\x02a.', 'a int where a list'),
    (b'\x80\x02K\x01K\x02K\x03s.', 'a int where a dict'),
    (b'\x80\x02h\x07.', 'uses what is not there'),
    (b'\x80\x02\x86.', 'uses what is not there'),
    (b'\x80\x02t.', 'a mark is missing'),
    (b'\x80\x02.', 'uses what is not there'),
    (b'\x80\x02K\x01', 'exhausted before STOP'),
    (b'\x80\x02X\xff\xff\xff\x7fab.', 'bytes in a unicodestring4'),
    (b'\x80\x04\x8d' + b'\xff' * 7 + b'\x0fab.', 'instruction|bytes in'),
    (b'\xfe', 'unknown'),
    (b'cos\nsystem\n.', 'no os.system'),
    (b'\x80\x04\x8c\x02os\x8c\x06system\x93.', 'no os.system'),
    (b'\x80\x02K\x01Q.', 'no objects from elsewhere'),
    (b'\x80\x02K\x01)R.', 'no calls'),
    (b'\x80\x02K\x01)\x81.', 'no calls'),
    (b'\x80\x02]}b.', 'no state'),
    (b'\x80\x02(ios\nsystem\n.', 'instruction INST'),
    (b'\x80\x02\x82\x01.', 'instruction EXT1'),
])
def test_hostile_streams(stream, message):
  with pytest.raises(ValueError, match=message):
    _read(stream)


def test_a_distant_place_in_memory_costs_nothing():
  """Python's own reader makes a table of that length: 32 GiB."""
  assert _read(b'\x80\x02K\x05r\xff\xff\xff\x7fj\xff\xff\xff\x7f.') == 5


@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize('stream, reason', [
    (b"S'\\Ra'\n.", 'unknown escape'), (b"S'\\477'\n.", 'unknown escape'),
    (b'c\\R\nx\n.', 'a name that is none'), (b'ca\n\n.', 'a name that is none'),
    (b'cos\nsys', 'a name that is none'), (b'P\\R\n.', 'instruction PERSID'),
    (b'(ia\\R\nb\n.', 'instruction INST')])
def test_text_that_python_never_writes(stream, reason):
  """Python's own tools would warn of some, on the screen."""
  with pytest.raises(ValueError, match=reason):
    safe_pickle.read(io.BytesIO(stream), None)


@pytest.mark.parametrize('text', [
    'a\\b', "'", '"\'', '\n\t\r\0\x7f\xff', 'é\\8'])
def test_strings_of_python_2(text):
  stream = b'S' + repr(text.encode('latin-1'))[1:].encode() + b'\n.'
  assert safe_pickle.read(io.BytesIO(stream), None) == text
