"""Frames of a voice <-> its notes, each a pitch and macros from a codebook.

A *run* is what sounds between two silences. It is cut into notes where pitch or
level jump, so that few notes with few deviations say it: dynamic programming
over the places where a note may begin, with costs in tokens. Pitches and
silences come out exact; levels and tones as near as the codebook allows.
"""

import functools
from typing import NamedTuple

import numpy as np

from lakhnes_jax.tracker import instruments as ins

# Costs, in tokens.
NOTE_COST = 1.5  # Of another note; it may also need a delay.
CHANGE_COST = 1.  # Of a macro other than the note before had.
LEVEL_CHANGE_COST = 2.  # Of such a level macro: an instrument is kept.
OFFSET_COST = .3  # Of an offset macro at all.
SAME_PITCH_COST = .5  # Of a note that only renews the level.
LEVEL_COST = .1  # Of a level that is off by one for a frame.
TONE_COST = .06  # Of another tone for a frame.
_AHEAD = 16  # Places where a note may end, looked at from each beginning.
_LONGEST = ins.WIDTH
_NEAR = 64  # Frames; levels and tones of macros hold on from there.
_OFF = 1 << 14
_SILENT = 100  # In place of level 0 where a note sounds.


class Notes(NamedTuple):
  """The notes of one voice, in order; int32 arrays [n].

  Attributes:
    start: frame.
    end: frame at which it is silent, or the next note begins.
    pitch: as in `events`.
    level, tone, offset: numbers of its macros.
  """
  start: np.ndarray
  end: np.ndarray
  pitch: np.ndarray
  level: np.ndarray
  tone: np.ndarray
  offset: np.ndarray


def parse(frames: np.ndarray, kind: int, codebook: ins.Codebook) -> Notes:
  """Finds the notes of a voice.

  Args:
    frames: [T, 3] uint8, note, level and tone by frame (see `frames`).
    kind: of the voice.
    codebook: where macros are from.
  """
  note = frames[:, 0].astype(np.int16)
  sounds = note > 0
  edge = np.flatnonzero(np.diff(np.concatenate([[0], sounds, [0]])))
  spans = list(zip(edge[::2].tolist(), edge[1::2].tolist(), strict=True))
  starts, ends, pitches = [], [], []
  for begin, end in spans:
    part = frames[begin:end]
    cuts = _cut(part[:, 0].tobytes(), part[:, 1].tobytes(),
                part[:, 2].tobytes(), kind, codebook.digest) if (
        end - begin > 1) else ((0, 0),)
    cuts = np.array(cuts, np.int32)
    starts.append(begin + cuts[:, 0])
    pitches.append(note[begin + cuts[:, 0]])
    ends.append(np.append(starts[-1][1:], end))
  if not starts:
    return Notes(*np.zeros((6, 0), np.int32))
  start, end, pitch = (np.concatenate(x).astype(np.int32) for x in (
      starts, ends, pitches))
  following = np.append(start[1:], len(frames))
  level = _choose_levels(frames[:, 1], start, end, following, kind, codebook)
  tone = _choose_tones(frames[:, 2], start, end, kind, codebook)
  offset = _choose_offsets(note, start, end, kind, codebook)
  return Notes(start, end, pitch, level, tone, offset)


def _windows(values: np.ndarray, start: np.ndarray, width: int) -> np.ndarray:
  """[n, width]: what follows each start, the last value repeated."""
  return values[np.minimum(start[:, None] + np.arange(width), len(values) - 1)]


@functools.lru_cache(maxsize=1 << 16)
def _cut(pitch: bytes, level: bytes, tone: bytes, kind: int,
         digest: str) -> tuple[tuple[int, int], ...]:
  """Cuts a run into notes; returns (first frame, 0) of each."""
  macros = _macros(digest).kinds[kind]
  pitch = np.frombuffer(pitch, np.uint8).astype(np.int16)
  level = np.frombuffer(level, np.uint8).astype(np.int16)
  tone = np.frombuffer(tone, np.uint8).astype(np.int16)
  size = len(pitch)
  moved = np.diff(pitch) != 0
  places = np.flatnonzero(np.concatenate(
      [[True], moved | (np.diff(level) > 1) | (np.diff(tone) != 0)]))
  if len(places) == 1:
    return ((0, 0),)
  n = len(places)
  bounds = np.append(places, size)
  ahead = np.minimum(np.arange(n)[:, None] + 1 + np.arange(_AHEAD), n)
  length = bounds[ahead] - places[:, None]  # [n, ahead], frames.
  same = np.append(False, pitch[places[1:]] == pitch[places[1:] - 1])
  cost = np.full((n, _AHEAD), NOTE_COST) + np.where(
      same, SAME_PITCH_COST, 0)[:, None]
  if len(macros.ends) > 1:
    cost += LEVEL_COST * _least(level, places, length,
                                macros.table[ins.LEVEL], False)
  if (tone != tone[0]).any():
    cost += TONE_COST * _least(tone, places, length, macros.table[ins.TONE],
                               True)
  # A pitch that stays has no limit; an offset has that of its table.
  turns = np.append(np.flatnonzero(moved) + 1, size)
  plain = (turns[np.searchsorted(turns, places, 'right')] - places)[:, None]
  matched = _matched(pitch, places, macros.table[ins.OFFSET])[:, None]
  cost += np.where(length <= plain, 0, np.where(
      length <= matched, OFFSET_COST, np.inf))
  best = np.full(n + 1, np.inf)
  best[0], back = 0, np.zeros(n + 1, np.int32)
  for i in range(n):
    for j, c in zip(ahead[i].tolist(), cost[i].tolist(), strict=True):
      total = best[i] + c
      if total < best[j]:
        best[j], back[j] = total, i
  found, at = [], n
  while at:
    at = int(back[at])
    found.append((int(places[at]), 0))
  return tuple(found[::-1])


