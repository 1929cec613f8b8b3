"""Patterns as token ids: the format `tracker`.

A song is `<S>`, a few *prefix* tokens that say what kind of song it is, and
then row by row what the voices do in it, P1, P2, TR, NO:

    LENGTH_4 DENSITY_5 VOICES_15 BAR_16 TEMPO_6.0
    AT_0 P1_NOTE_67 PU_LEVEL_12 PU_TONE_2 TR_NOTE_48 GATE_33
    AT_4 P1_NOTE_69 DELAY_3 NO_NOTE_13

`AT_n` goes on to the next row that is row n of a bar; `SKIP` passes a bar
before. `DELAY_d` says that what follows comes d frames after the row began.
Macros and gate come after their note, where they are others than those of the
voice's note before. `TEMPO_x` is the frames of a row; it may change at a row.
`NUDGE_d` moves a row, and all after it, by d frames.
"""

import contextlib
import functools
from typing import Any, NamedTuple

import numpy as np

from lakhnes_jax import events as ev
from lakhnes_jax.data import augment
from lakhnes_jax.tracker import clock as clock_lib
from lakhnes_jax.tracker import frames as frames_lib
from lakhnes_jax.tracker import instruments as ins
from lakhnes_jax.tracker import notes as notes_lib
from lakhnes_jax.tracker import pattern as pattern_lib
from lakhnes_jax.tracker import store

PARSER = 2  # Counts the ways in which songs were parsed.
_MOST_PATTERNS = 1 << 16  # Kept in memory.
PARTS = clock_lib.PARTS
TEMPOS = range(2 * PARTS, 24 * PARTS + 1)
BARS = range(1, pattern_lib.MOST_BAR_ROWS + 1)  # Rows.
NUDGES = (*range(-12, 0), *range(1, 13))
DELAYS = range(1, 48)
N_DELAYS = DELAYS[-1] + 1  # With none.
LENGTHS = (5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 1 << 30)  # Seconds, below.
DENSITIES = (1, 2, 3, 4, 5.5, 7.5, 10, 13, 18, 25, 1 << 30)  # Notes a second.
GATES = range(pattern_lib.LONGEST_GATE + 1)
(START, LENGTH, DENSITY, VOICES, BAR, TEMPO, AT, SKIP, NUDGE, DELAY, NOTE, OFF,
 LEVEL, TONE, OFFSET, GATE) = KINDS = range(16)
KIND_NAMES = ('<S>', 'LENGTH', 'DENSITY', 'VOICES', 'BAR', 'TEMPO', 'AT',
              'SKIP', 'NUDGE', 'DELAY', 'NOTE', 'OFF', 'LEVEL', 'TONE',
              'OFFSET', 'GATE')


class Reading(NamedTuple):
  """What token ids say.

  Attributes:
    frame, voice, pitch, macro, gate: of each entry, as in `pattern.render`;
      ascending by frame and voice.
    token: [n] int64, the number of the token that each entry is of.
    size: frame at which the last row ends.
  """
  frame: np.ndarray
  voice: np.ndarray
  pitch: np.ndarray
  macro: np.ndarray
  gate: np.ndarray
  token: np.ndarray
  size: int

  def render(self, codebook: ins.Codebook, size: int = 0):
    """Plays it, for as long as something sounds or a row or `size` lasts.

    Returns:
      as `pattern.render`, but [T, 4] the number of the token that each voice
      is at in place of that of the entry.
    """
    size = max(size, self.size, pattern_lib.length_of(
        self.frame, self.voice, self.pitch, self.macro, self.gate, codebook))
    state, source = pattern_lib.render(
        self.frame, self.voice, self.pitch, self.macro, self.gate, codebook,
        min(size, pattern_lib.MAX_FRAMES))
    return state, np.append(self.token, -1)[source]


class Table(NamedTuple):
  """What each token is; [V] int32 each.

  Attributes:
    kind: one of `KINDS`.
    voice: 0 to 3 of NOTE and OFF; of macros the kind of voice, 0 to 2; else -1.
    value: pitch, number of a macro, frames, rows; of tempos, parts of a frame.
  """
  kind: np.ndarray
  voice: np.ndarray
  value: np.ndarray


