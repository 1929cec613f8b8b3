"""Constraints: what steers the model event by event while it generates.

A constraint masks tokens (`process_logits`) and replaces drawn ones
(`advance`); see `decode.Constraint`. It is compiled into the loop, so what
differs from song to song is in its state: arrays with the songs, B, on axis 0.
`init_state` makes that of one song, `stack` that of a batch. A constraint that
emits <S> ends the song. Where a rule leaves nothing that earlier constraints
allow, the rule gives way.

*   `StoppingCriterion`: after N events or samples, or at the model's own <S>.
*   `ForcedTokens`: given events first, or the rhythm of a given song.
*   `VoiceInfilling`: some voices are given, at exact times; the model writes
    the others in between.
*   `Grammar`: the model does nothing that no real song does.
*   `Chain`: several of them.

Letters as in `lakhnes_jax.model.transformer_xl`; N forced tokens, G given
events.
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
# In place of a forced token: any token; a NOTEON of voice v is -1 - v.
ANY = -1 - len(ev.VOICES)
# Silence of all voices, in samples. It is longer in one real song of 200.
MAX_SILENCE = 2 * ev.SAMPLE_RATE
# Length of a note, in samples. Each voice has a longer one in one real song of
# 200, the noise in fewer.
MAX_HELD = 9 * ev.SAMPLE_RATE
# At most N onsets of a voice within a window of samples. More of them are in
# one real song of 200.
MAX_ONSETS, ONSET_WINDOW = 16, ev.SAMPLE_RATE // 10
_RANKS = 3  # Of one voice: NOTEOFF or NOTEON, VELOCITY, TIMBRE.
_LAST = _RANKS * len(ev.VOICES)  # Rank of the end of a song, after all others.


@functools.cache
def _ranks(vocabulary: ev.Vocabulary) -> np.ndarray:
  """Returns [V] int32, the place of each token in an instant.

  The events of one sample come in ascending rank, each at most once, in all of
  NES-MDB: voice by voice, and of each voice NOTEOFF or NOTEON, VELOCITY,
  TIMBRE. Waits have -1, and <S> comes last.
  """
  rank_V = np.where(vocabulary.voice < 0, -1, _RANKS * vocabulary.voice +
                    np.maximum(vocabulary.kind - ev.NOTEON, 0))
  rank_V[ev.BOS_EOS] = _LAST
  return rank_V.astype(np.int32)


@functools.cache
def _wait_ids(vocabulary: ev.Vocabulary) -> np.ndarray:
  """Returns [100001] int32, the token of each wait in samples."""
  return vocabulary.encode(np.arange(ev.WAITS[-1] + 1)).astype(np.int32)


def _allow(logits_BxV, allowed_BxV):
  """Masks the rest, in rows where this leaves anything."""
  left_BxV = jnp.where(allowed_BxV, logits_BxV, -jnp.inf)
  return jnp.where(jnp.isfinite(left_BxV).any(-1, keepdims=True), left_BxV,
                   logits_BxV)


def _at(values_BxN, index_B):
  """Returns [B], element `index` of each row, or its last."""
  index_B = jnp.minimum(index_B, values_BxN.shape[1] - 1)
  return jnp.take_along_axis(values_BxN, index_B[:, None], 1)[:, 0]


def stack(rows: Sequence[Any]) -> Any:
  """Makes the state of a batch from those of its songs.

  Args:
    rows: pytrees of numpy arrays, one per song. These may differ in length: the
      shorter ones are padded with their last element.

  Returns:
    A pytree of int32 or bool arrays with B on axis 0. Vectors are as long as
    the next power of two, so that few programs are compiled.
  """
  def join(*leaves):
    rank = np.ndim(leaves[0])
    if rank:
      size = max(map(len, leaves))
      if rank == 1:
        size = 1 << (size - 1).bit_length()
      leaves = [np.pad(leaf, [(0, size - len(leaf)), *[(0, 0)] * (rank - 1)],
                       'edge') for leaf in leaves]
    joined = np.stack(leaves)
    return joined if joined.dtype == bool else joined.astype(np.int32)
  return jax.tree.map(join, *rows)


class StoppingState(NamedTuple):
  """What is left: events and samples, [B] int32."""
  events_B: Any
  samples_B: Any


@dataclasses.dataclass(frozen=True)
class StoppingCriterion:
  """Ends songs after N events, after a time, or where the model draws <S>.

  Attributes:
    vocabulary: of the model.
    stop_at_eos: whether the model may draw <S>; else <S> is masked.
  """
  vocabulary: ev.Vocabulary
  stop_at_eos: bool = False

  def init_state(self, events: int, samples: int = NO_LIMIT) -> StoppingState:
    return StoppingState(np.int32(events), np.int32(min(samples, NO_LIMIT)))

  def process_logits(self, state: StoppingState, logits_BxV):
    if self.stop_at_eos:
      return logits_BxV
    return logits_BxV.at[:, ev.BOS_EOS].set(-jnp.inf)

  def advance(self, state: StoppingState, tokens_B):
    ends_B = (state.events_B <= 0) | (state.samples_B <= 0)
    tokens_B = jnp.where(ends_B, ev.BOS_EOS, tokens_B)
    waits_B = jnp.asarray(self.vocabulary.wait)[tokens_B]
    return tokens_B, StoppingState(state.events_B - 1,
                                   state.samples_B - waits_B)


class ForcedState(NamedTuple):
  """The tokens, [B, N] int32, and the number of the next, [B] int32."""
  forced_BxN: Any
  position_B: Any


@dataclasses.dataclass(frozen=True)
class ForcedTokens:
  """Emits given tokens, some of which leave the pitch open.

  A token id is emitted as it is (<S>, and with it the end of the song,
  included). For -1 - v the model draws among the NOTEONs of voice v, for `ANY`
  among all tokens. The last element applies to all that follow.

  Attributes:
    vocabulary: of the model.
  """
  vocabulary: ev.Vocabulary

  def init_state(self, forced: np.ndarray) -> ForcedState:
    return ForcedState(np.asarray(forced, np.int32), np.int32(0))

  def process_logits(self, state: ForcedState, logits_BxV):
    forced_B = _at(*state)
    open_B = (forced_B < 0) & (forced_B != ANY)
    noteon_BxV = (self.vocabulary.kind == ev.NOTEON) & (
        self.vocabulary.voice == -1 - forced_B[:, None])
    return _allow(logits_BxV, noteon_BxV | ~open_B[:, None])

  def advance(self, state: ForcedState, tokens_B):
    forced_B = _at(*state)
    return (jnp.where(forced_B < 0, tokens_B, forced_B),
            state._replace(position_B=state.position_B + 1))


class InfillingState(NamedTuple):
  """What is given, and how far it has been played; all int32.

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
class VoiceInfilling:
  """Lets the model write some voices while the others are given.

  Events of the open voices keep the probability that the model gives them; that
  of the given voices' events goes elsewhere. Where a given event is due, it is
  emitted then. Where none is, it goes to waits: to the one that ends at the
  next given event, if there has just been a wait, and otherwise to all waits in
  proportion. A wait that reaches the next given event, at the precision of the
  vocabulary's waits, ends there. Times are kept sample-exact; the model reads
  the nearest wait.

  Before a given event its own events come only if they are of lower rank. So
  the events of an instant come in ascending rank, as in real songs, and no
  instant is without end. At the end of the given part it may only stop notes.

  Attributes:
    vocabulary: of the model.
  """
  vocabulary: ev.Vocabulary

  def init_state(self, times: np.ndarray, tokens: np.ndarray, end: int,
            voices: Sequence[int], n_free: int) -> InfillingState:
    """Prepares one song.

    Args:
      times: samples of the given events, ascending.
      tokens: their ids.
      end: sample at which the song ends.
      voices: those given.
      n_free: events that the model may write at most.
    """
    given = np.isin(np.arange(len(ev.VOICES)), list(voices))
    return InfillingState(
        np.append(times, end).astype(np.int32),
        np.append(tokens, ev.BOS_EOS).astype(np.int32), given.astype(np.int32),
        np.int32(0), np.int32(0), np.int32(-1), np.int32(n_free))

  def _own(self, state: InfillingState, rank_B):
    """[B, V] bool: events of the open voices between the last and a rank."""
    voice_V, rank_V = self.vocabulary.voice, _ranks(self.vocabulary)
    own_BxV = (state.given_Bx4[:, voice_V] == 0) & (voice_V >= 0)
    return own_BxV & (rank_V > state.rank_B[:, None]) & (
        rank_V < rank_B[:, None])

  def process_logits(self, state: InfillingState, logits_BxV):
    due_B = _at(state.times_BxG, state.next_B) == state.now_B
    own_BxV = self._own(state, jnp.full_like(state.rank_B, _LAST))
    waits_V = self.vocabulary.wait > 0
    _, rest_id_B = self._rest(state)
    # Where the probability of what cannot come now goes to.
    rest_BxV = np.arange(len(waits_V)) == rest_id_B[:, None]
    passes_BxV = jnp.where(state.rank_B[:, None] < 0, rest_BxV, waits_V)

    def mass(chosen_BxV):
      return jax.nn.logsumexp(logits_BxV, -1, where=chosen_BxV, keepdims=True)

    # Where both masses underflow float32, there is no ratio to go by.
    more_Bx1 = jnp.nan_to_num(
        mass(passes_BxV | ~(own_BxV | waits_V)) - mass(passes_BxV),
        neginf=0., posinf=0.)
    passing_BxV = _allow(
        jnp.where(passes_BxV, logits_BxV + more_Bx1, logits_BxV),
        own_BxV | waits_V)
    return jnp.where(due_B[:, None], logits_BxV, passing_BxV)

  def _rest(self, state: InfillingState):
    """Samples to the next given event, and the nearest wait; both [B]."""
    rest_B = _at(state.times_BxG, state.next_B) - state.now_B
    return rest_B, jnp.asarray(_wait_ids(self.vocabulary))[
        jnp.minimum(rest_B, ev.WAITS[-1])]

  def advance(self, state: InfillingState, tokens_B):
    wait_V, kind_V, rank_V = map(jnp.asarray, (
        self.vocabulary.wait, self.vocabulary.kind, _ranks(self.vocabulary)))
    time_B = _at(state.times_BxG, state.next_B)
    given_B = _at(state.tokens_BxG, state.next_B)
    due_B = time_B == state.now_B
    # Once the model has written its most, it may only wait.
    longest_wait = _wait_ids(self.vocabulary)[-1]
    tokens_B = jnp.where(state.left_B > 0, tokens_B, longest_wait)

    own_B = jnp.take_along_axis(
        self._own(state, rank_V[given_B]), tokens_B[:, None], 1)[:, 0]
    own_B &= (given_B != ev.BOS_EOS) | (kind_V[tokens_B] == ev.NOTEOFF)
    taken_B = due_B & ~own_B  # The given event has its turn.

    # A silence longer than any wait is passed a wait at a time.
    rest_B, rest_id_B = self._rest(state)
    waits_B = ~due_B & (wait_V[tokens_B] > 0)
    reached_B = waits_B & (tokens_B >= rest_id_B) & (rest_B <= ev.WAITS[-1])

    tokens_B = jnp.where(taken_B, given_B,
                         jnp.where(reached_B, rest_id_B, tokens_B))
    now_B = jnp.where(reached_B, time_B, state.now_B + jnp.where(
        waits_B, wait_V[tokens_B], 0))
    return tokens_B, state._replace(
        next_B=state.next_B + taken_B, now_B=now_B,
        rank_B=jnp.where(waits_B, -1, rank_V[tokens_B]),
        left_B=state.left_B - ~(taken_B | reached_B))


