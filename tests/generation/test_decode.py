"""Cached decoding against the original's stepping and the model's memory."""

import dataclasses
import functools
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lakhnes_jax import vocabularies
from lakhnes_jax.generation import decode
from lakhnes_jax.model import kv_cache, language_model
from lakhnes_jax.model.features import names
from lakhnes_jax.model.language_model import LanguageModel, ModelConfig
from lakhnes_jax.weights import torch_names

SMALL = LanguageModel(ModelConfig(
    n_token=11, n_layer=2, n_head=2, d_model=8, d_head=4, d_inner=16,
    dropout=0.))

apply = jax.jit(LanguageModel.apply, static_argnums=0)
step = jax.jit(decode._step, static_argnums=0)


@functools.cache
def _params():
  """Parameters so large that what was read matters."""
  return jax.tree.map(lambda x: 20 * x, jax.jit(SMALL.init_params)(
      jax.random.key(0)))


@functools.cache
def _prepared():
  return decode.to_decode_params(SMALL, _params())


@pytest.mark.parametrize('variant', [
    'base', 'same_length', 'clamp', 'clamp_same', 'pre_lnorm',
    'pre_lnorm_same_clamp', 'longmem', 'shortmem', 'shortmem_same', 'nomem'])
def test_steps_of_the_original(oracles, monkeypatch, variant):
  """44 tokens, one by one and in blocks; the ring wraps at 5, 17 or 29, or at
  each."""
  def load(name):
    return np.load(oracles / 'model' / f'tinyA_{name}.npz')
  arrays = load(variant)
  config, params = torch_names.from_torch_state_dict(
      dict(load('weights')), dropout=0., pre_lnorm=bool(arrays['pre_lnorm']),
      same_length=bool(arrays['same_length']),
      clamp_len=int(arrays['clamp_len']))
  model = LanguageModel(config)
  params = decode.to_decode_params(model, params)
  expected = arrays['step_logits'].swapaxes(0, 1)
  tokens = load('data')['data'].T[:, :expected.shape[1]].astype(np.int32)
  expected_nll = language_model.nll(expected[:, :-1], tokens[:, 1:])
  tolerance = 1e-5 * np.abs(expected).max()
  # Blocks of at most 16, with memories longer and shorter than that.
  monkeypatch.setattr(decode, '_BLOCK', 1)
  after = []
  for n_steps, *parts in [44], [0, 44], [7, 16, 21]:
    cache, logits = decode.init_cache(
        model, params, 3, int(arrays['mem_len'])), None
    for number in range(n_steps):
      logits, cache = step(model, params, cache, tokens[:, number])
      np.testing.assert_allclose(logits, expected[:, number], rtol=0,
                                 atol=tolerance)
    number = n_steps
    for length in parts:
      nll, logits, cache = decode.prefill(
          model, params, cache, tokens[:, number:number + length],
          logits_BxV=logits)
      known = 1 if number == 0 else 0
      assert not nll[:, :known].any()
      np.testing.assert_allclose(
          nll[:, known:], expected_nll[:, number + known - 1:][
              :, :length - known], rtol=1e-5, atol=1e-5)
      number += length
      np.testing.assert_allclose(logits, expected[:, number - 1], rtol=0,
                                 atol=tolerance)
    assert (cache.count_B == 44).all()
    after.append(step(model, params, cache, tokens[:, 0])[0])
  np.testing.assert_allclose(after[1:], [after[0]] * 2, rtol=0, atol=tolerance)


def _read(tokens, lengths=None, mem_len=4):
  tokens = np.asarray(tokens)
  return decode.prefill(
      SMALL, _prepared(),
      decode.init_cache(SMALL, _prepared(), len(tokens), mem_len), tokens,
      lengths_B=lengths)


