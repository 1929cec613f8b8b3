"""row_state against a song followed by hand, and by plain Python."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lakhnes_jax import events
from lakhnes_jax.model.features import names, row_state
from lakhnes_jax.tracker import vocabulary as voc

VOCABULARY = voc.default()
FEATURE, = names.parse('row_state', VOCABULARY).parts
IDS = {name: number for number, name in enumerate(VOCABULARY.tokens)}


_observe = jax.jit(FEATURE.observe)


def follow(ids):
  """Yields what the feature should say after each token, slot by slot.

  Plain Python, by the words of `RowState`.
  """
  for token in ids:
    kind, voice, value = (int(x[token]) for x in VOCABULARY.table)
    name = VOCABULARY.tokens[token]
    if kind == voc.START:
      row, bar, bars, last = None, 16, 0, None
      prefix, note, macros, played, before = {}, {}, {}, {}, {}
      since = [0] * 4
    elif voc.LENGTH <= kind <= voc.TEMPO:
      prefix[kind] = name
      if kind == voc.TEMPO:
        prefix[kind] = f'TEMPO_{value // 16}'
      if kind == voc.BAR:
        bar = value
    elif kind == voc.AT and row is None:
      row = value % bar
    elif kind == voc.AT:
      last = None
      while True:
        row = (row + 1) % bar
        bars += row == 0
        since = [rows + 1 for rows in since]
        before = played.pop(row, {})
        if row == value % bar:
          break
    elif kind == voc.SKIP:
      bars += 1
      since = [rows + bar for rows in since]
      played = {}
    elif kind == voc.DELAY:
      last = None
    elif kind in (voc.NOTE, voc.OFF):
      note[voice], since[voice] = name, 0
      last = voice if kind == voc.NOTE else None
      played.setdefault(row, {}).setdefault(voice, name)
    elif kind >= voc.LEVEL and last is not None:
      macros.setdefault(last, {})[kind] = name
    ahead = None if row is None else next(
        (r % bar for r in range(row + 1, row + bar + 1) if played.get(r % bar)),
        None)
    yield (row, ahead, bars % 8, min(bars // 8, 8),
           *(min(rows, 48) for rows in since),
           *(note.get(v) for v in range(4)), *(before.get(v) for v in range(4)),
           *(macros.get(last, {}).get(kind) for kind in (
               voc.LEVEL, voc.TONE, voc.OFFSET, voc.GATE)),
           *(prefix.get(kind) for kind in range(voc.LENGTH, voc.TEMPO + 1)))


def observe(ids, state=None):
  signal, state = _observe(
      FEATURE.init_state(1) if state is None else state,
      jnp.asarray(ids, jnp.int32)[None], len(ids))
  return np.asarray(signal)[:, 0].T, state


def some_song(seed, length):
  """A song of tokens of all kinds, more of those of which songs have more."""
  rng = np.random.default_rng(seed)
  kind, _, value = VOCABULARY.table
  ids = [0]
  for wanted in (voc.LENGTH, voc.DENSITY, voc.VOICES, voc.BAR, voc.TEMPO):
    ids.append(rng.choice(np.flatnonzero(kind == wanted)))
  ids.append(IDS['AT_0'])
  kinds = [voc.AT, voc.AT, voc.NOTE, voc.NOTE, voc.NOTE, *range(
      voc.AT, voc.GATE + 1), voc.TEMPO]
  while len(ids) < length:
    wanted = rng.choice(kinds)
    ids.append(rng.choice(np.flatnonzero(
        (kind == wanted) & ((kind != voc.AT) | (value < 20)))))
  return ids


def test_every_slot_says_what_plain_python_says():
  """Like entries for like words and for those alone, in 24 songs."""
  entries = {}
  for seed in range(24):
    ids = some_song(seed, 120)
    found, _ = observe(ids)
    for words, numbers in zip(follow(ids), found, strict=True):
      for slot, word, number in zip(
          range(len(words)), words, numbers, strict=True):
        # One table for the notes of all voices, and so on.
        group = slot if slot < 8 else 8 + (slot - 8) // 4 if slot < 20 else 11
        assert entries.setdefault((group, word), number) == number, (
            seed, slot, word)
  assert len(entries) > 700
  nothing = FEATURE.param_specs(1)['row_state'].shape[0]
  shown = [number for (_, word), number in entries.items() if word is not None]
  assert len(set(shown)) == len(shown)
  assert {number for (group, word), number in entries.items()
          if word is None and group >= 8} == {nothing}


def test_segments_say_what_the_whole_says():
  ids = some_song(1, 90)
  whole, _ = observe(ids)
  parts, state = [], None
  for part in (ids[:1], ids[1:40], ids[40:]):
    signal, state = observe(part, state)
    parts.append(signal)
  np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_what_is_true_is_added():
  ids = [0, *(IDS[name] for name in (
      'BAR_4', 'AT_0', 'P1_NOTE_60', 'AT_2', 'TR_NOTE_40', 'AT_0'))]
  signal, _ = _observe(FEATURE.init_state(1), jnp.array([ids]), len(ids))
  shape, = (spec.shape for spec in FEATURE.param_specs(3).values())
  table = np.random.default_rng(0).normal(size=shape).astype(np.float32)
  nothing = len(table)
  wanted = [sum(table[i] for i in row if i < nothing)
            for row in np.asarray(signal)[:, 0].T]
  np.testing.assert_allclose(
      FEATURE.embed({'row_state': table}, signal)[0], wanted, rtol=1e-5,
      atol=1e-6)


def test_other_vocabularies():
  with pytest.raises(ValueError, match='is for the vocabulary tracker'):
    names.parse('row_state', events.TX1)


def test_the_example_of_the_docstring():
  lines = row_state.RowState.__doc__.split('a bar before\n')[1].split('\n')[:6]
  table = [line.split() for line in lines]
  ids = np.array([[IDS[name] for name in ['BAR_4', *(x[0] for x in table)]]])
  for number, (_, row, ahead, *notes) in enumerate(table, 2):
    signal, state = _observe(FEATURE.init_state(1), jnp.array(ids), number)
    shown = [-1 if x == '-' else int(x) for x in (row, ahead)]
    assert (signal[:2, 0, number - 1] - np.array([1, 66])).tolist() == shown
    assert [int(x[0, 0]) for x in (state.note, state.before)] == [
        0 if x == '-' else IDS[x] for x in notes]
