"""relative_pitch against a song followed by hand, and by plain Python."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lakhnes_jax import events, vocabularies
from lakhnes_jax.model.features import names, relative_pitch

VOCABULARY = vocabularies.get('tracker')
FEATURE, = names.parse('relative_pitch', VOCABULARY).parts
MELODIC = 'P1', 'P2', 'TR'


def ids(text: str) -> np.ndarray:
  return np.array([VOCABULARY.tokens.index(x) for x in text.split()], np.int32)


SONG = ids('P1_NOTE_60 TR_NOTE_48 AT_4 P1_NOTE_64 P1_OFF NO_NOTE_3 P2_NOTE_67 '
           'AT_8 TR_NOTE_41 P1_NOTE_69')


def observe(tokens):
  return FEATURE.observe(FEATURE.init_state(1), tokens[None], len(tokens))


def test_by_hand():
  signal, state = observe(SONG)
  np.testing.assert_array_equal(signal.pitch[:, 0].T, [
      # P1, P2, TR; and before.
      [60, 0, 0, 0, 0, 0], [60, 0, 48, 0, 0, 0], [60, 0, 48, 0, 0, 0],
      [64, 0, 48, 60, 0, 0], [64, 0, 48, 60, 0, 0], [64, 0, 48, 60, 0, 0],
      [64, 67, 48, 60, 0, 0], [64, 67, 48, 60, 0, 0],
      [64, 67, 41, 60, 0, 48], [69, 67, 41, 64, 0, 48]])
  for decay, classes in zip((.9, .99), np.split(state.classes[:, 0], 2),
                            strict=True):
    wanted = np.zeros(12)
    for age, pitch in enumerate((69, 41, 67, 64, 48, 60)):
      wanted[pitch % 12] += decay**age
    np.testing.assert_allclose(classes, wanted, rtol=1e-5)


def test_a_song_begins_anew():
  twice = np.concatenate([SONG, [0], SONG])
  signal, _ = observe(twice)
  first, _ = observe(SONG)
  jax.tree.map(lambda a, b: np.testing.assert_array_equal(
      a[..., len(SONG) + 1:], b), signal, first)


def test_segments_follow_one_another():
  whole, wanted = observe(SONG)
  first, state = observe(SONG[:4])
  second, state = FEATURE.observe(state, SONG[None, 4:], len(SONG) - 4)
  jax.tree.map(lambda a, b, c: np.testing.assert_array_equal(
      np.concatenate([a, b], -1), c), first, second, whole)
  jax.tree.map(np.testing.assert_array_equal, state, wanted)


def random_params(d_model: int):
  rng = np.random.default_rng(0)
  return {name: rng.standard_normal(spec.shape).astype(np.float32)
          for name, spec in FEATURE.param_specs(d_model).items()}


def bias_in_plain_python(params, hidden, pitches, played):
  """Of one place in a song, by loops over all that may come next."""
  bias = np.zeros(VOCABULARY.size)
  for token, text in enumerate(VOCABULARY.tokens):
    if '_NOTE_' not in text or text.startswith('NO_'):
      continue
    voice, pitch = MELODIC.index(text[:2]), int(text.rsplit('_')[-1])
    for other, last in enumerate(pitches):
      if last and abs(pitch - last) <= 48:
        bias[token] += hidden @ params['note_interval'][
            :, voice, other, pitch - last + 48]
    for number, decay in enumerate((.9, .99)):
      weights = [decay**age for age in range(len(played))]
      for weight, note in zip(weights, played[::-1], strict=True):
        bias[token] += weight / max(sum(weights), 1) * (
            hidden @ params['note_class'][
                :, voice, number, (note - pitch) % 12])
  return bias


def test_scores_of_what_may_come_next():
  params, hidden = random_params(4), np.array([.5, -1, 2, .3], np.float32)
  signal, _ = observe(SONG)
  found = FEATURE.logit_bias(params, signal, jnp.broadcast_to(
      hidden, (1, len(SONG), 4)))[0]
  for place, pitches, played in (
      (0, (60, 0, 0), [60]), (3, (64, 0, 48), [60, 48, 64]),
      (9, (69, 67, 41), [60, 48, 64, 67, 41, 69])):
    np.testing.assert_allclose(
        found[place], bias_in_plain_python(params, hidden, pitches, played),
        rtol=1e-4, atol=1e-4)


def test_embedded_are_intervals():
  params = random_params(3)
  table = params['relative_pitch'].reshape(6, 97, 3)
  signal, _ = observe(SONG)
  found = FEATURE.embed(params, signal)[0]
  np.testing.assert_array_equal(found[0], 0)  # One note has no interval.
  np.testing.assert_allclose(found[1], table[1, 48 - 12], rtol=1e-5)
  np.testing.assert_allclose(  # P1 to TR, and what P1 moved.
      found[3], table[1, 48 - 16] + table[3, 48 + 4], rtol=1e-5, atol=1e-6)


def test_gradients_are_those_of_the_scores():
  """By differences: the scores are linear in the parameters."""
  params = random_params(2)
  signal, _ = observe(SONG)
  rng = np.random.default_rng(1)
  hidden = rng.standard_normal((1, len(SONG), 2)).astype(np.float32)
  weights = rng.standard_normal((1, len(SONG), VOCABULARY.size))

  def total(params, hidden):
    return (FEATURE.logit_bias(params, signal, hidden) * weights).sum()

  moved, step = jax.grad(total, (0, 1))(params, hidden)
  nothing = jax.tree.map(np.zeros_like, params)
  for name in ('note_interval', 'note_class'):
    other = {**nothing, name: rng.standard_normal(params[name].shape).astype(
        np.float32)}
    np.testing.assert_allclose((moved[name] * other[name]).sum(),
                               total(other, hidden), rtol=1e-3)
  other = rng.standard_normal(hidden.shape).astype(np.float32)
  np.testing.assert_allclose((step * other).sum(), total(params, other),
                             rtol=1e-3)


def test_all_is_the_same_in_another_key():
  params = random_params(4)
  hidden = np.ones((1, len(SONG), 4), np.float32)
  higher = np.array([VOCABULARY.tokens.index(
      f'{text[:8]}{int(text[8:]) + 3}') if text[:2] in MELODIC and
                     '_NOTE_' in text else i for i, text in (
                         (i, VOCABULARY.tokens[i]) for i in SONG)])
  (signal, _), (moved, _) = observe(SONG), observe(higher)
  np.testing.assert_allclose(FEATURE.embed(params, signal),
                             FEATURE.embed(params, moved), rtol=1e-5)
  first, second = (FEATURE.logit_bias(params, x, hidden)[0]
                   for x in (signal, moved))
  for voice in MELODIC:
    notes = np.flatnonzero([text.startswith(f'{voice}_NOTE_')
                            for text in VOCABULARY.tokens])
    # Of intervals of four octaves and more some are there in one key alone.
    middle = notes[20:-20]
    near = np.abs(np.array([int(VOCABULARY.tokens[i][8:]) for i in middle])
                  - 60) < 12
    np.testing.assert_allclose(second[:, middle[near] + 3],
                               first[:, middle[near]], rtol=1e-4, atol=1e-4)


def test_for_tracker_alone():
  with pytest.raises(ValueError, match='relative_pitch is for the vocabulary'):
    names.parse('relative_pitch', events.TX1)


def test_the_example_of_the_docstring():
  text = relative_pitch.RelativePitch.__doc__
  lines = text.split('move of P1\n')[1].split('\n')[:6]
  table = [line.split() for line in lines]
  signal, _ = observe(ids(' '.join(row[0] for row in table)))
  p1, _, tr, p1_before, *_ = signal.pitch[:, 0]
  for row, *found in zip(
      table, p1, tr, relative_pitch._interval(p1, tr) - 48,
      relative_pitch._interval(p1_before, p1) - 48, strict=True):
    assert [0 if x == '-' else int(x) for x in row[1:3]] == found[:2]
    assert [-49 if x == '-' else int(x) for x in row[3:]] == found[2:]
