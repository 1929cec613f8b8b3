"""What a musician asks of a model of the format `tracker`.

As `lakhnes_jax.generation.tasks`, whose functions call these. Whatever is
given stays in the song to the sample; the model reads its pattern, which says
it by frame, and what the model adds lies on the song's own frames. (PAL songs
and others with another clock get NTSC frames: see `frames.starts_of`.)

Source: LakhNES (Donahue et al., ISMIR 2019), sections 5 and 6, for new songs,
continuation and rhythm accompaniment. Voice accompaniment is our own.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np

from lakhnes_jax import events as ev
from lakhnes_jax.generation import task as tasks
from lakhnes_jax.synth import score as score_lib
from lakhnes_jax.tracker import form, grammar, infilling, repeated_pitches
from lakhnes_jax.tracker import frames as frames_lib
from lakhnes_jax.tracker import pattern as pattern_lib
from lakhnes_jax.tracker import prompt as prompt_lib
from lakhnes_jax.tracker import repeats as repeats_lib
from lakhnes_jax.tracker import vocabulary as voc

Asked = Mapping[int, int]  # {kind of prefix token: value}.
# Forms among which one is drawn where something is given: those whose bars last
# most nearly as long, and of these those that agree best with it.
_OF_TEMPO, _OF_FORM = 256, 16


def new_song(vocabulary: voc.Tracker, limits: tasks.Limits,
             asked: Asked | None = None, repeats: bool = True
             ) -> tasks.GenerationTask:
  """Returns the task of a song from scratch; see `generation.tasks`.

  With a limit of seconds the song lasts exactly so long, unless the model draws
  <S> or runs out of tokens before; it is then written as one that lasts so long
  or longer, unless a length is asked for. It has no NUDGEs, which are a game's
  lag, and with `repeats` no DELAYs but those that the song of its form has.
  """
  asked = dict(asked or {})
  max_tokens = limits.max_events(tasks.DEFAULT_LENGTH)
  rules = grammar.Rules(vocabulary, limits.stop_at_eos)
  end, length = grammar.NO_LIMIT, 0
  if limits.seconds is not None:
    end = int(np.ceil(limits.samples / frames_lib.FRAME))
    length = voc.bin_of(limits.seconds, voc.LENGTHS)

  def assemble(ids):
    song, tokens = vocabulary.decode_with_tokens(ids)
    events = ev.truncate(song, limits.samples)
    return tasks.GeneratedSong(events, np.zeros(len(events), bool),
                               tokens[:len(events)])

  task = tasks.GenerationTask(
      vocabulary, rules, rules.init_state(
          max_tokens, asked=asked, end=end, length=length, nudges=False),
      np.zeros(0, np.int32), max_tokens, assemble,
      {'task': 'new', 'grammar': True, 'max_tokens': max_tokens,
       'asked': _names(asked), 'repeats': repeats})
  return _with_repeats(task, form.default(), delays=True) if repeats else task


def _with_repeats(task: tasks.GenerationTask, forms: form.Forms, *,
                  delays: bool = False, longest: np.ndarray | None = None
                 ) -> tasks.GenerationTask:
  """Lets bars come again, as in a form that is drawn for each song."""
  writer = repeats_lib.Repeats(task.constraint)
  return dataclasses.replace(
      task, constraint=writer,
      state=writer.init_state(task.state, task.max_tokens, longest=longest),
      vary=functools.partial(writer.draw_form, forms, delays=delays))


def _forms_like(own: form.Form, asked: Asked, *, end: int | None = None,
                voices: Sequence[int] = range(4)) -> form.Forms:
  """Returns forms like one of these voices, up to bar `end`, with all asked."""
  forms = form.default().having(asked[voc.VOICES], _OF_TEMPO)
  return forms.nearest(own.frames, _OF_TEMPO).agreeing(
      own.source[:, :end], own.how[:, :end], _OF_FORM, voices)


def _names(asked: Asked) -> dict[str, int]:
  return {voc.KIND_NAMES[kind].lower(): value for kind, value in asked.items()}


def continuation(vocabulary: voc.Tracker, song: np.ndarray,
                 limits: tasks.Limits, prompt_events: int | None,
                 prompt_seconds: float | None, asked: Asked | None = None,
                 repeats: bool = True) -> tasks.GenerationTask:
  """Returns the task of continuing the beginning of a song.

  The prefix says length, density and voices of the whole given song, or what
  is asked for; bar and tempo are those of what is kept. A DELAY that it has
  fewer than three times is not drawn, nor NUDGEs if it has fewer. With
  `repeats` the form is one of those that repeat bars of what is kept as it does
  itself.

  Raises:
    ValueError: the prompt is empty, or another tempo or bar is asked for.
  """
  asked = dict(asked or {})
  if asked.keys() & {voc.TEMPO, voc.BAR}:
    raise ValueError('a song is continued in its own tempo; leave --tempo out')
  prompt = prompt_lib.read(vocabulary, song, prompt_events, tasks.Limits(
      None, prompt_seconds).samples)
  asked.setdefault(voc.VOICES, ev.voice_bits(ev.voice_of(song[song < 0])))
  asked[voc.VOICES] |= ev.voice_bits(prompt.pattern.voice)
  if voc.LENGTH not in asked:
    samples = max(int(ev.times_of(song)[-1]), prompt.length + (
        limits.samples if limits.seconds is not None else 0))
    asked[voc.LENGTH] = voc.bin_of(samples / ev.SAMPLE_RATE, voc.LENGTHS)
  ids = prompt.ids.copy()
  for kind, value in asked.items():
    ids[kind - voc.LENGTH] = vocabulary.id_of(kind, value)
  prompt = prompt._replace(ids=ids)
  max_tokens = len(ids) + limits.max_events(tasks.DEFAULT_CONTINUATION)
  rules = grammar.Rules(vocabulary, limits.stop_at_eos)
  end = grammar.NO_LIMIT
  if limits.seconds is not None:
    end = int(prompt.frames_of([prompt.length + limits.samples - 1])[0]) + 1
  kind, _, value = (x[prompt.ids] for x in vocabulary.table)
  state = rules.init_state(
      max_tokens, given=ids, begin=int(prompt.frames_of([prompt.length])[0]),
      end=end, delays=_frequent(value[kind == voc.DELAY]),
      nudges=(kind == voc.NUDGE).sum() >= form.OFTEN)
  task = tasks.GenerationTask(
      vocabulary, rules, state, ids, max_tokens,
      functools.partial(_assemble_continuation, prompt, vocabulary, limits),
      {'task': 'continue', 'prompt_events': len(prompt.song), 'grammar': True,
       'max_tokens': max_tokens - len(ids), 'asked': _names(asked),
       'repeats': repeats})
  if not repeats:
    return task
  # The last bar may not be over.
  own = form.of_pattern(prompt.pattern)
  return _with_repeats(task, _forms_like(own, asked, end=-1),
                       longest=own.longest)


def _frequent(delays: np.ndarray) -> np.ndarray:
  """Returns those that are there often."""
  values, times = np.unique(delays, return_counts=True)
  return values[times >= form.OFTEN]


def _assemble_continuation(prompt: prompt_lib.Prompt, vocabulary: voc.Tracker,
                           limits: tasks.Limits, ids: np.ndarray
                          ) -> tasks.GeneratedSong:
  """Adds what the voices do in the frames after the prompt's end."""
  n_given, length = len(prompt.ids), prompt.length
  state, token = vocabulary.read(ids).render(vocabulary.codebook)
  first = int(prompt.frames_of([length])[0])
  given = prompt.tokens_of(token)
  given[given >= n_given] = -1
  # The state at the end, with what happens at that very sample.
  now = score_lib.from_events(np.append(prompt.song, 1)).state[-1:]
  state, token = state[first:].copy(), token[first:].copy()
  edges = prompt.samples_of(first + np.arange(len(state) + 1))
  # In the frame that the prompt ends in, its notes have had their say.
  if len(state):
    old = token[0] < n_given
    state[0, old], token[0, old] = now[0, old], -1
  edges = np.clip(edges, length, length + limits.samples) - length + 1
  added, owner = pattern_lib.to_events(
      np.concatenate([now, state]),
      np.pad(token, ((1, 0), (0, 0)), constant_values=-1),
      np.append(0, edges))
  # The first sample is the prompt's: it is there for what goes on.
  start = int(np.argmax(added >= 0))
  added, owner = added[start:], owner[start:]
  added[:1] -= 1
  if len(added) and not added[0]:
    added, owner = added[1:], owner[1:]
  return tasks.GeneratedSong(
      np.concatenate([prompt.song, added]).astype(np.int32),
      np.arange(len(prompt.song) + len(added)) < len(prompt.song),
      np.concatenate([given, owner]))


