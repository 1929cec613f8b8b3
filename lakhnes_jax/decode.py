"""Cached decoding: one token at a time, nothing of the past computed twice.

Each layer keeps the keys and values of the last R = M + 1 tokens in a ring, a
slot of which is overwritten by each new token; it thus sees itself and the M
tokens before, as the model does that is given one token at a time. What
distances contribute to attention is computed once.

Letters as in `lakhnes_jax.model`, and R as above. The caches are stored so that
attention runs along them in order: keys [B, H, C, R], values [B, H, R, C].
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lakhnes_jax import model


class Cache(NamedTuple):
  """What decoding carries from token to token; the tuples have N entries.

  Attributes:
    keys: [B, H, C, R] each; token t is in slot t % R.
    values: [B, H, R, C] each.
    distances: [H, C, R] each; projected embeddings of distance M .. 0.
    count: int32 scalar, tokens read.
  """
  keys: tuple[Any, ...]
  values: tuple[Any, ...]
  distances: tuple[Any, ...]
  count: Any


def init_cache(config: model.ModelConfig, params, batch: int,
               mem_len: int) -> Cache:
  """Makes the cache of `batch` songs that have not begun.

  Args:
    config: of the model.
    params: its parameters.
    batch: B.
    mem_len: M, tokens that a token sees besides itself.

  Raises:
    ValueError: `same_length` without memory.
  """
  if config.same_length and not mem_len:
    raise ValueError('same_length needs a memory: mem_len is 0')
  size = mem_len + 1
  position_RxD = model.embed_distances(
      config, np.arange(mem_len, -1, -1)).astype(config.dtype)
  kernel_NxDxHxC = params['layers']['attention']['position']
  distances = tuple(
      jnp.einsum('rd,dhc->hcr', position_RxD,
                 jnp.asarray(kernel_NxDxHxC[i], config.dtype))
      for i in range(config.n_layer))

  def empty(*shape):
    return tuple(jnp.zeros((batch, config.n_head, *shape), config.dtype)
                 for _ in range(config.n_layer))

  return Cache(empty(config.d_head, size), empty(size, config.d_head),
               distances, jnp.int32(0))


def step(params, config: model.ModelConfig, cache: Cache, tokens_B):
  """Reads one token of each song.

  Returns:
    (logits [B, V] float32 of the next token, cache)
  """
  return _step(_split(params, config), config, cache, tokens_B)


def _split(params, config: model.ModelConfig):
  """Parameters as `_step` reads them, so that a loop need not slice or cast.

  Layers by themselves, kernels as matrices in the dtype of the computation.
  """
  dtype = config.dtype

  def layer(p):
    attention, dense = p['attention'], p['feed_forward']
    return {
        'qkv': attention['qkv'].reshape(config.d_model, -1).astype(dtype),
        'output': attention['output'].reshape(
            -1, config.d_model).astype(dtype),
        'norm': attention['norm'],
        'feed_forward': {'norm': dense['norm'], **jax.tree.map(
            lambda x: x.astype(dtype),
            {name: dense[name] for name in ('inner', 'outer')})},
    }

  return {
      **{name: params[name].astype(dtype) for name in (
          'embedding', 'content_bias', 'position_bias')},
      'scaled_embedding': params['embedding'] * config.d_model**0.5,
      'output_bias': params['output_bias'],
      'layers': [
          layer(jax.tree.map(lambda leaf, i=i: leaf[i], params['layers']))
          for i in range(config.n_layer)],
  }


def _step(params, config, cache: Cache, tokens_B):
  """`step` on what `_split` returns."""
  size = cache.values[0].shape[2]
  slot = cache.count % size
  # Slot s was written (slot - s) % R tokens ago.
  distance_R = (slot - jnp.arange(size)) % size
  reach = size - 1 if config.same_length else size
  visible_R = (distance_R <= cache.count) & (distance_R < reach)
  x_BxD = params['scaled_embedding'][tokens_B].astype(config.dtype)
  keys, values = [], []
  for i, layer in enumerate(params['layers']):
    x_BxD, key, value = _attend(
        layer, params, config, x_BxD, cache.keys[i],
        cache.values[i], cache.distances[i], slot, visible_R)
    x_BxD = _feed_forward(layer['feed_forward'], config, x_BxD)
    keys.append(key)
    values.append(value)
  logits_BxV = jnp.einsum(
      'bd,vd->bv', x_BxD, params['embedding'],
      preferred_element_type=jnp.float32) + params['output_bias']
  return logits_BxV, Cache(tuple(keys), tuple(values), cache.distances,
                           cache.count + 1)


def _attend(p, params, config, x_BxD, keys_BxHxCxR, values_BxHxRxC,
            distances_HxCxR, slot, visible_R):
  """One attention block; returns its output and the two rings."""
  heads = (x_BxD.shape[0], config.n_head, config.d_head)
  source_BxD = _norm(p['norm'], x_BxD) if config.pre_lnorm else x_BxD
  q_BxHxC, k_BxHxC, v_BxHxC = (
      part.reshape(heads) for part in jnp.split(source_BxD @ p['qkv'], 3, -1))
  keys_BxHxCxR = jax.lax.dynamic_update_slice(
      keys_BxHxCxR, k_BxHxC[..., None], (0, 0, 0, slot))
  values_BxHxRxC = jax.lax.dynamic_update_slice(
      values_BxHxRxC, v_BxHxC[:, :, None], (0, 0, slot, 0))
  scale = config.d_head**-0.5
  by_distance = jnp.einsum(
      'bhc,hcr->bhr',
      (q_BxHxC + params['position_bias']) * scale,
      distances_HxCxR, preferred_element_type=jnp.float32)
  scores = jnp.einsum(
      'bhc,bhcr->bhr',
      (q_BxHxC + params['content_bias']) * scale,
      keys_BxHxCxR, preferred_element_type=jnp.float32)
  # The distances end with 0, which belongs at `slot`.
  scores += jnp.roll(by_distance, slot + 1, -1)
  weights_BxHxR = jax.nn.softmax(
      jnp.where(visible_R, scores, -jnp.inf)).astype(config.dtype)
  mixed_BxHxC = jnp.einsum('bhr,bhrc->bhc', weights_BxHxR, values_BxHxRxC)
  out_BxD = x_BxD + mixed_BxHxC.reshape(heads[0], -1) @ p['output']
  if not config.pre_lnorm:
    out_BxD = _norm(p['norm'], out_BxD)
  return out_BxD, keys_BxHxCxR, values_BxHxRxC


def _feed_forward(p, config, x_BxD):
  def dense(q, x):
    return x @ q['kernel'] + q['bias']

  h_BxD = _norm(p['norm'], x_BxD) if config.pre_lnorm else x_BxD
  out_BxD = x_BxD + dense(p['outer'], jax.nn.relu(dense(p['inner'], h_BxD)))
  return out_BxD if config.pre_lnorm else _norm(p['norm'], out_BxD)


def _norm(p, x_BxD):
  """Layer norm, computed in float32."""
  x = x_BxD.astype(jnp.float32)
  x -= x.mean(-1, keepdims=True)
  x *= jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-5)
  return (x * p['scale'] + p['bias']).astype(x_BxD.dtype)


@functools.partial(jax.jit, static_argnums=1)
def prefill(params, config: model.ModelConfig, cache: Cache, tokens_BxL):
  """Reads L tokens of each song, each as `step` does.

  Returns:
    (logits [B, L, V] float32 after each token, cache)
  """
  params = _split(params, config)

  def body(cache, tokens_B):
    logits_BxV, cache = _step(params, config, cache, tokens_B)
    return cache, logits_BxV

  cache, logits_LxBxV = jax.lax.scan(body, cache, tokens_BxL.T)
  return jnp.swapaxes(logits_LxBxV, 0, 1), cache


@functools.partial(jax.jit, static_argnums=(1, 6, 7), donate_argnums=2)
def _chunk(params, config, cache, logits_BxV, keys_B, first, length, choose):
  """Generates `length` tokens; see `generate`."""
  params = _split(params, config)

  def body(carry, number):
    logits_BxV, cache = carry
    step_keys_B = jax.vmap(jax.random.fold_in, (0, None))(keys_B, number)
    tokens_B = choose(logits_BxV, step_keys_B).astype(jnp.int32)
    nll_B = model.nll(logits_BxV, tokens_B)
    return _step(params, config, cache, tokens_B), (tokens_B, nll_B)

  (logits_BxV, cache), (tokens_LxB, nll_LxB) = jax.lax.scan(
      body, (logits_BxV, cache), first + jnp.arange(length))
  return tokens_LxB.T, nll_LxB.T, logits_BxV, cache


def generate(params, config: model.ModelConfig, cache: Cache, logits_BxV,
             keys_B, length: int, choose: Callable[[Any, Any], Any], *,
             first: int = 0, chunk: int = 128,
             progress: Callable[[int], Any] = lambda tokens: None):
  """Draws tokens, each read before the next is drawn.

  Args:
    params: on the device.
    config: of the model.
    cache: of all tokens read so far; given up to this function.
    logits_BxV: of the next token, as `step` and `prefill` return them.
    keys_B: a PRNG key a song, so that its draws depend on nothing else.
    length: tokens to draw.
    choose: (logits [B, V], keys [B]) -> tokens [B], traceable; the same
      function object is compiled once.
    first: number of the first draw, where an earlier call is gone on with.
    chunk: tokens between two calls of `progress`.
    progress: called with the number of tokens drawn so far.

  Returns:
    (tokens [B, length] int32 and their negative log likelihoods in nats before
    `choose` changed anything, both numpy; logits of the next token; cache)
  """
  tokens, nlls = [], []
  done = 0
  while done < length:
    size = min(chunk, length - done)
    drawn, nll, logits_BxV, cache = _chunk(
        params, config, cache, logits_BxV, keys_B, jnp.int32(first + done),
        size, choose)
    tokens.append(np.asarray(drawn))
    nlls.append(np.asarray(nll))
    done += size
    progress(done)
  batch = len(logits_BxV)
  return (np.concatenate([np.empty((batch, 0), np.int32), *tokens], 1),
          np.concatenate([np.empty((batch, 0), np.float32), *nlls], 1),
          logits_BxV, cache)
