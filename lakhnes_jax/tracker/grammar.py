"""What a model may write in the format `tracker`, token by token.

Compiled into the loop of `generation.decode`, as `generation.constraints` are.

*   First the prefix: LENGTH, DENSITY, VOICES, BAR, TEMPO, of which any may be
    asked for, then AT. More of a song may be given, with pitches left open.
*   In a row, events come in the order of their delays, then of voices; macros
    and gate follow their note, each at most once. A row that is gone to has an
    event.
*   Only the voices of VOICES play; one that was silent gets no OFF.
*   Delays and nudges may be limited to some, say those that a song has already.
*   The song ends at <S>, or at the first row after so much time or so many
    tokens. That row is gone to, so that the song lasts until then.

Letters: B songs, V tokens, N given tokens, D values of DELAY.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from lakhnes_jax.tracker import instruments as ins
from lakhnes_jax.tracker import vocabulary as voc

BODY = 6  # Stage of a song whose prefix and first AT are written.
FREE = -1  # Of a given token: any that the rules allow.
_MIN_GIVEN = 512  # N is this or more.
NO_LIMIT = np.iinfo(np.int32).max // 2


def open_pitch(voice):
  """Of a given token: some NOTE of this voice."""
  return -2 - voice


class RulesState(NamedTuple):
  """Where a song stands; int32.

  Attributes:
    given_BxN: tokens that are emitted whatever is drawn, or `FREE`, or
      `open_pitch`; the last holds for all that follow.
    count_B: tokens written.
    stage_B: likewise, but `BODY` at most.
    kind_B: of the token before.
    delay_B: frames, in this row.
    voice_B: of the last event of this instant, or -1.
    note_B: voice whose note was just written, or -1.
    rank_B: of its last macro, or -1.
    mask_B: voices that may play, a bit each.
    on_B: voices that have a note, a bit each.
    tempo_B, bar_B, row_B: as in `clock.Clock`.
    time_B: of the row, in parts of a frame.
    begin_B: frame before which the model adds no event.
    end_B: frame at which the song ends.
    tokens_B: that may still be written.
    length_B: LENGTH is this or more.
    delays_BxD: bool, which DELAY may be drawn.
    nudges_B: bool, whether NUDGE may.
  """
  given_BxN: Any
  count_B: Any
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
  begin_B: Any
  end_B: Any
  tokens_B: Any
  length_B: Any
  delays_BxD: Any
  nudges_B: Any


def frame_of(time_B):
  """Frames of times in parts, rounded as `clock.Clock` does."""
  return (time_B + voc.PARTS // 2) // voc.PARTS


def rows_to(state: RulesState, row):
  """Rows to the next that is this row of a bar."""
  return (row - state.row_B - 1) % state.bar_B + 1


@dataclasses.dataclass(frozen=True)
class Rules:
  """The grammar, and where songs end.

  Attributes:
    vocabulary: a `vocabulary.Tracker`.
    stop_at_eos: whether the model may end its song itself.
  """
  vocabulary: voc.Tracker
  stop_at_eos: bool = True

  def init_state(self, tokens: int, *, asked: Mapping[int, int] | None = None,
                 given: np.ndarray = (), begin: int = 0, end: int = NO_LIMIT,
                 length: int = 0, delays: Iterable[int] = voc.DELAYS,
                 nudges: bool = True) -> RulesState:
    """Returns the state of one song before its first token.

    Args:
      tokens: that may be written at most, given ones included.
      asked: {kind of prefix token: value}, such as {TEMPO: 96}.
      given: the beginning of the song (see `RulesState.given_BxN`), in place of
        `asked`; what follows is free.
      begin: frame before which nothing is added to what is given.
      end: frame; the song ends at the first row from there on.
      length: least LENGTH that the model may draw.
      delays: values of DELAY that it may draw.
      nudges: whether it may draw NUDGE.

    Raises:
      ValueError: there is no such token.
    """
    given = np.asarray(given, np.int32)
    if asked:
      given = np.full(5, FREE, np.int32)
      for kind, value in asked.items():
        try:
          given[kind - voc.LENGTH] = self.vocabulary.id_of(kind, value)
        except KeyError:
          raise ValueError(f'{voc.KIND_NAMES[kind]}_{value} is no token of '
                           'format tracker') from None
    number = {name: np.int32(value) for name, value in {
        'count_B': 0, 'stage_B': 0, 'kind_B': voc.START, 'delay_B': 0,
        'voice_B': -1, 'note_B': -1, 'rank_B': -1, 'mask_B': 15, 'on_B': 0,
        'tempo_B': 6 * voc.PARTS, 'bar_B': 16, 'row_B': 0, 'time_B': 0,
        'begin_B': begin, 'end_B': min(max(end, 1), NO_LIMIT),
        'tokens_B': tokens, 'length_B': length}.items()}
    # At least so long, so that most tasks share a program.
    given = np.pad(given, (0, max(1, _MIN_GIVEN - len(given))),
                   constant_values=FREE)
    return RulesState(
        given_BxN=given, **number, nudges_B=np.bool_(nudges),
        delays_BxD=np.isin(np.arange(voc.N_DELAYS), list(delays)))

  def process_logits(self, state: RulesState, logits_BxV):
    kind, voice, value = self.vocabulary.table
    bit = np.where(voice >= 0, 1 << np.maximum(voice, 0), 0)

    def column(x_B):
      return x_B[:, None]

    before = column(state.kind_B)
    stage = column(state.stage_B)
    begin = column(state.begin_B)
    frame = column(frame_of(state.time_B))
    after_event = before >= voc.NOTE
    is_event = (kind == voc.NOTE) | (kind == voc.OFF)
    allowed = is_event & (voice > column(state.voice_B)) & (
        (kind == voc.NOTE) & (bit & column(state.mask_B) > 0) |
        (kind == voc.OFF) & (bit & column(state.on_B) > 0)) & (
            frame + column(state.delay_B) >= begin)
    owner = jnp.asarray(ins.KIND_OF_VOICE)[state.note_B]
    allowed |= (kind >= voc.LEVEL) & (column(state.note_B) >= 0) & (
        kind - voc.LEVEL > column(state.rank_B)) & (
            (kind == voc.GATE) | (voice == column(owner)))
    allowed |= (kind == voc.DELAY) & (value > column(state.delay_B)) & (
        before != voc.DELAY) & (before != voc.SKIP) & (
            value * voc.PARTS < 2 * column(state.tempo_B)) & (
                frame + value >= begin)
    allowed &= (kind != voc.DELAY) | state.delays_BxD[
        :, np.where(kind == voc.DELAY, value, 0)]
    allowed |= (kind == voc.NUDGE) & (before == voc.AT) & column(state.nudges_B)
    allowed |= (kind == voc.TEMPO) & (
        (before == voc.AT) | (before == voc.NUDGE))
    allowed &= before != voc.SKIP
    rows = (value - column(state.row_B) - 1) % column(state.bar_B) + 1
    allowed |= (kind == voc.AT) & (value < column(state.bar_B)) & (
        after_event | (before == voc.SKIP)) & (
            frame_of(column(state.time_B) + rows * column(state.tempo_B)
                     ) >= begin)
    allowed |= (kind == voc.SKIP) & (after_event | (before == voc.SKIP))
    if self.stop_at_eos:
      allowed |= (kind == voc.START) & after_event
    early = jnp.where(stage < 5, kind == voc.LENGTH + stage,
                      (kind == voc.AT) & (value < column(state.bar_B)))
    early &= (kind != voc.LENGTH) | (value >= column(state.length_B))
    # A song has a voice that plays.
    early &= (kind != voc.VOICES) | (value > 0)
    allowed = jnp.where(stage < BODY, early, allowed)
    given = column(at(state.given_BxN, state.count_B))
    allowed = jnp.where(given < FREE, (kind == voc.NOTE) & (
        voice == open_pitch(given)), allowed)
    allowed = jnp.where(given >= 0, np.arange(len(kind)) == given, allowed)
    left = jnp.where(allowed, logits_BxV, -jnp.inf)
    return jnp.where(jnp.isfinite(left).any(-1, keepdims=True), left,
                     jnp.where(allowed, 0., -jnp.inf))

  def advance(self, state: RulesState, tokens_B):
    tokens_B = self.replace(state, tokens_B)
    return tokens_B, self.state_after(state, tokens_B)

  def replace(self, state: RulesState, tokens_B):
    """Returns these tokens, or what is given or ends the song."""
    given_B = at(state.given_BxN, state.count_B)
    over_B = (frame_of(state.time_B) >= state.end_B) | (
        state.tokens_B <= 0)
    return jnp.where(given_B >= 0, given_B,
                     jnp.where(over_B, voc.START, tokens_B))

  def state_after(self, state: RulesState, tokens_B) -> RulesState:
    """Returns the state after these tokens."""
    kind_V, voice_V, value_V = (jnp.asarray(x) for x in self.vocabulary.table)
    kind, value, voice = kind_V[tokens_B], value_V[tokens_B], voice_V[tokens_B]
    in_body = state.stage_B == BODY
    moves = (kind == voc.AT) | (kind == voc.SKIP)
    rows = jnp.where(kind == voc.SKIP, state.bar_B, rows_to(state, value))
    frame = frame_of(state.time_B)
    time = state.time_B + jnp.where(moves & in_body, rows * state.tempo_B, 0)
    # From here on rows are counted anew, from a whole frame.
    time = jnp.where(in_body & (kind == voc.TEMPO), frame * voc.PARTS, time)
    time = jnp.where(kind == voc.NUDGE, jnp.maximum(frame + value, 0) *
                     voc.PARTS, time)
    is_note, is_off = kind == voc.NOTE, kind == voc.OFF
    is_event = is_note | is_off
    bit = 1 << jnp.maximum(voice, 0)
    # Nothing is added to a note that was given.
    given_note = (at(state.given_BxN, state.count_B) != FREE) & (
        at(state.given_BxN, state.count_B + 1) == FREE)
    new_instant = moves | (kind == voc.DELAY)
    return state._replace(
        count_B=state.count_B + 1,
        stage_B=jnp.minimum(state.stage_B + 1, BODY), kind_B=kind,
        delay_B=jnp.where(kind == voc.DELAY, value,
                          jnp.where(moves, 0, state.delay_B)),
        voice_B=jnp.where(is_event, voice,
                          jnp.where(new_instant, -1, state.voice_B)),
        note_B=jnp.where(given_note, -1, jnp.where(
            is_note, voice, jnp.where(kind >= voc.LEVEL, state.note_B, -1))),
        rank_B=jnp.where(kind >= voc.LEVEL, kind - voc.LEVEL, -1),
        mask_B=jnp.where(kind == voc.VOICES, value, state.mask_B),
        on_B=jnp.where(is_note, state.on_B | bit,
                       jnp.where(is_off, state.on_B & ~bit, state.on_B)),
        tempo_B=jnp.where(kind == voc.TEMPO, value, state.tempo_B),
        bar_B=jnp.where(kind == voc.BAR, value, state.bar_B),
        row_B=jnp.where(kind == voc.AT, value, state.row_B), time_B=time,
        tokens_B=state.tokens_B - 1)


def ids_of(vocabulary: voc.Tracker, kind: int):
  """Ids of the tokens of a kind by value, [values], 0 where there is none."""
  kinds, _, values = vocabulary.table
  mine = kinds == kind
  found = np.zeros(int(values[mine].max()) + 1, np.int32)
  found[values[mine]] = np.flatnonzero(mine)
  return jnp.asarray(found)


def at(values_BxN, index_B):
  """Returns [B], element `index` of each row, or its last."""
  index_B = jnp.minimum(index_B, values_BxN.shape[1] - 1)
  return jnp.take_along_axis(values_BxN, index_B[:, None], 1)[:, 0]
