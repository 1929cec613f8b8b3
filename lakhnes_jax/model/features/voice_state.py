"""What each voice did last, and how long ago: the score as a model may see it.

A Transformer has to add up waits to know how long a note has been held; this
tells it. All of it follows from the tokens alone.

Letters as in `lakhnes_jax.model.transformer_xl`.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lakhnes_jax import events

_LONGEST = int(events.WAITS[-1])  # Samples; what is longer ago counts as this.


class _Tables(NamedTuple):
  """What the tokens of a vocabulary say.

  Attributes:
    wait_V: samples that the token waits.
    voice_V: its voice, or -1.
  """
  wait_V: np.ndarray
  voice_V: np.ndarray


@functools.lru_cache
def _tables(n_token: int) -> _Tables:
  event_V = events.of_size(n_token, 'voice_state').events
  return _Tables(np.maximum(event_V, 0), events.voice_of(event_V))


@functools.lru_cache
def _wait_ids() -> np.ndarray:
  """[_LONGEST + 1] int32: 0, then the token id of each wait."""
  return np.concatenate(
      [[0], events.TX1.encode(np.arange(1, _LONGEST + 1))]).astype(np.int32)


def check(n_token: int) -> None:
  """Raises ValueError if no vocabulary has so many tokens."""
  _tables(n_token)


def empty(batch: int):
  """Returns the state before anything was played: [2, B, 4] int32."""
  return jnp.zeros((2, batch, len(events.VOICES)), jnp.int32)


def follow(n_token: int, state_2xBx4, tokens_BxL):
  """Follows the voices through tokens.

  Args:
    n_token: size of the vocabulary, which identifies it.
    state_2xBx4: before the first token.
    tokens_BxL: int32 ids; at <S> all begins anew.

  Returns:
    [2, B, L, 4] int32, the state after each token: id of the voice's last
    event, 0 if there was none; and samples since then (since the song began if
    there was none), at most 100,000
  """
  tables = _tables(n_token)
  batch, length = tokens_BxL.shape
  time_BxL = jnp.cumsum(jnp.asarray(tables.wait_V)[tokens_BxL], 1)
  voice_BxL = jnp.asarray(tables.voice_V)[tokens_BxL]
  new_BxLx4 = (voice_BxL[..., None] == jnp.arange(len(events.VOICES))) | (
      tokens_BxL == events.START)[..., None]
  # Where the last event of each voice is, -1 if it is in the past.
  at_BxLx4 = jax.lax.cummax(
      jnp.where(new_BxLx4, jnp.arange(length)[:, None], -1), 1)

  def then(x_BxL):
    return jnp.take_along_axis(
        x_BxL, jnp.maximum(at_BxLx4, 0).reshape(batch, -1), 1
    ).reshape(at_BxLx4.shape)

  last_Bx4, since_Bx4 = state_2xBx4
  past = at_BxLx4 < 0
  return jnp.stack([
      jnp.where(past, last_Bx4[:, None], then(tokens_BxL)),
      jnp.minimum(_LONGEST, time_BxL[..., None] + jnp.where(
          past, since_Bx4[:, None], -then(time_BxL)))])


def shapes(n_token: int, width: int) -> dict[str, tuple[int, ...]]:
  """Returns the shapes of the tables that `embed` takes, by name."""
  return {'last_event': (n_token, width),
          'since_event': (len(events.VOICES), 1 + len(events.WAITS), width)}


def embed(tables, state):
  """Embeds states [2, .., 4] as [.., D], the sum of what they tell.

  Args:
    tables: embeddings, shaped as `shapes` says: of the last events, which have
      their voices in their names, and of the times since, rounded to waits.
    state: as `follow` returns it.
  """
  last, since = state
  ids = jnp.asarray(_wait_ids())[since]
  return sum(tables['last_event'][last[..., voice]]
             + tables['since_event'][voice][ids[..., voice]]
             for voice in range(len(events.VOICES)))