def test_rows_are_independent():
  """A row is the same whatever the others read, alone too."""
  tokens = np.arange(24).reshape(3, 8) % 11
  nll, together, _ = _read(tokens)
  other = tokens.copy()
  other[1:] = (other[1:] + 3) % 11
  changed_nll, changed, _ = _read(other)
  alone_nll, alone, _ = _read(tokens[:1])
  np.testing.assert_array_equal(together[0], changed[0])
  np.testing.assert_array_equal(nll[0], changed_nll[0])
  np.testing.assert_allclose(together[0], alone[0], rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(nll[0], alone_nll[0], rtol=1e-4, atol=1e-5)
  assert np.abs(together[1] - changed[1]).max() > 0.1


@pytest.mark.parametrize('mem_len', [4, 30])
def test_rows_of_several_lengths(monkeypatch, mem_len):
  """Each is as if read alone, and goes on as if alone."""
  monkeypatch.setattr(decode, '_BLOCK', 1)
  tokens = np.arange(3 * 37).reshape(3, 37)**2 % 11
  lengths = [37, 12, 1]
  nll, logits, cache = _read(tokens, lengths, mem_len)
  drawn, *_ = decode.generate(
      SMALL, _prepared(), decode.begin(logits, cache, _keys([0, 1, 2])), 9,
      temperature=30.)
  for row, length in enumerate(lengths):
    alone_nll, alone, cache = _read(tokens[row:row + 1, -length:], None,
                                    mem_len)
    assert not nll[row, :-length].any()
    np.testing.assert_allclose(nll[row, -length:], alone_nll[0], rtol=1e-4,
                               atol=1e-4)
    np.testing.assert_allclose(logits[row], alone[0], rtol=1e-4, atol=1e-4)
    again, *_ = decode.generate(
        SMALL, _prepared(), decode.begin(alone, cache, _keys([row])), 9,
        temperature=30.)
    np.testing.assert_array_equal(drawn[row], again[0])


SMEARED = {'smear_keys': True}


@pytest.mark.parametrize('settings, features, mem_len', [
    *((SMEARED, '', mem_len) for mem_len in (1, 4, 30)),
    *((SMEARED | {'same_length': True}, '', mem_len) for mem_len in (1, 4, 30)),
    # Features have states of their own, whatever the memory.
    ({}, 'voice_state', 1), ({}, 'context_match=12', 4),
    ({}, 'voice_match=30', 4), ({}, 'frame_counter', 30),
    ({}, 'row_state,relative_pitch', 4)])
def test_options(monkeypatch, settings, features, mem_len):
  """As the model does token by token; in blocks and rows of two lengths."""
  monkeypatch.setattr(decode, '_BLOCK', 1)
  vocabulary = vocabularies.get('tracker' if 'row' in features else 'tx1')
  config = dataclasses.replace(SMALL.config, **settings, n_token=(
      vocabulary.size if features else 11))
  model = LanguageModel(config, names.parse(features, vocabulary))
  params = jax.tree.map(lambda x: 10 * x, model.init_params(jax.random.key(0)))
  if config.smear_keys:
    params['layers']['attention']['smear'] /= 10
  for name in params.keys() & {'tick_gate', 'note_interval', 'note_class'}:
    params[name] = jax.random.normal(  # 0 at first.
        jax.random.key(1), params[name].shape)
  # Logits reach 10; programs that are not optimised add up in other orders.
  atol = 1e-4 if features else 5e-5
  # Comes round after 11 tokens.
  tokens = (np.arange(2 * 37).reshape(2, 37)**2 % 11 + 1) * 57 % config.n_token
  state, expected = model.init_state(2, mem_len), []
  for number in range(37):
    logits, state = apply(model, params, tokens[:, number:number + 1], state)
    expected.append(logits[:, 0])
  prepared = decode.to_decode_params(model, params)
  for parts in [37], [5, 20, 12], [30, *7 * [1]]:
    cache, start = decode.init_cache(model, prepared, 2, mem_len), 0
    for part in parts:
      _, logits, cache = decode.prefill(
          model, prepared, cache, tokens[:, start:start + part])
      start += part
      np.testing.assert_allclose(logits, expected[start - 1], rtol=1e-5,
                                 atol=atol)
  cache = decode.init_cache(model, prepared, 2, mem_len)
  for number in range(37):
    logits, cache = step(model, prepared, cache, tokens[:, number])
    np.testing.assert_allclose(logits, expected[number], rtol=1e-5, atol=atol)
  # The second row begins anew where the first goes on.
  cache = decode.init_cache(model, prepared, 2, mem_len)
  rows = np.stack([tokens[0], np.roll(tokens[0], 20)])
  _, logits, _ = decode.prefill(model, prepared, cache, rows,
                                lengths_B=[37, 17])
  np.testing.assert_allclose(logits, [expected[36][0], expected[16][0]],
                             rtol=1e-5, atol=atol)


def test_few_compilations_serve_all_lengths():
  sizes = [kv_cache.prefill_layer._cache_size()]
  for length in 1, 2, 3, 4, 520, 519, 1500:
    decode.prefill(SMALL, _prepared(),
                   decode.init_cache(SMALL, _prepared(), 1, 6),
                   np.ones((1, length), np.int32))
    sizes.append(kv_cache.prefill_layer._cache_size())
  # 1, 2, 4, 512 with what is left over: 8 and 512.
  assert np.diff(sizes).tolist() == [1, 1, 1, 0, 2, 0, 0]


class EveryFourth(NamedTuple):
  """Every fourth token is the number of its song, given as state."""

  def process_logits(self, state, logits_BxV):
    return logits_BxV

  def advance(self, state, tokens_B):
    name_B, number_B = state
    return (jnp.where(number_B % 4 == 3, name_B, tokens_B),
            (name_B, number_B + 1))


class Odd(EveryFourth):
  """The others are odd."""

  def process_logits(self, state, logits_BxV):
    return jnp.where(jnp.arange(11) % 2, logits_BxV, -jnp.inf)


def _keys(rows, seed=7):
  return jax.vmap(functools.partial(
      jax.random.fold_in, jax.random.key(seed)))(jnp.array(rows))


def _start(rows, **begun):
  """Returns songs of the given numbers that have not begun."""
  _, logits, cache = _read(np.zeros((len(rows), 1)))
  return decode.begin(logits, cache, _keys(rows), **begun)


def _songs(rows, length, begun=None, **settings):
  # The logits of these parameters are so large that they leave no choice.
  settings = {'temperature': 30., **settings}
  return decode.generate(SMALL, _prepared(), _start(rows, **begun or {}),
                         length, **settings)


@pytest.mark.parametrize('constrained, weight', [
    (False, None), (True, None), (False, .5), (True, .5), (False, 0)])
def test_generated_songs_follow_the_model(constrained, weight):
  """Draws and likelihoods are those of the model stepped by itself.

  With a weight, of two: the draws are those of both, the likelihoods of one.
  """
  settings, begun = {}, {}
  if constrained:
    settings = {'constraint': Odd()}
    begun['state'] = (jnp.array([2, 4]), jnp.zeros(2, int))
  if weight is not None:
    _, *short = _read(np.zeros((2, 1)), mem_len=1)
    begun['contrast'] = decode.Contrast(*short, np.float32(weight))
  tokens, nll, songs = _songs([0, 1], 12, begun, chunk=5, **settings)
  assert len(set(map(tuple, tokens.tolist()))) == 2
  keys = [jax.random.fold_in(jax.random.key(7), i) for i in range(2)]
  lanes, current = SMALL.init_state(2, 4), jnp.zeros(2, jnp.int32)
  short_lanes = SMALL.init_state(2, 1)
  for number in range(12):
    logits, lanes = apply(SMALL, _params(), current[:, None], lanes)
    short, short_lanes = apply(SMALL, _params(), current[:, None], short_lanes)
    allowed = logits[:, 0]
    if weight:
      allowed = (1 + weight) * allowed - weight * short[:, 0]
    allowed = allowed.at[:, 0].set(-jnp.inf) / 30
    if constrained:
      allowed = allowed.at[:, ::2].set(-jnp.inf)
    current = jnp.array([
        jax.random.categorical(jax.random.fold_in(key, number), row)
        for key, row in zip(keys, allowed, strict=True)])
    if constrained and number % 4 == 3:
      current = jnp.array([2, 4])
    np.testing.assert_array_equal(tokens[:, number], current)
    np.testing.assert_allclose(
        nll[:, number], language_model.nll(logits[:, 0], current), rtol=1e-4,
        atol=1e-5)
  if constrained:
    np.testing.assert_array_equal(songs.state, [[2, 4], [12, 12]])


def test_same_song_in_any_batch():
  together, nll, *_ = _songs([0, 1, 2], 40)
  for rows in [0], [2, 0, 1], [2]:
    tokens, nlls, *_ = _songs(rows, 40)
    np.testing.assert_array_equal(tokens, together[rows])
    np.testing.assert_allclose(nlls, nll[rows], rtol=1e-4, atol=1e-5)


def test_chunks_and_calls_change_nothing():
  expected, nll, songs = _songs([0, 1, 2], 12)
  done = []
  in_chunks = _songs([0, 1, 2], 12, chunk=5, progress=done.append)
  assert done == [5, 10, 12]
  begun, begun_nll, rest = _songs([0, 1, 2], 7)
  ended, ended_nll, rest = decode.generate(
      SMALL, _prepared(), rest, 5, temperature=30.)
  in_calls = (np.concatenate([begun, ended], 1),
              np.concatenate([begun_nll, ended_nll], 1), rest)
  for tokens, nlls, after in in_chunks, in_calls:
    np.testing.assert_array_equal(tokens, expected)
    np.testing.assert_allclose(nlls, nll, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(after.logits_BxV, songs.logits_BxV, rtol=1e-4,
                               atol=1e-4)


@pytest.mark.parametrize('features, settings', [
    ('', {}), ('', SMEARED), ('context_match=12,voice_state', {})])
def test_a_song_in_the_place_of_another(features, settings):
  """It begins, and the others go on, as if alone; with all that is carried."""
  vocabulary = vocabularies.get('tx1')
  model = LanguageModel(
      dataclasses.replace(SMALL.config, **settings, n_token=vocabulary.size),
      names.parse(features, vocabulary))
  params = decode.to_decode_params(model, jax.tree.map(
      lambda x: 20 * x, model.init_params(jax.random.key(0))))

  def begin(given, rows, number):
    """Songs that all begin with what is given."""
    def read(mem_len):
      return decode.prefill(model, params, decode.init_cache(
          model, params, 1, mem_len), np.array([given]))[1:]
    return decode.begin(
        *read(4), _keys(rows), number=number,
        state=(jnp.array(rows), jnp.full(len(rows), number)),
        contrast=decode.Contrast(*read(1), np.float32(.5)))

  def draw(songs, length):
    return decode.generate(model, params, songs, length, temperature=30.,
                           constraint=EveryFourth())

  songs = begin([0, 5, 6], [1, 2, 3], 2)
  before, before_nll, songs = draw(songs, 7)
  songs = decode.replace(songs, begin([0, 9], [4, 5, 6], 5),
                         np.array([False, True, False]))
  after, after_nll, songs = draw(songs, 9)
  assert songs.number_B.tolist() == [18, 14, 18]
  for place, row in enumerate([1, 2, 3]):
    tokens, nll, _ = draw(begin([0, 5, 6], [row], 2), 16)
    n = 7 if row == 2 else 16
    np.testing.assert_array_equal(
        np.append(before[place], after[place])[:n], tokens[0, :n])
    np.testing.assert_allclose(
        np.append(before_nll[place], after_nll[place])[:n], nll[0, :n],
        rtol=1e-4, atol=1e-4)
  tokens, nll, _ = draw(begin([0, 9], [5], 5), 9)
  np.testing.assert_array_equal(after[1], tokens[0])
  np.testing.assert_allclose(after_nll[1], nll[0], rtol=1e-4, atol=1e-4)


def test_songs_end_at_eos():
  """After <S> a row is filled up; nothing is read when all have ended."""
  done = []
  tokens, nll, songs = _songs(
      [0, 1, 2], 200, exclude_eos=False, chunk=50, progress=done.append)
  ends = (tokens == 0).argmax(1)
  assert (tokens == 0).any(1).all() and len(set(ends)) == 3
  for row, row_nll, end in zip(tokens, nll, ends, strict=True):
    assert not row[end:].any() and not row_nll[end + 1:].any()
    assert row_nll[end] > 0
  assert (songs.cache.count_B == 1 + ends.max() + 1).all()
  assert done[-1] < 200
  assert _songs([0], 200)[0].all()


def test_one_compilation_serves_all_settings():
  def run(length=9, **settings):
    _songs([0, 1], length, chunk=6, **settings)

  run()
  compiled = decode._chunk._cache_size()
  for settings in ({'length': 6}, {'length': 20}, {'temperature': 3.},
                   {'top_k': 3}, {'top_p': .5}, {'tail_p': .5},
                   {'exclude_eos': False}, {'begun': {'number': 6}}):
    run(**settings)
  assert decode._chunk._cache_size() == compiled
  for state in ((jnp.array([2, 4]), jnp.zeros(2, int)),
                (jnp.array([5, 6]), jnp.ones(2, int))):
    run(begun={'state': state}, constraint=Odd())
  assert decode._chunk._cache_size() == compiled + 1


def test_eight_bits_are_enough():
  """Rounding changes likelihoods a little, and no shape or dtype."""
  tokens = np.arange(40).reshape(1, 40)**2 % 11
  rounded = decode.to_decode_params(SMALL, _params(), int8=True)
  nll, logits, cache = decode.prefill(
      SMALL, rounded, decode.init_cache(SMALL, rounded, 1, 4), tokens)
  exact_nll, exact, exact_cache = _read(tokens)
  assert 0 < np.abs(logits - exact).max() < .05 * np.abs(exact).max()
  assert abs(nll.mean() - exact_nll.mean()) < .05 * exact_nll.mean()
  assert jax.tree.map(jnp.shape, cache) == jax.tree.map(jnp.shape, exact_cache)
  again, *_ = decode.generate(
      SMALL, rounded, decode.begin(logits, cache, _keys([0])), 5)
  assert again.shape == (1, 5)


@pytest.mark.parametrize('batch', [1, 3])
def test_rings_stay_in_place(batch):
  """The compiled loop copies no keys and values, the bulk of what it reads."""
  settings = {'temperature': 1., 'top_k': 0, 'top_p': 1., 'tail_p': 1.,
              'exclude_eos': True}
  text = decode._chunk.lower(
      SMALL, _prepared(), _start(range(batch)), 8, settings,
      constraint=decode.UNCONSTRAINED, chunk=8
  ).compile().as_text()
  shapes = [f'f32[{batch * 2},{shape}]' for shape in ('4,5', '5,4')]
  copies = re.findall(r'= (f32\[[\d,]+\])\S* copy\(', text)
  assert all(shape in text for shape in shapes)
  assert not set(shapes) & set(copies)


def test_same_length_needs_memory():
  model = LanguageModel(dataclasses.replace(SMALL.config, same_length=True))
  with pytest.raises(ValueError, match='mem_len is 0'):
    decode.init_cache(model, _prepared(), 1, 0)


def test_settings_out_of_range():
  with pytest.raises(ValueError, match=r'top_p: .* found 2\.0'):
    _songs([0], 1, top_p=2.)
