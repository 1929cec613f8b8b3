"""Transformer-XL by itself; against the original it is in test_parity.py."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lakhnes_jax.model import transformer_xl
from lakhnes_jax.model.language_model import LanguageModel

SMALL = transformer_xl.ModelConfig(n_token=11, n_layer=2, n_head=2, d_model=8,
                                   d_head=4, d_inner=16, dropout=0.)


@functools.partial(jax.jit, static_argnums=1)
def apply(params, config, tokens, state, dropout_rng=None):
  return LanguageModel(config).apply(
      params, tokens, state, dropout_rng=dropout_rng)


@functools.partial(jax.jit, static_argnums=0)
def init_params(config, rng):
  return LanguageModel(config).init_params(rng)


def empty(config, batch, mem_len):
  return LanguageModel(config).init_state(batch, mem_len)


@pytest.mark.parametrize('same_length', [False, True])
def test_causality(same_length):
  """A logit has a gradient in the tokens up to its own, in no other."""
  config = dataclasses.replace(SMALL, same_length=same_length)
  params = _large_params(config)
  _, memory = apply(params, config, jnp.array([[1, 2, 3, 4]]),
                    empty(config, 1, 3))
  tokens = jnp.array([[5, 6, 7, 8, 9, 10]])  # Each has a row of its own.

  @jax.jit
  @jax.grad
  def gradient(embedding, t):
    logits, _ = apply(
        {**params, 'embedding': embedding}, config, tokens, memory)
    return logits[0, t, 0]  # Of token 0, so that row 0 alone is an output.

  for t in range(6):
    rows = np.abs(gradient(params['embedding'], t)).max(-1)
    np.testing.assert_array_equal(rows[1:5], 0)
    # Two layers see 2 steps back each where all see the same length, 3.
    oldest = t - 4 if same_length else 0
    np.testing.assert_array_equal(
        rows[5:] > 0, (oldest <= np.arange(6)) & (np.arange(6) <= t))


def test_no_gradient_into_memory():
  params = _large_params(SMALL)
  nothing = empty(SMALL, 1, 4)

  @jax.jit
  def logit(embedding, first_tokens):
    changed = {**params, 'embedding': embedding}
    _, memory = apply(changed, SMALL, first_tokens, nothing)
    return apply(changed, SMALL, jnp.array([[5, 6]]), memory)[0][0, 1, 0]

  first = jnp.array([[1, 2, 3, 4]])
  gradient = jax.jit(jax.grad(logit))(params['embedding'], first)
  rows = np.abs(gradient).max(-1)
  np.testing.assert_array_equal(rows[1:5], 0)
  assert (rows[5:7] > 0).all()
  # The memory was read nevertheless: another first token changes the logit.
  assert abs(logit(params['embedding'], first) -
             logit(params['embedding'], first.at[0, 0].set(9))) > 1e-4


@pytest.mark.parametrize('smear_keys', [False, True])
@pytest.mark.parametrize('step', [1, 3, 6, 23])
def test_songs_are_kept_apart(smear_keys, step):
  """Songs one after another in a lane are read as each is by itself."""
  config = dataclasses.replace(SMALL, smear_keys=smear_keys, within_song=True)
  params = _large_params(config)
  rng = np.random.default_rng(0)
  songs = [np.append(0, rng.integers(1, 11, n)) for n in (5, 3, 9, 2)]
  alone = np.concatenate([
      apply(params, config, jnp.asarray(song[None]), empty(config, 1, 0))[0][0]
      for song in songs])
  lanes = np.stack([np.concatenate(songs), np.concatenate(songs[::-1])])
  state, found = empty(config, 2, 12), []
  for start in range(0, lanes.shape[1], step):
    logits, state = apply(
        params, config, jnp.asarray(lanes[:, start:start + step]), state)
    found.append(logits)
  found = np.concatenate(found, 1)
  np.testing.assert_allclose(found[0], alone, atol=1e-4)
  np.testing.assert_allclose(found[1, :3], alone[-3:], atol=1e-4)
  assert np.ptp(alone) > 1


@pytest.mark.parametrize('same_length', [False, True])
def test_visible(same_length):
  config = dataclasses.replace(SMALL, same_length=same_length)
  length, mem_len, valid = 5, 4, 2
  found = np.asarray(transformer_xl.visible(config, length, mem_len, valid))
  for i in range(length):
    for j in range(mem_len + length):
      distance = mem_len + i - j
      expected = (distance >= 0 and j >= mem_len - valid and
                  (distance < mem_len or not same_length))
      assert found[i, j] == expected, (i, j)


def test_shift_aligns_distances():
  length, mem_len = 3, 4
  distance = np.arange(mem_len + length, -1, -1)
  scores = np.broadcast_to(distance + 100 * np.arange(length)[:, None],
                           (2, 1, length, len(distance)))
  found = np.asarray(transformer_xl.shift(scores))
  for i in range(length):
    for j in range(mem_len + i + 1):
      np.testing.assert_array_equal(found[..., i, j],
                                    100 * i + mem_len + i - j)


def test_init():
  config = dataclasses.replace(SMALL, n_token=631, n_layer=3, d_model=64,
                               d_head=32, d_inner=256)
  params = init_params(config, jax.random.key(1))
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    name = jax.tree_util.keystr(path)
    if name.endswith("['bias']") or 'output_bias' in name:
      assert not leaf.any(), name
    else:
      assert leaf.mean() == pytest.approx(
          float('scale' in name), abs=0.006), name
      assert leaf.std() == pytest.approx(0.02, rel=0.25), name
  # Each layer is drawn by itself.
  qkv = params['layers']['attention']['qkv']
  assert np.abs(qkv[0] - qkv[1]).max() > 0.02


def test_longer_memory_array_changes_nothing():
  """Only valid states count; those of an unfilled memory are not keys."""
  params = _large_params(SMALL)
  tokens = jnp.arange(10).reshape(2, 5)
  short, long = (
      apply(params, SMALL, tokens, empty(SMALL, 2, m))
      for m in (5, 9))
  np.testing.assert_allclose(short[0], long[0], rtol=1e-5, atol=1e-4)
  filled = long[1]._replace(memory=long[1].memory._replace(
      hidden=long[1].memory.hidden.at[:, :, :4].set(1e3)))
  np.testing.assert_allclose(
      apply(params, SMALL, tokens, short[1])[0],
      apply(params, SMALL, tokens, filled)[0], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize('unroll', [False, True])
def test_dropout(unroll):
  plain = dataclasses.replace(SMALL, unroll_layers=unroll)
  config = dataclasses.replace(plain, dropout=0.5, dropatt=0.5)
  params = _large_params(config)
  tokens, memory = jnp.arange(6)[None], empty(config, 1, 4)

  def logits(seed):
    rng = None if seed is None else jax.random.key(seed)
    return np.asarray(apply(params, config, tokens, memory,
                            dropout_rng=rng)[0])

  np.testing.assert_array_equal(logits(1), logits(1))
  assert np.abs(logits(1) - logits(2)).max() > 1e-3
  np.testing.assert_array_equal(
      logits(None), apply(params, plain, tokens, memory)[0])


def test_bfloat16_is_close():
  params = _large_params(SMALL)
  config = dataclasses.replace(SMALL, dtype='bfloat16')
  tokens = jnp.arange(10).reshape(2, 5)
  exact, _ = apply(params, SMALL, tokens, empty(SMALL, 2, 4))
  logits, memory = apply(params, config, tokens,
                         empty(config, 2, 4))
  assert logits.dtype == jnp.float32
  assert memory.memory.hidden.dtype == jnp.bfloat16
  deviation = np.abs(logits - exact).max() / np.abs(exact).max()
  assert 1e-5 < deviation < 0.05  # Nothing is so close by accident.


@pytest.mark.parametrize('wrong, message', [
    ({'n_layer': 0}, 'n_layer is 0'),
    ({'d_model': 7}, 'd_model is 7, not even'),
    ({'d_model': 7.5}, 'd_model is 7.5, not of type int'),
    ({'dropout': 1.}, 'dropout is 1.0, not in'),
    ({'clamp_len': 0}, 'clamp_len is 0'),
    ({'dtype': 'float16'}, "dtype is 'float16'"),
    ({'d_embed': 8}, 'd_embed unknown'),
])
def test_wrong_settings(wrong, message):
  with pytest.raises(ValueError, match=message):
    transformer_xl.ModelConfig.from_dict({**SMALL.to_dict(), **wrong})


def test_settings_survive_a_dict():
  assert transformer_xl.ModelConfig.from_dict(SMALL.to_dict()) == SMALL
  with pytest.raises(ValueError, match='n_token is missing'):
    transformer_xl.ModelConfig.from_dict({})


def test_same_length_needs_memory():
  config = dataclasses.replace(SMALL, same_length=True)
  with pytest.raises(ValueError, match='mem_len is 0'):
    jax.eval_shape(lambda: transformer_xl.TransformerXL(config).apply(
        {}, jnp.zeros((1, 2, 8)), transformer_xl.init_memory(config, 1, 0)))


def _large_params(config):
  """Parameters large enough that each term of the attention matters."""
  shape = dataclasses.replace(config, same_length=False, dropout=0., dropatt=0.,
                              dtype='float32')  # Others need not be compiled.
  return jax.tree.map(lambda x: 20 * np.asarray(x),
                      init_params(shape, jax.random.key(0)))


class TestSmearedKeys:
  """With `same_length` it is plain which keys a token sees: M, itself too."""

  @staticmethod
  def _params(config):
    params = jax.tree.map(lambda x: 10 * x,
                          init_params(config, jax.random.key(0)))
    if config.smear_keys:
      params['layers']['attention']['smear'] /= 10
    return params

  tokens = jnp.asarray(np.random.default_rng(0).integers(11, size=(2, 12)))

  def _read(self, length, mem_len, **settings):
    """Logits of the tokens, read in segments."""
    config = dataclasses.replace(SMALL, **{'smear_keys': True, **settings})
    params = self._params(config)
    memory, found = empty(config, 2, mem_len), []
    for start in range(0, 12, length):
      logits, memory = apply(params, config,
                             self.tokens[:, start:start + length], memory)
      found.append(logits)
    return np.concatenate(found, 1)

  def test_mixes_by_hand(self):
    keys, before = np.float32([[[[2.], [4.]]]]), np.float32([[[[8.], [16.]]]])
    np.testing.assert_allclose(
        transformer_xl.smear(np.log(np.float32([[1.], [3.]])), keys, before),
        [[[[.5 * 2 + .5 * 8], [.75 * 4 + .25 * 16]]]], rtol=1e-6)

  @pytest.mark.parametrize('length', [1, 3, 4])
  @pytest.mark.parametrize('same_length', [False, True])
  def test_segments_equal_the_whole(self, length, same_length):
    """Nothing is lost where segments meet; other memories would fall short."""
    whole = self._read(12, 13, same_length=same_length)
    np.testing.assert_allclose(
        self._read(length, 13, same_length=same_length), whole, rtol=1e-5,
        atol=1e-5)
    assert np.abs(whole - self._read(12, 13, smear_keys=False)).max() > .01

  @pytest.mark.parametrize('same_length', [False, True])
  def test_the_oldest_key_of_a_full_memory_is_not_seen(self, same_length):
    np.testing.assert_allclose(
        self._read(1, 4, same_length=same_length),
        self._read(12, 4, same_length=True), rtol=1e-5, atol=1e-5)

  def test_is_learnt_by_head(self):
    config = dataclasses.replace(SMALL, smear_keys=True)
    params = self._params(config)
    grads = jax.grad(lambda params: apply(
        params, config, self.tokens, empty(config, 2, 3))[0].sum()
    )(params)
    gradient_NxH = np.abs(grads['layers']['attention']['smear'])
    assert gradient_NxH.shape == (2, 2)
    assert gradient_NxH.min() > 1e-3


def test_unrolled_layers_have_the_same_gradients():
  """The older name of the setting is read too."""
  unrolled = transformer_xl.ModelConfig.from_dict(
      {**{name: value for name, value in SMALL.to_dict().items()
          if name != 'unroll_layers'}, 'unroll': True})
  assert unrolled.unroll_layers
  params, tokens = _large_params(SMALL), jnp.arange(10).reshape(2, 5)

  def loss(params, config):
    logits, state = apply(params, config, tokens, empty(config, 2, 4))
    return jnp.square(logits).mean(), state

  for found, expected in zip(*(jax.tree.leaves(jax.value_and_grad(
      loss, has_aux=True)(params, config)) for config in (unrolled, SMALL)),
                             strict=True):
    np.testing.assert_allclose(
        found, expected, rtol=0, atol=1e-4 * max(1, np.abs(expected).max()))
