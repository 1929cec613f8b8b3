"""Cached decoding: nothing of the past is computed twice.

Each layer keeps the keys and values of the last tokens in a ring, so that a
token sees itself and the M before, as the model does that is given one token at
a time. What distances contribute to attention is computed once. Tokens that
are known beforehand are read in blocks.

Letters as in `lakhnes_jax.model.kv_cache`.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from lakhnes_jax import events, ranges
from lakhnes_jax.generation import sampling
from lakhnes_jax.model import (
    kv_cache,
    language_model,
    quantize,
    transformer_xl,
)
from lakhnes_jax.model.language_model import LanguageModel

_BLOCK = 1024  # Tokens of all songs that are read at once, about.


class Cache(NamedTuple):
  """What decoding carries from token to token; the tuples have N entries.

  Attributes:
    keys: [G, C, R] each; attention runs along either ring in order.
    values: [G, R, C] each.
    distances: [H, R, C] each; projected embeddings of distance M .. 0.
    slot: int32 scalar, the slot to be written next; it holds the oldest token.
    count_B: int32, tokens read of each song.
    features: as in `language_model.State`.
  """
  keys: tuple[Any, ...]
  values: tuple[Any, ...]
  distances: tuple[Any, ...]
  slot: Any
  count_B: Any
  features: dict[str, Any]


def init_cache(model: LanguageModel, params, batch: int,
               mem_len: int) -> Cache:
  """Makes the cache of `batch` songs that have not begun.

  Args:
    model: what the parameters are of.
    params: as `to_decode_params` returns them.
    batch: B.
    mem_len: M, tokens that a token sees besides itself.

  Raises:
    ValueError: the model needs a memory, and M is 0.
  """
  config = model.config
  transformer_xl.check_memory(config, mem_len)
  size = mem_len + 1
  position_RxD = transformer_xl.embed_distances(
      config, np.arange(mem_len, -1, -1)).astype(config.dtype)
  distances = tuple(_distances(position_RxD, layer['position'])
                    for layer in params['layers'])

  def empty(*shape):
    return tuple(jnp.zeros((batch * config.n_head, *shape), config.dtype)
                 for _ in range(config.n_layer))

  return Cache(empty(config.d_head, size), empty(size, config.d_head),
               distances, jnp.int32(0), jnp.zeros(batch, jnp.int32),
               model.features.init_state(batch))


@jax.jit
def _distances(position_RxD, kernel_DxHxC):
  return jnp.einsum('rd,dhc->hrc', position_RxD, kernel_DxHxC)


@functools.partial(jax.jit, static_argnames=('model', 'int8'))
def to_decode_params(model: LanguageModel, params, *, int8: bool = False):
  """Arranges parameters as decoding reads them, once for all calls.

  Layers by themselves, kernels as matrices in the dtype of the computation.

  Args:
    model: what the parameters are of.
    params: as `LanguageModel.init_params` returns them.
    int8: round kernels to 8 bits; see `lakhnes_jax.model.quantize`.

  Returns:
    A dictionary of arrays on the device; the `params` of this module. Those of
    embeddings and features stay as they are.
  """
  config = model.config
  dtype = config.dtype

  def matrix(kernel, *shape):
    kernel = kernel.reshape(shape)
    return quantize.kernel(kernel) if int8 else kernel.astype(dtype)

  def layer(p):
    attention, dense = p['attention'], p['feed_forward']
    return {
        'qkv': matrix(attention['qkv'], config.d_model, -1),
        'output': matrix(attention['output'], -1, config.d_model),
        'position': attention['position'].astype(dtype),
        'content_bias': params['content_bias'].astype(dtype),
        'position_bias': params['position_bias'].astype(dtype),
        'norm': attention['norm'],
        **({'smear': attention['smear']} if config.smear_keys else {}),
        'feed_forward': {'norm': dense['norm'], **{
            name: {'kernel': matrix(dense[name]['kernel'],
                                    *dense[name]['kernel'].shape),
                   'bias': dense[name]['bias'].astype(dtype)}
            for name in ('inner', 'outer')}},
    }

  return {
      **{name: leaf for name, leaf in params.items()
         if name not in ('layers', 'content_bias', 'position_bias')},
      'output_embedding': params['embedding'].astype(dtype),
      'layers': [
          layer(jax.tree.map(lambda leaf, i=i: leaf[i], params['layers']))
          for i in range(config.n_layer)],
  }


def _step(model: LanguageModel, params, cache: Cache, tokens_B):
  """Reads one token of each song.

  Returns:
    (logits [B, V] float32 of the next token, cache)
  """
  size = cache.keys[0].shape[2]
  x_Bx1xD, signals, features = _embed(
      model, params, cache.features, tokens_B[:, None], 1)
  x_BxD = x_Bx1xD[:, 0]
  keys, values = [], []
  for i, layer in enumerate(params['layers']):
    x_BxD, key, value = kv_cache.decode_layer(
        layer, model.config, x_BxD, cache.keys[i], cache.values[i],
        cache.distances[i], cache.slot, cache.count_B)
    keys.append(key)
    values.append(value)
  logits_Bx1xV = _logits(model, params, x_BxD[:, None], signals)
  return logits_Bx1xV[:, 0], Cache(
      tuple(keys), tuple(values), cache.distances, (cache.slot + 1) % size,
      cache.count_B + 1, features)


@functools.partial(jax.jit, static_argnames='model')
def _embed(model, params, features, tokens_BxT, n_read):
  """Embeds tokens, of which the first `n_read` are to be read.

  Returns:
    ([B, T, D], signals of the features, their states to go on with)
  """
  signals, features = model.features.observe(features, tokens_BxT, n_read)
  x_BxTxD = model.embed(params, tokens_BxT, signals)
  return x_BxTxD.astype(model.config.dtype), signals, features


def _logits(model, params, x_BxTxD, signals):
  logits_BxTxV = transformer_xl.einsum_float32(
      'btd,vd->btv', x_BxTxD, params['output_embedding']
  ) + params['output_bias']
  return logits_BxTxV + model.features.logit_bias(params, signals, x_BxTxD)


def prefill(model: LanguageModel, params, cache: Cache, tokens_BxL, *,
            logits_BxV=None, lengths_B=None):
  """Reads known tokens, in blocks; as if one by one.

  Compiled anew for another model, B or M, and for a few lengths of blocks.

  Args:
    model: what the parameters are of.
    params: as `to_decode_params` returns them.
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
    tokens_BxL = np.where(  # Nobody plays before the beginning.
        np.arange(length) < skipped_B[:, None], events.BOS_EOS, tokens_BxL)
  if logits_BxV is None:
    known_BxL[:, 0] = False
    logits_BxV = jnp.zeros((batch, model.config.n_token), jnp.float32)
  most = max(16, min(512, _BLOCK // batch))
  nlls = []
  for start in range(0, length, most):
    part_BxT = tokens_BxL[:, start:start + most]
    n_read = part_BxT.shape[1]
    part_BxT = np.pad(part_BxT, ((0, 0), (0, min(
        most, 1 << (n_read - 1).bit_length()) - n_read)))
    x_BxTxD, signals, features = _embed(
        model, params, cache.features, part_BxT, np.int32(n_read))
    keys, values = [], []
    for i, layer in enumerate(params['layers']):
      x_BxTxD, key, value = kv_cache.prefill_layer(
          layer, model.config, x_BxTxD, cache.keys[i], cache.values[i],
          cache.distances[i], cache.slot, cache.count_B, np.int32(n_read))
      keys.append(key)
      values.append(value)
    nll_BxT, logits_BxV = _block_nll(
        model, params, x_BxTxD, signals, logits_BxV, part_BxT,
        np.int32(n_read))
    nlls.append(nll_BxT[:, :n_read])
    cache = Cache(tuple(keys), tuple(values), cache.distances, jnp.int32(0),
                  cache.count_B + n_read, features)
  return np.concatenate(nlls, 1) * known_BxL, logits_BxV, cache


@functools.partial(jax.jit, static_argnames='model')
def _block_nll(model, params, x_BxTxD, signals, logits_BxV, tokens_BxT, n_read):
  """Returns the likelihood of each token and the logits after the last."""
  logits_BxTxV = _logits(model, params, x_BxTxD, signals)
  before_BxTxV = jnp.concatenate(
      [logits_BxV[:, None], logits_BxTxV[:, :-1]], 1)
  return (language_model.nll(before_BxTxV, tokens_BxT),
          jax.lax.dynamic_index_in_dim(
              logits_BxTxV, n_read - 1, 1, keepdims=False))


class Constraint(Protocol):
  """What steers generation; hashable, for it is compiled into the loop.

  Both methods are traced, on the whole batch. The state is a pytree of arrays
  with B on axis 0; its shapes and dtypes stay. Whatever differs from song to
  song (say, the events that are given) belongs into the state, not into the
  constraint, so that one compilation serves all.
  """

  def process_logits(self, state, logits_BxV):
    """Returns logits, -inf where a token is not allowed.

    Comes before temperature, top-k and top-p. Something must be allowed.
    """

  def advance(self, state, tokens_B):
    """Returns (tokens [B] int32, state) to go on with.

    The tokens are those drawn, or others in their place; they are what is read
    next, and counted.
    """


@dataclasses.dataclass(frozen=True)
class _Unconstrained:
  """Anything goes; the state stays as it is."""

  def process_logits(self, state, logits_BxV):
    return logits_BxV

  def advance(self, state, tokens_B):
    return tokens_B, state


UNCONSTRAINED: Constraint = _Unconstrained()


class Contrast(NamedTuple):
  """What the same model would write that has forgotten more.

  A token gains `weight` times the log of how much likelier it is by all that is
  remembered than by the last tokens alone. So a song keeps more to its own key,
  figures and rhythms, where a small model uses some of each that it knows.

  Source: context-aware decoding (Shi et al., "Trusting Your Evidence:
  Hallucinate Less with Context-aware Decoding", NAACL 2024), whose context is
  a document, here the song.

  Attributes:
    logits_BxV, cache: as `prefill` returns them with a shorter memory.
    weight: float32 scalar; 0 changes nothing.
  """
  logits_BxV: Any
  cache: Cache
  weight: Any

  def process_logits(self, logits_BxV):
    """Returns the log of p (p / p_short)^weight, of logits of p."""
    logits_BxV = jax.nn.log_softmax(logits_BxV)
    return logits_BxV + self.weight * (
        logits_BxV - jax.nn.log_softmax(self.logits_BxV))


class Songs(NamedTuple):
  """Songs that are being written: what one draw hands to the next.

  Attributes:
    logits_BxV: of the next token, as `prefill` returns them.
    cache: of all tokens read so far.
    keys_B: a PRNG key a song, so that its draws depend on nothing else.
    state: of the constraint at the next token.
    contrast: comes before all other restrictions; of the same tokens as
      `cache`. Or None.
    number_B: int32, of the next draw.
    ended_B: bool; of these nothing more is drawn.
  """
  logits_BxV: Any
  cache: Cache
  keys_B: Any
  state: Any
  contrast: Contrast | None
  number_B: Any
  ended_B: Any


def _map_songs(function: Callable[..., Any], *reads: tuple[Any, Cache]
              ) -> tuple[Any, Cache]:
  """Maps what there is of each song in (logits, cache), of one or several.

  Args:
    function: called with the axis of the songs, on which each has one entry or
      H, and an array of each.
    *reads: as `prefill` returns them. What is of no song is the first's.
  """
  logits, caches = zip(*reads, strict=True)
  first = functools.partial(function, 0)
  return first(*logits), caches[0]._replace(
      **{name: jax.tree.map(first, *(getattr(cache, name) for cache in caches))
         for name in ('keys', 'values', 'count_B')},
      features=jax.tree.map(functools.partial(function, 1),
                            *(cache.features for cache in caches)))


@jax.jit
def begin(logits_BxV, cache: Cache, keys_B, state: Any = (),
          contrast: Contrast | None = None, number=0) -> Songs:
  """Returns songs of which no token was drawn.

  Args:
    logits_BxV, cache, contrast: see `Songs`; or of one song, that all begin
      with.
    keys_B, state: see `Songs`.
    number: int scalar, of the first draw.
  """
  batch = len(keys_B)
  times = batch // len(logits_BxV)

  def tile(axis, x):
    return jnp.tile(x, [times if i == axis else 1 for i in range(x.ndim)])

  if contrast is not None:
    contrast = Contrast(*_map_songs(tile, contrast[:2]), contrast.weight)
  return Songs(*_map_songs(tile, (logits_BxV, cache)), keys_B, state, contrast,
               jnp.full(batch, number, jnp.int32), jnp.zeros(batch, bool))


@functools.partial(jax.jit, donate_argnames='songs')
def replace(songs: Songs, others: Songs, is_other_B) -> Songs:
  """Puts other songs into the places of some.

  So that no place stays empty when a song has ended: continuous batching (Yu et
  al., "Orca: A Distributed Serving System for Transformer-Based Generative
  Models", OSDI 2022).

  Args:
    songs: given up to this function.
    others: as many, with the same memory and a contrast or none, likewise.
    is_other_B: bool, where they go.
  """
  batch = len(is_other_B)

  def put(axis, old, new):
    where = jnp.repeat(is_other_B, old.shape[axis] // batch)
    return jnp.where(jnp.expand_dims(
        where, [i for i in range(old.ndim) if i != axis]), new, old)

  def put_read(old, new) -> tuple[Any, Cache]:
    logits_BxV, cache = new
    shift = old[1].slot - cache.slot  # Either is of the oldest token.
    return _map_songs(put, old, (logits_BxV, cache._replace(
        keys=tuple(jnp.roll(x, shift, 2) for x in cache.keys),
        values=tuple(jnp.roll(x, shift, 1) for x in cache.values))))

  contrast, other = songs.contrast, others.contrast
  if contrast is not None and other is not None:
    contrast = Contrast(*put_read(contrast[:2], other[:2]), contrast.weight)
  logits_BxV, cache = put_read(songs[:2], others[:2])
  return songs._replace(
      logits_BxV=logits_BxV, cache=cache, contrast=contrast, **{
          name: jax.tree.map(functools.partial(put, 0), getattr(songs, name),
                             getattr(others, name))
          for name in ('keys_B', 'state', 'number_B', 'ended_B')})


class _Loop(NamedTuple):
  """Songs, and what has been drawn of them."""
  songs: Songs
  number: Any
  tokens_LxB: Any
  nll_LxB: Any


@functools.partial(jax.jit, static_argnames=('model', 'constraint', 'chunk'),
                   donate_argnames='songs')
def _chunk(model, params, songs, length, settings, *, constraint, chunk):
  """Draws `length` tokens, at most `chunk`; see `generate`."""
  def unfinished(loop):
    return (loop.number < length) & ~loop.songs.ended_B.all()

  def body(loop):
    songs, contrast = loop.songs, loop.songs.contrast
    logits_BxV = songs.logits_BxV
    if contrast is not None:
      logits_BxV = contrast.process_logits(logits_BxV)
    allowed_BxV = sampling.process_logits(
        constraint.process_logits(songs.state, logits_BxV), **settings)
    tokens_B = sampling.draw(allowed_BxV, jax.vmap(jax.random.fold_in)(
        songs.keys_B, songs.number_B))
    tokens_B, state = constraint.advance(songs.state, tokens_B)
    tokens_B = jnp.where(songs.ended_B, events.BOS_EOS, tokens_B)
    nll_B = jnp.where(songs.ended_B, 0, language_model.nll(
        songs.logits_BxV, tokens_B))
    if contrast is not None:
      contrast = Contrast(*_step(model, params, contrast.cache, tokens_B),
                          contrast.weight)
    songs = Songs(*_step(model, params, songs.cache, tokens_B), songs.keys_B,
                  state, contrast, songs.number_B + 1,
                  songs.ended_B | (tokens_B == events.BOS_EOS))
    return _Loop(songs, loop.number + 1,
                 loop.tokens_LxB.at[loop.number].set(tokens_B),
                 loop.nll_LxB.at[loop.number].set(nll_B))

  batch = len(songs.keys_B)
  return jax.lax.while_loop(unfinished, body, _Loop(
      songs, jnp.int32(0),
      jnp.full((chunk, batch), events.BOS_EOS, jnp.int32),
      jnp.zeros((chunk, batch))))


def generate(model: LanguageModel, params, songs: Songs, length: int, *,
             constraint: Constraint = UNCONSTRAINED,
             temperature: float = 1., top_k: int = 0, top_p: float = 1.,
             tail_p: float = 1., exclude_eos: bool = True, chunk: int = 128,
             progress: Callable[[int], Any] = lambda tokens: None
            ) -> tuple[np.ndarray, np.ndarray, Songs]:
  """Draws tokens, each read before the next is drawn.

  Compiled anew for another model, constraint, chunk, B or M, and nothing else.

  Args:
    model: what the parameters are of.
    params: as `to_decode_params` returns them.
    songs: see `begin`; given up to this function.
    length: tokens to draw.
    constraint: forbids tokens and puts others in their place.
    temperature, top_k, top_p, tail_p: see `sampling.process_logits`.
    exclude_eos: never draw <S>. A song has ended at the first <S>, drawn or
      put there by the constraint; the rest of its row is <S> at a likelihood
      of 1. Once all have ended nothing more is read.
    chunk: tokens between two calls of `progress`.
    progress: called with the number of tokens drawn so far.

  Returns:
    tokens [B, length] int32, their negative log likelihoods in nats by the
    model alone, before any restriction, and the songs to go on with.

  Raises:
    ValueError: a setting is out of range.
  """
  ranges.check(temperature=temperature, top_k=top_k, top_p=top_p,
               tail_p=tail_p)
  settings = {'temperature': np.float32(temperature), 'top_k': np.int32(top_k),
              'top_p': np.float32(top_p), 'tail_p': np.float32(tail_p),
              'exclude_eos': np.bool_(exclude_eos)}
  batch = len(songs.keys_B)
  tokens_BxL = np.full((batch, length), events.BOS_EOS, np.int32)
  nll_BxL = np.zeros((batch, length), np.float32)
  for start in range(0, length, chunk):
    end = min(start + chunk, length)
    songs, _, tokens_LxB, nll_LxB = _chunk(
        model, params, songs, np.int32(end - start), settings,
        constraint=constraint, chunk=chunk)
    tokens_BxL[:, start:end] = np.asarray(tokens_LxB)[:end - start].T
    nll_BxL[:, start:end] = np.asarray(nll_LxB)[:end - start].T
    progress(end)
    if np.asarray(songs.ended_B).all():
      break
  return tokens_BxL, nll_BxL, songs
