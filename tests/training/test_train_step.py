"""The training step against plain gradients, and across devices."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lakhnes_jax.model import language_model, transformer_xl
from lakhnes_jax.model.language_model import LanguageModel
from lakhnes_jax.training import optimizer, train_step

CONFIG = transformer_xl.ModelConfig(
    n_token=31, n_layer=2, n_head=2, d_model=16, d_head=8, d_inner=24,
    dropout=0.)
LANES, LENGTH, MEM = 8, 6, 9
RATE = 1e-2


def _batches(n: int):
  rng = np.random.default_rng(0)
  return rng.integers(0, CONFIG.n_token, (n, 2, LANES, LENGTH), np.int32)


@functools.cache
def _compiled(devices: int, accumulation: int, dropout: float,
              memory_reset_prob: float):
  """Returns the model, its optimizer and its step, compiled once."""
  model = LanguageModel(dataclasses.replace(CONFIG, dropout=dropout))
  adam = optimizer.make(0.25)
  return model, adam, jax.pmap(
      functools.partial(
          train_step.train_step, model=model, optimizer=adam, seed=3,
          schedule=optimizer.schedule('constant', RATE, 100, 0),
          accumulation=accumulation, memory_reset_prob=memory_reset_prob),
      axis_name=train_step.AXIS, devices=jax.devices()[:devices])


def _run(devices: int, accumulation: int = 1, dropout: float = 0.,
         steps: int = 4, resets=(0,), memory_reset_prob: float = 0.):
  """Trains; returns the final host state and the metrics of each step."""
  model, adam, step_fn = _compiled(
      devices, accumulation, dropout, memory_reset_prob)
  state = train_step.to_devices(
      train_step.init_state(model, adam, LANES, MEM, seed=5), devices)
  lines = []
  for number, (inputs, targets) in enumerate(_batches(steps)):
    shape = (devices, -1, LENGTH)
    state, measured = step_fn(
        state, inputs.reshape(shape), targets.reshape(shape),
        np.full(devices, number in resets))
    lines.append(jax.tree.map(float, train_step.first(measured)))
  return train_step.to_host(state), lines


def _assert_same(one, other, tolerance):
  for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(one),
                          jax.tree.leaves(other), strict=True):
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance,
                               err_msg=jax.tree_util.keystr(path))


@pytest.mark.parametrize('devices, accumulation', [(4, 1), (2, 2), (1, 4)])
def test_the_split_of_a_batch_does_not_matter(devices, accumulation):
  whole, whole_lines = _run(1, resets=(0, 3))
  parts, parts_lines = _run(devices, accumulation, resets=(0, 3))
  for a, b in zip(whole_lines, parts_lines, strict=True):
    np.testing.assert_allclose(b['loss'], a['loss'], rtol=1e-6)
    np.testing.assert_allclose(b['grad_norm'], a['grad_norm'], rtol=1e-5)
  _assert_same(whole.lanes, parts.lanes, 1e-4)
  # Adam divides by the gradient's size: elements near zero are ill-conditioned.
  _assert_same(whole.params, parts.params, 1e-3)


def test_first_step_is_minus_rate_times_sign_of_gradient():
  model, adam = LanguageModel(CONFIG), optimizer.make(0.)
  start = train_step.init_state(model, adam, LANES, MEM, seed=5)
  (inputs, targets), = _batches(1)

  def loss_fn(params):
    logits, _ = model.apply(params, inputs, model.init_state(LANES, MEM))
    return language_model.nll(logits, targets).mean()

  loss, grads = jax.value_and_grad(loss_fn)(start.params)
  state, (line,) = _run(1, steps=1)
  assert line['loss'] == pytest.approx(float(loss), rel=1e-6)
  assert line['learning_rate'] == pytest.approx(RATE)
  for before, after, grad in zip(*map(
      jax.tree.leaves, (start.params, state.params, grads)), strict=True):
    clear = np.abs(grad) > 1e-4
    np.testing.assert_allclose(
        (after - before)[clear], -RATE * np.sign(grad)[clear], rtol=1e-2)
  assert state.step == 1


def test_reset_empties_the_memory():
  _, kept = _run(1, steps=3, resets=(0,))
  _, reset = _run(1, steps=3, resets=(0, 2))
  assert kept[1] == reset[1]
  assert kept[2]['loss'] != reset[2]['loss']


def test_memory_resets_come_at_random_steps():
  _, always = _run(1, steps=3, memory_reset_prob=1.)
  _, reset = _run(1, steps=3, resets=(0, 1, 2))
  # Two programs, which may add up in other orders.
  assert always == [pytest.approx(line, rel=1e-6) for line in reset]
  _, kept = _run(1, steps=3)
  assert always[2]['loss'] != pytest.approx(kept[2]['loss'], rel=1e-5)
  _, sometimes = _run(1, steps=12, memory_reset_prob=.5)
  _, never = _run(1, steps=12)
  assert sometimes[-1] != never[-1]
  _, split = _run(2, steps=12, memory_reset_prob=.5)  # All devices together.
  assert split[-1]['loss'] == pytest.approx(sometimes[-1]['loss'], rel=1e-4)


def test_dropout_differs_between_steps_and_devices_but_not_runs():
  first, lines = _run(2, dropout=.5, steps=2)
  again, lines_again = _run(2, dropout=.5, steps=2)
  assert lines == lines_again
  jax.tree.map(np.testing.assert_array_equal, first.params, again.params)
  _, one_device = _run(1, dropout=.5, steps=2)
  assert lines[0]['loss'] != one_device[0]['loss']


def test_devices_and_host_layouts_are_inverse():
  memory = transformer_xl.Memory(
      jnp.arange(2. * LANES * 3 * 4).reshape(2, LANES, 3, 4), jnp.int32(3))
  state = train_step.TrainState(np.int32(7), {'w': np.ones(3)}, (), memory)
  laid_out = train_step.to_devices(state, 4)
  assert laid_out.lanes.hidden.shape == (4, 2, LANES // 4, 3, 4)
  np.testing.assert_array_equal(
      laid_out.lanes.hidden[1, :, 0], memory.hidden[:, LANES // 4])
  put = jax.pmap(lambda x: x)(laid_out)
  jax.tree.map(np.testing.assert_array_equal, train_step.to_host(put), state)
