"""Learning rates, clipping and Adam against the original's arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lakhnes_jax.model import transformer_xl
from lakhnes_jax.model.language_model import LanguageModel
from lakhnes_jax.training import optimizer


@pytest.mark.parametrize('case, kind, warmup, max_steps', [
    ('w0', 'cosine', 0, 60), ('w10', 'cosine', 10, 60),
    ('w200', 'cosine', 200, 400_000), ('const_w10', 'constant', 10, 60)])
def test_rates_equal_the_originals(oracles, case, kind, warmup, max_steps):
  expected = np.load(oracles / 'model/lr_schedule.npz')[case]
  rate = optimizer.schedule(kind, 2e-4, max_steps, warmup)
  np.testing.assert_allclose(
      [rate(np.int32(done)) for done in range(len(expected))], expected,
      rtol=1e-6, atol=2e-10)


def test_rates_by_hand():
  rate = optimizer.schedule('cosine', 8., 4, 2)
  np.testing.assert_allclose(
      [rate(np.int32(done)) for done in range(5)],
      [8, 4, 4, 4 - 2 * 2**.5, 0], rtol=1e-6, atol=1e-6)
  assert optimizer.schedule('constant', 3., 10, 0)(np.int32(7)) == 3


def test_unknown_schedule():
  with pytest.raises(ValueError, match=r"'linear' is none of cosine, constant"):
    optimizer.schedule('linear', 1., 2, 0)


@pytest.mark.parametrize('clip', [.25, 7., 0.])
def test_two_steps_of_adam_by_hand(clip):
  adam = optimizer.make(clip)
  params = {'a': jnp.zeros(1), 'b': jnp.zeros(1)}
  g = 3 * (.25 / (5 + 1e-6) if clip == .25 else 1)  # The norm is 5.
  state, mean, square = adam.init(params), 0, 0
  for step in (1, 2):
    updates, state = adam.update(
        {'a': jnp.array([3.]), 'b': jnp.array([-4.])}, state, params)
    mean, square = .9 * mean + .1 * g, .999 * square + .001 * g * g
    expected = mean / (1 - .9**step) / (
        (square / (1 - .999**step))**.5 + 1e-8)
    # The bias correction 1 - .999^n has 5 digits in float32.
    np.testing.assert_allclose(updates['a'], expected, rtol=3e-5)
    np.testing.assert_allclose(updates['b'], -expected, rtol=3e-5)


def test_clipping_scales_by_the_norm_of_all():
  adam = optimizer.make(.25)
  params = {'a': jnp.zeros(1), 'b': jnp.zeros(1)}
  grads = {'a': jnp.array([3.]), 'b': jnp.array([-4.])}
  _, state = adam.update(grads, adam.init(params), params)
  np.testing.assert_allclose(state[1].mu['a'], .1 * 3 * .25 / 5, rtol=1e-5)
  np.testing.assert_allclose(state[1].mu['b'], -.1 * 4 * .25 / 5, rtol=1e-5)


CONFIG = transformer_xl.ModelConfig(n_token=11, n_layer=2, n_head=2,
                                    d_model=12, d_head=4, d_inner=20)


def random_tree(seed):
  shapes = jax.eval_shape(
      LanguageModel(CONFIG).init_params, jax.random.key(0))
  rng = np.random.default_rng(seed)
  return jax.tree.map(lambda x: rng.standard_normal(x.shape, np.float32),
                      shapes)


def matrices(tree):
  """The layers' kernels of a tree, one by one, as [fan in, fan out]."""
  attention, dense = tree['layers']['attention'], tree['layers']['feed_forward']
  for layer in range(CONFIG.n_layer):
    for part in range(3):
      yield attention['qkv'][layer, :, part].reshape(12, 8)
    yield attention['position'][layer].reshape(12, 8)
    yield attention['output'][layer].reshape(8, 12)
    yield dense['inner']['kernel'][layer]
    yield dense['outer']['kernel'][layer]


def test_muon_makes_kernels_orthogonal_and_leaves_the_rest_to_adam():
  params, grads = random_tree(0), random_tree(1)
  muon = optimizer.make(0., 'muon')
  updates, _ = muon.update(grads, muon.init(params), params)
  for update, grad in zip(matrices(updates), matrices(grads), strict=True):
    u, _, v = np.linalg.svd(grad, full_matrices=False)
    polar = u @ v * max(grad.shape)**.5
    # Newton-Schulz only comes near: singular values of 0.7 to 1.2.
    along = np.sum(update * polar) / np.sum(polar**2)
    assert .7 < along < 1.2
    assert np.linalg.norm(update - along * polar) < .3 * np.linalg.norm(update)
    assert np.sqrt(np.mean(np.square(update))) == pytest.approx(1, abs=.3)
  # The first step of Adam with Nesterov's momentum.
  for name in ('embedding', 'output_bias', 'content_bias', 'position_bias'):
    np.testing.assert_allclose(
        updates[name], np.sign(grads[name]) * (.9 / (1 - .9**2) * .1 + 1) ,
        rtol=1e-4)


def test_unknown_optimizer():
  with pytest.raises(ValueError, match=r"'sgd' is none of adam, muon"):
    optimizer.make(.25, 'sgd')


@pytest.mark.parametrize('kind', optimizer.KINDS)
def test_weight_decay_adds_a_share_of_kernels_and_embeddings(kind):
  params, grads = random_tree(0), random_tree(1)
  plain, decayed = (
      adam.update(grads, adam.init(params), params)[0] for adam in (
          optimizer.make(1., kind), optimizer.make(1., kind, .25)))
  added = jax.tree.map(lambda x, y: y - x, plain, decayed)
  layers, moved = params['layers'], added['layers']
  for share, path in (
      (.25, ('attention', 'qkv')), (.25, ('attention', 'output')),
      (.25, ('feed_forward', 'inner', 'kernel')),
      (0, ('feed_forward', 'inner', 'bias')),
      (0, ('attention', 'norm', 'scale'))):
    x, y = layers, moved
    for name in path:
      x, y = x[name], y[name]
    np.testing.assert_allclose(y, share * x, atol=1e-5)
  np.testing.assert_allclose(
      added['embedding'], .25 * params['embedding'], atol=1e-5)
  np.testing.assert_array_equal(added['output_bias'], 0)
  np.testing.assert_array_equal(added['content_bias'], 0)


@pytest.mark.parametrize('kind', optimizer.KINDS)
def test_a_run_goes_on_with_another_weight_decay(kind):
  """The state is the same with and without, as it is for clipping."""
  params = random_tree(0)
  plain, decayed = (optimizer.make(1., kind, share).init(params)
                    for share in (0., .25))
  assert jax.tree.structure(plain) == jax.tree.structure(decayed)