def _tokens(codebook: ins.Codebook):
  """Lists (name, kind, voice, value) of all tokens."""
  yield '<S>', START, -1, 0
  for i in range(len(LENGTHS)):
    yield f'LENGTH_{i}', LENGTH, -1, i
  for i in range(len(DENSITIES)):
    yield f'DENSITY_{i}', DENSITY, -1, i
  for i in range(16):
    yield f'VOICES_{i}', VOICES, -1, i
  for i in BARS:
    yield f'BAR_{i}', BAR, -1, i
  for i in TEMPOS:
    yield f'TEMPO_{i / PARTS:g}', TEMPO, -1, i
  for i in range(BARS[-1]):
    yield f'AT_{i}', AT, -1, i
  yield 'SKIP', SKIP, -1, 0
  for i in NUDGES:
    yield f'NUDGE_{i:+}', NUDGE, -1, i
  for i in DELAYS:
    yield f'DELAY_{i}', DELAY, -1, i
  for voice, (name, pitches, *_) in enumerate(ev.VOICES):
    yield f'{name}_OFF', OFF, voice, 0
    for pitch in pitches:
      yield f'{name}_NOTE_{pitch}', NOTE, voice, pitch
  for kind, sizes in enumerate(map(codebook.sizes, ins.KINDS)):
    for macro, size in enumerate(sizes):
      if size > 1:
        for i in range(size):
          yield (f'{ins.KIND_NAMES[kind]}_{ins.MACRO_NAMES[macro]}_{i}',
                 LEVEL + macro, kind, i)
  for i in GATES:
    yield f'GATE_{i}', GATE, -1, i


