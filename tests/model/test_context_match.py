"""What followed when the song was here before, against a walk through text."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lakhnes_jax import events
from lakhnes_jax.model.features import context_match
from support import corpora

WINDOW = 40


def _view(key, name):
  """What counts of a token, from its text."""
  voice, kind = name.split('_')[:2]
  if key == 'tokens':
    return name
  if voice == 'WT':
    samples = int(kind)
    if key == 'notes':
      return 'long' if samples >= 600 else 'short'
    return round(samples / 735) if samples >= 600 else 0
  return name if key == 'notes' else (voice, kind)


def _walk(key, order, names):
  """Yields what followed the last such context, '<S>' for nothing."""
  start = 0
  for here, name in enumerate(names):
    if name == '<S>':
      start = here + 1
    views = [None if n == '<S>' else _view(key, n) for n in names[:here + 1]]
    context = views[here + 1 - order:]
    yield next((names[end + 1] for end in range(here - 1, here - WINDOW - 1, -1)
                if end - order + 1 >= start
                and views[end - order + 1:end + 1] == context), '<S>')


def _songs(vocabulary):
  """Three lanes of 160 tokens that come round, with changes of all kinds."""
  rng = np.random.default_rng(0)
  lanes = corpora.repeated_phrases(vocabulary, (
      'P1_NOTEON_60 WT_20 P2_NOTEON_64 WT_700 P1_NOTEOFF WT_12000',
      'NO_NOTEON_3 WT_590 TR_NOTEON_40 WT_600 NO_NOTEOFF WT_1400',
      'P1_NOTEON_60 P2_NOTEON_60 WT_1500 P1_NOTEON_62 WT_1500'), 160, rng, .02,
      'WT_21 WT_1400 WT_1500 P1_NOTEON_61 P1_NOTEOFF')
  lanes[0, 0] = lanes[1, 70] = lanes[1, 71] = events.BOS_EOS
  lanes[2, 60:110] = rng.integers(1, vocabulary.size, 50)  # Beyond the window.
  return lanes


@pytest.mark.parametrize('vocabulary', events.VOCABULARIES.values(),
                         ids=lambda v: v.name)
@pytest.mark.parametrize('parts', [[160], [1] * 160, [7, 150, 3]],
                         ids=['whole', 'single', 'parts'])
def test_follows_the_text(vocabulary, parts):
  tokens = _songs(vocabulary)
  feature = context_match.ContextMatch(vocabulary, WINDOW)
  observe = jax.jit(feature.observe)
  state, start, found = feature.init_state(3), 0, []
  for part in parts:
    here, state = observe(
        state, jnp.asarray(tokens[:, start:start + part]), part)
    start += part
    found.append(np.asarray(here))
  found = np.concatenate(found, 2)
  for number, (key, order) in enumerate(context_match.CONTEXTS):
    n_found = 0
    for row, lane in zip(found[number], tokens, strict=True):
      expected = list(_walk(key, order, [vocabulary.tokens[t] for t in lane]))
      assert [vocabulary.tokens[t] for t in row] == expected
      n_found += sum(name != '<S>' for name in expected)
    assert 30 < n_found < 450


def test_embeds_by_context():
  feature = context_match.ContextMatch(events.TX1)
  (name, spec), = feature.param_specs(2).items()
  table = np.arange(np.prod(spec.shape), dtype=np.float32).reshape(spec.shape)
  found = np.arange(len(context_match.CONTEXTS))[:, None, None] % 5
  np.testing.assert_array_equal(
      feature.embed({name: jnp.asarray(table)}, found)[0, 0],
      sum(table[i, i % 5] for i in range(len(context_match.CONTEXTS))))


def test_the_example_of_the_docstring():
  feature = context_match.ContextMatch(events.TX1, 40)
  text = '<S> P1_NOTEON_60 WT_20 P1_NOTEON_60 WT_20 P1_NOTEON_60'
  ids = [events.TX1.tokens.index(name) for name in text.split()]
  found, _ = jax.jit(feature.observe)(
      feature.init_state(1), jnp.array([ids]), 6)
  assert context_match.CONTEXTS[0] == ('tokens', 2)
  assert [events.TX1.tokens[i] for i in found[0, 0]] == [
      *4 * ['<S>'], 'P1_NOTEON_60', 'WT_20']
