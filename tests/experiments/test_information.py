"""Information content by an own count, of tokens and of seconds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import information
from lakhnes_jax import events as ev
from lakhnes_jax.model import language_model, transformer_xl


@pytest.fixture(scope='module')
def model():
  config = transformer_xl.ModelConfig(
      n_token=ev.TX1.size, n_layer=1, n_head=2, d_model=8, d_head=4, d_inner=8)
  model = language_model.LanguageModel(config)
  params = model.init_params(jax.random.key(0))
  return model, jax.tree.map(lambda x: 8 * x, params)


def song(rng, n: int) -> np.ndarray:
  pitches = rng.integers(40, 100, n)
  return np.stack([ev.EVENT[ev.P1, ev.NOTEON, pitches], np.full(n, 22050)],
                  1).reshape(-1).astype(np.int32)


def test_nats_are_those_of_the_model(model):
  rng = np.random.default_rng(0)
  ids = [ev.TX1.encode(song(rng, n)).astype(np.int32) for n in (9, 3, 5)]
  found = information.nats(*model, ev.TX1, 64, ids)
  for row, tokens in zip(found, ids, strict=True):
    inputs = jnp.array([[ev.BOS_EOS, *tokens[:-1]]])
    logits, _ = model[0].apply(model[1], inputs, model[0].init_state(1, 64))
    nll = -np.asarray(jax.nn.log_softmax(logits[0]))
    expected = nll[np.arange(len(tokens)), tokens]
    assert row == pytest.approx(expected, rel=1e-4)


def test_times_and_curves():
  ids = ev.TX1.encode(ev.from_text(
      'P1_NOTEON_60\nWT_44100\nP1_NOTEOFF\nTR_NOTEON_60\nWT_88200\nTR_NOTEOFF'))
  times = information.token_times(ev.TX1, ids)
  # The nearest waits that there are.
  assert times == pytest.approx([0, 44000, 44000, 44000, 132000, 132000]
                                / np.float64(44100))
  curve = information.curves([np.arange(6.)], [times], 3)
  # 44,000 samples are not a second yet; 132,000 are 2.99.
  assert curve.tolist() == [[0 + 1 + 2 + 3, 0, 4 + 5]]


def test_times_of_tracker_tokens():
  from lakhnes_jax import vocabularies
  tracker = vocabularies.get('tracker')
  names = ['LENGTH_0', 'DENSITY_0', 'VOICES_1', 'BAR_16', 'TEMPO_6', 'AT_0',
           'P1_NOTE_60', 'AT_10', 'P1_NOTE_62', 'DELAY_3', 'P1_OFF']
  ids = np.array([tracker.tokens.index(name) for name in names])
  frames = information.token_times(tracker, ids) * 60.0988
  assert frames == pytest.approx(7 * [0] + [0, 60, 60, 63], abs=.1)


def test_comparing_like_with_like_and_with_noise(model):
  rng = np.random.default_rng(1)
  real = [song(rng, 12) for _ in range(8)]
  same = information.compare(*model, ev.TX1, 64, real, real, seconds=6)
  assert same['inside'] == 1 and len(same['lower']) == 6
  assert same['samples'] == same['real']
  assert same['real']['nats_per_note'] == pytest.approx(
      2 * same['real']['nats_per_token'])
  slow = [s[:12] for s in real]  # Half as long: no nats in the second half.
  other = information.compare(*model, ev.TX1, 64, slow, real, seconds=6)
  assert other['inside'] < .5
  assert other['samples']['median'][4:] == [0, 0]
