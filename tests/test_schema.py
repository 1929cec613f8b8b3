"""Schemas against literal JSON."""

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


def test_no_utf8():
  with pytest.raises(ValueError, match='not JSON: '):
    schema.parse(b'{"a": "\xff"}', {})
