"""What `experiments.run --mode=sample` does: songs, new or to given ones."""

import dataclasses
import pathlib
import time

from absl import flags

TASKS = ('new', 'continue', 'rhythm', 'voices')

_TASK = flags.DEFINE_enum(
    'task', 'new', TASKS, 'new: songs from nothing. continue: --input goes on. '
    'rhythm: new pitches to the rhythm of --input. voices: the other voices to '
    '--given_voices of --input.')
_INPUT = flags.DEFINE_multi_string(
    'input', [], 'Song file (.mid, .tx1.txt, .vgm, ...), folder or pattern; '
    'give the flag again for more.')
_N_SAMPLES = flags.DEFINE_integer(
    'n_samples', 4, 'Songs to sample, of each input.')
_SAMPLE_BATCH = flags.DEFINE_integer(
    'sample_batch', 32, 'Songs at once; each takes memory.')
_LENGTH = flags.DEFINE_integer(
    'length', None, 'Events: of a new song (default 1024), of what is added to '
    'one (512), or of the beginning of --input to be used (all).')
_SECONDS = flags.DEFINE_float(
    'seconds', None, 'Seconds, exactly: of the same.')
_END_AT_START = flags.DEFINE_bool(
    'end_at_start', False, 'End a song where the model draws <S>, which stands '
    'between songs; else it is never drawn, as in the paper.')
_INT8 = flags.DEFINE_bool(
    'int8', False, "Round the model's kernels to 8 bits: a third faster for "
    'one song of a large model.')
_TEMPERATURE = flags.DEFINE_float('temperature', 0.95,
                                   '0: always the likeliest.')
_TOP_K = flags.DEFINE_integer('top_k', 32,
                              'Only the likeliest so many; 0: all.')
_TOP_P = flags.DEFINE_float(
    'top_p', 1., 'Only the likeliest that add up to this; 1: all.')
_GRAMMAR = flags.DEFINE_bool(
    'grammar', False, 'Forbid what real songs hardly ever do: a NOTEOFF in '
    'silence, two notes of a voice at once, more than two seconds of silence, '
    'notes too fast to be heard.')
_PRIME_EVENTS = flags.DEFINE_integer(
    'prime_events', None, 'For continue: events of --input to keep; default: '
    '512, or those of --prime_seconds.')
_PRIME_SECONDS = flags.DEFINE_float(
    'prime_seconds', None, 'For continue: seconds of --input to keep.')
_WITHOUT_PRIME = flags.DEFINE_bool(
    'without_prime', False, 'For continue: write only what was added.')
_GIVEN_VOICES = flags.DEFINE_list(
    'given_voices', [], 'For voices: those that stay, as in p1,tr.')
# Which tasks a flag belongs to, where not to all.
_OF_TASK = {
    'input': TASKS[1:], 'end_at_start': TASKS[:2],
    'prime_events': TASKS[1:2], 'prime_seconds': TASKS[1:2],
    'without_prime': TASKS[1:2], 'given_voices': TASKS[3:],
    'grammar': ('new', 'continue', 'voices')}
_PROGRESS_EVERY = 10  # Seconds.


def settings(seed: int):
  from lakhnes_jax.generation import sample
  return sample.Settings(_TEMPERATURE.value, _TOP_K.value, _TOP_P.value, seed,
                         _SAMPLE_BATCH.value, _INT8.value)


def new_songs(model, n: int, seed: int):
  """Samples n songs from nothing, as the flags say."""
  from lakhnes_jax.generation import sample
  from lakhnes_jax.generation import tasks as tasks_lib
  plan = tasks_lib.new_song(
      model.vocabulary,
      tasks_lib.Limits(_LENGTH.value, _SECONDS.value, _END_AT_START.value),
      grammar=_GRAMMAR.value)
  return sample.songs(model, [plan], settings(seed), n=n, progress=_Progress())


def check_format(meta: dict, asked: str | None):
  """Returns the vocabulary of a model.

  Args:
    meta: of its weights.
    asked: --format, if it was given.

  Raises:
    ValueError: it has another one than was asked for, or none that we know.
  """
  from lakhnes_jax import vocabularies
  name, size = meta['format'], meta['config'].get('n_token')
  vocabulary = (vocabularies.get(name) if name in vocabularies.NAMES else None)
  if vocabulary is None or vocabulary.size != size:
    raise ValueError(
        f'the model has {size} tokens of format {name!r}; we know ' +
        ' and '.join(f'{v.name} with {v.size}'
                     for v in map(vocabularies.get, vocabularies.NAMES)) +
        '. It was made with another vocabulary and cannot be used here')
  if asked and asked != name:
    raise ValueError(f'--format={asked}, but the model was trained on {name}; '
                     'leave --format out, or take another model')
  return vocabulary


