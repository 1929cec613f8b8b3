"""Sampled songs and uses of given ones, against plain loops over the model."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lakhnes_jax import events as ev
from lakhnes_jax.analysis import song_features
from lakhnes_jax.data import augment
from lakhnes_jax.generation import sample, tasks
from lakhnes_jax.model import transformer_xl
from lakhnes_jax.model.language_model import LanguageModel

CONFIG = sample.SamplingConfig(temperature=.9, top_k=40, seed=3, batch=2)
MEM_LEN = 4


def _model(vocabulary: ev.Vocabulary) -> sample.Model:
  model = LanguageModel(transformer_xl.ModelConfig(
      n_token=vocabulary.size, n_layer=1, n_head=2, d_model=8, d_head=4,
      d_inner=16))
  # Larger than the initial ones, so that what was read matters.
  params = jax.tree.map(lambda x: np.asarray(5 * x), model.init_params(
      jax.random.key(1)))
  # Most waits are long ones, and there are more waits than anything else.
  params['output_bias'] = np.where(vocabulary.events > 2000, -3, 0) + (
      2 * (vocabulary.events < 0))
  return sample.Model(model, params, vocabulary, MEM_LEN)


MODELS = {v.name: _model(v) for v in (ev.TX1, ev.TX2)}
APPLY = jax.jit(LanguageModel.apply, static_argnums=0)


class Scalar:
  """One song, a token at a time, by the model's own memory."""

  def __init__(self, of: sample.Model, number: int):
    self._of, self._tokens, self.nll = of, 0, []
    self._key = jax.random.fold_in(jax.random.key(CONFIG.seed), number)
    self._memory = of.model.init_state(1, MEM_LEN)
    self._read(ev.BOS_EOS)

  def _read(self, token):
    logits, self._memory = APPLY(self._of.model, self._of.params,
                                 np.full((1, 1), token, np.int32), self._memory)
    self._logits = np.asarray(logits[0, 0], np.float64)

  def draw(self, allowed, passes=lambda name: False) -> int:
    """Draws among the tokens of which `allowed(name)` holds.

    What is not allowed counts for those of which `passes(name)` holds.
    """
    names = self._of.vocabulary.tokens
    probs = np.exp(self._logits) / np.exp(self._logits).sum()
    kept = np.array([allowed(name) for name in names])
    passing = np.array([passes(name) for name in names])
    if passing.any():
      probs[passing] *= probs[passing | ~kept].sum() / probs[passing].sum()
    with np.errstate(divide='ignore'):
      logits = np.log(probs * kept) / CONFIG.temperature
    least = np.sort(logits)[-CONFIG.top_k]
    logits[logits < least] = -np.inf
    return int(jax.random.categorical(
        jax.random.fold_in(self._key, self._tokens),
        jnp.asarray(logits, jnp.float32)))

  def emit(self, token: int) -> None:
    self.nll.append(math.log(np.exp(self._logits).sum()) - self._logits[token])
    self._tokens += 1
    self._read(token)


def _song(rng, vocabulary: ev.Vocabulary, n: int = 15) -> np.ndarray:
  """A song in the order of real ones: pauses of any length between instants."""
  song = [300]
  for i in range(n):
    for voice in range(4):
      if rng.random() < .4:
        starts = rng.random() < .8
        kinds = [(ev.NOTEON, ev.VOICES[voice].pitches) if starts else
                (ev.NOTEOFF, [0])]
        if vocabulary.dynamics and voice != ev.TR and starts:
          kinds.append((ev.VELOCITY, ev.VOICES[voice].velocities))
          if rng.random() < .3:
            kinds.append((ev.TIMBRE, ev.VOICES[voice].timbres))
        song += [ev.event(voice, kind, int(rng.choice(values)))
                 for kind, values in kinds]
    song.append(130000 if i == 5 else int(rng.choice([
        rng.integers(1, 9000), 735])))
  return np.array(song, np.int32)


SONGS = {v.name: [_song(np.random.default_rng(i), v) for i in range(2)]
         for v in (ev.TX1, ev.TX2)}