def rhythm(vocabulary: voc.Tracker, song: np.ndarray, events: int | None,
           seconds: float | None, repeats: bool = True
           ) -> tasks.GenerationTask:
  """Returns the task of new pitches for the rhythm of a song.

  Each note of the pattern gets another pitch, and keeps its arpeggio: what the
  song plays in it moves as far as the note. What is the same in two bars of a
  voice stays the same, unless `repeats` is false.

  Raises:
    ValueError: the song has no note that could get another pitch.
  """
  prompt = prompt_lib.read(vocabulary, song, events,
                           tasks.Limits(None, seconds).samples)
  kind, voice, _ = (x[prompt.ids] for x in vocabulary.table)
  is_open = (kind == voc.NOTE) & (voice != ev.NO)
  if not is_open.any():
    raise ValueError('P1, P2 and TR play no note here, so there is no rhythm '
                     'to find pitches for')
  given = np.where(is_open, grammar.open_pitch(voice), prompt.ids)
  rules = grammar.Rules(vocabulary, False)
  state = rules.init_state(len(given), given=given)
  writer = repeated_pitches.RepeatedPitches(rules)
  return tasks.GenerationTask(
      vocabulary, writer if repeats else rules,
      writer.init_state(state, prompt.ids) if repeats else state,
      prompt.ids[:int(np.argmax(is_open))], len(given),
      functools.partial(_assemble_rhythm, prompt, vocabulary),
      {'task': 'rhythm', 'max_tokens': len(given), 'repeats': repeats})