class _Progress:
  """Tells now and then how far a batch is."""

  def __init__(self):
    self._told = time.monotonic()

  def __call__(self, tokens: int, of: int) -> None:
    from lakhnes_jax.training import log
    if time.monotonic() - self._told > _PROGRESS_EVERY:
      self._told = time.monotonic()
      log.report(f'{tokens} of at most {of} events')


def _check_flags() -> None:
  """Raises a ValueError where flags do not go together."""
  task = _TASK.value
  for name, tasks in _OF_TASK.items():
    if flags.FLAGS[name].present and flags.FLAGS[name].value and (
        task not in tasks):
      raise ValueError(f'--{name} is for --task={" or ".join(tasks)}, not '
                       f'{task}')
  if task in _OF_TASK['input'] and not _INPUT.value:
    raise ValueError(f'--task={task} needs --input: song files')
  if _N_SAMPLES.value < 1:
    raise ValueError(f'--n_samples={_N_SAMPLES.value}: expected 1 or more')


def _plans(vocabulary, complain) -> dict:
  """Returns {name: plan} of --input; complains of files that have none."""
  from lakhnes_jax.formats import song_files
  from lakhnes_jax.generation import tasks as tasks_lib
  length, seconds = _LENGTH.value, _SECONDS.value
  limits = tasks_lib.Limits(length, seconds, _END_AT_START.value)
  voices = (tasks_lib.voices_of(_GIVEN_VOICES.value) if _TASK.value == 'voices'
            else ())

  def plan(song):
    if _TASK.value == 'rhythm':
      return tasks_lib.rhythm(vocabulary, song, length, seconds)
    if _TASK.value == 'voices':
      return tasks_lib.accompaniment(vocabulary, song, voices, length, seconds,
                                 grammar=_GRAMMAR.value)
    return tasks_lib.continuation(
        vocabulary, song, limits, prime_events=_PRIME_EVENTS.value,
        prime_seconds=_PRIME_SECONDS.value, grammar=_GRAMMAR.value)

  found = {}
  for source in _INPUT.value:
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
        made = plan(song)
        found[name] = dataclasses.replace(
            made, about={**made.about, 'source': str(path)})
      except ValueError as error:
        complain(f'{path}: {error}')
  return found


def run(model, out_dir: pathlib.Path, seed: int) -> bool:
  """Makes and writes songs as the flags say.

  Args:
    model: a `sample.Model`.
    out_dir: where they go.
    seed: of the draws.

  Returns:
    whether every input gave its songs; what was wrong is on stderr.

  Raises:
    ValueError: flags do not go together, or a value is out of range.
  """
  from lakhnes_jax.generation import sample
  from lakhnes_jax.training import log
  _check_flags()
  if _TASK.value == 'new':
    made = new_songs(model, _N_SAMPLES.value, seed)
    complaints = []
  else:
    complaints = []

    def complain(line: str) -> None:
      complaints.append(line)
      log.report(f'experiments.run: {line}')

    plans = _plans(model.vocabulary, complain)
    # Songs of about one length at once.
    order = sorted(plans, key=lambda name: (plans[name].max_tokens, name))
    made = sample.songs(
        model, [plans[name] for name in order], settings(seed),
        n=_N_SAMPLES.value, names=order, progress=_Progress())
  sample.write(map(_as_asked, made), out_dir, model.vocabulary)
  return not complaints


def _as_asked(song):
  """Tells of a song that came out too short; leaves out the prime if asked."""
  from lakhnes_jax.training import log
  n_written = int((~song.given).sum())
  if n_written >= song.about.get('max_events', n_written + 1) and (
      _SECONDS.value or _TASK.value == 'voices'):
    log.report(
        f'{song.name}: the model wrote {n_written} events, too many for the '
        'time, and was stopped; --grammar, another seed or temperature, or a '
        'larger --length may help')
  return song.generated() if _WITHOUT_PRIME.value else song