def _check(got: sample.Sample, song, loop: Scalar) -> None:
  np.testing.assert_array_equal(got.events, song)
  read = np.isfinite(got.nll)
  np.testing.assert_allclose(got.nll[read], loop.nll, rtol=1e-4, atol=1e-4)


def test_new_songs_equal_a_loop_over_the_model():
  of = MODELS['tx1']
  task = tasks.new_song(ev.TX1, tasks.Limits(9))
  for number, got in enumerate(sample.generate(of, [task], CONFIG, n=3)):
    loop, song = Scalar(of, number), []
    for _ in range(9):
      token = loop.draw(lambda name: name != '<S>')
      loop.emit(token)
      song.append(of.vocabulary.events[token])
    _check(got, song, loop)
    assert got.name == f'{number:03}'
    assert not got.given.any()


@pytest.mark.parametrize('form', MODELS)
def test_continuations_equal_a_loop_over_the_model(form):
  """The prompt keeps its exact times; it is longer than the memory."""
  of = MODELS[form]
  source = SONGS[form][0]
  task = tasks.continuation(of.vocabulary, source, tasks.Limits(7),
                            prompt_events=20)
  for number, got in enumerate(sample.generate(of, [task], CONFIG, n=2)):
    loop, song = Scalar(of, number), source[:21].tolist()
    for token in of.vocabulary.encode(source[1:21]):
      loop.emit(token)
    for _ in range(7):
      token = loop.draw(lambda name: name != '<S>')
      loop.emit(token)
      song.append(of.vocabulary.events[token])
    _check(got, song, loop)
    np.testing.assert_array_equal(got.given, [True] * 21 + [False] * 7)
    summary = got.summary()
    given, generated = np.mean(loop.nll[:20]), np.mean(loop.nll[20:])
    assert summary['nll_given'] == pytest.approx(given, 1e-4)
    assert summary['nll_generated'] == pytest.approx(generated, 1e-4)
    assert summary['ppl_given'] == pytest.approx(math.exp(given), 1e-4)
    np.testing.assert_array_equal(got.generated().events, song[21:])


@pytest.mark.parametrize('form', MODELS)
def test_rhythm_equals_a_loop_over_the_model(form):
  of = MODELS[form]
  for source, got in zip(SONGS[form], sample.generate(of, [
      tasks.rhythm(of.vocabulary, s) for s in SONGS[form]], CONFIG),
                         strict=True):
    loop, song = Scalar(of, 0), [300]
    for event in source[1:-1]:
      name = ev.to_text([event])
      if name.startswith(('P1_NOTEON', 'P2_NOTEON', 'TR_NOTEON')):
        token = loop.draw(lambda other, n=name: other.startswith(n[:9]))
        song.append(of.vocabulary.events[token])
      else:
        token = of.vocabulary.encode([event])[0]
        song.append(event)
      loop.emit(token)
    _check(got, [*song, source[-1]], loop)
    assert np.any(got.events != source)
    assert got.metadata['task'] == 'rhythm'


def _order(name: str) -> int:
  """Place of an event in its instant; that of a wait is before all."""
  voice, _, kind = name.partition('_')
  if voice == 'WT':
    return -1
  return 10 * ['P1', 'P2', 'TR', 'NO'].index(voice) + (
      'VELOCITY' in kind) + 2 * ('TIMBRE' in kind)


