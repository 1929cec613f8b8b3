"""What followed when the song was here before: its own past, looked up.

Game music comes round, and a memory of hidden states is too short to hold what
comes again. This keeps the tokens of a song, finds where the last few of them
were played before, and tells the model what was played next: a match model, as
compressors have it (Mahoney, "Adaptive Weighing of Context Models for Lossless
Data Compression", 2005), whose guesses go into the model and not beside it.

Letters as in `lakhnes_jax.model.transformer_xl`; H tokens of history, X contexts.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lakhnes_jax import events, nes

_WITHIN = 600  # Shorter waits are between two writes of one call.
_BASE = 0x9E3779B1  # Of the hashes: odd, and otherwise of no pattern.


class Context(NamedTuple):
  """A way to say where a song is.

  Attributes:
    key: what counts of the tokens, see `_keys`.
    order: how many tokens, to the present one.
  """
  key: str
  order: int


CONTEXTS = tuple(Context(key, order) for key, orders in (
    ('tokens', (2, 4, 8)), ('notes', (4, 8, 16)), ('rhythm', (6, 12, 24)),
) for order in orders)
_LONGEST = max(context.order for context in CONTEXTS)


@functools.lru_cache
def _keys(n_token: int) -> dict[str, np.ndarray]:
  """Returns [V] uint32 for each key, equal where tokens count as the same.

  `tokens` tells all apart. `notes` tells waits within a frame from longer ones
  and no more, since what the program's own time adds to them never comes again.
  `rhythm` counts the frames of waits, but knows events by voice and kind alone.
  """
  event = events.of_size(n_token, 'recall').events
  long = event >= _WITHIN
  what = 8 * events.voice_of(event) + events.kind_of(event)
  kinds = {
      'tokens': np.arange(n_token),
      'notes': np.where(event < 0, event, long),
      'rhythm': np.where(event < 0, -1 - what, np.where(
          long, frames(event), 0)),
  }
  return {name: scatter(kind) for name, kind in kinds.items()}


def frames(samples):
  """Returns the nearest number of a music program's calls, half to even."""
  return (samples / nes.FRAME_60HZ).round()


def scatter(kind_V) -> np.ndarray:
  """Turns small integers into uint32 that look random (MurmurHash3's end)."""
  x = kind_V.astype(np.int64).astype(np.uint32)
  for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
    x = (x ^ (x >> np.uint32(shift))) * np.uint32(factor)
  return x ^ (x >> np.uint32(16))


def check(n_token: int) -> None:
  """Raises ValueError if no vocabulary has so many tokens."""
  _keys(n_token)


def empty(batch: int, reach: int):
  """Returns the history before anything was played: [1, B, H] int32, all <S>.

  Args:
    batch: B.
    reach: how many tokens back a context is looked for.
  """
  return jnp.zeros((1, batch, reach + _LONGEST - 1), jnp.int32)


def follow(n_token: int, history_1xBxH, tokens_BxL):
  """Looks up each token's contexts in what was played before it.

  Args:
    n_token: size of the vocabulary, which identifies it.
    history_1xBxH: tokens before the first, the newest last.
    tokens_BxL: int32 ids; at <S> all begins anew.

  Returns:
    ([X, B, L] int32: the token that came next when the context was last met
    in this song, <S> if it never was; [1, B, H + L] the history from then on,
    of which the last H tokens before one are those to go on with)
  """
  history_BxH = history_1xBxH[0]
  size = history_BxH.shape[1]
  reach = size - _LONGEST + 1
  all_BxK = jnp.concatenate([history_BxH, tokens_BxL], 1)
  place_K = jnp.arange(all_BxK.shape[1])
  place_L = place_K[size:]
  # Where the song begins, as far as it is known.
  start_BxL = jax.lax.cummax(
      jnp.where(all_BxK == events.START, place_K, -1), 1)[:, size:]

  last_XxBxL = last_equal(_hashes(n_token, all_BxK), len(place_L))
  order_Xx1x1 = np.array([x.order for x in CONTEXTS])[:, None, None]
  known_XxBxL = last_XxBxL >= jnp.maximum(
      place_L - reach, start_BxL + order_Xx1x1)
  next_XxBxL = jnp.take_along_axis(all_BxK[None], last_XxBxL + 1, 2)
  return jnp.where(known_XxBxL, next_XxBxL, events.START), all_BxK[None]


def last_equal(hash_XxBxK, length: int):
  """Finds where the values of the last L places were before.

  Args:
    hash_XxBxK: values to compare.
    length: L.

  Returns:
    [X, B, L] int32: the last place before that has an equal value, -1 if none
  """
  *rows, size = hash_XxBxK.shape
  place_K = jnp.arange(size)
  place_L = place_K[-length:]

  def find(hash_K):
    equal_LxK = (hash_K == hash_K[-length:, None]) & (
        place_K < place_L[:, None])
    return jnp.where(equal_LxK, place_K, -1).max(1)

  # Few at once: what is compared should not leave the cache of a processor.
  return jax.lax.map(find, hash_XxBxK.reshape(-1, size),
                     batch_size=-(-256 // length)).reshape(*rows, length)


def _hashes(n_token: int, tokens_BxK):
  """Returns [X, B, K] uint32: hashes of the contexts that end at each token.

  The hash of tokens is a polynomial of their keys, modulo 2^32.
  """
  @functools.cache
  def hashed(key, order):
    if order == 1:
      return jnp.asarray(_keys(n_token)[key])[tokens_BxK]
    newer, older = order // 2, order - order // 2
    before_BxK = jnp.pad(hashed(key, older), ((0, 0), (newer, 0)))
    factor = np.uint32(pow(_BASE, newer, 1 << 32))
    return hashed(key, newer) + factor * before_BxK[:, :tokens_BxK.shape[1]]

  return jnp.stack([hashed(*context) for context in CONTEXTS])


def shapes(n_token: int, width: int) -> dict[str, tuple[int, ...]]:
  """Returns the shapes of the tables that `embed` takes, by name."""
  return {'recalled': (len(CONTEXTS), n_token, width)}


def embed(tables, found_XxBxL):
  """Embeds what `follow` found as [B, L, D], a table a context, summed."""
  return sum(table_VxD[found_BxL] for table_VxD, found_BxL in zip(
      tables['recalled'], found_XxBxL, strict=True))
