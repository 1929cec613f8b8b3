"""Runs that fail or change and go on, in this process with a tiny model."""

import dataclasses
import gc
import json

import numpy as np
import pytest

from lakhnes_jax import events, vocabularies
from lakhnes_jax.data import shards
from lakhnes_jax.model.language_model import LanguageModel, ModelConfig
from lakhnes_jax.training import evaluate, log, loop, run_dir
from lakhnes_jax.weights import checkpoint

MODEL = LanguageModel(ModelConfig(
    n_token=events.TX1.size, n_layer=1, n_head=1, d_model=8, d_head=4,
    d_inner=8))
CONFIG = loop.TrainConfig(
    batch_size=4, tgt_len=8, mem_len=8, max_steps=6, log_every=1, eval_every=3,
    save_every=1, seed=3, evaluation=evaluate.EvalConfig(4, 8, 2))


@pytest.fixture(scope='module')
def corpora(tmp_path_factory):
  """Two train splits and a valid one."""
  rng = np.random.default_rng(1)
  notes = np.flatnonzero(events.CODE_KIND <= events.NOTEON)

  def split(folder, name, n):
    return shards.write_split(folder, name, [
        (f'{i}', (~rng.choice(notes, 30)).astype(np.int32)) for i in range(n)])

  folder, other = (tmp_path_factory.mktemp(x) for x in ('data', 'other'))
  return split(folder, 'train', 8), split(other, 'train', 6), split(
      folder, 'valid', 3)


def train(folder, corpora, config=CONFIG, corpus=0, **settings):
  return loop.run(folder, MODEL, events.TX1, corpora[corpus], corpora[2],
                  config, description={'asked': config.max_steps}, **settings)


def lines(folder):
  clock = ('tokens_per_second', 'data_wait_fraction')
  return [{k: v for k, v in line.items() if k not in clock}
          for line in log.read(folder)]


def weights(folder):
  return checkpoint.leaves(checkpoint.restore(folder, 'last')[0]['params'])


@pytest.fixture(scope='module')
def whole(corpora, tmp_path_factory):
  folder = tmp_path_factory.mktemp('whole')
  train(folder, corpora)
  return folder


def assert_same_run(one, other):
  assert lines(one) == lines(other)
  for name, array in weights(one).items():
    np.testing.assert_array_equal(array, weights(other)[name])
  for which in ('best', 'last'):
    (_, meta), (_, meta_2) = (
        checkpoint.restore(folder, which) for folder in (one, other))
    assert {**meta, 'seconds': 0} == {**meta_2, 'seconds': 0}


def test_a_failing_evaluation_costs_no_step(
    corpora, whole, tmp_path, monkeypatch):
  def fail(*args, **settings):
    raise MemoryError('too much')

  monkeypatch.setattr(evaluate, 'evaluate', fail)
  with pytest.raises(MemoryError):
    train(tmp_path, corpora)
  monkeypatch.undo()
  assert checkpoint.restore(tmp_path, 'last')[1]['step'] == 3
  assert [x['step'] for x in lines(tmp_path) if x['kind'] == 'valid'] == []
  train(tmp_path, corpora)
  assert_same_run(whole, tmp_path)


def test_what_follows_an_evaluation_ends_nothing(
    corpora, whole, tmp_path, capfd):
  def fail(step, params):
    raise RuntimeError('no display')

  assert train(tmp_path, corpora, after_eval=fail)['finished']
  assert_same_run(whole, tmp_path)
  assert 'step 3: after the evaluation: RuntimeError: no display' in (
      capfd.readouterr().err)


# Orbax leaves threads and files behind where it cannot restore.
@pytest.mark.filterwarnings(
    'ignore::ResourceWarning',
    'ignore::pytest.PytestUnraisableExceptionWarning')
def test_a_damaged_checkpoint_costs_the_steps_since_the_last(
    corpora, whole, tmp_path, capfd):
  train(tmp_path, corpora, dataclasses.replace(
      CONFIG, max_steps=5, schedule='constant', eval_every=0))
  folder = tmp_path / 'checkpoints/last/5'
  for path in folder.rglob('*'):
    if path.is_file() and path.stat().st_size:
      path.write_bytes(path.read_bytes()[:-1])
  train(tmp_path, corpora, dataclasses.replace(
      CONFIG, schedule='constant', eval_every=0))
  errors = capfd.readouterr().err
  assert 'step 4 is taken instead' in errors
  assert 'resuming this run at step 4' in errors
  expected = tmp_path / 'expected'
  train(expected, corpora, dataclasses.replace(
      CONFIG, schedule='constant', eval_every=0))
  for name, array in weights(expected).items():
    np.testing.assert_array_equal(array, weights(tmp_path)[name])
  gc.collect()


def test_other_data_and_seed_are_refused_by_name(corpora, tmp_path, capfd):
  short = dataclasses.replace(CONFIG, max_steps=2, eval_every=0)
  train(tmp_path, corpora, short)
  changed = dataclasses.replace(CONFIG, seed=4, eval_every=0)
  with pytest.raises(ValueError, match=r'data was .*; seed was 3, and is 4.*'
                     '--allow_changes=data,seed'):
    train(tmp_path, corpora, changed, corpus=1)
  assert json.loads((tmp_path / 'config.json').read_text()) == {'asked': 2}
  result = train(tmp_path, corpora, changed, corpus=1, init=loop.InitFrom(
      allow_changes=['data', 'seed']))
  assert result['step'] == 6
  assert 'at step 2 with other data, seed' in capfd.readouterr().err
  assert json.loads((tmp_path / 'config.json').read_text()) == {'asked': 2}
  assert json.loads((tmp_path / 'config-000002.json').read_text()) == {
      'asked': 6}
  # From here on these are the run's.
  train(tmp_path, corpora, changed, corpus=1)


def test_other_meanings_of_the_tokens(corpora, tmp_path, monkeypatch):
  train(tmp_path, corpora, dataclasses.replace(
      CONFIG, max_steps=2, eval_every=0))
  monkeypatch.setattr(vocabularies, 'digest', lambda _: '0123456789abcdef')
  with pytest.raises(ValueError, match='last: trained on other tokens or '
                     r'instruments of format tx1 .*\(.0123456789abcdef.\)'):
    train(tmp_path, corpora)
  with pytest.raises(ValueError, match='trained on other tokens'):
    train(tmp_path / 'new', corpora,
          init=loop.InitFrom(init_from=str(tmp_path)))


def test_a_directory_in_use(corpora, tmp_path):
  with (run_dir.lock(tmp_path),
        pytest.raises(ValueError, match='is training here')):
    train(tmp_path, corpora)


def test_evaluation_is_checked_at_the_start(corpora, tmp_path):
  config = dataclasses.replace(
      CONFIG, evaluation=evaluate.EvalConfig(999, 8, 2))
  with pytest.raises(ValueError, match='too short to fill one segment of 999'):
    train(tmp_path, corpora, config)
  assert not (tmp_path / 'checkpoints').exists()


def test_a_loss_that_is_not_finite_stops_the_run(corpora, tmp_path):
  config = dataclasses.replace(
      CONFIG, learning_rate=1e30, clip=0., eval_every=0)
  with pytest.raises(FloatingPointError, match=r'step \d: the loss is nan'):
    train(tmp_path, corpora, config)
