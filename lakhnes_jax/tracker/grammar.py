"""What a model may write in the format `tracker`, token by token.

Compiled into the loop of `generation.decode`, as `generation.constraints` are.

*   First the prefix: LENGTH, DENSITY, VOICES, BAR, TEMPO, of which any may be
    asked for, then AT.
*   In a row, events come in the order of their delays, then of voices; macros
    and gate follow their note, each at most once. A row that is gone to has an
    event.
*   Only the voices of VOICES play; one that was silent gets no OFF.
*   The song ends at <S>, or at the first row after so much time or so many
    tokens.

Letters: B songs, V tokens.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from lakhnes_jax import events as ev
from lakhnes_jax.tracker import frames as frames_lib
from lakhnes_jax.tracker import instruments as ins
from lakhnes_jax.tracker import vocabulary as voc

_BODY = 6  # Stage of a song whose prefix and first AT are written.
_FREE = -1  # In the place of a token that is not asked for.
NO_LIMIT = np.iinfo(np.int32).max // 2


class RulesState(NamedTuple):
  """Where a song stands; int32.

  Attributes:
    asked_Bx5: token of each kind of the prefix, or -1.
    stage_B: tokens of the prefix written; `_BODY` after the first AT.
    kind_B: of the token before.
    delay_B: frames, in this row.
    voice_B: of the last event of this instant, or -1.
    note_B: voice whose note was just written, or -1.
    rank_B: of its last macro, or -1.
    mask_B: voices that may play, a bit each.
    on_B: voices that have a note, a bit each.
    tempo_B, bar_B, row_B: as in `vocabulary.Clock`.
    time_B: of the row, in parts of a frame.
    end_B: time at which the song ends.
    tokens_B: that may still be written.
  """
  asked_Bx5: Any
  stage_B: Any
  kind_B: Any
  delay_B: Any
  voice_B: Any
  note_B: Any
  rank_B: Any
  mask_B: Any
  on_B: Any
  tempo_B: Any
  bar_B: Any
  row_B: Any
  time_B: Any
  end_B: Any
  tokens_B: Any


@dataclasses.dataclass(frozen=True)
class Rules:
  """The grammar, and where songs end.

  Attributes:
    vocabulary: a `vocabulary.Tracker`.
    at_start: whether the model may end its song itself.
  """
  vocabulary: voc.Tracker
  at_start: bool = True

  def start(self, tokens: int, seconds: float | None = None,
            asked: Mapping[int, int] | None = None) -> RulesState:
    """Returns the state of one song before its first token.

    Args:
      tokens: that may be written at most.
      seconds: after which the song ends at a row.
      asked: {kind of prefix token: value}, such as {TEMPO: 96}.

    Raises:
      ValueError: there is no such token.
    """
    wanted = np.full(5, _FREE, np.int32)
    for kind, value in (asked or {}).items():
      try:
        wanted[kind - voc.LENGTH] = self.vocabulary.id_of(kind, value)
      except KeyError:
        raise ValueError(f'{voc.KIND_NAMES[kind]}_{value} is no token of '
                         'format tracker') from None
    end = NO_LIMIT if seconds is None else min(NO_LIMIT, round(
        seconds * ev.SAMPLE_RATE / frames_lib.FRAME * voc.PARTS))
    number = {name: np.int32(value) for name, value in {
        'stage_B': 0, 'kind_B': voc.START, 'delay_B': 0, 'voice_B': -1,
        'note_B': -1, 'rank_B': -1, 'mask_B': 15, 'on_B': 0,
        'tempo_B': 6 * voc.PARTS, 'bar_B': 16, 'row_B': 0, 'time_B': 0,
        'end_B': end, 'tokens_B': tokens}.items()}
    return RulesState(asked_Bx5=wanted, **number)

  def process_logits(self, state: RulesState, logits_BxV):
    kind, voice, value = self.vocabulary.table
    bit = np.where(voice >= 0, 1 << np.maximum(voice, 0), 0)

    def column(x_B):
      return x_B[:, None]

    before = column(state.kind_B)
    stage = column(state.stage_B)
    after_event = before >= voc.NOTE
    is_event = (kind == voc.NOTE) | (kind == voc.OFF)
    allowed = is_event & (voice > column(state.voice_B)) & (
        (kind == voc.NOTE) & (bit & column(state.mask_B) > 0) |
        (kind == voc.OFF) & (bit & column(state.on_B) > 0))
    owner = jnp.asarray(ins.KIND_OF_VOICE)[state.note_B]
    allowed |= (kind >= voc.LEVEL) & (column(state.note_B) >= 0) & (
        kind - voc.LEVEL > column(state.rank_B)) & (
            (kind == voc.GATE) | (voice == column(owner)))
    allowed |= (kind == voc.DELAY) & (value > column(state.delay_B)) & (
        before != voc.DELAY) & (before != voc.SKIP) & (
            value * voc.PARTS < 2 * column(state.tempo_B))
    allowed |= (kind == voc.NUDGE) & (before == voc.AT)
    allowed |= (kind == voc.TEMPO) & (
        (before == voc.AT) | (before == voc.NUDGE))
    allowed &= before != voc.SKIP
    allowed |= (kind == voc.AT) & (value < column(state.bar_B)) & (
        after_event | (before == voc.SKIP))
    allowed |= (kind == voc.SKIP) & (after_event | (before == voc.SKIP))
    if self.at_start:
      allowed |= (kind == voc.START) & after_event
    early = jnp.where(stage < 5, kind == voc.LENGTH + stage,
                      (kind == voc.AT) & (value < column(state.bar_B)))
    # A song has a voice that plays.
    early &= (kind != voc.VOICES) | (value > 0)
    allowed = jnp.where(stage < _BODY, early, allowed)
    left = jnp.where(allowed, logits_BxV, -jnp.inf)
    return jnp.where(jnp.isfinite(left).any(-1, keepdims=True), left,
                     jnp.where(allowed, 0., -jnp.inf))

  def advance(self, state: RulesState, tokens_B):
    kind_V, voice_V, value_V = (jnp.asarray(x) for x in self.vocabulary.table)
    asked_B = jnp.take_along_axis(
        state.asked_Bx5, jnp.minimum(state.stage_B, 4)[:, None], 1)[:, 0]
    tokens_B = jnp.where(
        (state.stage_B < 5) & (asked_B >= 0), asked_B, tokens_B)
    kind, value = kind_V[tokens_B], value_V[tokens_B]
    moves = (kind == voc.AT) | (kind == voc.SKIP)
    first = moves & (state.stage_B == 5)
    rows = jnp.where(kind == voc.SKIP, state.bar_B,
                     (value - state.row_B - 1) % state.bar_B + 1)
    time = state.time_B + jnp.where(moves & ~first, rows * state.tempo_B, 0)
    over = moves & (time >= state.end_B) | (state.tokens_B <= 0)
    tokens_B = jnp.where(over, voc.START, tokens_B)
    is_note, is_off = kind == voc.NOTE, kind == voc.OFF
    is_event = is_note | is_off
    voice = voice_V[tokens_B]
    bit = 1 << jnp.maximum(voice, 0)
    new_instant = moves | (kind == voc.DELAY)
    stage = jnp.where(state.stage_B < _BODY, state.stage_B + 1, state.stage_B)
    return tokens_B, RulesState(
        asked_Bx5=state.asked_Bx5, stage_B=stage, kind_B=kind,
        delay_B=jnp.where(kind == voc.DELAY, value,
                          jnp.where(moves, 0, state.delay_B)),
        voice_B=jnp.where(is_event, voice,
                          jnp.where(new_instant, -1, state.voice_B)),
        note_B=jnp.where(is_note, voice,
                         jnp.where(kind >= voc.LEVEL, state.note_B, -1)),
        rank_B=jnp.where(kind >= voc.LEVEL, kind - voc.LEVEL, -1),
        mask_B=jnp.where(kind == voc.VOICES, value, state.mask_B),
        on_B=jnp.where(is_note, state.on_B | bit,
                       jnp.where(is_off, state.on_B & ~bit, state.on_B)),
        tempo_B=jnp.where(kind == voc.TEMPO, value, state.tempo_B),
        bar_B=jnp.where(kind == voc.BAR, value, state.bar_B),
        row_B=jnp.where(kind == voc.AT, value, state.row_B), time_B=time,
        end_B=state.end_B, tokens_B=state.tokens_B - 1)
