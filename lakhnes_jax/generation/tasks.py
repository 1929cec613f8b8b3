"""What a musician asks of a model: new songs, and four uses of given ones.

A plan holds all that one song needs, whatever the model: the guide that steers
it, the guide's state, and how the tokens become a song with exact times. A
given song loses one wait at either end before the model reads it, as in
training; what is made of it gets them back.

Source: LakhNES (Donahue et al., ISMIR 2019), sections 5 and 6, for new songs,
continuation and rhythm accompaniment. Voice accompaniment is our own.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lakhnes_jax import events as ev
from lakhnes_jax.data import augment
from lakhnes_jax.generation import constraints

PRIME_EVENTS = 512
DEFAULT_LENGTH, DEFAULT_CONTINUATION = 1024, 512  # Events.
# Events a second that a song of given duration may have; 3 real songs of 1,000
# have more.
_MAX_RATE = 300


class Parts(NamedTuple):
  """A song and where it is from.

  Attributes:
    events: int32 song.
    given: [n] bool, the events that were given, and waits up to given ones.
    tokens: [n] int, the number of the token of each event, as the model read
      or wrote them; -1 for events that it never saw.
  """
  events: np.ndarray
  given: np.ndarray
  tokens: np.ndarray


@dataclasses.dataclass(frozen=True)
class Plan:
  """One song to be made.

  Attributes:
    vocabulary: of the model.
    guide: equal for plans that are equal but for the songs.
    state: of the guide, of this one song.
    prefix: ids that the guide emits first whatever is drawn.
    max_tokens: the guide has ended the song by then, or it ends there.
    assemble: token ids without <S> -> `Parts`.
    about: what was asked for, JSON: `task`, and its own settings. `max_events`
      are those that the model may write.
  """
  vocabulary: ev.Vocabulary
  constraints: Any
  state: Any
  prefix: np.ndarray
  max_tokens: int
  assemble: Callable[[np.ndarray], Parts]
  about: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Limits:
  """How long a song gets.

  Attributes:
    events: at most so many; None for as many as `seconds` need, or the default.
    seconds: the song is cut there, to the sample; None for no such end.
    at_start: also where the model draws <S>.

  Raises:
    ValueError: a limit is not above 0.
  """
  events: int | None = None
  seconds: float | None = None
  at_start: bool = False

  def __post_init__(self):
    for name in ('events', 'seconds'):
      value = getattr(self, name)
      if value is not None and not 0 < value < constraints.NO_LIMIT / ev.SAMPLE_RATE:
        raise ValueError(f'a length of {value} {name}: expected more than 0, '
                         f'and at most {constraints.NO_LIMIT // ev.SAMPLE_RATE}')

  @property
  def samples(self) -> int:
    return (constraints.NO_LIMIT if self.seconds is None else
            max(1, round(self.seconds * ev.SAMPLE_RATE)))

  def max_events(self, default: int) -> int:
    if self.events is not None:
      return self.events
    return default if self.seconds is None else _max_events(self.samples)


def _max_events(samples: int) -> int:
  return 64 + _MAX_RATE * samples // ev.SAMPLE_RATE


def cut(song: np.ndarray, samples: int) -> np.ndarray:
  """Ends a song after so many samples, in the middle of a wait if need be.

  What happens at that very sample is left out. A shorter song stays as it is.
  """
  times = ev.times_of(song)
  if not len(times) or times[-1] < samples:
    return song
  last = int(np.argmax(times >= samples))
  song = song[:last + 1].copy()
  song[last] -= times[last] - samples
  return song[:last] if song[last] == 0 else song


class _Source(NamedTuple):
  """A given song: what comes before and after, and what the model reads."""
  lead: np.ndarray
  events: np.ndarray
  trail: np.ndarray
  ids: np.ndarray

  def around(self, parts: Parts) -> Parts:
    """Puts lead and trail back."""
    n_lead, n_trail = len(self.lead), len(self.trail)
    return Parts(
        np.concatenate([self.lead, parts.events, self.trail]).astype(np.int32),
        np.pad(parts.given, (n_lead, n_trail), constant_values=True),
        np.pad(parts.tokens, (n_lead, n_trail), constant_values=-1))


def _source(vocabulary: ev.Vocabulary, song: np.ndarray, events: int | None,
            seconds: float | None) -> _Source:
  """Prepares a given song, or its beginning.

  Raises:
    ValueError: nothing happens there.
  """
  if vocabulary.name == 'tracker':
    raise ValueError('a model of format tracker makes new songs; for other '
                     'tasks take one of tx1 or tx2')
  limits = Limits(events, seconds)
  song = cut(vocabulary.project(np.asarray(song)), limits.samples)
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
  return _Source(lead, trimmed, trail, vocabulary.encode(trimmed))


def _chain(vocabulary: ev.Vocabulary, grammar: bool, *guides) -> constraints.Chain:
  return constraints.Chain((*guides, *([constraints.Grammar(vocabulary)] * grammar)))


def _states(chain: constraints.Chain, *states) -> tuple[Any, ...]:
  """Adds the state of the grammar, where there is one."""
  return (*states, *(g.start() for g in chain.guides[len(states):]))


def new_song(vocabulary: ev.Vocabulary, limits: Limits = Limits(), *,
             grammar: bool = False,
             asked: Mapping[int, int] | None = None) -> Plan:
  """Plans a song from nothing.

  Args:
    vocabulary: of the model.
    limits: of the song; by default 1,024 events.
    grammar: see `constraints.Grammar`. Of the format `tracker` its own rules
      always hold.
    asked: of the format `tracker`, {kind of prefix token: value}.

  Raises:
    ValueError: what is asked for has no token.
  """
  if vocabulary.name == 'tracker':
    return _new_tracker_song(vocabulary, limits, asked or {})
  if asked:
    raise ValueError(f'format {vocabulary.name} has no prefix tokens, with '
                     'which tempo, density, length or voices could be asked '
                     'for')
  max_events = limits.max_events(DEFAULT_LENGTH)
  ending = constraints.Ending(vocabulary, limits.at_start)
  chain = _chain(vocabulary, grammar, ending)

  def assemble(ids):
    events = cut(vocabulary.decode(ids), limits.samples)
    return Parts(events, np.zeros(len(events), bool), np.arange(len(events)))

  return Plan(
      vocabulary, chain,
      _states(chain, ending.start(max_events, limits.samples)),
      np.zeros(0, np.int32), max_events, assemble,
      {'task': 'new', 'grammar': grammar, 'max_events': max_events})


def _new_tracker_song(vocabulary, limits: Limits,
                      asked: Mapping[int, int]) -> Plan:
  from lakhnes_jax.tracker import grammar
  from lakhnes_jax.tracker import vocabulary as tracker_vocabulary
  max_tokens = limits.max_events(DEFAULT_LENGTH)
  rules = grammar.Rules(vocabulary, limits.at_start)

  def assemble(ids):
    song, tokens = vocabulary.decode_with_tokens(ids)
    events = cut(song, limits.samples)
    return Parts(events, np.zeros(len(events), bool), tokens[:len(events)])

  return Plan(
      vocabulary, rules, rules.start(max_tokens, limits.seconds, asked),
      np.zeros(0, np.int32), max_tokens, assemble,
      {'task': 'new', 'grammar': True, 'max_tokens': max_tokens, 'asked': {
          tracker_vocabulary.KIND_NAMES[kind].lower(): value
          for kind, value in asked.items()}})


def continuation(vocabulary: ev.Vocabulary, song: np.ndarray,
                 limits: Limits = Limits(), *,
                 prime_events: int | None = None,
                 prime_seconds: float | None = None,
                 grammar: bool = False) -> Plan:
  """Plans to go on where the beginning of a song ends.

  Args:
    vocabulary: of the model.
    song: int32 song (see `events`).
    limits: of what is added; by default 512 events.
    prime_events: events of the song that are kept, the first wait not counted;
      by default 512, or what `prime_seconds` hold.
    prime_seconds: seconds of the song that are kept.
    grammar: see `constraints.Grammar`.

  Raises:
    ValueError: the prime is empty.
  """
  if prime_events is None and prime_seconds is None:
    prime_events = PRIME_EVENTS
  prime = _source(vocabulary, song, prime_events, prime_seconds)
  if prime_seconds is not None:  # The pause before the cut is part of it.
    events = np.concatenate([prime.events, prime.trail])
    prime = prime._replace(events=events, ids=vocabulary.encode(events))
  prime = prime._replace(trail=prime.trail[:0])
  n_prime = len(prime.ids)
  max_events = limits.max_events(DEFAULT_CONTINUATION)
  max_tokens = n_prime + max_events
  read = int(ev.times_of(vocabulary.decode(prime.ids))[-1])
  script = constraints.Script(vocabulary)
  ending = constraints.Ending(vocabulary, limits.at_start)
  chain = _chain(vocabulary, grammar, script, ending)

  def assemble(ids):
    added = cut(vocabulary.decode(ids[n_prime:]), limits.samples)
    events = np.concatenate([prime.events, added])
    number = np.arange(len(events))
    return prime.around(Parts(events, number < n_prime, number))

  return Plan(
      vocabulary, chain, _states(
          chain, script.start(np.append(prime.ids, constraints.ANY)),
          ending.start(max_tokens, read + limits.samples)),
      prime.ids, max_tokens, assemble,
      {'task': 'continue', 'prime_events': n_prime, 'grammar': grammar,
       'max_events': max_events})


def rhythm(vocabulary: ev.Vocabulary, song: np.ndarray,
           events: int | None = None, seconds: float | None = None) -> Plan:
  """Plans new pitches of P1, P2 and TR to the rhythm of a song.

  Everything else stays: waits, NOTEOFFs, dynamics and the noise voice.

  Args:
    vocabulary: of the model.
    song: int32 song (see `events`).
    events: only so many of it, the first wait not counted.
    seconds: only so much of it.

  Raises:
    ValueError: the song has no note that could get another pitch.
  """
  source = _source(vocabulary, song, events, seconds)
  voice = ev.voice_of(source.events)
  is_open = (ev.kind_of(source.events) == ev.NOTEON) & (voice != ev.NO)
  if not is_open.any():
    raise ValueError('P1, P2 and TR play no note here, so there is no rhythm '
                     'to find pitches for')
  script = constraints.Script(vocabulary)
  chain = _chain(vocabulary, False, script)

  def assemble(ids):
    played = np.where(is_open, vocabulary.events[ids], source.events)
    return source.around(Parts(played, ~is_open, np.arange(len(ids))))

  return Plan(
      vocabulary, chain, (script.start(np.append(
          np.where(is_open, -1 - voice, source.ids), ev.START)),),
      source.ids[:int(np.argmax(is_open))], len(source.ids), assemble,
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
      raise ValueError(f'{name!r} is no voice; expected some of '
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
                  grammar: bool = False) -> Plan:
  """Plans the other voices to some voices of a song.

  Args:
    vocabulary: of the model.
    song: int32 song (see `events`).
    voices: those given, one to three of 0 to 3; the song is made with exactly
      what they do, to the sample. What other voices do in it is not looked at,
      but that it ends when they have ended too.
    events: only so many events of the song, the first wait not counted.
    seconds: only so much of it.
    grammar: see `constraints.Grammar`.

  Raises:
    ValueError: these voices are silent in the song.
  """
  names = [ev.VOICES[voice].name.lower() for voice in voices]
  source = _source(vocabulary, song, events, seconds)
  its_voices = ev.voice_of(source.events)
  is_given = np.isin(its_voices, list(voices))
  if not is_given.any():
    raise ValueError(f'{" and ".join(names)} play nothing here; those that '
                     'do: ' + ', '.join(ev.VOICES[voice].name.lower()
                                        for voice in np.unique(its_voices)
                                        if voice >= 0))
  all_times = ev.times_of(source.events)
  times, end = all_times[is_given], int(all_times[-1])
  if end >= constraints.NO_LIMIT:
    raise ValueError('the song is longer than 13 hours')
  n_free = _max_events(end)
  writer = constraints.Accompaniment(vocabulary)
  chain = _chain(vocabulary, grammar, writer)
  return Plan(
      vocabulary, chain, _states(chain, writer.start(
          times, source.ids[is_given], end, voices, n_free)),
      np.zeros(0, np.int32),
      # A wait may end at each given event, and there are long pauses.
      n_free + 2 * len(times) + end // int(ev.WAITS[-1]) + 2,
      functools.partial(_assemble_accompaniment, source, vocabulary,
                        tuple(voices), np.append(times, end)),
      {'task': 'voices', 'given_voices': names, 'grammar': grammar,
       'max_events': n_free})


def _assemble_accompaniment(source: _Source, vocabulary: ev.Vocabulary,
                            voices: tuple[int, ...], times: np.ndarray,
                            ids: np.ndarray) -> Parts:
  """Gives the waits that end at given events their exact length."""
  song = vocabulary.events[ids].copy()
  given = np.isin(ev.voice_of(song), voices)
  now = coming = 0  # The next given event is number `coming`.
  for i, event in enumerate(song.tolist()):
    if event >= 0:
      rest = int(times[coming]) - now
      if rest <= ev.WAITS[-1] and ids[i] == vocabulary.encode([rest])[0]:
        song[i], given[i] = rest, True
      now += int(song[i])
    else:
      coming += bool(given[i])
  return source.around(Parts(song, given, np.arange(len(ids))))
