"""Where a song of the format `tracker` stands: its row, and what voices play.

What a note needs to know is far back in its tokens: in which bar and row it
is, what the voices hold and with which macros, and what they played on this
row of the bar before. A Transformer finds that by attention only where its
memory still reaches, and with many examples; this feature says it.

Letters as in `lakhnes_jax.model.transformer_xl`; S slots of the signal, R rows
of a bar at most, 4 voices.
"""

import dataclasses
import functools
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lakhnes_jax import events
from lakhnes_jax.model.features import base
from lakhnes_jax.tracker import clock
from lakhnes_jax.tracker import vocabulary as voc

_N = len(events.VOICES)
_PREFIXES = 5
_ROWS = 65  # R, and one for none; row r is 1 + r.
_BARS = 8  # Bars are counted modulo this, and in units of it.
_LONGEST = 48  # Rows; what is longer ago counts as this.
# Entries of the signal that are small numbers: rows, the row ahead, bars in
# both ways, rows since the last note of each voice.
_SIZES = (_ROWS, _ROWS, _BARS, _BARS + 1, *_N * (_LONGEST + 1,))
# What tokens do.
_START, _NOTE, _AT, _SKIP, _BAR, _DELAY, _PREFIX, _MACRO = range(1, 9)


class State(NamedTuple):
  """What is carried from token to token; int32, B on axis 1.

  Attributes:
    place: [4, B]: the row plus 1 (0: none yet), rows of a bar, bars passed,
      and the voice of the note that macros are of, plus 1 (0: of none).
    note: [4, B], id of the last NOTE or OFF of each voice; 0 if there is none.
    since: [4, B], rows since then.
    macro: [16, B], ids of the last macros and gate of each voice, four a voice.
    before: [4, B], what each voice played on this row of the bar before: the
      id of the first NOTE or OFF, 0 for nothing.
    bar: [4 * R, B], likewise for each row: this bar's as far as it is written,
      then those of the bar before; voice by voice.
    prefix: [5, B], ids of what the song began with: LENGTH, DENSITY, VOICES,
      BAR, TEMPO; of TEMPO the last.
  """
  place: Any
  note: Any
  since: Any
  macro: Any
  before: Any
  bar: Any
  prefix: Any


class _Tables(NamedTuple):
  """What is known of tokens.

  Attributes:
    does_4xV: int32, what a token does (of those above); its voice; its value;
      and which of its kind it is: 1 of an OFF, the number of a macro, 1 to 5 of
      a prefix.
    entry_4xV: int32, rows of the table for a token: as the note of a voice, as
      its note a bar before, as a macro, as a prefix. `size` is for none.
    size: rows of the table.
  """
  does_4xV: np.ndarray
  entry_4xV: np.ndarray
  size: int


