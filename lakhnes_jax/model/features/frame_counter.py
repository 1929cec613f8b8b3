"""When the chip's frame counter ticks next: its phase, heard from the song.

The frame counter of the 2A03 clocks envelopes and length counters, and the
linear counter that gates the triangle, 240 times a second, whatever the game's
program does. So most notes of the triangle begin and end on a tick, 183.75
samples apart, and so do many notes that end by themselves; what the program
does comes once a video frame, 733.8 samples apart. Four ticks are 735 samples:
from frame to frame they come 1.2 samples later, which looks like chance in a
score, and is none (NESdev wiki, "APU Frame Counter"; NES-MDB's own emulation of
it is an accumulator at 240 Hz).

This keeps, for each kind of event (and whether a frame begins with it), where
the ticks were as of it, less that drift. What all events of a frame say is
multiplied: a belief about when the next tick comes. The model is told, and its
logits of waits may be moved towards those that end on a tick.

Letters as in `lakhnes_jax.model.transformer_xl`; T = 147 equal parts of the time between two
ticks, 1.25 samples each; E = 8 kinds of events: NOTEOFF and NOTEON, by voice;
A = 16, the same by whether a frame begins with them.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lakhnes_jax import events, nes

TICK = nes.FRAME_60HZ / 4  # Samples.
PARTS = 147
_PART = TICK / PARTS
_DRIFT = 4 * TICK - nes.VIDEO_FRAME  # Samples that ticks come later, a frame.
_SAME_FRAME = 600  # Samples since a frame's first event; what is later is not.
_KINDS = 2  # NOTEOFF, NOTEON.
_EVENTS = _KINDS * len(events.VOICES)
_FORGET = .93  # What is left of what is known of an event when it comes again.
_UNKNOWN = .3  # Ticks seen anywhere, before any is.
_BLUR = 5  # Samples by which a wait of 100 to 1,000 may be rounded.
_JITTER = 1  # Samples.
_HITS = .15  # Weight of the last event in the mean of its kind.
_FLOOR = .05  # Least density, of 1 on average, that counts.
# Waits by how finely they are rounded; each range has a gate.
_SPACINGS = (1, 10, 100)


class State(NamedTuple):
  """What is carried from token to token; float32, 0 at first.

  Times in samples as of the first event of the frame.

  Attributes:
    ticks: [A, B, T], when ticks came as of each event, less the drift.
    belief: [1, B, T], log density of when ticks come as of the frame.
    seen: [2, B, A], when each event was in this frame, plus 1 (0: was not), and
      by how much that time may be wrong.
    hits: [1, B, E], mean log density of the times at which each came, by what
      was believed before it.
    now: [6, B]: the drift so far, the time, by how much it may be wrong, the
      wait before, whether the frame has begun, and when the triangle was on or
      off in it, plus 1.
  """
  ticks: Any
  belief: Any
  seen: Any
  hits: Any
  now: Any


class Told(NamedTuple):
  """What the model is told after each token.

  Attributes:
    next_BxLxT: probability that the next tick comes in this part.
    hits_BxLxE: see `State`.
  """
  next_BxLxT: Any
  hits_BxLxE: Any


@functools.lru_cache
def _tokens(n_token: int) -> np.ndarray:
  """[2, V] int32: samples that each token waits; its event of E, or -1."""
  event_V = events.of_size(n_token, 'frame_counter').events
  kind_V = events.kind_of(event_V)
  return np.stack([np.maximum(event_V, 0), np.where(
      (event_V < 0) & (kind_V < _KINDS),
      _KINDS * events.voice_of(event_V) + kind_V, -1)])


def check(n_token: int) -> None:
  """Raises ValueError if no vocabulary has so many tokens."""
  _tokens(n_token)


def empty(batch: int) -> State:
  """Returns the state before anything was played."""
  return State(*(jnp.zeros(shape, jnp.float32) for shape in (
      (2 * _EVENTS, batch, PARTS), (1, batch, PARTS),
      (2, batch, 2 * _EVENTS), (1, batch, _EVENTS), (6, batch))))


def follow(n_token: int, state: State, tokens_BxL, n_read):
  """Follows songs through tokens.

  Args:
    n_token: size of the vocabulary, which identifies it.
    state: before the segment.
    tokens_BxL: int32 ids; at <S> all begins anew.
    n_read: int scalar, 1 .. L; so many are kept for what follows.

  Returns:
    (`Told`; the state to go on with)
  """
  wait_LxB, event_LxB = jnp.asarray(_tokens(n_token))[:, tokens_BxL.T]

  def step(state, token):
    number, *token = token
    after, told = _step(state, *token)
    return jax.tree.map(lambda new, old: jnp.where(number < n_read, new, old),
                        after, state), told

  state, told = jax.lax.scan(step, state, (
      jnp.arange(len(wait_LxB)), wait_LxB.astype(jnp.float32), event_LxB,
      tokens_BxL.T == events.START))
  return Told(*(x.swapaxes(0, 1) for x in told)), state


def _step(state: State, wait_B, event_B, start_B):
  """Reads one token of each song; see `follow`."""
  state = jax.tree.map(lambda x: jnp.where(
      start_B.reshape(1, -1, *[1] * (x.ndim - 2)), 0, x), state)
  state = _listen(_wait(state, wait_B), event_B)
  time_B = state.now[1]
  return state, Told(_later(_normal(state.belief[0]), time_B), state.hits[0])


def _wait(state: State, wait_B) -> State:
  """Lets time go by: within the frame, or to another."""
  drift_B, time_B, blur_B, before_B, begun_B, tick_B = state.now
  is_wait_B = wait_B > 0
  later_B = time_B + wait_B
  is_new_B = is_wait_B & (later_B >= _SAME_FRAME)
  frames_B = jnp.maximum(1, (later_B / nes.VIDEO_FRAME).round())
  drift_B = jnp.where(is_new_B, (drift_B + frames_B * _DRIFT) % TICK, drift_B)
  # Ticks go on through a wait, as far as one knows how long it was.
  box = np.ones(2 * round(_BLUR / _PART) + 1) / (2 * round(_BLUR / _PART) + 1)
  then_BxT = _smooth(_later(_normal(state.belief[0]), later_B), box)
  then_BxT = jnp.where((wait_B <= 1000)[:, None],
                       jnp.log(.1 + .9 * PARTS * then_BxT), 0)
  blur_B += jnp.where(is_wait_B & (wait_B > 100), _BLUR, 0)
  anew = functools.partial(jnp.where, is_new_B, 0)
  return state._replace(
      belief=jnp.where(is_new_B[:, None], then_BxT, state.belief),
      seen=jnp.where(is_new_B[:, None], 0, state.seen),
      now=jnp.stack([drift_B, anew(later_B), anew(blur_B),
                     jnp.where(is_wait_B, wait_B, before_B), anew(begun_B),
                     anew(tick_B)]))


def _listen(state: State, event_B) -> State:
  """Hears an event, where there is one."""
  drift_B, time_B, blur_B, wait_B, begun_B, tick_B = state.now
  is_event_B = event_B >= 0
  is_tick_B = is_event_B & (event_B // _KINDS == events.TR)
  # Anything else is an anchor: ticks are known as of it.
  anchor_BxA = (is_event_B & ~is_tick_B)[:, None] & (np.arange(
      2 * _EVENTS) == (2 * event_B + (begun_B == 0))[:, None])
  is_anchor_Bx1 = anchor_BxA.any(1, keepdims=True)
  ticks = _learn(state, anchor_BxA, is_tick_B)

  known_BxT = _later(jnp.einsum('abt,ba->bt', ticks, anchor_BxA.astype(
      jnp.float32)), -(time_B + drift_B))
  known_BxT = PARTS * (known_BxT + _UNKNOWN / PARTS) / (
      known_BxT.sum(1, keepdims=True) + _UNKNOWN)
  on_tick_BxT = _apart(time_B) < 2 * _PART
  belief_BxT = jnp.where(
      is_tick_B[:, None],
      jnp.log(jnp.where(on_tick_BxT, .5 + .5 * PARTS / 4, .5)),
      state.belief[0] + jnp.where(is_anchor_Bx1, jnp.log(known_BxT), 0))
  return State(
      ticks, belief_BxT[None],
      jnp.where(anchor_BxA, jnp.stack([time_B + 1, blur_B])[..., None],
                state.seen),
      _judge(state, event_B)[None],
      jnp.stack([drift_B, time_B, blur_B, jnp.where(is_event_B, 0, wait_B),
                 jnp.where(is_event_B, 1, begun_B),
                 jnp.where(is_tick_B, time_B + 1, tick_B)]))


def _learn(state: State, anchor_BxA, is_tick_B):
  """Returns what is known of ticks as of all events, [A, B, T].

  A tick tells of the anchors before it in the frame; an anchor, of the tick
  before it, where there was one.

  Args:
    state: before the event.
    anchor_BxA: which anchor the event is, if any.
    is_tick_B: whether it is the triangle's.
  """
  drift_B, time_B, blur_B, _, _, tick_B = state.now
  seen_BxA, seen_blur_BxA = state.seen
  ends_Bx1 = is_tick_B[:, None]
  learns_BxA = jnp.where(ends_Bx1, seen_BxA > 0,
                         anchor_BxA & (tick_B > 0)[:, None])
  as_of_BxA = jnp.where(ends_Bx1, time_B[:, None] - (seen_BxA - 1),
                        (tick_B - 1 - time_B)[:, None])
  wrong_BxA = _PART + _JITTER + blur_B[:, None] - jnp.where(
      ends_Bx1, seen_blur_BxA, 0)
  bump_BxAxT = jnp.maximum(0, 1 - _apart(
      as_of_BxA - drift_B[:, None]) / wrong_BxA[..., None])
  bump_BxAxT /= bump_BxAxT.sum(2, keepdims=True)
  kept_BxA = jnp.where(anchor_BxA, _FORGET, 1)
  return (kept_BxA.T[..., None] * state.ticks
          + jnp.where(learns_BxA[..., None], bump_BxAxT, 0).swapaxes(0, 1))


def _judge(state: State, event_B):
  """Returns hits [B, E] with an event that may come where a tick was believed.

  After longer waits than 1,000 nobody knows whether it does.
  """
  _, time_B, _, wait_B, _, _ = state.now
  near_BxT = _apart(time_B) <= jnp.where(
      wait_B > 100, _BLUR, 1.5 * _PART)[:, None]
  density_B = PARTS * (_normal(state.belief[0]) * near_BxT).sum(
      1) / near_BxT.sum(1)
  counts_BxE = (event_B[:, None] == np.arange(_EVENTS)) & (
      (wait_B > 0) & (wait_B <= 1000))[:, None]
  return jnp.where(counts_BxE, (1 - _HITS) * state.hits[0] + _HITS * jnp.log(
      density_B + _FLOOR)[:, None], state.hits[0])


def _normal(log_BxT):
  return jax.nn.softmax(log_BxT, -1)


def _apart(time):
  """How far parts are from times [..], around the circle: [.., T] samples."""
  part_T = (np.arange(PARTS, dtype=np.float32) + .5) * _PART
  return jnp.abs((part_T - time[..., None] + TICK / 2) % TICK - TICK / 2)


def _later(density_BxT, samples_B):
  """Turns densities as of one moment into those as of another, later one."""
  parts_B = jnp.floor(samples_B / _PART + .5).astype(jnp.int32)
  return jnp.take_along_axis(
      density_BxT, (np.arange(PARTS) + parts_B[:, None]) % PARTS, 1)


def _smooth(density_BxT, box):
  """Convolves around the circle with a short box of odd length."""
  half = len(box) // 2
  return sum(weight * jnp.roll(density_BxT, shift, 1)
             for weight, shift in zip(box, range(-half, half + 1), strict=True))


def shapes(width: int) -> dict[str, tuple[int, ...]]:
  """Returns the shapes of the tables that `embed` takes, by name."""
  return {'next_tick': (PARTS, width), 'tick_hits': (_EVENTS, width)}


def embed(tables, told: Told):
  """Embeds what is told as [B, L, D], linearly."""
  return (told.next_BxLxT @ tables['next_tick']
          + told.hits_BxLxE @ tables['tick_hits'])


def gate_shape(width: int) -> tuple[int, ...]:
  """Returns the shape of the gates that `favour` takes."""
  return len(_SPACINGS), width


@functools.lru_cache
def _landing(n_token: int) -> tuple[np.ndarray, np.ndarray]:
  """What waits have to do with ticks.

  Returns:
    ([T, V] float32: the share of each part in the times at which a wait may
    end, T on average; [gates, V] float32, 1 for the waits of a gate)
  """
  wait_V, _ = _tokens(n_token)
  spacing_V = np.select([wait_V < 100, wait_V < 1000, wait_V < 10_000],
                        _SPACINGS, 0) * (wait_V > 0)
  gate_GxV = spacing_V == np.array(_SPACINGS)[:, None]
  # Half a part more on either side, for what is rounded on the way.
  half_V = np.minimum(spacing_V / 2 + _PART / 2, TICK / 2)
  edges = np.arange(-1000, 1000) * _PART
  share_TxV = np.zeros((PARTS, n_token))
  for token in np.flatnonzero(gate_GxV.any(0)):
    inside = np.diff(np.clip(edges, *(wait_V[token] % TICK + half_V[token] * s
                                      for s in (-1, 1))))
    np.add.at(share_TxV[:, token], np.arange(-1000, 999) % PARTS, inside)
    share_TxV[:, token] *= PARTS / share_TxV[:, token].sum()
  return share_TxV.astype(np.float32), gate_GxV.astype(np.float32)


def favour(gate_GxD, n_token: int, told: Told, x_BxLxD):
  """Moves logits of waits towards those that end on a tick, or away.

  Args:
    gate_GxD: shaped as `gate_shape` says; at 0 nothing is moved.
    n_token: size of the vocabulary, which identifies it.
    told: as `follow` returns it.
    x_BxLxD: what the last layer makes of the tokens.

  Returns:
    [B, L, V] float32 to add to the logits: x gate times the log density of
    ticks where the wait ends
  """
  share_TxV, gate_GxV = map(jnp.asarray, _landing(n_token))
  on_tick_BxLxV = jnp.log(told.next_BxLxT @ share_TxV + _FLOOR)
  by_BxLxG = x_BxLxD.astype(jnp.float32) @ gate_GxD.T
  return by_BxLxG @ gate_GxV * on_tick_BxLxV
