"""What every command of the package does with its arguments and its output."""

import argparse
import contextlib
import os
import pathlib
import sys
from collections.abc import Callable

MAX_WORKERS = 1024
_MAX_INT = 2**31 - 1


def path(text: str) -> pathlib.Path:
  """Returns the path that a flag names; a leading `~` is the home folder.

  A shell expands `~` in `--out ~/x`, but not in `--out=~/x`.
  """
  return pathlib.Path(expand(text))


def expand(text: str) -> str:
  """Replaces a leading `~` or `~user` by the home folder, if there is one."""
  return os.path.expanduser(text)


def whole(low: int = 0, high: int = _MAX_INT) -> Callable[[str], int]:
  """Returns the `type` of an argument: a whole number in a range."""
  return _number(int, low, high, 'a whole number')


def real(low: float, high: float) -> Callable[[str], float]:
  """Returns the `type` of an argument: a number in a range, never NaN."""
  return _number(float, low, high, 'a number')


def _number(kind: type, low, high, what: str) -> Callable:
  def parse(text: str):
    try:
      value = kind(text)
    except ValueError:
      value = float('nan')
    if not low <= value <= high:
      raise argparse.ArgumentTypeError(
          f'{what} from {low} to {high} expected, found {text[:40]!r}')
    return value
  return parse


def escape_output() -> None:
  """Lets stdout and stderr escape what their encoding cannot represent.

  A file's name may have any character, and some have bytes that are no UTF-8;
  a terminal or a pipe may be cp1252 or ASCII. Without this a command would end
  in a UnicodeEncodeError while it reports.
  """
  for stream in (sys.stdout, sys.stderr):
    with contextlib.suppress(AttributeError):  # Replaced by another object.
      stream.reconfigure(errors='backslashreplace')
