"""What a musician asks of a model: new songs, and four uses of given ones.

A task holds all that one song needs, whatever the model: the constraint that
steers it, the constraint's initial state, and how the tokens become a song with
exact times. A given song loses one wait at either end before the model reads
it, as in training; the result gets them back.

Source: LakhNES (Donahue et al., ISMIR 2019), sections 5 and 6, for new songs,
continuation and rhythm accompaniment. Voice accompaniment is our own.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lakhnes_jax import events as ev
from lakhnes_jax import ranges
from lakhnes_jax.data import augment
from lakhnes_jax.generation import constraints
from lakhnes_jax.generation.task import (
    DEFAULT_CONTINUATION,
    DEFAULT_LENGTH,
    GeneratedSong,
    GenerationTask,
    Limits,
    max_events_in,
)
from lakhnes_jax.tracker import tasks as tracker_tasks

PROMPT_EVENTS = 512


class Prompt(NamedTuple):
  """A given song: what the model reads, and what comes before and after.

  Attributes:
    lead, trail: the waits that the model does not read.
    events: int32, the rest.
    ids: of the events.
  """
  lead: np.ndarray
  events: np.ndarray
  trail: np.ndarray
  ids: np.ndarray

  def restore(self, song: GeneratedSong) -> GeneratedSong:
    """Puts lead and trail back."""
    n_lead, n_trail = len(self.lead), len(self.trail)
    return GeneratedSong(
        np.concatenate([self.lead, song.events, self.trail]).astype(np.int32),
        np.pad(song.given, (n_lead, n_trail), constant_values=True),
        np.pad(song.tokens, (n_lead, n_trail), constant_values=-1))


def _read_prompt(vocabulary: ev.Vocabulary, song: np.ndarray,
                 events: int | None,
                 seconds: float | None) -> Prompt:
  """Prepares a given song, or its beginning.

  Raises:
    ValueError: nothing happens there.
  """
  limits = Limits(events, seconds)
  song = ev.truncate(vocabulary.project(np.asarray(song)), limits.samples)
  trimmed = augment.trim(song)
  lead = song[:1][song[:1] >= 0]
  trail = song[len(lead) + len(trimmed):]
  if events is not None and events < len(trimmed):
    trimmed, trail = trimmed[:events], trail[:0]
  if not (trimmed < 0).any():
    raise ValueError(
        'the song is empty: nothing is played' +
        (f' in the first {seconds} seconds' if seconds is not None else '') +
        '; give one with notes')
  return Prompt(lead, trimmed, trail, vocabulary.encode(trimmed))


def _chain(vocabulary: ev.Vocabulary, grammar: bool, *parts
          ) -> constraints.Chain:
  """Chains constraints, with the grammar as the last if asked for."""
  return constraints.Chain(
      (*parts, *([constraints.Grammar(vocabulary)] * grammar)))


def _states(chain: constraints.Chain, *states) -> tuple[Any, ...]:
  """Adds the state of the grammar, where there is one."""
  return (*states, *(c.init_state() for c in chain.constraints[len(states):]))


def _refuse(vocabulary: ev.Vocabulary, asked: Mapping[int, int] | None) -> None:
  """Raises a ValueError if something is asked for."""
  if asked:
    raise ValueError(f'a model of format {vocabulary.name} cannot be asked for '
                     'tempo, density, length or voices; take one of format '
                     'tracker')


def new_song(vocabulary: ev.Vocabulary, limits: Limits = Limits(), *,
             grammar: bool = False,
             asked: Mapping[int, int] | None = None,
             repeats: bool = True) -> GenerationTask:
  """Returns the task of a song from scratch.

  Args:
    vocabulary: of the model.
    limits: of the song; by default 1,024 events.
    grammar: see `constraints.Grammar`. In the format `tracker` its own grammar
      always holds, in all tasks.
    asked: in the format `tracker`, {kind of prefix token: value}; see
      `tracker.controls`.
    repeats: in the format `tracker`, whether bars come again as in a real song,
      whose form is drawn; its delays are the only ones then. See
      `tracker.repeats`.

  Raises:
    ValueError: what is asked for has no token.
  """
  if vocabulary.name == 'tracker':
    return tracker_tasks.new_song(vocabulary, limits, asked, repeats)
  _refuse(vocabulary, asked)
  max_events = limits.max_events(DEFAULT_LENGTH)
  stopping = constraints.StoppingCriterion(vocabulary, limits.stop_at_eos)
  chain = _chain(vocabulary, grammar, stopping)

  def assemble(ids):
    events = ev.truncate(vocabulary.decode(ids), limits.samples)
    return GeneratedSong(events, np.zeros(len(events), bool),
                         np.arange(len(events)))

  return GenerationTask(
      vocabulary, chain,
      _states(chain, stopping.init_state(max_events, limits.samples)),
      np.zeros(0, np.int32), max_events, assemble,
      {'task': 'new', 'grammar': grammar, 'max_events': max_events})


def continuation(vocabulary: ev.Vocabulary, song: np.ndarray,
                 limits: Limits = Limits(), *,
                 prompt_events: int | None = None,
                 prompt_seconds: float | None = None,
                 grammar: bool = False,
                 asked: Mapping[int, int] | None = None,
                 repeats: bool = True) -> GenerationTask:
  """Returns the task of continuing the beginning of a song.

  Args:
    vocabulary: of the model.
    song: int32 song (see `events`).
    limits: of what is added; by default 512 events.
    prompt_events: events of the song that are kept, the first wait not counted;
      by default 512, or those within `prompt_seconds`.
    prompt_seconds: seconds of the song that are kept.
    grammar: see `constraints.Grammar`.
    asked, repeats: as of `new_song`.

  Raises:
    ValueError: the prompt is empty, or what is asked for is not to be had.
  """
  if prompt_events is None and prompt_seconds is None:
    prompt_events = PROMPT_EVENTS
  ranges.check(prompt_events=prompt_events, prompt_seconds=prompt_seconds)
  if vocabulary.name == 'tracker':
    return tracker_tasks.continuation(vocabulary, song, limits, prompt_events,
                                      prompt_seconds, asked, repeats)
  _refuse(vocabulary, asked)
  prompt = _read_prompt(vocabulary, song, prompt_events, prompt_seconds)
  if prompt_seconds is not None:  # The pause at its end is part of it.
    events = np.concatenate([prompt.events, prompt.trail])
    prompt = prompt._replace(events=events, ids=vocabulary.encode(events))
  prompt = prompt._replace(trail=prompt.trail[:0])
  n_prompt = len(prompt.ids)
  max_events = limits.max_events(DEFAULT_CONTINUATION)
  max_tokens = n_prompt + max_events
  read = int(ev.times_of(vocabulary.decode(prompt.ids))[-1])
  forced = constraints.ForcedTokens(vocabulary)
  stopping = constraints.StoppingCriterion(vocabulary, limits.stop_at_eos)
  chain = _chain(vocabulary, grammar, forced, stopping)

  def assemble(ids):
    added = ev.truncate(vocabulary.decode(ids[n_prompt:]), limits.samples)
    events = np.concatenate([prompt.events, added])
    number = np.arange(len(events))
    return prompt.restore(GeneratedSong(events, number < n_prompt, number))

  return GenerationTask(
      vocabulary, chain, _states(
          chain, forced.init_state(np.append(prompt.ids, constraints.ANY)),
          stopping.init_state(max_tokens, read + limits.samples)),
      prompt.ids, max_tokens, assemble,
      {'task': 'continue', 'prompt_events': n_prompt, 'grammar': grammar,
       'max_events': max_events})


def rhythm(vocabulary: ev.Vocabulary, song: np.ndarray,
           events: int | None = None, seconds: float | None = None, *,
           repeats: bool = True) -> GenerationTask:
  """Returns the task of new pitches for the rhythm of a song.

  P1, P2 and TR get them. Everything else stays: waits, NOTEOFFs, dynamics and
  the noise voice.

  Args:
    vocabulary: of the model.
    song: int32 song (see `events`).
    events: only its first N, the first wait not counted.
    seconds: only its beginning.
    repeats: in the format `tracker`, whether a voice's bars that are the same
      stay the same.

  Raises:
    ValueError: the song has no note that could get another pitch.
  """
  if vocabulary.name == 'tracker':
    return tracker_tasks.rhythm(vocabulary, song, events, seconds, repeats)
  prompt = _read_prompt(vocabulary, song, events, seconds)
  voice = ev.voice_of(prompt.events)
  is_open = (ev.kind_of(prompt.events) == ev.NOTEON) & (voice != ev.NO)
  if not is_open.any():
    raise ValueError('P1, P2 and TR play no note here, so there is no rhythm '
                     'to find pitches for')
  forced = constraints.ForcedTokens(vocabulary)
  chain = _chain(vocabulary, False, forced)

  def assemble(ids):
    played = np.where(is_open, vocabulary.events[ids], prompt.events)
    return prompt.restore(GeneratedSong(played, ~is_open, np.arange(len(ids))))

  return GenerationTask(
      vocabulary, chain, (forced.init_state(np.append(
          np.where(is_open, -1 - voice, prompt.ids), ev.BOS_EOS)),),
      prompt.ids[:int(np.argmax(is_open))], len(prompt.ids), assemble,
      {'task': 'rhythm'})


def voices_of(names: Sequence[str]) -> tuple[int, ...]:
  """Reads the names of voices, as in ['p1', 'tr'].

  Raises:
    ValueError: there is no such voice; or none, or all are named.
  """
  known = [voice.name.lower() for voice in ev.VOICES]
  found = set()
  for name in names:
    if name.strip().lower() not in known:
      raise ValueError(f'{name!r:.40} is no voice; expected some of '
                       f'{", ".join(known)}')
    found.add(known.index(name.strip().lower()))
  if not 0 < len(found) < len(known):
    raise ValueError(
        f'{"all" if found else "no"} voices are given: name one to three of '
        f'{", ".join(known)}, and the model writes the others')
  return tuple(sorted(found))


def accompaniment(vocabulary: ev.Vocabulary, song: np.ndarray,
                  voices: Sequence[int], events: int | None = None,
                  seconds: float | None = None, *,
                  grammar: bool = False,
                  asked: Mapping[int, int] | None = None,
                  repeats: bool = True) -> GenerationTask:
  """Returns the task of the other voices to some voices of a song.

  Args:
    vocabulary: of the model.
    song: int32 song (see `events`).
    voices: those given, one to three of 0 to 3, which are kept sample-exact.
      Of the others only the time counts at which they end.
    events: only the first N of the song, the first wait not counted.
    seconds: only its beginning.
    grammar: see `constraints.Grammar`.
    asked, repeats: as of `new_song`.

  Raises:
    ValueError: these voices are silent in the song, or what is asked for is not
      to be had.
  """
  if vocabulary.name == 'tracker':
    return tracker_tasks.accompaniment(vocabulary, song, voices, events,
                                       seconds, asked, repeats)
  _refuse(vocabulary, asked)
  names = [ev.VOICES[voice].name.lower() for voice in voices]
  prompt = _read_prompt(vocabulary, song, events, seconds)
  its_voices = ev.voice_of(prompt.events)
  is_given = np.isin(its_voices, list(voices))
  if not is_given.any():
    raise ValueError(f'{" and ".join(names)} play nothing here; those that '
                     'do: ' + ', '.join(ev.VOICES[voice].name.lower()
                                        for voice in np.unique(its_voices)
                                        if voice >= 0))
  all_times = ev.times_of(prompt.events)
  times, end = all_times[is_given], int(all_times[-1])
  if end >= constraints.NO_LIMIT:
    raise ValueError('the song is longer than 13 hours')
  n_free = max_events_in(end)
  infilling = constraints.VoiceInfilling(vocabulary)
  chain = _chain(vocabulary, grammar, infilling)
  return GenerationTask(
      vocabulary, chain, _states(chain, infilling.init_state(
          times, prompt.ids[is_given], end, voices, n_free)),
      np.zeros(0, np.int32),
      # A wait may end at each given event, and there are long pauses.
      n_free + 2 * len(times) + end // int(ev.WAITS[-1]) + 2,
      functools.partial(_assemble_infilling, prompt, vocabulary,
                        tuple(voices), np.append(times, end)),
      {'task': 'voices', 'given_voices': names, 'grammar': grammar,
       'max_events': n_free})


def _assemble_infilling(prompt: Prompt, vocabulary: ev.Vocabulary,
                            voices: tuple[int, ...], times: np.ndarray,
                            ids: np.ndarray) -> GeneratedSong:
  """Gives the waits that end at given events their exact length."""
  song = vocabulary.events[ids].copy()
  given = np.isin(ev.voice_of(song), voices)
  now = n_played = 0  # Of the given events.
  for i, event in enumerate(song.tolist()):
    if event >= 0:
      rest = int(times[n_played]) - now
      if rest <= ev.WAITS[-1] and ids[i] == vocabulary.encode([rest])[0]:
        song[i], given[i] = rest, True
      now += int(song[i])
    else:
      n_played += bool(given[i])
  return prompt.restore(GeneratedSong(song, given, np.arange(len(ids))))
