"""When the chip's frame counter ticks next: its phase, inferred from the song.

The frame counter of the 2A03 clocks envelopes and length counters, and the
linear counter that gates the triangle, 240 times per second, whatever the
game's program does. So most notes of the triangle begin and end on a tick,
183.75 samples apart, and so do many notes that end by themselves; what the
program does comes once a video frame, 733.8 samples apart. Four ticks are 735
samples: from frame to frame they come 1.2 samples later, which looks like
chance in a score, and is none (NESdev wiki, "APU Frame Counter"; NES-MDB's own
emulation of it is an accumulator at 240 Hz).

This keeps, for each kind of event (and whether a frame begins with it), where
the ticks were as of it, less that drift. What all events of a frame say is
multiplied: a belief about when the next tick comes. It is embedded, and the
logits of waits may be moved towards those that end on a tick.

Letters as in `lakhnes_jax.model.transformer_xl`; V tokens of the vocabulary;
T = 147 equal parts of the time between two ticks, 1.25 samples each; E = 8
kinds of events: NOTEOFF and NOTEON, by voice; A = 16, the same by whether a
frame begins with them; G gates.
"""

import dataclasses
import functools
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lakhnes_jax import events, nes
from lakhnes_jax.model.features import base
from lakhnes_jax.nes import TICK

PARTS = 147
_PART = TICK / PARTS
# Samples that ticks come later, from frame to frame.
_DRIFT = nes.FRAME_60HZ - nes.VIDEO_FRAME
_SAME_FRAME = 600  # Samples since a frame's first event; what is later is not.
_KINDS = 2  # NOTEOFF, NOTEON.
_EVENTS = _KINDS * len(events.VOICES)
_DECAY = .93  # What is left of what is known of an event when it comes again.
_UNKNOWN = .3  # Ticks seen anywhere, before any is.
_BLUR = 5  # Samples by which a wait of 100 to 1,000 may be rounded.
_JITTER = 1  # Samples.
_NEWEST = .15  # Weight of the last event in the mean of its kind.
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
    tick_log_likelihood: [1, B, E], mean log density of the times at which each
      came, by what was believed before it.
    now: [6, B]: the drift so far, the time, by how much it may be wrong, the
      wait before, whether the frame has begun, and when the triangle was on or
      off in it, plus 1.
  """
  ticks: Any
  belief: Any
  seen: Any
  tick_log_likelihood: Any
  now: Any


class TickSignal(NamedTuple):
  """What is known after each token.

  Attributes:
    next_BxLxT: probability that the next tick comes in this part.
    tick_log_likelihood_BxLxE: see `State`.
  """
  next_BxLxT: Any
  tick_log_likelihood_BxLxE: Any


@functools.lru_cache
def _event_of(vocabulary: base.Vocabulary) -> np.ndarray:
  """[V] int32: the event of E that each token is, or -1."""
  is_event = (vocabulary.voice >= 0) & (vocabulary.kind < _KINDS)
  return np.where(is_event, _KINDS * vocabulary.voice + vocabulary.kind,
                  -1).astype(np.int32)


@dataclasses.dataclass(frozen=True)
class FrameCounter(base.Feature):
  """When the next tick of the frame counter comes.

  State: `State`. Signal: `TickSignal`.

  An example of six tokens. The time from a NOTEON of P1 that begins a frame to
  a NOTEON of the triangle is a time from the one to a tick; so the next such
  NOTEON of P1 says when to expect the triangle:

      token          the next tick, in samples
      P1_NOTEON_60   anywhere
      WT_50          anywhere
      TR_NOTEON_40   about 0 (or 184): notes of the triangle begin on ticks
      WT_680         about 55, blurred by the rounding of the wait
      P1_NOTEON_62   about 51: 50, and the drift of a frame
      WT_50          about 1

  Parameters: `next_tick`, a vector a part, weighed by its probability;
  `tick_hits`, a vector a kind of event, times its mean log likelihood;
  `tick_gate`, [G, D], what of the last layer's output moves waits towards
  those that end on a tick, or away, for each range of waits.
  """
  vocabulary: base.Vocabulary
  name: ClassVar[str] = 'frame_counter'

  def __post_init__(self):
    base.check(self)

  def init_state(self, batch: int) -> State:
    return State(*(jnp.zeros(shape, jnp.float32) for shape in (
        (2 * _EVENTS, batch, PARTS), (1, batch, PARTS),
        (2, batch, 2 * _EVENTS), (1, batch, _EVENTS), (6, batch))))

  def observe(self, state: State, tokens_BxL, n_read):
    tokens_LxB = tokens_BxL.T
    wait_LxB = jnp.asarray(self.vocabulary.wait)[tokens_LxB]
    event_LxB = jnp.asarray(_event_of(self.vocabulary))[tokens_LxB]

    def step(state, token):
      number, *token = token
      after, signal = _step(state, *token)
      return jax.tree.map(lambda new, old: jnp.where(
          number < n_read, new, old), after, state), signal

    state, signal = jax.lax.scan(step, state, (
        jnp.arange(len(wait_LxB)), wait_LxB.astype(jnp.float32), event_LxB,
        tokens_LxB == events.BOS_EOS))
    return TickSignal(*(x.swapaxes(0, 1) for x in signal)), state

  def param_specs(self, d_model: int) -> dict[str, base.ParamSpec]:
    return {'next_tick': base.table(PARTS, d_model),
            'tick_hits': base.table(_EVENTS, d_model),
            'tick_gate': base.gate(len(_SPACINGS), d_model)}

  def embed(self, params, signal: TickSignal):
    return (signal.next_BxLxT @ params['next_tick']
            + signal.tick_log_likelihood_BxLxE @ params['tick_hits'])

  def logit_bias(self, params, signal: TickSignal, hidden_BxLxD):
    """Adds hidden x gate x the log density of ticks where a wait ends."""
    share_TxV, gate_GxV = map(jnp.asarray, _landing(self.vocabulary))
    on_tick_BxLxV = jnp.log(signal.next_BxLxT @ share_TxV + _FLOOR)
    by_BxLxG = hidden_BxLxD.astype(jnp.float32) @ params['tick_gate'].T
    return by_BxLxG @ gate_GxV * on_tick_BxLxV


def _step(state: State, wait_B, event_B, start_B):
  """Reads one token of each song; returns the state and the signal after it."""
  state = jax.tree.map(lambda x: jnp.where(
      start_B.reshape(1, -1, *[1] * (x.ndim - 2)), 0, x), state)
  state = _observe_event(_wait(state, wait_B), event_B)
  time_B = state.now[1]
  return state, TickSignal(_later(_normal(state.belief[0]), time_B),
                           state.tick_log_likelihood[0])


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


def _observe_event(state: State, event_B) -> State:
  """Takes in an event, where there is one."""
  drift_B, time_B, blur_B, wait_B, begun_B, tick_B = state.now
  is_event_B = event_B >= 0
  is_tick_B = is_event_B & (event_B // _KINDS == events.TR)
  # Anything else is an anchor: ticks are known as of it.
  anchor_BxA = (is_event_B & ~is_tick_B)[:, None] & (np.arange(
      2 * _EVENTS) == (2 * event_B + (begun_B == 0))[:, None])
  is_anchor_Bx1 = anchor_BxA.any(1, keepdims=True)
  ticks = _update_histogram(state, anchor_BxA, is_tick_B)

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
      _score_prediction(state, event_B)[None],
      jnp.stack([drift_B, time_B, blur_B, jnp.where(is_event_B, 0, wait_B),
                 jnp.where(is_event_B, 1, begun_B),
                 jnp.where(is_tick_B, time_B + 1, tick_B)]))


def _update_histogram(state: State, anchor_BxA, is_tick_B):
  """Returns what is known of ticks as of all events, [A, B, T].

  A tick updates what is known of the anchors before it in the frame; an anchor,
  by the tick before it, where there was one.

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
  kept_BxA = jnp.where(anchor_BxA, _DECAY, 1)
  return (kept_BxA.T[..., None] * state.ticks
          + jnp.where(learns_BxA[..., None], bump_BxAxT, 0).swapaxes(0, 1))


