"""Longest runs that songs share with a corpus: are they new, or memorised?

Songs are compared in several *views*:

*   `exact`: TX1 token ids, waits quantised as the model reads them;
*   `transposed`: the same, up to one shift of P1, P2 and TR together;
*   `notes`: NOTEONs only, in their order, up to one shift. Times and lengths do
    not count, so that neither another tempo nor the jitter of real logs (a wait
    of 735 samples, then one of 734) hides a copy. Notes of no duration, ended
    or replaced at once, do not count;
*   `melody`: the notes of one of P1, P2 and TR alone, up to a shift, whichever
    voice plays them there: a melody in a new arrangement. Repeated notes count
    once, as else the longest runs are of one pitch.

Each window of a given length has a 64-bit polynomial hash, computed for a whole
corpus at once (Karp & Rabin, 1987). It is linear in the pitches, so that a
shift by d adds d times the hash of *where* notes are: taking away the first
pitch of a window makes equal what differs by a shift. Whether a song has a run
of some length is one look-up of all windows; the longest is found by bisection,
where only the places that shared a shorter run are looked at again.
"""

from typing import Any, NamedTuple

import numpy as np

from lakhnes_jax import events as ev

# The views, and how long a run counts as copied, in elements of the view.
LENGTHS = {'exact': 32, 'transposed': 32, 'notes': 16, 'melody': 32}
_FILTER_BITS = 22


class View(NamedTuple):
  """One view of a song, or of one of its voices: n elements.

  Attributes:
    symbols: [n] int16, equal where elements are, pitches aside.
    pitches: [n] uint8, those that may be shifted; else 0.
    places: [n] int64, the event of the song (TX1) that each element is.
  """
  symbols: np.ndarray
  pitches: np.ndarray
  places: np.ndarray


def view_of(song: np.ndarray, view: str) -> list[View]:
  """Returns a view of a song of TX1 events, one for each sequence compared."""
  kinds, voices = ev.kind_of(song), ev.voice_of(song)
  if view == 'melody':
    audible = _audible(song)
    masks = [audible & (voices == v) for v in (ev.P1, ev.P2, ev.TR)]
  elif view == 'notes':
    masks = [_audible(song)]
  else:
    masks = [np.ones(len(song), bool)]
  symbols = ev.TX1.encode(song)
  pitches = np.zeros(len(song), np.uint8)
  if view != 'exact':
    shifts = (kinds == ev.NOTEON) & (voices != ev.NO)
    pitches[shifts] = ev.value_of(song)[shifts]
    # What no token has for an id.
    symbols[shifts] = -1 if view == 'melody' else -1 - voices[shifts]
  parts = [np.flatnonzero(mask) for mask in masks]
  if view == 'melody':
    parts = [places[np.diff(pitches[places].astype(int), prepend=0) != 0]
             for places in parts]
  return [View(symbols[places], pitches[places], places) for places in parts]


def _audible(song: np.ndarray) -> np.ndarray:
  """[n] bool: NOTEONs of a duration above 0."""
  voices, times = ev.voice_of(song), ev.times_of(song)
  audible = ev.kind_of(song) == ev.NOTEON
  for v in range(4):
    mine = np.flatnonzero(voices == v)
    until = np.append(times[mine[1:]], times[-1:])
    audible[mine] &= until > times[mine]
  return audible


class Run(NamedTuple):
  """The longest run that a part shares with a corpus.

  Attributes:
    length: elements; 0 if nothing is shared, and then the others mean nothing.
    start: its first element in the part.
    other: index of the part of the corpus; the first that has such a run.
    other_start: its first element there.
    covered: elements of the part that lie in shared runs of at least the length
      asked for.
  """
  length: int
  start: int
  other: int
  other_start: int
  covered: int


