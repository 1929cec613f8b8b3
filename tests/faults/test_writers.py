"""Two processes that write to one place: the result is of one of them."""

import os
import subprocess
import tempfile

import pytest

from support import victims

pytestmark = pytest.mark.faults


def both(arguments):
  """Starts a command twice at once; returns how they ended."""
  with tempfile.TemporaryFile() as one, tempfile.TemporaryFile() as two:
    logs = one, two
    processes = [victims.start(arguments, log) for log in logs]
    done = []
    try:
      for process, log in zip(processes, logs, strict=True):
        process.wait(victims.SECONDS)
        log.seek(0)
        done.append(victims.Done(process.returncode, log.read().decode()))
    except subprocess.TimeoutExpired:
      pytest.fail(f'one hangs: {arguments}')
    finally:
      for process in processes:
        victims.kill(process)
  return sorted(done)


@pytest.mark.parametrize('command, source', [
    ('nesmdb', 'chip'), ('prepare', 'chip'), ('lakh', 'web.tar.gz')])
def test_preparation(music, tmp_path, command, source):
  def arguments(out):
    return [f'data_prep.{command}', f'--input={music}/{source}',
            f'--output={out}', '--workers=1']

  assert victims.run(arguments(tmp_path / 'whole')).status == 0
  first, second = both(arguments(tmp_path / 'out'))
  assert first.status == 0, first.output
  if second.status:  # Else it came when the first had ended.
    victims.refused(second)
    assert 'another process is writing there' in second.output
  assert victims.contents(tmp_path / 'out') == victims.contents(
      tmp_path / 'whole')


def test_conversion(music, tmp_path):
  """They write the same files, each of them whole."""
  def arguments(out):
    return ['data_prep.convert', f'{music}/chip', '--to=vgm', f'--out={out}',
            '--workers=1', '--overwrite']

  assert victims.run(arguments(tmp_path / 'whole')).status == 0
  first, second = both(arguments(tmp_path / 'out'))
  assert (first.status, second.status) == (0, 0), (first, second)
  assert victims.contents(tmp_path / 'out') == victims.contents(
      tmp_path / 'whole')


def test_download(music, server, tmp_path):
  """The second waits for the first."""
  server.files['/x'], server.pause = (music / 'web.tar.gz').read_bytes(), .005
  arguments = ['data_prep.download', 'lmd_clean', f'--mirror={server.url}/x',
               f'--out={tmp_path}/out']
  first, second = both(arguments)
  assert (first.status, second.status) == (0, 0), (first, second)
  assert len(server.requests) == 1
  assert victims.contents(tmp_path / 'out') == {
      'clean_midi.tar.gz': server.files['/x']}


def test_training(preloaded, train, tmp_path):
  """One trains, the other says so and ends; no exit hangs."""
  logs = [tmp_path / 'one', tmp_path / 'two']
  for log in logs:
    log.touch()
  pids = [preloaded.start(train(tmp_path / 'run'), str(log)) for log in logs]
  statuses = [preloaded.wait(pid, victims.SECONDS) for pid in pids]
  outputs = [log.read_text() for log in logs]
  assert sorted(map(str, statuses)) == ['0', '1'], outputs
  victims.refused(victims.Done(1, outputs[statuses.index(1)]))
  # Who holds the run directory may be killed; it is free at once.
  pid = preloaded.start(train(tmp_path / 'run', max_steps=10**6), os.devnull)
  assert preloaded.wait(pid, 8) is None
  done = preloaded.run(train(tmp_path / 'run'))
  assert done.status == 0, done.output
