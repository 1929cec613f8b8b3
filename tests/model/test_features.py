"""Features by name, and what all have in common; each has its own test."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lakhnes_jax import events, vocabularies
from lakhnes_jax.model.features import base, names


def test_names():
  features = names.parse(
      ' voice_state,context_match=12 , voice_match,frame_counter', events.TX2)
  assert [part.name for part in features.parts] == [
      'voice_state', 'context_match', 'voice_match', 'frame_counter']
  assert features.parts[1].window == 12
  assert features.parts[2].window == 4096
  assert all(part.vocabulary is events.TX2 for part in features.parts)
  assert names.unparse(features) == (
      'voice_state,context_match=12,voice_match=4096,frame_counter')
  assert names.parse(names.unparse(features), events.TX2) == features
  assert names.parse('', None) == base.Features()


@pytest.mark.parametrize('text, message', [
    ('recall', "'recall': expected some of voice_state, context_match=WIN"),
    ('voice_state=3', "'voice_state=3': expected"),
    ('context_match=a', "'context_match=a': expected"),
    ('context_match=-1', "'context_match=-1': expected"),
    ('context_match=0', 'context_match=0: the window is not 1'),
    ('voice_match=0', 'voice_match=0: the window is not 1'),
    ('frame_counter,frame_counter', 'one is named twice')])
def test_wrong_names(text, message):
  with pytest.raises(ValueError, match=message):
    names.parse(text, events.TX1)


def test_a_vocabulary_is_needed():
  with pytest.raises(ValueError, match='vocabulary is not known'):
    names.parse('voice_state', None)


OF_ROWS = 'row_state', 'relative_pitch'
OF_EVENTS = tuple(name for name in names.KINDS if name not in OF_ROWS)


@pytest.mark.parametrize('name', OF_EVENTS)
def test_a_vocabulary_without_waits(name):
  class Rows:
    size = 3

  with pytest.raises(ValueError, match=f'{name} is for vocabularies of events'):
    names.parse(name, Rows())


@dataclasses.dataclass(frozen=True)
class Counter(base.Feature):
  """Counts tokens; a bias of that many times a gate."""
  vocabulary: base.Vocabulary
  name: ClassVar[str] = 'counter'

  def init_state(self, batch):
    return jnp.zeros((1, batch), jnp.int32)

  def observe(self, state, tokens_BxL, n_read):
    signal = state[0][:, None] + 1 + jnp.arange(tokens_BxL.shape[1])
    return signal, state + n_read

  def param_specs(self, d_model):
    return {'step': base.table(d_model), 'gate': base.gate(1)}

  def embed(self, params, signal):
    return signal[..., None] * params['step']

  def logit_bias(self, params, signal, hidden_BxLxD):
    return params['gate'] * signal[..., None]


def test_parts_are_added():
  parts = (Counter(events.TX1), *names.parse('voice_state', events.TX1).parts)
  features = base.Features(parts)
  specs = features.param_specs(2)
  assert specs.keys() == {'step', 'gate', 'last_event', 'since_event'}
  params = {name: 1 + jnp.zeros(spec.shape) for name, spec in specs.items()}
  tokens = jnp.array([[0, 3, 400]])
  signals, state = features.observe(features.init_state(1), tokens, 2)
  np.testing.assert_array_equal(state['counter'], [[2]])
  # Eight tables of ones for the voices, and the count.
  np.testing.assert_array_equal(
      features.embed(params, signals)[0, :, 0], [9, 10, 11])
  np.testing.assert_array_equal(
      features.logit_bias(params, signals, jnp.zeros((1, 3, 2)))[0],
      [[1], [2], [3]])
  assert base.Features().embed({}, {}) == 0
  assert base.Features().logit_bias({}, {}, None) == 0


@pytest.mark.parametrize('name, form', [
    *((name, form) for name in OF_EVENTS for form in events.VOCABULARIES),
    *((name, 'tracker') for name in OF_ROWS)])
def test_protocol(name, form):
  """What `base.Feature` promises of every feature."""
  vocabulary = vocabularies.get(form)
  part, = names.parse(name, vocabulary).parts
  assert hash(part) == hash(names.parse(name, vocabulary).parts[0])
  state = part.init_state(3)
  assert all(not leaf.any() and leaf.shape[1] == 3
             for leaf in jax.tree.leaves(state))
  tokens = jnp.asarray(np.random.default_rng(0).integers(
      1, vocabulary.size, (3, 7)))
  specs = part.param_specs(4)
  rng = jax.random.key(0)
  params = {key: spec.init(rng, spec.shape) for key, spec in specs.items()}
  assert {key: x.shape for key, x in params.items()} == {
      key: spec.shape for key, spec in specs.items()}
  signal, after = jax.jit(part.observe)(state, tokens, 5)
  assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(
      lambda x: (x.shape, x.dtype), state)
  # What comes after the tokens that are read does not matter.
  _, other = jax.jit(part.observe)(state, tokens.at[:, 5:].set(1), 5)
  jax.tree.map(np.testing.assert_array_equal, after, other)
  embedded = part.embed(params, signal)
  assert embedded.shape == (3, 7, 4)
  np.testing.assert_allclose(  # Linear.
      part.embed(jax.tree.map(lambda x: 2 * x, params), signal), 2 * embedded,
      rtol=1e-5, atol=1e-6)
  zeros = jax.tree.map(jnp.zeros_like, params)
  assert not np.any(part.logit_bias(zeros, signal, jnp.ones((3, 7, 4))))