@functools.lru_cache
def _tables(vocabulary) -> _Tables:
  kind, voice, value = vocabulary.table
  does = np.zeros(len(kind), np.int32)
  for number, kinds in (
      (_START, [voc.START]), (_NOTE, [voc.NOTE, voc.OFF]), (_AT, [voc.AT]),
      (_SKIP, [voc.SKIP]), (_BAR, [voc.BAR]), (_DELAY, [voc.DELAY]),
      (_PREFIX, [voc.LENGTH, voc.DENSITY, voc.VOICES, voc.TEMPO]),
      (_MACRO, [voc.LEVEL, voc.TONE, voc.OFFSET, voc.GATE])):
    does[np.isin(kind, kinds)] = number
  prefix = (does == _PREFIX) | (does == _BAR)
  which = np.select([kind == voc.OFF, does == _MACRO, prefix],
                    [1, kind - voc.LEVEL, kind - voc.LENGTH + 1])
  # Tempos share the entry of the nearest whole frame.
  shown = np.where(kind == voc.TEMPO, value // clock.PARTS, value)
  entries, size = np.zeros((4, len(kind)), np.int32), sum(_SIZES)
  for row, chosen in enumerate((does == _NOTE, does == _NOTE, does == _MACRO,
                                prefix)):
    distinct, numbers = np.unique(
        np.stack([kind, voice, shown])[:, chosen], axis=1, return_inverse=True)
    entries[row, chosen] = size + numbers
    size += distinct.shape[1]
  return _Tables(np.stack([does, voice, value, which]),
                 np.where(entries, entries, size), size)


@dataclasses.dataclass(frozen=True)
class RowState(base.Feature):
  """The row, the bar, and what each voice plays and played a bar before.

  State: `State`. Signal: [S, B, L] int32, the entries of a table that are true:
  one each for the row, the row ahead, the bar modulo 8 and in units of 8, and
  for each voice the rows since its last note, that note, and what it played on
  this row a bar ago; the four macros of the voice that macros are of; and the
  five tokens of the prefix.

  An example in bars of four rows, P1 only; in the columns the row, the row
  ahead (the next on which something was played the last time), the note of P1
  and what P1 played on this row a bar before:

      token          row   ahead   P1               a bar before
      AT_0           0     -       -                -
      P1_NOTE_60     0     0       P1_NOTE_60       -
      AT_2           2     0       P1_NOTE_60       -
      P1_NOTE_64     2     0       P1_NOTE_64       -
      AT_0           0     2       P1_NOTE_64       P1_NOTE_60
      P1_NOTE_60     0     2       P1_NOTE_60       P1_NOTE_60

  Parameters: `row_state`, the table. What is embedded is the sum of what is
  true.
  """
  vocabulary: Any
  name: ClassVar[str] = 'row_state'

  def __post_init__(self):
    if not hasattr(self.vocabulary, 'table'):
      raise ValueError('row_state is for the vocabulary tracker')

  def init_state(self, batch: int) -> State:
    return State(*(jnp.zeros((size, batch), jnp.int32) for size in (
        4, _N, _N, 4 * _N, _N, _N * (_ROWS - 1),
        _PREFIXES)))

  def observe(self, state: State, tokens_BxL, n_read):
    tables = _tables(self.vocabulary)
    does, entries = map(jnp.asarray, tables[:2])
    step, signal = (jax.vmap(f, axes, -1) for f, axes in (
        (_step, (-1, 0, -1)), (functools.partial(_signal, entries), -1)))
    return base.scan_tokens(
        lambda state, tokens_B: step(state, tokens_B, does[:, tokens_B]),
        signal, state, tokens_BxL, n_read)

  def param_specs(self, d_model: int) -> dict[str, base.ParamSpec]:
    return {'row_state': base.table(_tables(self.vocabulary).size, d_model)}

  def embed(self, params, signal_SxBxL):
    return base.embed_entries(params['row_state'], signal_SxBxL)


def _step(state: State, token, does) -> State:
  """The state of one song after one more token; leaves without B."""
  does, voice, value, which = does
  row, rows, bars, last = state.place
  rows = jnp.where(rows == 0, 16, rows)
  voices = jnp.arange(_N)
  grid = state.bar.reshape(_N, _ROWS - 1)
  places = jnp.arange(_ROWS - 1)

  # To another row: what was passed without a note is forgotten.
  first = row == 0
  value_in_bar = value % rows
  goes = does == _AT
  ahead = jnp.where(first, 0, (value_in_bar - row) % rows + 1)
  passed = goes & ~first & ((places - row) % rows < ahead) & (places < rows)
  before = jnp.where(goes, grid[:, value_in_bar], state.before)
  skips = does == _SKIP
  grid = jnp.where(passed | skips, 0, grid)
  bars += (goes & ~first & (value_in_bar < row)) | (skips & ~first)
  since = state.since + jnp.where(goes, ahead, jnp.where(skips, rows, 0))
  row = jnp.where(goes, 1 + value_in_bar, row)
  is_prefix = (does == _BAR) | (does == _PREFIX)
  rows = jnp.where(does == _BAR, value, rows)

  # A note, or its macro.
  sounds = (does == _NOTE) & (voices == voice)
  here = sounds[:, None] & (places == row - 1) & (grid == 0)
  ends = which == 1
  last = jnp.where(does == _NOTE, jnp.where(ends, 0, voice + 1),
                   jnp.where(goes | (does == _DELAY), 0, last))
  slot = jnp.where((does == _MACRO) & (last > 0), 4 * (last - 1) + which, -1)
  new = State(
      jnp.stack([row, rows, bars, last]),
      jnp.where(sounds, token, state.note),
      jnp.where(sounds, 0, jnp.minimum(since, _LONGEST)),
      jnp.where(jnp.arange(4 * _N) == slot, token, state.macro),
      before, jnp.where(here, token, grid).reshape(-1),
      jnp.where((jnp.arange(_PREFIXES) == which - 1) & is_prefix, token,
                state.prefix))
  return jax.tree.map(lambda x: jnp.where(does == _START, 0, x), new)


def _signal(entries_4xV, state: State):
  """The entries that are true in a state, [S]; leaves without B."""
  row, rows, bars, last = state.place
  rows = jnp.maximum(rows, 1)
  grid = state.bar.reshape(_N, _ROWS - 1)
  # Rows after this one, in the order in which they come.
  coming = (row + jnp.arange(_ROWS - 1)) % rows
  played = (grid != 0).any(0)[coming] & (jnp.arange(_ROWS - 1) < rows)
  ahead = jnp.where(played.any() & (row > 0), 1 + coming[played.argmax()], 0)
  small = jnp.stack([row, ahead, bars % _BARS,
                     jnp.minimum(bars // _BARS, _BARS), *state.since])
  note, before, macro, prefix = entries_4xV
  return jnp.concatenate([
      small + np.cumsum((0, *_SIZES[:-1])), note[state.note],
      before[state.before],
      macro[jnp.where(last > 0, state.macro.reshape(_N, 4)[last - 1], 0)],
      prefix[state.prefix]])
