"""Where JSON of others comes in, and JSON made worse at random for it."""

import copy
import json
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

# What stands in place of any value. Numbers as JSON may write them.
WRONG = [
    None, True, False, 0, -1, 5, 2**31, 2**63, 10**30, 10**400, 1.5, -0.0,
    float('nan'), float('inf'), -float('inf'), 1e308, '', 'x', '\0', 'a\nb',
    '\ud800', '../../x', '/etc/passwd', '~', 'é' * 300, 'x' * 10**5, [], {},
    [1], ['x'], [[]], [{}], {'a': 1}, {'': None}, [None], {'x': {'y': [1, 2]}}]
_KEYS = ('', 'new', 'a\nb', '\ud800', '__class__')


class Edge(NamedTuple):
  """A JSON file that some function reads.

  Attributes:
    path: where it lies.
    good: its value; of a file of lines a list of those.
    read: reads it; its ValueErrors name `named`.
    named: what errors name; None for the path.
    lines: whether each line is JSON of its own.
  """
  path: pathlib.Path
  good: Any
  read: Callable[[], Any]
  named: pathlib.Path | None = None
  lines: bool = False

  def write(self, rng: np.random.Generator | None) -> None:
    """Writes the file, made worse if there is something to draw from."""
    if self.lines:
      data = b'\n'.join(_mutated(row, rng if rng and rng.integers(4) == 0 else
                                 None) for row in self.good) + b'\n'
    else:
      data = _mutated(self.good, rng)
    self.path.parent.mkdir(parents=True, exist_ok=True)
    self.path.write_bytes(data)


def _mutated(value: Any, rng: np.random.Generator | None) -> bytes:
  if rng is None:
    return json.dumps(value).encode()
  for _ in range(int(rng.choice((1, 1, 1, 2, 3)))):
    value = _change(copy.deepcopy(value), rng)
  limit = sys.get_int_max_str_digits()
  sys.set_int_max_str_digits(0)
  try:
    data = json.dumps(value).encode()
  finally:
    sys.set_int_max_str_digits(limit)
  kind = rng.integers(40)
  if kind == 0:
    return data[:int(rng.integers(len(data) + 1))]
  if kind == 1:
    return b'[' * 10**5
  if kind == 2:
    return data.decode().encode('utf-16')
  if kind < 6:
    data = bytearray(data)
    data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
  return bytes(data)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
  """Yields (container, key) of all that is within a value."""
  if isinstance(value, dict | list):
    for key in value if isinstance(value, dict) else range(len(value)):
      yield value, key
      yield from _places(value[key])


def _change(value: Any, rng: np.random.Generator) -> Any:
  """Changes one place of a value: other, gone, twice or called otherwise."""
  places = list(_places(value))
  wrong = copy.deepcopy(WRONG[int(rng.integers(len(WRONG)))])
  if not places or not rng.integers(50):
    return wrong
  container, key = places[int(rng.integers(len(places)))]
  kind = rng.integers(10)
  if kind < 2:
    del container[key]
  elif kind == 2 and isinstance(container, dict):
    container[_KEYS[int(rng.integers(len(_KEYS)))]] = container.pop(key)
  elif kind == 2:
    container.append(container[key])
  else:
    container[key] = wrong
  return value
