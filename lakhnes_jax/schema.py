"""JSON files of a declared shape, checked once, where they are read.

A schema is

*   a type, `str`, `bool`, `int`, `float` (a finite number) or `dict` (any);
*   `Range(low, high)`, whole numbers from `low` to `high`;
*   `[schema]`, a list of any length, each item of that schema;
*   `{'key': schema, 'other?': schema}`, an object with these keys, those with
    a question mark optional; other keys are let through;
*   `{'*': schema}`, an object of any keys, each item of that schema;
*   `(schema, None)`, one of these or null.

    >>> parse(b'{"names": 7}', {'names': [str]})
    ValueError: names: a list expected, found 7
"""

import json
from typing import Any, NamedTuple

_WORDS = {str: 'a string', bool: 'true or false', int: 'a whole number',
          float: 'a finite number', dict: 'an object'}
_ANY = '*'
_TOO_LARGE = 2**1000  # Hardly anything can be done with such numbers.
_SHOWN = 40  # Characters of a name, or of what was found.


class Range(NamedTuple):
  """Whole numbers from `low` to `high`."""
  low: int
  high: int


def parse(data: bytes, expected: Any) -> Any:
  """Parses JSON and checks it.

  Raises:
    ValueError: it is no JSON, or not of that shape; one line says where and
      why. It does not name the file.
  """
  try:
    value = json.loads(data)
  except RecursionError:
    raise ValueError('not JSON: nested too deeply') from None
  except ValueError as error:
    raise ValueError(f'not JSON: {error}') from None
  check(value, expected)
  return value


def check(value: Any, expected: Any, place: str = '') -> None:
  """Checks a JSON value; errors as of `parse`."""
  if isinstance(expected, dict):
    _expect(isinstance(value, dict), 'an object', value, place)
    if _ANY in expected:
      for name, item in value.items():
        check(item, expected[_ANY], _below(place, name))
      return
    for key, schema in expected.items():
      name = key.removesuffix('?')
      if name in value:
        check(value[name], schema, _below(place, name))
      elif name == key:
        raise ValueError(f'{place or "the whole"}: {name!r} is missing')
  elif isinstance(expected, list):
    _expect(isinstance(value, list), 'a list', value, place)
    for i, item in enumerate(value):
      check(item, expected[0], f'{place}[{i}]')
  elif isinstance(expected, Range):
    is_int = isinstance(value, int) and not isinstance(value, bool)
    _expect(is_int and expected.low <= value <= expected.high,
            f'a whole number from {expected.low} to {expected.high}', value,
            place)
  elif isinstance(expected, tuple):
    if value is not None:
      check(value, expected[0], place)
  else:
    found = isinstance(value, (int, float) if expected is float else expected)
    if expected in (int, float):
      found = found and not isinstance(value, bool)
    if expected is float:
      found = found and abs(value) < _TOO_LARGE  # False of NaN.
    _expect(found, _WORDS[expected], value, place)


def _below(place: str, name: str) -> str:
  shown = name if name.isprintable() and len(name) < _SHOWN else (
      repr(name[:_SHOWN]))
  return f'{place}.{shown}' if place else shown


def _expect(holds: bool, what: str, value: Any, place: str) -> None:
  if not holds:
    # Not the whole of it, which may be huge.
    found = (type(value).__name__ if isinstance(value, list | dict) else
             repr(value)[:_SHOWN] if not isinstance(value, int) or
             abs(value) < 2**64 else 'a number of very many digits')
    raise ValueError(f'{place or "the whole"}: {what} expected, found {found}')
