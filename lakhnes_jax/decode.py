"""Cached decoding: nothing of the past is computed twice.

Each layer keeps the keys and values of the last R = M + 1 tokens in a ring, a
slot of which is overwritten by each new token; it thus sees itself and the M
tokens before, as the model does that is given one token at a time. What
distances contribute to attention is computed once. Tokens that are known
beforehand are read in blocks of T, to the same effect.

Letters as in `lakhnes_jax.model`, and R and T as above; G = B H.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from lakhnes_jax import events, model, sampling

_BLOCK = 1024  # Tokens of all songs that are read at once, about.


class Cache(NamedTuple):
  """What decoding carries from token to token; the tuples have N entries.

  Attributes:
    keys, values: [G, R, C] each, by slot.
    distances: [H, R, C] each; projected embeddings of distance M .. 0.
    slot: int32 scalar, the slot to be written next; it holds the oldest token.
    count_B: int32, tokens read of each song.
  """
  keys: tuple[Any, ...]
  values: tuple[Any, ...]
  distances: tuple[Any, ...]
  slot: Any
  count_B: Any


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
  distances = tuple(_distances(position_RxD, layer['position'])
                    for layer in params['layers'])

  def empty():
    return tuple(
        jnp.zeros((batch * config.n_head, size, config.d_head), config.dtype)
        for _ in range(config.n_layer))

  return Cache(empty(), empty(), distances, jnp.int32(0),
               jnp.zeros(batch, jnp.int32))


@jax.jit
def _distances(position_RxD, kernel_DxHxC):
  return jnp.einsum('rd,dhc->hrc', position_RxD, kernel_DxHxC)


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
        'content_bias': params['content_bias'].astype(dtype),
        'position_bias': params['position_bias'].astype(dtype),
        'norm': attention['norm'],
        'feed_forward': {'norm': dense['norm'], **jax.tree.map(
            lambda x: x.astype(dtype),
            {name: dense[name] for name in ('inner', 'outer')})},
    }

  return {
      'embedding': params['embedding'].astype(dtype),
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
  size = cache.values[0].shape[1]
  # Slot s was written (slot - s) % R tokens ago.
  distance_R = (cache.slot - jnp.arange(size)) % size
  visible_BxR = _visible(config, size, distance_R, cache.count_B[:, None] + 1)
  x_BxD = params['scaled_embedding'][tokens_B].astype(config.dtype)
  keys, values = [], []
  for i, layer in enumerate(params['layers']):
    x_BxD, key, value = _attend(
        layer, config, x_BxD, cache.keys[i], cache.values[i],
        cache.distances[i], cache.slot, visible_BxR)
    x_BxD = _feed_forward(layer['feed_forward'], config, x_BxD)
    keys.append(key)
    values.append(value)
  return _logits(params, x_BxD), Cache(
      tuple(keys), tuple(values), cache.distances, (cache.slot + 1) % size,
      cache.count_B + 1)


def _visible(config, size, distance, count):
  """Says which keys a query sees that is the last of `count` tokens."""
  reach = size - 1 if config.same_length else size
  # A query before the beginning sees itself: nothing at all would be NaN.
  return (distance >= 0) & (distance < reach) & (
      (distance < count) | (distance == 0))


def _attend(p, config, x_BxD, keys_GxRxC, values_GxRxC, distances_HxRxC, slot,
            visible_BxR):
  """One attention block; returns its output and the two rings."""
  (q_BxHxC, k_BxHxC, v_BxHxC), scale = _project(p, config, x_BxD)
  flat = (-1, config.d_head)
  keys_GxRxC = jax.lax.dynamic_update_slice(
      keys_GxRxC, k_BxHxC.reshape(flat)[:, None], (0, slot, 0))
  values_GxRxC = jax.lax.dynamic_update_slice(
      values_GxRxC, v_BxHxC.reshape(flat)[:, None], (0, slot, 0))
  by_distance = jnp.einsum(
      'bhc,hrc->bhr', (q_BxHxC + p['position_bias']) * scale,
      distances_HxRxC, preferred_element_type=jnp.float32)
  scores = jnp.einsum(
      'gc,grc->gr', ((q_BxHxC + p['content_bias']) * scale).reshape(flat),
      keys_GxRxC, preferred_element_type=jnp.float32)
  # The distances end with 0, which belongs at `slot`.
  scores = scores.reshape(by_distance.shape) + jnp.roll(
      by_distance, slot + 1, -1)
  weights_BxHxR = jax.nn.softmax(jnp.where(
      visible_BxR[:, None], scores, -jnp.inf)).astype(config.dtype)
  mixed_GxC = jnp.einsum('gr,grc->gc', weights_BxHxR.reshape(
      -1, weights_BxHxR.shape[-1]), values_GxRxC)
  out_BxD = _output(p, config, x_BxD, mixed_GxC.reshape(x_BxD.shape[0], -1))
  return out_BxD, keys_GxRxC, values_GxRxC


def _project(p, config, x):
  """Returns queries, keys and values [.., H, C] of x [.., D], and the scale."""
  source = _norm(p['norm'], x) if config.pre_lnorm else x
  shape = (*x.shape[:-1], 3, config.n_head, config.d_head)
  return (jnp.moveaxis((source @ p['qkv']).reshape(shape), -3, 0),
          config.d_head**-0.5)


def _output(p, config, x, mixed):
  out = x + mixed @ p['output']
  return out if config.pre_lnorm else _norm(p['norm'], out)


def _feed_forward(p, config, x):
  def dense(q, x):
    return x @ q['kernel'] + q['bias']

  h = _norm(p['norm'], x) if config.pre_lnorm else x
  out = x + dense(p['outer'], jax.nn.relu(dense(p['inner'], h)))
  return out if config.pre_lnorm else _norm(p['norm'], out)


def _norm(p, x):
  """Layer norm over the last axis, computed in float32."""
  y = x.astype(jnp.float32)
  y -= y.mean(-1, keepdims=True)
  y *= jax.lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + 1e-5)
  return (y * p['scale'] + p['bias']).astype(x.dtype)


def _logits(params, x):
  return jnp.einsum(
      '...d,vd->...v', x, params['embedding'],
      preferred_element_type=jnp.float32) + params['output_bias']


def prefill(params, config: model.ModelConfig, cache: Cache, tokens_BxL, *,
            logits_BxV=None, lengths_B=None):
  """Reads known tokens, in blocks; as if one by one.

  Compiled anew for another config, B or M, and for a few lengths of blocks.

  Args:
    params: as `prepare` returns them.
    config: of the model.
    cache: of the tokens before; given up to this function.
    tokens_BxL: int32, L of 1 or more.
    logits_BxV: of the first token, where an earlier call is gone on with.
    lengths_B: where the songs begin: of row b the last lengths_B[b] tokens are
      read, 1 or more; only with a new cache.

  Returns:
    (negative log likelihoods [B, L] in nats, numpy, 0 where a token is not
    read, and at first tokens without `logits_BxV`; logits [B, V] float32 of
    the next token; cache)
  """
  tokens_BxL = np.asarray(tokens_BxL, np.int32)
  batch, length = tokens_BxL.shape
  known_BxL = np.ones((batch, length), bool)
  if lengths_B is not None:
    skipped_B = length - np.asarray(lengths_B)
    known_BxL = np.arange(length) > skipped_B[:, None]
    cache = cache._replace(count_B=cache.count_B - skipped_B)
  if logits_BxV is None:
    known_BxL[:, 0] = False
    logits_BxV = jnp.zeros((batch, config.n_token), jnp.float32)
  most = max(16, min(512, _BLOCK // batch))
  nlls = []
  for start in range(0, length, most):
    part_BxT = tokens_BxL[:, start:start + most]
    n_read = part_BxT.shape[1]
    part_BxT = np.pad(part_BxT, ((0, 0), (0, min(
        most, 1 << (n_read - 1).bit_length()) - n_read)))
    x_BxTxD = params['scaled_embedding'][part_BxT].astype(config.dtype)
    keys, values = [], []
    for i, layer in enumerate(params['layers']):
      x_BxTxD, key, value = _read(
          layer, config, x_BxTxD, cache.keys[i], cache.values[i],
          cache.distances[i], cache.slot, cache.count_B, np.int32(n_read))
      keys.append(key)
      values.append(value)
    nll_BxT, logits_BxV = _judge(params, x_BxTxD, logits_BxV, part_BxT,
                                 np.int32(n_read))
    nlls.append(nll_BxT[:, :n_read])
    cache = Cache(tuple(keys), tuple(values), cache.distances, jnp.int32(0),
                  cache.count_B + n_read)
  return np.concatenate(nlls, 1) * known_BxL, logits_BxV, cache


@functools.partial(jax.jit, static_argnames='config',
                   donate_argnames=('keys_GxRxC', 'values_GxRxC'))
def _read(p, config, x_BxTxD, keys_GxRxC, values_GxRxC, distances_HxRxC, slot,
          count_B, n_read):
  """One layer on a block, of which the first `n_read` tokens are to be read.

  The rings come back with their oldest token in slot 0.
  """
  batch, length, _ = x_BxTxD.shape
  size = distances_HxRxC.shape[1]
  (q_BxTxHxC, k_BxTxHxC, v_BxTxHxC), scale = _project(p, config, x_BxTxD)

  def by_age(ring_GxRxC, new_BxTxHxC):
    """[G, R + T, C]: what is remembered, oldest first, then the block."""
    return jnp.concatenate([
        jnp.roll(ring_GxRxC, -slot, 1),
        new_BxTxHxC.swapaxes(1, 2).reshape(-1, length, config.d_head)], 1)

  def queries(bias_HxC):
    return ((q_BxTxHxC + bias_HxC) * scale).swapaxes(1, 2)

  keys, values = by_age(keys_GxRxC, k_BxTxHxC), by_age(values_GxRxC, v_BxTxHxC)
  content = jnp.einsum(
      'gtc,gkc->gtk', queries(p['content_bias']).reshape(
          -1, length, config.d_head),
      keys, preferred_element_type=jnp.float32)
  position = jnp.einsum(
      'bhtc,hrc->bhtr', queries(p['position_bias']), distances_HxRxC,
      preferred_element_type=jnp.float32)
  # No key farther than M is seen, but `shift` expects distances from R + T.
  position = model.shift(jnp.pad(
      position, ((0, 0), (0, 0), (0, 0), (length + 1, 0))))
  distance_TxK = (size + np.arange(length)[:, None] -
                  np.arange(size + length))
  visible_BxTxK = _visible(
      config, size, distance_TxK,
      count_B[:, None, None] + np.arange(1, length + 1)[:, None])
  weights = jax.nn.softmax(jnp.where(
      visible_BxTxK[:, None], content.reshape(position.shape) + position,
      -jnp.inf)).astype(config.dtype)
  mixed_GxTxC = jnp.einsum('gtk,gkc->gtc', weights.reshape(content.shape),
                           values)
  mixed_BxTxHxC = mixed_GxTxC.reshape(
      batch, config.n_head, length, config.d_head).swapaxes(1, 2)
  out_BxTxD = _feed_forward(p['feed_forward'], config, _output(
      p, config, x_BxTxD, mixed_BxTxHxC.reshape(batch, length, -1)))
  return out_BxTxD, *(
      jax.lax.dynamic_slice_in_dim(x, n_read, size, 1) for x in (keys, values))


@jax.jit
def _judge(params, x_BxTxD, logits_BxV, tokens_BxT, n_read):
  """Returns the likelihood of each token and the logits after the last."""
  logits_BxTxV = _logits(params, x_BxTxD)
  before_BxTxV = jnp.concatenate([logits_BxV[:, None], logits_BxTxV[:, :-1]], 1)
  return model.nll(before_BxTxV, tokens_BxT), jax.lax.dynamic_index_in_dim(
      logits_BxTxV, n_read - 1, 1, keepdims=False)


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
