"""N-grams against a plain counter; the LSTM against a scalar recurrence."""

import collections
import json
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.baselines import lstm, ngram
from lakhnes_jax import events
from lakhnes_jax.data import shards
from lakhnes_jax.model import language_model
from support.commands import run_experiment, run_module
from support.corpora import Songs

SIZE = 7  # Of the vocabulary of the small corpora.


def _tokens(songs: list[list[int]]) -> ngram.Tokens:
  return ngram.Tokens(
      np.concatenate([np.array(song, np.int16) for song in songs]),
      np.concatenate([np.arange(len(song)) for song in songs]))


def _songs(n: int, seed: int) -> list[list[int]]:
  """Songs of a Markov chain, <S> (0) at both ends; token 6 is never used."""
  rng = np.random.default_rng(seed)
  table = np.random.default_rng(9).dirichlet(np.full(5, .4), 7)
  songs = []
  for _ in range(n):
    song = [0]
    for _ in range(rng.integers(0, 30)):
      song.append(1 + int(rng.choice(5, p=table[song[-1]])))
    songs.append([*song, 0])
  return songs


class Counter:
  """The same two models, a dictionary look-up a token."""

  def __init__(self, songs, order=5):
    self.order = order
    self.count = collections.Counter(
        tuple(song[end - n:end]) for song in songs
        for n in range(1, order + 1) for end in range(max(n, 2), len(song) + 1))
    followers = collections.defaultdict(dict)
    for gram, count in self.count.items():
      followers[gram[:-1]][gram[-1]] = count
    self.followers = followers
    before = collections.defaultdict(set)
    for gram in self.count:
      before[gram[1:]].add(gram[0])
    self.adjusted = {
        n: {g: len(b) for g, b in before.items() if len(g) == n}
        for n in range(1, order)}
    self.adjusted[order] = {
        g: c for g, c in self.count.items() if len(g) == order}
    self.discount = {}
    for n, counts in self.adjusted.items():
      n1, n2 = (list(counts.values()).count(k) for k in (1, 2))
      self.discount[n] = n1 / (n1 + 2 * n2) if n1 else .5

  def backoff(self, context, token, order=None):
    order = order or self.order
    for n in range(min(order - 1, len(context)), -1, -1):
      after = self.followers.get(tuple(context[len(context) - n:]), {})
      if token in after:
        return after[token] / sum(after.values())
    return 1 / SIZE

  def kneser_ney(self, context, token, n=None):
    n = min(self.order, len(context) + 1) if n is None else n
    if n == 0:
      return 1 / SIZE
    history = tuple(context[len(context) - n + 1:])
    after = {g[-1]: c for g, c in self.adjusted[n].items()
             if g[:-1] == history}
    below = self.kneser_ney(context, token, n - 1)
    if not after:
      return below
    d = self.discount[n]
    return (max(after.get(token, 0) - d, 0) + d * len(after) * below) / sum(
        after.values())


@pytest.mark.parametrize('seed', [1, 2])
def test_ngrams_equal_a_plain_counter(seed):
  train, held_out = _songs(60, seed), [*_songs(12, 50 + seed), [0, 6, 1, 0]]
  ours, plain = ngram.NGrams(_tokens(train), SIZE), Counter(train)
  assert ours.n_ngrams == len(plain.count)
  tokens = _tokens(held_out)
  targets = [(song[max(0, i - 4):i], song[i])
             for song in held_out for i in range(1, len(song))]
  for order in (1, 3, 5):
    np.testing.assert_allclose(
        ours.backoff(tokens, order),
        [plain.backoff(context, token, order) for context, token in targets],
        rtol=1e-12)
  np.testing.assert_allclose(
      ours.kneser_ney(tokens),
      [plain.kneser_ney(context, token) for context, token in targets],
      rtol=1e-12)


def test_kneser_ney_adds_up_to_one_and_backoff_does_not():
  ours = ngram.NGrams(_tokens(_songs(60, 1)), SIZE)
  excess = []
  for song in _songs(10, 77):
    for end in range(1, len(song)):
      asked = _tokens([[*song[:end], token] for token in range(SIZE)])
      last = np.flatnonzero(np.diff(asked.positions[asked.positions > 0],
                                    append=0) <= 0)
      assert len(last) == SIZE
      assert math.isclose(ours.kneser_ney(asked)[last].sum(), 1, rel_tol=1e-9)
      excess.append(ours.backoff(asked)[last].sum() - 1)
  assert max(excess) > .1


