"""Learning rates, clipping and Adam against the original's arrays."""

import jax.numpy as jnp
import numpy as np
import pytest

from lakhnes_jax import optimizer


@pytest.mark.parametrize('case, kind, warmup, max_steps', [
    ('w0', 'cosine', 0, 60), ('w10', 'cosine', 10, 60),
    ('w200', 'cosine', 200, 400_000), ('const_w10', 'constant', 10, 60)])
def test_rates_equal_the_originals(oracles, case, kind, warmup, max_steps):
  expected = np.load(oracles / 'model/lr_schedule.npz')[case]
  rate = optimizer.schedule(kind, 2e-4, max_steps, warmup)
  np.testing.assert_allclose(
      [rate(np.int32(done)) for done in range(len(expected))], expected,
      rtol=1e-6, atol=2e-10)


def test_rates_by_hand():
  rate = optimizer.schedule('cosine', 8., 4, 2)
  np.testing.assert_allclose(
      [rate(np.int32(done)) for done in range(5)],
      [8, 4, 4, 4 - 2 * 2**.5, 0], rtol=1e-6, atol=1e-6)
  assert optimizer.schedule('constant', 3., 10, 0)(np.int32(7)) == 3


def test_unknown_schedule():
  with pytest.raises(ValueError, match=r"'linear' is none of cosine, constant"):
    optimizer.schedule('linear', 1., 2, 0)


@pytest.mark.parametrize('clip', [.25, 7., 0.])
def test_two_steps_of_adam_by_hand(clip):
  adam = optimizer.make(clip)
  params = {'a': jnp.zeros(1), 'b': jnp.zeros(1)}
  g = 3 * (.25 / (5 + 1e-6) if clip == .25 else 1)  # The norm is 5.
  state, mean, square = adam.init(params), 0, 0
  for step in (1, 2):
    updates, state = adam.update(
        {'a': jnp.array([3.]), 'b': jnp.array([-4.])}, state, params)
    mean, square = .9 * mean + .1 * g, .999 * square + .001 * g * g
    expected = mean / (1 - .9**step) / (
        (square / (1 - .999**step))**.5 + 1e-8)
    # The bias correction 1 - .999^n has 5 digits in float32.
    np.testing.assert_allclose(updates['a'], expected, rtol=3e-5)
    np.testing.assert_allclose(updates['b'], -expected, rtol=3e-5)


def test_clipping_scales_by_the_norm_of_all():
  adam = optimizer.make(.25)
  params = {'a': jnp.zeros(1), 'b': jnp.zeros(1)}
  grads = {'a': jnp.array([3.]), 'b': jnp.array([-4.])}
  _, state = adam.update(grads, adam.init(params), params)
  np.testing.assert_allclose(state[1].mu['a'], .1 * 3 * .25 / 5, rtol=1e-5)
  np.testing.assert_allclose(state[1].mu['b'], -.1 * 4 * .25 / 5, rtol=1e-5)
