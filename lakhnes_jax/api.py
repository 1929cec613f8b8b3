"""A model as a notebook or a script uses it; `lakhnes_jax.load` returns one."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lakhnes_jax import song as song_lib
from lakhnes_jax.generation import load as load_lib
from lakhnes_jax.generation import sample, tasks
from lakhnes_jax.tracker import controls
from lakhnes_jax.weights import weights_folder

# A song, its events, or the path of its file.
SongLike = song_lib.Song | np.ndarray | str | os.PathLike
_DRAWS = sample.RECOMMENDED
_TO_GIVEN = sample.RECOMMENDED_TO_GIVEN


def load(weights: str | os.PathLike | None = None, *,
         dtype: str | None = None, mem_len: int | None = None) -> 'Model':
  """Loads a model.

  Args:
    weights: a weights folder, its URL, or a run directory, of which the best
      checkpoint is taken; None for the pretrained model of the package.
    dtype: 'float32' or 'bfloat16', to compute in; None for that of training,
      but float32 on CPUs.
    mem_len: tokens that the model sees; None for as many as the weights say:
      where `export --mem_len` said nothing, as in training.

  Raises:
    OSError, ValueError: it is not there, or damaged, or of another kind.
  """
  return Model(load_lib.load(weights or weights_folder.PRETRAINED, dtype=dtype,
                             mem_len=mem_len))


class Model:
  """A model that writes songs.

  All methods take the same options beside their own:

  *   `n`: songs to write.
  *   `seed`: of the draws. Song i depends on the seed and i, not on n.
  *   `temperature`, `top_k`, `top_p`, `tail_p`, `context_weight`, `best_of`:
      how events are drawn, and of how many songs the model's critic takes one,
      see `lakhnes_jax.generation.sample.SamplingConfig`. Where a song is given,
      `tail_p` and `context_weight` are by default such that they keep nearer to
      it.
  *   `progress`: called with the number of tokens done and the most there can
      be.

  They return a list of `Song`s, and raise a ValueError where an option is out
  of range or a given song is of no use. The first call compiles a program,
  which takes some seconds; later calls for as many songs reuse it.

  Attributes:
    sampled: what is sampled from, a `lakhnes_jax.generation.sample.Model`.
  """

  def __init__(self, sampled: sample.Model):
    self.sampled = sampled

  def __repr__(self) -> str:
    config = self.sampled.model.config
    return (f'Model({self.sampled.vocabulary.name}, {config.n_layer} layers of '
            f'{config.d_model}, memory {self.sampled.mem_len})')

  @property
  def controls(self) -> tuple[str, ...]:
    """What can be asked of new songs: names of arguments of `generate`."""
    if self.sampled.vocabulary.name != 'tracker':
      return ()
    return 'tempo', 'density', 'voices', 'song_length'

  def generate(self, n: int = 1, *, seconds: float | None = None,
               length: int | None = None, stop_at_eos: bool = False,
               grammar: bool = True, tempo: str | float | None = None,
               density: float | None = None, voices: Sequence[str] = (),
               song_length: float | None = None, repeats: bool = True,
               **options: Any) -> list[song_lib.Song]:
    """Writes songs from scratch.

    Args:
      n: songs to write.
      seconds: length, exact to the sample.
      length: at most so many events; default: 1,024, or what `seconds` need.
      stop_at_eos: end a song also where the model draws <S>.
      grammar: mask events that real songs (nearly) never have.
      tempo, density, voices, song_length: what kind of song, for models of
        format tracker; see `lakhnes_jax.tracker.controls.asked`.
      repeats: bars come again as in a real song, for models of format tracker.
      **options: see `Model`.
    """
    task = tasks.new_song(
        self.sampled.vocabulary, tasks.Limits(length, seconds, stop_at_eos),
        grammar=grammar, asked=controls.asked(tempo, density, voices,
                                              song_length), repeats=repeats)
    return self._sample(task, n, '', **options)

  def continue_song(self, song: SongLike, n: int = 1, *,
                    seconds: float | None = None, length: int | None = None,
                    prompt_events: int | None = None,
                    prompt_seconds: float | None = None,
                    stop_at_eos: bool = False, grammar: bool = True,
                    repeats: bool = True,
                    **options: Any) -> list[song_lib.Song]:
    """Continues the beginning of a song.

    Args:
      song: what to continue.
      n: songs to write.
      seconds: of what is added, exact to the sample.
      length: events to add at most; default: 512, or what `seconds` need.
      prompt_events: events of the song to keep; default: 512.
      prompt_seconds: or seconds of it.
      stop_at_eos: end also where the model draws <S>.
      grammar: mask events that real songs (nearly) never have.
      repeats: as of `generate`; those of the given bars too.
      **options: see `Model`.
    """
    return self._sample_to(song, n, lambda events: tasks.continuation(
        self.sampled.vocabulary, events,
        tasks.Limits(length, seconds, stop_at_eos), prompt_events=prompt_events,
        prompt_seconds=prompt_seconds, grammar=grammar, repeats=repeats),
                           **options)

  def new_pitches(self, song: SongLike, n: int = 1, *,
                  length: int | None = None, seconds: float | None = None,
                  repeats: bool = True, **options: Any) -> list[song_lib.Song]:
    """Keeps the rhythm and the noise voice of a song, and rewrites the pitches.

    Args:
      song: whose rhythm is kept.
      n: songs to write.
      length: use only so many of its events.
      seconds: use only so much of it.
      repeats: a voice's bars that are the same stay the same, for models of
        format tracker.
      **options: see `Model`.
    """
    return self._sample_to(song, n, lambda events: tasks.rhythm(
        self.sampled.vocabulary, events, length, seconds, repeats=repeats),
                           **options)

  def accompany(self, song: SongLike, voices: Sequence[str], n: int = 1, *,
                length: int | None = None, seconds: float | None = None,
                grammar: bool = True, repeats: bool = True,
                **options: Any) -> list[song_lib.Song]:
    """Keeps some voices of a song, sample-exact, and writes the others.

    Args:
      song: whose voices are kept.
      voices: names of those, one to three of 'p1', 'p2', 'tr', 'no'.
      n: songs to write.
      length: use only so many events of the song.
      seconds: use only so much of it.
      grammar: mask events that real songs (nearly) never have.
      repeats: as of `generate`; as in songs whose other voices repeat bars as
        these do.
      **options: see `Model`.
    """
    numbers = tasks.voices_of(
        [voices] if isinstance(voices, str) else list(voices))
    return self._sample_to(song, n, lambda events: tasks.accompaniment(
        self.sampled.vocabulary, events, numbers, length, seconds,
        grammar=grammar, repeats=repeats), **options)

  def _sample_to(self, song: SongLike, n: int,
                 make_task: Callable[[np.ndarray], tasks.GenerationTask],
                 **options: Any) -> list[song_lib.Song]:
    if isinstance(song, str | os.PathLike):
      song = song_lib.read_song(song)
    options = {'tail_p': _TO_GIVEN.tail_p,
               'context_weight': _TO_GIVEN.context_weight, **options}
    name, events = ((song.name, song.events) if isinstance(song, song_lib.Song)
                    else ('song', np.asarray(song)))
    return self._sample(make_task(events), n, name, **options)

  def _sample(self, task: tasks.GenerationTask, n: int, name: str, *,
              seed: int = _DRAWS.seed, temperature: float = _DRAWS.temperature,
              top_k: int = _DRAWS.top_k, top_p: float = _DRAWS.top_p,
              tail_p: float = _DRAWS.tail_p,
              context_weight: float = _DRAWS.context_weight,
              best_of: int | None = _DRAWS.best_of,
              progress: Callable[[int, int], Any] = lambda tokens, of: None
             ) -> list[song_lib.Song]:
    config = sample.SamplingConfig(
        temperature=temperature, top_k=top_k, top_p=top_p, tail_p=tail_p,
        context_weight=context_weight, seed=seed, best_of=best_of)
    return [song_lib.Song(made.events, made.name, made.summary())
            for made in sample.generate(self.sampled, [task], config, n=n,
                                        names=[name], progress=progress)]
