"""An unpickler for untrusted files: no name in a stream is ever imported.

Python's own unpickler cannot be restricted enough: it hashes whatever a file
makes a dictionary key, allocates as large a memo as the file says, and alters
objects that others share. This one knows the instructions that data need, and
passes every class, call and state to the caller's `Builder`, which has an
allow-list of its own.

Source: the stack machine as documented in the standard library's pickletools.
"""

import codecs
import pickletools
import re
from collections.abc import Iterator
from typing import Any, Protocol


class Builder(Protocol):
  """Stand-ins for the classes, calls and states in a stream.

  Each method raises ValueError for what it refuses.
  """

  def find_class(self, module: str, name: str) -> Any:
    """Returns a stand-in for a function or class."""

  def reduce(self, function: Any, args: tuple) -> Any:
    """Returns a stand-in for the result of a call, or for a new object."""

  def persistent_load(self, saved: Any) -> Any:
    """Returns a stand-in for an object saved outside the stream."""

  def build(self, instance: Any, state: Any) -> None:
    """Sets the state of an object."""


_VALUES = frozenset({
    'INT', 'BININT', 'BININT1', 'BININT2', 'LONG', 'LONG1', 'LONG4', 'FLOAT',
    'BINFLOAT', 'STRING', 'BINSTRING', 'SHORT_BINSTRING', 'UNICODE',
    'BINUNICODE', 'SHORT_BINUNICODE', 'BINBYTES', 'SHORT_BINBYTES'
})
_CONSTANTS = {'NONE': None, 'NEWTRUE': True, 'NEWFALSE': False}
_EMPTY = {'EMPTY_TUPLE': tuple, 'EMPTY_LIST': list, 'EMPTY_DICT': dict}
_TUPLES = {'TUPLE1': 1, 'TUPLE2': 2, 'TUPLE3': 3}
# The time to hash one is linear in its size; of nested tuples it is not.
_KEYS = (str, int, float, bool, type(None))


_OPCODES = {opcode.code: opcode for opcode in pickletools.opcodes}
# What Python 2 writes; others have no meaning, and Python warns of them.
_ESCAPED = re.compile(
    rb'(?:[^\\]|\\(?:[\\\'"abfnrtv]|(?![4-7][0-7]{2})[0-7]{1,3}|'
    rb'x[0-9a-fA-F]{2}))*')


class _Mark:
  """Where the entries of a container begin on the stack."""


def _instructions(file) -> Iterator[tuple[str, Any]]:
  """Yields name and argument of each instruction, to STOP.

  As `pickletools.genops`, but text of Python 2 is latin-1, not ASCII.
  """
  name = ''
  while name != 'STOP':
    code = file.read(1).decode('latin-1')
    if code not in _OPCODES:
      raise ValueError(f'damaged: unknown instruction {code!r}' if code else
                       'damaged: exhausted before STOP')
    opcode = _OPCODES[code]
    name, argument = opcode.name, None
    if name == 'STRING':
      escaped = pickletools.read_stringnl(file, decode=False)
      if not _ESCAPED.fullmatch(escaped):
        raise ValueError('damaged: a string with an unknown escape')
      argument = codecs.escape_decode(escaped)[0].decode('latin-1')
    elif name in ('INST', 'PERSID'):  # Of protocol 0; their text has escapes.
      raise ValueError(f'it has the instruction {name}, which no data need')
    elif name == 'GLOBAL':
      argument = f'{_name(file)} {_name(file)}'
    elif opcode.arg is not None:
      argument = opcode.arg.reader(file)
    yield name, argument


def _name(file) -> str:
  """Reads the name of a module or class, as Python writes them."""
  line = file.readline().decode('ascii', 'replace')
  if not re.fullmatch(r'[\w.]+\n', line, re.ASCII):
    raise ValueError('damaged: a name that is none')
  return line[:-1]


def read(file, builder: Builder) -> Any:
  """Reads one pickle from a binary file and stops right behind it.

  Returns:
    None, bools, numbers, strings, bytes, tuples, lists, dicts, and what
    `builder` returned.

  Raises:
    ValueError: damaged, refused by `builder`, or it has an instruction that
      data do not need; names the instruction.
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
    for code, argument in _instructions(file):
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
        stack.append(builder.find_class(*argument.split(' ', 1)))
      elif code == 'STACK_GLOBAL':
        name, module = stack.pop(), stack.pop()
        stack.append(builder.find_class(_check(module, str), _check(name, str)))
      elif code in ('REDUCE', 'NEWOBJ'):
        args, function = stack.pop(), stack.pop()
        stack.append(builder.reduce(function, _check(args, tuple)))
      elif code == 'BINPERSID':
        stack.append(builder.persistent_load(stack.pop()))
      elif code == 'BUILD':
        state = stack.pop()
        builder.build(stack[-1], state)
      elif code == 'STOP':
        return stack.pop()
      elif code not in ('PROTO', 'FRAME'):
        raise ValueError(f'it has the instruction {code}, which no data need')
  except (IndexError, KeyError):
    raise ValueError('damaged: it uses what is not there') from None
  raise AssertionError('instructions end with STOP or an error')


def describe(error: Exception) -> str:
  """Returns an error as one line of at most 200 printable characters."""
  text = str(error) or type(error).__name__
  return ''.join(c if c.isprintable() else '?' for c in text[:200])


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
