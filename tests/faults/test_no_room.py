"""Disks that are full or cannot be written to: one line, and nothing half made.

A disk is full for a process that may write no file of more than some size.
"""

import pathlib

import numpy as np
import pytest

from lakhnes_jax.weights import checkpoint, weights_folder
from support import victims

pytestmark = pytest.mark.faults
COMMANDS = {
    'nesmdb': lambda music, out: [
        'data_prep.nesmdb', f'--input={music}/chip', f'--output={out}',
        '--workers=1'],
    'prepare': lambda music, out: [
        'data_prep.prepare', f'--input={music}/chip', f'--output={out}',
        '--workers=1'],
    'lakh': lambda music, out: [
        'data_prep.lakh', f'--input={music}/web.tar.gz', f'--output={out}',
        '--workers=1'],
    'convert': lambda music, out: [
        'data_prep.convert', f'{music}/chip', '--to=mid', f'--out={out}',
        '--workers=1', '--overwrite'],
    'download': lambda music, out: [
        'data_prep.download', 'lmd_clean', '--unpack', f'--out={out}',
        f'--mirror=file://{music}/web.tar.gz'],
    'compose': lambda music, out: [
        'data_prep.compose', f'--out={out}', '--web=3', '--chip=3'],
    'render': lambda music, out: [
        'lakhnes_jax.render', f'{music}/chip/valid', f'--out={out}/'],
    'export': lambda music, out: [
        'lakhnes_jax.export', weights_folder.PRETRAINED, f'--out={out}'],
}


@pytest.mark.parametrize('command', COMMANDS)
def test_full(music, tmp_path, command, n_faults):
  rng = np.random.default_rng(6)
  arguments = COMMANDS[command]
  done = victims.run(arguments(music, tmp_path / 'whole'))
  assert done.status == 0, done.output
  whole, out = victims.contents(tmp_path / 'whole'), tmp_path / 'out'
  largest = max(map(len, whole.values()))
  for _ in range(-(-n_faults // 20)):
    done = victims.run(arguments(music, out),
                       most_bytes=int(rng.integers(largest)))
    victims.refused(done)
    assert str(out) in done.output, done.output  # Which file it is.
    found = victims.contents(out) if out.exists() else {}
    assert {name: data for name, data in found.items()
            if name in whole} == {
                name: whole[name] for name in found if name in whole}
    assert not list(out.rglob('*.tmp'))
  done = victims.run(arguments(music, out))
  assert done.status == 0, done.output
  assert victims.contents(out) == whole


@pytest.mark.parametrize('command', COMMANDS)
def test_nowhere_to_write(music, tmp_path, command):
  """As on a read-only disk; root, as who tests often run, may write anywhere.
  """
  (tmp_path / 'file').write_bytes(b'')
  for place in (pathlib.Path('/proc/nowhere/out'), tmp_path / 'file' / 'out'):
    done = victims.run(COMMANDS[command](music, place))
    victims.refused(done)
    assert str(place.parent) in done.output  # Which could not be made.


def test_training(preloaded, train, tmp_path):
  """What was saved before stays; with room the run goes on from there."""
  run = tmp_path / 'run'
  assert preloaded.run(train(run, max_steps=8)).status == 0
  before = checkpoint.restore(run, 'last')[1]['step']
  done = preloaded.run(train(run), most_bytes=2000)
  assert done.status not in (0, None)
  assert 'Traceback' not in done.output, done.output[-3000:]
  assert checkpoint.restore(run, 'last')[1]['step'] >= before
  done = preloaded.run(train(run))
  assert done.status == 0, done.output
  assert checkpoint.restore(run, 'last')[1]['step'] == 24


def test_training_nowhere(preloaded, train, tmp_path):
  (tmp_path / 'file').write_bytes(b'')
  for place in (pathlib.Path('/proc/nowhere/run'), tmp_path / 'file' / 'run'):
    done = preloaded.run(train(place))
    victims.refused(done)
    assert str(place.parent) in done.output
