"""Bars of a song that come again, as those of real songs do.

A small model repeats what it has just played, or nothing: of the bars in which
its songs repeat an earlier one, most repeat the one before. In real songs most
repeat one that is two, four or eight bars back. So it is drawn from real songs
which bars of a new one are repeated and when (see `form`), and the model writes
the others, with all that came before in its memory.

Letters: B songs, V tokens, T tokens of a song, M bars, K forms.
"""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from lakhnes_jax.tracker import form as form_lib
from lakhnes_jax.tracker import grammar
from lakhnes_jax.tracker import instruments as ins
from lakhnes_jax.tracker import vocabulary as voc

_N_FORMS = 8  # K: drawn for each song.
_N_MACROS = 4  # Level, tone, offset and gate.
_MOST_TOKENS = 1 << 14  # Of a song, from whose beginning bars come again.


class RepeatsState(NamedTuple):
  """What a song has been so far, and what of it comes again; int32.

  Attributes:
    rules: of `grammar.Rules`.
    source_BxKxM, frames_BxK: as in `form.Forms`. That form counts whose bars
      last most nearly as long as the song's;
    form_B: its number.
    bar_B: number of the bar that the song is in.
    tokens_BxT: what has been written; the last holds all beyond.
    macros_BxTx4: of each NOTE among these, those of the note.
    voices_Bx4x4: macros of each voice's last note.
    first_BxM, end_BxM: where the tokens of each bar begin and end, or -1.
    note_B: the last NOTE's place in `tokens_BxT`.
    active_B: whether the bar is a repeat.
    from_B, to_B: what is left to repeat of the tokens.
    source_B: the NOTE that was repeated last, or -1.
  """
  rules: grammar.RulesState
  source_BxKxM: Any
  frames_BxK: Any
  form_B: Any
  bar_B: Any
  tokens_BxT: Any
  macros_BxTx4: Any
  voices_Bx4x4: Any
  first_BxM: Any
  end_BxM: Any
  note_B: Any
  active_B: Any
  from_B: Any
  to_B: Any
  source_B: Any