class Tracker:
  """The vocabulary of a codebook; the interface of `events.Vocabulary`.

  Attributes:
    name: 'tracker'.
    tokens: the text of each id.
    table: what each is.
    codebook: of the macros.
    dynamics: False: songs without dynamics can be written too.
  """
  name = 'tracker'
  dynamics = False

  def __init__(self, codebook: ins.Codebook):
    self.codebook = notes_lib.register(codebook)
    names, *table = zip(*_tokens(codebook), strict=True)
    self.tokens = names
    self.table = Table(*(np.array(x, np.int32) for x in table))
    self._id = {(kind, voice, value): number for number, (
        kind, voice, value) in enumerate(zip(*table, strict=True))}
    self._rows = list(zip(*table, strict=True))
    self._patterns: dict[bytes, pattern_lib.Pattern] = {}

  @property
  def version(self) -> str:
    """Names what patterns depend on but their songs."""
    return f'{PARSER}-{self.codebook.digest}'

  @property
  def size(self) -> int:
    return len(self.tokens)

  def id_of(self, kind: int, value: int = 0, voice: int = -1) -> int:
    """Returns a token's id.

    Raises:
      KeyError: there is no such token.
    """
    return self._id[kind, voice, value]

  def project(self, events: np.ndarray) -> np.ndarray:
    """Returns the song as it is: `encode` finds what is to be said of it."""
    return np.asarray(events)

  def prepare(self, corpus: Any) -> None:
    """Takes the patterns of a corpus from disk, where `store` has them."""
    with contextlib.suppress(FileNotFoundError):
      self._patterns.update(store.read(
          store.path_of(corpus.folder, corpus.split), self.version))

  def parse(self, events: np.ndarray) -> pattern_lib.Pattern:
    """Finds a song's notes, instruments and rows."""
    return pattern_lib.from_song(events, self.codebook)

  def pattern(self, events: np.ndarray) -> pattern_lib.Pattern:
    """Likewise, but for songs whose pattern is known already."""
    key = store.digest(events)
    if key not in self._patterns:
      while len(self._patterns) >= _MOST_PATTERNS:
        del self._patterns[next(iter(self._patterns))]
      self._patterns[key] = self.parse(np.asarray(events, np.int32))
    return self._patterns[key]

  def encode(self, events: np.ndarray) -> np.ndarray:
    """Turns a song into token ids, int16, without <S>.

    Args:
      events: int32 song. Its pattern is kept, for when it is read again.
    """
    return self.write(self.pattern(events))

  def encode_augmented(self, events: np.ndarray,
                       augmentation: augment.Augmentation,
                       rng: np.random.Generator) -> np.ndarray:
    """Augments and encodes a song, as training reads it.

    Raises:
      ValueError: a kind of augmentation that changes times.
    """
    if augmentation.tempo or augmentation.stretch or (
        augmentation.driver_jitter):
      raise ValueError('--format=tracker has rows and frames, no exact times: '
                       'of --augment it takes trim, voice_dropout, switch and '
                       'transpose')
    changes = augmentation.draw(rng)
    return self.write(pattern_lib.change(
        self.pattern(events), changes.voices, changes.switch,
        changes.semitones))

  def write(self, pattern: pattern_lib.Pattern) -> np.ndarray:
    """Turns a pattern into token ids, int16, without <S>."""
    ids = []
    add = ids.append
    get = self._id
    frame = pattern.frame
    if not len(frame):
      return np.zeros(0, np.int16)
    seconds = pattern.size * frames_lib.FRAME / ev.SAMPLE_RATE
    n_notes = int((pattern.pitch > 0).sum())
    playing = ev.voice_bits(pattern.voice)
    clock = clock_lib.Clock()
    clock.bar = pattern.bar_rows
    rows = pattern.row_frames
    row_of = np.searchsorted(rows, frame, 'right') - 1
    tempos = _tempos(rows)
    first = int(row_of[0])
    clock.tempo = int(tempos[first])
    add(get[LENGTH, -1, bin_of(seconds, LENGTHS)])
    add(get[DENSITY, -1, bin_of(n_notes / seconds, DENSITIES)])
    add(get[VOICES, -1, playing])
    add(get[BAR, -1, clock.bar])
    add(get[TEMPO, -1, clock.tempo])
    clock.begin(pattern.phase + first)
    add(get[AT, -1, clock.row])
    # Frame 0 is that of the first entry; its row began a little before.
    offset = int(rows[first])
    used, where = np.unique(row_of, return_index=True)
    bounds = np.append(where, len(frame)).tolist()
    begins = (rows[used] - offset).tolist()
    used = used.tolist()
    frames = (frame - offset).tolist()
    voice, pitch, gate, stays = (x.tolist() for x in (
        pattern.voice, pattern.pitch, pattern.gate, pattern.stays))
    macro = pattern.macro.tolist()
    sizes = [self.codebook.sizes(kind) for kind in ins.KIND_OF_VOICE]
    now = [[0, 0, 0, 0] for _ in range(4)]
    at = first
    for i, (row, begin) in enumerate(zip(used, begins, strict=True)):
      if i:
        ahead = row - at
        off = begin - clock.after(ahead)
        if not NUDGES[0] <= off <= NUDGES[-1]:
          ahead = max(1, round((begin - clock.frame) * PARTS / clock.tempo))
        while ahead > clock.bar:
          add(get[SKIP, -1, 0])
          clock.advance(clock.bar)
          ahead -= clock.bar
        clock.advance(ahead)
        add(get[AT, -1, clock.row])
        off = begin - clock.frame
        tempo = int(tempos[row])
        if tempo != clock.tempo:
          self._nudge(ids, clock, off)
          clock.set_tempo(tempo)
          add(get[TEMPO, -1, tempo])
        elif off and (off < 0 or off > 6 or self._lasting(
            clock, row, used, begins, i, off)):
          self._nudge(ids, clock, off)
        at = row
      delay = 0
      for e in range(bounds[i], bounds[i + 1]):
        later = frames[e] - clock.frame
        if later != delay:
          delay = later
          add(get[DELAY, -1, delay])
        v = voice[e]
        if not pitch[e]:
          add(get[OFF, v, 0])
          continue
        add(get[NOTE, v, pitch[e]])
        state, kind = now[v], ins.KIND_OF_VOICE[v]
        for m in range(3):
          if macro[e][m] != state[m] and sizes[v][m] > 1:
            state[m] = macro[e][m]
            add(get[LEVEL + m, kind, state[m]])
        wanted, held = gate[e], state[3]
        if wanted < 0:
          wanted = held if not held or held >= stays[e] else 0
        if wanted != held:
          state[3] = wanted
          add(get[GATE, -1, wanted])
    return np.array(ids, np.int16)

  def _nudge(self, ids: list[int], clock: clock_lib.Clock, frames: int) -> None:
    """Writes that a row begins so many frames later (or earlier, below 0)."""
    while frames:
      step = min(max(frames, NUDGES[0]), NUDGES[-1])
      ids.append(self._id[NUDGE, -1, step])
      clock.nudge(step)
      frames -= step

  @staticmethod
  def _lasting(clock, row, used, begins, i, off) -> bool:
    """Whether the next rows are late likewise."""
    late = [begins[j] - clock.after(used[j] - row)
            for j in range(i + 1, min(i + 3, len(used)))]
    return bool(late) and all(x >= off for x in late)

  def read(self, ids: np.ndarray) -> Reading:
    """Reads tokens; whatever they are, they give entries.

    Raises:
      ValueError: an id is outside 0 .. size - 1.
    """
    ids = np.asarray(ids)
    if ids.size and not 0 <= ids.min() <= ids.max() < self.size:
      raise ValueError(f'token id outside 0 .. {self.size - 1}: '
                       f'{ids.min()} .. {ids.max()}')
    clock = clock_lib.Clock()
    entries, now, last = [], [[0, 0, 0, 0] for _ in range(4)], -1
    delay = 0
    for number, token in enumerate(ids.tolist()):
      kind, voice, value = self._rows[token]
      if kind in (NOTE, OFF):
        last = voice if kind == NOTE else -1
        entries.append([clock.frame + delay, voice, number, value,
                        *now[voice]])
      elif kind >= LEVEL:
        fits = kind == GATE or (
            last >= 0 and voice == ins.KIND_OF_VOICE[last])
        if last >= 0 and fits:
          now[last][kind - LEVEL] = entries[-1][4 + kind - LEVEL] = value
      elif kind == AT:
        last, delay = -1, 0
        if clock.row < 0:
          clock.begin(value)
        else:
          self._go(clock, clock.rows_to(value))
      elif kind == DELAY:
        last, delay = -1, value
      elif kind == NUDGE:
        clock.nudge(value)
      elif kind == TEMPO:
        clock.set_tempo(value)
      elif kind == SKIP:
        self._go(clock, clock.bar)
      elif kind == BAR:
        clock.bar = value
        if clock.row >= 0:
          clock.row %= value
    entries.sort(key=lambda entry: entry[:3])
    table = np.array(entries, np.int64).reshape(-1, 8)
    return Reading(table[:, 0], table[:, 1], table[:, 3], table[:, 4:7],
                   table[:, 7], table[:, 2],
                   clock.after(1) if clock.row >= 0 else 0)

  @staticmethod
  def _go(clock: clock_lib.Clock, rows: int) -> None:
    if clock.after(rows) < pattern_lib.MAX_FRAMES - 1024:
      clock.advance(rows)
    else:
      clock.row = (clock.row + rows) % clock.bar

  def decode(self, ids: np.ndarray) -> np.ndarray:
    """Turns token ids into a song; any ids of the vocabulary give one.

    It lasts until its last row ends, or longer where a note does. Frames are
    those of an NTSC console, whatever the song that was encoded had.

    Raises:
      ValueError: an id is outside 0 .. size - 1.
    """
    return self.decode_with_tokens(ids)[0]

  def decode_with_tokens(self, ids: np.ndarray
                        ) -> tuple[np.ndarray, np.ndarray]:
    """Likewise, and says which token made which event.

    Returns:
      int32 song; [n] int32 number of the NOTE or OFF in `ids` that each event
      is of, -1 for waits
    """
    reading = self.read(ids)
    if not len(reading.token):
      return np.zeros(0, np.int32), np.zeros(0, np.int32)
    return pattern_lib.to_events(*reading.render(self.codebook))