class GrammarState(NamedTuple):
  """What has been played; all int32.

  Attributes:
    pitches_Bx4: that sound; 0 for silent voices.
    silent_B: samples since the last of them ended, or since the start.
    rank_B: of the last event of this instant; -1 if there was none.
    velocity_due_B: voice whose NOTEON must get its VELOCITY next; -1 for none.
    held_Bx4: samples since the note began; 0 for silent voices, `max_held` at
      most.
    ago_Bx4N: samples since the last N = MAX_ONSETS onsets of each voice, voice
      by voice, the newest first; ONSET_WINDOW at most.
  """
  pitches_Bx4: Any
  silent_B: Any
  rank_B: Any
  velocity_due_B: Any
  held_Bx4: Any
  ago_Bx4N: Any


def _by_voice(x_Bx4N):
  return x_Bx4N.reshape(-1, len(ev.VOICES), MAX_ONSETS)


@dataclasses.dataclass(frozen=True)
class Grammar:
  """Masks what is (nearly) absent from NES-MDB.

  *   A silent voice gets no NOTEOFF, and no VELOCITY.
  *   A pitch that sounds does not start again, not even after a wait.
  *   The events of one instant come in the order of voices, and of each voice
      one NOTEOFF or NOTEON, then one VELOCITY, then one TIMBRE.
  *   In a format with dynamics, a NOTEON is followed by its VELOCITY.
  *   All voices are never silent for longer than `max_silence`: waits that
      would pass it are masked, and at the limit all but NOTEONs and <S>.
  *   No voice starts more than MAX_ONSETS notes within ONSET_WINDOW: models get
      stuck in endless glides.
  *   No note is held for much longer than `max_held`: after the wait that
      reaches it, only the voices that hold one may act, to end it or to start
      another. Models get stuck in drones, too.

  Attributes:
    vocabulary: of the model.
    max_silence: samples.
    max_held: samples.
  """
  vocabulary: ev.Vocabulary
  max_silence: int = MAX_SILENCE
  max_held: int = MAX_HELD

  def init_state(self) -> GrammarState:
    n = len(ev.VOICES)
    return GrammarState(np.zeros(n, np.int32), np.int32(0), np.int32(-1),
                        np.int32(-1), np.zeros(n, np.int32),
                        np.full(n * MAX_ONSETS, ONSET_WINDOW, np.int32))

  def allowed(self, state: GrammarState):
    """[B, V] bool: the tokens that all rules allow but the last."""
    table, rank_V = self.vocabulary, _ranks(self.vocabulary)
    pitch_BxV = state.pitches_Bx4[:, table.voice]
    needs_note = np.isin(table.kind, (ev.NOTEOFF, ev.VELOCITY))
    again_BxV = (table.kind == ev.NOTEON) & (table.value == pitch_BxV)
    hurried_BxV = (table.kind == ev.NOTEON) & (
        _by_voice(state.ago_Bx4N)[:, table.voice, -1] < ONSET_WINDOW)
    allowed_BxV = (
        ((pitch_BxV > 0) | ~needs_note) & ~again_BxV & ~hurried_BxV & (
            (table.voice < 0) | (rank_V > state.rank_B[:, None])))

    due_Bx1 = state.velocity_due_B[:, None]
    allowed_BxV &= (due_Bx1 < 0) | (table.kind == ev.VELOCITY) & (
        table.voice == due_Bx1)

    silent_Bx1 = state.silent_B[:, None]
    allowed_BxV &= (table.wait == 0) | (
        silent_Bx1 + table.wait <= self.max_silence
    ) | state.pitches_Bx4.any(-1, keepdims=True)
    ends_silence_V = (table.kind == ev.NOTEON) | (np.arange(
        table.size) == ev.BOS_EOS)
    return jnp.where(silent_Bx1 >= self.max_silence, ends_silence_V,
                     allowed_BxV)

  def ends_notes(self, state: GrammarState):
    """[B, V] bool: the tokens that the last rule allows."""
    table = self.vocabulary
    overdue_Bx4 = state.held_Bx4 >= self.max_held
    return overdue_Bx4[:, table.voice] & np.isin(
        table.kind, (ev.NOTEOFF, ev.NOTEON)) | ~overdue_Bx4.any(
            -1, keepdims=True)

  def process_logits(self, state: GrammarState, logits_BxV):
    # One after the other: given voices may drone, and then no other rule gives
    # way.
    return _allow(_allow(logits_BxV, self.allowed(state)),
                  self.ends_notes(state))

  def advance(self, state: GrammarState, tokens_B):
    voice_V, kind_V, value_V, wait_V, rank_V = map(jnp.asarray, (
        self.vocabulary.voice, self.vocabulary.kind, self.vocabulary.value,
        self.vocabulary.wait, _ranks(self.vocabulary)))
    voice_B, kind_B = voice_V[tokens_B], kind_V[tokens_B]
    wait_B = wait_V[tokens_B]
    here_Bx4 = voice_B[:, None] == jnp.arange(len(ev.VOICES))
    noteon_B = kind_B == ev.NOTEON
    changes_Bx4 = here_Bx4 & (noteon_B | (kind_B == ev.NOTEOFF))[:, None]
    pitches_Bx4 = jnp.where(
        changes_Bx4, (noteon_B * value_V[tokens_B])[:, None],
        state.pitches_Bx4)
    has_velocity = jnp.array([bool(v.velocities) for v in ev.VOICES])
    ago_Bx4xN = _by_voice(jnp.minimum(
        ONSET_WINDOW, state.ago_Bx4N + wait_B[:, None]))
    ago_Bx4xN = jnp.where(
        (here_Bx4 & noteon_B[:, None])[..., None],
        jnp.pad(ago_Bx4xN[..., :-1], ((0, 0), (0, 0), (1, 0))), ago_Bx4xN)
    held_Bx4 = jnp.where(changes_Bx4 | (pitches_Bx4 == 0), 0, jnp.minimum(
        self.max_held, state.held_Bx4 + wait_B[:, None]))
    due_B = noteon_B & has_velocity[voice_B] & self.vocabulary.dynamics
    return tokens_B, GrammarState(
        pitches_Bx4,
        jnp.where(pitches_Bx4.any(-1), 0, state.silent_B + wait_B),
        rank_V[tokens_B], jnp.where(due_B, voice_B, -1),
        held_Bx4, ago_Bx4xN.reshape(state.ago_Bx4N.shape))


@dataclasses.dataclass(frozen=True)
class Chain:
  """Several constraints; each masks some of what the ones before it allow.

  Attributes:
    constraints: the first may replace what was drawn, the next what that emits.
  """
  constraints: tuple[Any, ...]

  def process_logits(self, state, logits_BxV):
    for constraint, its_state in zip(self.constraints, state, strict=True):
      logits_BxV = constraint.process_logits(its_state, logits_BxV)
    return logits_BxV

  def advance(self, state, tokens_B):
    new_state = []
    for constraint, its_state in zip(self.constraints, state, strict=True):
      tokens_B, its_state = constraint.advance(its_state, tokens_B)
      new_state.append(its_state)
    return tokens_B, tuple(new_state)


@functools.partial(jax.jit, static_argnums=(0,))
def advance_n(constraint, state, n):
  """Returns the state after n tokens that are emitted whatever is drawn."""
  batch = len(jax.tree.leaves(state)[0])
  # Only the state is carried, so that logits are not computed in vain.
  return jax.lax.fori_loop(
      0, n, lambda _, s: constraint.advance(s, jnp.zeros(batch, jnp.int32))[1],
      state)