@dataclasses.dataclass(frozen=True)
class Repeats:
  """Writes bars again where a form says so; the rules hold for the others.

  A repeat has the notes, delays, changes of tempo and instruments of its bar.
  It begins where the model goes on to that bar or past it.

  Attributes:
    rules: the grammar.
  """
  rules: grammar.Rules

  def init_state(self, rules: grammar.RulesState, n_tokens: int
                ) -> RepeatsState:
    """Returns the state of one song before its first token, without a form.

    Args:
      rules: of the song.
      n_tokens: that it has at most.
    """
    zero, none = np.int32(0), np.int32(-1)
    # So that most tasks share a program.
    size = min(1 << (n_tokens - 1).bit_length(), _MOST_TOKENS)
    return RepeatsState(
        rules, np.full((_N_FORMS, form_lib.BARS), form_lib.NEW, np.int32),
        np.ones(_N_FORMS, np.int32), zero, zero, np.zeros(size, np.int32),
        np.zeros((size, _N_MACROS), np.int32),
        np.zeros((4, _N_MACROS), np.int32),
        np.full(form_lib.BARS, -1, np.int32),
        np.full(form_lib.BARS, -1, np.int32), zero, np.bool_(False), zero, zero,
        none)

  def draw_form(self, forms: form_lib.Forms, state: RepeatsState,
                rng: np.random.Generator) -> RepeatsState:
    """Gives one song some forms to take one of."""
    chosen = rng.integers(len(forms.frames), size=_N_FORMS)
    return state._replace(source_BxKxM=forms.source[chosen],
                          frames_BxK=forms.frames[chosen])

  def process_logits(self, state: RepeatsState, logits_BxV):
    kind, _, value = self.rules.vocabulary.table
    logits_BxV = self.rules.process_logits(state.rules, logits_BxV)
    # Nothing is added to a bar that is a repeat.
    leaves_BxV = (kind == voc.SKIP) | (kind == voc.START) | (
        (kind == voc.AT) & (value <= state.rules.row_B[:, None]))
    token_Bx1 = self._next(state)[0][:, None]
    left_BxV = jnp.where(state.active_B[:, None] & ~leaves_BxV, -jnp.inf,
                         logits_BxV)
    return jnp.where(token_Bx1 < 0, left_BxV, jnp.where(
        jnp.arange(len(kind)) == token_Bx1, 0., -jnp.inf))

  def _next(self, state: RepeatsState):
    """Returns the token to repeat, -1 for none, and the state after it."""
    macro_ids_3x3xN = _macro_ids(self.rules.vocabulary)
    kind_V = jnp.asarray(self.rules.vocabulary.table.kind)
    rules = state.rules
    batch = jnp.arange(len(state.bar_B))
    # First the macros of the note before, where they are not its voice's.
    voice_B = jnp.maximum(rules.note_B, 0)
    wanted_Bx4 = state.macros_BxTx4[batch, state.source_B]
    differs_Bx4 = (wanted_Bx4 != state.voices_Bx4x4[batch, voice_B]) & (
        jnp.arange(_N_MACROS) > rules.rank_B[:, None])
    pending_B = state.active_B & (rules.note_B >= 0) & (
        state.source_B >= 0) & differs_Bx4.any(1)
    which_B = jnp.argmax(differs_Bx4, 1)
    number_B = wanted_Bx4[batch, which_B]
    macro_B = jnp.where(
        which_B == _N_MACROS - 1,
        grammar.ids_of(self.rules.vocabulary, voc.GATE)[number_B],
        macro_ids_3x3xN[jnp.asarray(ins.KIND_OF_VOICE)[voice_B], which_B,
                        number_B])
    # Then what comes next, but for macros: those of notes are known.
    ahead_Bx5 = jnp.minimum(state.from_B[:, None] + jnp.arange(_N_MACROS + 1),
                            state.tokens_BxT.shape[1] - 1)
    is_macro_Bx5 = kind_V[jnp.take_along_axis(
        state.tokens_BxT, ahead_Bx5, 1)] >= voc.LEVEL
    place_B = state.from_B + jnp.argmin(is_macro_Bx5, 1)
    copies_B = state.active_B & ~pending_B & (place_B < state.to_B)
    token_B = grammar.at(state.tokens_BxT, place_B)
    is_note_B = kind_V[token_B] == voc.NOTE
    return jnp.where(pending_B, macro_B, jnp.where(copies_B, token_B, -1)), (
        state._replace(
            from_B=jnp.where(copies_B, place_B + 1, state.from_B),
            source_B=jnp.where(copies_B, jnp.where(is_note_B, place_B, -1),
                               state.source_B)))

  def advance(self, state: RepeatsState, tokens_B):
    vocabulary, rules = self.rules.vocabulary, state.rules
    value_V = jnp.asarray(vocabulary.table.value)
    skip = vocabulary.id_of(voc.SKIP)
    batch = jnp.arange(len(tokens_B))
    asked_B, _ = self.rules.advance(rules, tokens_B)
    # What neither was given nor ends the song may give way to a repeat.
    in_body_B = rules.stage_B == grammar.BODY
    may_B = in_body_B & (asked_B == tokens_B) & (tokens_B != voc.START) & (
        grammar.at(rules.given_BxN, rules.count_B) == grammar.FREE)
    repeated_B, after = self._next(state)
    done_B = state.active_B & (repeated_B < 0)
    leaves_B = self._leaves(rules, asked_B)
    enters_B = may_B & (done_B | ~state.active_B & leaves_B)
    known_B = grammar.at(state.end_BxM, state.bar_B)
    end_BxM = state.end_BxM.at[batch, state.bar_B].set(jnp.where(
        (enters_B | leaves_B & in_body_B) & (known_B < 0) &
        (grammar.at(state.first_BxM, state.bar_B) >= 0),
        rules.count_B, known_B))
    source_B = jnp.where(state.bar_B + 1 < form_lib.BARS, grammar.at(
        state.source_BxKxM[batch, state.form_B], state.bar_B + 1), form_lib.NEW)
    begin_B, stop_B = (grammar.at(x, jnp.maximum(source_B, 0)) for x in (
        state.first_BxM, end_BxM))
    begins_B = enters_B & (source_B >= 0) & (begin_B >= 0) & (
        stop_B >= 0) & (stop_B < state.tokens_BxT.shape[1])
    opening_B = grammar.at(state.tokens_BxT, begin_B)
    # Where its row is not yet over in this bar, AT would not leave that.
    skips_B = begins_B & (value_V[opening_B] > rules.row_B)
    goes_on_B = may_B & (repeated_B >= 0)
    tokens_B = jnp.where(
        begins_B, jnp.where(skips_B, skip, opening_B),
        jnp.where(goes_on_B, repeated_B, asked_B))
    state = state._replace(
        end_BxM=end_BxM,
        active_B=begins_B | goes_on_B,
        from_B=jnp.where(begins_B, begin_B + 1 - skips_B, after.from_B),
        to_B=jnp.where(begins_B, stop_B, state.to_B),
        source_B=jnp.where(begins_B, -1, after.source_B))
    return tokens_B, self._written(state, tokens_B)

  def _leaves(self, rules: grammar.RulesState, tokens_B):
    """Whether these tokens go on to a row of a later bar."""
    kind_V, _, value_V = (jnp.asarray(x) for x in self.rules.vocabulary.table)
    return (kind_V[tokens_B] == voc.SKIP) | (kind_V[tokens_B] == voc.AT) & (
        value_V[tokens_B] <= rules.row_B)

  def _written(self, state: RepeatsState, tokens_B) -> RepeatsState:
    """Returns the state after these tokens."""
    kind_V, voice_V, value_V = (
        jnp.asarray(x) for x in self.rules.vocabulary.table)
    before = state.rules
    _, rules = self.rules.advance(before, tokens_B)
    batch = jnp.arange(len(tokens_B))
    kind_B, value_B = kind_V[tokens_B], value_V[tokens_B]
    place_B = jnp.minimum(before.count_B, state.tokens_BxT.shape[1] - 1)
    in_body_B = before.stage_B == grammar.BODY
    bar_B = jnp.minimum(
        state.bar_B + (in_body_B & self._leaves(before, tokens_B)),
        state.first_BxM.shape[1] - 1)
    is_first_B = (kind_B == voc.AT) & (grammar.at(state.first_BxM, bar_B) < 0)
    is_note_B = kind_B == voc.NOTE
    is_macro_B = (kind_B >= voc.LEVEL) & (before.note_B >= 0)
    note_B = jnp.where(is_note_B, place_B, state.note_B)
    voice_B = jnp.maximum(jnp.where(is_note_B, voice_V[tokens_B],
                                    before.note_B), 0)
    rank_B = jnp.maximum(kind_B - voc.LEVEL, 0)
    voices_Bx4x4 = state.voices_Bx4x4.at[batch, voice_B, rank_B].set(jnp.where(
        is_macro_B, value_B, state.voices_Bx4x4[batch, voice_B, rank_B]))
    frames_B = rules.tempo_B * rules.bar_B / voc.PARTS
    nearest_B = jnp.argmin(jnp.abs(
        jnp.log(state.frames_BxK) - jnp.log(frames_B)[:, None]), 1)
    return state._replace(
        rules=rules, bar_B=bar_B, note_B=note_B, voices_Bx4x4=voices_Bx4x4,
        form_B=jnp.where(in_body_B, state.form_B, nearest_B),
        tokens_BxT=state.tokens_BxT.at[batch, place_B].set(tokens_B),
        macros_BxTx4=state.macros_BxTx4.at[batch, note_B].set(
            jnp.where((is_note_B | is_macro_B)[:, None],
                      voices_Bx4x4[batch, voice_B],
                      state.macros_BxTx4[batch, note_B])),
        first_BxM=state.first_BxM.at[batch, bar_B].set(jnp.where(
            is_first_B, place_B, grammar.at(state.first_BxM, bar_B))))


def _macro_ids(vocabulary: voc.Tracker):
  """Ids of macros by kind of voice, macro and number."""
  kind, voice, value = vocabulary.table
  ids = np.zeros((len(ins.KINDS), _N_MACROS - 1, int(
      value[(kind >= voc.LEVEL) & (kind < voc.GATE)].max()) + 1), np.int32)
  for macro in range(_N_MACROS - 1):
    mine = np.flatnonzero(kind == voc.LEVEL + macro)
    ids[voice[mine], macro, value[mine]] = mine
  return jnp.asarray(ids)


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
        rules, np.append(repeated_notes(self.rules.vocabulary, ids), -1),
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


def repeated_notes(vocabulary: voc.Tracker, ids: np.ndarray) -> np.ndarray:
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
