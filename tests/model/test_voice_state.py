"""What each voice did last, against a walk through the text."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lakhnes_jax import events
from lakhnes_jax.model.features import voice_state


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
  tokens[0, 0] = tokens[1, 33] = tokens[1, 34] = events.BOS_EOS
  tokens[2] = np.where(rng.random(60) < .8, 1 + 369, tokens[2])  # Long waits.
  feature = voice_state.VoiceState(vocabulary)
  observe = jax.jit(feature.observe)
  state, start, found = feature.init_state(3), 0, []
  for part in parts:
    signal, state = observe(
        state, jnp.asarray(tokens[:, start:start + part]), part)
    start += part
    found.append(np.asarray(signal))
  last, since = np.concatenate(found, 2)
  for row in range(3):
    expected = list(_walk([vocabulary.tokens[t] for t in tokens[row]]))
    assert [[vocabulary.tokens[t] for t in ids] for ids in last[row]] == [
        names for names, _ in expected]
    np.testing.assert_array_equal(since[row], [times for _, times in expected])


def test_embeds_the_nearest_wait():
  feature = voice_state.VoiceState(events.TX1)
  number = {name: np.arange(np.prod(spec.shape)).reshape(spec.shape)
            for name, spec in feature.param_specs(1).items()}
  _, n_times, _ = number['since_event'].shape

  def time_embedded(samples):
    state = np.zeros((2, 1, 1, 4), np.int32)
    state[1, ..., 3] = samples
    return int(feature.embed(number, state)[0, 0, 0]) - 6 * n_times

  wait = {name: i for i, name in enumerate(events.TX1.tokens)}
  assert [time_embedded(t) for t in (0, 1, 99, 734, 11_760, 100_000)] == [
      0, *(wait[f'WT_{t}'] for t in (1, 99, 730, 12_000, 100_000))]


def test_the_example_of_the_docstring():
  feature = voice_state.VoiceState(events.TX1)
  text = '<S> P1_NOTEON_60 WT_20 P2_NOTEON_64 WT_700 P1_NOTEOFF'
  ids = [events.TX1.tokens.index(name) for name in text.split()]
  (last, since), _ = jax.jit(feature.observe)(
      feature.init_state(1), jnp.array([ids]), 6)
  assert [events.TX1.tokens[i] for i in last[0, :, 0]] == [
      '<S>', *4 * ['P1_NOTEON_60'], 'P1_NOTEOFF']
  assert since[0].T.tolist()[:3] == [
      [0, 0, 20, 20, 720, 0], [0, 0, 20, 0, 700, 700],
      [0, 0, 20, 20, 720, 720]]