class Windows:
  """Hashes of all windows of some parts, laid end to end.

  Attributes:
    lengths: [parts] int64, elements of each.
    firsts: [parts] int64, where each begins.
    left: [n] int32, elements from each one to the end of its part.
  """

  # One hash function for all: an odd base that divides back, random symbols.
  _rng = np.random.default_rng(0x4E4553)
  _BASE = int(_rng.integers(2**60)) * 8 + 5
  _SYMBOLS = _rng.integers(2**64, size=2**16, dtype=np.uint64)
  _STEP = _rng.integers(2**64, dtype=np.uint64) | np.uint64(1)

  def __init__(self, views: list[View]):
    self.lengths = np.array([len(v.symbols) for v in views], np.int64)
    self.firsts = np.cumsum(self.lengths) - self.lengths
    symbols = np.concatenate([v.symbols for v in views])
    pitches = np.concatenate([v.pitches for v in views])
    n = len(symbols)
    self.left = np.repeat(self.firsts + self.lengths, self.lengths)
    self.left = (self.left - np.arange(n)).astype(np.int32)
    powers = self._powers(self._BASE, n)
    values = self._SYMBOLS[symbols.astype(np.uint16)]
    values += pitches * self._STEP
    self._sums = self._prefix(values, powers)
    self._powers_back = self._powers(pow(self._BASE, -1, 2**64), n)
    # All that a shift needs: where pitches are, and the next one's value.
    self._pitched = None
    if pitches.any():
      self._pitched = self._prefix(pitches > 0, powers)
      has = np.flatnonzero(pitches)
      following = np.searchsorted(has, np.arange(n))
      self._pitch_ahead = np.append(pitches[has], 0).astype(np.uint8)[following]

  @staticmethod
  def _powers(base: int, n: int) -> np.ndarray:
    powers = np.full(n, base % 2**64, np.uint64)
    powers[:1] = 1
    return np.multiply.accumulate(powers)

  @staticmethod
  def _prefix(values: np.ndarray, powers: np.ndarray) -> np.ndarray:
    sums = np.zeros(len(values) + 1, np.uint64)
    np.cumsum(values * powers, out=sums[1:])
    return sums

  def hashes(self, starts: np.ndarray, length: int) -> np.ndarray:
    """[k] uint64: hashes of the windows of `length` that begin at `starts`."""
    result = self._sums[starts + length] - self._sums[starts]
    if self._pitched is not None:
      # Without any pitch in the window the last factor is 0.
      result -= (self._pitch_ahead[starts] * self._STEP *
                 (self._pitched[starts + length] - self._pitched[starts]))
    return result * self._powers_back[starts]


class _Search:
  """What is known so far about the runs shared by songs and a corpus.

  Each song has a run of `low` elements and none of `high`.
  """

  def __init__(self, songs: Windows, corpus: Windows):
    self._songs, self._corpus = songs, corpus
    self.low = np.zeros(len(songs.lengths), np.int64)
    self.high = songs.lengths + 1
    self.found = np.zeros((len(self.low), 2), np.int64)  # Of low: places.
    # Length tested -> places in the corpus where so long a run begins.
    self._shared = {0: np.arange(len(corpus.left), dtype=np.int32)}
    self._owner = np.repeat(np.arange(len(self.low)), songs.lengths)

  def test(self, length: int) -> np.ndarray:
    """Looks up all windows of one length.

    Songs that are known to have no such run are left out; hence what is shared
    at a length holds all that later tests of longer runs need.

    Returns:
      [k] places among the songs where a shared run of `length` begins.
    """
    starts = np.flatnonzero((self._songs.left >= length) &
                            (self.high > length)[self._owner])
    wanted, which = np.unique(self._songs.hashes(starts, length),
                              return_inverse=True)
    places, matches = self._look_up(wanted, length)
    self._shared[length] = places
    first_place = np.full(len(wanted), -1)
    matched, first = np.unique(matches, return_index=True)
    first_place[matched] = places[first]
    hit = first_place[which] >= 0
    starts, there = starts[hit], first_place[which[hit]]
    has, first = np.unique(self._owner[starts], return_index=True)
    self.high[np.setdiff1d(np.flatnonzero(self.high > length), has)] = length
    raised = length > self.low[has]
    has, first = has[raised], first[raised]
    self.low[has] = length
    self.found[has] = np.stack([starts[first], there[first]], 1)
    return starts

  def _look_up(self, wanted: np.ndarray, length: int):
    """Finds windows of the corpus by their hash.

    Args:
      wanted: [w] hashes, ascending.
      length: of the windows.

    Returns:
      (places, matches): ascending places in the corpus, and which of `wanted`
      is there.
    """
    nearest = max(tested for tested in self._shared if tested <= length)
    shift = np.uint64(64 - _FILTER_BITS)
    likely = np.zeros(2**_FILTER_BITS, bool)
    likely[wanted >> shift] = True
    found = [(np.zeros(0, np.int32), np.zeros(0, np.int64))]
    places = self._shared[nearest]
    for part in np.array_split(places, len(places) // 2**20 + 1):
      part = part[self._corpus.left[part] >= length]
      hashes = self._corpus.hashes(part, length)
      keep = likely[hashes >> shift]
      part, hashes = part[keep], hashes[keep]
      match = np.searchsorted(wanted, hashes)
      equal = match < len(wanted)
      equal[equal] = wanted[match[equal]] == hashes[equal]
      found.append((part[equal], match[equal]))
    return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))


