"""The language model: features in it, what it is saved as, its warm start."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lakhnes_jax import events, vocabularies
from lakhnes_jax.model import language_model
from lakhnes_jax.model.features import names
from lakhnes_jax.model.language_model import LanguageModel, ModelConfig
from lakhnes_jax.weights import weights_folder

SMALL = ModelConfig(n_token=events.TX1.size, n_layer=2, n_head=2, d_model=8,
                    d_head=4, d_inner=16, dropout=0.)
ALL = 'voice_state,context_match=12,voice_match=40,frame_counter'

apply = jax.jit(LanguageModel.apply, static_argnums=0)


def model_of(features: str) -> LanguageModel:
  return LanguageModel(SMALL, names.parse(features, events.TX1))


@functools.cache
def params_of(features: str):
  """Parameters so large that what was read matters; gates are not 0."""
  params = jax.tree.map(lambda x: 10 * x, jax.jit(
      model_of(features).init_params)(jax.random.key(0)))
  if 'tick_gate' in params:
    params['tick_gate'] = .1 * jax.random.normal(
        jax.random.key(1), params['tick_gate'].shape)
  return params


def test_n_params_of_paper():
  model = LanguageModel(ModelConfig(n_token=631))
  params = jax.eval_shape(model.init_params, jax.random.key(0))
  assert language_model.n_params(params) == 41_274_487


@pytest.mark.parametrize('features', ALL.split(','))
class TestFeature:
  """24 tokens, the last half as the first."""
  tokens = jnp.asarray(np.tile(np.random.default_rng(0).integers(
      1, events.TX1.size, (2, 12)), 2))

  def _read(self, features, length, state=None, mem_len=24):
    """Returns logits of the tokens, read in segments, and the state."""
    model, params = model_of(features), params_of(features)
    state, found = state or model.init_state(2, mem_len), []
    for start in range(0, 24, length):
      logits, state = apply(
          model, params, self.tokens[:, start:start + length], state)
      found.append(logits)
    return np.concatenate(found, 1), state

  @pytest.mark.parametrize('length', [1, 8])
  def test_segments_equal_the_whole(self, features, length):
    whole, _ = self._read(features, 24)
    parts, _ = self._read(features, length)
    # Logits of up to 10; programs that are not optimised round otherwise.
    np.testing.assert_allclose(parts, whole, rtol=1e-5, atol=5e-5)

  def test_matters(self, features):
    whole, _ = self._read(features, 24)
    params = params_of(features)
    without = {name: jnp.zeros_like(leaf) if name in model_of(
        features).features.param_specs(8) else leaf
               for name, leaf in params.items()}
    model = model_of(features)
    other, _ = apply(model, without, self.tokens, model.init_state(2, 24))
    assert np.abs(whole - other).max() > .01

  def test_reset(self, features):
    model = model_of(features)
    expected, state = self._read(features, 24, mem_len=4)
    assert all(x.any() for x in jax.tree.leaves(state.features))
    again, _ = self._read(features, 24, model.reset(state, True))
    np.testing.assert_allclose(again, expected, rtol=1e-5, atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal,
                 model.reset(state, jnp.bool_(False)), state)
    jax.tree.map(lambda new, old: np.testing.assert_equal(
        (new.shape, new.dtype), (old.shape, old.dtype)),
                 model.reset(state, True), state)
    # It is the features' state that is seen, not only the memory's.
    other, _ = self._read(features, 24, state._replace(
        memory=model.init_state(2, 4).memory))
    assert np.abs(other - expected).max() > .01

  def test_works_without_a_memory(self, features):
    logits, _ = self._read(features, 24, mem_len=0)
    assert np.isfinite(logits).all()

  def test_warm_start_changes_nothing(self, features):
    plain, larger = model_of(''), model_of(features)
    larger = dataclasses.replace(larger, config=dataclasses.replace(
        SMALL, d_inner=20))
    params = jax.device_get(params_of(''))
    warm = larger.warm_start(params)
    assert jax.tree.map(np.shape, warm) == jax.tree.map(
        lambda x: x.shape, jax.eval_shape(
            larger.init_params, jax.random.key(0)))
    np.testing.assert_allclose(
        apply(larger, warm, self.tokens, larger.init_state(2, 24))[0],
        apply(plain, params, self.tokens, plain.init_state(2, 24))[0],
        rtol=1e-5, atol=1e-5)


def test_loss_of_the_pretrained_weights():
  """It is what it was when they were trained, whatever has become of the code.

  Of other weights than those of model.safetensors e0789203 it is another.
  """
  model, params, meta = weights_folder.load(weights_folder.PRETRAINED)
  vocabulary = vocabularies.get(meta['format'])
  words = ['<S>', 'LENGTH_4', 'DENSITY_5', 'VOICES_13', 'BAR_16', 'TEMPO_6']
  for root in 2 * (45, 41, 43, 40):
    for row, step in enumerate((0, 12, 7, 12)):
      words += [f'AT_{4 * row}', f'P1_NOTE_{root + 12 + step}',
                *[f'TR_NOTE_{root}'] * (row % 2 == 0), f'NO_NOTE_{4 + row}']
  ids = np.array([[vocabulary.tokens.index(word) for word in words]])
  state, nll = model.init_state(1, 48), []
  for start in range(0, 96, 24):
    part = slice(start, start + 24)
    logits, state = apply(model, params, ids[:, :-1][:, part], state)
    nll.append(language_model.nll(logits, ids[:, 1:][:, part]).mean())
  np.testing.assert_allclose(
      nll, [3.6235444, .7126968, .6526586, .3305050], rtol=0, atol=1e-5)


def test_a_dictionary_holds_all():
  model = model_of(ALL)
  settings = model.to_dict()
  assert settings['features'] == ALL
  assert LanguageModel.from_dict(settings, events.TX1) == model
  assert hash(LanguageModel.from_dict(settings, events.TX1)) == hash(model)
  assert LanguageModel.from_dict(settings, events.TX1) != model_of('')


def test_older_settings_are_read():
  settings = {**SMALL.to_dict(), 'unroll': True}
  del settings['unroll_layers']
  older = {'voice_state': True, 'recall': 12, 'voice_recall': True,
           'frame_counter': True}
  model = LanguageModel.from_dict(settings | older, events.TX1)
  assert model.config == dataclasses.replace(SMALL, unroll_layers=True)
  assert names.unparse(model.features) == (
      'voice_state,context_match=12,voice_match=12,frame_counter')
  older = dict.fromkeys(older, False) | {'recall': 0, 'frame_counter': True}
  assert LanguageModel.from_dict(
      settings | older, events.TX1).features == names.parse(
          'frame_counter', events.TX1)


def test_errors():
  with pytest.raises(ValueError, match='voice_state is for 631 tokens, not 11'):
    LanguageModel(dataclasses.replace(SMALL, n_token=11),
                  names.parse('voice_state', events.TX1))
  with pytest.raises(ValueError, match='d_embed unknown'):
    LanguageModel.from_dict({**SMALL.to_dict(), 'd_embed': 3}, None)