def _assemble_rhythm(prompt: prompt_lib.Prompt, vocabulary: voc.Tracker,
                     ids: np.ndarray) -> tasks.GeneratedSong:
  """Moves each NOTEON as far as the note of the pattern that it is of."""
  _, token = vocabulary.read(prompt.ids).render(vocabulary.codebook)
  owner = prompt.tokens_of(token)
  song = prompt.song.copy()
  voice = ev.voice_of(song)
  moved = ((ev.kind_of(song) == ev.NOTEON) & (voice != ev.NO) & (owner >= 0) &
           (vocabulary.table.kind[prompt.ids[owner]] == voc.NOTE))
  value = vocabulary.table.value
  for i in np.flatnonzero(moved).tolist():
    legal = ev.VOICES[voice[i]].pitches
    pitch = int(ev.value_of(song[i:i + 1])[0] + value[ids[owner[i]]] -
                value[prompt.ids[owner[i]]])
    song[i] = ev.event(int(voice[i]), ev.NOTEON, pattern_lib.into_range(
        pitch, legal[0], legal[-1]))
  return tasks.GeneratedSong(song, ~moved, owner)


def accompaniment(vocabulary: voc.Tracker, song: np.ndarray,
                  voices: Sequence[int], events: int | None,
                  seconds: float | None, asked: Asked | None = None,
                  repeats: bool = True) -> tasks.GenerationTask:
  """Returns the task of the other voices to some voices of a song.

  Of the others the song's rows are known to the model, and when they end. They
  get the DELAYs that the given ones have three times or more. With `repeats`
  their bars come again as in a song whose other voices repeat bars as
  the given ones do.

  Raises:
    ValueError: these voices are silent in the song; tempo or bar are asked
      for; or the voices asked for are all given.
  """
  asked = dict(asked or {})
  if asked.keys() & {voc.TEMPO, voc.BAR}:
    raise ValueError('the other voices keep the tempo of the song; leave '
                     '--tempo out')
  names = [ev.VOICES[voice].name.lower() for voice in voices]
  prompt = prompt_lib.read(vocabulary, song, events,
                           tasks.Limits(None, seconds).samples)
  if not np.isin(prompt.pattern.voice, list(voices)).any():
    raise ValueError(f'{" and ".join(names)} play nothing here; those that '
                     'do: ' + ', '.join(ev.VOICES[voice].name.lower()
                                        for voice in np.unique(
                                            prompt.pattern.voice)))
  given_bits = ev.voice_bits(voices)
  asked[voc.VOICES] = asked.get(voc.VOICES, 15) | given_bits
  if asked[voc.VOICES] == given_bits:
    raise ValueError(f'{" and ".join(names)} are given, and no other voice is '
                     'asked for; name more in --voices, or leave it out')
  if voc.DENSITY not in asked:  # As if all played as many notes as these.
    n_notes = int((np.isin(prompt.pattern.voice, list(voices)) &
                   (prompt.pattern.pitch > 0)).sum())
    asked[voc.DENSITY] = voc.bin_of(
        n_notes * asked[voc.VOICES].bit_count() / len(voices) *
        ev.SAMPLE_RATE / max(prompt.length, 1), voc.DENSITIES)
  given_notes = infilling.given_notes(vocabulary, prompt, voices, asked)
  prompt = prompt._replace(first=given_notes.first)
  n_free = tasks.max_events_in(prompt.length)
  rules = grammar.Rules(vocabulary, False)
  most_tokens = n_free + given_notes.most_tokens
  writer = repeats_lib.Repeats(rules)
  task = tasks.GenerationTask(
      vocabulary, writer, writer.init_state(
          rules.init_state(grammar.NO_LIMIT, given=given_notes.prefix,
                           delays=_frequent(
                               given_notes.delay[given_notes.chained == 0])),
          most_tokens,
          infilling.schedule(vocabulary, given_notes, voices, n_free)),
      given_notes.prefix, most_tokens,
      functools.partial(_assemble_accompaniment, prompt, vocabulary,
                        tuple(voices)),
      {'task': 'voices', 'given_voices': names, 'grammar': True,
       'max_tokens': n_free, 'asked': _names(asked), 'repeats': repeats})
  if not repeats:
    return task
  return dataclasses.replace(task, vary=functools.partial(
      writer.draw_form, _forms_like(form.of_pattern(prompt.pattern), asked,
                                    voices=voices)))