def longest_runs(parts: list[View], corpus: list[View],
                 length: int) -> list[Run]:
  """Finds for each part the longest run that it shares with a corpus.

  Args:
    parts: of one view.
    corpus: of the same view.
    length: shared runs at least so long count as covered.

  Returns:
    A Run for each part. Two windows that differ pass for equal with a
    probability of about 2**-64.
  """
  mine, theirs = Windows(parts), Windows(corpus)
  search = _Search(mine, theirs)
  begun = np.zeros(len(mine.left) + length + 1, np.int64)
  starts = search.test(length)
  begun[starts] += 1
  begun[starts + length] -= 1
  covered = np.append(0, np.cumsum(np.cumsum(begun) > 0))
  covered = covered[mine.firsts + mine.lengths] - covered[mine.firsts]
  while len(unsettled := np.flatnonzero(search.high - search.low > 1)):
    low, high = search.low[unsettled[0]], search.high[unsettled[0]]
    # Doubling first, as few songs share much.
    search.test(int(min(2 * low, (low + high) // 2) if low else high // 2))
  start, place = search.found.T
  other = np.searchsorted(theirs.firsts + theirs.lengths, place, 'right')
  other = np.minimum(other, len(corpus) - 1)  # A place may be none at all.
  return [Run(*row) for row in np.stack(
      [search.low, start - mine.firsts, other, place - theirs.firsts[other],
       covered], 1).tolist()]


def measure(songs: list[np.ndarray], corpus: list[np.ndarray],
            names: list[str]) -> list[dict[str, dict[str, Any]]]:
  """Measures what songs share with a corpus, view by view.

  Args:
    songs: int32 songs (see `events`).
    corpus: the same, those that may be copied.
    names: one for each song of `corpus`.

  Returns:
    For each song, for each view: `length` of the longest shared run in elements
    of the view; `events` (TX1) that it spans in the song, `notes` (NOTEONs)
    among its elements and how many different `pitches` they have, `seconds` it
    lasts and `at` which it begins; the corpus song's name `song`, the second
    `song_at` which it begins there, and the `shift` in semitones from there to
    here; and the `share` of the song's elements that lie in shared runs of at
    least `LENGTHS[view]`. Where nothing is shared, numbers are 0 and the
    others absent. JSON values.
  """
  songs = [ev.TX1.project(song) for song in songs]
  corpus = [ev.TX1.project(song) for song in corpus]
  results = [{} for _ in songs]
  for view, length in LENGTHS.items():
    mine = [view_of(song, view) for song in songs]
    theirs = [(part, i) for i, song in enumerate(corpus)
              for part in view_of(song, view)]
    runs = iter(longest_runs([part for parts in mine for part in parts],
                             [part for part, _ in theirs], length))
    for song, parts, result in zip(songs, mine, results, strict=True):
      found = [(next(runs), part) for part in parts]
      run, part = max(found, key=lambda pair: pair[0].length)
      other, number = theirs[run.other]
      result[view] = {
          'length': run.length,
          'share': sum(run.covered for run, _ in found) / max(
              sum(len(part.symbols) for _, part in found), 1),
          **_describe(run, song, part, corpus[number], other),
      }
      if run.length:
        result[view]['song'] = names[number]
  return results


def _describe(run: Run, song: np.ndarray, part: View, other: np.ndarray,
              other_part: View) -> dict[str, Any]:
  """Describes a run in the units of a listener."""
  if not run.length:
    return {'events': 0, 'notes': 0, 'pitches': 0, 'seconds': 0.0}
  places = part.places[run.start:run.start + run.length]
  first, last = places[0], places[-1]
  elements = song[places]
  notes = elements[ev.kind_of(elements) == ev.NOTEON]
  here, there = (
      pitches[start:start + run.length].astype(int) for pitches, start in (
          (part.pitches, run.start), (other_part.pitches, run.other_start)))
  return {
      'events': int(last - first + 1),
      'notes': len(notes),
      'pitches': len(np.unique(notes)),
      'seconds': _seconds(song[first:last + 1]),
      'at': _seconds(song[:first]),
      'song_at': _seconds(other[:other_part.places[run.other_start]]),
      'shift': int((here - there)[np.argmax(here > 0)]),
  }


def _seconds(events: np.ndarray) -> float:
  return int(np.maximum(events, 0).sum(dtype=np.int64)) / ev.SAMPLE_RATE
