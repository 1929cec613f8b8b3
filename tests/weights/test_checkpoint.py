"""Saving, restoring, and what is said when that cannot be."""

import gc

import numpy as np
import pytest

from lakhnes_jax.training import train_step
from lakhnes_jax.weights import checkpoint

META = {'model': 'txl', 'config': {}, 'format': 'tx1', 'loss': 0.1}


def _state(width: int = 3) -> train_step.TrainState:
  return train_step.TrainState(
      np.int32(4), {'w': np.arange(width, dtype=np.float32)}, ({}, (1., 2)),
      np.zeros((2, 0), np.float32))


def _save(run_dir, which='last', step=4, state=None):
  with checkpoint.Checkpoints(run_dir, which) as checkpoints:
    checkpoints.save(step, state or _state(), META)


def test_round_trip(tmp_path):
  assert not checkpoint.exists(tmp_path, 'last')
  _save(tmp_path)
  assert checkpoint.exists(tmp_path, 'last')
  tree, meta = checkpoint.restore(tmp_path, 'last')
  assert meta == META
  filled = checkpoint.fill(_state(), tree, 'here')
  assert filled.step == 4
  np.testing.assert_array_equal(filled.params['w'], [0, 1, 2])
  assert filled.opt_state == ({}, (1., 2))


def test_the_newest_two_are_kept(tmp_path):
  with checkpoint.Checkpoints(tmp_path, 'last') as checkpoints:
    for step in (1, 2, 3):
      checkpoints.save(step, _state(step), META)
  folders = sorted(p.name for p in (tmp_path / 'checkpoints/last').iterdir())
  assert folders == ['2', '3']
  assert len(checkpoint.restore(tmp_path, 'last')[0]['params']['w']) == 3


# Orbax leaves threads and files behind where it cannot restore.
@pytest.mark.filterwarnings(
    'ignore::ResourceWarning',
    'ignore::pytest.PytestUnraisableExceptionWarning')
def test_flipped_bits_load_no_other_values(tmp_path, capfd):
  """What is restored is what was saved, or the checkpoint before, in a line."""
  with checkpoint.Checkpoints(tmp_path, 'last') as checkpoints:
    for step in (1, 2):
      checkpoints.save(step, _state(20 * step), {**META, 'step': step})
  rng, taken = np.random.default_rng(0), []
  files = [path for path in (tmp_path / 'checkpoints/last/2').rglob('*')
           if path.is_file() and path.stat().st_size]
  for number in range(24):
    path = files[number % len(files)]
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[rng.integers(len(content))] ^= 1 << rng.integers(8)
    path.write_bytes(flipped)
    capfd.readouterr()
    tree, meta = checkpoint.restore(tmp_path, 'last')
    path.write_bytes(content)
    taken.append(meta['step'])
    assert meta == {**META, 'step': taken[-1]}
    np.testing.assert_array_equal(tree['params']['w'],
                                  np.arange(20 * taken[-1]))
    if taken[-1] == 1:
      line, = [x for x in capfd.readouterr().err.splitlines() if 'taken' in x]
      assert 'last/2: damaged checkpoint' in line
      assert line.endswith('step 1 is taken instead')
  assert 1 in taken
  gc.collect()


def test_damaged_ones_make_room(tmp_path):
  """After step 1 was taken in place of step 2, step 2 is saved again."""
  with checkpoint.Checkpoints(tmp_path, 'last') as checkpoints:
    for step in (1, 2):
      checkpoints.save(step, _state(step), META)
  with checkpoint.Checkpoints(tmp_path, 'last') as checkpoints:
    checkpoints.discard_after(1)
    checkpoints.save(2, _state(7), META)
  assert len(checkpoint.restore(tmp_path, 'last')[0]['params']['w']) == 7


def test_best_falls_back_to_last(tmp_path):
  _save(tmp_path, 'last', state=_state(5))
  assert len(checkpoint.restore(tmp_path, 'best')[0]['params']['w']) == 5
  _save(tmp_path, 'best', state=_state(2))
  assert len(checkpoint.restore(tmp_path, 'best')[0]['params']['w']) == 2


def test_no_checkpoint(tmp_path):
  with pytest.raises(FileNotFoundError, match='no checkpoint here; train one'):
    checkpoint.restore(tmp_path)


def test_a_save_that_was_cut_off_does_not_count(tmp_path):
  (tmp_path / 'checkpoints/last/9.orbax-checkpoint-tmp').mkdir(parents=True)
  assert not checkpoint.exists(tmp_path, 'last')
  _save(tmp_path)
  assert checkpoint.restore(tmp_path, 'last')[1] == META


# Orbax leaves threads and files behind where it cannot restore.
@pytest.mark.filterwarnings(
    'ignore::ResourceWarning',
    'ignore::pytest.PytestUnraisableExceptionWarning')
def test_a_damaged_checkpoint_is_named(tmp_path):
  _save(tmp_path)
  folder = tmp_path / 'checkpoints/last/4'
  for path in folder.rglob('*'):
    if path.is_file() and path.stat().st_size:
      path.write_bytes(path.read_bytes()[:-1])
  with pytest.raises(ValueError, match='last/4: damaged checkpoint'):
    checkpoint.restore(tmp_path, 'last')
  gc.collect()


@pytest.mark.parametrize('tree, words', [
    ({'params': {'w': np.zeros(4)}}, r'params/w is \(4,\), not \(3,\)'),
    ({'params': {}}, 'params/w is missing'),
    ({'params': {'w': np.zeros(3), 'v': np.zeros(1)}}, 'params/v is unknown'),
])
def test_another_shape_is_named(tree, words):
  with pytest.raises(ValueError, match=f'here: .*another shape: {words}'):
    checkpoint.fill({'params': {'w': np.zeros(3)}}, tree, 'here')


