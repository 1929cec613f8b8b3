"""One process in a run directory; what a run was asked for stays."""

import signal
import subprocess
import sys

import pytest

from lakhnes_jax import events
from lakhnes_jax.data import augment
from lakhnes_jax.training import run_dir

HOLD = """
import pathlib, sys, time
from lakhnes_jax.training import run_dir
with run_dir.lock(pathlib.Path(sys.argv[1])):
  print('held', flush=True)
  time.sleep(60)
"""


def test_another_process_is_kept_out_until_it_is_killed(tmp_path):
  folder = tmp_path / 'run'
  with subprocess.Popen([sys.executable, '-c', HOLD, str(folder)],
                        stdout=subprocess.PIPE, text=True) as holder:
    assert holder.stdout.readline() == 'held\n'
    with (pytest.raises(ValueError, match=(
        f'run: process {holder.pid} is training here; wait')),
          run_dir.lock(folder)):
      pass
    holder.send_signal(signal.SIGKILL)
  for _ in range(2):
    with run_dir.lock(folder):
      pass


class Corpus:
  checksum = 'abc'


def identity(**changes):
  settings = {'corpus': Corpus(), 'vocabulary': events.TX1,
              'augmentation': augment.Augmentation(trim=True, transpose=True),
              'min_tokens': 10, 'seed': 3, **changes}
  return run_dir.identity(**settings)


def test_identity():
  assert identity() == {'data': 'abc', 'format': 'tx1', 'seed': 3,
                        'augment': 'trim,transpose', 'min_tokens': 10}
  assert identity(augmentation=None)['augment'] == 'none'
  assert set(identity()) == set(run_dir.IDENTITY)


@pytest.mark.parametrize('changes, name, words', [
    ({'seed': 4}, 'seed', 'seed was 3, and is 4'),
    ({'vocabulary': events.TX2}, 'format', 'format was tx1, and is tx2'),
    ({'augmentation': None}, 'augment', 'was trim,transpose, and is none'),
    ({'min_tokens': 0}, 'min_tokens', 'min_tokens was 10, and is 0')])
def test_changes_are_refused_by_name(changes, name, words):
  now = identity(**changes)
  with pytest.raises(ValueError, match=(
      f'^here: .*{words}. Give what it was, or --allow_changes={name}')):
    run_dir.check_identity(identity(), now, (), 'here')
  assert run_dir.check_identity(identity(), now, [name], 'here') == [name]
  assert run_dir.check_identity(identity(), identity(), (), 'here') == []
  assert run_dir.check_identity({}, now, (), 'here') == []  # Not known.


def test_unknown_changes():
  with pytest.raises(ValueError, match='--allow_changes=colour: expected'):
    run_dir.check_identity(identity(), identity(), ['colour'], 'here')


def test_a_description_is_not_overwritten(tmp_path):
  def names():
    return sorted(path.name for path in tmp_path.iterdir())

  run_dir.describe(tmp_path, {'a': 1}, 0)
  run_dir.describe(tmp_path, {'a': 2}, 0)  # No step was made of the first.
  run_dir.describe(tmp_path, {'a': 2}, 7)
  assert names() == ['config.json']
  run_dir.describe(tmp_path, {'a': 3}, 7)
  assert names() == ['config-000007.json', 'config.json']
  assert '2' in (tmp_path / 'config.json').read_text()
  assert '3' in (tmp_path / 'config-000007.json').read_text()
