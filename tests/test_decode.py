"""Cached decoding against the original's stepping and the model's memory."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lakhnes_jax import decode, model, torch_names

SMALL = model.ModelConfig(n_token=11, n_layer=2, n_head=2, d_model=8, d_head=4,
                          d_inner=16, dropout=0.)


def _draw(logits_BxV, keys_B):
  # The logits of these parameters are so large that they leave no choice.
  return jax.vmap(jax.random.categorical)(keys_B, logits_BxV / 30)


@functools.cache
def _params():
  return jax.tree.map(lambda x: 20 * x, jax.jit(
      model.init_params, static_argnums=0)(SMALL, jax.random.key(0)))


@pytest.mark.parametrize('variant', [
    'base', 'same_length', 'clamp', 'clamp_same', 'pre_lnorm',
    'pre_lnorm_same_clamp', 'longmem', 'shortmem', 'shortmem_same', 'nomem'])
def test_steps_of_the_original(oracles, variant):
  """44 tokens; the ring wraps at 5, 17 or 29, or at each."""
  def load(name):
    return np.load(oracles / 'model' / f'tinyA_{name}.npz')
  arrays = load(variant)
  config, params = torch_names.from_torch_state_dict(
      dict(load('weights')), dropout=0., pre_lnorm=bool(arrays['pre_lnorm']),
      same_length=bool(arrays['same_length']),
      clamp_len=int(arrays['clamp_len']))
  expected = arrays['step_logits'].swapaxes(0, 1)
  tokens = jnp.asarray(load('data')['data'].T[:, :expected.shape[1]], jnp.int32)
  logits, cache = decode.prefill(
      params, config,
      decode.init_cache(config, params, 3, int(arrays['mem_len'])), tokens)
  assert cache.count == expected.shape[1]
  deviation = np.abs(logits - expected).max() / np.abs(expected).max()
  print(f'{variant}: {deviation:.1e}')
  assert deviation < 1e-5


def test_rows_are_independent():
  """A row is the same whatever the others read, alone too."""
  params = _params()
  tokens = jnp.arange(24).reshape(3, 8) % 11
  cache = decode.init_cache(SMALL, params, 3, 4)
  together, _ = decode.prefill(params, SMALL, cache, tokens)
  changed, _ = decode.prefill(params, SMALL, cache,
                              tokens.at[1:].set((tokens[1:] + 3) % 11))
  alone, _ = decode.prefill(params, SMALL,
                            decode.init_cache(SMALL, params, 1, 4), tokens[:1])
  np.testing.assert_array_equal(together[0], changed[0])
  np.testing.assert_allclose(together[0], alone[0], rtol=1e-5, atol=1e-6)
  assert np.abs(together[1] - changed[1]).max() > 0.1


def _songs(n, length, chunk=128):
  params = _params()
  logits, cache = decode.prefill(
      params, SMALL, decode.init_cache(SMALL, params, n, 4),
      jnp.zeros((n, 1), jnp.int32))
  keys = jax.vmap(functools.partial(jax.random.fold_in, jax.random.key(7)))(
      jnp.arange(n))
  done = []
  tokens, nll, *_ = decode.generate(
      params, SMALL, cache, logits[:, -1], keys, length, _draw, chunk=chunk,
      progress=done.append)
  return tokens, nll, done


def test_generated_songs_follow_the_model():
  """Draws and likelihoods are those of the model stepped by itself."""
  tokens, nll, _ = _songs(2, 12)
  assert len(set(map(tuple, tokens.tolist()))) == 2
  apply = jax.jit(model.apply, static_argnums=1)
  keys = [jax.random.fold_in(jax.random.key(7), i) for i in range(2)]
  memory, current = model.empty_memory(SMALL, 2, 4), jnp.zeros(2, jnp.int32)
  for number in range(12):
    logits, memory = apply(_params(), SMALL, current[:, None], memory)
    current = jnp.array([
        jax.random.categorical(jax.random.fold_in(key, number), row / 30)
        for key, row in zip(keys, logits[:, 0], strict=True)])
    np.testing.assert_array_equal(tokens[:, number], current)
    np.testing.assert_allclose(
        nll[:, number], model.nll(logits[:, 0], current), rtol=1e-4, atol=1e-5)


def test_same_song_in_any_batch_and_any_chunks():
  tokens, nll, done = _songs(3, 12)
  assert done == [12]
  alone, _, _ = _songs(1, 12)
  np.testing.assert_array_equal(alone[0], tokens[0])
  in_parts, nll_in_parts, done = _songs(3, 12, chunk=5)
  assert done == [5, 10, 12]
  np.testing.assert_array_equal(in_parts, tokens)
  np.testing.assert_allclose(nll_in_parts, nll, rtol=1e-5, atol=1e-6)


def test_same_length_needs_memory():
  config = dataclasses.replace(SMALL, same_length=True)
  with pytest.raises(ValueError, match='mem_len is 0'):
    decode.init_cache(config, _params(), 1, 0)
