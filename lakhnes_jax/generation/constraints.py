"""Guides: what steers the model event by event while it writes.

A guide forbids tokens (`process_logits`) and puts others in the place of what was
drawn (`advance`); see `decode.Constraint`. It is compiled into the loop, so that what
differs from song to song is in its state: arrays with the songs, B, on axis 0.
A guide that emits <S> ends the song. Where the rules of a guide leave nothing
that an earlier one allows, they give way.

*   `Ending`: so many events or samples, or the model's own <S>.
*   `Script`: given events first, or the rhythm of a given song.
*   `Accompaniment`: some voices are given, at exact times; the model writes the
    others in between.
*   `Grammar`: what no real song does the model does not do either.
*   `Chain`: several of them.

Letters as in `lakhnes_jax.model.transformer_xl`; N tokens of a script, G given events.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lakhnes_jax import events as ev

NO_LIMIT = np.iinfo(np.int32).max  # Of events or samples.
# In a script, in the place of a token: any token, or (voice v) -1 - v.
ANY = -1 - len(ev.VOICES)
# Silence of all voices, in samples. It is longer in one real song of 200.
MAX_SILENCE = 2 * ev.SAMPLE_RATE
# Of one note, in samples. Each voice holds a longer one in one real song of
# 200, the noise in fewer.
MAX_HELD = 9 * ev.SAMPLE_RATE
# A voice starts no more notes than this in so many samples. Some do in one real
# song of 200.
MOST_NOTES, WITHIN = 16, ev.SAMPLE_RATE // 10
_RANKS = 3  # Of one voice: NOTEOFF or NOTEON, VELOCITY, TIMBRE.
_LAST = _RANKS * len(ev.VOICES)  # Rank of the end of a song, after all others.


class _Tokens(NamedTuple):
  """What each token of a vocabulary is, [V] int32 each.

  Attributes:
    voice: 0 to 3; -1 for waits and <S>.
    kind: NOTEOFF .. TIMBRE; -1 likewise.
    value: pitch and so on; of waits, samples.
    wait: samples; 0 for all others.
    rank: place in an instant: the events of one sample come in ascending rank,
      each at most once, in all of NES-MDB.
    wait_id: [100001], the token of each wait.
  """
  voice: np.ndarray
  kind: np.ndarray
  value: np.ndarray
  wait: np.ndarray
  rank: np.ndarray
  wait_id: np.ndarray


@functools.cache
def _tokens(vocabulary: ev.Vocabulary) -> _Tokens:
  """Tabulates a vocabulary."""
  voice, kind, value = (of(vocabulary.events).astype(np.int32) for of in (
      ev.voice_of, ev.kind_of, ev.value_of))
  rank = np.where(voice < 0, -1, _RANKS * voice + np.maximum(
      kind - ev.NOTEON, 0))
  rank[ev.START] = _LAST
  return _Tokens(
      voice, kind, value, np.maximum(vocabulary.events, 0),
      rank.astype(np.int32),
      vocabulary.encode(np.arange(ev.WAITS[-1] + 1)).astype(np.int32))


def _allow(logits_BxV, allowed_BxV):
  """Forbids the rest, in rows where this leaves anything."""
  left_BxV = jnp.where(allowed_BxV, logits_BxV, -jnp.inf)
  return jnp.where(jnp.isfinite(left_BxV).any(-1, keepdims=True), left_BxV,
                   logits_BxV)


def _at(values_BxN, index_B):
  """Returns [B], element `index` of each row, or its last."""
  index_B = jnp.minimum(index_B, values_BxN.shape[1] - 1)
  return jnp.take_along_axis(values_BxN, index_B[:, None], 1)[:, 0]


def stack(rows: Sequence[Any]) -> Any:
  """Makes the state of a batch from that of each song.

  Args:
    rows: pytrees of numpy arrays. Vectors may differ in length: the shorter
      ones are filled up with their last element.

  Returns:
    A pytree of int32 arrays with B on axis 0. Vectors are as long as the next
    power of two, so that few programs are compiled.
  """
  def join(*leaves):
    size = max(map(np.size, leaves))
    size = 1 << (size - 1).bit_length()
    return np.stack([
        np.pad(leaf, (0, size - len(leaf)), 'edge') if np.ndim(leaf) else leaf
        for leaf in leaves]).astype(np.int32)
  return jax.tree.map(join, *rows)


class EndingState(NamedTuple):
  """What is left: events and samples, [B] int32."""
  events_B: Any
  samples_B: Any


@dataclasses.dataclass(frozen=True)
class Ending:
  """Ends songs after so many events, once so much time is over, or at <S>.

  Attributes:
    vocabulary: of the model.
    at_start: whether the model may draw <S>, and so end its song itself.
  """
  vocabulary: ev.Vocabulary
  at_start: bool = False

  def start(self, events: int, samples: int = NO_LIMIT) -> EndingState:
    return EndingState(np.int32(events), np.int32(min(samples, NO_LIMIT)))

  def process_logits(self, state: EndingState, logits_BxV):
    if self.at_start:
      return logits_BxV
    return logits_BxV.at[:, ev.START].set(-jnp.inf)

  def advance(self, state: EndingState, tokens_B):
    over_B = (state.events_B <= 0) | (state.samples_B <= 0)
    tokens_B = jnp.where(over_B, ev.START, tokens_B)
    waits_B = jnp.asarray(_tokens(self.vocabulary).wait)[tokens_B]
    return tokens_B, EndingState(state.events_B - 1, state.samples_B - waits_B)


class ScriptState(NamedTuple):
  """The script, [B, N] int32, and how far it is done, [B] int32."""
  script_BxN: Any
  position_B: Any


@dataclasses.dataclass(frozen=True)
class Script:
  """Follows a script: tokens that are given, and pitches that are left open.

  Where the script has a token id, that is emitted (<S>, and with it the end of
  the song, included); where it has -1 - v, the model draws among the NOTEONs of
  voice v; where it has `ANY`, among all tokens. Its last element holds on.

  Attributes:
    vocabulary: of the model.
  """
  vocabulary: ev.Vocabulary

  def start(self, script: np.ndarray) -> ScriptState:
    return ScriptState(np.asarray(script, np.int32), np.int32(0))

  def process_logits(self, state: ScriptState, logits_BxV):
    table = _tokens(self.vocabulary)
    asked_B = _at(*state)
    open_B = (asked_B < 0) & (asked_B != ANY)
    noteon_BxV = (table.kind == ev.NOTEON) & (
        table.voice == -1 - asked_B[:, None])
    return _allow(logits_BxV, noteon_BxV | ~open_B[:, None])

  def advance(self, state: ScriptState, tokens_B):
    asked_B = _at(*state)
    return (jnp.where(asked_B < 0, tokens_B, asked_B),
            state._replace(position_B=state.position_B + 1))


class AccompanimentState(NamedTuple):
  """Where an accompaniment stands; all int32.

  Attributes:
    times_BxG: samples, ascending, of what is given; at the end that of the end.
    tokens_BxG: what is given; at the end <S>.
    given_Bx4: 1 for voices that are given.
    next_B: number of the given event that comes next.
    now_B: samples.
    rank_B: of the last event of this instant; -1 if there was none.
    left_B: events that the model may still write; waits that end at a given
      one are not counted.
  """
  times_BxG: Any
  tokens_BxG: Any
  given_Bx4: Any
  next_B: Any
  now_B: Any
  rank_B: Any
  left_B: Any


@dataclasses.dataclass(frozen=True)
class Accompaniment:
  """Lets the model write some voices while the others are given.

  The model's own voices speak as likely as the model says; when it would let a
  given voice speak, they do not. Where a given event is due, that one comes
  then. Where none is, time passes: until the next given event, if there has
  just been a wait, and otherwise for one of the waits that the model holds
  likely. A wait that reaches the next given event, at the precision of the
  vocabulary's waits, ends there. Time is kept to the sample, and the model
  reads the nearest wait.

  Before a given event its own events come only if they are of lower rank. So
  the events of an instant come in ascending rank, as in real songs, and no
  instant is without end. At the end of the given part it may only stop notes.

  Attributes:
    vocabulary: of the model.
  """
  vocabulary: ev.Vocabulary

  def start(self, times: np.ndarray, tokens: np.ndarray, end: int,
            voices: Sequence[int], n_free: int) -> AccompanimentState:
    """Prepares one song.

    Args:
      times: samples of the given events, ascending.
      tokens: their ids.
      end: sample at which the song ends.
      voices: those given.
      n_free: events that the model may write at most.
    """
    given = np.isin(np.arange(len(ev.VOICES)), list(voices))
    return AccompanimentState(
        np.append(times, end).astype(np.int32),
        np.append(tokens, ev.START).astype(np.int32), given.astype(np.int32),
        np.int32(0), np.int32(0), np.int32(-1), np.int32(n_free))

  def _own(self, state: AccompanimentState, rank_B):
    """[B, V] bool: events of the model's voices between the last and a rank."""
    table = _tokens(self.vocabulary)
    own_BxV = (state.given_Bx4[:, table.voice] == 0) & (table.voice >= 0)
    return own_BxV & (table.rank > state.rank_B[:, None]) & (
        table.rank < rank_B[:, None])

  def process_logits(self, state: AccompanimentState, logits_BxV):
    table = _tokens(self.vocabulary)
    due_B = _at(state.times_BxG, state.next_B) == state.now_B
    own_BxV = self._own(state, jnp.full_like(state.rank_B, _LAST))
    waits_V = table.wait > 0
    _, rest_id_B = self._rest(state)
    # Where the probability of what cannot come now goes to.
    rest_BxV = np.arange(len(waits_V)) == rest_id_B[:, None]
    passes_BxV = jnp.where(state.rank_B[:, None] < 0, rest_BxV, waits_V)

    def mass(chosen_BxV):
      return jax.nn.logsumexp(logits_BxV, -1, where=chosen_BxV, keepdims=True)

    # Below the least that a float32 can say there is no ratio to go by.
    more_Bx1 = jnp.nan_to_num(
        mass(passes_BxV | ~(own_BxV | waits_V)) - mass(passes_BxV),
        neginf=0., posinf=0.)
    passing_BxV = _allow(
        jnp.where(passes_BxV, logits_BxV + more_Bx1, logits_BxV),
        own_BxV | waits_V)
    return jnp.where(due_B[:, None], logits_BxV, passing_BxV)

  def _rest(self, state: AccompanimentState):
    """Samples to the next given event, and the nearest wait; both [B]."""
    rest_B = _at(state.times_BxG, state.next_B) - state.now_B
    return rest_B, jnp.asarray(_tokens(self.vocabulary).wait_id)[
        jnp.minimum(rest_B, ev.WAITS[-1])]

  def advance(self, state: AccompanimentState, tokens_B):
    table = jax.tree.map(jnp.asarray, _tokens(self.vocabulary))
    time_B = _at(state.times_BxG, state.next_B)
    given_B = _at(state.tokens_BxG, state.next_B)
    due_B = time_B == state.now_B
    # Who has written too much may only wait.
    longest_wait = table.wait_id[-1]
    tokens_B = jnp.where(state.left_B > 0, tokens_B, longest_wait)

    own_B = jnp.take_along_axis(
        self._own(state, table.rank[given_B]), tokens_B[:, None], 1)[:, 0]
    own_B &= (given_B != ev.START) | (table.kind[tokens_B] == ev.NOTEOFF)
    taken_B = due_B & ~own_B  # The given event has its turn.

    # A silence longer than any wait is passed a wait at a time.
    rest_B, rest_id_B = self._rest(state)
    waits_B = ~due_B & (table.wait[tokens_B] > 0)
    reached_B = waits_B & (tokens_B >= rest_id_B) & (rest_B <= ev.WAITS[-1])

    tokens_B = jnp.where(taken_B, given_B,
                         jnp.where(reached_B, rest_id_B, tokens_B))
    now_B = jnp.where(reached_B, time_B, state.now_B + jnp.where(
        waits_B, table.wait[tokens_B], 0))
    return tokens_B, state._replace(
        next_B=state.next_B + taken_B, now_B=now_B,
        rank_B=jnp.where(waits_B, -1, table.rank[tokens_B]),
        left_B=state.left_B - ~(taken_B | reached_B))


