"""New pitches for a given rhythm, which come again where the old ones did.

Letters: B songs, V tokens, T tokens of a song.
"""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from lakhnes_jax.tracker import grammar
from lakhnes_jax.tracker import vocabulary as voc


class PitchesState(NamedTuple):
  """What comes again of the pitches of a given rhythm; int32.

  Attributes:
    rules: of `grammar.Rules`.
    like_BxT: place of the token that each token is to be like, or -1.
    tokens_BxT: what has been written.
  """
  rules: grammar.RulesState
  like_BxT: Any
  tokens_BxT: Any


@dataclasses.dataclass(frozen=True)
class RepeatedPitches:
  """Gives a note the pitch that another was given, where it is to be like it.

  Attributes:
    rules: the grammar; of the song all but pitches is given.
  """
  rules: grammar.Rules

  def init_state(self, rules: grammar.RulesState, ids: np.ndarray
                ) -> PitchesState:
    """Returns the state of one song, whose bars come again as they did.

    Args:
      rules: of the song.
      ids: of the song as it was.
    """
    return PitchesState(
        rules, np.append(_repeated_notes(self.rules.vocabulary, ids), -1),
        np.zeros(len(ids), np.int32))

  def _like(self, state: PitchesState):
    """Returns the token that comes again, -1 for none."""
    like_B = grammar.at(state.like_BxT, state.rules.count_B)
    return jnp.where(like_B < 0, -1, grammar.at(state.tokens_BxT, like_B))

  def process_logits(self, state: PitchesState, logits_BxV):
    logits_BxV = self.rules.process_logits(state.rules, logits_BxV)
    token_Bx1 = self._like(state)[:, None]
    is_like_V = jnp.arange(logits_BxV.shape[1]) == token_Bx1
    return jnp.where(token_Bx1 < 0, logits_BxV,
                     jnp.where(is_like_V, 0., -jnp.inf))

  def advance(self, state: PitchesState, tokens_B):
    like_B = self._like(state)
    tokens_B, rules = self.rules.advance(
        state.rules, jnp.where(like_B < 0, tokens_B, like_B))
    place_B = jnp.minimum(state.rules.count_B, state.tokens_BxT.shape[1] - 1)
    return tokens_B, state._replace(rules=rules, tokens_BxT=state.tokens_BxT.at[
        jnp.arange(len(tokens_B)), place_B].set(tokens_B))


def _repeated_notes(vocabulary: voc.Tracker, ids: np.ndarray) -> np.ndarray:
  """Returns for each note of what a voice repeats which note it repeats.

  A voice's bar repeats the first in which it has the same notes in the same
  rows and delays.

  Args:
    vocabulary: a `vocabulary.Tracker`.
    ids: of a song.

  Returns:
    [T] int32, the place in `ids` of the other NOTE; -1 for all else.
  """
  like = np.full(len(ids), -1, np.int32)
  kind, voice, value = (x[ids].tolist() for x in vocabulary.table)
  row, delay = -1, 0
  # Of each voice's bars, (row, delay, pitch) -> place.
  bars: list[tuple[dict[tuple, int], ...]] = [({}, {}, {}, {})]
  for place, what in enumerate(kind):
    if what == voc.SKIP or (what == voc.AT and value[place] <= row):
      bars.append(({}, {}, {}, {}))
    if what == voc.AT:
      row, delay = value[place], 0
    elif what == voc.DELAY:
      delay = value[place]
    elif what == voc.NOTE:
      bars[-1][voice[place]][row, delay, value[place]] = place
  for parts in zip(*bars, strict=True):
    first: dict[frozenset, dict[tuple, int]] = {}
    for part in parts:
      other = first.setdefault(frozenset(part), part)
      if other is not part:
        for note, place in part.items():
          like[place] = other[note]
  return like
