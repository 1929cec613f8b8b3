"""Cached decoding: one token at a time, nothing of the past computed twice.

Each layer keeps the keys and values of the last R = M + 1 tokens in a ring, a
slot of which is overwritten by each new token; it thus sees itself and the M
tokens before, as the model does that is given one token at a time. What
distances contribute to attention is computed once.

Letters as in `lakhnes_jax.model`, and R as above. The caches are stored so that
attention runs along them in order: keys [B, H, C, R], values [B, H, R, C].
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from lakhnes_jax import events, model, sampling


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
    params: as `prepare` returns them.
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
  distances = tuple(
      jnp.einsum('rd,dhc->hcr', position_RxD, layer['position'])
      for layer in params['layers'])

  def empty(*shape):
    return tuple(jnp.zeros((batch, config.n_head, *shape), config.dtype)
                 for _ in range(config.n_layer))

  return Cache(empty(config.d_head, size), empty(size, config.d_head),
               distances, jnp.int32(0))


@functools.partial(jax.jit, static_argnums=1)
def prepare(params, config: model.ModelConfig):
  """Arranges parameters as decoding reads them, once for all calls.

  Layers by themselves, kernels as matrices in the dtype of the computation.

  Args:
    params: as `model.init_params` returns them.
    config: of the model.

  Returns:
    A dictionary of arrays on the device; the `params` of this module.
  """
  dtype = config.dtype

  def layer(p):
    attention, dense = p['attention'], p['feed_forward']
    return {
        'qkv': attention['qkv'].reshape(config.d_model, -1).astype(dtype),
        'output': attention['output'].reshape(
            -1, config.d_model).astype(dtype),
        'position': attention['position'].astype(dtype),
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
  """Reads one token of each song.

  Returns:
    (logits [B, V] float32 of the next token, cache)
  """
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
  """Reads L tokens of each song.

  Args:
    params: as `prepare` returns them.
    config: of the model.
    cache: of the tokens before.
    tokens_BxL: int32.

  Returns:
    (logits [B, L, V] float32 after each token, cache)
  """
  def body(cache, tokens_B):
    logits_BxV, cache = _step(params, config, cache, tokens_B)
    return cache, logits_BxV

  cache, logits_LxBxV = jax.lax.scan(body, cache, tokens_BxL.T)
  return jnp.swapaxes(logits_LxBxV, 0, 1), cache


class Guide(Protocol):
  """What steers generation; hashable, for it is compiled into the loop.

  Both methods are traced, on the whole batch. The state is a pytree of arrays
  with B on axis 0; its shapes and dtypes stay. Whatever differs from song to
  song (say, the events that are given) belongs into the state, not into the
  guide, so that one compilation serves all.
  """

  def restrict(self, state, logits_BxV):
    """Returns logits, -inf where a token is not allowed.

    Comes before temperature, top-k and top-p. Something must be allowed.
    """

  def choose(self, state, tokens_B):
    """Returns (tokens [B] int32, state) to go on with.

    The tokens are those drawn, or others in their place; they are what is read
    next, and counted.
    """


@dataclasses.dataclass(frozen=True)
class _Free:
  """Anything goes; the state stays as it is."""

  def restrict(self, state, logits_BxV):
    return logits_BxV

  def choose(self, state, tokens_B):
    return tokens_B, state


FREE: Guide = _Free()


class _Loop(NamedTuple):
  """What one draw hands to the next."""
  logits_BxV: Any
  cache: Cache
  state: Any
  ended_B: Any
  number: Any
  tokens_LxB: Any
  nll_LxB: Any


@functools.partial(jax.jit, static_argnames=('config', 'guide', 'chunk'),
                   donate_argnames=('cache',))
def _chunk(params, config, cache, logits_BxV, keys_B, state, ended_B, first,
           length, settings, *, guide, chunk):
  """Draws `length` tokens, at most `chunk`; see `generate`."""
  def unfinished(loop):
    return (loop.number < length) & ~loop.ended_B.all()

  def body(loop):
    number = loop.number
    allowed_BxV = sampling.restrict(
        guide.restrict(loop.state, loop.logits_BxV), **settings)
    tokens_B = sampling.draw(allowed_BxV, jax.vmap(
        jax.random.fold_in, (0, None))(keys_B, first + number))
    tokens_B, state = guide.choose(loop.state, tokens_B)
    tokens_B = jnp.where(loop.ended_B, events.START, tokens_B)
    nll_B = jnp.where(loop.ended_B, 0, model.nll(loop.logits_BxV, tokens_B))
    ended_B = loop.ended_B | (tokens_B == events.START)
    return _Loop(*_step(params, config, loop.cache, tokens_B), state, ended_B,
                 number + 1, loop.tokens_LxB.at[number].set(tokens_B),
                 loop.nll_LxB.at[number].set(nll_B))

  batch = len(logits_BxV)
  return jax.lax.while_loop(unfinished, body, _Loop(
      logits_BxV, cache, state, ended_B, jnp.int32(0),
      jnp.full((chunk, batch), events.START, jnp.int32),
      jnp.zeros((chunk, batch))))


def generate(params, config: model.ModelConfig, cache: Cache, logits_BxV,
             keys_B, length: int, *, guide: Guide = FREE, state: Any = (),
             temperature: float = 1., top_k: int = 0, top_p: float = 1.,
             exclude_start: bool = True, first: int = 0, chunk: int = 128,
             progress: Callable[[int], Any] = lambda tokens: None):
  """Draws tokens, each read before the next is drawn.

  Compiled anew for another config, guide, chunk, B or M, and for nothing else.

  Args:
    params: as `prepare` returns them.
    config: of the model.
    cache: of all tokens read so far; given up to this function.
    logits_BxV: of the next token, as `prefill` returns them.
    keys_B: a PRNG key a song, so that its draws depend on nothing else.
    length: tokens to draw.
    guide: forbids tokens and puts others in their place.
    state: of the guide at the next token.
    temperature, top_k, top_p: see `sampling.restrict`.
    exclude_start: never draw <S>. A song has ended at the first <S>, drawn or
      put there by the guide; the rest of its row is <S> at a likelihood of 1.
      Once all have ended nothing more is read.
    first: number of the first draw, where an earlier call is gone on with.
    chunk: tokens between two calls of `progress`.
    progress: called with the number of tokens drawn so far.

  Returns:
    (tokens [B, length] int32 and their negative log likelihoods in nats by the
    model alone, before any restriction, both numpy; logits of the next token;
    cache; state)

  Raises:
    ValueError: a setting is out of range.
  """
  sampling.check(temperature, top_k, top_p)
  settings = {
      'temperature': np.float32(temperature), 'top_k': np.int32(top_k),
      'top_p': np.float32(top_p), 'exclude_start': np.bool_(exclude_start)}
  batch = len(logits_BxV)
  tokens_BxL = np.full((batch, length), events.START, np.int32)
  nll_BxL = np.zeros((batch, length), np.float32)
  ended_B = jnp.zeros(batch, bool)
  for start in range(0, length, chunk):
    end = min(start + chunk, length)
    loop = _chunk(
        params, config, cache, logits_BxV, keys_B, state, ended_B,
        np.int32(first + start), np.int32(end - start), settings, guide=guide,
        chunk=chunk)
    logits_BxV, cache, state, ended_B = loop[:4]
    tokens_BxL[:, start:end] = np.asarray(loop.tokens_LxB)[:end - start].T
    nll_BxL[:, start:end] = np.asarray(loop.nll_LxB)[:end - start].T
    progress(end)
    if np.asarray(ended_B).all():
      break
  return tokens_BxL, nll_BxL, logits_BxV, cache, state
