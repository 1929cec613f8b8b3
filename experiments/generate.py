"""What `experiments.run --mode=sample` does: songs, new or to given ones."""

import dataclasses
import pathlib
import sys
from collections.abc import Callable, Iterator

from experiments import models
from experiments.options import FLAGS, TASKS
from lakhnes_jax import progress
from lakhnes_jax.formats import song_files
from lakhnes_jax.generation import sample, tasks
from lakhnes_jax.report import samples
from lakhnes_jax.tracker import controls
from lakhnes_jax.training import log

_LOOPED = ('vgm', 'nsf', 'famitracker.txt')  # Formats that have a loop.
# Which tasks a flag belongs to, where not to all.
_OF_TASK = {
    'input': TASKS[1:], 'stop_at_eos': TASKS[:2],
    'prompt_events': TASKS[1:2], 'prompt_seconds': TASKS[1:2],
    'without_prompt': TASKS[1:2], 'given_voices': TASKS[3:],
    'grammar': ('new', 'continue', 'voices'), 'tempo': TASKS[:1],
    'density': ('new', 'continue', 'voices'),
    'voices': ('new', 'continue', 'voices'), 'song_length': TASKS[:2]}


def main() -> None:
  """Samples songs and writes them; exits with 1 if an input was bad."""
  models.check_can_sample('mode=sample')
  _check_flags()
  endings = _endings()
  model = models.load_to_sample()
  _asked(model.vocabulary)
  out_dir = pathlib.Path(
      FLAGS.out_dir or pathlib.Path(FLAGS.workdir or '', 'samples'))
  complaints = []

  def complain(line: str) -> None:
    complaints.append(line)
    log.report(f'experiments.run: {line}')

  if FLAGS.task == 'new':
    songs = new_songs(model, FLAGS.n_samples)
  else:
    songs = _songs_to_inputs(model, complain)
  missing = samples.write(map(_finish, songs), out_dir, also=endings,
                          album=FLAGS.album)
  print(out_dir, flush=True)
  if complaints or missing:
    sys.exit(1)


def _check_flags() -> None:
  """Raises a ValueError where flags do not go together."""
  for name, of_tasks in _OF_TASK.items():
    if FLAGS[name].present and FLAGS[name].value and FLAGS.task not in of_tasks:
      raise ValueError(f'--{name} is for --task={" or ".join(of_tasks)}, not '
                       f'{FLAGS.task}')
  if FLAGS.task in _OF_TASK['input'] and not FLAGS.input:
    raise ValueError(f'--task={FLAGS.task} needs --input: song files')
  if FLAGS.task == 'voices':
    tasks.voices_of(FLAGS.given_voices)


def _endings() -> list[str]:
  """Returns the endings of --also_write."""
  endings = ['.' + name.strip().lower().removeprefix('.')
             for name in FLAGS.also_write or _LOOPED * FLAGS.loop]
  for ending in endings:
    if ending not in song_files.FORMATS:
      raise ValueError(f'--also_write={ending[1:]}: known are ' + ', '.join(
          known[1:] for known in song_files.FORMATS))
  return endings


def _config() -> sample.SamplingConfig:
  return models.from_flags(sample.SamplingConfig, 'sample_')


def _limits() -> tasks.Limits:
  return tasks.Limits(FLAGS.length, FLAGS.seconds, FLAGS.stop_at_eos)


def _asked(vocabulary) -> dict[int, int]:
  """Returns the prefix tokens that the flags ask for."""
  if vocabulary.name != 'tracker':
    for name in ('tempo', 'density', 'voices', 'song_length', 'repeats'):
      if FLAGS[name].present and FLAGS[name].value:
        raise ValueError(f'--{name} is for models of format tracker, not '
                         f'{vocabulary.name}')
    return {}
  return controls.asked(FLAGS.tempo, FLAGS.density, FLAGS.voices,
                        FLAGS.song_length)


