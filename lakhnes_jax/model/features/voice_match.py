"""What each voice will do next if it goes on as a voice did here before.

`context_match` looks for all voices together, so that a new note of the melody
hides that the bass has come round. This looks at each voice alone: its last
events, and how far they are apart, are looked up in the song, and what came
next there is expected again, as long afterwards. A match model for each voice,
which also says when. There are two sources of what is looked up:

*   `own`, the voice's own past;
*   `any`, the past of all voices, where intervals count and not pitches: voices
    echo and double one another, and sequences come back transposed.

Letters as in `lakhnes_jax.model.transformer_xl`; V tokens of the vocabulary, W
tokens of the window, K = W + L, S sources, O orders.
"""

import dataclasses
import functools
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lakhnes_jax import events
from lakhnes_jax.model.features import base, context_match

SOURCES = ('own', 'any')
# Lengths of context, in events, each twice that before; the longest counts.
ORDERS = (1, 2, 4, 8, 16)
_LONGEST = int(events.WAITS[-1])  # Samples; what is farther off counts as this.
_FACTORS = tuple(map(np.uint32, (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D)))  # Odd.
_, _KINDS, _VALUES = events.EVENT.shape


class _Tables(NamedTuple):
  """What the tokens of a vocabulary mean.

  Attributes:
    wait_V: samples that the token waits.
    voice_V: its voice, or -1.
    on_V: whether it is a NOTEON.
    payload_V: kind and value in one number, whatever the voice.
    token_E: ids by voice and payload, 0 where there is no such token.
  """
  wait_V: np.ndarray
  voice_V: np.ndarray
  on_V: np.ndarray
  payload_V: np.ndarray
  token_E: np.ndarray


@functools.lru_cache
def _tables(vocabulary: base.Vocabulary) -> _Tables:
  is_event = vocabulary.voice >= 0
  payload_V = vocabulary.kind * _VALUES + np.where(
      is_event, vocabulary.value, 0)
  token_E = np.zeros(events.EVENT.size, np.int32)
  token_E[(vocabulary.voice * _KINDS * _VALUES + payload_V)[is_event]] = (
      np.flatnonzero(is_event))
  return _Tables(vocabulary.wait, vocabulary.voice,
                 vocabulary.kind == events.NOTEON, payload_V, token_E)


@functools.lru_cache
def _due_ids() -> np.ndarray:
  """[2 _LONGEST + 1] int32: a number for each time till then, in samples.

  The times are rounded to waits: 0 for now, then those to come, then those that
  have passed, which index from the end.
  """
  ids = events.TX1.encode(np.arange(1, _LONGEST + 1))
  return np.concatenate([[0], ids, len(events.WAITS) + ids[::-1]]).astype(
      np.int32)


class State(NamedTuple):
  """What is carried from token to token; int32, zeros before the first.

  Places are given by how many tokens away they are, both ends counted, so that
  1 is the place itself; 0 means that there is none. An example of six tokens;
  of `prev_event` the first two orders, one event back and two:

      token          time   prev_event   last_note_on   next_event
      P1_NOTEON_60   0      0 0          1              3
      WT_700         700    0 0          0              0
      P1_NOTEON_62   700    3 0          1              4
      TR_NOTEON_40   700    0 0          1              0
      WT_700         1400   0 0          0              0
      P1_NOTEON_62   1400   4 6          1              0

  `since` is then 1 for P1's last event and NOTEON and 3 for those of TR; and
  `expected` of P1 is what its own past says: P1_NOTEON_62, in 700 samples.

  Attributes:
    expected: [2, B, 4, S], the signal after the last token.
    since: [3, B, 4], from the last token back to each voice's last event, its
      last NOTEON, and <S>.
    tokens: [1, B, W], the last tokens.
    time: [1, B, W] samples, from any moment on, to each of them.
    prev_event: [O, B, W], from each back by an order's number of the voice's
      events.
    last_note_on: [1, B, W], from each back to its voice's last NOTEON.
    next_event: [1, B, W], from each on to the voice's next event.
    hash: [O S, B, W], of the contexts that end at each.
  """
  expected: Any
  since: Any
  tokens: Any
  time: Any
  prev_event: Any
  last_note_on: Any
  next_event: Any
  hash: Any


