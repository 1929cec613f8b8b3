"""What the page asks for: checked, and put to the model."""

import dataclasses
import random
from collections.abc import Callable
from typing import Any

from lakhnes_jax import api, ranges, schema
from lakhnes_jax.generation import sample, tasks
from lakhnes_jax.song import Song
from lakhnes_jax.tracker import controls

LONGEST = 600  # Seconds; a page's slider has less.
# Task -> what it is called, and how the name of its file reads there.
_TITLES = {'new': 'New song', 'continue': 'Continuation of {}',
           'rhythm': 'New pitches for {}', 'voices': 'New voices for {}'}
_NUMBER = ranges.SAMPLING
_ALL = {'task': str, 'seconds': _NUMBER['seconds']._replace(high=LONGEST),
        'temperature': _NUMBER['temperature'], 'seed?': _NUMBER['seed']}
_GIVEN = {**_ALL, 'prompt': int}
# What each task can be asked with, and nothing else.
_SCHEMAS = {
    'new': _ALL,
    'continue': {**_GIVEN, 'prompt_seconds': _NUMBER['prompt_seconds']},
    'rhythm': _GIVEN, 'voices': {**_GIVEN, 'given_voices': [str]}}
_CONTROLS = {'tempo': float, 'density': _NUMBER['density'], 'voices': [str],
             'song_length': _NUMBER['song_length']}
# Tokens per second of music, about, for the progress bar alone.
_RATES = {'tx1': 58, 'tx2': 150, 'tracker': 28}


@dataclasses.dataclass(frozen=True)
class Request:
  """One song that is asked for.

  Attributes:
    task: 'new', 'continue', 'rhythm' or 'voices'.
    song: the given one; None for new songs.
    options: of the method of `lakhnes_jax.Model` that makes it.
  """
  task: str
  song: Song | None
  options: dict[str, Any]

  @property
  def title(self) -> str:
    name = _TITLES[self.task].format(self.song.name if self.song else '')
    return (f'{name}, {self.options["seconds"]:g} s, '
            f'seed {self.options["seed"]}')

  def expected_tokens(self, model: api.Model) -> float:
    """Returns about how many tokens a model draws, of all songs for this."""
    sampled = model.sampled
    return _RATES[sampled.vocabulary.name] * sample.best_of(sampled) * (
        self.options['seconds'] + self.options.get('prompt_seconds', 0))

  def write(self, model: api.Model, progress: Callable[[int, int], Any]
           ) -> Song:
    """Has the song written; see `lakhnes_jax.Model` for `progress`.

    Raises:
      ValueError: an option is out of range, or the given song is of no use.
    """
    options = {**self.options, 'progress': progress}
    if self.task == 'new':
      made = model.generate(**options)
    elif self.task == 'continue':
      made = model.continue_song(self.song, **options)
    elif self.task == 'rhythm':
      made = model.new_pitches(self.song, **options)
    else:
      made = model.accompany(self.song, **options)
    return made[0]


def parse(data: bytes, model: api.Model, song_of: Callable[[int], Song]
         ) -> Request:
  """Reads what the page sends.

  Args:
    data: JSON.
    model: which is asked.
    song_of: returns an uploaded song by its number.

  Raises:
    ValueError: it is not what the page sends, or the model cannot do it.
    KeyError: of `song_of`.
  """
  value = schema.parse(data, {'task': str})
  task = value['task']
  if task not in _TITLES:
    raise ValueError(f'task: expected one of {", ".join(_TITLES)}')
  if task != 'new' and 'prompt' not in value:
    raise ValueError('choose a song file first')
  schema.check(value, _SCHEMAS[task] | ({
      f'{name}?': _CONTROLS[name] for name in model.controls
  } if task == 'new' else {}), others=False)
  options = {'seed': random.randrange(10**6)} | {
      name: value[name] for name in value.keys() - {'task', 'prompt'}}
  if task == 'new':
    controls.asked(**{name: value[name] for name in value.keys() & _CONTROLS})
  elif task == 'voices':
    options['voices'] = options.pop('given_voices')
    tasks.voices_of(options['voices'])
  return Request(task, None if task == 'new' else song_of(value['prompt']),
                 options)
