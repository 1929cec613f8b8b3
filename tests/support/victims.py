"""Commands of ours that are killed, or given too little, by tests.

`python -m support.victims` is what `Preloaded` talks to: a process that has
imported what training needs (seconds) and forks for each command.
"""

import contextlib
import json
import os
import pathlib
import resource
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[2]
SECONDS = 600  # No command may take longer, on however busy a machine.


class Done(NamedTuple):
  """How a command ended."""
  status: int
  output: str


def environment() -> dict[str, str]:
  """Of commands: as the tests', one device, no second start of Python."""
  return {**os.environ, 'PYTHONPATH': f'{ROOT}{os.pathsep}{ROOT / "tests"}',
          'XLA_FLAGS': os.environ['XLA_FLAGS'] +
                       ' --xla_force_host_platform_device_count=1',
          'GLIBC_TUNABLES': ''}


def start(arguments, log, most_bytes: int | None = None) -> subprocess.Popen:
  """Starts `python -m ...` in a session of its own.

  Args:
    arguments: of Python, from the module's name on.
    log: open file for what it prints.
    most_bytes: the largest file that it may write; None for any.
  """
  return subprocess.Popen(
      [sys.executable, '-m', *map(str, arguments)], cwd=ROOT, stdout=log,
      stderr=log, env=environment(), start_new_session=True,
      preexec_fn=lambda: _limit(most_bytes))


def _limit(most_bytes: int | None) -> None:
  if most_bytes is not None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))


def kill(process: subprocess.Popen) -> None:
  """Kills a process and all that it started."""
  with contextlib.suppress(ProcessLookupError):
    os.killpg(process.pid, signal.SIGKILL)
  process.wait()


def run(arguments, most_bytes: int | None = None) -> Done:
  """Runs `python -m ...` to its end."""
  with tempfile.TemporaryFile() as log:
    process = start(arguments, log, most_bytes)
    try:
      process.wait(SECONDS)
    finally:
      kill(process)
    log.seek(0)
    return Done(process.returncode, log.read().decode('utf-8', 'replace'))


def run_and_kill(arguments, seconds: float) -> None:
  """Runs `python -m ...`, for so long at most."""
  process = start(arguments, subprocess.DEVNULL)
  try:
    process.wait(seconds)
  except subprocess.TimeoutExpired:
    pass
  finally:
    kill(process)


def contents(folder: pathlib.Path) -> dict[str, bytes]:
  """Files below a folder, but for those that a kill left half written."""
  return {path.relative_to(folder).as_posix(): path.read_bytes()
          for path in folder.rglob('*')
          if path.is_file() and not path.name.endswith(('.tmp', '.part'))}


def refused(done: Done) -> None:
  """Asserts that a command ended with one clear line and status 1."""
  assert done.status == 1, done
  assert 'Traceback' not in done.output, done.output[-3000:]
  assert done.output.strip(), 'said nothing'


class Preloaded:
  """Runs `experiments.run` in forks of a process that has it imported."""

  def __init__(self):
    self._process = subprocess.Popen(
        [sys.executable, '-m', 'support.victims'], cwd=ROOT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment())
    assert self._process.stdout.readline() == 'ready\n'

  def start(self, arguments, log: str, most_bytes: int | None = None) -> int:
    """Starts a command that writes to the file `log`; returns its process."""
    self._process.stdin.write(json.dumps(
        [[*map(str, arguments)], log, most_bytes]) + '\n')
    self._process.stdin.flush()
    return int(self._process.stdout.readline())

  def wait(self, pid: int, seconds: float) -> int | None:
    """Waits for a command; kills it, and returns None, after some seconds."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
      if (status := self._poll(pid)) is not None:
        return status
      time.sleep(.01)
    os.killpg(pid, signal.SIGKILL)
    while self._poll(pid) is None:
      time.sleep(.01)
    return None

  def _poll(self, pid: int) -> int | None:
    self._process.stdin.write(f'{pid}\n')
    self._process.stdin.flush()
    return json.loads(self._process.stdout.readline())

  def run(self, arguments, most_bytes: int | None = None) -> Done:
    with tempfile.NamedTemporaryFile() as log:
      status = self.wait(self.start(arguments, log.name, most_bytes), SECONDS)
      output = log.read().decode('utf-8', 'replace')
    assert status is not None, f'did not end: {output[-3000:]}'
    return Done(status, output)

  def run_and_kill(self, arguments, seconds: float) -> None:
    self.wait(self.start(arguments, os.devnull), seconds)

  def close(self) -> None:
    self._process.stdin.close()
    self._process.stdout.close()
    self._process.wait()


def _serve() -> None:
  """Starts and polls processes as the lines that it reads ask for."""
  import orbax.checkpoint  # noqa: F401

  import lakhnes_jax.report.plot
  import lakhnes_jax.training.evaluate
  import lakhnes_jax.training.loop
  import lakhnes_jax.weights.weights_folder  # noqa: F401
  print('ready', flush=True)
  for line in sys.stdin:
    asked = json.loads(line)
    if isinstance(asked, int):
      pid, status = os.waitpid(asked, os.WNOHANG)
      print(json.dumps(os.waitstatus_to_exitcode(status) if pid else None),
            flush=True)
    else:
      pid = os.fork()
      if not pid:
        _become(*asked)
      print(pid, flush=True)


def _become(arguments: list[str], log: str, most_bytes: int | None) -> None:
  """Turns this process, a fork, into a command; does not return."""
  os.setsid()
  descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
  for stream in (1, 2):
    os.dup2(descriptor, stream)
  os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
  _limit(most_bytes)
  sys.argv = ['-', *arguments]
  sys.orig_argv = [sys.executable, '-m', 'experiments.run', *arguments]
  status = 1
  try:
    runpy.run_module('experiments.run', run_name='__main__', alter_sys=True)
    status = 0
  except SystemExit as ended:
    if isinstance(ended.code, str):
      print(ended.code, file=sys.stderr)
    status = ended.code if isinstance(ended.code, int) else int(
        ended.code is not None)
  except BaseException:
    import traceback
    traceback.print_exc()
  finally:
    sys.stdout.flush()
    sys.stderr.flush()
    # As Python would: threads that do not end are a fault to be seen.
    import threading
    for thread in threading.enumerate():
      if thread is not threading.main_thread() and not thread.daemon:
        thread.join()
    os._exit(status)


if __name__ == '__main__':
  _serve()