def test_songs_are_trimmed_projected_and_short_ones_left_out():
  texts = ['WT_5 P1_NOTEON_60 P1_VELOCITY_7 WT_3 P1_NOTEOFF WT_4', 'WT_5', '']
  songs = [events.from_text(text.replace(' ', '\n')) for text in texts]
  names = events.TX1.tokens
  read = ngram.read(Songs(songs, dynamics=True), events.TX1)
  assert [names[i] for i in read.ids] == [
      '<S>', 'P1_NOTEON_60', 'WT_3', 'P1_NOTEOFF', '<S>', *4 * ['<S>']]
  assert read.positions.tolist() == [0, 1, 2, 3, 4, 0, 1, 0, 1]
  assert len(ngram.read(Songs(songs), events.TX1, 5).ids) == 5
  with pytest.raises(ValueError, match='no song has 6 tokens'):
    ngram.read(Songs(songs), events.TX1, 6)


def test_what_cannot_be_counted_is_refused():
  with pytest.raises(ValueError, match='64'):
    ngram.NGrams(_tokens([[0, 1, 2, 0]]), 686, order=7)
  with pytest.raises(ValueError, match='no 5 tokens in a row'):
    ngram.NGrams(_tokens([[0, 1, 2, 0]]), SIZE)


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory) -> pathlib.Path:
  """Shards of the small corpora, as NOTEONs of TR; <S> comes by itself."""
  folder = tmp_path_factory.mktemp('shards')
  for split, seed in (('train', 1), ('valid', 2), ('test', 3)):
    shards.write_split(folder, split, [
        (str(i), np.array([events.event(events.TR, events.NOTEON, 40 + token)
                           for token in song[1:-1]], np.int32))
        for i, song in enumerate(_songs(40, seed))])
  return folder


def test_command_prints_each_baseline(data_dir):
  done = run_module('experiments.baselines.ngram', f'--data_dir={data_dir}')
  assert done.returncode == 0, done.stderr
  *table, last = done.stdout.splitlines()
  assert [line.split()[0] for line in table] == [
      'random', 'unigram', '5-gram', '5-gram']
  assert [('not normalised' in line) for line in table] == [
      False, False, True, False]
  result = json.loads(last)
  # Of the chain's songs by hand: counts of tokens in train, targets in valid.
  count = collections.Counter(t for song in _songs(40, 1) for t in song[1:])
  targets = [t for song in _songs(40, 2) if len(song) >= 10 for t in song[1:]]
  unigram = math.exp(-np.mean(
      [math.log(count[t] / count.total()) for t in targets]))
  assert result['tokens'] == len(targets)
  assert math.isclose(result['ppl']['unigram'], unigram, rel_tol=1e-12)
  assert result['ppl']['random'] == 631


def test_command_says_what_is_missing():
  done = run_module('experiments.baselines.ngram', '--data_dir=/nowhere')
  assert done.returncode == 1
  line, = done.stderr.splitlines()
  assert 'data_prep.nesmdb' in line


CONFIG = lstm.ModelConfig(n_token=9, n_layer=2, d_model=6, dropout=0.)
MODEL = lstm.LstmModel(CONFIG)


@pytest.fixture(scope='module')
def params():
  """Larger than at the start of training, so that every term shows."""
  drawn = MODEL.init_params(jax.random.key(0))
  rng = np.random.default_rng(4)
  return jax.tree.map(
      lambda x: jnp.float32(rng.normal(0, .7, x.shape)), drawn)


_apply = jax.jit(lstm.LstmModel.apply, static_argnums=0)


def _ids(lanes, length, seed=0):
  return np.random.default_rng(seed).integers(
      0, CONFIG.n_token, (lanes, length)).astype(np.int32)


def _recurrence(params, ids):
  """Logits of one lane, in float64, a unit and a token at a time."""
  params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
  sigmoid = lambda x: 1 / (1 + math.exp(-x))  # noqa: E731
  width, logits = CONFIG.d_model, []
  state = {i: ([0.] * width, [0.] * width) for i in range(CONFIG.n_layer)}
  for token in ids:
    x = params['embedding'][token] * math.sqrt(width)
    for i in range(CONFIG.n_layer):
      layer = params[f'layer_{i}']
      hidden, cell = state[i]
      gates = x @ layer['input'] + hidden @ layer['recurrent'] + layer['bias']
      hidden, cell = [], list(cell)
      for unit in range(width):
        enter, forget, candidate, leave = gates[unit::width]
        cell[unit] = (sigmoid(forget) * cell[unit] +
                      sigmoid(enter) * math.tanh(candidate))
        hidden.append(sigmoid(leave) * math.tanh(cell[unit]))
      x, state[i] = np.array(hidden), (hidden, cell)
    logits.append(params['embedding'] @ x + params['output_bias'])
  return np.array(logits)


