"""When the frame counter ticks: against a walk through the text, and a chip."""

import math

import jax
import numpy as np
import pytest

from lakhnes_jax import events
from lakhnes_jax.model.features import frame_counter

TX1 = frame_counter.FrameCounter(events.TX1)
observe = jax.jit(frame_counter.FrameCounter.observe, static_argnums=0)
PARTS, PART = 147, 1.25
VOICES = ('P1', 'P2', 'TR', 'NO')


def _circle(x):
  """Distance from 0 on the circle of ticks, in samples."""
  return abs((x + 91.875) % 183.75 - 91.875)


def _normal(logs):
  total = sum(math.exp(x) for x in logs)
  return [math.exp(x) / total for x in logs]


def _as_of(density, samples):
  """What is known as of one moment, as of another so much later."""
  parts = math.floor(samples / PART + .5)
  return [density[(j + parts) % PARTS] for j in range(PARTS)]


class _Walk:
  """Follows a song by the names of its tokens, in plain Python."""

  def __init__(self):
    self.known = {}  # What is known of ticks as of (event, first in frame).
    self.belief = [0.] * PARTS
    self.hits = dict.fromkeys(range(8), 0.)
    self.frame(0.)
    self.drift = self.wait = 0.

  def frame(self, drift):
    self.drift, self.time, self.wrong = drift, 0., 0.
    self.seen, self.tick = {}, None
    self.begun = False

  def read(self, name):
    """Returns (probabilities of the next tick, hits) after a token."""
    voice, _, what = name.partition('_')
    if name == '<S>':
      self.__init__()
    elif voice == 'WT':
      self.rest(float(what))
    elif what.startswith('NOTE'):
      self.play(voice, what.startswith('NOTEON'))
    return (_as_of(_normal(self.belief), self.time),
            [self.hits[i] for i in range(8)])

  def rest(self, wait):
    self.wait, later = wait, self.time + wait
    if later < 600:
      self.time, self.wrong = later, self.wrong + 5 * (wait > 100)
      return
    density = _as_of(_normal(self.belief), later)
    self.belief = [
        math.log(.1 + .9 * PARTS * sum(
            density[(j + d) % PARTS] for d in range(-4, 5)) / 9)
        if wait <= 1000 else 0. for j in range(PARTS)]
    self.frame((self.drift + max(1, round(later / 733.79)) * (735 - 733.79))
               % 183.75)

  def learn(self, key, ticks, wrong):
    bump = [max(0., 1 - _circle((j + .5) * PART - ticks) / (2.25 + wrong))
            for j in range(PARTS)]
    known = self.known.setdefault(key, [0.] * PARTS)
    self.known[key] = [a + b / sum(bump)
                       for a, b in zip(known, bump, strict=True)]

  def play(self, voice, on):
    number = 2 * VOICES.index(voice) + on
    if 0 < self.wait <= 1000:
      radius = 5 if self.wait > 100 else 1.875
      near = [p for j, p in enumerate(_normal(self.belief))
              if _circle((j + .5) * PART - self.time) <= radius]
      self.hits[number] = .85 * self.hits[number] + .15 * math.log(
          PARTS * sum(near) / len(near) + .05)
    self.wait = 0.
    if voice == 'TR':
      for key, (time, wrong) in self.seen.items():
        self.learn(key, self.time - time - self.drift, self.wrong - wrong)
      self.tick = self.time
      self.belief = [
          math.log(.5 + .5 * PARTS / 4 if
                   _circle((j + .5) * PART - self.time) < 2.5 else .5)
          for j in range(PARTS)]
    else:
      key = number, not self.begun
      self.known[key] = [.93 * x for x in self.known.get(key, [0.] * PARTS)]
      if self.tick is not None:
        self.learn(key, self.tick - self.time - self.drift, self.wrong)
      self.seen[key] = self.time, self.wrong
      known = _as_of(self.known[key], -(self.time + self.drift))
      self.belief = [b + math.log((k + .3 / PARTS) / (sum(known) + .3) * PARTS)
                     for b, k in zip(self.belief, known, strict=True)]
    self.begun = True


def _song(rng, vocabulary, length):
  """Draws ids: mostly events, short waits, and waits of a few frames."""
  waits = np.array([1, 7, 44, 61, 99, 110, 180, 640, 730, 1500, 12_000])
  ids = {name: i for i, name in enumerate(vocabulary.tokens)}
  is_event = rng.random(length) < .6
  return np.where(is_event, rng.integers(
      1 + len(events.WAITS), vocabulary.size, length), [
          ids[f'WT_{w}'] for w in rng.choice(waits, length)])


@pytest.mark.parametrize('vocabulary', events.VOCABULARIES.values(),
                         ids=lambda v: v.name)
