"""New songs from a model, and the files that are made of each."""

import dataclasses
import functools
import json
import math
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lakhnes_jax import atomic, events, page, render
from lakhnes_jax.formats import song_files
from lakhnes_jax.generation import constraints, decode
from lakhnes_jax.generation import tasks as plans_lib
from lakhnes_jax.model import language_model
from lakhnes_jax.report import plot
from lakhnes_jax.training import log


class Model(NamedTuple):
  """A model to sample from.

  Attributes:
    model: what the parameters are of.
    params: its parameters.
    vocabulary: of its tokens.
    mem_len: events before the newest that it may see.
  """
  model: language_model.LanguageModel
  params: Any
  vocabulary: events.Vocabulary
  mem_len: int = 512


@dataclasses.dataclass(frozen=True)
class Settings:
  """How events are drawn; the defaults are LakhNES's.

  Attributes:
    temperature: divides the logits; 0 always takes the likeliest event.
    top_k: only the likeliest so many events are drawn; 0 means all.
    top_p: only the likeliest that add up to this are drawn.
    seed: of the draws.
    batch: songs at once, at most; each takes memory on the device.
    int8: round the model's kernels to 8 bits; see `lakhnes_jax.model.quantize`.
  """
  temperature: float = .95
  top_k: int = 32
  top_p: float = 1.
  seed: int = 0
  batch: int = 32
  int8: bool = False


@dataclasses.dataclass(frozen=True)
class Sample:
  """A song that a model wrote, or wrote parts of.

  Attributes:
    name: of its files, without ending.
    events: int32 song.
    given: [n] bool, the events that were given.
    nll: [n] float32, nats of each event by the model, before any restriction;
      NaN for events that it never read.
    about: how it was made; JSON.
  """
  name: str
  events: np.ndarray
  given: np.ndarray
  nll: np.ndarray
  about: dict[str, Any]

  def summary(self) -> dict[str, Any]:
    """Returns name, how it was made, length, and mean NLL of its parts.

    `nll_given` and `nll_generated` are nats an event, `ppl_given` and
    `ppl_generated` their exponentials; None where there is no such event.
    """
    times = events.times_of(self.events)
    found = {
        'name': self.name, **self.about, 'n_events': len(self.events),
        'n_given': int(self.given.sum()),
        'seconds': float(times[-1]) / events.SAMPLE_RATE if len(times) else 0.}
    for part, chosen in (('given', self.given), ('generated', ~self.given)):
      nll = self.nll[chosen & np.isfinite(self.nll)]
      mean = float(nll.mean(dtype=np.float64)) if len(nll) else None
      found[f'nll_{part}'] = mean
      found[f'ppl_{part}'] = None if mean is None else math.exp(mean)
    return found

  def generated(self) -> 'Sample':
    """Returns what is left without the given events at the start."""
    first = int(np.argmin(np.append(self.given, False)))
    return dataclasses.replace(self, **{
        name: getattr(self, name)[first:] for name in (
            'events', 'given', 'nll')})


