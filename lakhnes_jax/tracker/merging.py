"""Events that come whatever the model draws, in one order with those it draws.

The order of all tokens is fixed by row, delay and voice, so it is known for
each token that the model draws whether it would pass the event that is due
next. Then that event comes in its place, or a step towards it: SKIP, AT or
DELAY.

Letters: B songs, V tokens.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lakhnes_jax.tracker import grammar
from lakhnes_jax.tracker import vocabulary as voc

NEVER = 1 << 29  # A row that no song has.
GIVEN, ANY, ANOTHER = range(3)


class Due(NamedTuple):
  """What comes next, [B] each.

  Attributes:
    token_B: int32.
    row_B: int32, rows since the first; `NEVER` where nothing comes.
    delay_B, voice_B: int32; -1 for what begins a row.
    chained_B: 1 where it comes right after the token before.
    pitch_B: of a note, `GIVEN`, or `ANY` where it is the model's; `ANOTHER`
      where it is not that of the token.
  """
  token_B: Any
  row_B: Any
  delay_B: Any
  voice_B: Any
  chained_B: Any
  pitch_B: Any


def earlier(a: Due, b: Due) -> tuple[Due, Any]:
  """Returns which of two comes first, and [B] whether that is the second."""
  second_B = ~_not_before(*((x.row_B, x.delay_B, x.voice_B) for x in (b, a)))
  return Due(*(jnp.where(second_B, y, x)
               for x, y in zip(a, b, strict=True))), second_B


def _events_of(vocabulary: voc.Tracker, voices_B):
  """[B, V] bool: events of these voices, a bit each."""
  kind, voice, _ = vocabulary.table
  bit = np.where(voice >= 0, 1 << np.maximum(voice, 0), 0)
  return ((kind == voc.NOTE) | (kind == voc.OFF)) & (
      bit & voices_B[:, None] > 0)


def process_logits(rules: grammar.Rules, state: grammar.RulesState, row_B,
                   due: Due, voices_B, logits_BxV, *, with_times: bool):
  """Returns logits of what may be drawn.

  Where an event is due, any may be drawn, and what would not come before it
  stands for it; if its pitch is the model's, the probability of that goes to
  the notes of its voice, in proportion. Elsewhere the probability of events of
  the given voices goes to the tokens that go on in time.

  Args:
    rules: the grammar.
    state: of it.
    row_B: rows since the first.
    due: what comes next.
    voices_B: voices that only play what is due, a bit each.
    logits_BxV: as the grammar leaves them.
    with_times: whether NUDGE and TEMPO come only where they are due.
  """
  kind, voice, _ = rules.vocabulary.table
  is_here_B = due.row_B == row_B
  is_due_B = is_here_B & (due.delay_B == state.delay_B)
  given_BxV = _events_of(rules.vocabulary, voices_B)
  passes_V = (kind == voc.AT) | (kind == voc.SKIP) | (kind == voc.DELAY)
  may_pass_B = is_here_B | (state.kind_B >= voc.NOTE)
  passing_BxV = _give(logits_BxV, given_BxV, passes_V & may_pass_B[:, None])
  if with_times:
    passing_BxV = jnp.where((kind == voc.NUDGE) | (kind == voc.TEMPO), -jnp.inf,
                            passing_BxV)
  asis_B = is_due_B | (state.stage_B < grammar.BODY) | ~jnp.isfinite(
      passing_BxV).any(-1)
  later_BxV = passes_V | (kind == voc.START) | given_BxV | (
      (kind == voc.NOTE) | (kind == voc.OFF)) & (
          voice > due.voice_B[:, None])
  note_BxV = (kind == voc.NOTE) & (voice == due.voice_B[:, None]) & (
      (due.pitch_B != ANOTHER)[:, None] |
      (np.arange(len(kind)) != due.token_B[:, None]))
  is_open_B = is_due_B & (due.pitch_B != GIVEN) & (
      note_BxV & jnp.isfinite(logits_BxV)).any(-1)
  return jnp.where(
      is_open_B[:, None], _give(logits_BxV, later_BxV, note_BxV),
      jnp.where(asis_B[:, None], logits_BxV, passing_BxV))


def _give(logits_BxV, from_BxV, to_BxV):
  """Gives the probability of some tokens to others, in proportion."""
  def mass(chosen_BxV):
    return jax.nn.logsumexp(logits_BxV, -1, where=chosen_BxV, keepdims=True)

  # Where either is without mass, there is no ratio to go by.
  gain_Bx1 = jnp.nan_to_num(mass(to_BxV | from_BxV) - mass(to_BxV), nan=0.,
                            neginf=0., posinf=0.)
  return jnp.where(to_BxV, logits_BxV + gain_Bx1,
                   jnp.where(from_BxV, -jnp.inf, logits_BxV))


def advance(rules: grammar.Rules, state: grammar.RulesState, row_B, due: Due,
            voices_B, tokens_B, *, with_times: bool, force_B):
  """Puts what is due, or a step towards it, in the place of what passes it.

  Args:
    rules, state, row_B, due, voices_B, with_times: as in `process_logits`.
    tokens_B: as drawn.
    force_B: where every token counts as one that passes.

  Returns:
    (tokens [B] to go on with; [B] bool, whether they came in the place of what
    was drawn; [B] bool, whether they are what was due)
  """
  kind_V, voice_V, value_V = (jnp.asarray(x) for x in rules.vocabulary.table)
  at_id, delay_id = (grammar.ids_of(rules.vocabulary, kind)
                     for kind in (voc.AT, voc.DELAY))
  skip_id = rules.vocabulary.id_of(voc.SKIP)
  kind, value, voice = (x[tokens_B] for x in (kind_V, value_V, voice_V))
  event_B = (kind == voc.NOTE) | (kind == voc.OFF)
  # Where the drawn token would go to.
  to_row = row_B + jnp.where(
      kind == voc.AT, grammar.rows_to(state, value),
      jnp.where(kind == voc.SKIP, state.bar_B + 1,
                jnp.where(kind == voc.START, NEVER, 0)))
  moves = to_row > row_B
  to_delay = jnp.where(moves, 0, jnp.where(kind == voc.DELAY, value,
                                           state.delay_B))
  # Macros stay where they are, at their note.
  to_voice = jnp.where(event_B, voice, -1)
  passes_B = force_B | (due.chained_B > 0) | _not_before(
      (to_row, to_delay, to_voice), (due.row_B, due.delay_B, due.voice_B))
  passes_B |= event_B & (voices_B & (1 << jnp.maximum(voice, 0)) > 0)
  if with_times:
    passes_B |= (kind == voc.NUDGE) | (kind == voc.TEMPO)
  passes_B &= due.row_B < NEVER
  ahead_B = due.row_B - row_B
  step_B = jnp.where(ahead_B > state.bar_B, skip_id,
                     at_id[(state.row_B + ahead_B) % state.bar_B])
  is_step_B = ahead_B > 0
  waits_B = ~is_step_B & (due.delay_B > state.delay_B)
  step_B = jnp.where(waits_B, delay_id[jnp.maximum(due.delay_B, 0)], step_B)
  due_B = ~is_step_B & ~waits_B
  is_pitch_B = due_B & (due.pitch_B != GIVEN) & (kind == voc.NOTE) & (
      voice == due.voice_B)
  tokens_B = jnp.where(passes_B & ~is_pitch_B,
                       jnp.where(due_B, due.token_B, step_B), tokens_B)
  return tokens_B, passes_B, passes_B & due_B


def _not_before(a, b):
  """Whether (row, delay, voice) a is b or comes after it."""
  return (a[0] > b[0]) | (a[0] == b[0]) & (
      (a[1] > b[1]) | (a[1] == b[1]) & (a[2] >= b[2]))
