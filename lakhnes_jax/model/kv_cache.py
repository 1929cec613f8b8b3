"""A layer of the model with a KV cache: a ring of keys, another of values.

A ring has R = M + 1 slots; each token overwrites the oldest one, and then sees
itself and the M tokens before. Either it is read by itself (`decode_layer`), or
in a block of T tokens (`prefill_layer`), to the same effect.

Letters as in `lakhnes_jax.model.transformer_xl`, and R and T as above; G = B H.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from lakhnes_jax.model import quantize, transformer_xl


def visible(config, size: int, distance, count):
  """Says which keys, so many tokens before, a query sees.

  Args:
    config: of the model.
    size: R.
    distance: of the keys, negative if they come later.
    count: tokens of the song up to the query, itself included.
  """
  shorter = config.same_length or config.smear_keys
  window = max(size - 1, 1) if shorter else size
  # A query before the beginning sees itself: nothing at all would be NaN.
  return (distance >= 0) & (distance < window) & (
      (distance < count) | (distance == 0))


def _smear(p, scores, config, size: int, distance, count):
  """Mixes keys with those before them; their scores do, to the same effect.

  Args:
    p: the layer's parameters.
    scores: [B, H, .., keys], in order of time but for where a ring begins.
    config, size, distance, count: as for `visible`.
  """
  if not config.smear_keys:
    return scores
  there = distance + 1 < jnp.minimum(count, size)
  before = jnp.where(there[:, None], jnp.roll(scores, 1, -1), 0)
  return transformer_xl.smear(jnp.expand_dims(
      p['smear'], tuple(range(1, scores.ndim - 1))), scores, before)


def decode_layer(p, config, x_BxD, keys_GxCxR, values_GxRxC, distances_HxRxC,
                 slot, count_B):
  """One layer on one token of each song.

  Args:
    p: the layer's parameters, as `decode.to_decode_params` arranges them.
    config: of the model.
    x_BxD: the token.
    keys_GxCxR, values_GxRxC: the rings; `slot` is written.
    distances_HxRxC: projected embeddings of distance M .. 0.
    slot: of this token.
    count_B: tokens read before.

  Returns:
    (output [B, D], the two rings)
  """
  (q_BxHxC, k_BxHxC, v_BxHxC), scale = _project(p, config, x_BxD)
  flat = (-1, config.d_head)
  size = keys_GxCxR.shape[2]
  # Slot s was written (slot - s) % R tokens ago.
  seen = (config, size, (slot - jnp.arange(size)) % size, count_B[:, None] + 1)
  keys_GxCxR = jax.lax.dynamic_update_slice(
      keys_GxCxR, k_BxHxC.reshape(flat)[..., None], (0, 0, slot))
  values_GxRxC = jax.lax.dynamic_update_slice(
      values_GxRxC, v_BxHxC.reshape(flat)[:, None], (0, slot, 0))
  by_distance = transformer_xl.einsum_float32(
      'bhc,hrc->bhr', (q_BxHxC + p['position_bias']) * scale, distances_HxRxC)
  scores = transformer_xl.einsum_float32(
      'gc,gcr->gr', ((q_BxHxC + p['content_bias']) * scale).reshape(flat),
      keys_GxCxR)
  scores = _smear(p, scores.reshape(by_distance.shape), *seen)
  # The distances end with 0, which belongs at `slot`.
  scores += jnp.roll(by_distance, slot + 1, -1)
  weights_BxHxR = jax.nn.softmax(jnp.where(
      visible(*seen)[:, None], scores, -jnp.inf)).astype(config.dtype)
  mixed_GxC = jnp.einsum('gr,grc->gc', weights_BxHxR.reshape(
      -1, weights_BxHxR.shape[-1]), values_GxRxC)
  out_BxD = _rest(p, config, x_BxD, mixed_GxC.reshape(x_BxD.shape[0], -1))
  return out_BxD, keys_GxCxR, values_GxRxC


def _project(p, config, x):
  """Returns queries, keys and values [.., H, C] of x [.., D], and the scale."""
  source = _norm(p['norm'], x) if config.pre_lnorm else x
  shape = (*x.shape[:-1], 3, config.n_head, config.d_head)
  projected = quantize.product(source, p['qkv']).reshape(shape)
  return jnp.moveaxis(projected, -3, 0), config.d_head**-0.5


def _rest(p, config, x, mixed):
  """What comes after attention, on each token by itself."""
  out = x + quantize.product(mixed, p['output'])
  return _feed_forward(p['feed_forward'], config,
                       out if config.pre_lnorm else _norm(p['norm'], out))


def _feed_forward(p, config, x):
  def dense(q, x):
    return quantize.product(x, q['kernel']) + q['bias']

  h = _norm(p['norm'], x) if config.pre_lnorm else x
  out = x + dense(p['outer'], jax.nn.relu(dense(p['inner'], h)))
  return out if config.pre_lnorm else _norm(p['norm'], out)


def _norm(p, x):
  """Layer norm over the last axis, computed in float32."""
  y = x.astype(jnp.float32)
  y -= y.mean(-1, keepdims=True)
  y *= jax.lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + 1e-5)
  return (y * p['scale'] + p['bias']).astype(x.dtype)


@functools.partial(jax.jit, static_argnames='config',
                   donate_argnames=('keys_GxCxR', 'values_GxRxC'))
def prefill_layer(p, config, x_BxTxD, keys_GxCxR, values_GxRxC,
                  distances_HxRxC, slot, count_B, n_read):
  """One layer on a block of tokens, as `decode_layer` is on each.

  Args:
    p, config, distances_HxRxC: as for `decode_layer`.
    x_BxTxD: the tokens; the first `n_read` are to be read.
    keys_GxCxR, values_GxRxC: the rings, given up to this function.
    slot: of the oldest token in them.
    count_B: tokens read before.
    n_read: 1 .. T.

  Returns:
    (output [B, T, D], the two rings, with their oldest token in slot 0)
  """
  batch, length, _ = x_BxTxD.shape
  size = distances_HxRxC.shape[1]
  (q_BxTxHxC, k_BxTxHxC, v_BxTxHxC), scale = _project(p, config, x_BxTxD)

  def by_age(ring, new_BxTxHxC, axis):
    """Returns what is remembered, oldest first, then the block: R + T."""
    new_GxTxC = new_BxTxHxC.swapaxes(1, 2).reshape(-1, length, config.d_head)
    return jnp.concatenate(
        [jnp.roll(ring, -slot, axis), jnp.moveaxis(new_GxTxC, 1, axis)], axis)

  def queries(bias_HxC):
    return ((q_BxTxHxC + bias_HxC) * scale).swapaxes(1, 2)

  keys_GxCxK = by_age(keys_GxCxR, k_BxTxHxC, 2)
  values_GxKxC = by_age(values_GxRxC, v_BxTxHxC, 1)
  content = transformer_xl.einsum_float32(
      'gtc,gck->gtk', queries(p['content_bias']).reshape(
          -1, length, config.d_head), keys_GxCxK)
  position = transformer_xl.einsum_float32(
      'bhtc,hrc->bhtr', queries(p['position_bias']), distances_HxRxC)
  # No key farther than M is seen, but `shift` expects distances from R + T.
  position = transformer_xl.shift(jnp.pad(
      position, ((0, 0), (0, 0), (0, 0), (length + 1, 0))))
  distance_TxK = (size + np.arange(length)[:, None] -
                  np.arange(size + length))
  seen = (config, size, distance_TxK,
          count_B[:, None, None] + np.arange(1, length + 1)[:, None])
  scores = _smear(p, content.reshape(position.shape), *seen) + position
  weights = jax.nn.softmax(jnp.where(
      visible(*seen)[:, None], scores, -jnp.inf)).astype(config.dtype)
  mixed_GxTxC = jnp.einsum('gtk,gkc->gtc', weights.reshape(content.shape),
                           values_GxKxC)
  mixed_BxTxHxC = mixed_GxTxC.reshape(
      batch, config.n_head, length, config.d_head).swapaxes(1, 2)
  out_BxTxD = _rest(p, config, x_BxTxD,
                    mixed_BxTxHxC.reshape(batch, length, -1))
  newest = functools.partial(jax.lax.dynamic_slice_in_dim, start_index=n_read,
                             slice_size=size)
  return out_BxTxD, newest(keys_GxCxK, axis=2), newest(values_GxKxC, axis=1)
