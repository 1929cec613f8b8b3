"""Sampling probabilities against the original's, and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lakhnes_jax import ranges
from lakhnes_jax.generation import sample, sampling

LOGITS = jnp.log(jnp.array([[.5, .1, .15, .05, .2]]))


@pytest.mark.parametrize('settings, expected', [
    ({}, [0, .2, .3, .1, .4]),
    ({'exclude_eos': False}, [.5, .1, .15, .05, .2]),
    ({'top_k': 2}, [0, 0, 3 / 7, 0, 4 / 7]),
    ({'top_p': .7}, [0, 0, 3 / 7, 0, 4 / 7]),
    ({'top_p': .71}, [0, 2 / 9, 3 / 9, 0, 4 / 9]),
    ({'top_k': 2, 'top_p': .1}, [0, 0, 0, 0, 1]),
    ({'temperature': .5}, [0, 4 / 30, 9 / 30, 1 / 30, 16 / 30]),
    ({'temperature': 0}, [0, 0, 0, 0, 1]),
    ({'temperature': 1e-40}, [0, 0, 0, 0, 1]),
    ({'top_k': 99}, [0, .2, .3, .1, .4]),
    ({'tail_p': .5}, [0, 0, .6, 0, .4]),
    ({'tail_p': .51}, [0, .24, .36, 0, .4]),
    ({'tail_p': 1e-6, 'exclude_eos': False}, [.5, 0, 0, 0, .5]),
    ({'tail_p': .6, 'top_k': 3}, [0, 0, 5 / 9, 0, 4 / 9]),
    ({'tail_p': .6, 'top_p': .71}, [0, 0, 5 / 9, 0, 4 / 9]),
    ({'tail_p': .5, 'top_k': 1}, [0, 0, 0, 0, 1]),
    ({'tail_p': .5, 'temperature': 0}, [0, 0, 0, 0, 1]),
])
def test_by_hand(settings, expected):
  np.testing.assert_allclose(
      jax.nn.softmax(sampling.process_logits(LOGITS, **settings))[0], expected,
      atol=1e-6)


@pytest.mark.parametrize('top_k, expected', [
    (1, [.0, 1, 0, 0]), (2, [0, .5, 0, .5]), (3, [0, 1 / 3, 1 / 3, 1 / 3])])
def test_of_equals_the_first(top_k, expected):
  logits = jnp.array([[9., 2, 2, 2], [9., 2, 1, 2], [9., 2, 2, 2]])[top_k - 1]
  np.testing.assert_allclose(
      jax.nn.softmax(sampling.process_logits(logits[None], top_k=top_k))[0],
      expected)


@pytest.mark.parametrize('settings', [
    {'top_k': 5}, {'top_k': 300}, {'top_p': .5}, {'top_p': .999},
    {'tail_p': .85}, {'top_k': 40, 'top_p': .8, 'tail_p': .3},
    {'temperature': 0}])
@pytest.mark.parametrize('step', [0, .5, 4])  # Of a grid; 0 for none.
def test_many_tokens(settings, step):
  """As NumPy keeps tokens by a stable sort; on a grid most are equal."""
  rng = np.random.default_rng(3)
  logits = rng.normal(0, 2, (16, 999)).astype(np.float32)
  if step:
    logits = np.round(logits / step) * np.float32(step)
  logits[rng.random(logits.shape) < .2] = -np.inf
  found = jax.nn.softmax(sampling.process_logits(
      jnp.asarray(logits), exclude_eos=False, **settings))
  for row, row_found in zip(logits.astype(float), found, strict=True):
    order = np.argsort(-row, kind='stable')
    probs = np.exp(row[order] - np.logaddexp.reduce(row))
    k = 1 if settings.get('temperature') == 0 else settings.get('top_k', 999)
    ahead = np.cumsum(probs) - probs
    probs[(np.arange(999) >= k) | (ahead >= settings.get('top_p', 1))] = 0
    tail = probs[1:].copy()
    ahead = np.cumsum(tail) - tail
    left = np.where(ahead < settings.get('tail_p', 1) * tail.sum(), tail, 0)
    probs[1:] = left * (tail.sum() / left.sum() if left.any() else 0)
    np.testing.assert_allclose(row_found[order], probs / probs.sum(), atol=1e-5)


def test_draws_follow_the_probabilities():
  """Chi-square over 4,000 draws; 99.99% of such are below 23.5."""
  keys = jax.random.split(jax.random.key(0), 4000)
  drawn = sampling.draw(jnp.tile(LOGITS, (4000, 1)), keys)
  expected = 4000 * np.exp(LOGITS[0])
  chi2 = ((np.bincount(drawn, minlength=5) - expected)**2 / expected).sum()
  assert chi2 < 23.5


@pytest.mark.parametrize('settings', [
    {'temperature': -1}, {'temperature': float('nan')},
    {'temperature': float('inf')}, {'temperature': 101}, {'top_k': -1},
    {'top_p': 0}, {'top_p': 1.1}, {'tail_p': 0}, {'tail_p': 1.1}, {'seed': -1},
    {'seed': 2**32}, {'seed': 1.},
    {'batch': 0}, {'best_of': 0}, {'top_k': True}])
def test_out_of_range(settings):
  (name, value), = settings.items()
  with pytest.raises(ValueError, match=f'^{name}: .* found {value}'):
    ranges.check(**{'temperature': 1, 'top_k': 0, 'top_p': 1, **settings})
  with pytest.raises(ValueError, match=f'^{name}: .* found {value}'):
    sample.SamplingConfig(**settings)


def test_numbers_of_numpy_are_in_range():
  config = sample.SamplingConfig(
      temperature=np.float32(.5), top_k=np.int64(3), seed=np.uint32(2**32 - 1))
  assert config.seed == 2**32 - 1


@pytest.mark.parametrize('case, settings', [
    ('plain', {'exclude_eos': False}),
    ('t95k32', {'temperature': .95, 'top_k': 32}),
    ('t2k5', {'temperature': 2., 'top_k': 5}),
    ('noeos', {}),
    ('argmax', {'temperature': 0}),
])
def test_equals_the_original(oracles, case, settings):
  arrays = np.load(oracles / 'model/tinyA_sampler.npz')
  # A temperature of 1 without any exclusion shows the original's logits, but
  # for a constant a row, which no probability depends on.
  logits = np.log(arrays['probs_plain'])
  np.testing.assert_allclose(
      jax.nn.softmax(sampling.process_logits(jnp.asarray(logits), **settings)),
      arrays[f'probs_{case}'], rtol=1e-5, atol=1e-7)
