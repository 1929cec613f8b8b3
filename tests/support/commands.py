"""The project's commands, run in this process as they are in one of their own.

A process takes seconds to import jax and cannot share compiled programs.
"""

import contextlib
import importlib
import io
import sys
from collections.abc import Callable
from typing import Any, NamedTuple
from unittest import mock

import jax

from support import experiments_run


class Done(NamedTuple):
  """How a command ended: the names are those of subprocess."""
  returncode: int
  stdout: str
  stderr: str


def run_module(module: str, *arguments: object) -> Done:
  """Runs `python -m MODULE ARGUMENTS` by its function `main`."""
  argv = [module, *map(str, arguments)]
  with mock.patch.object(sys, 'argv', argv):
    return _captured(importlib.import_module(module).main)


def run_experiment(*arguments: object, devices: int = 1) -> Done:
  """Runs `python -m experiments.run ARGUMENTS` on some of the devices."""
  with (mock.patch.object(jax, 'local_device_count', return_value=devices),
        mock.patch.object(jax, 'device_count', return_value=devices)):
    return _captured(lambda: experiments_run.main(*map(str, arguments)))


def _captured(main: Callable[[], Any]) -> Done:
  out, err = io.StringIO(), io.StringIO()
  with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    try:
      status = main() or 0
    except SystemExit as end:
      status = end.code or 0
    if isinstance(status, str):
      print(status, file=err)
      status = 1
  return Done(status, out.getvalue(), err.getvalue())
