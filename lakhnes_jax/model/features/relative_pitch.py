"""Pitches as intervals, from what the voices play and from what was played.

A chord, a scale or a melody is the same in every key; tokens are of pitches,
and a small model has to learn each interval once for each pitch. This feature
gives intervals, and scores the notes that may come next by theirs: all of it is
the same if a song is transposed.

Letters as in `lakhnes_jax.model.transformer_xl`; 3 melodic voices P1, P2, TR; I
intervals, V tokens.
"""

import dataclasses
import functools
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lakhnes_jax import events
from lakhnes_jax.model.features import base
from lakhnes_jax.tracker import vocabulary as voc

_VOICES = (events.P1, events.P2, events.TR)
_N = len(_VOICES)
_LARGEST = 48  # Semitones; larger intervals count as none.
_INTERVALS = 2 * _LARGEST + 1  # I
_CLASSES = 12
_DECAYS = (.9, .99)  # Of what was played, from one note to the next.
_PAIRS = ((0, 1), (0, 2), (1, 2))
_START, _NOTE = 1, 2


class State(NamedTuple):
  """What is carried from token to token, and the signal; B on axis 1.

  Attributes:
    pitch: [6, B] int32, of the last note of each melodic voice, then of the one
      before that; 0 if there is none.
    classes: [24, B] float32, the notes of each pitch class, where older ones
      count .9 times as much as the next; then with .99.
  """
  pitch: Any
  classes: Any


class _Tables(NamedTuple):
  """What is known of tokens.

  Attributes:
    does_3xV: int32; what a token does (of those above), its voice, its pitch.
    notes: for each melodic voice the ids of its notes, which follow one another
      as their pitches do, and the first pitch.
  """
  does_3xV: np.ndarray
  notes: tuple[tuple[slice, int], ...]


@functools.lru_cache
def _tables(vocabulary) -> _Tables:
  kind, voice, value = vocabulary.table
  does = np.where(kind == voc.START, _START, 0)
  notes = []
  for v in _VOICES:
    mine = np.flatnonzero((kind == voc.NOTE) & (voice == v))
    does[mine] = _NOTE
    notes.append((slice(int(mine[0]), int(mine[-1]) + 1), int(value[mine[0]])))
  return _Tables(np.stack([does, voice, value]).astype(np.int32), tuple(notes))


@dataclasses.dataclass(frozen=True)
class RelativePitch(base.Feature):
  """Intervals between and within the voices, and the key.

  State: `State`. Signal: the same after each token, [6, B, L] and [24, B, L].

  An example of six tokens; in the columns the pitches of P1 and TR, and the
  intervals that are embedded:

      token          P1   TR   P1 to TR   move of P1
      AT_0           -    -    -          -
      P1_NOTE_60     60   -    -          -
      TR_NOTE_48     60   48   -12        -
      AT_4           60   48   -12        -
      P1_NOTE_64     64   48   -16        +4
      P1_NOTE_62     62   48   -14        -2

  Embedded is a table `relative_pitch`, by the interval from one voice to
  another (3 pairs) and from the note of a voice before the last to its last.

  A note that may come next is scored by linear functions of the model's last
  layer, a function for each interval between it and the last note of a voice
  (`note_interval`, by the note's voice, the other voice, the interval); and for
  each pitch class, as seen from the note, times the share of the notes so far
  that are of it (`note_class`, by the note's voice, the decay, the class).
  """
  vocabulary: Any
  name: ClassVar[str] = 'relative_pitch'

  def __post_init__(self):
    if not hasattr(self.vocabulary, 'table'):
      raise ValueError('relative_pitch is for the vocabulary tracker')

  def init_state(self, batch: int) -> State:
    return State(jnp.zeros((2 * _N, batch), jnp.int32),
                 jnp.zeros((len(_DECAYS) * _CLASSES, batch), jnp.float32))

  def observe(self, state: State, tokens_BxL, n_read):
    does_3xV = jnp.asarray(_tables(self.vocabulary).does_3xV)
    return base.scan_tokens(
        lambda state, tokens_B: _step(state, *does_3xV[:, tokens_B]),
        lambda state: state, state, tokens_BxL, n_read)

  def param_specs(self, d_model: int) -> dict[str, base.ParamSpec]:
    return {
        'relative_pitch': base.table(2 * _N * _INTERVALS, d_model),
        'note_interval': base.gate(d_model, _N, _N, _INTERVALS),
        'note_class': base.gate(d_model, _N, len(_DECAYS), _CLASSES)}

  def embed(self, params, signal: State):
    pitch_SxBxL = signal.pitch
    entries = [_interval(pitch_SxBxL[a], pitch_SxBxL[b]) for a, b in (
        *_PAIRS, *((_N + v, v) for v in range(_N)))]
    size = len(params['relative_pitch'])
    entries_SxBxL = jnp.stack([
        jnp.where(entry < 0, size, entry + i * _INTERVALS)
        for i, entry in enumerate(entries)])
    return base.embed_entries(params['relative_pitch'], entries_SxBxL)

  def logit_bias(self, params, signal: State, hidden_BxLxD):
    hidden_BxLxD = hidden_BxLxD.astype(jnp.float32)
    by_interval = jnp.einsum('bld,dvri->bvrli', hidden_BxLxD,
                             params['note_interval'])
    by_class = jnp.einsum('bld,dvtc->bvltc', hidden_BxLxD, params['note_class'])
    shape = (len(_DECAYS), _CLASSES, *signal.classes.shape[1:])
    classes_TxCxBxL = signal.classes.reshape(shape)
    classes_TxCxBxL /= jnp.maximum(classes_TxCxBxL.sum(1, keepdims=True), 1)
    # Share of the class that is c semitones above p: [.., p, c].
    above = (np.arange(_CLASSES)[:, None] + np.arange(_CLASSES)) % _CLASSES
    shares_BxLxTxPxC = classes_TxCxBxL.transpose(2, 3, 0, 1)[..., above]
    total = 0
    for v, (ids, first) in enumerate(_tables(self.vocabulary).notes):
      n = ids.stop - ids.start
      key_BxLxP = jnp.einsum('bltc,bltpc->blp', by_class[:, v],
                             shares_BxLxTxPxC)
      score_BxLxN = key_BxLxP[..., (first + np.arange(n)) % _CLASSES]
      for r in range(_N):
        score_BxLxN += _at_pitches(by_interval[:, v, r], signal.pitch[r],
                                   first, n)
      total += jnp.pad(score_BxLxN, ((0, 0), (0, 0), (
          ids.start, self.vocabulary.size - ids.stop)))
    return total