def test_lstm_equals_a_scalar_recurrence_across_segments(params):
  ids = _ids(3, 12)
  state = MODEL.init_state(3, 99)
  logits = []
  for segment in np.split(ids, [4, 8], 1):
    part, state = _apply(MODEL, params, segment, state)
    logits.append(part)
  logits = np.concatenate(logits, 1)
  for lane in range(3):
    np.testing.assert_allclose(
        logits[lane], _recurrence(params, ids[lane]), atol=1e-5)
  fresh, _ = _apply(MODEL, params, ids[:, :4], MODEL.reset(state, True))
  np.testing.assert_allclose(fresh, logits[:, :4], atol=1e-6)


def test_lstm_is_causal_and_learns_nothing_through_its_memory(params):
  def logit(hidden, embedding):
    # Each token has an embedding of its own, and none is that of the logit.
    out, _ = MODEL.apply(
        {**params, 'embedding': embedding}, np.arange(6)[None],
        lstm.State(hidden, jnp.ones((2, 1, 6))))
    return out[0, 3, 8]

  to_hidden, to_rows = jax.jit(jax.grad(logit, (0, 1)))(
      jnp.ones((2, 1, 6)), params['embedding'])
  assert not to_hidden.any()
  assert not to_rows[4:8].any() and to_rows[:4].all()


def test_lstm_has_the_papers_size_and_sane_first_weights():
  full = lstm.LstmModel(lstm.ModelConfig(631))
  shapes = jax.eval_shape(full.init_params, jax.random.key(0))
  assert 39e6 < language_model.n_params(shapes) < 41e6
  drawn = MODEL.init_params(jax.random.key(0))
  np.testing.assert_array_equal(drawn['layer_1']['bias'],
                                np.repeat([0, 1, 0, 0], CONFIG.d_model))
  assert np.abs(drawn['layer_0']['recurrent']).max() <= 6**-.5
  low = lstm.LstmModel.from_dict(
      {**MODEL.to_dict(), 'dtype': 'bfloat16'}, None)
  ids, state = _ids(2, 5), MODEL.init_state(2)
  np.testing.assert_allclose(_apply(low, drawn, ids, state)[0],
                             _apply(MODEL, drawn, ids, state)[0], atol=.05)


def test_lstm_config_round_trip_and_errors():
  assert lstm.ModelConfig.from_dict(CONFIG.to_dict()) == CONFIG
  for wrong in ({'n_layer': 0}, {'dropout': 1.}, {'dtype': 'int8'},
                {'heads': 3}):
    with pytest.raises(ValueError, match=next(iter(wrong))):
      lstm.ModelConfig.from_dict({**CONFIG.to_dict(), **wrong})


def test_the_command_trains_and_evaluates_an_lstm(data_dir, tmp_path):
  where = [f'--data_dir={data_dir}', f'--workdir={tmp_path}']
  done = run_experiment(
      '--flagfile=lstm.flags', *where, '--n_layer=1',
      '--d_model=32', '--batch_size=8', '--tgt_len=8', '--max_steps=150',
      '--augment=trim', '--learning_rate=.02', '--eval_every=0')
  assert done.returncode == 0, done.stderr
  done = run_experiment(
      '--mode=eval', '--model=lstm', *where,
      '--eval_tgt_len=16', '--protocol=full')
  assert done.returncode == 0, done.stderr
  result = json.loads(done.stdout.splitlines()[-1])
  train, valid = (
      ngram.read(shards.Corpus(data_dir, split), events.TX1, min_tokens)
      for split, min_tokens in (('train', 0), ('valid', 10)))
  assert result['tokens'] == np.sum(valid.positions > 0)
  counted = ngram.NGrams(train, events.TX1.size, 2)
  unigram, bigram = (ngram.perplexity(counted.backoff(valid, order))
                     for order in (1, 2))
  assert .9 * bigram < result['ppl'] < (unigram + bigram) / 2