class GrammarState(NamedTuple):
  """What a listener would know; all int32.

  Attributes:
    pitches_Bx4: that sound; 0 for silent voices.
    silent_B: samples since the last of them ended, or since the start.
    rank_B: of the last event of this instant; -1 if there was none.
    untold_B: voice whose NOTEON waits for its VELOCITY; -1 for none.
    held_Bx4: samples since they began; 0 for silent voices, `max_held` at most.
    ago_Bx4N: samples since the last N = MOST_NOTES notes of each voice
      started, voice by voice, the newest first; WITHIN at most.
  """
  pitches_Bx4: Any
  silent_B: Any
  rank_B: Any
  untold_B: Any
  held_Bx4: Any
  ago_Bx4N: Any


def _by_voice(x_Bx4N):
  return x_Bx4N.reshape(-1, len(ev.VOICES), MOST_NOTES)


@dataclasses.dataclass(frozen=True)
class Grammar:
  """Forbids what no song of NES-MDB does.

  *   A silent voice gets no NOTEOFF, and no VELOCITY.
  *   A pitch that sounds does not start again, not even after a wait.
  *   The events of one instant come in the order of voices, and of each voice
      one NOTEOFF or NOTEON, then one VELOCITY, then one TIMBRE.
  *   In a format with dynamics, a NOTEON is followed by its VELOCITY.
  *   All voices are never silent for longer than `max_silence`: waits that
      would pass it are forbidden, and at the limit all but NOTEONs and <S>.
  *   No voice starts more than MOST_NOTES notes WITHIN a tenth of a second:
      models get caught in glides that never end.
  *   No note is held for much longer than `max_held`: after the wait that
      reaches it only those who hold one may speak, to end it or to start
      another. Models get caught in drones, too.

  Attributes:
    vocabulary: of the model.
    max_silence: samples.
    max_held: samples.
  """
  vocabulary: ev.Vocabulary
  max_silence: int = MAX_SILENCE
  max_held: int = MAX_HELD

  def start(self) -> GrammarState:
    n = len(ev.VOICES)
    return GrammarState(np.zeros(n, np.int32), np.int32(0), np.int32(-1),
                        np.int32(-1), np.zeros(n, np.int32),
                        np.full(n * MOST_NOTES, WITHIN, np.int32))

  def allowed(self, state: GrammarState):
    """[B, V] bool: the tokens that all rules leave but the last."""
    table = _tokens(self.vocabulary)
    pitch_BxV = state.pitches_Bx4[:, table.voice]
    needs_note = np.isin(table.kind, (ev.NOTEOFF, ev.VELOCITY))
    again_BxV = (table.kind == ev.NOTEON) & (table.value == pitch_BxV)
    hurried_BxV = (table.kind == ev.NOTEON) & (
        _by_voice(state.ago_Bx4N)[:, table.voice, -1] < WITHIN)
    allowed_BxV = (
        ((pitch_BxV > 0) | ~needs_note) & ~again_BxV & ~hurried_BxV & (
            (table.voice < 0) | (table.rank > state.rank_B[:, None])))

    untold_Bx1 = state.untold_B[:, None]
    allowed_BxV &= (untold_Bx1 < 0) | (table.kind == ev.VELOCITY) & (
        table.voice == untold_Bx1)

    silent_Bx1 = state.silent_B[:, None]
    allowed_BxV &= (table.wait == 0) | (
        silent_Bx1 + table.wait <= self.max_silence
    ) | state.pitches_Bx4.any(-1, keepdims=True)
    goes_on_V = (table.kind == ev.NOTEON) | (np.arange(
        len(table.kind)) == ev.START)
    return jnp.where(silent_Bx1 >= self.max_silence, goes_on_V, allowed_BxV)

  def ends_notes(self, state: GrammarState):
    """[B, V] bool: the tokens that the last rule leaves."""
    table = _tokens(self.vocabulary)
    overdue_Bx4 = state.held_Bx4 >= self.max_held
    return overdue_Bx4[:, table.voice] & np.isin(
        table.kind, (ev.NOTEOFF, ev.NOTEON)) | ~overdue_Bx4.any(
            -1, keepdims=True)

  def process_logits(self, state: GrammarState, logits_BxV):
    # One after the other: given voices may drone, and no other rule gives way.
    return _allow(_allow(logits_BxV, self.allowed(state)),
                  self.ends_notes(state))

  def advance(self, state: GrammarState, tokens_B):
    table = jax.tree.map(jnp.asarray, _tokens(self.vocabulary))
    voice_B, kind_B = table.voice[tokens_B], table.kind[tokens_B]
    here_Bx4 = voice_B[:, None] == jnp.arange(len(ev.VOICES))
    noteon_B = kind_B == ev.NOTEON
    changes_Bx4 = here_Bx4 & (noteon_B | (kind_B == ev.NOTEOFF))[:, None]
    pitches_Bx4 = jnp.where(
        changes_Bx4, (noteon_B * table.value[tokens_B])[:, None],
        state.pitches_Bx4)
    has_velocity = jnp.array([bool(v.velocities) for v in ev.VOICES])
    ago_Bx4xN = _by_voice(jnp.minimum(
        WITHIN, state.ago_Bx4N + table.wait[tokens_B][:, None]))
    ago_Bx4xN = jnp.where(
        (here_Bx4 & noteon_B[:, None])[..., None],
        jnp.pad(ago_Bx4xN[..., :-1], ((0, 0), (0, 0), (1, 0))), ago_Bx4xN)
    held_Bx4 = jnp.where(changes_Bx4 | (pitches_Bx4 == 0), 0, jnp.minimum(
        self.max_held, state.held_Bx4 + table.wait[tokens_B][:, None]))
    tells_B = noteon_B & has_velocity[voice_B] & self.vocabulary.dynamics
    return tokens_B, GrammarState(
        pitches_Bx4,
        jnp.where(pitches_Bx4.any(-1), 0,
                  state.silent_B + table.wait[tokens_B]),
        table.rank[tokens_B], jnp.where(tells_B, voice_B, -1),
        held_Bx4, ago_Bx4xN.reshape(state.ago_Bx4N.shape))


@dataclasses.dataclass(frozen=True)
class Chain:
  """Several guides; each restricts what the ones before it leave.

  Attributes:
    guides: the first may replace what was drawn, the next what that emits.
  """
  guides: tuple[Any, ...]

  def process_logits(self, state, logits_BxV):
    for guide, its_state in zip(self.guides, state, strict=True):
      logits_BxV = guide.process_logits(its_state, logits_BxV)
    return logits_BxV

  def advance(self, state, tokens_B):
    new_state = []
    for guide, its_state in zip(self.guides, state, strict=True):
      tokens_B, its_state = guide.advance(its_state, tokens_B)
      new_state.append(its_state)
    return tokens_B, tuple(new_state)


@functools.partial(jax.jit, static_argnums=(0,))
def skip(guide, state, n):
  """Returns the state after n tokens that the guide emits whatever is drawn."""
  batch = len(jax.tree.leaves(state)[0])
  # With state carried alone, what was drawn in vain is computed no further.
  return jax.lax.fori_loop(
      0, n, lambda _, s: guide.advance(s, jnp.zeros(batch, jnp.int32))[1], state)
