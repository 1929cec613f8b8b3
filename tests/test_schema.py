"""Schemas against literal JSON."""

import numpy as np
import pytest

from lakhnes_jax import schema

SCHEMA = {'names': [str], 'n': schema.Range(0, 9), 'deep': {'x': float},
          'on?': bool, 'any?': dict, 'map?': {'*': float}, 'nul?': (str, None)}
GOOD = '{"names": ["a", ""], "n": 9, "deep": {"x": 1}, "more": null}'


def test_good():
  assert schema.parse(GOOD.encode(), SCHEMA) == {
      'names': ['a', ''], 'n': 9, 'deep': {'x': 1}, 'more': None}


@pytest.mark.parametrize('old, new, reason', [
    (GOOD, '7', 'the whole: an object expected, found 7'),
    (GOOD, '{', 'not JSON: '), (GOOD, '[' * 10**5, 'not JSON: nested too dee'),
    (GOOD, '1' * 5000, 'not JSON: Exceeds'),
    ('["a", ""]', '"ab"', "names: a list expected, found 'ab'"),
    ('""', 'null', r'names\[1\]: a string expected, found None'),
    ('9', '10', 'n: a whole number from 0 to 9 expected, found 10'),
    ('9', 'true', 'n: a whole number from 0 to 9 expected, found True'),
    ('9', '9.0', 'n: a whole number'),
    ('9', '9' * 300, 'n: .* found a number of ve'),
    ('"n": 9, ', '', "the whole: 'n' is missing"),
    ('"x": 1', '', "deep: 'x' is missing"),
    ('{"x": 1}', '[]', 'deep: an object expected, found list'),
    ('"x": 1', '"x": NaN', r'deep\.x: a finite number expected, found nan'),
    ('"x": 1', '"x": ' + '9' * 400, r'deep\.x: a finite number'),
    ('"x": 1', '"x": false', r'deep\.x: a finite number'),
    ('null', 'null, "on": 1', 'on: true or false expected, found 1'),
    ('null', 'null, "any": 1', 'any: an object expected, found 1'),
    ('null', 'null, "map": {"a": 1, "": 2}, "nul": null', None),
    ('null', 'null, "nul": "x", "map": {}', None),
    ('null', 'null, "nul": 1', 'nul: a string expected, found 1'),
    ('null', 'null, "map": {"b": 0, "a": "c"}', r"map\.a: a finite number"),
    ('null', 'null, "map": {"a\\n' + 'b' * 99 + '": ""}', r"map\.'a\\nb+': a"),
    ('1}', '1e308}', r'deep\.x: a finite number expected'),
    ('"a"', '"\\ud800"', None), ('"more"', '"mö"', None)])
def test_bad(old, new, reason):
  text = GOOD.replace(old, new, 1).encode('utf-8')
  if reason is None:
    schema.parse(text, SCHEMA)
    return
  with pytest.raises(ValueError, match=f'^{reason}') as error:
    schema.parse(text, SCHEMA)
  assert len(str(error.value)) < 200 and '\n' not in str(error.value)


@pytest.mark.parametrize('text, reason', [
    ('{"tmie": 1}', "tmie: no such key; is 'time' meant\\?"),
    ('{"deep": {"tmpo": 1}, "time": 1}',
     r"deep\.tmpo: no such key; is 'tempo' meant"),
    ('{"list": [{}, {"temp": 1}], "time": 1}', r"list\[1\]\.temp: no such key"),
    ('{"Time": 1}', "Time: no such key"),
    ('{"time\\n": 1}', r"'time\\n': no such key; is 'time' meant"),
    # Nothing is missing that could be meant, or it is another word.
    ('{"time": 1, "tmie": 1, "new": 2}', None),
    ('{"time": 1, "weight": 2}', None),
    ('{"nothing": 1}', "the whole: 'time' is missing")])
def test_keys_that_are_misspelt(text, reason):
  expected = {'time': int, 'deep?': {'tempo?': int}, 'list?': [{'tempo?': int}],
              'any?': object}
  if reason is None:
    schema.parse(text.encode(), expected)
    return
  with pytest.raises(ValueError, match=f'^{reason}'):
    schema.parse(text.encode(), expected)


def test_other_keys_can_be_refused():
  expected = {'a': {'b?': int}, 'c?': {'*': {'d?': int}}}
  schema.check({'a': {'b': 1}, 'c': {'x': {'d': 1}}}, expected, others=False)
  for value, place in (({'a': {}, 'new': 1}, 'new'),
                       ({'a': {'zz': 1}}, r'a\.zz'),
                       ({'a': {}, 'c': {'x': {'zz': 1}}}, r'c\.x\.zz')):
    with pytest.raises(ValueError, match=f'^{place}: no such key; there '):
      schema.check(value, expected, others=False)
    schema.check(value, expected)


def test_very_many_keys_take_no_time():
  value = {'time': 1, **{f'temp{i:05}': 1 for i in range(10**5)}}
  schema.check(value, {'time': int, 'deep?': int})


def test_ranges():
  for value in (0, 1, .5, 2, np.float32(1.5), np.int64(2)):
    schema.check(value, schema.Range(0, 2, float))
  for value in (-.1, 2.1, float('nan'), '1', None, True, 10**400):
    with pytest.raises(ValueError, match='a number from 0 to 2 expected'):
      schema.check(value, schema.Range(0, 2, float))


def test_no_utf8():
  with pytest.raises(ValueError, match='not JSON: '):
    schema.parse(b'{"a": "\xff"}', {})
