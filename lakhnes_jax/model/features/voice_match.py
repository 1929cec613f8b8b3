"""What each voice will do next if it goes on as a voice did here before.

`lakhnes_jax.model.features.context_match` looks for all voices together, so that a new note of the
melody hides that the bass has come round. This follows each voice alone: its
last events, and how far they are apart, are looked up in the song, and what
came next there is expected again, as long afterwards. A match model (see
`lakhnes_jax.model.features.context_match`) for each voice, which also says when. There are two
sources of what is looked up:

*   `own`, the voice's own past;
*   `any`, the past of all voices, where intervals count and not pitches: voices
    echo and double one another, and sequences come back transposed.

Letters as in `lakhnes_jax.model.transformer_xl`; H tokens of history, K = H + L, S sources.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lakhnes_jax import events
from lakhnes_jax.model.features import context_match

SOURCES = ('own', 'any')
# Lengths of context, in events, each twice that before; the longest counts.
ORDERS = (1, 2, 4, 8, 16)
_LONGEST = int(events.WAITS[-1])  # Samples; what is farther off counts as this.
_FACTORS = tuple(map(np.uint32, (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D)))  # Odd.


class _Tables(NamedTuple):
  """What the tokens of a vocabulary say.

  Attributes:
    wait_V: samples that the token waits.
    voice_V: its voice, or -1.
    on_V: whether it is a NOTEON.
    said_V: what it tells its voice: kind and value in one number.
    token_E: ids by voice and what it is told, 0 where there is no such token.
  """
  wait_V: np.ndarray
  voice_V: np.ndarray
  on_V: np.ndarray
  said_V: np.ndarray
  token_E: np.ndarray


_, _KINDS, _VALUES = events.EVENT.shape


@functools.lru_cache
def _tables(n_token: int) -> _Tables:
  event_V = events.of_size(n_token, 'voice_recall').events
  voice_V, kind_V = events.voice_of(event_V), events.kind_of(event_V)
  said_V = kind_V * _VALUES + np.where(
      event_V < 0, events.value_of(event_V), 0)
  chip = event_V < 0
  token_E = np.zeros(events.EVENT.size, np.int32)
  token_E[(voice_V * _KINDS * _VALUES + said_V)[chip]] = np.flatnonzero(chip)
  return _Tables(np.maximum(event_V, 0), voice_V, kind_V == events.NOTEON,
                 said_V, token_E)


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
  """What is carried from token to token.

  Places are told by how many tokens away they are, both ends counted, so that 1
  is the place itself; 0 means that there is none.

  Attributes:
    expected: [2, B, 4, S], what the voices should do and when, see `follow`.
    since: [3, B, 4], from the last token back to each voice's last event, its
      last NOTEON, and <S>.
    time: [1, B, H] samples, from any moment on, to each of the last H tokens.
    back: [O, B, H], from each back by an order's number of the voice's events.
    high: [1, B, H], from each back to its voice's last NOTEON.
    after: [1, B, H], from each on to the voice's next event.
    hash: [O S, B, H], of the contexts that end at each.
  """
  expected: Any
  since: Any
  time: Any
  back: Any
  high: Any
  after: Any
  hash: Any


def empty(batch: int, reach: int) -> State:
  """Returns the state before anything was played, int32 zeros.

  Args:
    batch: B.
    reach: H, how many tokens back something is looked for.
  """
  voices, sources, orders = len(events.VOICES), len(SOURCES), len(ORDERS)
  return State(*(jnp.zeros(shape, jnp.int32) for shape in (
      (2, batch, voices, sources), (3, batch, voices), *(
          (rows, batch, reach) for rows in (1, orders, 1, 1, orders * sources)
      ))))


def follow(n_token: int, state: State, all_BxK, n_read):
  """Follows what each voice is expected to do.

  Args:
    n_token: size of the vocabulary, which identifies it.
    state: before the segment.
    all_BxK: int32 ids, the H tokens before the segment and its L.
    n_read: int scalar, 1 .. L; so many are kept for what follows.

  Returns:
    ([2, B, L, 4, S] int32: after each token what the voice's next event should
    be, as token id + V * index of the order that says so, 0 if nothing is
    known; and samples until then, negative if it is overdue, 0 if nothing is
    known; the state to go on with)
  """
  tables = _Tables(*map(jnp.asarray, _tables(n_token)))
  reach = state.time.shape[2]
  tokens_BxL = all_BxK[:, reach:]
  past_Bx1x1 = state.time[0, :, -1:, None]
  time_BxL = past_Bx1x1[..., 0] + jnp.cumsum(tables.wait_V[tokens_BxL], 1)

  # Where each voice's last event, last NOTEON and <S> are; -1 for nowhere.
  mine_BxLx4 = tables.voice_V[tokens_BxL][..., None] == jnp.arange(
      len(events.VOICES))
  start_BxLx4 = jnp.broadcast_to(
      (tokens_BxL == events.START)[..., None], mine_BxLx4.shape)
  old_3xBx4 = jnp.where(state.since > 0, reach - state.since, -1)
  last_3xBxLx4 = jnp.stack([_last(*x, start_BxLx4, reach) for x in zip(
      old_3xBx4, (mine_BxLx4, mine_BxLx4 & tables.on_V[tokens_BxL][..., None],
                  start_BxLx4), strict=True)])
  log = _go_on(tables, state, all_BxK, time_BxL,
               jnp.concatenate([old_3xBx4[:, :, None], last_3xBxLx4], 2))
  found_2xBxLxS = _look_up(tables, log, all_BxK, last_3xBxLx4[2, ..., 0])

  # What was known when each voice had its last event, and what is left of it.
  event_BxLx4, _, begun_BxLx4 = last_3xBxLx4
  is_past_BxLx4 = event_BxLx4 < reach
  in_segment = jax.vmap(lambda x_Lx_, at_Lx4: x_Lx_[at_Lx4])
  what_BxLx4xS, when_BxLx4xS = jnp.where(
      is_past_BxLx4[..., None], jnp.where(
          begun_BxLx4[..., None] < reach, state.expected[:, :, None], 0),
      jnp.stack([in_segment(x_BxLxS, event_BxLx4 - reach)
                 for x_BxLxS in found_2xBxLxS]))
  gone_BxLx4 = time_BxL[..., None] - jnp.where(
      is_past_BxLx4, past_Bx1x1, in_segment(time_BxL, event_BxLx4 - reach))
  expected = jnp.stack([what_BxLx4xS, jnp.where(
      what_BxLx4xS > 0, when_BxLx4xS - gone_BxLx4[..., None], 0)])

  last_3xBx4 = jax.lax.dynamic_index_in_dim(last_3xBxLx4, n_read - 1, 2, False)
  return expected, State(
      jax.lax.dynamic_index_in_dim(expected, n_read - 1, 2, False),
      jnp.where(last_3xBx4 < 0, 0, reach + n_read - last_3xBx4),
      *(jax.lax.dynamic_slice_in_dim(x, n_read, reach, 2)
        for x in log.to_state()))


def _last(old_Bx4, is_it_BxLx4, start_BxLx4, reach):
  """Where something was last, up to each token; -1 for not in this song.

  Args:
    old_Bx4: where it was before the segment.
    is_it_BxLx4: where it is.
    start_BxLx4: where songs begin.
    reach: place of the segment's first token.
  """
  twice_Lx1 = 2 * (reach + jnp.arange(is_it_BxLx4.shape[1])[:, None])
  last_BxLx4 = jax.lax.cummax(jnp.where(
      is_it_BxLx4, twice_Lx1 + 1, jnp.where(start_BxLx4, twice_Lx1, -1)), 1)
  return jnp.where(last_BxLx4 < 0, old_Bx4[:, None],
                   jnp.where(last_BxLx4 % 2, last_BxLx4 // 2, -1))


class _Log(NamedTuple):
  """What is known of the tokens of a segment and the H before; -1 for nowhere.

  Attributes:
    time_BxK, hashes: as in `State`; the hashes are a list, of [B, K] uint32.
    backs: for each order [B, K], the place that many events of the voice back.
    high_BxK, after_BxK: the places that `State` tells by their distance.
  """
  time_BxK: Any
  backs: list
  high_BxK: Any
  after_BxK: Any
  hashes: list

  def to_state(self) -> tuple:
    """Returns the last five of `State`, of K tokens."""
    place_K = jnp.arange(self.time_BxK.shape[1])

    def away(place_BxK, step=1):
      return jnp.where(place_BxK < 0, 0, 1 + step * (place_K - place_BxK))

    return (self.time_BxK[None], jnp.stack([away(x) for x in self.backs]),
            away(self.high_BxK)[None], away(self.after_BxK, -1)[None],
            jnp.stack(self.hashes).astype(jnp.int32))


def _go_on(tables, state, all_BxK, time_BxL, last_3xBxNx4) -> _Log:
  """Adds a segment to what is known.

  Args:
    tables: of the vocabulary.
    state: before the segment.
    all_BxK: the H tokens before it and its own.
    time_BxL: when these are.
    last_3xBxNx4: as in `follow`, from the token before the segment on.
  """
  batch, size = all_BxK.shape
  reach = state.time.shape[2]
  place_H, here_L = jnp.split(jnp.arange(size), [reach])
  tokens_BxL = all_BxK[:, reach:]
  voice_BxL = tables.voice_V[tokens_BxL]

  def own(x_BxLx4):
    return jnp.where(voice_BxL < 0, -1, jnp.take_along_axis(
        x_BxLx4, jnp.maximum(voice_BxL, 0)[..., None], 2)[..., 0])

  def places(away_BxH, new_BxL, step=-1):
    old_BxH = jnp.where(
        away_BxH > 0, place_H + step * (away_BxH - 1), -1)
    return jnp.concatenate([jnp.maximum(old_BxH, -1), new_BxL], 1)

  time_BxK = jnp.concatenate([state.time[0], time_BxL], 1)
  back_BxL = own(last_3xBxNx4[0, :, :-1])
  high_BxK = places(state.high[0], own(last_3xBxNx4[1, :, 1:]))
  after_BxK = places(state.after[0], jnp.full_like(tokens_BxL, -1), 1).at[
      jnp.arange(batch)[:, None], jnp.where(back_BxL < 0, size, back_BxL)
  ].set(here_L, mode='drop')

  said_BxL = tables.said_V[tokens_BxL]
  interval_BxL = said_BxL - _pitch(tables, all_BxK, _at(high_BxK, back_BxL))
  frames_BxL = context_match.frames(time_BxL - _at(time_BxK, back_BxL))
  hash_BxLs = [_hash(what_BxL, frames_BxL) for what_BxL in (
      tokens_BxL, jnp.where(
          tables.on_V[tokens_BxL], interval_BxL, said_BxL + _VALUES))]
  backs, hashes = [], []
  for number, order in enumerate(ORDERS):
    if number:  # What an order half as long made of it, and of what was before.
      hash_BxLs = [
          hash_BxL + _at(hash_BxK, back_BxL) * np.uint32(
              pow(int(_FACTORS[0]), order // 2, 1 << 32))
          for hash_BxL, hash_BxK in zip(
              hash_BxLs, hashes[-len(SOURCES):], strict=True)]
      back_BxL = _back(backs[-1], back_BxL)
    backs.append(places(state.back[number], back_BxL))
    old_SxBxH = state.hash[len(SOURCES) * number:][:len(SOURCES)]
    hashes += [jnp.concatenate([old_BxH.astype(jnp.uint32), hash_BxL], 1)
               for old_BxH, hash_BxL in zip(old_SxBxH, hash_BxLs, strict=True)]
  return _Log(time_BxK, backs, high_BxK, after_BxK, hashes)


def _look_up(tables, log: _Log, all_BxK, start_BxL):
  """Finds at each event what its voice should do next, and how much later.

  Args:
    tables: of the vocabulary.
    log: of the segment and what was before.
    all_BxK: their tokens.
    start_BxL: where the song of each token begins.

  Returns:
    [2, B, L, S] int32: what, as `follow` says it, and when, as of each event;
    of no use at other tokens
  """
  length = start_BxL.shape[1]
  reach = all_BxK.shape[1] - length
  here_L = reach + jnp.arange(length)
  voice_BxL = tables.voice_V[all_BxK[:, reach:]]
  pitch_BxL = _pitch(tables, all_BxK, log.high_BxK[:, reach:])
  oldest_BxL = jnp.maximum(here_L - reach, start_BxL + 1)
  best = [jnp.zeros((2, *voice_BxL.shape), jnp.int32) for _ in SOURCES]
  for number, found_BxL in enumerate(
      context_match.last_equal(jnp.stack(log.hashes), length)):
    order, source = divmod(number, len(SOURCES))
    # What has to be known of the past: back to where the contexts begin.
    firsts = [_back(log.backs[order], found_BxL), log.backs[order][:, reach:]]
    next_BxL = _back(log.after_BxK, found_BxL)
    token_BxL = _at(all_BxK, next_BxL)
    if SOURCES[source] == 'any':
      firsts = [_back(log.high_BxK, first_BxL) for first_BxL in firsts]
      higher_BxL = pitch_BxL - _pitch(
          tables, all_BxK, _at(log.high_BxK, found_BxL))
      token_BxL = _told(tables, token_BxL, voice_BxL, higher_BxL)
    is_known_BxL = ((jnp.minimum(*firsts) >= oldest_BxL) & (next_BxL >= 0)
                    & (next_BxL <= here_L) & (token_BxL > 0))
    best[source] = jnp.where(is_known_BxL, jnp.stack([
        token_BxL + order * len(tables.voice_V),
        _at(log.time_BxK, next_BxL) - _at(log.time_BxK, found_BxL)
    ]), best[source])
  return jnp.stack(best, -1)


def _pitch(tables, all_BxK, place_BxL):
  """What NOTEONs say, kind and pitch in one number."""
  return tables.said_V[_at(all_BxK, place_BxL)]


def _hash(what, frames):
  """Hashes what an event is and how far from that before, uint32."""
  mixed = (what.astype(jnp.uint32) * _FACTORS[0]
           + frames.astype(jnp.uint32) * _FACTORS[1])
  return (mixed ^ (mixed >> 15)) * _FACTORS[2]


def _told(tables, token, voice, semitones):
  """Turns tokens into those by which a voice is told the same, but higher.

  Returns:
    ids, 0 where there is no such token
  """
  said = tables.said_V[token]
  noteon_0 = events.NOTEON * _VALUES
  said = jnp.where(tables.on_V[token], noteon_0 + jnp.clip(
      said - noteon_0 + semitones, 0, _VALUES - 1), said)
  return tables.token_E[voice * _KINDS * _VALUES + said]


def _at(x_BxK, place_BxN):
  return jnp.take_along_axis(x_BxK, place_BxN, 1)


def _back(x_BxK, place_BxN):
  """As `_at`, but -1 where there is no place."""
  return jnp.where(place_BxN < 0, -1, _at(x_BxK, place_BxN))


def shapes(n_token: int, width: int) -> dict[str, tuple[int, ...]]:
  """Returns the shapes of the tables that `embed` takes, by name."""
  return {
      'expected': (len(SOURCES), len(ORDERS) * n_token, width),
      'due': (len(SOURCES), len(events.VOICES), 1 + 2 * len(events.WAITS),
              width)}


def embed(tables, state):
  """Embeds states [2, .., 4, S] as [.., D], the sum of what they tell.

  Args:
    tables: embeddings, shaped as `shapes` says: of the events to come, and by
      voice of the times until then, rounded to waits.
    state: as `follow` returns it.
  """
  what, when = state
  ids = jnp.asarray(_due_ids())[jnp.clip(when, -_LONGEST, _LONGEST)]
  return sum(tables['expected'][source][what[..., voice, source]]
             + tables['due'][source, voice][ids[..., voice, source]]
             for source in range(len(SOURCES))
             for voice in range(len(events.VOICES)))
