"""Products in 8 bits against exact ones."""

import jax.numpy as jnp
import numpy as np
import pytest

from lakhnes_jax.model import quantize


def test_by_hand():
  # Scales 127 / 127, 2 * 127 / 127 and, for a column of zeros, 0.
  kernel = quantize.kernel(jnp.array([[127., 2, 0], [-3, -254, 0]]))
  np.testing.assert_array_equal(kernel.values, [[127, 1, 0], [-3, -127, 0]])
  np.testing.assert_array_equal(kernel.scale, [1, 2, 0])
  # Rows of scale .5, 1 and 0.
  rows = jnp.array([[63.5, 1], [0, -127], [0, 0]])
  np.testing.assert_array_equal(
      quantize.product(rows, kernel),
      [[63.5 * 127 - 3, 63.5 * 2 - 254, 0], [381, 127 * 254, 0], [0, 0, 0]])


@pytest.mark.parametrize('shape', [(1, 64), (5, 64), (2, 3, 64)])
def test_error_is_that_of_rounding(shape):
  rng = np.random.default_rng(0)
  x = rng.standard_normal(shape).astype(np.float32)
  matrix = rng.standard_normal((64, 48)).astype(np.float32)
  exact = x.astype(float) @ matrix
  # Half a step of either factor, times the other, in the worst case.
  worst = np.abs(x).max(-1, keepdims=True) / 254 * np.abs(matrix).sum(0)
  worst += np.abs(matrix).max(0) / 254 * np.abs(x).sum(-1, keepdims=True)
  error = np.abs(quantize.product(x, quantize.kernel(matrix)) - exact)
  assert (error <= 1.01 * worst).all()
  assert 0 < error.mean() < 0.02 * np.abs(exact).mean()
  np.testing.assert_array_equal(quantize.product(x, jnp.array(matrix)),
                                jnp.matmul(x, matrix))
