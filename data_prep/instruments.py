"""Learns the macros of notes from songs: shards -> a codebook of instruments.

  python -m data_prep.instruments --input=data/nesmdb

Songs with dynamics are needed. Every song counts alike, however long it is.
Takes some minutes; the same songs give the same file.
"""

import argparse
import collections
import pathlib
import sys
import time

import numpy as np

from data_prep import pool
from lakhnes_jax import command_line, meter
from lakhnes_jax.data import shards
from lakhnes_jax.tracker import frames, notes
from lakhnes_jax.tracker import instruments as ins

# Macros of each kind of voice: sustained levels, levels that end by themselves,
# tones, offsets.
SIZES = {ins.PULSE: (288, 64, 24, 160), ins.TRIANGLE: (1, 0, 1, 96),
         ins.NOISE: (96, 160, 12, 64)}
WINDOW = 64  # Frames of a note that are looked at.
_ORNAMENT = 3  # Frames; a pitch that stays no longer is part of a macro.
_ATTACK = 4  # A level that jumps so far begins a note.
_RENEWED = 6  # Frames after which an attack is no longer part of a note's own.
_APART = 4  # Frames between notes that only a level tells apart.
_MOST = 20  # Notes of one macro that count in one song.


def main(argv: list[str] | None = None) -> int:
  command_line.escape_output()
  parser = argparse.ArgumentParser(
      prog='python -m data_prep.instruments', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--input', required=True, type=command_line.path,
                      help='folder of shards with dynamics')
  parser.add_argument('--split', default='train')
  parser.add_argument('--output', type=command_line.path, default=ins.PATH,
                      help='the codebook (default: that of the package)')
  parser.add_argument('--songs', type=command_line.whole(), default=0,
                      metavar='N',
                      help='of so many songs, spread evenly (default: all)')
  parser.add_argument('--rounds', type=command_line.whole(0, 100), default=1,
                      help='times that notes are found anew with the codebook')
  parser.add_argument('--initial', type=command_line.path, metavar='FILE',
                      help='codebook to find notes with in the first round, in '
                      'place of rules of thumb')
  parser.add_argument('--workers', default=0, metavar='N',
                      type=command_line.whole(0, command_line.MAX_WORKERS),
                      help='processes (default: one per CPU core)')
  args = parser.parse_args(argv)
  started = time.monotonic()
  try:
    corpus = shards.Corpus(args.input, args.split)
    n = len(corpus) if not args.songs else min(args.songs, len(corpus))
    chosen = np.linspace(0, len(corpus) - 1, n).astype(int).tolist()
    work = [(str(args.input), args.split, chosen[i:i + 16])
            for i in range(0, n, 16)]
    return _learn(work, args, started)
  except (OSError, ValueError) as error:
    print(f'data_prep.instruments: {error}', file=sys.stderr)
    return 1


def _learn(work, args, started) -> int:
  """Writes the codebook, once more each round."""
  for number in range(args.rounds + 1):
    counts = [collections.Counter() for _ in range(9)]
    known = args.output if number else args.initial
    jobs = [(*job, known and str(known)) for job in work]
    for _, found, reason in pool.attempt_all(_count, jobs, args.workers):
      if reason is not None:
        raise ValueError(reason)
      for total, part in zip(counts, found, strict=True):
        for key, value in part.items():
          total[key] += value
    macros = []
    for kind in ins.KINDS:
      sustained, ending, tones, offsets = SIZES[kind]
      macros += [
          levels(counts[3 * kind], sustained, ending, kind == ins.NOISE),
          sequences(counts[3 * kind + 1], tones, [((v,), 0) for v in range(
              {ins.PULSE: 4, ins.TRIANGLE: 1, ins.NOISE: 2}[kind])]),
          movements(counts[3 * kind + 2], offsets)]
    ins.write(args.output, macros)
    print(f'{args.output}: round {number}, macros ' +
          ' '.join(str(len(m)) for m in macros) +
          f', {time.monotonic() - started:.0f} s', flush=True)
  return 0


def _count(job):
  """Counts the macros of the notes of some songs."""
  folder, split, songs, path = job
  corpus = shards.Corpus(folder, split)
  codebook = notes.register(ins.read(pathlib.Path(path))) if path else None
  totals = [collections.Counter() for _ in range(9)]
  for song in songs:
    events = np.asarray(corpus.song(song))
    state = frames.from_events(events, frames.starts_of(meter.analyze(events)))
    counts = [collections.Counter() for _ in range(9)]
    for voice, kind in enumerate(ins.KIND_OF_VOICE):
      part = state[:, voice]
      if codebook is None:
        start, end = heuristic(part)
      else:
        parsed = notes.parse(part, kind, codebook)
        start, end = parsed.start, parsed.end
      following = np.append(start[1:], len(part))[:len(start)]
      for a, b, c in zip(start.tolist(), end.tolist(), following.tolist(),
                         strict=True):
        b = min(b, a + WINDOW)
        note = part[a:b].astype(np.int16)
        ended = c > b and b < a + WINDOW
        if kind != ins.TRIANGLE:
          counts[3 * kind][note[:, 1].astype(np.int8).tobytes(), ended] += 1
          counts[3 * kind + 1][canonical(note[:, 2])] += 1
        moves = (note[:, 0] - note[0, 0]).astype(np.int8)
        if moves.any():
          counts[3 * kind + 2][moves.tobytes()] += 1
    for number, (total, count) in enumerate(zip(totals, counts, strict=True)):
      for key, value in count.items():
        # Movements of pitch are as many as songs; those of one song alone are
        # melody.
        total[key] += min(value, 3 if number % 3 == ins.OFFSET else _MOST)
  return totals


