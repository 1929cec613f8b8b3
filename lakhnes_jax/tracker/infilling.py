"""Some voices of a pattern are given; the model writes the others, row by row.

Rows keep their times, for NUDGE and TEMPO are given too. How what is given and
what the model draws become one is in `merging` and `repeats`.

Letters: B songs, V tokens, G given tokens.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from lakhnes_jax import events as ev
from lakhnes_jax.tracker import clock as clock_lib
from lakhnes_jax.tracker import grammar, merging
from lakhnes_jax.tracker import pattern as pattern_lib
from lakhnes_jax.tracker import prompt as prompt_lib
from lakhnes_jax.tracker import vocabulary as voc

_MIN_GIVEN = 512  # G is this or more.


class GivenNotes(NamedTuple):
  """What is given of a pattern.

  Attributes:
    prefix: ids up to the first AT.
    token, row, delay, voice: [G] int32; the last is <S>. Rows are counted from
      the first; delay and voice are -1 for what begins a row.
    chained: [G] int32, 1 for what comes right after the token before.
    first: frame of the pattern at which the first row begins.
    most_tokens: that may come without the model's own.
  """
  prefix: np.ndarray
  token: np.ndarray
  row: np.ndarray
  delay: np.ndarray
  voice: np.ndarray
  chained: np.ndarray
  first: int
  most_tokens: int


def given_notes(vocabulary: voc.Tracker, prompt: prompt_lib.Prompt,
                voices: Sequence[int], asked: Mapping[int, int]) -> GivenNotes:
  """Takes the given voices out of a pattern; its row 0 is the song's.

  Args:
    vocabulary: a `vocabulary.Tracker`.
    prompt: the whole song.
    voices: those given.
    asked: {kind of prefix token: value}, in place of what the voices say.
  """
  pattern = pattern_lib.change(prompt.pattern, voices, False, 0)
  ids = vocabulary.write(pattern)
  row, begin = prompt_lib.row_at(pattern, int(pattern.frame[0]))
  lead = row - prompt_lib.row_at(pattern, 0)[0]
  kind, voice, value = (x[ids].tolist() for x in vocabulary.table)
  clock = clock_lib.Clock()
  clock.bar, clock.tempo = value[3], value[4]
  clock.begin(value[5] - lead)
  prefix = ids[:6].astype(np.int32)
  for name, wanted in {**asked, voc.AT: clock.row}.items():
    prefix[name - voc.LENGTH if name != voc.AT else 5] = vocabulary.id_of(
        name, wanted)
  clock.advance(lead)
  first = begin - clock.frame
  row, delay, rows = lead, 0, []
  if lead * clock.tempo % clock_lib.PARTS:  # Rows are counted from here.
    clock.set_tempo(clock.tempo)
    rows.append((vocabulary.id_of(voc.TEMPO, clock.tempo), row, -1, -1, 0))
  for i in range(6, len(ids)):
    if kind[i] in (voc.AT, voc.SKIP):
      step = clock.bar if kind[i] == voc.SKIP else clock.rows_to(value[i])
      clock.advance(step)
      row, delay = row + step, 0
    elif kind[i] == voc.DELAY:
      delay = value[i]
    elif kind[i] in (voc.NUDGE, voc.TEMPO):
      (clock.nudge if kind[i] == voc.NUDGE else clock.set_tempo)(value[i])
      rows.append((ids[i], row, -1, -1, 0))
    elif kind[i] >= voc.LEVEL:
      rows.append((ids[i], row, delay, rows[-1][3], 1))
    else:
      rows.append((ids[i], row, delay, voice[i], 0))
  while clock.frame + first < pattern.size:
    clock.advance(1)
    row += 1
  rows.append((vocabulary.id_of(voc.START), row, -1, -1, 0))
  columns = np.array(rows, np.int32).T
  return GivenNotes(prefix, *columns, first,
                    9 + 3 * len(rows) + row // clock.bar)


class Schedule(NamedTuple):
  """What is given of songs, and how far it has been played; int32.

  Attributes:
    token_BxG, row_BxG, delay_BxG, voice_BxG, chained_BxG: as in `GivenNotes`,
      but that rows are counted from the beginning of the first bar.
    voices_B: voices that are given, a bit each.
    next_B: number of the given token that comes next.
    left_B: tokens that the model may still write.
  """
  token_BxG: Any
  row_BxG: Any
  delay_BxG: Any
  voice_BxG: Any
  chained_BxG: Any
  voices_B: Any
  next_B: Any
  left_B: Any

  def due(self) -> merging.Due:
    """Returns what is given next."""
    return merging.Due(*(grammar.at(values_BxG, self.next_B)
                         for values_BxG in self[:5]),
                       jnp.full_like(self.next_B, merging.GIVEN))


def schedule(vocabulary: voc.Tracker, given: GivenNotes, voices: Sequence[int],
             n_free: int) -> Schedule:
  """Prepares one song.

  Args:
    vocabulary: a `vocabulary.Tracker`.
    given: notes of the pattern.
    voices: those given.
    n_free: tokens that the model may write at most.
  """
  # At least so long, so that most songs share a program.
  more = max(0, _MIN_GIVEN - len(given.token))
  row = given.row + vocabulary.table.value[given.prefix[-1]]
  return Schedule(
      *(np.pad(column, (0, more), 'edge') for column in (
          given.token, row, given.delay, given.voice, given.chained)),
      np.int32(ev.voice_bits(voices)), np.int32(0),
      np.int32(n_free))
