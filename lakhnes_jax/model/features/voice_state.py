"""What each voice did last, and how long ago: the score as a model may see it.

A Transformer has to add up waits to know how long a note has been held; this
feature says it.

Letters as in `lakhnes_jax.model.transformer_xl`; 4 voices.
"""

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from lakhnes_jax import events
from lakhnes_jax.model.features import base

_LONGEST = int(events.WAITS[-1])  # Samples; what is longer ago counts as this.


@functools.lru_cache
def _wait_ids() -> np.ndarray:
  """[_LONGEST + 1] int32: 0, then the number of the nearest wait, from 1."""
  return np.concatenate(
      [[0], events.TX1.encode(np.arange(1, _LONGEST + 1))]).astype(np.int32)


@dataclasses.dataclass(frozen=True)
class VoiceState(base.Feature):
  """The last event of each voice, and the time since.

  State: [2, B, 4] int32, as the signal after the last token.

  Signal: [2, B, L, 4] int32, after each token and for each voice

  *   the id of its last event, 0 if there was none in this song;
  *   samples since then (since the song began if there was none), at most
      100,000.

  An example of six tokens; in the columns, last event and samples since:

      token          P1                 P2                 TR
      <S>            <S> 0              <S> 0              <S> 0
      P1_NOTEON_60   P1_NOTEON_60 0     <S> 0              <S> 0
      WT_20          P1_NOTEON_60 20    <S> 20             <S> 20
      P2_NOTEON_64   P1_NOTEON_60 20    P2_NOTEON_64 0     <S> 20
      WT_700         P1_NOTEON_60 720   P2_NOTEON_64 700   <S> 720
      P1_NOTEOFF     P1_NOTEOFF 0       P2_NOTEON_64 700   <S> 720

  Parameters: `last_event`, a table by event (which has its voice in its name);
  `since_event`, a table a voice by time, rounded to `events.WAITS`. What is
  embedded is the sum over the voices of both: after WT_20 above,

      last_event[P1_NOTEON_60] + since_event[P1, WT_20]
      + last_event[<S>] + since_event[P2, WT_20] + ... (likewise TR, NO)
  """
  vocabulary: base.Vocabulary
  name: ClassVar[str] = 'voice_state'

  def __post_init__(self):
    base.check(self)

  def init_state(self, batch: int):
    return jnp.zeros((2, batch, len(events.VOICES)), jnp.int32)

  def observe(self, state_2xBx4, tokens_BxL, n_read):
    batch, length = tokens_BxL.shape
    time_BxL = jnp.cumsum(jnp.asarray(self.vocabulary.wait)[tokens_BxL], 1)
    voice_BxL = jnp.asarray(self.vocabulary.voice)[tokens_BxL]
    new_BxLx4 = (voice_BxL[..., None] == jnp.arange(len(events.VOICES))) | (
        tokens_BxL == events.BOS_EOS)[..., None]
    # Where the last event of each voice is, -1 if it is in the past.
    at_BxLx4 = jax.lax.cummax(
        jnp.where(new_BxLx4, jnp.arange(length)[:, None], -1), 1)

    def then(x_BxL):
      return jnp.take_along_axis(
          x_BxL, jnp.maximum(at_BxLx4, 0).reshape(batch, -1), 1
      ).reshape(at_BxLx4.shape)

    last_Bx4, since_Bx4 = state_2xBx4
    past = at_BxLx4 < 0
    signal_2xBxLx4 = jnp.stack([
        jnp.where(past, last_Bx4[:, None], then(tokens_BxL)),
        jnp.minimum(_LONGEST, time_BxL[..., None] + jnp.where(
            past, since_Bx4[:, None], -then(time_BxL)))])
    return signal_2xBxLx4, jax.lax.dynamic_index_in_dim(
        signal_2xBxLx4, n_read - 1, 2, False)

  def param_specs(self, d_model: int) -> dict[str, base.ParamSpec]:
    return {'last_event': base.table(self.vocabulary.size, d_model),
            'since_event': base.table(len(events.VOICES),
                                      1 + len(events.WAITS), d_model)}

  def embed(self, params, signal_2xBxLx4):
    last, since = signal_2xBxLx4
    ids = jnp.asarray(_wait_ids())[since]
    return sum(params['last_event'][last[..., voice]]
               + params['since_event'][voice][ids[..., voice]]
               for voice in range(len(events.VOICES)))
