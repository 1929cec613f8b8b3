"""Model, training and sampling against arrays of the original, in PyTorch.

Deviations are relative to the largest number of an array, but for parameters
after steps of Adam (absolute: each moves by up to the learning rate, whatever
its size). The limits:
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lakhnes_jax import import_torch
from lakhnes_jax.generation import sampling
from lakhnes_jax.model import language_model
from lakhnes_jax.model.language_model import LanguageModel
from lakhnes_jax.training import optimizer
from lakhnes_jax.weights import torch_names
from support import numpy_transformer_xl

FORWARD = 1e-5  # Logits, losses, memories, probabilities, learning rates.
GRADIENTS = 1e-4
ADAM = 2e-5  # The original in float32 is 1.9e-5 from itself in float64.
PERPLEXITY = 1e-5  # Of imported checkpoints, whose parameters are exact.

VARIANTS = ('base', 'same_length', 'clamp', 'clamp_same', 'pre_lnorm',
            'pre_lnorm_same_clamp', 'longmem', 'shortmem', 'shortmem_same',
            'nomem', 'ragged')
LEARNING_RATE = 2e-4

apply = jax.jit(LanguageModel.apply, static_argnums=0)
adam = optimizer.make(.25)


@pytest.fixture(scope='module')
def folder(oracles):
  return oracles / 'model'


def load(folder, name):
  with np.load(folder / f'{name}.npz') as arrays:
    return dict(arrays)


def parameters(arrays, prefix=''):
  """The arrays whose names begin with `prefix`, as our parameters."""
  return torch_names.to_tree({
      name.removeprefix(prefix): array for name, array in arrays.items()
      if name.startswith(prefix)})


def load_case(folder, variant):
  """Returns (arrays, model, params, tokens_BxT, targets_BxT)."""
  arrays, data = load(folder, f'tinyA_{variant}'), load(folder, 'tinyA_data')
  config, params = torch_names.from_torch_state_dict(
      load(folder, 'tinyA_weights'), dropout=0.,
      pre_lnorm=bool(arrays['pre_lnorm']),
      same_length=bool(arrays['same_length']),
      clamp_len=int(arrays['clamp_len']))
  return (arrays, LanguageModel(config), params,
          *(jnp.asarray(data[name].T, jnp.int32) for name in ('data',
                                                              'target')))


def assert_close(found, expected, limit):
  """Each array of a tree is within `limit` of its largest expected number."""
  def check(path, found, expected):
    found, expected = np.asarray(found), np.asarray(expected)
    np.testing.assert_allclose(
        found, expected, rtol=0, atol=limit * np.abs(expected).max(),
        err_msg=jax.tree_util.keystr(path))
  jax.tree_util.tree_map_with_path(check, found, expected)


def assert_same_memory(memory, expected_NxMxBxD):
  """The original keeps what comes out of its last layer too."""
  hidden_NxMxBxD = np.moveaxis(np.asarray(memory.hidden), 1, 2)
  length = int(memory.length)
  assert_close(hidden_NxMxBxD[:, hidden_NxMxBxD.shape[1] - length:],
               expected_NxMxBxD[:-1], FORWARD)


@pytest.mark.parametrize('variant', VARIANTS)
def test_segments(folder, variant):
  arrays, model, params, tokens, targets = load_case(folder, variant)
  state = model.init_state(3, int(arrays['mem_len']))
  at = 0
  for i, length in enumerate(arrays['seglens'].tolist()):
    part = slice(at, at + length)
    logits, state = apply(model, params, tokens[:, part], state)
    assert_close(logits, arrays[f'logits_{i}'].swapaxes(0, 1), FORWARD)
    assert_close(language_model.nll(logits, targets[:, part]),
                 arrays[f'loss_{i}'].T, FORWARD)
    if arrays['mem_len']:
      assert_same_memory(state.memory, arrays[f'mems_{i}'])
    at += length
  assert at


@pytest.mark.parametrize('variant', VARIANTS)
def test_token_by_token(folder, variant):
  arrays, model, params, tokens, _ = load_case(folder, variant)
  state = model.init_state(3, int(arrays['mem_len']))
  assert len(arrays['step_logits'])
  for i, expected in enumerate(arrays['step_logits']):
    logits, state = apply(model, params, tokens[:, i:i + 1], state)
    assert_close(logits[:, 0], expected, FORWARD)
    assert state.memory.length == arrays['step_mlen'][i]
  if arrays['mem_len']:
    assert_same_memory(state.memory, arrays['step_mems_final'])


@functools.partial(jax.jit, static_argnums=0)
def loss_and_grads(model, params, state, tokens, targets):
  def loss_fn(params):
    logits, new_state = model.apply(params, tokens, state)
    return language_model.nll(logits, targets).mean(), new_state
  return jax.value_and_grad(loss_fn, has_aux=True)(params)


@jax.jit
def adam_step(params, state, grads):
  updates, state = adam.update(grads, state, params)
  return jax.tree.map(
      lambda p, u: p - LEARNING_RATE * u, params, updates), state


@pytest.mark.parametrize('variant,remat', [
    ('base', False), ('pre_lnorm', False), ('same_length', False),
    ('base', True)])
def test_gradients_and_steps_of_adam(folder, variant, remat):
  arrays, model, params, tokens, targets = load_case(folder, variant)
  expected = load(folder, f'tinyA_{variant}_train')
  model = LanguageModel(dataclasses.replace(model.config, remat=remat))
  empty = model.init_state(3, int(arrays['mem_len']))

  def segment(params, lanes, i):
    part = slice(8 * i, 8 * i + 8)
    return loss_and_grads(model, params, lanes, tokens[:, part],
                          targets[:, part])

  lanes = empty
  for i in range(4):
    (loss, lanes), grads = segment(params, lanes, i)
    if i in (0, 3):
      assert_close(loss, expected[f'loss_seg{i}'], FORWARD)
      assert_close(grads, parameters(expected, f'grad_seg{i}/'), GRADIENTS)
  state, lanes = adam.init(params), empty
  for i in range(3):
    (loss, lanes), grads = segment(params, lanes, i)
    params, state = adam_step(params, state, grads)
    assert_close(loss, expected['adam_loss'][i], FORWARD)
    jax.tree.map(
        lambda found, wanted: np.testing.assert_allclose(
            found, wanted, rtol=0, atol=ADAM),
        params, parameters(expected, f'adam{i + 1}/'))


@pytest.mark.parametrize('name,kind,max_steps,warmup', [
    ('w0', 'cosine', 60, 0), ('w10', 'cosine', 60, 10),
    ('w200', 'cosine', 400_000, 200), ('const_w10', 'constant', 60, 10)])
def test_learning_rates(folder, name, kind, max_steps, warmup):
  expected = load(folder, 'lr_schedule')[name]
  schedule = optimizer.schedule(kind, LEARNING_RATE, max_steps, warmup)
  assert_close(jax.vmap(schedule)(jnp.arange(len(expected))), expected, FORWARD)


def test_probabilities_that_are_sampled_from(folder):
  arrays = load(folder, 'tinyA_sampler')
  config, params = torch_names.from_torch_state_dict(
      load(folder, 'tinyA_weights'), dropout=0.)
  model = LanguageModel(config)
  state, logits = model.init_state(1, 16), []
  for token in arrays['forced'].tolist():
    step, state = apply(model, params, jnp.array([[token]]), state)
    logits.append(step[0, 0])
  for name, settings in {
      'plain': {'exclude_eos': False},
      't95k32': {'temperature': .95, 'top_k': 32},
      't2k5': {'temperature': 2., 'top_k': 5},
      'noeos': {}, 'argmax': {'temperature': 0}}.items():
    found = jax.nn.softmax(
        sampling.process_logits(jnp.stack(logits), **settings))
    assert_close(found, arrays[f'probs_{name}'], FORWARD)


@pytest.mark.parametrize('name', ['ckpt101/model.pt', 'ckpt/model.pt',
                                  'ckpt/model_legacy.pt'])
def test_imported_checkpoints(folder, name):
  path, data = folder / name, load(folder, 'tinyA_data')
  imported = import_torch.read_model(path)
  state = import_torch.read_optimizer(
      path.with_name(path.name.replace('model', 'optimizer')), imported)
  expected = load(path.parent, 'expected')
  moments = load(path.parent, 'expected_optim')
  assert_close(imported.params, parameters(expected), 0)
  for ours, theirs in (('mu', 'exp_avg'), ('nu', 'exp_avg_sq')):
    assert_close(getattr(state[1], ours), torch_names.to_tree({
        n: moments[f'{i}/{theirs}']
        for i, n in enumerate(moments['param_names'].tolist())}), 0)
  model = LanguageModel(imported.config)
  lanes, losses = model.init_state(3, 16), []
  tokens, targets = (jnp.asarray(data[x].T, jnp.int32)
                     for x in ('data', 'target'))
  for at in range(0, 48, 8):
    logits, lanes = apply(model, imported.params, tokens[:, at:at + 8], lanes)
    losses.append(language_model.nll(logits, targets[:, at:at + 8]))
  exact = numpy_transformer_xl.nll(
      expected, data['data'][:48], data['target'][:48], 16, 8)
  np.testing.assert_allclose(np.exp(np.mean(losses)), np.exp(exact.mean()),
                             rtol=PERPLEXITY)


def test_numpy_model_equals_the_original_in_float64(folder):
  data, weights, expected = (
      load(folder, f'tinyA_{name}') for name in ('data', 'weights', 'base'))
  found = numpy_transformer_xl.nll(
      weights, data['data'], data['target'], 16, 8)
  exact = np.concatenate([expected[f'loss64_{i}'] for i in range(6)])
  # Its angles were rounded to float32 before.
  np.testing.assert_allclose(found, exact, rtol=1e-7)
