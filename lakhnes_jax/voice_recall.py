"""What each voice will do next if it goes on as a voice did here before.

`lakhnes_jax.recall` looks for all voices together, so that a new note of the
melody hides that the bass has come round. This follows each voice alone: its
last events, and how far they are apart, are looked up in the song, and what
came next there is expected again, as long afterwards. A match model (see
`lakhnes_jax.recall`) for each voice, which also says when. There are two
sources of what is looked up:

*   `own`, the voice's own past;
*   `any`, the past of all voices, where intervals count and not pitches: voices
    echo and double one another, and sequences come back transposed.

Letters as in `lakhnes_jax.model`; H tokens of history, K = H + L, S sources.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lakhnes_jax import events, recall

SOURCES = ('own', 'any')
ORDERS = (1, 2, 4, 8, 16)  # Lengths of context, in events; the longest counts.
_LONGEST = int(events.WAITS[-1])  # Samples; what is farther off counts as this.
_FACTORS = tuple(map(np.uint32, (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D)))  # Odd.


class _Tables(NamedTuple):
  """What the tokens of a vocabulary say.

  Attributes:
    wait_V: samples that the token waits.
    voice_V: its voice, or -1.
    on_V: whether it is a NOTEON.
    said_V: what it tells its voice: kind and value in one number.
    token_S: ids by voice and what it is told, 0 where there is no such token.
  """
  wait_V: np.ndarray
  voice_V: np.ndarray
  on_V: np.ndarray
  said_V: np.ndarray
  token_S: np.ndarray


_, _KINDS, _VALUES = events.EVENT.shape


@functools.lru_cache
def _tables(n_token: int) -> _Tables:
  event_V = events.of_size(n_token, 'voice_recall').events
  voice_V, kind_V = events.voice_of(event_V), events.kind_of(event_V)
  said_V = kind_V * _VALUES + np.where(
      event_V < 0, events.value_of(event_V), 0)
  chip = event_V < 0
  token_S = np.zeros(events.EVENT.size, np.int32)
  token_S[(voice_V * _KINDS * _VALUES + said_V)[chip]] = np.flatnonzero(chip)
  return _Tables(np.maximum(event_V, 0), voice_V, kind_V == events.NOTEON,
                 said_V, token_S)


@functools.lru_cache
def _due_ids() -> np.ndarray:
  """[2 _LONGEST + 1] int32: a number for each time till then, in samples.

  The times are rounded to waits: 0 for now, then those to come, then those that
  have passed, which index from the end.
  """
  ids = events.TX1.encode(np.arange(1, _LONGEST + 1))
  return np.concatenate([[0], ids, len(events.WAITS) + ids[::-1]]).astype(
      np.int32)


def empty(batch: int):
  """Returns the state before anything was played: [2, B, 4, S] int32."""
  return jnp.zeros((2, batch, len(events.VOICES), len(SOURCES)), jnp.int32)


def follow(n_token: int, reach: int, all_BxK, state_2xBx4xS, length: int):
  """Follows what each voice is expected to do.

  Args:
    n_token: size of the vocabulary, which identifies it.
    reach: how many tokens back something is looked for.
    all_BxK: int32 ids, those of the segment last; `reach` or more before it.
    state_2xBx4xS: before the segment.
    length: L, of the segment.

  Returns:
    [2, B, L, 4, S] int32, the state after each token: what the voice's next
    event should be, as token id + V * index of the order that says so, 0 if
    nothing is known; and samples until then, negative if it is overdue, 0 if
    nothing is known
  """
  tables = _Tables(*map(jnp.asarray, _tables(n_token)))
  time_BxK = jnp.cumsum(tables.wait_V[all_BxK], 1)
  what_BxLxS, when_BxLxS = _look_up(tables, reach, all_BxK, time_BxK, length)
  # Where the last event of each voice is, or <S>; -1 if it is in the past.
  tokens_BxL = all_BxK[:, -length:]
  from_BxLx4 = _last(_by_voice(tables.voice_V[tokens_BxL]) | (
      tokens_BxL == events.START)[..., None])
  now_BxLx1x1 = time_BxK[:, -length:, None, None]
  then_Bx1x1 = time_BxK[:, -length - 1, None, None]

  def as_of(old_Bx4xS, x_BxLxS):
    """What was known when the last event came."""
    return jnp.where(
        (from_BxLx4 < 0)[..., None], old_Bx4xS[:, None],
        jax.vmap(lambda x_LxS, from_Lx4: x_LxS[from_Lx4])(x_BxLxS, from_BxLx4))

  old_what, old_when = state_2xBx4xS
  what = as_of(old_what, what_BxLxS)
  when = as_of(old_when + then_Bx1x1, when_BxLxS + now_BxLx1x1[..., 0])
  return jnp.stack([what, jnp.where(what > 0, when - now_BxLx1x1, 0)])


def _look_up(tables, reach, all_BxK, time_BxK, length):
  """Finds at each event what its voice should do next, and how much later.

  Returns:
    two [B, L, S] int32, what (as `follow` says it) and when, from this event
    on; at tokens that are no events 0
  """
  voice_BxK, said_BxK = tables.voice_V[all_BxK], tables.said_V[all_BxK]
  is_on_BxK = tables.on_V[all_BxK]
  mine_BxKx4 = _by_voice(voice_BxK)
  start_BxK = _last(all_BxK == events.START)

  # The events of the voice before and after each event; -1 and K for none.
  before_BxK = jnp.where(voice_BxK < 0, -1, _of(voice_BxK, jnp.pad(
      _last(mine_BxKx4), ((0, 0), (1, 0), (0, 0)), constant_values=-1)[:, :-1]))
  after_BxK = _of(voice_BxK, _next(mine_BxKx4))
  frames_BxK = recall.frames(time_BxK - _at(time_BxK, before_BxK))
  # The voice's NOTEON, up to each event, that says how high it is.
  high_BxK = _of(voice_BxK, _last(mine_BxKx4 & is_on_BxK[..., None]))
  pitch_BxK = _at(said_BxK, high_BxK)
  interval_BxK = jnp.where(is_on_BxK, pitch_BxK - _at(pitch_BxK, before_BxK),
                           said_BxK + _VALUES)
  hashes, firsts = zip(
      *_contexts(all_BxK, frames_BxK, before_BxK, before_BxK),
      *_contexts(interval_BxK, frames_BxK, before_BxK,
                 _back(high_BxK, before_BxK)), strict=True)
  found_XxBxL = recall.last_equal(jnp.stack(hashes), length)

  here_L = jnp.arange(all_BxK.shape[1])[-length:]
  oldest_BxL = jnp.maximum(here_L - reach, start_BxK[:, -length:] + 1)
  best = [[jnp.zeros_like(oldest_BxL)] * 2 for _ in SOURCES]
  for number, (found_BxL, first_BxK) in enumerate(
      zip(found_XxBxL, firsts, strict=True)):
    source, order = divmod(number, len(ORDERS))
    next_BxL = _at(after_BxK, found_BxL)
    token_BxL = _at(all_BxK, next_BxL)
    if SOURCES[source] == 'any':
      higher_BxL = pitch_BxK[:, -length:] - _at(pitch_BxK, found_BxL)
      token_BxL = _told(tables, token_BxL, voice_BxK[:, -length:], higher_BxL)
    known_BxL = ((_back(first_BxK, found_BxL) >= oldest_BxL)
                 & (first_BxK[:, -length:] >= oldest_BxL)
                 & (next_BxL <= here_L) & (token_BxL > 0))
    new = (token_BxL + order * len(tables.voice_V),
           _at(time_BxK, next_BxL) - _at(time_BxK, found_BxL))
    best[source] = [jnp.where(known_BxL, *x)
                    for x in zip(new, best[source], strict=True)]
  return (jnp.stack(x, -1) for x in zip(*best, strict=True))


def _told(tables, token, voice, semitones):
  """Turns tokens into those by which a voice is told the same, but higher.

  Returns:
    ids, 0 where there is no such token
  """
  said = tables.said_V[token]
  noteon_0 = events.NOTEON * _VALUES
  said = jnp.where(tables.on_V[token], noteon_0 + jnp.clip(
      said - noteon_0 + semitones, 0, _VALUES - 1), said)
  return tables.token_S[voice * _KINDS * _VALUES + said]


def _by_voice(voice):
  return voice[..., None] == jnp.arange(len(events.VOICES))


def _at(x_BxK, place_BxN):
  return jnp.take_along_axis(x_BxK, place_BxN, 1)


def _back(x_BxK, place_BxN):
  """As `_at`, but -1 where there is no place."""
  return jnp.where(place_BxN < 0, -1, _at(x_BxK, place_BxN))


def _of(voice_BxK, x_BxKx4):
  """Each token's value for its own voice; any for tokens that have none."""
  return jnp.take_along_axis(
      x_BxKx4, jnp.maximum(voice_BxK, 0)[..., None], 2)[..., 0]


