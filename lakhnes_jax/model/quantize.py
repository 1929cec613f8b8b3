"""Matrix products in 8-bit integers, for decoding.

Kernels are rounded once, with a scale for each output channel; what they are
applied to is rounded on the way, with a scale for each row. Symmetric, without
zero points; the sums are exact (32 bits).
"""

from typing import Any, NamedTuple

import jax.numpy as jnp


class Kernel(NamedTuple):
  """A rounded matrix: `values` [K, N] int8 times `scale` [N] float32."""
  values: Any
  scale: Any


def quantize(x, axis: int):
  """Rounds to -127 .. 127 times a scale; returns both, float32 the scale."""
  x = x.astype(jnp.float32)
  scale = jnp.abs(x).max(axis, keepdims=True) / 127
  rounded = jnp.round(x / jnp.where(scale == 0, 1, scale))
  return rounded.astype(jnp.int8), scale


def kernel(matrix_KxN) -> Kernel:
  values, scale = quantize(matrix_KxN, 0)
  return Kernel(values, scale[0])


def product(x, matrix):
  """Multiplies x [.., K] by a matrix [K, N], which may be a `Kernel`.

  Returns:
    [.., N] in the dtype of x.
  """
  if not isinstance(matrix, Kernel):
    return x @ matrix
  rounded, scale = quantize(x, -1)
  # XLA has no fast product of one row on CPUs: two take a tenth of its time.
  single = x.shape[:-1] == (1,)
  if single:
    rounded = jnp.concatenate([rounded, rounded])
  summed = jnp.matmul(rounded, matrix.values,
                      preferred_element_type=jnp.int32)
  summed = summed[:1] if single else summed
  return (summed * scale * matrix.scale).astype(x.dtype)
