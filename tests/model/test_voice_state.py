"""What each voice did last, against a walk through the text."""

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
