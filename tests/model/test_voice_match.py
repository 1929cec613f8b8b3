"""What each voice is expected to do, against a walk through the text."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lakhnes_jax import events
from lakhnes_jax.model.features import voice_match
from support import corpora

WINDOW = 100


def _transposed(name, voice, semitones):
  """An event of any voice as `voice` plays it, higher by some semitones."""
  _, kind, *value = name.split('_')
  if kind == 'NOTEON':
    value = [str(int(value[0]) + semitones)]
  return '_'.join([voice, kind, *value])


class _Song:
  """What was read of a song, as (place, time, event) a voice."""

  def __init__(self):
    self.time = 0
    self.played = {voice: [] for voice in ('P1', 'P2', 'TR', 'NO')}

  def pitch(self, voice, index):
    """(place, pitch) of the last NOTEON up to an event; None before it."""
    for place, _, name in reversed(self.played[voice][:index + 1]):
      if 'NOTEON' in name:
        return place, int(name.split('_')[2])
    return None

  def context(self, voice, index, order, source):
    """(first place, what counts) of events up to one, None if some are not."""
    played, first = self.played[voice], index - order
    if first < 0:
      return None
    begin, what = played[first][0], []
    for i in range(first + 1, index + 1):
      name = played[i][2]
      if source == 'any':
        before = self.pitch(voice, i - 1)
        if before is None:
          return None
        begin = min(begin, before[0])
        _, _, name = name.partition('_')
        if name.startswith('NOTEON'):
          name = self.pitch(voice, i)[1] - before[1]
      what.append((name, round((played[i][1] - played[i - 1][1]) / 735)))
    return begin, what

  def expect(self, voice, place, source, tokens):
    """(index of order, event, time) after the voice's last event, or None."""
    here = len(self.played[voice]) - 1
    voices = [voice] if source == 'own' else list(self.played)
    for number, order in reversed(list(enumerate(voice_match.ORDERS))):
      key = self.context(voice, here, order, source)
      if key is None or key[0] < place - WINDOW:
        continue
      found = [
          (self.played[v][i][0], v, i) for v in voices
          for i in range(len(self.played[v]) - (v == voice))
          if (past := self.context(v, i, order, source))
          and past[1] == key[1]]
      if not found:
        continue
      _, v, i = max(found)
      if (self.context(v, i, order, source)[0] < place - WINDOW
          or i + 1 == len(self.played[v])):
        continue
      _, then, name = self.played[v][i + 1]
      if source == 'any':
        name = _transposed(name, voice, self.pitch(voice, here)[1]
                           - self.pitch(v, i)[1])
      if name in tokens:
        return number, name, self.time + then - self.played[v][i][1]
    return None


def _walk(names, tokens):
  """Yields {(voice, source): (index of order, event, samples till then)}."""
  song, expected = _Song(), {}
  for place, name in enumerate(names):
    voice, _, rest = name.partition('_')
    if name == '<S>':
      song, expected = _Song(), {}
    elif voice == 'WT':
      song.time += int(rest)
    else:
      song.played[voice].append((place, song.time, name))
      for source in voice_match.SOURCES:
        expected[voice, source] = song.expect(voice, place, source, tokens)
    yield {key: (x[0], x[1], x[2] - song.time)
           for key, x in expected.items() if x}


def _songs(vocabulary):
  """Three lanes of 200 tokens that come round, with changes of all kinds."""
  rng = np.random.default_rng(0)
  lanes = corpora.repeated_phrases(vocabulary, (
      # P2 echoes P1 a third higher; a melody, an echo and drums.
      'P1_NOTEON_60 WT_20 P2_NOTEON_64 WT_700 P1_NOTEON_62 WT_9 P2_NOTEON_66 '
      'WT_2200 P1_NOTEOFF NO_NOTEON_3 P2_NOTEOFF WT_700',
      'TR_NOTEON_40 WT_1500 TR_NOTEON_42 WT_1500 P2_NOTEON_60 WT_1500 '
      'P2_NOTEON_62 WT_1500 TR_NOTEON_30 P2_NOTEON_107 WT_90000 WT_90000',
      'P1_NOTEON_108 P2_NOTEON_33 WT_730 P1_NOTEON_106 P2_NOTEON_34 WT_800 '
      'NO_NOTEON_2 TR_NOTEON_50 WT_730'), 200, rng, .03,
      'WT_700 WT_1500 P1_NOTEON_61 P1_NOTEOFF P2_NOTEON_60')
  lanes[0, 0] = lanes[1, 90] = lanes[1, 91] = events.BOS_EOS
  lanes[2, 60:160] = rng.integers(1, vocabulary.size, 100)  # Beyond the window.
  return lanes


