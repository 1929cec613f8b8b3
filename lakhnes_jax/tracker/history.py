"""What songs have played so far, kept so that bars of it can come again.

Letters: B songs, E events (NOTE or OFF) of a song, M bars.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from lakhnes_jax.tracker import form, grammar
from lakhnes_jax.tracker import vocabulary as voc

N_MACROS = 4  # Level, tone, offset and gate.
_MOST_EVENTS = 1 << 14  # E is this or less.


class History(NamedTuple):
  """The first E events of a song; int32.

  Attributes:
    token_BxE, row_BxE, delay_BxE, bar_BxE: of each its token, the row of its
      bar, its delay and the number of its bar.
    next_BxE: place of its voice's next event, or -1.
    macros_BxEx4: those of its note.
    count_B: events of the song so far.
    last_Bx4: place of each voice's last event, or -1;
    macros_Bx4x4: those of its last note;
    first_Bx4xM: place of its first event of each bar, or -1.
  """
  token_BxE: Any
  row_BxE: Any
  delay_BxE: Any
  bar_BxE: Any
  next_BxE: Any
  macros_BxEx4: Any
  count_B: Any
  last_Bx4: Any
  macros_Bx4x4: Any
  first_Bx4xM: Any

  def after_in_bar(self, place_Bx4):
    """Returns the events of the same voices and bars that come next, or -1."""
    batch_Bx1 = jnp.arange(len(place_Bx4))[:, None]
    next_Bx4 = self.next_BxE[batch_Bx1, place_Bx4]
    same_Bx4 = (self.bar_BxE[batch_Bx1, next_Bx4] ==
                self.bar_BxE[batch_Bx1, place_Bx4])
    return jnp.where((place_Bx4 >= 0) & same_Bx4, next_Bx4, -1)

  def written(self, vocabulary: voc.Tracker, rules: grammar.RulesState,
              tokens_B, bar_B) -> 'History':
    """Returns the history after one more token of each song.

    Args:
      vocabulary: of them.
      rules: the state of `grammar.Rules` before.
      tokens_B: what is written.
      bar_B: number of the bar that it is in.
    """
    kind_V, voice_V, value_V = (jnp.asarray(x) for x in vocabulary.table)
    batch = jnp.arange(len(tokens_B))
    never = self.token_BxE.shape[1]  # A place that is not kept.
    kind_B = kind_V[tokens_B]
    is_event_B = (kind_B == voc.NOTE) | (kind_B == voc.OFF)
    is_macro_B = (kind_B >= voc.LEVEL) & (rules.note_B >= 0)
    place_B = jnp.where(is_event_B, self.count_B, self.count_B - 1)
    voice_B = jnp.maximum(
        jnp.where(is_event_B, voice_V[tokens_B], rules.note_B), 0)
    new_B = jnp.where(is_event_B, place_B, never)
    last_B = self.last_Bx4[batch, voice_B]
    macros_Bx4x4 = self.macros_Bx4x4.at[
        batch, voice_B, jnp.where(is_macro_B, kind_B - voc.LEVEL, N_MACROS)
    ].set(value_V[tokens_B], mode='drop')
    is_first_B = is_event_B & (grammar.at(
        self.first_Bx4xM[batch, voice_B], bar_B) < 0)

    def put(values, index_B, value_B):
      return values.at[batch, index_B].set(value_B, mode='drop')

    return History(
        token_BxE=put(self.token_BxE, new_B, tokens_B),
        row_BxE=put(self.row_BxE, new_B, rules.row_B),
        delay_BxE=put(self.delay_BxE, new_B, rules.delay_B),
        bar_BxE=put(self.bar_BxE, new_B, bar_B),
        next_BxE=put(self.next_BxE, jnp.where(
            is_event_B & (last_B >= 0), last_B, never), place_B),
        macros_BxEx4=put(
            self.macros_BxEx4,
            jnp.where(is_event_B | is_macro_B, place_B, never),
            macros_Bx4x4[batch, voice_B]),
        count_B=self.count_B + is_event_B,
        last_Bx4=put(self.last_Bx4, jnp.where(is_event_B, voice_B, 4), place_B),
        macros_Bx4x4=macros_Bx4x4,
        first_Bx4xM=self.first_Bx4xM.at[batch, voice_B, jnp.where(
            is_first_B, bar_B, form.BARS)].set(place_B, mode='drop'))


def empty(n_tokens: int) -> History:
  """Returns the history of one song before its first token.

  Args:
    n_tokens: that it has at most.
  """
  # A power of two, so that most tasks share a program.
  size = min(1 << (n_tokens - 1).bit_length(), _MOST_EVENTS)

  def filled(value, *shape):
    return np.full(shape, value, np.int32)

  return History(
      *(filled(0, size) for _ in range(4)), filled(-1, size),
      filled(0, size, N_MACROS), np.int32(0), filled(-1, 4),
      filled(0, 4, N_MACROS), filled(-1, 4, form.BARS))