def bin_of(value: float, edges) -> int:
  return next(i for i, edge in enumerate(edges) if value < edge)


def _tempos(row_frames: np.ndarray) -> np.ndarray:
  """[R] int32: tempo at each row, in parts of a frame; long stretches share."""
  n = len(row_frames) - 1
  tempos = np.zeros(n, np.int32)
  stretches, start = [], 0
  while start < n:
    # As far as one tempo explains all rows but for a frame and a half.
    low, high = 0., 1e9
    end = start + 1
    while end <= n:
      rows, time = end - start, row_frames[end] - row_frames[start]
      lower, upper = max(low, (time - 1.5) / rows), min(
          high, (time + 1.5) / rows)
      if lower > upper:
        break
      low, high, end = lower, upper, end + 1
    end = max(end - 1, start + 1)
    stretches.append((start, end, (row_frames[end] - row_frames[start]) / (
        end - start)))
    start = end
  typical = (row_frames[-1] - row_frames[0]) / n
  long = [s for s in stretches if s[1] - s[0] >= 24]
  tempo = max(long, key=lambda s: s[1] - s[0])[2] if long else typical
  for start, end, found in stretches:
    if end - start >= 24 and abs(found - tempo) > .75 / PARTS * 2:
      tempo = found
    tempos[start:end] = round(tempo * PARTS)
  return np.clip(tempos, TEMPOS[0], TEMPOS[-1])


@functools.cache
def default() -> Tracker:
  """Returns the vocabulary of the codebook that comes with the package."""
  return Tracker(ins.default())
