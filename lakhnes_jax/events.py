"""Songs as arrays of events, and the two vocabularies they are written in.

A song is one int32 array, an event an element, in playing order:

*   `e >= 0` waits `e` samples at 44.1 kHz, exact and unbounded;
*   `e < 0` tells the chip something now; `~e` is its *code*, 0 to 314.

Codes number what a voice can be told (see `VOICES`), voice by voice: NOTEOFF,
NOTEON per pitch, then VELOCITY and TIMBRE per value. Waits are quantised only
when a song becomes token ids (`Vocabulary.encode`), so whatever needs exact
time (augmentation, MIDI, audio) works on the song itself.

Source: LakhNES (Donahue et al., ISMIR 2019), formats TX1 and TX2.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lakhnes_jax.nes import SAMPLE_RATE  # noqa: F401 - of every wait.

BOS_EOS = 0  # Token id of <S>, which begins and ends each song.


class Voice(NamedTuple):
  """One voice of the chip: its name and the legal values of its events."""
  name: str
  pitches: range  # MIDI numbers; for the noise voice, 16 less the period index.
  velocities: range
  timbres: range  # Pulse duty, or noise mode.


VOICES = (
    Voice('P1', range(33, 109), range(1, 16), range(4)),
    Voice('P2', range(33, 109), range(1, 16), range(4)),
    Voice('TR', range(21, 109), range(0), range(0)),
    Voice('NO', range(1, 17), range(1, 16), range(2)),
)
P1, P2, TR, NO = range(4)
NOTEOFF, NOTEON, VELOCITY, TIMBRE = KINDS = range(4)
_FORMATS = ('{}_NOTEOFF', '{}_NOTEON_{}', '{}_VELOCITY_{}', '{}_TIMBRE_{}')

# The waits that have a token, in samples, ascending.
WAITS = np.concatenate([
    np.arange(1, 100, 1), np.arange(100, 1000, 10),
    np.arange(1000, 10000, 100), np.arange(10000, 100001, 1000)
]).astype(np.int32)
# A wait half-way between two tokens goes down, but for these. (The original
# took the first nearest value in the iteration order of a Python set.)
_TIES_UP = np.concatenate([
    [2050, 2150, 4050, 4150, 6150, 6250, 8150, 8250],
    np.arange(10500, 36501, 2000), np.arange(39500, 83501, 2000),
    np.arange(86500, 98501, 2000)
])


def _codes() -> Iterator[tuple[int, int, int]]:
  """Lists (voice, kind, value) for each code."""
  for voice, (_, pitches, velocities, timbres) in enumerate(VOICES):
    for kind, values in enumerate(((0,), pitches, velocities, timbres)):
      for value in values:
        yield voice, kind, value


_table = np.array(list(_codes()), np.int16)
CODE_VOICE, CODE_KIND, CODE_VALUE = np.ascontiguousarray(_table.T)
N_CODES = len(_table)
CODE_NAMES = tuple(
    _FORMATS[kind].format(VOICES[voice].name, value)
    for voice, kind, value in _table.tolist())
_NAME_TO_EVENT = {name: ~code for code, name in enumerate(CODE_NAMES)}
# [voice, kind, value] -> event, or 0 where the voice has no such event.
EVENT = np.zeros((4, 4, 128), np.int32)
EVENT[CODE_VOICE, CODE_KIND, CODE_VALUE] = ~np.arange(N_CODES)
_WAIT = re.compile(r'WT_(\d{1,9})$', re.ASCII)


def event(voice: int, kind: int, value: int = 0) -> int:
  """Returns the event that tells `voice` a NOTEON and so on.

  Raises:
    ValueError: the voice has no such event; the message gives its range.
  """
  found = EVENT[voice, kind, value] if 0 <= value < EVENT.shape[2] else 0
  if not found:
    name, *ranges = VOICES[voice]
    legal = ((range(1), *ranges))[kind]
    raise ValueError(
        f'{_FORMATS[kind].format(name, value)}: ' +
        (f'legal values are {legal[0]} to {legal[-1]}' if legal else
         f'voice {name} has no such event'))
  return int(found)


def voice_bits(voices: npt.ArrayLike) -> int:
  """Returns the sum of 2^voice of the voices in a list, each once: 0 to 15."""
  return sum(1 << voice for voice in np.unique(voices).tolist())


def voice_of(events: np.ndarray) -> np.ndarray:
  """Returns the voice, 0 to 3, of each event, and -1 for waits."""
  return np.where(events < 0, CODE_VOICE[np.where(events < 0, ~events, 0)], -1)


def kind_of(events: np.ndarray) -> np.ndarray:
  """Returns NOTEOFF .. TIMBRE for each event, and -1 for waits."""
  return np.where(events < 0, CODE_KIND[np.where(events < 0, ~events, 0)], -1)


def value_of(events: np.ndarray) -> np.ndarray:
  """Returns pitch, velocity or timbre of each event; for waits, the samples."""
  return np.where(events < 0, CODE_VALUE[np.where(events < 0, ~events, 0)],
                  events)


def times_of(events: np.ndarray) -> np.ndarray:
  """Returns the time of each event in samples, int64; of a wait, its end."""
  return np.cumsum(np.maximum(events, 0), dtype=np.int64)


def truncate(song: np.ndarray, samples: int) -> np.ndarray:
  """Truncates a song to a length in samples, within a wait if need be.

  Events at that very sample are left out. A shorter song stays as it is.
  """
  times = times_of(song)
  if not len(times) or times[-1] < samples:
    return song
  last = int(np.argmax(times >= samples))
  song = song[:last + 1].copy()
  song[last] -= times[last] - samples
  return song[:last] if song[last] == 0 else song


def without_glitches(song: np.ndarray, shortest: int = 100) -> np.ndarray:
  """Drops notes that are over before anybody could hear them.

  The period of a channel is two bytes, which a program writes one after the
  other: between both, a log has a note of 1 to 10 samples that is neither the
  last one nor the next. A tenth of the NOTEONs of NES-MDB are such.

  Args:
    song: int32 events.
    shortest: samples that a note lasts at least (2.3 ms); one that another
      NOTEON or a NOTEOFF of its voice ends sooner is dropped. If the note
      before it goes on after it, that is not struck again.

  Returns:
    int32 song of the same length in samples; waits may be adjacent.
  """
  voice, kind, times = voice_of(song), kind_of(song), times_of(song)
  kept = np.ones(len(song), bool)
  for v in range(len(VOICES)):
    notes = np.flatnonzero((voice == v) & (kind <= NOTEON))
    glitch = np.append(np.diff(times[notes]) < shortest, False) & (
        kind[notes] == NOTEON)
    kept[notes[glitch]] = False
    left = np.flatnonzero(~glitch)
    goes_on = (np.diff(left) > 1) & (np.diff(song[notes[left]]) == 0)
    kept[notes[left[1:]][goes_on]] = False
  return song[kept]


def from_times(times: np.ndarray, events: np.ndarray,
               length: int) -> np.ndarray:
  """Builds a song from chip events at exact times.

  Args:
    times: [n] int, samples from the start, not descending.
    events: [n] int32, each negative.
    length: samples; the song ends with the wait up to it.

  Returns:
    int32 song with one wait before each new instant, and none of length 0.

  Raises:
    ValueError: times are negative, descend, or pass `length`.
  """
  times = np.asarray(times, np.int64)
  waits = np.diff(times, prepend=0, append=max(length, 0))
  if (waits < 0).any():
    where = int(np.argmax(waits < 0))
    raise ValueError(f'event {where} of {len(times)}: time goes back by '
                     f'{-waits[where]} samples')
  song = np.empty(2 * len(times) + 1, np.int64)
  song[::2], song[1::2] = waits, events
  song = song[song != 0]
  if song.size and song.max() > np.iinfo(np.int32).max:
    raise ValueError('a wait is longer than 2**31 - 1 samples (13 hours)')
  return song.astype(np.int32)


def without_dynamics(events: np.ndarray) -> np.ndarray:
  """Drops VELOCITY and TIMBRE events; waits on either side of one merge."""
  drop = kind_of(events) >= VELOCITY
  if not drop.any():
    return events
  # Waits separated only by dropped events form one run and are added up.
  kept = events[~drop]
  after_drop = np.diff(np.cumsum(drop)[~drop], prepend=0) > 0
  is_wait = kept >= 0
  merge = after_drop & is_wait & np.roll(is_wait, 1)
  merge[:1] = False
  starts = np.flatnonzero(~merge)
  return np.add.reduceat(kept, starts).astype(np.int32) if kept.size else kept


class Vocabulary:
  """The token ids of one format: <S>, the waits, then the codes it knows.

  Attributes:
    name: 'tx1' (notes only, 631 ids) or 'tx2' (with dynamics, 686 ids).
    tokens: the text of each id.
    dynamics: whether VELOCITY and TIMBRE are part of it.
    voice: [size] int32, 0 .. 3; -1 for waits and <S>.
    kind: [size] int32, NOTEOFF .. TIMBRE; -1 likewise.
    value: [size] int32, pitch, velocity or timbre; of waits, samples.
    wait: [size] int32 samples; 0 for all but waits.
  """

  def __init__(self, name: str, kinds: Sequence[int]):
    self.name = name
    self.dynamics = VELOCITY in kinds
    codes = np.flatnonzero(np.isin(CODE_KIND, kinds))
    self.tokens = ('<S>', *(f'WT_{w}' for w in WAITS),
                   *(CODE_NAMES[c] for c in codes))
    first = 1 + len(WAITS)
    self._event = np.concatenate([[0], WAITS, ~codes]).astype(np.int32)
    self.voice, self.kind, self.value = (
        of(self._event).astype(np.int32)
        for of in (voice_of, kind_of, value_of))
    self.wait = np.maximum(self._event, 0)
    for table in (self.voice, self.kind, self.value, self.wait):
      table.setflags(write=False)
    self._code_id = np.full(N_CODES, -1, np.int16)
    self._code_id[codes] = np.arange(first, first + len(codes))

  @property
  def size(self) -> int:
    return len(self.tokens)

  @property
  def events(self) -> np.ndarray:
    """[size] int32: the event of each id, 0 at <S>."""
    return self._event

  def project(self, events: np.ndarray) -> np.ndarray:
    """Drops what the format cannot say."""
    return events if self.dynamics else without_dynamics(events)

  def encode(self, events: npt.ArrayLike) -> np.ndarray:
    """Turns a song into token ids, int16, without <S>.

    Each wait goes to the nearest of `WAITS` on its own, no error carried.

    Raises:
      ValueError: an event is outside this vocabulary.
    """
    events = np.asarray(events)
    wait_ids = _WAIT_ID[np.clip(events, 0, WAITS[-1])]
    if events.size and events.min() < -N_CODES:
      raise ValueError(f'{events.min()} is no event: codes end at {N_CODES}')
    ids = np.where(events >= 0, wait_ids,
                   self._code_id[np.where(events < 0, ~events, 0)])
    if ids.size and ids.min() < 0:
      name = CODE_NAMES[~events[int(np.argmin(ids))]]
      raise ValueError(f'{name} is not in vocabulary {self.name}')
    return ids

  def encode_augmented(self, events: np.ndarray, augmentation: Any,
                       rng: np.random.Generator) -> np.ndarray:
    """Projects, augments and encodes a song, as training reads it.

    Args:
      events: int32 song, with whatever it holds.
      augmentation: a `data.augment.Augmentation`.
      rng: of its draws.
    """
    return self.encode(augmentation.apply(self.project(events), rng))

  def prepare(self, corpus: Any) -> None:
    """Readies itself for the songs of a corpus; here nothing is to be done."""

  def decode(self, ids: np.ndarray) -> np.ndarray:
    """Turns token ids into a song; <S> is left out.

    Raises:
      ValueError: an id is outside 0 .. size - 1.
    """
    ids = np.asarray(ids)
    if ids.size and not 0 <= ids.min() <= ids.max() < self.size:
      raise ValueError(f'token id outside 0 .. {self.size - 1}: '
                       f'{ids.min()} .. {ids.max()}')
    return self._event[ids[ids != BOS_EOS]]


def _wait_ids() -> np.ndarray:
  """[100001] int16: token id of each wait in samples."""
  doubled_midpoints = WAITS[:-1] + WAITS[1:]  # Twice the point between.
  wait = np.arange(WAITS[-1] + 1)
  ids = 1 + np.searchsorted(doubled_midpoints, 2 * wait)  # Ties go down.
  ids[_TIES_UP] += 1
  return ids.astype(np.int16)


_WAIT_ID = _wait_ids()
TX1 = Vocabulary('tx1', (NOTEOFF, NOTEON))
TX2 = Vocabulary('tx2', KINDS)
VOCABULARIES = {v.name: v for v in (TX1, TX2)}


def to_text(events: np.ndarray) -> str:
  """Writes a song an event a line, waits exact; no newline at the end."""
  return '\n'.join([
      f'WT_{e}' if e >= 0 else CODE_NAMES[~e]
      for e in np.asarray(events).tolist()])


def from_text(text: str) -> np.ndarray:
  """Reads TX1 or TX2 text, an event a line; empty lines and <S> are skipped.

  Raises:
    ValueError: names the line and what is wrong with it.
  """
  song = []
  for number, line in enumerate(text.split('\n'), 1):
    name = line.strip()
    if not name or name == '<S>':
      continue
    found = _NAME_TO_EVENT.get(name)
    if found is None:
      match = _WAIT.match(name)
      if not match:
        raise ValueError(f'line {number}: {_explain(name)}')
      found = int(match[1])
    song.append(found)
  return np.array(song, np.int32)


def _explain(name: str) -> str:
  """Says why `name` is no event."""
  shown = name if len(name) <= 40 else name[:37] + '...'
  for voice, (voice_name, *_) in enumerate(VOICES):
    for kind in KINDS:
      prefix = _FORMATS[kind].format(voice_name, '')
      value = name.removeprefix(prefix)
      if value != name and value.isdecimal() and value.isascii():
        try:
          event(voice, kind, int(value))
        except ValueError as error:
          return str(error)
  return (f'{shown!r} is no event (expected WT_n, or '
          f'{"|".join(v.name for v in VOICES)} with _NOTEON_n, _NOTEOFF, '
          '_VELOCITY_n or _TIMBRE_n)')