def new_songs(model: sample.Model, n: int) -> Iterator[sample.Sample]:
  """Samples n songs from scratch, as the flags say."""
  task = tasks.new_song(model.vocabulary, _limits(), grammar=FLAGS.grammar,
                        asked=_asked(model.vocabulary), repeats=FLAGS.repeats)
  return _generate(model, [task], n=n)


def _songs_to_inputs(model: sample.Model, complain: Callable[[str], None]
                    ) -> Iterator[sample.Sample]:
  """Samples songs to each --input; calls `complain` for files of no use."""
  by_name = _read_tasks(model.vocabulary, complain)
  # The longest first, so that none is left alone in the end.
  names = sorted(by_name, key=lambda name: (-by_name[name].max_tokens, name))
  return _generate(model, [by_name[name] for name in names],
                   n=FLAGS.n_samples, names=names)


def _generate(model, of_tasks, **options) -> Iterator[sample.Sample]:
  """Samples, and shows the progress."""
  with progress.Progress('sampling', 'tokens') as shown:
    before = 0

    def show(tokens: int, of: int) -> None:
      nonlocal before
      shown.add(tokens - before)
      before = tokens

    yield from sample.generate(model, of_tasks, _config(), progress=show,
                               **options)


def _make_task(vocabulary, song) -> tasks.GenerationTask:
  """Returns the task of --task for one song of --input."""
  if FLAGS.task == 'rhythm':
    return tasks.rhythm(vocabulary, song, FLAGS.length, FLAGS.seconds,
                        repeats=FLAGS.repeats)
  if FLAGS.task == 'voices':
    return tasks.accompaniment(
        vocabulary, song, tasks.voices_of(FLAGS.given_voices), FLAGS.length,
        FLAGS.seconds, grammar=FLAGS.grammar, asked=_asked(vocabulary),
        repeats=FLAGS.repeats)
  return tasks.continuation(
      vocabulary, song, _limits(), prompt_events=FLAGS.prompt_events,
      prompt_seconds=FLAGS.prompt_seconds, grammar=FLAGS.grammar,
      asked=_asked(vocabulary), repeats=FLAGS.repeats)


def _read_tasks(vocabulary, complain: Callable[[str], None]
               ) -> dict[str, tasks.GenerationTask]:
  """Returns {name: task} of --input; calls `complain` for files of no use."""
  found = {}
  for source in FLAGS.input:
    try:
      named = song_files.name_songs([source])
    except (OSError, ValueError) as error:
      complain(str(error))
      continue
    if not named:
      complain(f'{source}: no song files here')
    for name, path in named.items():
      if name in found:
        complain(f'{path}: another input is named {name!r} too; rename one')
        continue
      try:
        song = song_files.read_song(path)
      except (OSError, ValueError) as error:
        complain(str(error))
        continue
      try:
        task = _make_task(vocabulary, song)
      except ValueError as error:
        complain(f'{path}: {error}')
        continue
      found[name] = dataclasses.replace(
          task, metadata={**task.metadata, 'source': str(path)})
  return found


def _finish(song: sample.Sample) -> sample.Sample:
  """Drops the prompt, ends at the loop point if asked to; warns."""
  n_written = int((~song.given).sum())
  if n_written >= song.metadata.get('max_events', n_written + 1) and (
      FLAGS.seconds or FLAGS.task == 'voices'):
    log.report(
        f'{song.name}: the model wrote {n_written} events, too many for the '
        'time, and was stopped; --grammar, another seed or temperature, or a '
        'larger --length may help')
  if FLAGS.without_prompt:
    song = song.generated()
  if not FLAGS.loop:
    return song
  looped = song.looped()
  if looped is None:
    log.report(f'{song.name}: it has no length, so no loop')
  elif not looped.metadata['loop_repeats']:
    log.report(f'{song.name}: no part of it comes again, so all of it is '
               'repeated')
  return looped or song