def songs(model: Model, plans: Sequence[plans_lib.Plan],
          settings: Settings = Settings(), *, n: int = 1,
          names: Sequence[str] | None = None,
          progress: Callable[[int, int], Any] = lambda tokens, of: None,
          ) -> Iterator[Sample]:
  """Plays each plan `n` times.

  Song i of a plan depends on the plan, the model, the settings and i alone:
  not on `n`, on the other plans, or on how many are played at once.

  Args:
    model: see `Model`.
    plans: from `lakhnes_jax.generation.tasks`, of one kind and for this vocabulary.
    settings: see `Settings`.
    n: songs a plan.
    names: of the plans, for the names of the samples.
    progress: called with the tokens that a batch has, and may have at most.

  Yields:
    a `Sample` a song, plan by plan.

  Raises:
    ValueError: a setting is out of range, or the model has another vocabulary.
  """
  if n < 1 or settings.batch < 1:
    raise ValueError(f'{n} songs, {settings.batch} at once: need at least 1')
  language, params, vocabulary, mem_len = model
  config = language.config
  if config.n_token != vocabulary.size:
    raise ValueError(f'the model has {config.n_token} tokens, vocabulary '
                     f'{vocabulary.name} has {vocabulary.size}')
  if any(plan.vocabulary is not vocabulary for plan in plans):
    raise ValueError(f'a plan is for another vocabulary than {vocabulary.name}')
  jobs = [(plan, i, f'{name}-{i:03}' if name else f'{i:03}')
          for plan, name in zip(plans, names or [''] * len(plans), strict=True)
          for i in range(n)]
  params = decode.to_decode_params(language, params, int8=settings.int8)
  # Batches of one size, so that one program serves all.
  n_batches = -(-len(jobs) // settings.batch)
  size = -(-len(jobs) // max(n_batches, 1))
  for start in range(0, len(jobs), max(size, 1)):
    batch = jobs[start:start + size]
    filled = batch + batch[-1:] * (size - len(batch))
    played = _play(model._replace(params=params), [job[0] for job in filled],
                   [job[1] for job in filled], settings, progress)
    for (plan, i, name), (ids, nll) in zip(batch, played, strict=False):
      song, given, tokens = plan.assemble(ids)
      yield Sample(
          name, song, given,
          np.where(tokens >= 0, np.append(nll, np.nan)[tokens], np.nan), {
              **plan.about, 'number': i, 'format': vocabulary.name,
              'mem_len': mem_len, **{
                  field: value for field, value in vars(settings).items()
                  if field != 'batch'}})


def _play(model: Model, plans: Sequence[plans_lib.Plan],
          numbers: Sequence[int], settings: Settings,
          progress: Callable[[int, int], Any]
         ) -> list[tuple[np.ndarray, np.ndarray]]:
  """Plays plans at once; returns ids without <S> and nats of each."""
  language, params, _, mem_len = model
  # What all are given first is read faster than an event at a time.
  n_read = min(len(plan.prefix) for plan in plans)
  prefix_BxL = np.stack([plan.prefix[:n_read] for plan in plans]).astype(
      np.int32)
  cache = decode.init_cache(language, params, len(plans), mem_len)
  read_nll_BxL, logits_BxV, cache = decode.prefill(
      language, params, cache, np.pad(prefix_BxL, ((0, 0), (1, 0)),
                                    constant_values=events.START))
  steering = plans[0].constraints
  state = constraints.skip(steering, constraints.stack([plan.state for plan in plans]),
                     n_read)
  keys_B = jax.vmap(functools.partial(
      jax.random.fold_in, jax.random.key(settings.seed)))(jnp.array(numbers))
  max_tokens = max(plan.max_tokens for plan in plans)
  ids_BxL, nll_BxL, *_ = decode.generate(
      language, params, cache, logits_BxV, keys_B, max_tokens - n_read,
      constraint=steering, state=state, temperature=settings.temperature,
      top_k=settings.top_k, top_p=settings.top_p, exclude_start=False,
      first=n_read,
      progress=lambda tokens: progress(n_read + tokens, max_tokens))
  played = []
  for row in zip(
      np.concatenate([prefix_BxL, ids_BxL], 1),
      np.concatenate([read_nll_BxL[:, 1:], nll_BxL], 1), strict=True):
    length = int(np.argmax(np.append(row[0], events.START) == events.START))
    played.append(tuple(part[:length] for part in row))
  return played


def write(samples: Iterable[Sample], out_dir: str | os.PathLike,
          vocabulary: events.Vocabulary) -> None:
  """Writes text, MIDI, WAV and a piano roll of each, and what tells of them.

  `samples.json` is a list of `Sample.summary`, also of samples that were there
  before; `index.html` a page to listen to all of them. A line says what cannot
  be made: audio of a song without any wait, piano rolls without matplotlib.
  """
  out_dir = pathlib.Path(out_dir)
  summaries = _summaries(out_dir / 'samples.json')
  for sample in samples:
    path = out_dir / sample.name
    text = 'tx1' if vocabulary.name == 'tx1' else 'tx2'
    song_files.write_song(f'{path}.{text}.txt', sample.events)
    song_files.write_song(f'{path}.mid', sample.events)
    try:
      audio, = render.render_events([sample.events])
      render.write_audio(f'{path}.wav', audio)
      plot.piano_roll(sample.events, f'{path}.png')
    except (ValueError, ImportError) as error:
      log.report(f'{path}: {error}')
    summaries[sample.name] = sample.summary()
    atomic.write(out_dir / 'samples.json', json.dumps(
        list(summaries.values()), indent=2).encode())
  if summaries:
    page.write(out_dir)


def _summaries(path: pathlib.Path) -> dict[str, dict[str, Any]]:
  """Reads what was written of samples before; by name."""
  try:
    return {row['name']: row for row in json.loads(path.read_bytes())}
  except FileNotFoundError:
    return {}
  except (ValueError, TypeError, KeyError):
    raise ValueError(f'{path}: not a list of samples; delete it, or choose '
                     'another folder') from None
