"""Samples songs from a model: tasks in, songs out."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lakhnes_jax import events as ev
from lakhnes_jax import ranges
from lakhnes_jax.analysis import critic as critic_lib
from lakhnes_jax.formats import looping
from lakhnes_jax.generation import constraints, decode
from lakhnes_jax.generation import tasks as tasks_lib
from lakhnes_jax.model import language_model


class Model(NamedTuple):
  """A model to sample from.

  Attributes:
    model: the language model.
    params: its parameters.
    vocabulary: of its tokens.
    mem_len: tokens before the newest that it may see.
    critic: says which of several songs to take (see `analysis.critic`); None
      where nobody fitted one.
  """
  model: language_model.LanguageModel
  params: Any
  vocabulary: ev.Vocabulary
  mem_len: int = 512
  critic: critic_lib.Critic | None = None


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
  """How tokens are drawn; the defaults are LakhNES's, `ranges` has the ranges.

  Attributes:
    temperature: divides the logits; 0 is greedy.
    top_k: draw among the k likeliest tokens; 0 disables.
    top_p: draw among the likeliest tokens that add up to p; 1 disables.
    tail_p: likewise, but of all but the likeliest, which keeps its probability;
      see `sampling.process_logits`.
    context_weight: how much more all that is remembered of a song counts than
      its last 48 tokens; 0 disables; see `decode.Contrast`.
    seed: of the draws.
    batch: songs at once, at most; each takes memory on the device.
    int8: round the model's kernels to 8 bits; see `lakhnes_jax.model.quantize`.
    best_of: songs that are drawn for each, of which the model's critic takes
      one by what follows the given beginning, so that songs are like real ones,
      or the best where something is given; None for what `best_of` returns.

  Raises:
    ValueError: a setting is out of range.
  """
  temperature: float = .95
  top_k: int = 32
  top_p: float = 1.
  tail_p: float = 1.
  context_weight: float = 0.
  seed: int = 0
  batch: int = 16
  int8: bool = False
  best_of: int | None = None

  def __post_init__(self):
    ranges.check(**{name: value for name, value in vars(self).items()
                    if name != 'int8'})


_CHUNK = 64  # Tokens, after which the places of songs that ended are filled.
_SHORT = 48  # Tokens of the shorter memory of `decode.Contrast`.
# As the flag files draw songs, and `lakhnes_jax.load()`'s methods; what is
# added to a given song keeps nearer to it.
RECOMMENDED = SamplingConfig(temperature=1., top_k=0, tail_p=.92,
                             context_weight=.1)
RECOMMENDED_TO_GIVEN = dataclasses.replace(RECOMMENDED, tail_p=.85,
                                           context_weight=.3)


@dataclasses.dataclass(frozen=True)
class Sample:
  """A song that a model wrote, or wrote parts of.

  Attributes:
    name: of its files, without ending.
    events: int32 song.
    given: [n] bool, the events that were given.
    nll: [n] float32, negative log likelihood in nats of the token that each
      event is from, by the model alone, before any constraint; NaN for events
      that are from none.
    metadata: how it was made; JSON.
  """
  name: str
  events: np.ndarray
  given: np.ndarray
  nll: np.ndarray
  metadata: dict[str, Any]

  def summary(self) -> dict[str, Any]:
    """Returns name, how it was made, length, and mean NLL of its parts.

    `nll_given` and `nll_generated` are nats per event, `ppl_given` and
    `ppl_generated` their exponentials; None where there is no such event.
    """
    times = ev.times_of(self.events)
    found = {
        'name': self.name, **self.metadata, 'n_events': len(self.events),
        'n_given': int(self.given.sum()),
        'seconds': float(times[-1]) / ev.SAMPLE_RATE if len(times) else 0.}
    for part, chosen in (('given', self.given), ('generated', ~self.given)):
      nll = self.nll[chosen & np.isfinite(self.nll)]
      mean = float(nll.mean(dtype=np.float64)) if len(nll) else None
      found[f'nll_{part}'] = mean
      found[f'ppl_{part}'] = None if mean is None else math.exp(mean)
    return found

  def generated(self) -> 'Sample':
    """Returns the song without the given events at its start."""
    return self._part(slice(_first_generated(self.given), None))

  def looped(self) -> 'Sample | None':
    """Ends the song where it can go on at an earlier place, once played.

    Returns:
      The song up to there. Its metadata say `loop`, that place in seconds, and
      `loop_repeats`, whether a part of it came again; else it is the beginning.
      None for a song without length.
    """
    found = looping.points(self.events)
    place = found or looping.whole(self.events)
    if place is None:
      return None
    events = ev.truncate(self.events, place[1])
    return dataclasses.replace(
        self._part(slice(len(events))), events=events, metadata={
            **self.metadata, 'loop': place[0] / ev.SAMPLE_RATE,
            'loop_repeats': bool(found)})

  def _part(self, part: slice) -> 'Sample':
    return dataclasses.replace(self, **{
        name: getattr(self, name)[part] for name in ('events', 'given', 'nll')})


def best_of(model: Model) -> int:
  """Returns how many songs are drawn for each, where nothing else is said."""
  return 1 if model.critic is None else critic_lib.BEST_OF


def generate(model: Model, tasks: Sequence[tasks_lib.GenerationTask],
             config: SamplingConfig = SamplingConfig(), *, n: int = 1,
             names: Sequence[str] | None = None,
             progress: Callable[[int, int], Any] = lambda tokens, of: None,
             ) -> Iterator[Sample]:
  """Samples `n` songs for each task.

  Song i of a task depends on the task, the model, the config and i alone: not
  on `n`, on the other tasks, or on how many are sampled at once.

  Args:
    model: see `Model`.
    tasks: from `lakhnes_jax.generation.tasks`, of one kind and for this
      vocabulary.
    config: see `SamplingConfig`.
    n: songs per task.
    names: of the tasks, for the names of the samples.
    progress: called with the tokens that all songs drawn have, and may have.

  Yields:
    a `Sample` per song, task by task.

  Raises:
    ValueError: a setting is out of range, or the model has another vocabulary.
  """
  if config.best_of is None:
    config = dataclasses.replace(config, best_of=best_of(model))
  if n < 1:
    raise ValueError(f'{n} songs: need at least 1')
  if config.best_of > 1 and model.critic is None:
    raise ValueError(
        f'best_of={config.best_of}: these weights have no critic; export them '
        'with --critic_of=FOLDER OF SHARDS, or take 1')
  vocabulary = model.vocabulary
  if model.model.config.n_token != vocabulary.size:
    raise ValueError(
        f'the model has {model.model.config.n_token} tokens, vocabulary '
        f'{vocabulary.name} has {vocabulary.size}')
  if any(task.vocabulary is not vocabulary for task in tasks):
    raise ValueError(f'a task is for another vocabulary than {vocabulary.name}')
  jobs = [(task, i, f'{name}-{i:03}' if name else f'{i:03}')
          for task, name in zip(tasks, names or [''] * len(tasks), strict=True)
          for i in range(n)]
  draws = [(task, i * config.best_of + candidate) for task, i, _ in jobs
           for candidate in range(config.best_of)]
  model = model._replace(params=decode.to_decode_params(
      model.model, model.params, int8=config.int8))
  drafts = _draw(model, draws, config, progress)
  for task, i, name in jobs:
    song, given, tokens, nll = _take(
        [(*task.assemble(draft.ids), draft.nll)
         for draft in itertools.islice(drafts, config.best_of)],
        model.critic, np.random.default_rng([config.seed, i]))
    yield Sample(
        name, song, given,
        np.where(tokens >= 0, np.append(nll, np.nan)[tokens], np.nan), {
            **task.metadata, 'number': i, 'format': vocabulary.name,
            'mem_len': model.mem_len, **{
                field: value for field, value in vars(config).items()
                if field != 'batch'}})


def _first_generated(given: np.ndarray) -> int:
  return int(np.argmin(np.append(given, False)))


def _take(songs: list[tuple], critic: critic_lib.Critic | None,
          rng: np.random.Generator) -> tuple:
  """Returns one of several songs (events, given, ...), by what is new in it.

  Of songs that nothing is given of, with odds, so that they differ as real ones
  do; else the one that the critic likes best.
  """
  if len(songs) == 1:
    return songs[0]
  is_new = not any(given.any() for _, given, *_ in songs)
  return songs[critic_lib.choose(
      [song[_first_generated(given):] for song, given, *_ in songs], critic,
      rng if is_new else None)]


@dataclasses.dataclass
class _Draft:
  """What is written so far of a song: ids, and the nats of each."""
  task: tasks_lib.GenerationTask
  ids: np.ndarray
  nll: np.ndarray
  ended: bool = False

  def add(self, ids: np.ndarray, nll: np.ndarray) -> int:
    """Adds tokens up to <S>, or to the most there may be; returns how many."""
    before = len(self.ids)
    ids, nll = np.append(self.ids, ids), np.append(self.nll, nll)
    length = min(int(np.argmax(np.append(ids, ev.BOS_EOS) == ev.BOS_EOS)),
                 self.task.max_tokens)
    self.ended = length < len(ids) or length == self.task.max_tokens
    self.ids, self.nll = ids[:length], nll[:length]
    return length - before


class _Batch:
  """Songs that are written at once; where one has ended the next one begins.

  Attributes:
    drafts: of the (task, number) that have begun, in order.
    n_tokens: of all of these.
  """

  def __init__(self, model: Model,
               draws: Sequence[tuple[tasks_lib.GenerationTask, int]],
               config: SamplingConfig):
    self.drafts: list[_Draft] = []
    self.n_tokens = 0
    self._model, self._config = model, config
    self._tasks = [task for task, _ in draws]
    self._constraint = self._tasks[0].constraint
    self._states = constraints.stack([
        task.vary(task.state, np.random.default_rng([config.seed, number]))
        for task, number in draws])
    self._keys = jax.vmap(functools.partial(
        jax.random.fold_in, jax.random.key(config.seed)))(
            jnp.array([number for _, number in draws]))
    # Which draft is in which place; -1 for none.
    self._draft_B = np.full(min(config.batch, len(draws)), -1)
    self._songs: decode.Songs | None = None
    self._task: tasks_lib.GenerationTask | None = None
    self._read: tuple[Any, ...] = ()

  def fill(self) -> None:
    """Begins songs wherever there is none, as long as there are any."""
    while len(self.drafts) < len(self._tasks) and (self._draft_B < 0).any():
      self._begin(self._tasks[len(self.drafts)])

  def _begin(self, task: tasks_lib.GenerationTask) -> None:
    """Begins songs for a task."""
    if task is not self._task:  # What is given is read once.
      self._task, self._read = task, _read(self._model, self._config,
                                           task.prefix)
    nll_L, *read, contrast = self._read
    alike = itertools.takewhile(lambda number: self._tasks[number] is task,
                                range(len(self.drafts), len(self._tasks)))
    is_new_B = np.zeros(len(self._draft_B), bool)
    for place, number in zip(np.flatnonzero(self._draft_B < 0), alike,
                             strict=False):
      self._draft_B[place], is_new_B[place] = number, True
      self.drafts.append(_Draft(task, task.prefix, nll_L))
      self.n_tokens += len(task.prefix)
    state = constraints.advance_n(
        self._constraint, jax.tree.map(lambda leaf: leaf[self._draft_B],
                                       self._states), len(task.prefix))
    songs = decode.begin(*read, self._keys[self._draft_B], state=state,
                         contrast=contrast, number=len(task.prefix))
    self._songs = songs if self._songs is None else decode.replace(
        self._songs, songs, is_new_B)

  def write(self) -> None:
    """Goes on with all songs."""
    config = self._config
    tokens_BxL, nll_BxL, self._songs = decode.generate(
        self._model.model, self._model.params,
        self._songs._replace(ended_B=jnp.asarray(self._draft_B < 0)), _CHUNK,
        constraint=self._constraint, temperature=config.temperature,
        top_k=config.top_k, top_p=config.top_p, tail_p=config.tail_p,
        exclude_eos=False, chunk=_CHUNK)
    for place in np.flatnonzero(self._draft_B >= 0):
      draft = self.drafts[self._draft_B[place]]
      self.n_tokens += draft.add(tokens_BxL[place], nll_BxL[place])
      if draft.ended:
        self._draft_B[place] = -1


def _draw(model: Model, draws: Sequence[tuple[tasks_lib.GenerationTask, int]],
          config: SamplingConfig, progress: Callable[[int, int], Any]
         ) -> Iterator[_Draft]:
  """Yields a song for each (task, number), in order."""
  max_tokens = sum(task.max_tokens for task, _ in draws)
  batch = _Batch(model, draws, config)
  for wanted in range(len(draws)):
    while wanted >= len(batch.drafts) or not batch.drafts[wanted].ended:
      batch.fill()
      batch.write()
      progress(batch.n_tokens, max_tokens)
    yield batch.drafts[wanted]


def _read(model: Model, config: SamplingConfig, ids_L: np.ndarray):
  """Reads what is given of one song, after <S>.

  Returns:
    (nats [L] of the ids, logits of what follows, cache, contrast or None)
  """
  tokens_1xL = np.append(ev.BOS_EOS, ids_L)[None]

  def read(mem_len):
    return decode.prefill(model.model, model.params, decode.init_cache(
        model.model, model.params, 1, mem_len), tokens_1xL)

  nll_1xL, logits, cache = read(model.mem_len)
  contrast = None
  if config.context_weight and model.mem_len > _SHORT:
    contrast = decode.Contrast(*read(_SHORT)[1:],
                               np.float32(config.context_weight))
  return nll_1xL[0, 1:], logits, cache, contrast
