"""What each voice did last, against a walk through the text."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lakhnes_jax import events, model, voice_state

CONFIG = model.ModelConfig(
    n_token=events.TX1.size, n_layer=2, n_head=2, d_model=8, d_head=4,
    d_inner=16, dropout=0., voice_state=True)

apply = jax.jit(model.apply, static_argnums=1)


def _walk(names):
  """Yields ([last event of each voice], [samples since]) after each name."""
  last, since = {}, dict.fromkeys(('P1', 'P2', 'TR', 'NO'), 0)
  for name in names:
    voice, _, rest = name.partition('_')
    if name == '<S>':
      last, since = {}, dict.fromkeys(since, 0)
    elif voice == 'WT':
      since = {v: min(100_000, t + int(rest)) for v, t in since.items()}
    else:
      last[voice], since[voice] = name, 0
    yield [last.get(v, '<S>') for v in since], list(since.values())


@pytest.mark.parametrize('vocabulary', events.VOCABULARIES.values(),
                         ids=lambda v: v.name)
@pytest.mark.parametrize('parts', [[60], [1] * 60, [7, 50, 3]])
def test_follows_the_text(vocabulary, parts):
  rng = np.random.default_rng(len(parts))
  tokens = rng.integers(1, vocabulary.size, (3, 60))
  tokens[0, 0] = tokens[1, 33] = tokens[1, 34] = events.START
  tokens[2] = np.where(rng.random(60) < .8, 1 + 369, tokens[2])  # Long waits.
  state, start, found = voice_state.empty(3), 0, []
  for part in parts:
    states = voice_state.follow(
        vocabulary.size, state, jnp.asarray(tokens[:, start:start + part]))
    start, state = start + part, states[:, :, -1]
    found.append(np.asarray(states))
  last, since = np.concatenate(found, 2)
  for row in range(3):
    expected = list(_walk([vocabulary.tokens[t] for t in tokens[row]]))
    assert [[vocabulary.tokens[t] for t in ids] for ids in last[row]] == [
        names for names, _ in expected]
    np.testing.assert_array_equal(since[row], [times for _, times in expected])


def test_embeds_the_nearest_wait():
  shapes = voice_state.shapes(events.TX1.size, 1)
  number = {name: np.arange(np.prod(shape)).reshape(shape)
            for name, shape in shapes.items()}
  _, n_times, _ = shapes['since_event']

  def time_embedded(samples):
    state = np.zeros((2, 1, 1, 4), np.int32)
    state[1, ..., 3] = samples
    return int(voice_state.embed(number, state)[0, 0, 0]) - 6 * n_times

  wait = {name: i for i, name in enumerate(events.TX1.tokens)}
  assert [time_embedded(t) for t in (0, 1, 99, 734, 11_760, 100_000)] == [
      0, *(wait[f'WT_{t}'] for t in (1, 99, 730, 12_000, 100_000))]


class TestModel:
  params = model.init_params(CONFIG, jax.random.key(0))
  tokens = jnp.asarray(np.random.default_rng(0).integers(
      1, events.TX1.size, (2, 24)))

  def _read(self, length, memory):
    found = []
    for start in range(0, 24, length):
      logits, memory = apply(
          self.params, CONFIG, self.tokens[:, start:start + length], memory)
      found.append(logits)
    return np.concatenate(found, 1), memory

  @pytest.mark.parametrize('length', [1, 8])
  def test_segments_equal_the_whole(self, length):
    whole, _ = self._read(24, model.empty_memory(CONFIG, 2, 24))
    parts, _ = self._read(length, model.empty_memory(CONFIG, 2, 24))
    np.testing.assert_allclose(parts, whole, rtol=1e-5, atol=1e-6)

  def test_an_emptied_memory_forgets_the_voices(self):
    fresh = model.empty_memory(CONFIG, 2, 4)
    expected, memory = self._read(24, fresh)
    assert memory.voices.any()
    again, _ = self._read(24, memory._replace(length=jnp.int32(0)))
    np.testing.assert_allclose(again, expected, rtol=1e-6)
    other, _ = self._read(24, fresh._replace(
        length=memory.length, voices=memory.voices))
    assert np.abs(other - expected).max() > 1e-4

  def test_refuses(self):
    with pytest.raises(ValueError, match='memory'):
      self._read(24, model.empty_memory(CONFIG, 2, 0))
    with pytest.raises(ValueError, match='11 tokens'):
      dataclasses.replace(CONFIG, n_token=11)