def _step(state: State, does_B, voice_B, pitch_B) -> State:
  """The state after one more token of each song."""
  sounds_3xB = (does_B == _NOTE) & (np.array(_VOICES)[:, None] == voice_B)
  last, before = state.pitch[:_N], state.pitch[_N:]
  pitch = jnp.concatenate([jnp.where(sounds_3xB, pitch_B, last),
                           jnp.where(sounds_3xB, last, before)])
  is_note_B = sounds_3xB.any(0)
  place = np.tile(np.arange(_CLASSES), len(_DECAYS))[:, None]
  decay = np.repeat(np.array(_DECAYS, np.float32), _CLASSES)[:, None]
  classes = jnp.where(
      is_note_B, decay * state.classes + (place == pitch_B % _CLASSES),
      state.classes)
  return jax.tree.map(lambda x: jnp.where(does_B == _START, 0, x),
                      State(pitch, classes))


def _interval(from_, to):
  """Semitones + 48; -1 where they are too many, or a note is missing."""
  interval = to - from_ + _LARGEST
  known = (from_ > 0) & (to > 0) & (interval >= 0) & (interval < _INTERVALS)
  return jnp.where(known, interval, -1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _at_pitches(scores_BxLxI, from_BxL, first: int, n: int):
  """Lays scores of intervals from a note out over `n` pitches.

  Returns:
    [B, L, n], for the pitches from `first` on; 0 where there is no interval.
  """
  place = first + np.arange(n) - from_BxL[..., None] + _LARGEST
  return _take(scores_BxLxI, place, from_BxL)


def _take(x_BxLxK, place_BxLxM, from_BxL):
  size = x_BxLxK.shape[-1]
  inside = (place_BxLxM >= 0) & (place_BxLxM < size) & (
      from_BxL[..., None] > 0)
  return jnp.where(inside, jnp.take_along_axis(
      x_BxLxK, jnp.clip(place_BxLxM, 0, size - 1), -1), 0)


def _at_pitches_fwd(scores_BxLxI, from_BxL, first, n):
  return _at_pitches(scores_BxLxI, from_BxL, first, n), from_BxL


def _at_pitches_bwd(first, n, from_BxL, cotangent_BxLxN):
  # Each pitch is of one interval: gathered again, where JAX would scatter.
  place = np.arange(_INTERVALS) - _LARGEST + from_BxL[..., None] - first
  return _take(cotangent_BxLxN, place, from_BxL), None


_at_pitches.defvjp(_at_pitches_fwd, _at_pitches_bwd)