def _last(is_it):
  """Where something [B, K, ..] last was, up to each place; -1 for nowhere."""
  place_K = jnp.arange(is_it.shape[1])
  return jax.lax.cummax(jnp.where(
      is_it, jnp.expand_dims(place_K, range(1, is_it.ndim - 1)), -1), 1)


def _next(is_it_BxKx4):
  """Where something is next, after each place; K for nowhere."""
  size = is_it_BxKx4.shape[1]
  from_BxKx4 = jax.lax.cummin(jnp.where(
      is_it_BxKx4, jnp.arange(size)[:, None], size), 1, reverse=True)
  return jnp.pad(from_BxKx4, ((0, 0), (0, 1), (0, 0)),
                 constant_values=size)[:, 1:]


def _contexts(what_BxK, frames_BxK, before_BxK, first_BxK):
  """Yields for each order the hash of what ends at each event, and its begin.

  Args:
    what_BxK: what counts of an event.
    frames_BxK: its distance from that before.
    before_BxK: where that was, -1 for nowhere.
    first_BxK: the first place that one has to know for this event.
  """
  hash_BxK = what_BxK.astype(jnp.uint32) * _FACTORS[0] + frames_BxK.astype(
      jnp.uint32) * _FACTORS[1]
  hash_BxK = (hash_BxK ^ (hash_BxK >> 15)) * _FACTORS[2]
  order = 1
  for wanted in ORDERS:
    while order < wanted:
      hash_BxK += _at(hash_BxK, before_BxK) * np.uint32(
          pow(int(_FACTORS[0]), order, 1 << 32))
      first_BxK = _back(first_BxK, before_BxK)
      before_BxK = _back(before_BxK, before_BxK)
      order *= 2
    yield hash_BxK, first_BxK


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
