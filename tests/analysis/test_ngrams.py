"""N-grams of small songs, written out by hand."""

import collections

import numpy as np

from lakhnes_jax import events as ev
from lakhnes_jax.analysis import ngrams

FRAME = 735


def on(voice, value):
  return ev.event(voice, ev.NOTEON, value)


def off(voice):
  return ev.event(voice, ev.NOTEOFF)


def extract(*events) -> collections.Counter:
  return collections.Counter(ngrams.extract(np.array(events, np.int32)))


def test_each_voice_by_itself_and_chords_of_all():
  assert extract(
      on(ev.P1, 60), on(ev.TR, 48), on(ev.NO, 5), 6 * FRAME, on(ev.P1, 64),
      6 * FRAME, on(ev.P1, 62), off(ev.TR), on(ev.NO, 7), 3 * FRAME, off(ev.P1)
  ) == collections.Counter({
      'P1 holds 6': 2, 'P1 holds 3': 1, 'P1 moves 4': 1, 'P1 moves -2': 1,
      'P1 moves 4 -2': 1, 'P1 times 6': 2, 'P1 times 6 6': 1, 'P1 plays 4/6': 1,
      'P1 plays -2/6': 1, 'P1 plays 4/6 -2/6': 1, 'TR holds 12': 1,
      'NO holds 12': 1, 'NO holds 3': 1, 'NO moves 7': 1, 'NO times 12': 1,
      'NO plays 7/12': 1, 'chord [0]': 2, 'chord [0, 4]': 1})


def test_what_nobody_hears_changes_nothing():
  tune = [on(ev.P1, 60), 6 * FRAME, on(ev.P1, 67), 6 * FRAME, off(ev.P1)]
  assert extract(*tune) == extract(
      on(ev.P1, 63), 6 * FRAME + 200, on(ev.P1, 72), 5, on(ev.P1, 70),
      6 * FRAME - 300, off(ev.P1))


def test_long_times_are_rounded_to_sixths():
  lengths = [24, 25, 27, 100, 101, 1000]
  assert [next(ngrams.extract(np.array(
      [on(ev.P1, 60), length * FRAME, off(ev.P1)], np.int32)))
          for length in lengths] == [
              f'P1 holds {length}' for length in (24, 24, 28, 96, 96, 1024)]


def test_nothing_is_played():
  assert not extract()
  assert not extract(FRAME)
