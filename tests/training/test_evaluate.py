"""Both protocols against a token-by-token count."""

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lakhnes_jax import events
from lakhnes_jax.data import shards
from lakhnes_jax.model import transformer_xl
from lakhnes_jax.model.language_model import LanguageModel
from lakhnes_jax.training import evaluate

MODEL = LanguageModel(transformer_xl.ModelConfig(
    n_token=events.TX1.size, n_layer=1, n_head=2, d_model=8, d_head=4,
    d_inner=8))
CONFIG = evaluate.EvalConfig(tgt_len=4, mem_len=6, batch_size=2)


@pytest.fixture
def corpus_of(tmp_path):
  """Function: lengths -> a corpus of random songs of so many notes."""
  def make(*lengths, around=((), ())):
    rng = np.random.default_rng(0)
    notes = np.flatnonzero(events.CODE_KIND <= events.NOTEON)
    return shards.write_split(tmp_path, 'valid', [
        (f'{i}', np.concatenate(
            [around[0], ~rng.choice(notes, n), around[1]]).astype(np.int32))
        for i, n in enumerate(lengths)])
  return make


@pytest.fixture(scope='module')
def params():
  return jax.tree.map(
      lambda x: 10 * x, MODEL.init_params(jax.random.key(0)))


def _lane_nll(params, corpus, songs):
  """nll of each target of a lane, read one token at a time."""
  state = MODEL.init_state(1, 6)
  step = jax.jit(lambda token, state: MODEL.apply(params, token, state))
  losses = []
  for i in songs:
    ids = [0, *events.TX1.encode(corpus.song(i)), 0]
    for token, target in itertools.pairwise(ids):
      logits, state = step(jnp.array([[token]]), state)
      losses.append(-float(jax.nn.log_softmax(logits[0, 0])[target]))
  return losses


def test_full_protocol_counts_every_target(params, corpus_of):
  corpus = corpus_of(21, 9, 8, 10)
  result = evaluate.evaluate(MODEL, params, corpus, events.TX1,
                             config=CONFIG, protocol='full')
  assert result['tokens'] == 22 + 10 + 9 + 11
  assert result['songs'] == 4
  assert result['ppl'] == pytest.approx(math.exp(result['loss']))
  stepped = evaluate.evaluate(MODEL, params, corpus, events.TX1,
                              config=dataclasses.replace(CONFIG, tgt_len=1),
                              protocol='full')
  # Lane 1 has read songs 1 and 2 when lane 0 is still in its first.
  expected = (_lane_nll(params, corpus, [0]) +
              _lane_nll(params, corpus, [1, 2, 3]))
  assert stepped['loss'] == pytest.approx(np.mean(expected), rel=1e-5)
  # In longer segments queries see more than 6 others.
  assert stepped['loss'] != pytest.approx(result['loss'], rel=1e-5)


def test_paper_protocol_stops_with_the_first_lane(params, corpus_of):
  corpus = corpus_of(21, 9, 8)
  result = evaluate.evaluate(MODEL, params, corpus, events.TX1,
      config=dataclasses.replace(CONFIG, tgt_len=1), protocol='paper')
  # Lane 1 has 10 + 9 targets; then the batch that lane 0 has begun is lost.
  expected = (_lane_nll(params, corpus, [0])[:19] +
              _lane_nll(params, corpus, [1, 2]))
  assert result['tokens'] == 38
  assert result['loss'] == pytest.approx(np.mean(expected), rel=1e-5)


def test_short_songs_are_left_out_and_waits_trimmed(params, corpus_of):
  corpus = corpus_of(21, 7, 12, around=([500], [9]))
  result = evaluate.evaluate(MODEL, params, corpus, events.TX1,
                             config=CONFIG, protocol='full')
  assert (result['songs'], result['tokens']) == (2, 22 + 13)


def test_a_split_too_short_for_a_segment(params, corpus_of):
  corpus, config = corpus_of(21, 9), dataclasses.replace(CONFIG, tgt_len=64)
  for check in (
      lambda: evaluate.evaluate(MODEL, params, corpus, events.TX1,
                                config=config),
      lambda: evaluate.check(corpus, events.TX1, config)):
    with pytest.raises(ValueError, match='too short to fill one segment of 64'):
      check()
  evaluate.check(corpus, events.TX1, CONFIG)
  with pytest.raises(ValueError, match='mem_len -1'):
    evaluate.check(corpus, events.TX1, dataclasses.replace(CONFIG, mem_len=-1))


def test_short_songs_take_no_lane(params, corpus_of):
  """Of 4 songs 2 are long enough, for 3 lanes."""
  corpus, config = corpus_of(5, 21, 6, 12), dataclasses.replace(
      CONFIG, batch_size=3)
  evaluate.check(corpus, events.TX1, config)
  result = evaluate.evaluate(MODEL, params, corpus, events.TX1, config=config)
  assert (result['songs'], result['tokens']) == (2, 2 * 12)
