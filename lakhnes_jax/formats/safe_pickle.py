"""Pickle streams, read without running anything that they name.

Python's own reader is no basis for files from strangers: it hashes whatever a
file makes a key, remembers in as many places as the file says, and alters
objects that others share. This one knows the instructions that data need and
hands every name, call and state to the caller's `Maker`.

Source: the stack machine as documented in the standard library's pickletools.
"""

import pickletools
from typing import Any, Protocol


class Maker(Protocol):
  """What becomes of the names, calls and states in a stream.

  Each raises ValueError for what it refuses.
  """

  def named(self, module: str, name: str) -> Any:
    """Returns a stand-in for a function or class."""

  def called(self, named: Any, args: tuple) -> Any:
    """Returns a stand-in for what a call, or a new object, would be."""

  def persistent(self, saved: Any) -> Any:
    """Returns what an object saved outside the stream stands for."""

  def stated(self, made: Any, state: Any) -> None:
    """Gives an object its state."""


_VALUES = frozenset({
    'INT', 'BININT', 'BININT1', 'BININT2', 'LONG', 'LONG1', 'LONG4', 'FLOAT',
    'BINFLOAT', 'STRING', 'BINSTRING', 'SHORT_BINSTRING', 'UNICODE',
    'BINUNICODE', 'SHORT_BINUNICODE'
})
_CONSTANTS = {'NONE': None, 'NEWTRUE': True, 'NEWFALSE': False}
_EMPTY = {'EMPTY_TUPLE': tuple, 'EMPTY_LIST': list, 'EMPTY_DICT': dict}
_TUPLES = {'TUPLE1': 1, 'TUPLE2': 2, 'TUPLE3': 3}
# Their hashes take a time that goes with their size; that of tuples does not.
_KEYS = (str, int, float, bool, type(None))


class _Mark:
  """Where the entries of a container begin on the stack."""


def read(file, maker: Maker) -> Any:
  """Reads one pickle from a binary file, which is left behind its end.

  Returns:
    None, bools, numbers, strings, tuples, lists, dicts, and what `maker` makes.

  Raises:
    ValueError: damaged, refused by `maker`, or it has an instruction that data
      do not need; names the instruction.
  """
  stack: list[Any] = []
  memo: dict[int, Any] = {}

  def to_mark() -> list[Any]:
    for i in range(len(stack) - 1, -1, -1):
      if isinstance(stack[i], _Mark):
        entries = stack[i + 1:]
        del stack[i:]
        return entries
    raise ValueError('damaged: a mark is missing')

  try:
    for opcode, argument, _ in pickletools.genops(file):
      code = opcode.name
      if code in _VALUES:
        stack.append(argument)
      elif code in _CONSTANTS:
        stack.append(_CONSTANTS[code])
      elif code in _EMPTY:
        stack.append(_EMPTY[code]())
      elif code == 'MARK':
        stack.append(_Mark())
      elif code in _TUPLES:
        n = _TUPLES[code]
        stack[-n:] = [tuple(stack[i] for i in range(-n, 0))]
      elif code == 'TUPLE':
        stack.append(tuple(to_mark()))
      elif code == 'LIST':
        stack.append(to_mark())
      elif code == 'DICT':
        stack.append(_add({}, to_mark()))
      elif code == 'APPEND':
        entry = stack.pop()
        _check(stack[-1], list).append(entry)
      elif code == 'APPENDS':
        entries = to_mark()
        _check(stack[-1], list).extend(entries)
      elif code == 'SETITEM':
        entries = [stack.pop(-2), stack.pop()]
        _add(_check(stack[-1], dict), entries)
      elif code == 'SETITEMS':
        entries = to_mark()
        _add(_check(stack[-1], dict), entries)
      elif code in ('PUT', 'BINPUT', 'LONG_BINPUT'):
        memo[argument] = stack[-1]
      elif code == 'MEMOIZE':
        memo[len(memo)] = stack[-1]
      elif code in ('GET', 'BINGET', 'LONG_BINGET'):
        stack.append(memo[argument])
      elif code == 'GLOBAL':
        stack.append(maker.named(*argument.split(' ', 1)))
      elif code == 'STACK_GLOBAL':
        name, module = stack.pop(), stack.pop()
        stack.append(maker.named(_check(module, str), _check(name, str)))
      elif code in ('REDUCE', 'NEWOBJ'):
        args, named = stack.pop(), stack.pop()
        stack.append(maker.called(named, _check(args, tuple)))
      elif code == 'BINPERSID':
        stack.append(maker.persistent(stack.pop()))
      elif code == 'BUILD':
        state = stack.pop()
        maker.stated(stack[-1], state)
      elif code == 'STOP':
        return stack.pop()
      elif code not in ('PROTO', 'FRAME'):
        raise ValueError(f'it has the instruction {code}, which no data need')
  except (IndexError, KeyError):
    raise ValueError('damaged: it uses what is not there') from None
  raise AssertionError('genops ends with STOP or an error')


def _add(into: dict, entries: list[Any]) -> dict:
  """Adds keys and values that lie one after another."""
  if len(entries) % 2:
    raise ValueError('damaged: a key without a value')
  for key, value in zip(entries[::2], entries[1::2], strict=True):
    if not isinstance(key, _KEYS):
      raise ValueError(f'a {type(key).__name__} as a key, which no data need')
    into[key] = value
  return into


def _check(value: Any, kind: type) -> Any:
  if not isinstance(value, kind):
    raise ValueError(f'damaged: a {type(value).__name__} where a '
                     f'{kind.__name__} should be')
  return value
