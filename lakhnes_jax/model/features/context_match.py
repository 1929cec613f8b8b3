"""What followed when the song was here before: its own past, looked up.

Game music comes round, and a memory of hidden states is too short to hold what
comes again. This keeps the tokens of a song, finds where the last few of them
were played before, and gives the model what was played next: a match model, as
compressors have it (Mahoney, "Adaptive Weighing of Context Models for Lossless
Data Compression", 2005), whose guesses go into the model and not beside it.

Letters as in `lakhnes_jax.model.transformer_xl`; V tokens of the vocabulary, X
contexts, W tokens of the window, K = W + longest context - 1 + L.
"""

import dataclasses
import functools
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lakhnes_jax import events, nes
from lakhnes_jax.model.features import base

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
def _keys(vocabulary: base.Vocabulary) -> dict[str, np.ndarray]:
  """Returns [V] uint32 for each key, equal where tokens count as the same.

  `tokens` tells all apart. `notes` tells waits within a frame from longer ones
  and no more, since what the program's own time adds to them never comes again.
  `rhythm` counts the frames of waits, but knows events by voice and kind alone.
  """
  token = np.arange(vocabulary.size)
  is_event, is_long = vocabulary.voice >= 0, vocabulary.wait >= _WITHIN
  what = 8 * vocabulary.voice + vocabulary.kind
  kinds = {
      'tokens': token,
      'notes': np.where(is_event, -1 - token, is_long),
      'rhythm': np.where(is_event, -1 - what, np.where(
          is_long, frames(vocabulary.wait), 0)),
  }
  return {name: mix32(kind) for name, kind in kinds.items()}


def frames(samples):
  """Returns the nearest number of a music program's calls, half to even."""
  return (samples / nes.FRAME_60HZ).round()


def mix32(kind_V) -> np.ndarray:
  """Turns small integers into uint32 that look random (MurmurHash3's end)."""
  x = kind_V.astype(np.int64).astype(np.uint32)
  for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
    x = (x ^ (x >> np.uint32(shift))) * np.uint32(factor)
  return x ^ (x >> np.uint32(16))


@dataclasses.dataclass(frozen=True)
class ContextMatch(base.Feature):
  """The continuation of the last matching context, for each of `CONTEXTS`.

  State: [1, B, W + longest - 1] int32, the last tokens, the newest last; zeros
  are <S>.

  Signal: [X, B, L] int32, the token that came next when the context that ends
  here was last met in this song, at most W tokens ago; <S> if it never was.

  An example of six tokens, and the signal of the context of two of them:

      token          the last two before        what followed then
      <S>            -                          <S>
      P1_NOTEON_60   -                          <S>
      WT_20          never                      <S>
      P1_NOTEON_60   never                      <S>
      WT_20          P1_NOTEON_60 WT_20         P1_NOTEON_60
      P1_NOTEON_60   WT_20 P1_NOTEON_60         WT_20

  Parameters: `recalled`, a table a context by token; embeddings are summed:
  after the last token above, recalled[0, WT_20] + recalled[1, <S>] + ..., for
  no longer context has been met before.

  Attributes:
    window: W, how many tokens back a context is looked for.
  """
  vocabulary: base.Vocabulary
  window: int = 4096
  name: ClassVar[str] = 'context_match'

  def __post_init__(self):
    base.check(self)

  def init_state(self, batch: int):
    return jnp.zeros((1, batch, self.window + _LONGEST - 1), jnp.int32)

  def observe(self, state_1xBxH, tokens_BxL, n_read):
    history_BxH = state_1xBxH[0]
    size = history_BxH.shape[1]
    all_BxK = jnp.concatenate([history_BxH, tokens_BxL], 1)
    place_K = jnp.arange(all_BxK.shape[1])
    place_L = place_K[size:]
    # Where the song begins, as far as it is known.
    start_BxL = jax.lax.cummax(
        jnp.where(all_BxK == events.BOS_EOS, place_K, -1), 1)[:, size:]

    last_XxBxL = last_equal(_hashes(self.vocabulary, all_BxK), len(place_L))
    order_Xx1x1 = np.array([x.order for x in CONTEXTS])[:, None, None]
    known_XxBxL = last_XxBxL >= jnp.maximum(
        place_L - self.window, start_BxL + order_Xx1x1)
    next_XxBxL = jnp.take_along_axis(all_BxK[None], last_XxBxL + 1, 2)
    return (jnp.where(known_XxBxL, next_XxBxL, events.BOS_EOS),
            jax.lax.dynamic_slice_in_dim(all_BxK[None], n_read, size, 2))

  def param_specs(self, d_model: int) -> dict[str, base.ParamSpec]:
    return {'recalled': base.table(
        len(CONTEXTS), self.vocabulary.size, d_model)}

  def embed(self, params, signal_XxBxL):
    return sum(table_VxD[found_BxL] for table_VxD, found_BxL in zip(
        params['recalled'], signal_XxBxL, strict=True))


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


def _hashes(vocabulary: base.Vocabulary, tokens_BxK):
  """Returns [X, B, K] uint32: hashes of the contexts that end at each token.

  The hash of tokens is a polynomial of their keys, modulo 2^32.
  """
  @functools.cache
  def hashed(key, order):
    if order == 1:
      return jnp.asarray(_keys(vocabulary)[key])[tokens_BxK]
    newer, older = order // 2, order - order // 2
    before_BxK = jnp.pad(hashed(key, older), ((0, 0), (newer, 0)))
    factor = np.uint32(pow(_BASE, newer, 1 << 32))
    return hashed(key, newer) + factor * before_BxK[:, :tokens_BxK.shape[1]]

  return jnp.stack([hashed(*context) for context in CONTEXTS])
