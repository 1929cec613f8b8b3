"""Bars that the voices of a song play again, as those of real songs do.

A small model repeats what it has just played, or nothing; it transposes
nothing, keeps no rhythm, seldom lets two voices go in step, and may never let
go of a note. In real songs each voice has bars that come again, tunes more
often after two, four or eight bars than after one, and in half of all bars some
voices repeat one while others play something new: a bass and drums under
another melody. So it is drawn from real songs which bars of which voice of a
new one are repeated, when, and how (see `form`), and the model writes the rest,
with all that came before in its memory.

Letters: B songs, V tokens, E events (NOTE or OFF) of a song, M bars, K forms,
D delays, C pitch classes.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lakhnes_jax import events as ev
from lakhnes_jax.tracker import form as form_lib
from lakhnes_jax.tracker import grammar, infilling, merging
from lakhnes_jax.tracker import history as history_lib
from lakhnes_jax.tracker import instruments as ins
from lakhnes_jax.tracker import pattern as pattern_lib
from lakhnes_jax.tracker import vocabulary as voc

_N_FORMS = 32  # K: drawn for each song.
_HELD = 4  # Times that a note may be as long as the longest of the form.
# In the place of an interval: all pitches are the model's; the first is, and
# says the interval for the others.
_ANY, _UNKNOWN = 1 << 20, 1 << 21


class Bar(NamedTuple):
  """What comes again in a bar; int32.

  Attributes:
    next_Bx4: place in the history of each voice's event that comes again next,
      or -1.
    is_again_Bx4: bool, whether it repeats a bar in this one, or follows P1;
    interval_Bx4: how many semitones higher, `_ANY` or `_UNKNOWN`.
    lag_B: rows that P2 is behind P1, which it follows; -1 where it does not.
  """
  next_Bx4: Any
  is_again_Bx4: Any
  interval_Bx4: Any
  lag_B: Any


class RepeatsState(NamedTuple):
  """What a song has been so far, and what of it comes again; int32.

  Attributes:
    rules: of `grammar.Rules`.
    source_BxKx4xM, how_BxKx4xM, lag_BxKxM, frames_BxK, voices_BxK,
      delays_BxKxD, longest_BxKx4: as in `form.Forms`. Of those that have most
      nearly the song's voices, that one counts whose bars last most nearly as
      long;
    form_B: its number.
    bar_B: number of the bar that the song is in.
    history: what has been played.
    now: what comes again in this bar.
    source_B: place of the event that the note before repeats, or -1.
    given: what is given of the song; None where all is the model's.
  """
  rules: grammar.RulesState
  source_BxKx4xM: Any
  how_BxKx4xM: Any
  lag_BxKxM: Any
  frames_BxK: Any
  voices_BxK: Any
  delays_BxKxD: Any
  longest_BxKx4: Any
  form_B: Any
  bar_B: Any
  history: history_lib.History
  now: Bar
  source_B: Any
  given: infilling.Schedule | None


class _Ahead(NamedTuple):
  """What a state says of the next tokens.

  Attributes:
    macro_B: the macro that the note before has yet to get, or -1.
    due: what comes next: an event that comes again, in this bar or the next,
      ends a note, or is given.
    place_B: of the event that comes again, or -1.
    is_given_B: whether it is given.
    voices_B: those that play nothing of the model's, a bit each.
    next_Bx4: as of the bar, but for OFF of what is silent.
    is_full_B, is_next_full_B: whether these are all that may play, in this bar
      and in the next.
  """
  macro_B: Any
  due: merging.Due
  place_B: Any
  is_given_B: Any
  voices_B: Any
  next_Bx4: Any
  is_full_B: Any
  is_next_full_B: Any


@dataclasses.dataclass(frozen=True)
class Repeats:
  """Writes bars of voices again where a form says so; the model the others.

  A voice that repeats a bar has the rows, delays and instruments of that one,
  and nothing else, whatever the others do. The form says whether it has the
  notes too, or these moved by an interval, which is what the model makes of the
  first, or others, which the model makes. A voice that played nothing there is
  free. Where P2 follows P1 it has a note where that has one, or as many rows
  later as the form says, and no others. In the first bar all are free. No note
  is held more than four times as long as any of the form's song.

  Attributes:
    rules: the grammar.
    key_weight: of what a song's pitch classes say of an interval (`_in_key`).
  """
  rules: grammar.Rules
  key_weight: float = .5

  def init_state(self, rules: grammar.RulesState, n_tokens: int,
                 given: infilling.Schedule | None = None,
                 longest: np.ndarray | None = None) -> RepeatsState:
    """Returns the state of one song before its first token, without a form.

    Args:
      rules: of the song.
      n_tokens: that it has at most.
      given: what voices play of which nothing is the model's, and when rows
        begin.
      longest: [4] int32, frames that notes of each voice may be held whatever
        the form says.
    """
    zero = np.int32(0)

    def filled(value, *shape):
      return np.full(shape, value, np.int32)

    return RepeatsState(
        rules, filled(form_lib.NEW, _N_FORMS, 4, form_lib.BARS),
        filled(form_lib.NOTES, _N_FORMS, 4, form_lib.BARS),
        filled(0, _N_FORMS, form_lib.BARS), filled(1, _N_FORMS),
        filled(0, _N_FORMS), np.ones((_N_FORMS, voc.N_DELAYS), bool),
        filled(0 if longest is None else longest, _N_FORMS, 4), zero, zero,
        history_lib.empty(n_tokens),
        Bar(filled(-1, 4), np.zeros(4, bool), filled(0, 4), np.int32(-1)),
        np.int32(-1), given)

  def draw_form(self, forms: form_lib.Forms, state: RepeatsState,
                rng: np.random.Generator, *, delays: bool = False
               ) -> RepeatsState:
    """Gives one song some forms to take one of; with `delays` theirs alone."""
    drawn = forms.take(rng.integers(len(forms.frames), size=_N_FORMS))
    return state._replace(
        source_BxKx4xM=drawn.source, how_BxKx4xM=drawn.how,
        lag_BxKxM=drawn.lag, frames_BxK=drawn.frames, voices_BxK=drawn.voices,
        delays_BxKxD=drawn.delays if delays else state.delays_BxKxD,
        longest_BxKx4=np.where(
            drawn.longest, np.maximum(drawn.longest, state.longest_BxKx4), 0))

  def process_logits(self, state: RepeatsState, logits_BxV):
    rules = state.rules
    kind, _, value = self.rules.vocabulary.table
    ahead = self._ahead(state)
    row_B = self._row(state)
    # A note that comes again has the macros that it had, others the delays of
    # the form.
    is_delay = kind == voc.DELAY
    delays_BxD = state.delays_BxKxD[jnp.arange(len(row_B)), state.form_B]
    out_BxV = (state.source_B[:, None] >= 0) & (kind >= voc.LEVEL) | (
        is_delay & ~delays_BxD[:, np.where(is_delay, value, 0)])
    logits_BxV = jnp.where(
        out_BxV, -jnp.inf, self.rules.process_logits(rules, logits_BxV))
    logits_BxV += self._in_key(state, ahead)
    logits_BxV = merging.process_logits(
        self.rules, rules, row_B, ahead.due, ahead.voices_B, logits_BxV,
        with_times=state.given is not None)
    # Where nobody else plays, there are no rows and delays but those of events
    # that come again.
    inside_BxV = (kind == voc.AT) & (value > rules.row_B[:, None]) | (
        kind == voc.DELAY) & (ahead.due.row_B != row_B)[:, None]
    logits_BxV = jnp.where(ahead.is_full_B[:, None] & inside_BxV, -jnp.inf,
                           logits_BxV)
    macro_Bx1 = ahead.macro_B[:, None]
    return jnp.where(macro_Bx1 < 0, logits_BxV, jnp.where(
        jnp.arange(len(kind)) == macro_Bx1, 0., -jnp.inf))

  def _row(self, state: RepeatsState):
    """Rows since the first bar began."""
    return state.bar_B * state.rules.bar_B + state.rules.row_B

  def _ahead(self, state: RepeatsState) -> _Ahead:
    """Finds what comes next; of the bar after this one, what it begins with."""
    rules, history, now = state.rules, state.history, state.now
    later = self._bar(state, state.bar_B + 1)
    next_Bx4 = self._sounding(state, now.next_Bx4)
    place_Bx8 = jnp.concatenate(
        [next_Bx4, self._sounding(state, later.next_Bx4)], 1)
    bar_Bx8 = state.bar_B[:, None] + jnp.repeat(jnp.arange(2), 4)
    batch_Bx1 = jnp.arange(len(state.bar_B))[:, None]
    row_Bx8 = jnp.where(
        place_Bx8 < 0, merging.NEVER // (4 * voc.N_DELAYS),
        bar_Bx8 * rules.bar_B[:, None] +
        history.row_BxE[batch_Bx1, place_Bx8])
    order_Bx8 = (
        row_Bx8 * voc.N_DELAYS + history.delay_BxE[batch_Bx1, place_Bx8]
    ) * 4 + jnp.tile(jnp.arange(4), 2)
    which_B = jnp.argmin(order_Bx8, 1)
    place_B = grammar.at(place_Bx8, which_B)
    due = self._due(
        state, place_B, grammar.at(row_Bx8, which_B), which_B % 4, grammar.at(
            jnp.concatenate([now.interval_Bx4, later.interval_Bx4], 1),
            which_B))
    for bar_B, bar in ((state.bar_B, now), (state.bar_B + 1, later)):
      other, other_B = self._followed(state, bar_B, bar)
      due, is_other_B = merging.earlier(due, other)
      place_B = jnp.where(is_other_B, other_B, place_B)
    given_B = 0 if state.given is None else state.given.voices_B
    due, is_end_B = merging.earlier(due, self._end(state, given_B))
    is_given_B = jnp.zeros(len(place_B), bool)
    if state.given is not None:
      due, is_given_B = merging.earlier(due, state.given.due())
    voices_B, next_voices_B = (_bits(bar.is_again_Bx4) | given_B
                               for bar in (now, later))
    return _Ahead(
        self._macro(state), due, jnp.where(is_end_B | is_given_B, -1, place_B),
        is_given_B, voices_B, next_Bx4, rules.mask_B & ~voices_B == 0,
        rules.mask_B & ~next_voices_B == 0)

  def _sounding(self, state: RepeatsState, place_Bx4):
    """Passes the OFF of a voice that has no note."""
    kind_V = jnp.asarray(self.rules.vocabulary.table.kind)
    batch_Bx1 = jnp.arange(len(place_Bx4))[:, None]
    is_off_Bx4 = kind_V[
        state.history.token_BxE[batch_Bx1, place_Bx4]] == voc.OFF
    return jnp.where(
        (place_Bx4 >= 0) & is_off_Bx4 & ~_has(state.rules.on_B),
        state.history.after_in_bar(place_Bx4), place_Bx4)

  def _followed(self, state: RepeatsState, bar_B, bar: Bar
               ) -> tuple[merging.Due, Any]:
    """Returns what P2 plays next in a bar of what P1 has played, and its place.
    """
    rules, history = state.rules, state.history
    kind_V, voice_V, _ = (
        jnp.asarray(x) for x in self.rules.vocabulary.table)
    # The first after the last of P2 that is later than that, and in this bar.
    row_BxE = history.bar_BxE * rules.bar_B[:, None] + history.row_BxE
    time_BxE = row_BxE * voc.N_DELAYS + history.delay_BxE
    last_B = history.last_Bx4[:, ev.P2]
    after_B = jnp.where(last_B < 0, -1, grammar.at(time_BxE, last_B))
    lag_Bx1, bar_Bx1 = bar.lag_B[:, None], bar_B[:, None]
    row_BxE += lag_Bx1
    kind_BxE = kind_V[history.token_BxE]
    is_next_BxE = (lag_Bx1 >= 0) & (
        jnp.arange(row_BxE.shape[1]) < history.count_B[:, None]) & (
            voice_V[history.token_BxE] == ev.P1) & (
                (kind_BxE == voc.NOTE) | _has(rules.on_B)[:, ev.P2:ev.TR]) & (
                    row_BxE // rules.bar_B[:, None] == bar_Bx1) & (
                        time_BxE + lag_Bx1 * voc.N_DELAYS > after_B[:, None])
    place_B = jnp.where(is_next_BxE.any(1), jnp.argmax(is_next_BxE, 1), -1)
    return self._due(
        state, place_B, grammar.at(row_BxE, place_B),
        jnp.full_like(place_B, ev.P2), bar.interval_Bx4[:, ev.P2]), place_B

  def _due(self, state: RepeatsState, place_B, row_B, voice_B, interval_B
          ) -> merging.Due:
    """Returns events of the history as they come again; none of place -1."""
    token_B, pitch_B = self._moved(
        grammar.at(state.history.token_BxE, place_B), voice_B, interval_B)
    return merging.Due(
        token_B, jnp.where(place_B < 0, merging.NEVER, row_B),
        grammar.at(state.history.delay_BxE, place_B), voice_B,
        jnp.zeros_like(place_B), pitch_B)

  def _end(self, state: RepeatsState, given_B) -> merging.Due:
    """Returns the OFF of a note that would be too long for the form.

    It comes in the row after that in which the longest may end, as a note often
    ends where the next begins; in this bar or the next.

    Args:
      state: of songs.
      given_B: voices whose notes are not the model's to end, a bit each.
    """
    rules, history = state.rules, state.history
    batch = jnp.arange(len(state.bar_B))
    longest_Bx4 = _HELD * state.longest_BxKx4[batch, state.form_B]
    place_Bx4 = history.last_Bx4
    bar_Bx4, row_Bx4 = (jnp.take_along_axis(x_BxE, place_Bx4, 1)
                        for x_BxE in (history.bar_BxE, history.row_BxE))
    level_Bx4, gate_Bx4 = (history.macros_Bx4x4[..., macro - voc.LEVEL]
                           for macro in (voc.LEVEL, voc.GATE))
    # A note that ends by itself needs no OFF.
    lasts_Bx4 = jnp.minimum(
        _ends(self.rules.vocabulary)[jnp.arange(4), level_Bx4],
        jnp.where(gate_Bx4 > 0, gate_Bx4, ins.NEVER))
    is_held_Bx4 = _has(rules.on_B & ~given_B) & (place_Bx4 >= 0) & (
        longest_Bx4 > 0) & (lasts_Bx4 > longest_Bx4)
    off_Bx4 = jnp.maximum(
        self._row(state)[:, None],
        bar_Bx4 * rules.bar_B[:, None] + row_Bx4 + 1 +
        longest_Bx4 * voc.PARTS // rules.tempo_B[:, None])
    is_soon_Bx4 = off_Bx4 < ((state.bar_B + 2) * rules.bar_B)[:, None]
    off_Bx4 = jnp.where(is_held_Bx4 & is_soon_Bx4, off_Bx4, merging.NEVER)
    voice_B = jnp.argmin(off_Bx4, 1)
    zero_B = jnp.zeros_like(voice_B)
    return merging.Due(
        _event_ids(self.rules.vocabulary)[1][voice_B], off_Bx4.min(1), zero_B,
        voice_B, zero_B, jnp.full_like(zero_B, merging.GIVEN))

  def _moved(self, tokens_B, voice_B, interval_B):
    """Returns events as other voices have them, so far away.

    Args:
      tokens_B: NOTE or OFF.
      voice_B: of which they shall be.
      interval_B: semitones, `_ANY` or `_UNKNOWN`. Notes that a voice does not
        have are octaves nearer.

    Returns:
      (tokens [B]; [B], whose their pitch is, as `merging.Due.pitch_B`)
    """
    kind_V, _, value_V = (jnp.asarray(x) for x in self.rules.vocabulary.table)
    note_4xP, off_4 = _event_ids(self.rules.vocabulary)
    low_4, high_4 = (jnp.asarray([pitches[i] for _, pitches, *_ in ev.VOICES])
                     for i in (0, -1))
    is_note_B = kind_V[tokens_B] == voc.NOTE
    pitch_B = pattern_lib.into_range(
        value_V[tokens_B] + jnp.where(interval_B < _ANY, interval_B, 0),
        low_4[voice_B], high_4[voice_B])
    whose_B = jnp.where(interval_B == _ANY, merging.ANY, jnp.where(
        interval_B == _UNKNOWN, merging.ANOTHER, merging.GIVEN))
    return (jnp.where(is_note_B, note_4xP[voice_B, pitch_B], off_4[voice_B]),
            jnp.where(is_note_B, whose_B, merging.GIVEN))

  def _in_key(self, state: RepeatsState, ahead: _Ahead):
    """What a song's pitch classes say of where a transposed bar begins.

    Of each interval the log likelihood of the pitch classes that the bar then
    has, by how many notes of the song have each.

    Returns:
      [B, V] of the notes of songs that begin such a bar here, 0 for all else.
    """
    kind, voice, value = (jnp.asarray(x) for x in self.rules.vocabulary.table)
    history, due = state.history, ahead.due
    begins_B = (due.pitch_B == merging.ANOTHER) & (
        due.row_B == self._row(state)) & (due.delay_B == state.rules.delay_B)
    is_note_BxV = (kind == voc.NOTE) & (voice == due.voice_B[:, None])

    def likelihoods():
      is_heard_BxE = (
          (kind == voc.NOTE) & (voice != ev.NO))[history.token_BxE] & (
              jnp.arange(history.token_BxE.shape[1]) < history.count_B[:, None])
      is_class_BxExC = is_heard_BxE[..., None] & (
          value[history.token_BxE][..., None] % 12 == jnp.arange(12))
      bar_B = grammar.at(history.bar_BxE, ahead.place_B)
      is_due_BxE = (history.bar_BxE == bar_B[:, None]) & (
          voice[history.token_BxE] == due.voice_B[:, None])
      count_BxC = is_class_BxExC.sum(1) + .5
      share_BxC = jnp.log(count_BxC / count_BxC.sum(1, keepdims=True))
      has_BxC = (is_class_BxExC & is_due_BxE[..., None]).any(1)
      higher = (np.arange(12)[:, None] + np.arange(12)) % 12
      of_interval_Bx12 = jnp.where(
          has_BxC[:, None], share_BxC[:, higher], 0).sum(-1)
      interval_BxV = (value - value[due.token_B][:, None]) % 12
      return jnp.take_along_axis(of_interval_Bx12, interval_BxV, 1)

    return jnp.where(
        begins_B[:, None] & is_note_BxV,
        self.key_weight * jax.lax.cond(
            begins_B.any(), likelihoods,
            lambda: jnp.zeros(is_note_BxV.shape)), 0.)

  def _bar(self, state: RepeatsState, bar_B) -> Bar:
    """Returns what comes again in a bar."""
    history = state.history
    batch = jnp.arange(len(bar_B))
    source_Bx4, how_Bx4, lag_B = (of_form_BxKxM[
        batch, state.form_B, ..., jnp.minimum(bar_B, form_lib.BARS - 1)]
        for of_form_BxKxM in (state.source_BxKx4xM, state.how_BxKx4xM,
                              state.lag_BxKxM))
    # Of a song of more than E events, the bars before the last that is whole.
    known_B = jnp.where(history.count_B < history.bar_BxE.shape[1], bar_B,
                        history.bar_BxE[:, -1])
    is_inside_B = bar_B < form_lib.BARS
    is_known_Bx4 = is_inside_B[:, None] & (source_Bx4 >= 0) & (
        source_Bx4 < known_B[:, None])
    plays_Bx4 = _has(state.rules.mask_B)
    follows_B = is_inside_B & (source_Bx4[:, ev.P2] == bar_B) & (
        plays_Bx4[:, ev.P1] & plays_Bx4[:, ev.P2])
    first_Bx4 = history.first_Bx4xM[
        batch[:, None], jnp.arange(4), jnp.maximum(source_Bx4, 0)]
    if state.given is not None:
      is_given_Bx4 = _has(state.given.voices_B)
      is_known_Bx4 &= ~is_given_Bx4
      follows_B &= ~is_given_Bx4[:, ev.P2]
    first_Bx4 = jnp.where(is_known_Bx4, first_Bx4, -1)
    return Bar(
        first_Bx4, (first_Bx4 >= 0) | (
            (jnp.arange(4) == ev.P2) & follows_B[:, None]),
        jnp.asarray([0, _UNKNOWN, _ANY])[how_Bx4],
        jnp.where(follows_B, lag_B, -1))

  def _macro(self, state: RepeatsState):
    """Returns the macro that the note before has yet to get, or -1."""
    macro_ids_3x3xN = _macro_ids(self.rules.vocabulary)
    batch = jnp.arange(len(state.bar_B))
    voice_B = jnp.maximum(state.rules.note_B, 0)
    wanted_Bx4 = state.history.macros_BxEx4[batch, state.source_B]
    differs_Bx4 = (wanted_Bx4 != state.history.macros_Bx4x4[batch, voice_B]) & (
        jnp.arange(history_lib.N_MACROS) > state.rules.rank_B[:, None])
    which_B = jnp.argmax(differs_Bx4, 1)
    number_B = wanted_Bx4[batch, which_B]
    macro_B = jnp.where(
        which_B == history_lib.N_MACROS - 1,
        grammar.ids_of(self.rules.vocabulary, voc.GATE)[number_B],
        macro_ids_3x3xN[jnp.asarray(ins.KIND_OF_VOICE)[voice_B], which_B,
                        number_B])
    return jnp.where((state.source_B >= 0) & differs_Bx4.any(1), macro_B, -1)

  def advance(self, state: RepeatsState, tokens_B):
    rules = state.rules
    kind_V, _, value_V = (jnp.asarray(x) for x in self.rules.vocabulary.table)
    asked_B = self.rules.replace(rules, tokens_B)
    # What neither was given nor ends the song may give way to a repeat.
    may_B = (rules.stage_B == grammar.BODY) & (asked_B == tokens_B) & (
        tokens_B != voc.START) & (
            grammar.at(rules.given_BxN, rules.count_B) == grammar.FREE)
    ahead = self._ahead(state)
    kind_B = kind_V[tokens_B]
    is_next_B = ahead.due.row_B >= (state.bar_B + 1) * rules.bar_B
    force_B = ahead.is_full_B & (kind_B == voc.DELAY) | (
        ahead.is_next_full_B & is_next_B & self._leaves(rules, tokens_B))
    if state.given is not None:
      force_B |= state.given.left_B <= 0
    merged_B, passes_B, played_B = merging.advance(
        self.rules, rules, self._row(state), ahead.due, ahead.voices_B,
        tokens_B, with_times=state.given is not None, force_B=force_B)
    is_macro_B = ahead.macro_B >= 0
    tokens_B = jnp.where(may_B, jnp.where(is_macro_B, ahead.macro_B, merged_B),
                         asked_B)
    given_B, again_B = (
        played_B & may_B & ~is_macro_B & which_B
        for which_B in (ahead.is_given_B, ahead.place_B >= 0))
    mine_Bx4 = again_B[:, None] & (
        jnp.arange(4) == ahead.due.voice_B[:, None])
    given = state.given
    if given is not None:
      given = given._replace(
          next_B=given.next_B + given_B,
          left_B=given.left_B - (may_B & ~passes_B & ~is_macro_B))
    is_note_B = again_B & (kind_V[tokens_B] == voc.NOTE)
    interval_B = value_V[tokens_B] - value_V[
        grammar.at(state.history.token_BxE, ahead.place_B)]
    now = state.now
    state = state._replace(
        given=given,
        now=now._replace(
            next_Bx4=jnp.where(
                mine_Bx4, state.history.after_in_bar(ahead.next_Bx4),
                ahead.next_Bx4),
            interval_Bx4=jnp.where(
                mine_Bx4 & is_note_B[:, None] & (now.interval_Bx4 == _UNKNOWN),
                interval_B[:, None], now.interval_Bx4)),
        # P2 has instruments of its own where it follows.
        source_B=jnp.where(
            is_note_B & ~((now.lag_B >= 0) & (ahead.due.voice_B == ev.P2)),
            ahead.place_B, jnp.where(may_B & (kind_V[tokens_B] >= voc.LEVEL),
                                     state.source_B, -1)))
    state = self._written(state, tokens_B, may_B)
    # The model has no say in given notes.
    return tokens_B, state._replace(rules=state.rules._replace(
        note_B=jnp.where(given_B, -1, state.rules.note_B)))

  def _leaves(self, rules: grammar.RulesState, tokens_B):
    """Whether these tokens go on to a row of a later bar."""
    kind_V, _, value_V = (jnp.asarray(x) for x in self.rules.vocabulary.table)
    return (kind_V[tokens_B] == voc.SKIP) | (kind_V[tokens_B] == voc.AT) & (
        value_V[tokens_B] <= rules.row_B)

  def _written(self, state: RepeatsState, tokens_B, may_B) -> RepeatsState:
    """Returns the state after these tokens.

    Args:
      state: before them.
      tokens_B: of each song the next.
      may_B: whether it is the model's own, or a repeat.
    """
    before = state.rules
    rules = self.rules.state_after(before, tokens_B)
    in_body_B = before.stage_B == grammar.BODY
    leaves_B = in_body_B & self._leaves(before, tokens_B)
    bar_B = state.bar_B + leaves_B
    bar = self._bar(state, bar_B)
    # What is given goes on to bars of its own.
    may_Bx1 = may_B[:, None]
    bar = bar._replace(
        next_Bx4=jnp.where(may_Bx1, bar.next_Bx4, -1),
        is_again_Bx4=bar.is_again_Bx4 & may_Bx1,
        lag_B=jnp.where(may_B, bar.lag_B, -1))
    frames_B = rules.tempo_B * rules.bar_B / voc.PARTS
    # Twice as long is no worse than a voice more or less.
    nearest_B = jnp.argmin(
        jnp.abs(jnp.log2(state.frames_BxK / frames_B[:, None])) +
        jax.lax.population_count(state.voices_BxK ^ rules.mask_B[:, None]), 1)
    return state._replace(
        rules=rules, bar_B=bar_B,
        form_B=jnp.where(in_body_B, state.form_B, nearest_B),
        history=state.history.written(self.rules.vocabulary, before, tokens_B,
                                      bar_B),
        now=jax.tree.map(
            lambda new, old: jnp.where(
                leaves_B.reshape((-1,) + (1,) * (new.ndim - 1)), new, old),
            bar, state.now))


def _bits(is_Bx4):
  """Voices as a bit each."""
  return (is_Bx4 << jnp.arange(4)).sum(1)


def _has(bits_B):
  """[B, 4] bool: the voices of these bits."""
  return (bits_B[:, None] >> jnp.arange(4)) & 1 > 0


def _event_ids(vocabulary: voc.Tracker):
  """Ids of NOTE by voice and pitch, 0 where there is none; of OFF by voice."""
  kind, voice, value = vocabulary.table
  is_note, is_off = kind == voc.NOTE, kind == voc.OFF
  notes = np.zeros((len(ev.VOICES), value[is_note].max() + 1), np.int32)
  notes[voice[is_note], value[is_note]] = np.flatnonzero(is_note)
  return jnp.asarray(notes), jnp.asarray(
      np.flatnonzero(is_off)[np.argsort(voice[is_off])])


def _ends(vocabulary: voc.Tracker):
  """Frame at which each level macro is silent, by voice and number."""
  ends = [vocabulary.codebook.kinds[kind].ends for kind in ins.KIND_OF_VOICE]
  most = max(map(len, ends))
  return jnp.asarray([np.pad(x, (0, most - len(x))) for x in ends])


def _macro_ids(vocabulary: voc.Tracker):
  """Ids of macros by kind of voice, macro and number."""
  kind, voice, value = vocabulary.table
  ids = np.zeros((len(ins.KINDS), history_lib.N_MACROS - 1, int(
      value[(kind >= voc.LEVEL) & (kind < voc.GATE)].max()) + 1), np.int32)
  for macro in range(history_lib.N_MACROS - 1):
    mine = np.flatnonzero(kind == voc.LEVEL + macro)
    ids[voice[mine], macro, value[mine]] = mine
  return jnp.asarray(ids)