@dataclasses.dataclass(frozen=True)
class VoiceMatch(base.Feature):
  """What every voice should do next, and in how many samples, by each source.

  State: `State`.

  Signal: [2, B, L, 4, S] int32, after each token what the voice's next event
  should be, as token id + V * index of the order that says so, 0 if nothing is
  known; and samples until then, negative if it is overdue, 0 if nothing is
  known.

  An example of six tokens, and what P1 is expected to do by its own past:

      token          looked up                 P1's next event    in samples
      P1_NOTEON_60   no event before it        unknown
      WT_700         -                         unknown
      P1_NOTEON_62   62, a frame after another unknown
      WT_700         -                         unknown
      P1_NOTEON_62   62, a frame after another P1_NOTEON_62       700
      WT_100         -                         P1_NOTEON_62       600

  Parameters, a table a source: `expected`, by the event to come and its order;
  `due`, by voice and the time until then, rounded to `events.WAITS`. What is
  embedded is the sum over sources and voices of both.

  Attributes:
    window: W, how many tokens back something is looked for.
  """
  vocabulary: base.Vocabulary
  window: int = 4096
  name: ClassVar[str] = 'voice_match'

  def __post_init__(self):
    base.check(self)

  def init_state(self, batch: int) -> State:
    voices, sources, orders = len(events.VOICES), len(SOURCES), len(ORDERS)
    return State(*(jnp.zeros(shape, jnp.int32) for shape in (
        (2, batch, voices, sources), (3, batch, voices), *(
            (rows, batch, self.window)
            for rows in (1, 1, orders, 1, 1, orders * sources)))))

  def observe(self, state: State, tokens_BxL, n_read):
    tables = _Tables(*map(jnp.asarray, _tables(self.vocabulary)))
    window = self.window
    all_BxK = jnp.concatenate([state.tokens[0], tokens_BxL], 1)
    past_Bx1x1 = state.time[0, :, -1:, None]
    time_BxL = past_Bx1x1[..., 0] + jnp.cumsum(tables.wait_V[tokens_BxL], 1)

    # Where each voice's last event, last NOTEON and <S> are; -1 for nowhere.
    mine_BxLx4 = tables.voice_V[tokens_BxL][..., None] == jnp.arange(
        len(events.VOICES))
    start_BxLx4 = jnp.broadcast_to(
        (tokens_BxL == events.BOS_EOS)[..., None], mine_BxLx4.shape)
    old_3xBx4 = jnp.where(state.since > 0, window - state.since, -1)
    last_3xBxLx4 = jnp.stack([_last(*x, start_BxLx4, window) for x in zip(
        old_3xBx4, (mine_BxLx4, mine_BxLx4 & tables.on_V[tokens_BxL][..., None],
                    start_BxLx4), strict=True)])
    log = _extend_log(
        tables, state, all_BxK, time_BxL,
        jnp.concatenate([old_3xBx4[:, :, None], last_3xBxLx4], 2))
    found_2xBxLxS = _look_up(tables, log, all_BxK, last_3xBxLx4[2, ..., 0])

    # What was known when each voice had its last event, and what is left of it.
    event_BxLx4, _, begun_BxLx4 = last_3xBxLx4
    is_past_BxLx4 = event_BxLx4 < window
    in_segment = jax.vmap(lambda x_Lx_, at_Lx4: x_Lx_[at_Lx4])
    what_BxLx4xS, when_BxLx4xS = jnp.where(
        is_past_BxLx4[..., None], jnp.where(
            begun_BxLx4[..., None] < window, state.expected[:, :, None], 0),
        jnp.stack([in_segment(x_BxLxS, event_BxLx4 - window)
                   for x_BxLxS in found_2xBxLxS]))
    gone_BxLx4 = time_BxL[..., None] - jnp.where(
        is_past_BxLx4, past_Bx1x1, in_segment(time_BxL, event_BxLx4 - window))
    signal = jnp.stack([what_BxLx4xS, jnp.where(
        what_BxLx4xS > 0, when_BxLx4xS - gone_BxLx4[..., None], 0)])

    last_3xBx4 = jax.lax.dynamic_index_in_dim(
        last_3xBxLx4, n_read - 1, 2, False)
    return signal, State(
        jax.lax.dynamic_index_in_dim(signal, n_read - 1, 2, False),
        jnp.where(last_3xBx4 < 0, 0, window + n_read - last_3xBx4),
        *(jax.lax.dynamic_slice_in_dim(x, n_read, window, 2)
          for x in (all_BxK[None], *log.to_state(window + n_read))))

  def param_specs(self, d_model: int) -> dict[str, base.ParamSpec]:
    return {
        'expected': base.table(
            len(SOURCES), len(ORDERS) * self.vocabulary.size, d_model),
        'due': base.table(len(SOURCES), len(events.VOICES),
                          1 + 2 * len(events.WAITS), d_model)}

  def embed(self, params, signal_2xBxLx4xS):
    what, when = signal_2xBxLx4xS
    ids = jnp.asarray(_due_ids())[jnp.clip(when, -_LONGEST, _LONGEST)]
    return sum(params['expected'][source][what[..., voice, source]]
               + params['due'][source, voice][ids[..., voice, source]]
               for source in range(len(SOURCES))
               for voice in range(len(events.VOICES)))


