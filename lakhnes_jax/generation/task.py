"""What one song that is to be generated needs, whatever the model or task."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from lakhnes_jax import events as ev
from lakhnes_jax import ranges
from lakhnes_jax.generation import constraints

DEFAULT_LENGTH, DEFAULT_CONTINUATION = 1024, 512  # Events.
# Events per second that a song of given duration may have; 3 real songs of
# 1,000 have more.
_MAX_RATE = 300


class GeneratedSong(NamedTuple):
  """A song, and where its events are from.

  Attributes:
    events: int32 song.
    given: [n] bool, the events that were given, and waits up to given ones.
    tokens: [n] int, the index of the token that each event is from, among those
      that the model read or generated; -1 for events that are from none. An
      event need not have a token of its own.
  """
  events: np.ndarray
  given: np.ndarray
  tokens: np.ndarray


@dataclasses.dataclass(frozen=True)
class GenerationTask:
  """One song to be generated.

  Attributes:
    vocabulary: of the model.
    constraint: a `decode.Constraint`, equal for tasks that differ in their
      songs alone.
    state: of the constraint, of this one song.
    prefix: ids that the constraint emits first, whatever is drawn.
    max_tokens: the constraint has ended the song by then, or it ends there.
    assemble: token ids without <S> -> `GeneratedSong`.
    metadata: what was asked for, JSON: `task`, and its own settings.
      `max_events` is how many events the model may write.
    vary: (state, rng) -> the state of one of several songs for this task, in
      what is drawn for it beforehand.
  """
  vocabulary: ev.Vocabulary
  constraint: Any
  state: Any
  prefix: np.ndarray
  max_tokens: int
  assemble: Callable[[np.ndarray], GeneratedSong]
  metadata: dict[str, Any]
  vary: Callable[[Any, np.random.Generator], Any] = lambda state, rng: state


@dataclasses.dataclass(frozen=True)
class Limits:
  """Where a song ends.

  Attributes:
    events: at most N; None for as many as `seconds` need, or the default.
    seconds: the song is truncated there, to the sample; None for no such end.
    stop_at_eos: end also where the model draws <S>.

  Raises:
    ValueError: a limit is out of its range in `ranges`.
  """
  events: int | None = None
  seconds: float | None = None
  stop_at_eos: bool = False

  def __post_init__(self):
    ranges.check(length=self.events, seconds=self.seconds)

  @property
  def samples(self) -> int:
    return (constraints.NO_LIMIT if self.seconds is None else
            max(1, round(self.seconds * ev.SAMPLE_RATE)))

  def max_events(self, default: int) -> int:
    if self.events is not None:
      return self.events
    return default if self.seconds is None else max_events_in(self.samples)


def max_events_in(samples: int) -> int:
  """Returns how many events a song of so many samples may have."""
  return 64 + _MAX_RATE * samples // ev.SAMPLE_RATE