@pytest.mark.parametrize('parts', [[120], [1] * 120, [7, 110, 3]])
def test_follows_the_text(vocabulary, parts):
  rng = np.random.default_rng(0)
  tokens = np.stack([_song(rng, vocabulary, 120) for _ in range(3)])
  tokens[0, 0] = tokens[1, 33] = tokens[1, 34] = events.BOS_EOS
  feature = frame_counter.FrameCounter(vocabulary)
  state, start, found = feature.init_state(3), 0, []
  for part in parts:
    signal, state = observe(feature, state, tokens[:, start:start + part], part)
    found.append(signal)
    start += part
  next_BxLxT, hits_BxLxE = (np.concatenate(x, 1) for x in zip(
      *found, strict=True))
  for row in range(3):
    walk = _Walk()
    expected = [walk.read(vocabulary.tokens[t]) for t in tokens[row]]
    np.testing.assert_allclose(next_BxLxT[row], [x for x, _ in expected],
                               rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(hits_BxLxE[row], [x for _, x in expected],
                               rtol=1e-3, atol=1e-4)
  assert next_BxLxT.max() > .1  # Something was learnt of these songs.


def test_keeps_what_is_read():
  tokens = _song(np.random.default_rng(1), events.TX1, 60)[None]
  whole, _ = observe(TX1, TX1.init_state(1), tokens, 60)
  _, state = observe(TX1, TX1.init_state(1), tokens, 23)
  rest, _ = observe(TX1, state, tokens[:, 23:], 37)
  for a, b in zip(rest, whole, strict=True):
    np.testing.assert_allclose(a, b[:, 23:], rtol=1e-5, atol=1e-6)


def _played(rng, on_ticks: bool):
  """A song as a chip would play it, and the time of each event.

  A program is called 60.0988 times a second, and writes notes of P1 and the
  triangle every few frames; the triangle sounds from the next tick of an
  accumulator at 240 Hz, or after a time drawn at random.
  """
  times, song = [], []
  for frame in np.cumsum(rng.integers(4, 12, 120)):
    called = round(frame * 44100 / 60.0988)
    tick = math.ceil((called + 10) / 183.75) * 183.75
    heard = round(tick) if on_ticks else called + 10 + rng.integers(183)
    times += [called, heard]
    song += [events.event(events.P1, events.NOTEON, 60),
             events.event(events.TR, events.NOTEON, 40)]
  return (events.TX1.encode(events.from_times(
      np.array(times), np.array(song), times[-1])), np.array(times))


@pytest.mark.parametrize('on_ticks', [True, False])
def test_finds_the_ticks_of_a_chip(on_ticks):
  ids, times = _played(np.random.default_rng(2), on_ticks)
  signal, _ = observe(TX1, TX1.init_state(1), ids[None], len(ids))
  kinds = events.kind_of(events.TX1.events[ids])
  next_T = np.asarray(signal.next_BxLxT)[0, kinds >= 0][::2]  # As P1 begins.
  expected = np.diff(times)[::2]
  missed = _circle((next_T.argmax(1) + .5) * PART - expected)[60:]
  if on_ticks:
    assert (missed < 6).mean() > .9
    assert signal.tick_log_likelihood_BxLxE[0, -1, 5] > 1
  else:
    assert (missed < 6).mean() < .2
    assert signal.tick_log_likelihood_BxLxE[0, -1, 5] < .3


def test_real_songs_tick(real_songs):
  """Songs whose triangles keep to ticks are known by how it hits them."""
  hits = []
  for song in real_songs:
    ids = events.TX1.encode(events.TX1.project(song))[:600]
    ids = np.pad(ids, (0, 600 - len(ids)))
    signal, _ = observe(TX1, TX1.init_state(1), ids[None], 600)
    hits.append(float(signal.tick_log_likelihood_BxLxE[0, :, 5].max()))
  assert np.mean(np.array(hits) > 1) > .25, sorted(hits)


def test_prefers_waits_that_end_on_a_tick():
  next_T = np.zeros((1, 1, PARTS), np.float32)
  next_T[..., 16] = 1  # 20 to 21.25 samples from now.
  signal = frame_counter.TickSignal(next_T, np.zeros((1, 1, 8)))
  gate_GxD = np.array([[1, 0], [0, 1], [0, 0]], np.float32)
  names = events.TX1.tokens

  def raised(*x):
    added_V = np.asarray(TX1.logit_bias(
        {'tick_gate': gate_GxD}, signal, np.array([[x]], np.float32)))[0, 0]
    return {names[i] for i in np.flatnonzero(added_V > 0)}, added_V

  short, added_V = raised(1., 0.)
  assert short == {'WT_19', 'WT_20', 'WT_21', 'WT_22'}  # 1 beside is allowed.
  assert min(added_V[20:22]) > max(added_V[19], added_V[22])
  assert not added_V[100:].any()  # Neither other gates' nor events.
  assert added_V[1 + 50 - 1] == pytest.approx(math.log(.05))
  # 183.75 samples later, and again, to 10 samples.
  assert raised(0., 2.)[0] == {f'WT_{w}' for w in (
      200, 210, 390, 570, 750, 760, 940)}


def test_embeds_in_proportion():
  params = {name: np.arange(np.prod(spec.shape), dtype=np.float32).reshape(
      spec.shape) for name, spec in TX1.param_specs(1).items()}
  next_T, hits_E = np.zeros((1, 1, PARTS)), np.zeros((1, 1, 8))
  next_T[..., [3, 9]] = .75, .25
  hits_E[..., 4] = 2
  assert TX1.embed(params, frame_counter.TickSignal(
      next_T, hits_E))[0, 0, 0] == pytest.approx(4.5 + 8)


def test_the_example_of_the_docstring():
  text = 'P1_NOTEON_60 WT_50 TR_NOTEON_40 WT_680 P1_NOTEON_62 WT_50'
  ids = [events.TX1.tokens.index(name) for name in text.split()]
  signal, _ = observe(TX1, TX1.init_state(1), np.array([ids]), 6)
  next_LxT = np.asarray(signal.next_BxLxT)[0]
  np.testing.assert_allclose(next_LxT[:2], 1 / PARTS, rtol=1e-5)
  at = (next_LxT.argmax(1) + .5) * PART
  assert _circle(at[2]) < 2 and abs(at[3] - 55) < 5
  assert abs(at[4] - 51.2) < 1 and abs(at[5] - 1.2) < 1
