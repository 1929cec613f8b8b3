"""Two processes, one folder."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest

from lakhnes_jax import file_lock

pytestmark = pytest.mark.skipif(file_lock.fcntl is None, reason='needs flock')
HOLD = '''
import sys, time
from lakhnes_jax import file_lock
with getattr(file_lock, sys.argv[1])(sys.argv[2]):
  print('held', flush=True)
  time.sleep(60)
'''


@contextlib.contextmanager
def held(kind, path):
  process = subprocess.Popen([sys.executable, '-c', HOLD, kind, str(path)],
                             stdout=subprocess.PIPE, text=True)
  try:
    assert process.stdout.readline() == 'held\n'
    yield process
  finally:
    process.kill()
    process.communicate()


def test_a_folder_is_held_by_one(tmp_path):
  folder = tmp_path / 'new' / 'folder'
  with held('exclusive', folder) as process:
    with pytest.raises(OSError, match=f'{folder}: another process is writing'):
      file_lock.exclusive(folder).__enter__()
    process.send_signal(signal.SIGKILL)
    process.wait()
    with file_lock.exclusive(folder):
      assert not list(folder.iterdir())
    with file_lock.exclusive(folder):  # And once more.
      pass


def test_a_file_is_held_in_turn(tmp_path):
  path = tmp_path / 'x.part'
  with held('in_turn', path) as process:
    process.send_signal(signal.SIGSTOP)  # Till then it cannot let go.
    started = time.monotonic()
    with (subprocess.Popen(['sh', '-c', f'sleep .5; kill -9 {process.pid}']),
          file_lock.in_turn(path) as waited):
      assert waited and time.monotonic() - started > .3


def test_a_file_that_was_moved_away_is_not_held(tmp_path):
  path = tmp_path / 'x.part'
  with held('in_turn', path) as process:
    path.rename(tmp_path / 'x')
    with file_lock.in_turn(path) as waited:  # Another file; at once.
      assert path.exists() and not waited
    assert process.poll() is None


def test_a_file_says_who_holds_it(tmp_path):
  path = tmp_path / 'lock'
  with held('signed', path) as process:
    with file_lock.signed(path) as holder:
      assert holder == f'process {process.pid}'
    path.write_bytes(b'\xff' * 999)
    with file_lock.signed(path) as holder:
      assert len(holder) < 100
    process.kill()
    process.wait()
    with file_lock.signed(path) as holder:
      assert holder is None and path.read_text() == f'process {os.getpid()}\n'
