"""One all-reduce a step, nothing compiled late, no call of the host."""

import re

import jax
import numpy as np
import pytest
import test_loop

from lakhnes_jax import events
from lakhnes_jax.data import shards
from lakhnes_jax.model import transformer_xl
from lakhnes_jax.model.language_model import LanguageModel
from lakhnes_jax.training import loop, optimizer, train_step

LANES, LENGTH, MEM_LEN = 8, 16, 16
COMPILED = '/jax/core/compile/backend_compile_duration'


class Compilations:
  """Counts what jax compiles from now on; `number` so far."""

  def __init__(self):
    self.number = 0
    jax.monitoring.register_event_duration_secs_listener(self._count)

  def _count(self, event: str, duration: float, **_) -> None:
    del duration
    self.number += event == COMPILED


def tiny_step():
  """Returns (host state, `train_step.pmapped_steps`) of a tiny model."""
  model = LanguageModel(transformer_xl.ModelConfig(
      n_token=events.TX1.size, n_layer=2, n_head=2, d_model=16, d_head=8,
      d_inner=16))
  adam = optimizer.make(.25)
  step = train_step.pmapped_steps(
      model=model, optimizer=adam, seed=0,
      schedule=optimizer.schedule('cosine', 1e-4, 1000, 0))
  return train_step.init_state(
      model, adam, LANES, MEM_LEN, 0), step


def count(hlo: str) -> dict[str, int]:
  """Counts in a compiled program: all-reduces, and transfers to the host."""
  return {
      'all_reduces': len(re.findall(r'= .*\ball-reduce(?:-start)?\(', hlo)),
      'host_calls': len(re.findall(
          r'\b(?:outfeed|infeed|send|recv)\(|callback', hlo))}


@pytest.fixture(scope='module')
def compilations():
  return Compilations()


def test_step_on_four_devices(compilations):
  assert jax.local_device_count() == 4
  state, step = tiny_step()
  state = train_step.to_devices(state, 4)
  tokens = np.ones((4, 1, LANES // 4, LENGTH), np.int32)
  before = compilations.number
  hlo = step.lower(state, tokens, tokens,
                   np.zeros((4, 1), bool)).compile().as_text()
  assert count(hlo) == {'all_reduces': 1, 'host_calls': 0}
  for i in range(6):
    if i == 1:
      assert compilations.number > before  # It counts.
      before = compilations.number
    state, _ = step(state, tokens, tokens, np.full((4, 1), i == 3))
  assert compilations.number == before


def test_counts_what_is_there():
  def step(x):
    jax.debug.print('{}', x)
    return jax.lax.psum(x, 'i'), jax.lax.pmax(x, 'i')
  hlo = jax.pmap(step, 'i').lower(
      np.arange(4.)).compile().as_text()
  found = count(hlo)
  assert found['all_reduces'] == 2 and found['host_calls'] > 0


def test_several_steps_are_one_program():
  state, steps = tiny_step()
  tokens = np.ones((4, 3, LANES // 4, LENGTH), np.int32)
  hlo = steps.lower(train_step.to_devices(state, 4), tokens, tokens,
                    np.zeros((4, 3), bool)).compile().as_text()
  assert count(hlo) == {'all_reduces': 1, 'host_calls': 0}


@pytest.mark.slow
def test_longer_runs_compile_no_more(compilations, tmp_path):
  """Logging, a new epoch, evaluating and saving a second time included."""
  test_loop.write_corpus(tmp_path)
  corpora = [shards.Corpus(tmp_path, split) for split in ('train', 'valid')]
  model = LanguageModel(transformer_xl.ModelConfig(
      n_token=events.TX1.size, n_layer=1, n_head=1, d_model=8, d_head=4,
      d_inner=8))
  numbers = []
  for steps in (8, 24):
    before = compilations.number
    loop.run(tmp_path / f'{steps}', model, events.TX1, *corpora,
             loop.TrainConfig(
                 batch_size=4, tgt_len=8, mem_len=8, log_every=2, eval_every=4,
                 save_every=4, max_steps=steps,
                 evaluation=loop.evaluate.EvalConfig(4, 8, 2)))
    numbers.append(compilations.number - before)
  # What the first run has compiled may serve the second.
  assert numbers[0] > 0 and numbers[1] <= numbers[0]