def _accompany(loop: Scalar, vocabulary, source, voices, end):
  """Writes the other voices; returns the song."""
  events = source[1:-1]
  times = np.cumsum(np.maximum(events, 0))
  given = [(int(time), event) for time, event in zip(times, events, strict=True)
           if event < 0 and ev.CODE_VOICE[~event] in voices]
  names = tuple(ev.VOICES[voice].name for voice in voices)
  song, now, last = [], 0, -1
  while True:
    time, event = given[0] if given else (end, None)
    if time == now:  # Due: own events that precede it, or it.
      token = loop.draw(lambda name: True)
      name = vocabulary.tokens[token]
      if name.startswith(('<S>', 'WT', *names)) or not last < _order(name) < (
          _order(ev.to_text([event])) if given else 99) or (
              not given and 'NOTEOFF' not in name):
        if not given:
          return song
        given.pop(0)
        token = int(vocabulary.encode([event])[0])
        name = vocabulary.tokens[token]
      song.append(int(vocabulary.events[token]))
      last = _order(name)
    else:
      token = loop.draw(
          lambda name, last=last: name.startswith('WT') or (
              not name.startswith(('<S>', *names)) and _order(name) > last),
          lambda name, last=last, rest=time - now: name.startswith('WT')
          if last >= 0 else name == vocabulary.tokens[
              vocabulary.encode([rest])[0]])
      last = _order(vocabulary.tokens[token])
      wait = int(vocabulary.events[token])
      if wait >= 0:
        nearest = int(vocabulary.encode([time - now])[0])
        if time - now <= 100000 and (
            wait >= int(vocabulary.events[nearest])):
          token, wait = nearest, time - now
        now += wait
      song.append(wait)
    loop.emit(token)


@pytest.mark.parametrize('form, voices', [
    ('tx1', (3,)), ('tx1', (0, 2)), ('tx2', (1,))])
def test_accompaniments_equal_a_loop_over_the_model(form, voices):
  of = MODELS[form]
  made = list(sample.generate(of, [
      tasks.accompaniment(of.vocabulary, s, voices) for s in SONGS[form]],
      CONFIG))
  written = 0
  for source, got in zip(SONGS[form], made, strict=True):
    loop = Scalar(of, 0)
    song = _accompany(loop, of.vocabulary, source, voices,
                      int(source[1:-1][source[1:-1] > 0].sum()))
    _check(got, [300, *song, source[-1]], loop)
    _check_given_part(got, source, voices)
    written += (~np.isin(ev.voice_of(got.events), (-1, *voices))).sum()
  assert written > 3 * len(made)


def _check_given_part(got, source, voices) -> None:
  """The given voices do exactly what they did, and the length is the same."""
  def part(song):
    events = augment.keep_voices(song, voices)
    return list(zip(ev.times_of(events)[events < 0].tolist(),
                    events[events < 0].tolist(), strict=True))
  assert part(got.events) == part(source)
  assert ev.times_of(got.events)[-1] == ev.times_of(source)[-1]


def test_a_model_that_never_waits_still_plays_along():
  """What it may write at most is used up; the given part goes on."""
  of = MODELS['tx1']
  waits = ev.TX1.events > 0
  params = {**of.params, 'output_bias': np.where(waits & (
      ev.TX1.events != 1), -1e9, of.params['output_bias'])}
  source = SONGS['tx1'][0]
  got, = sample.generate(of._replace(params=params), [
      tasks.accompaniment(ev.TX1, source, (1,), seconds=.3)], CONFIG)
  _check_given_part(got, ev.truncate(source, round(.3 * 44100)), (1,))
  assert (~got.given).sum() >= got.metadata['max_events'] == 88


def test_the_same_song_in_any_batch():
  of = MODELS['tx1']
  all_tasks = [tasks.rhythm(ev.TX1, song) for song in SONGS['tx1']]
  alone, = sample.generate(of, all_tasks[1:2], CONFIG)
  names = ['a', 'b/c']
  for batch in (2, 9):
    made = list(sample.generate(of, all_tasks, sample.SamplingConfig(
        **{**vars(CONFIG), 'batch': batch}), n=2, names=names))
    assert [s.name for s in made] == [
        f'{name}-00{i}' for name in names for i in range(2)]
    np.testing.assert_array_equal(made[2].events, alone.events)
    np.testing.assert_allclose(made[2].nll, alone.nll, rtol=1e-4, atol=1e-4)
    assert len({s.events.tobytes() for s in made}) == 4


