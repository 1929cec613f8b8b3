"""What every command of the package does with its arguments and its output."""

import contextlib
import os
import pathlib
import sys


def path(text: str) -> pathlib.Path:
  """Returns the path that a flag names; a leading `~` is the home folder.

  A shell expands `~` in `--out ~/x`, but not in `--out=~/x`.
  """
  return pathlib.Path(expand(text))


def expand(text: str) -> str:
  """Replaces a leading `~` or `~user` by the home folder, if there is one."""
  return os.path.expanduser(text)


def escape_output() -> None:
  """Lets stdout and stderr escape what their encoding cannot represent.

  A file's name may have any character, and some have bytes that are no UTF-8;
  a terminal or a pipe may be cp1252 or ASCII. Without this a command would end
  in a UnicodeEncodeError while it reports.
  """
  for stream in (sys.stdout, sys.stderr):
    with contextlib.suppress(AttributeError):  # Replaced by another object.
      stream.reconfigure(errors='backslashreplace')
