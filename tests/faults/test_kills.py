"""kill -9 at random moments: what is there is whole, and the end is the same.

What the kill hits is left to chance; the moments are drawn anew in each run.
"""

import json
import time

import numpy as np
import pytest

from lakhnes_jax.training import log
from lakhnes_jax.weights import checkpoint, weights_folder
from support import victims

pytestmark = pytest.mark.faults
PREPARATION = {
    'nesmdb': lambda music, out: [
        'data_prep.nesmdb', f'--input={music}/chip', f'--output={out}',
        '--workers=1', '--shard_events=3000'],
    'prepare': lambda music, out: [
        'data_prep.prepare', f'--input={music}/chip', f'--output={out}',
        '--workers=2'],
    'lakh': lambda music, out: [
        'data_prep.lakh', f'--input={music}/web.tar.gz', f'--output={out}',
        '--workers=1', '--valid_percent=20'],
    'convert': lambda music, out: [
        'data_prep.convert', f'{music}/chip', '--to=vgm', f'--out={out}',
        '--workers=1', '--overwrite'],
    'export': lambda music, out: [
        'lakhnes_jax.export', weights_folder.PRETRAINED, f'--out={out}'],
}
CLOCK = ('tokens_per_second', 'waiting', 'data_wait_fraction', 'seconds')


@pytest.mark.parametrize('command', PREPARATION)
def test_preparation(music, tmp_path, n_faults, command):
  rng = np.random.default_rng()
  arguments = PREPARATION[command]
  started = time.monotonic()
  done = victims.run(arguments(music, tmp_path / 'whole'))
  seconds = time.monotonic() - started
  assert done.status == 0, done.output
  whole, out = victims.contents(tmp_path / 'whole'), tmp_path / 'out'
  for _ in range(-(-n_faults // 8)):
    victims.run_and_kill(arguments(music, out), rng.uniform(.3, 1) * seconds)
    found = victims.contents(out) if out.exists() else {}
    assert not {name for name in found.keys() & whole.keys()
                if found[name] != whole[name]}
    for split in ('train', 'valid', 'test'):  # An index has all its shards.
      if f'{split}.json' in found:
        assert {name for name in whole if name.startswith(f'{split}-')
               } <= found.keys()
  done = victims.run(arguments(music, out))
  assert done.status == 0, done.output
  assert victims.contents(out) == whole


def test_download(music, server, tmp_path, n_faults):
  rng = np.random.default_rng()
  data = (music / 'web.tar.gz').read_bytes()
  server.files['/x'], server.pause = data, .002
  arguments = ['data_prep.download', 'lmd_clean', f'--mirror={server.url}/x',
               '--unpack']
  started = time.monotonic()
  done = victims.run([*arguments, f'--out={tmp_path}/whole'])
  seconds = time.monotonic() - started
  assert done.status == 0, done.output
  whole, out = victims.contents(tmp_path / 'whole'), tmp_path / 'out'
  for _ in range(-(-n_faults // 8)):
    victims.run_and_kill([*arguments, f'--out={out}'],
                         rng.uniform(.3, 1) * seconds)
    found = victims.contents(out) if out.exists() else {}
    assert found.get('clean_midi.tar.gz', data) == data
    if (out / 'clean_midi').exists():
      assert found == whole
  done = victims.run([*arguments, f'--out={out}'])
  assert done.status == 0, done.output
  assert victims.contents(out) == whole


def _lines(run):
  return [{k: v for k, v in line.items() if k not in CLOCK}
          for line in log.read(run)]


def _last(run):
  tree, meta = checkpoint.restore(run, 'last')
  return {name: np.asarray(leaf).tobytes() for name, leaf in
          checkpoint.leaves(tree).items()}, {**meta, 'seconds': 0}


def test_training(preloaded, train, tmp_path, n_faults):
  """Saving each other step, and evaluating each eighth, on the way."""
  rng = np.random.default_rng()
  started = time.monotonic()
  done = preloaded.run(train(tmp_path / 'whole'))
  seconds = time.monotonic() - started
  assert done.status == 0, done.output
  out, kills = tmp_path / 'out', 0
  while kills < -(-n_faults * 3 // 8):
    preloaded.run_and_kill(train(out), rng.uniform(.1, 1) * seconds)
    kills += 1
    if checkpoint.exists(out, 'last'):
      assert _last(out)[1]['step'] <= 24  # It can be read.
      if _last(out)[1]['step'] == 24:
        _compare(tmp_path / 'whole', out, preloaded, train)
        out = tmp_path / f'out{kills}'
  _compare(tmp_path / 'whole', out, preloaded, train)


def _compare(whole, out, preloaded, train):
  done = preloaded.run(train(out))
  assert done.status == 0, done.output
  assert _last(out) == _last(whole)
  assert _lines(out) == _lines(whole)


def test_evaluation(preloaded, train, tmp_path, n_faults):
  rng = np.random.default_rng()
  run = tmp_path / 'run'
  assert preloaded.run(train(run)).status == 0
  arguments = train(run, mode='eval', protocol='full')
  started = time.monotonic()
  done = preloaded.run(arguments)
  seconds = time.monotonic() - started
  assert done.status == 0, done.output
  path = run / 'eval-valid-full.json'

  def found():
    return {key: value for key, value in json.loads(path.read_bytes()).items()
            if key not in CLOCK}

  whole = found()
  for _ in range(-(-n_faults // 8)):
    path.unlink(missing_ok=True)
    preloaded.run_and_kill(arguments, rng.uniform(.3, 1) * seconds)
    assert not path.exists() or found() == whole