def by_density(weight: float, deviation: float):
  """A critic of nothing but the number of notes a second."""
  return {'ngrams': {}, 'log_odds': {}, 'features': [{
      'feature': 'note_density', 'mean': 0., 'deviation': deviation,
      'weight': weight, 'square': 0.}]}


def test_the_critic_takes_one_of_several():
  of, task = MODELS['tx1'], tasks.new_song(ev.TX1, tasks.Limits(60))
  many = [s.events for s in sample.generate(of, [task], CONFIG, n=12)]
  assert len({x.tobytes() for x in many}) == 12
  density = np.nan_to_num([song_features.measure(x)['note_density']
                           for x in many])  # Some have no length.
  for weight, mine in ((-1., np.argmax), (1., np.argmin)):
    # Scores so far apart that chance decides nothing.
    of = of._replace(critic=by_density(weight * 1e9, 1e3))
    three = sample.SamplingConfig(**{**vars(CONFIG), 'best_of': 3})
    kept = list(sample.generate(of, [task], three, n=2))
    assert [s.metadata['number'] for s in kept] == [0, 1]
    assert kept[0].metadata['best_of'] == 3
    for number in (0, 1):
      np.testing.assert_array_equal(
          kept[number].events,
          many[3 * number + mine(density[3 * number:][:3])])
  # As many as that, by default, where there is a critic.
  best, = sample.generate(of, [task], CONFIG)
  assert best.metadata['best_of'] == 12
  np.testing.assert_array_equal(best.events, many[np.argmin(density)])


def test_a_critic_judges_what_follows_the_given_beginning():
  of, source = MODELS['tx1'], SONGS['tx1'][1]
  # Before it, so long a rest that of the whole nothing else would count.
  source = np.append(np.int32([31 * 44100]), source).astype(np.int32)
  task = tasks.continuation(ev.TX1, source, tasks.Limits(60), prompt_events=20)
  many = list(sample.generate(of, [task], CONFIG, n=8))
  density = np.nan_to_num([
      song_features.measure(s.generated().events)['note_density']
      for s in many])
  of = of._replace(critic=by_density(-1e9, 1e3))
  kept, = sample.generate(of, [task], dataclasses.replace(CONFIG, best_of=8))
  np.testing.assert_array_equal(kept.events,
                                many[int(np.argmax(density))].events)


def test_of_songs_with_something_given_the_best_is_taken():
  of = MODELS['tx1']._replace(critic=by_density(1., 1.))
  task = tasks.rhythm(ev.TX1, SONGS['tx1'][1])
  # All as dense: the first of the best. By odds it would be any.
  many = list(sample.generate(of, [task], dataclasses.replace(
      CONFIG, best_of=1), n=40))
  kept = list(sample.generate(of, [task], dataclasses.replace(
      CONFIG, best_of=4), n=10))
  for first, made in zip(many[::4], kept, strict=True):
    np.testing.assert_array_equal(made.events, first.events)