@pytest.mark.parametrize('vocabulary', events.VOCABULARIES.values(),
                         ids=lambda v: v.name)
@pytest.mark.parametrize('parts', [[200], [1] * 200, [7, 190, 3]],
                         ids=['whole', 'single', 'parts'])
def test_follows_the_text(vocabulary, parts):
  tokens = _songs(vocabulary)
  more = np.pad(tokens, ((0, 0), (0, 3)), mode='wrap')
  feature = voice_match.VoiceMatch(vocabulary, WINDOW)
  observe = jax.jit(feature.observe)
  state, start, found = feature.init_state(3), 0, []
  for part in parts:
    # With three tokens more, which are not read yet.
    expected, state = observe(
        state, jnp.asarray(more[:, start:start + part + 3]), part)
    start += part
    found.append(np.asarray(expected[:, :, :part]))
  what, when = np.concatenate(found, 2)
  orders = set()
  for row, lane in enumerate(tokens):
    names = [vocabulary.tokens[t] for t in lane]
    for place, expected in enumerate(_walk(names, set(vocabulary.tokens))):
      for v, voice in enumerate(('P1', 'P2', 'TR', 'NO')):
        for s, source in enumerate(voice_match.SOURCES):
          order, token = divmod(what[row, place, v, s], vocabulary.size)
          got = (order, vocabulary.tokens[token], when[row, place, v, s])
          assert got == expected.get((voice, source), (0, '<S>', 0)), (
              row, place, voice, source)
          orders.add((source, int(order)))
  assert len(orders) == 10


def test_embeds_what_and_when():
  feature = voice_match.VoiceMatch(events.TX1)
  sizes = {name: spec.shape for name, spec in feature.param_specs(1).items()}
  state = np.zeros((2, 1, 1, 4, 2), np.int32)
  number = {name: i for i, name in enumerate(events.TX1.tokens)}

  def embedded(name):
    table = {n: jnp.zeros(s) for n, s in sizes.items()}
    table[name] = jnp.arange(table[name].size, dtype=float).reshape(sizes[name])
    base = feature.embed(table, np.zeros_like(state))
    return float((feature.embed(table, state) - base)[0, 0, 0])

  state[0, ..., 3, 1] = 7
  assert (embedded('expected'), embedded('due')) == (7, 0)
  for samples, place in ((1, 1), (734, number['WT_730']), (100_000, 370),
                         (-1, 371), (-734, 370 + number['WT_730']),
                         (-100_000, 740), (500_000, 370), (-500_000, 740)):
    state[1, ..., 3, 1] = samples
    assert embedded('due') == place


def test_the_example_of_the_docstring():
  feature = voice_match.VoiceMatch(events.TX1, 40)
  text = 'P1_NOTEON_60 WT_700 P1_NOTEON_62 WT_700 P1_NOTEON_62 WT_100'
  ids = [events.TX1.tokens.index(name) for name in text.split()]
  (what, when), _ = jax.jit(feature.observe)(
      feature.init_state(1), jnp.array([ids]), 6)
  assert [events.TX1.tokens[i] for i in what[0, :, 0, 0]] == [
      *4 * ['<S>'], *2 * ['P1_NOTEON_62']]
  assert when[0, :, 0, 0].tolist() == [0, 0, 0, 0, 700, 600]


def test_the_example_of_the_state():
  lines = voice_match.State.__doc__.split('next_event\n')[1].split('\n')[:6]
  table = [line.split() for line in lines]
  ids = [events.TX1.tokens.index(row[0]) for row in table]
  feature = voice_match.VoiceMatch(events.TX1, 6)
  _, state = jax.jit(feature.observe)(
      feature.init_state(1), jnp.array([ids]), 6)
  found = np.concatenate([state.time, state.prev_event[:2], state.last_note_on,
                          state.next_event])[:, 0].T
  assert found.tolist() == [[int(x) for x in row[1:]] for row in table]
  assert state.since[:2, 0].tolist() == 2 * [[1, 0, 3, 0]]
  assert state.expected[:, 0, 0, 0].tolist() == [ids[2], 700]