_BY_DIGEST = {}


def _macros(digest: str) -> ins.Codebook:
  return _BY_DIGEST[digest]


def register(codebook: ins.Codebook) -> ins.Codebook:
  """Makes a codebook known to the cache of runs."""
  _BY_DIGEST[codebook.digest] = codebook
  return codebook


def _unique(windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  rows, index, inverse = {}, [], np.zeros(len(windows), np.int64)
  for i, row in enumerate(windows):
    key = row.tobytes()
    if key not in rows:
      rows[key] = len(index)
      index.append(i)
    inverse[i] = rows[key]
  return np.array(index, np.int64), inverse


def _least(values: np.ndarray, places: np.ndarray, length: np.ndarray,
           table: np.ndarray, binary: bool) -> np.ndarray:
  """[n, k]: least deviation of any macro from each place on.

  Args:
    values: [size] of a run.
    places: [n] where notes may begin.
    length: [n, k] frames after which they may end.
    table: [m, WIDTH]; constant from frame `_NEAR` on.
    binary: count frames that differ, in place of differences.
  """
  near = min(_NEAR, int(length.max()))
  windows = _windows(values, places, near).astype(np.int8)
  kept, inverse = _unique(windows)
  if not binary:  # A macro that is silent too early is far off.
    table = np.where(table > 0, table, _SILENT).astype(np.int8)
  last = table[:, -1]
  tails, kind_of_tail = np.unique(last, return_inverse=True)
  head = np.minimum(length, near) - 1
  # After the head only the last value of a macro counts.
  off = values[None] != tails[:, None] if binary else np.abs(
      values[None] - tails[:, None])
  total = np.concatenate([np.zeros((len(tails), 1)), np.cumsum(off, 1)], 1)
  after = np.minimum(places[:, None] + length, len(values))
  tail = total[:, after] - total[:, np.minimum(
      places[:, None] + head + 1, len(values))]  # [tails, n, k]
  long = (length > near).any()
  result = np.full(length.shape, np.inf)
  for part in range(0, len(kept), 64):
    chosen = kept[part:part + 64]
    window = windows[chosen][:, None]
    off = (window != table[None, :, :near] if binary else
           np.abs(window - table[None, :, :near]))
    errors = np.cumsum(off, -1, dtype=np.int16)  # [u, m, near]
    if not long:
      least = errors.min(1)  # [u, near]
      mine = np.flatnonzero((inverse >= part) & (inverse < part + 64))
      result[mine] = np.take_along_axis(least[inverse[mine] - part],
                                        head[mine], 1)
      continue
    for which in range(len(tails)):
      least = errors[:, kind_of_tail == which].min(1)
      mine = np.flatnonzero((inverse >= part) & (inverse < part + 64))
      result[mine] = np.minimum(result[mine], np.take_along_axis(
          least[inverse[mine] - part], head[mine], 1) + tail[which][mine])
  return result


def _matched(pitch: np.ndarray, places: np.ndarray,
             table: np.ndarray) -> np.ndarray:
  """[n]: frames over which some offset macro is exact, at most `_LONGEST`."""
  near = min(12, len(pitch))
  windows = (_windows(pitch, places, near) - pitch[places][:, None]
            ).astype(np.int8)
  kept, inverse = _unique(windows)
  wrong = windows[kept][:, None] != table[None, :, :near]
  exact = np.where(wrong.any(-1), wrong.argmax(-1), near)  # [u, m]
  result = np.minimum(exact.max(1)[inverse], len(pitch) - places)
  for i in np.flatnonzero(result >= near).tolist():
    rest = pitch[places[i]:places[i] + _LONGEST] - pitch[places[i]]
    macros = table[exact[inverse[i]] >= near]
    wrong = macros[:, :len(rest)] != rest
    result[i] = np.where(wrong.any(1), wrong.argmax(1), len(rest)).max()
  return result


def _sticky(cost: np.ndarray, change_cost: float) -> np.ndarray:
  """[n] choices of least cost [n, m], where a change has its cost too."""
  n, m = cost.shape
  if not n:
    return np.zeros(0, np.int32)
  total, came = cost[0].copy(), np.zeros((n, m), np.int32)
  own = np.arange(m)
  for i in range(1, n):
    cheapest = int(total.argmin())
    change = total[cheapest] + change_cost
    stays = total <= change
    came[i] = np.where(stays, own, cheapest)
    total = np.minimum(total, change) + cost[i]
  choice = np.zeros(n, np.int32)
  choice[-1] = total.argmin()
  for i in range(n - 1, 0, -1):
    choice[i - 1] = came[i, choice[i]]
  return choice


def _deviations(values: np.ndarray, start: np.ndarray, end: np.ndarray,
                table: np.ndarray, binary: bool) -> np.ndarray:
  """[n, m]: summed deviation of each macro over each note.

  A product of matrices: which value a note has at which frame, and how far
  each macro is from each value at each frame.
  """
  top = int(max(values.max(initial=0), table.max())) + 1
  length = end - start
  near = min(_NEAR, int(length.max()))
  inside = np.arange(near) < length[:, None]
  windows = np.where(
      inside, _windows(values, start, near).astype(np.int8), np.int8(-1))
  # Frames at each value after the head.
  counts = np.concatenate([np.zeros((top, 1), np.int32), np.cumsum(
      values[None] == np.arange(top)[:, None], 1, dtype=np.int32)], 1)
  rest = (counts[:, end] - counts[:, np.minimum(start + near, end)]).T
  key = np.concatenate([windows, rest.astype('<i4').view(np.int8)], 1)
  kept, inverse = _unique(key)
  steps = np.arange(top)
  off = (steps[:, None, None] != table[None, :, :near] if binary else np.abs(
      steps[:, None, None] - table[None, :, :near])).astype(np.float32)
  here = (windows[kept][:, None] == steps[None, :, None]).astype(np.float32)
  found = here.reshape(len(kept), -1) @ off.transpose(0, 2, 1).reshape(
      top * near, -1)
  last = table[:, -1]
  off = (steps[:, None] != last if binary else np.abs(steps[:, None] - last))
  found += rest[kept].astype(np.float32) @ off.astype(np.float32)
  return found[inverse]


def _choose_levels(level, start, end, following, kind, codebook):
  macros = codebook.kinds[kind]
  table, ends = macros.table[ins.LEVEL], macros.ends
  if len(table) == 1:
    return np.zeros(len(start), np.int32)
  cost = LEVEL_COST * _deviations(level, start, end, table, False)
  length = (end - start)[:, None]
  cost[np.broadcast_to(ends < length, cost.shape)] = _OFF
  # A macro that ends where the note does needs no gate.
  silence = (end < following)[:, None]
  cost += np.where(silence & (ends != length), .6, 0)
  return _sticky(cost, LEVEL_CHANGE_COST)


def _choose_tones(tone, start, end, kind, codebook):
  table = codebook.kinds[kind].table[ins.TONE]
  if len(table) == 1:
    return np.zeros(len(start), np.int32)
  return _sticky(TONE_COST * _deviations(tone, start, end, table, True),
                 CHANGE_COST)


def _choose_offsets(note, start, end, kind, codebook):
  """Exact ones only; `parse` has cut so that there is one."""
  table = codebook.kinds[kind].table[ins.OFFSET]
  cost = np.zeros((len(start), len(table)), np.float32)
  known = {}
  for i, (a, b) in enumerate(zip(start.tolist(), end.tolist(), strict=True)):
    values = note[a:b] - note[a]
    if b - a > _LONGEST or not values.any():
      values = values[:_LONGEST]
    key = values.tobytes()
    if key not in known:
      wrong = (table[:, :len(values)] != values).any(1)
      known[key] = np.where(wrong, _OFF, 0) + np.where(
          np.arange(len(table)) > 0, .1, 0)
    cost[i] = known[key]
  return _sticky(cost, CHANGE_COST)


def render(notes: Notes, kind: int, codebook: ins.Codebook,
           size: int) -> np.ndarray:
  """Plays notes: [size, 3] uint8 note, level and tone by frame.

  Of a pitch that an offset leads out of what 8 bits and the voice hold nothing
  sounds.
  """
  frames = np.zeros((size, 3), np.uint8)
  macros = codebook.kinds[kind]
  low, high = {ins.PULSE: (33, 108), ins.TRIANGLE: (21, 108),
               ins.NOISE: (1, 16)}[kind]
  for start, end, pitch, level, tone, offset in zip(
      *(x.tolist() for x in notes), strict=True):
    end = min(end, size)
    if start >= end:
      continue
    k = np.arange(end - start)
    k = np.minimum(k, ins.WIDTH - 1)
    p = pitch + macros.table[ins.OFFSET][offset][k].astype(np.int16)
    v = macros.table[ins.LEVEL][level][k]
    on = (v > 0) & (p >= low) & (p <= high)
    part = frames[start:end]
    part[:, 0] = np.where(on, p, 0)
    part[:, 1] = np.where(on, v, 0)
    part[:, 2] = macros.table[ins.TONE][tone][k]
  return frames
