"""JSON files of a declared shape, checked once, where they are read.

A schema is

*   a type, `str`, `bool`, `int`, `float` (a finite number), `dict` (any) or
    `object` (any value);
*   `Range(low, high)`, whole numbers from `low` to `high`, and
    `Range(low, high, float)`, any numbers;
*   `[schema]`, a list of any length, each item of that schema;
*   `{'key': schema, 'other?': schema}`, an object with these keys, those with
    a question mark optional; further keys are let through, as newer versions
    may write some, but for one that is nearly a key which is missing: it is
    misspelt;
*   `{'*': schema}`, an object of any keys, each item of that schema;
*   `(schema, None)`, one of these or null.

    >>> parse(b'{"names": 7}', {'names': [str]})
    ValueError: names: a list expected, found 7
    >>> parse(b'{"nmaes": []}', {'names?': [str]})
    ValueError: nmaes: no such key; is 'names' meant?
"""

import difflib
import itertools
import json
import numbers
from typing import Any, NamedTuple

_WORDS = {str: 'a string', bool: 'true or false', int: 'a whole number',
          float: 'a finite number', dict: 'an object', object: 'a value'}
_ANY = '*'
_TOO_LARGE = 2**1000  # Hardly anything can be done with such numbers.
_MOST_FURTHER = 100
_SHOWN = 40  # Characters of a name, or of what was found.
_NEAR = .75  # Share of two names that a misspelt one has of the right one.


class Range(NamedTuple):
  """Numbers from `low` to `high`, both included: whole ones, or any."""
  low: float
  high: float
  kind: type = int

  def __str__(self) -> str:
    return (f'{"a whole" if self.kind is int else "a"} number from {self.low} '
            f'to {self.high}')


def parse(data: bytes, expected: Any, others: bool = True) -> Any:
  """Parses JSON and checks it.

  Args:
    data: UTF-8.
    expected: a schema.
    others: whether objects may have keys that the schema has not.

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
  check(value, expected, others=others)
  return value


def check(value: Any, expected: Any, place: str = '', *,
          others: bool = True) -> None:
  """Checks a JSON value that is called `place`; else as `parse`."""
  if isinstance(expected, dict):
    _expect(isinstance(value, dict), 'an object', value, place)
    if _ANY in expected:
      for name, item in value.items():
        check(item, expected[_ANY], _below(place, name), others=others)
      return
    known = {key.removesuffix('?'): schema for key, schema in expected.items()}
    _check_further(value, known, place, others)
    for name, schema in known.items():
      if name in value:
        check(value[name], schema, _below(place, name), others=others)
      elif name in expected:
        raise ValueError(f'{place or "the whole"}: {name!r} is missing')
  elif isinstance(expected, list):
    _expect(isinstance(value, list), 'a list', value, place)
    for i, item in enumerate(value):
      check(item, expected[0], f'{place}[{i}]', others=others)
  elif isinstance(expected, Range):
    # Python's callers have numbers of numpy, too.
    found = isinstance(value, numbers.Integral if expected.kind is int else
                       numbers.Real) and not isinstance(value, bool)
    _expect(found and expected.low <= value <= expected.high, str(expected),
            value, place)
  elif isinstance(expected, tuple):
    if value is not None:
      check(value, expected[0], place, others=others)
  else:
    found = isinstance(value, (int, float) if expected is float else expected)
    if expected in (int, float):
      found = found and not isinstance(value, bool)
    if expected is float:
      found = found and abs(value) < _TOO_LARGE  # False of NaN.
    _expect(found, _WORDS[expected], value, place)


def _check_further(value: dict[str, Any], known: dict[str, Any], place: str,
                   others: bool) -> None:
  """Refuses keys that are misspelt, or all that a schema does not have."""
  missing = known.keys() - value.keys()
  further = (name for name in value if name not in known)
  # So many are none that somebody wrote; each takes time.
  for name in itertools.islice(further, _MOST_FURTHER):
    near = difflib.get_close_matches(name[:_SHOWN], sorted(missing), 1, _NEAR)
    if near or not others:
      raise ValueError(f'{_below(place, name)}: no such key; ' + (
          f'is {near[0]!r} meant?' if near else
          f'there are {", ".join(sorted(known))}'))


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