def _assemble_accompaniment(prompt: prompt_lib.Prompt, vocabulary: voc.Tracker,
                            voices: tuple[int, ...], ids: np.ndarray
                           ) -> tasks.GeneratedSong:
  """Adds what the other voices do by frame to what the given ones do."""
  state, token = vocabulary.read(ids).render(vocabulary.codebook)
  given = np.isin(ev.voice_of(prompt.song), voices)
  times = ev.times_of(prompt.song)[given]
  given_token = prompt.tokens_of(token)[given]
  state[:, list(voices)] = 0
  edges = prompt.samples_of(np.arange(len(state) + 1))
  # Where the given voices do something in a frame, it is done together.
  frames = prompt.frames_of(times[::-1])
  inside = (frames >= 0) & (frames < len(edges))
  edges[frames[inside]] = times[::-1][inside]
  edges = np.minimum(np.maximum.accumulate(edges), prompt.length)
  own, owner = pattern_lib.to_events(
      np.concatenate([np.zeros_like(state[:1]), state]),
      np.pad(token, ((1, 0), (0, 0)), constant_values=-1), np.append(0, edges))
  chip = own < 0
  all_times = np.concatenate([times, ev.times_of(own)[chip]])
  all_events = np.concatenate([prompt.song[given], own[chip]])
  order = np.lexsort((ev.voice_of(all_events), all_times))
  song = ev.from_times(all_times[order], all_events[order], prompt.length)
  is_given = np.isin(ev.times_of(song), np.append(times, prompt.length))
  tokens = np.full(len(song), -1, np.int32)
  is_given[song < 0] = (order < len(times))
  tokens[song < 0] = np.concatenate([given_token, owner[chip]])[order]
  return tasks.GeneratedSong(song.astype(np.int32), is_given, tokens)