def test_what_a_critic_draws_depends_on_seed_and_number_alone():
  of, task = MODELS['tx1'], tasks.new_song(ev.TX1, tasks.Limits(60))
  of = of._replace(critic=by_density(0., 1.))
  config = dataclasses.replace(CONFIG, best_of=4)
  many = [s.events.tobytes() for s in sample.generate(
      of, [task], dataclasses.replace(config, best_of=1), n=24)]
  taken = [many.index(s.events.tobytes()) for s in sample.generate(
      of, [task], config, n=6)]
  assert [number // 4 for number in taken] == list(range(6))
  assert len({number % 4 for number in taken}) > 1  # By chance, not the first.
  again = list(sample.generate(of, [task], config, n=2))
  assert [many.index(s.events.tobytes()) for s in again] == taken[:2]
  # Any seed that JAX takes.
  assert len(list(sample.generate(
      of, [task], dataclasses.replace(config, seed=2**32 - 1)))) == 1


def test_no_best_without_a_critic():
  task = tasks.new_song(ev.TX1, tasks.Limits(8))
  config = sample.SamplingConfig(best_of=2)
  with pytest.raises(ValueError, match='export them with --critic_of'):
    next(sample.generate(MODELS['tx1'], [task], config))


def test_songs_end_at_exactly_the_given_time():
  of = MODELS['tx1']
  hot = sample.SamplingConfig(temperature=9., top_k=0, batch=2)  # It waits.
  limits = tasks.Limits(600, seconds=.05)
  source = SONGS['tx1'][1]
  for task, before in ((tasks.new_song(ev.TX1, limits), 0),
                       (tasks.continuation(ev.TX1, source, limits,
                                           prompt_seconds=.25), .25)):
    for got in sample.generate(of, [task], hot, n=3):
      assert ev.times_of(got.events)[-1] == round((before + .05) * 44100)
      prompt = got.events[got.given]
      assert ev.times_of(prompt)[-1:].sum() == round(before * 44100)
      np.testing.assert_array_equal(prompt[:-1],
                                    source[:max(len(prompt) - 1, 0)])


def test_a_song_may_end_where_the_model_draws_the_end():
  of = MODELS['tx1']
  bias = of.params['output_bias'].copy()
  bias[ev.BOS_EOS] = 3.
  of = of._replace(params={**of.params, 'output_bias': bias})
  task = tasks.new_song(ev.TX1, tasks.Limits(200, stop_at_eos=True))
  lengths = [len(s.events) for s in sample.generate(of, [task], CONFIG, n=6)]
  assert min(lengths) < 200
  assert len(set(lengths)) > 2
  task = tasks.new_song(ev.TX1, tasks.Limits(200))
  for got in sample.generate(of, [task], CONFIG, n=2):
    assert len(got.events) == 200


NOTES = np.array([100, ev.event(ev.P1, ev.NOTEON, 60), 700,
                  ev.event(ev.NO, ev.NOTEON, 3), 700], np.int32)


@pytest.mark.parametrize('make, words', [
    (lambda: tasks.continuation(ev.TX1, NOTES[:0]), 'the song is empty'),
    (lambda: tasks.continuation(ev.TX1, NOTES[:1]), 'the song is empty'),
    (lambda: tasks.continuation(ev.TX1, NOTES, prompt_seconds=.001),
     'empty: nothing is played in the first 0.001 seconds'),
    (lambda: tasks.continuation(ev.TX1, NOTES, prompt_events=0),
     'prompt_events: .* found 0'),
    (lambda: tasks.continuation(ev.TX1, NOTES, prompt_seconds=0),
     'prompt_seconds: .* found 0'),
    (lambda: tasks.rhythm(ev.TX1, NOTES[2:]), 'P1, P2 and TR play no note'),
    (lambda: tasks.accompaniment(ev.TX1, NOTES, (1, 2)),
     'p2 and tr play nothing here; those that do: p1, no'),
    (lambda: tasks.Limits(0), 'length: .* found 0'),
    (lambda: tasks.Limits(seconds=-1.), 'seconds: .* found -1.0'),
    (lambda: tasks.voices_of(['p1', 'p3']), "'p3' is no voice"),
    (lambda: tasks.voices_of(['p1', 'TR', 'p2', 'no']), 'all voices are given'),
    (lambda: tasks.voices_of([]), 'no voices are given'),
    (lambda: list(sample.generate(MODELS['tx1'], [], CONFIG, n=0)), '0 songs'),
    (lambda: list(sample.generate(MODELS['tx2'], [tasks.new_song(ev.TX1)])),
     'another vocabulary than tx2'),
    (lambda: list(sample.generate(
        MODELS['tx2']._replace(vocabulary=ev.TX1), [tasks.new_song(ev.TX1)])),
     'the model has 686 tokens, vocabulary tx1 has 631'),
    (lambda: list(sample.generate(MODELS['tx1'], [tasks.new_song(ev.TX1)],
                               sample.SamplingConfig(temperature=-1))),
     'temperature: a number from 0 to 100 expected, found -1'),
])
def test_errors(make, words):
  with pytest.raises(ValueError, match=words):
    make()
