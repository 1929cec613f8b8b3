"""Two processes that train as one, through the user's own command."""

import contextlib
import pathlib
import signal
import socket
import subprocess
import time

import numpy as np
import pytest
import test_loop

from lakhnes_jax.training import log
from lakhnes_jax.weights import checkpoint

FLAGS = {'dropout': 0, 'schedule': 'constant', 'log_every': 1, 'eval_every': 0,
         'save_every': 0}
PATIENCE_S = 600  # Only so that a hang ends.


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory) -> pathlib.Path:
  folder = tmp_path_factory.mktemp('data')
  test_loop.write_corpus(folder)
  return folder


@contextlib.contextmanager
def _started(data_dir, workdir, n: int, devices: int = 1, **changes):
  """Starts n processes; yields them and the files of what they say."""
  flags = {**FLAGS, **changes}
  if n > 1:
    with socket.socket() as free:
      free.bind(('localhost', 0))
      flags |= {'coordinator': f'localhost:{free.getsockname()[1]}',
                'num_processes': n}
  workdir.mkdir(exist_ok=True)
  outputs = [workdir.with_name(f'{workdir.name}.{i}.log') for i in range(n)]
  with contextlib.ExitStack() as stack:
    processes = []
    for i, path in enumerate(outputs):
      own = {'process_id': i} if n > 1 else {}
      processes.append(subprocess.Popen(
          test_loop.command(data_dir, workdir, **flags, **own),
          cwd=test_loop.ROOT, env=test_loop.environment(devices),
          stderr=stack.enter_context(path.open('w'))))
    try:
      yield processes, outputs
    finally:
      for process in processes:
        process.kill()
        process.wait()


def _run(*args, **changes) -> list[str]:
  """Runs to the end; returns what each process said."""
  with _started(*args, **changes) as (processes, outputs):
    for process, path in zip(processes, outputs, strict=True):
      assert process.wait(PATIENCE_S) == 0, path.read_text()
  return [path.read_text() for path in outputs]


def _await_step(number: int, processes, outputs) -> None:
  end = time.monotonic() + PATIENCE_S
  while f'step {number}/' not in outputs[0].read_text():
    assert time.monotonic() < end
    for process, path in zip(processes, outputs, strict=True):
      assert process.poll() is None, path.read_text()
    time.sleep(.01)


def _losses(workdir) -> np.ndarray:
  return np.array([line['loss'] for line in log.read(workdir)])


@pytest.mark.slow
def test_two_processes_equal_one_and_each_goes_on_with_the_other(
    data_dir, tmp_path):
  two, one, then_one, first, then_two = (
      tmp_path / name for name in ('two', 'one', 'then_one', 'first',
                                   'then_two'))
  # Saving at each step makes steps slow enough to be interrupted early on.
  with _started(data_dir, two, 2, save_every=1, max_steps=10**6) as (
      processes, outputs):
    _await_step(5, processes, outputs)
    processes[1].send_signal(signal.SIGTERM)
    for process, path in zip(processes, outputs, strict=True):
      assert process.wait(PATIENCE_S) == 0, path.read_text()
  said = [path.read_text() for path in outputs]
  assert 'SIGTERM' in said[1] and 'SIGTERM' not in said[0]
  assert 'step 5/' in said[0] and 'step 5/' not in said[1]
  tree, meta = checkpoint.restore(two, 'last')
  step = meta['step']
  assert step == len(_losses(two))

  _run(data_dir, one, 1, devices=2, max_steps=step)
  np.testing.assert_allclose(_losses(two), _losses(one), rtol=1e-5)
  np.testing.assert_allclose(
      *(tree['lanes']['memory']['hidden']
        for tree in (tree, checkpoint.restore(one, 'last')[0])), atol=1e-3)
  assert {path.name for path in two.iterdir()} == {
      path.name for path in one.iterdir()}

  _run(data_dir, then_one, 1, max_steps=step + 4, resume_from=two)
  _run(data_dir, one, 1, devices=2, max_steps=step + 4)
  np.testing.assert_allclose(_losses(then_one), _losses(one)[step:], rtol=1e-5)

  _run(data_dir, first, 1, max_steps=3)
  _run(data_dir, then_two, 2, max_steps=step, resume_from=first, eval_every=4)
  lines = log.read(then_two)
  np.testing.assert_allclose(
      [line['loss'] for line in lines if line['kind'] == 'train'],
      _losses(one)[3:step], rtol=1e-5)
  assert any(line['kind'] == 'valid' for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize('victim, devices', [(0, 1), (1, 1), (0, 2), (1, 2)])
def test_the_death_of_one_ends_the_other(data_dir, tmp_path, victim, devices):
  with _started(data_dir, tmp_path / 'run', 2, devices, max_steps=10**6) as (
      processes, outputs):
    _await_step(5, processes, outputs)
    processes[victim].kill()
    other = 1 - victim
    assert processes[other].wait(PATIENCE_S) not in (0, None)
  said = outputs[other].read_text()
  assert 'the cause may be in the output of another' in said or (
      'another task died' in said)


def test_a_process_without_its_number_is_refused(data_dir, tmp_path):
  with _started(data_dir, tmp_path / 'run', 1, coordinator='localhost:1',
                num_processes=2) as ((process,), (output,)):
    assert process.wait(PATIENCE_S) == 1
  assert output.read_text().strip().splitlines()[-1].endswith(
      '--coordinator needs --process_id too')