def _score_prediction(state: State, event_B):
  """Returns the mean log likelihoods [B, E], with an event.

  After longer waits than 1,000 nobody knows whether it comes on a tick.
  """
  _, time_B, _, wait_B, _, _ = state.now
  near_BxT = _apart(time_B) <= jnp.where(
      wait_B > 100, _BLUR, 1.5 * _PART)[:, None]
  density_B = PARTS * (_normal(state.belief[0]) * near_BxT).sum(
      1) / near_BxT.sum(1)
  counts_BxE = (event_B[:, None] == np.arange(_EVENTS)) & (
      (wait_B > 0) & (wait_B <= 1000))[:, None]
  mean_BxE = state.tick_log_likelihood[0]
  return jnp.where(counts_BxE, (1 - _NEWEST) * mean_BxE + _NEWEST * jnp.log(
      density_B + _FLOOR)[:, None], mean_BxE)


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


@functools.lru_cache
def _landing(vocabulary: base.Vocabulary) -> tuple[np.ndarray, np.ndarray]:
  """What waits have to do with ticks.

  Returns:
    ([T, V] float32: the share of each part in the times at which a wait may
    end, T on average; [gates, V] float32, 1 for the waits of a gate)
  """
  wait_V = vocabulary.wait
  spacing_V = np.select([wait_V < 100, wait_V < 1000, wait_V < 10_000],
                        _SPACINGS, 0) * (wait_V > 0)
  gate_GxV = spacing_V == np.array(_SPACINGS)[:, None]
  # Half a part more on either side, for what is rounded on the way.
  half_V = np.minimum(spacing_V / 2 + _PART / 2, TICK / 2)
  edges = np.arange(-1000, 1000) * _PART
  share_TxV = np.zeros((PARTS, len(wait_V)))
  for token in np.flatnonzero(gate_GxV.any(0)):
    inside = np.diff(np.clip(edges, *(wait_V[token] % TICK + half_V[token] * s
                                      for s in (-1, 1))))
    np.add.at(share_TxV[:, token], np.arange(-1000, 999) % PARTS, inside)
    share_TxV[:, token] *= PARTS / share_TxV[:, token].sum()
  return share_TxV.astype(np.float32), gate_GxV.astype(np.float32)