def _last(old_Bx4, is_it_BxLx4, start_BxLx4, window):
  """Where something was last, up to each token; -1 for not in this song.

  Args:
    old_Bx4: where it was before the segment.
    is_it_BxLx4: where it is.
    start_BxLx4: where songs begin.
    window: place of the segment's first token.
  """
  twice_Lx1 = 2 * (window + jnp.arange(is_it_BxLx4.shape[1])[:, None])
  last_BxLx4 = jax.lax.cummax(jnp.where(
      is_it_BxLx4, twice_Lx1 + 1, jnp.where(start_BxLx4, twice_Lx1, -1)), 1)
  return jnp.where(last_BxLx4 < 0, old_Bx4[:, None],
                   jnp.where(last_BxLx4 % 2, last_BxLx4 // 2, -1))


class _Log(NamedTuple):
  """What is known of the tokens of a segment and the W before; -1 for nowhere.

  Attributes:
    time_BxK, hashes: as in `State`; the hashes are a list, of [B, K] uint32.
    backs: for each order [B, K], the place that many events of the voice back.
    note_on_BxK, next_BxK: the places that `State` gives by their distance.
  """
  time_BxK: Any
  backs: list
  note_on_BxK: Any
  next_BxK: Any
  hashes: list

  def to_state(self, end) -> tuple:
    """Returns the last five of `State`, of K tokens; those from `end` on are
    padding."""
    place_K = jnp.arange(self.time_BxK.shape[1])

    def away(place_BxK, step=1):
      return jnp.where(place_BxK < 0, 0, 1 + step * (place_K - place_BxK))

    return (self.time_BxK[None], jnp.stack([away(x) for x in self.backs]),
            away(self.note_on_BxK)[None],
            away(jnp.where(self.next_BxK < end, self.next_BxK, -1), -1)[None],
            jnp.stack(self.hashes).astype(jnp.int32))


def _extend_log(tables, state, all_BxK, time_BxL, last_3xBxNx4) -> _Log:
  """Adds a segment to what is known.

  Args:
    tables: of the vocabulary.
    state: before the segment.
    all_BxK: the W tokens before it and its own.
    time_BxL: when these are.
    last_3xBxNx4: as in `VoiceMatch`, from the token before the segment on.
  """
  batch, size = all_BxK.shape
  window = state.time.shape[2]
  place_W, here_L = jnp.split(jnp.arange(size), [window])
  tokens_BxL = all_BxK[:, window:]
  voice_BxL = tables.voice_V[tokens_BxL]

  def own(x_BxLx4):
    return jnp.where(voice_BxL < 0, -1, jnp.take_along_axis(
        x_BxLx4, jnp.maximum(voice_BxL, 0)[..., None], 2)[..., 0])

  def places(away_BxW, new_BxL, step=-1):
    old_BxW = jnp.where(
        away_BxW > 0, place_W + step * (away_BxW - 1), -1)
    return jnp.concatenate([jnp.maximum(old_BxW, -1), new_BxL], 1)

  time_BxK = jnp.concatenate([state.time[0], time_BxL], 1)
  back_BxL = own(last_3xBxNx4[0, :, :-1])
  note_on_BxK = places(state.last_note_on[0], own(last_3xBxNx4[1, :, 1:]))
  next_BxK = places(state.next_event[0], jnp.full_like(tokens_BxL, -1), 1).at[
      jnp.arange(batch)[:, None], jnp.where(back_BxL < 0, size, back_BxL)
  ].set(here_L, mode='drop')

  payload_BxL = tables.payload_V[tokens_BxL]
  interval_BxL = payload_BxL - _pitch(
      tables, all_BxK, _at(note_on_BxK, back_BxL))
  frames_BxL = context_match.frames(time_BxL - _at(time_BxK, back_BxL))
  hash_BxLs = [_hash(what_BxL, frames_BxL) for what_BxL in (
      tokens_BxL, jnp.where(
          tables.on_V[tokens_BxL], interval_BxL, payload_BxL + _VALUES))]
  backs, hashes = [], []
  for number, order in enumerate(ORDERS):
    if number:  # What an order half as long made of it, and of what was before.
      hash_BxLs = [
          hash_BxL + _at(hash_BxK, back_BxL) * np.uint32(
              pow(int(_FACTORS[0]), order // 2, 1 << 32))
          for hash_BxL, hash_BxK in zip(
              hash_BxLs, hashes[-len(SOURCES):], strict=True)]
      back_BxL = _back(backs[-1], back_BxL)
    backs.append(places(state.prev_event[number], back_BxL))
    old_SxBxW = state.hash[len(SOURCES) * number:][:len(SOURCES)]
    hashes += [jnp.concatenate([old_BxW.astype(jnp.uint32), hash_BxL], 1)
               for old_BxW, hash_BxL in zip(old_SxBxW, hash_BxLs, strict=True)]
  return _Log(time_BxK, backs, note_on_BxK, next_BxK, hashes)


def _look_up(tables, log: _Log, all_BxK, start_BxL):
  """Finds at each event what its voice should do next, and how much later.

  Args:
    tables: of the vocabulary.
    log: of the segment and what was before.
    all_BxK: their tokens.
    start_BxL: where the song of each token begins.

  Returns:
    [2, B, L, S] int32: what, as `VoiceMatch` says it, and when, as of each
    event; of no use at other tokens
  """
  length = start_BxL.shape[1]
  window = all_BxK.shape[1] - length
  here_L = window + jnp.arange(length)
  voice_BxL = tables.voice_V[all_BxK[:, window:]]
  pitch_BxL = _pitch(tables, all_BxK, log.note_on_BxK[:, window:])
  oldest_BxL = jnp.maximum(here_L - window, start_BxL + 1)
  best = [jnp.zeros((2, *voice_BxL.shape), jnp.int32) for _ in SOURCES]
  for number, found_BxL in enumerate(
      context_match.last_equal(jnp.stack(log.hashes), length)):
    order, source = divmod(number, len(SOURCES))
    # What has to be known of the past: back to where the contexts begin.
    firsts = [_back(log.backs[order], found_BxL), log.backs[order][:, window:]]
    next_BxL = _back(log.next_BxK, found_BxL)
    token_BxL = _at(all_BxK, next_BxL)
    if SOURCES[source] == 'any':
      firsts = [_back(log.note_on_BxK, first_BxL) for first_BxL in firsts]
      interval_BxL = pitch_BxL - _pitch(
          tables, all_BxK, _at(log.note_on_BxK, found_BxL))
      token_BxL = _transposed(tables, token_BxL, voice_BxL, interval_BxL)
    is_known_BxL = ((jnp.minimum(*firsts) >= oldest_BxL) & (next_BxL >= 0)
                    & (next_BxL <= here_L) & (token_BxL > 0))
    best[source] = jnp.where(is_known_BxL, jnp.stack([
        token_BxL + order * len(tables.voice_V),
        _at(log.time_BxK, next_BxL) - _at(log.time_BxK, found_BxL)
    ]), best[source])
  return jnp.stack(best, -1)


def _pitch(tables, all_BxK, place_BxL):
  """What NOTEONs say, kind and pitch in one number."""
  return tables.payload_V[_at(all_BxK, place_BxL)]


def _hash(what, frames):
  """Hashes what an event is and how far from that before, uint32."""
  mixed = (what.astype(jnp.uint32) * _FACTORS[0]
           + frames.astype(jnp.uint32) * _FACTORS[1])
  return (mixed ^ (mixed >> 15)) * _FACTORS[2]


def _transposed(tables, token, voice, semitones):
  """Turns tokens into those that say the same to a voice, but higher.

  Returns:
    ids, 0 where there is no such token
  """
  payload = tables.payload_V[token]
  noteon_0 = events.NOTEON * _VALUES
  payload = jnp.where(tables.on_V[token], noteon_0 + jnp.clip(
      payload - noteon_0 + semitones, 0, _VALUES - 1), payload)
  return tables.token_E[voice * _KINDS * _VALUES + payload]


def _at(x_BxK, place_BxN):
  """Looks places up; -1, for nowhere, is as the oldest, not as the newest."""
  return jnp.take_along_axis(x_BxK, jnp.maximum(place_BxN, 0), 1)


def _back(x_BxK, place_BxN):
  """As `_at`, but -1 where there is no place."""
  return jnp.where(place_BxN < 0, -1, _at(x_BxK, place_BxN))
