"""What followed when the song was here before, against a walk through text."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lakhnes_jax import events
from lakhnes_jax.model.features import context_match
from support import corpora

REACH = 40

follow = jax.jit(context_match.follow, static_argnums=0)


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
    yield next((names[end + 1] for end in range(here - 1, here - REACH - 1, -1)
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
  lanes[0, 0] = lanes[1, 70] = lanes[1, 71] = events.START
  lanes[2, 60:110] = rng.integers(1, vocabulary.size, 50)  # Beyond reach.
  return lanes


@pytest.mark.parametrize('vocabulary', events.VOCABULARIES.values(),
                         ids=lambda v: v.name)
@pytest.mark.parametrize('parts', [[160], [1] * 160, [7, 150, 3]],
                         ids=['whole', 'single', 'parts'])
def test_follows_the_text(vocabulary, parts):
  tokens = _songs(vocabulary)
  history = context_match.empty(3, REACH)
  size, start, found = history.shape[2], 0, []
  for part in parts:
    here, history = follow(
        vocabulary.size, history, jnp.asarray(tokens[:, start:start + part]))
    history, start = history[:, :, -size:], start + part
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
  (name, shape), = context_match.shapes(5, 2).items()
  table = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
  found = np.arange(len(context_match.CONTEXTS))[:, None, None] % 5
  np.testing.assert_array_equal(
      context_match.embed({name: jnp.asarray(table)}, found)[0, 0],
      sum(table[i, i % 5] for i in range(len(context_match.CONTEXTS))))


def test_refuses_tokens_of_no_vocabulary():
  with pytest.raises(ValueError, match='recall: 11 tokens'):
    context_match.check(11)