def heuristic(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Cuts a voice into notes without a codebook; returns starts and ends."""
  pitch, level = frames[:, 0].astype(int), frames[:, 1].astype(int)
  sounds = pitch > 0
  before = np.append(0, pitch[:-1])
  change = np.flatnonzero(pitch != before)
  stays = np.diff(np.append(change, len(pitch)))
  starts = []
  lasts = dict(zip(change.tolist(), stays.tolist(), strict=True))
  last, was = -99, 99  # Start of the note; how long the pitch before stayed.
  rise = np.append(level[:1], np.diff(level))
  for f in np.flatnonzero(sounds & ((pitch != before) | (rise >= _ATTACK))
                         ).tolist():
    if before[f] == 0:
      starts.append(f)
      last = f
    elif pitch[f] != before[f]:
      if min(was, lasts[f]) > _ORNAMENT or (
          rise[f] >= _ATTACK and f - last >= _APART):
        starts.append(f)
        last = f
    elif f - last >= _APART:
      starts.append(f)
      last = f
    if f in lasts:
      was = lasts[f]
  starts = np.array(starts, int)
  quiet = np.append(np.flatnonzero(~sounds), len(pitch))
  ends = quiet[np.searchsorted(quiet, starts)] if len(starts) else starts
  return starts, np.minimum(ends, np.append(starts[1:], len(pitch)))


def canonical(values: np.ndarray) -> tuple[tuple[int, ...], int]:
  """The shortest (sequence, loop point) that goes on as `values` do."""
  values = np.asarray(values)
  n = len(values)
  turns = np.flatnonzero(np.diff(values)) + 1
  if not len(turns):
    return (int(values[0]),), 0
  held = int(turns[-1]) + 1
  best = (held, held - 1, held)
  for period in range(2, min(24, n // 2) + 1):
    same = values[period:] == values[:-period]
    first = 0 if same.all() else int(np.flatnonzero(~same)[-1]) + 1
    # It must come twice in full to count as a loop.
    if n - first >= 2 * period and len(np.unique(
        values[first:first + period])) > 1 and first + period < best[0]:
      best = (first + period, first, period)
  size, loop, _ = best
  return tuple(values[:size].tolist()), loop


def sequences(counts: collections.Counter, n: int, always):
  """The n most frequent macros, those that are always there first."""
  found = list(always)
  for key, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
    if len(found) >= n:
      break
    if key not in found:
      found.append(key)
  return [(np.array(values, np.int8), loop) for values, loop in found]


def movements(counts: collections.Counter, n: int):
  """Offset macros that stand for most notes.

  A macro stands for all sequences that it begins like. A single step of pitch
  after more than two frames is left to notes: that is melody.
  """
  raw = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:40000]
  windows = np.full((len(raw), WINDOW), -128, np.int8)
  gains = np.zeros(len(raw))
  candidates = {}
  for i, (data, count) in enumerate(raw):
    values = np.frombuffer(data, np.int8)
    windows[i, :len(values)] = values
    steps = np.flatnonzero(np.diff(values))
    gains[i] = count * min(len(steps), 8)
    if len(steps) > 1 or steps[0] < 2:
      key = canonical(values)
      if is_ornament(*key):
        candidates[key] = candidates.get(key, 0) + gains[i]
  found = [(np.zeros(1, np.int8), 0)]
  top = sorted(candidates.items(), key=lambda item: (-item[1], item[0]))[:1500]
  inside = windows > -128
  covers = [((windows == ins.expand(np.array(values), loop)[:WINDOW]) | ~inside
            ).all(1) for (values, loop), _ in top]
  covers = np.array(covers).reshape(len(top), len(raw))
  left = gains.copy()
  for _ in range(n - 1):
    gain = covers @ left
    if not gain.any():  # They stand for all, or there are none.
      break
    best = int(np.argmax(gain))
    (values, loop), _ = top[best]
    found.append((np.array(values, np.int8), loop))
    left[covers[best]] = 0
  return found


def is_ornament(values, loop: int) -> bool:
  """Whether an offset macro is an ornament: all else is melody, for notes.

  Vibratos and trills by a semitone may begin late; slides go one way; of
  arpeggios and the like no pitch stays for more than three frames.
  """
  values = np.asarray(values)
  steps = np.diff(values)
  if not steps.any() or np.abs(values).max() <= 1:
    return len(values) <= 48
  if (steps >= 0).all() or (steps <= 0).all():
    runs = np.diff(np.flatnonzero(steps), prepend=-1)
    return len(values) <= 32 and (runs[1:] <= 4).all() and runs[0] <= 8
  held = np.diff(np.flatnonzero(np.append(steps != 0, loop < len(values) - 1)),
                 prepend=-1)
  return (held <= _ORNAMENT).all() and len(values) <= (
      16 if loop == len(values) - 1 else 24)


def levels(counts: collections.Counter, n_sustained: int, n_ending: int,
           noise: bool):
  """Clusters envelopes: k-means in which a note speaks of its own frames."""
  if n_sustained == 1:
    return [(np.array([1], np.int8), 0)]
  windows, weights, ended = [], [], collections.Counter()
  for (data, ends), count in sorted(counts.items()):
    values = np.frombuffer(data, np.int8)
    windows.append(np.pad(values, (0, WINDOW - len(values)),
                          constant_values=-1))
    weights.append(count)
    # A note that is cut off in its middle is what a gate is for.
    if ends and len(values) < 48 and (
        2 * values[-1] <= values.max() or (len(values) < 4 and noise)):
      ended[data] += count
  x, w = np.stack(windows), np.array(weights, np.float64)
  constants = [np.full(WINDOW, v, np.int8) for v in range(1, 16)]
  centers = _cluster(x, w, n_sustained - 15, constants)
  centers = [c for c in centers if not is_renewed(c)]
  found = [(_shorten(c), None) for c in [*constants, *centers]]
  found = [(s, len(s) - 1) for s, _ in found]
  seen = []
  # Envelopes that end: the most frequent, but for near doubles.
  for data, _ in sorted(ended.items(), key=lambda item: (-item[1], item[0])):
    if len(seen) >= n_ending:
      break
    values = np.frombuffer(data, np.int8).astype(np.int16)
    if any(len(values) == len(other) and
           np.abs(values - other).sum() <= max(1, len(values) // 2)
           for other in seen):
      continue
    seen.append(values)
  found += [(np.append(s, 0).astype(np.int8), len(s)) for s in seen]
  return found


def is_renewed(values: np.ndarray) -> bool:
  """Whether an envelope begins anew in its middle: that is another note."""
  late = np.asarray(values, np.int16)
  rise = late[2:] - late[:-2]
  return bool((rise[_RENEWED - 2:] >= _ATTACK).any())


def _shorten(values: np.ndarray) -> np.ndarray:
  turns = np.flatnonzero(np.diff(values))
  return values[:int(turns[-1]) + 2 if len(turns) else 1]


def _cluster(x: np.ndarray, w: np.ndarray, k: int, fixed) -> list[np.ndarray]:
  """Medians of k clusters by L1 over the frames that a note has."""
  mask = x >= 0
  length = mask.sum(1)
  # Long and frequent ones first; then whatever is farthest from all so far.
  keep = np.argsort(-(w * np.minimum(length, 32)), kind='stable')[:20000]
  x, w, mask = x[keep].astype(np.int16), w[keep], mask[keep]
  value = np.minimum(w, 1e9)
  nearest = np.full(len(x), np.inf)

  def distance(center):
    return np.where(mask, np.abs(x - center), 0).sum(1).astype(np.float64)

  for center in fixed:
    nearest = np.minimum(nearest, distance(center.astype(np.int16)))
  centers = []
  for _ in range(k):
    # The note whose removal of cost is (roughly) the largest.
    best = int(np.argmax(value * nearest))
    centers.append(_extend(x[best]))
    nearest = np.minimum(nearest, distance(centers[-1]))
  for _ in range(6):
    every = np.stack([*[c.astype(np.int16) for c in fixed], *centers])
    near = np.full(len(x), np.inf)
    owner = np.zeros(len(x), int)
    for number, center in enumerate(every):
      d = distance(center)
      closer = d < near
      near[closer], owner[closer] = d[closer], number
    for number in range(len(fixed), len(every)):
      mine = np.flatnonzero(owner == number)
      if len(mine):
        centers[number - len(fixed)] = _median(
            x[mine], w[mine], centers[number - len(fixed)])
  order = np.argsort([-w[owner == number + len(fixed)].sum()
                      for number in range(len(centers))], kind='stable')
  return [centers[i].astype(np.int8) for i in order]


def _extend(values: np.ndarray) -> np.ndarray:
  last = int((values >= 0).sum())
  return np.where(np.arange(len(values)) < last, values, values[last - 1])


def _median(x: np.ndarray, w: np.ndarray, old: np.ndarray) -> np.ndarray:
  """Weighted median by frame; where nobody says anything, the last value."""
  result = np.zeros(x.shape[1], np.int16)
  mass = np.zeros((16, x.shape[1]))
  for v in range(1, 16):
    mass[v] = ((x == v) * w[:, None]).sum(0)
  total = mass.sum(0)
  median = (np.cumsum(mass, 0) >= total / 2).argmax(0)
  for f in range(x.shape[1]):
    result[f] = median[f] if total[f] > 0 else result[f - 1]
  return np.where(result > 0, result, old)


if __name__ == '__main__':
  sys.exit(main())
