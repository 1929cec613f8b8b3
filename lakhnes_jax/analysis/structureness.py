"""Structureness: how much of a song comes again, over how long a time.

The self-similarity of a song's chroma is searched for segments that repeat: the
*fitness* of a segment is the harmonic mean of how well its repetitions match
(score) and how much of the song they cover (coverage), less what any segment
gets by matching itself. A structureness indicator is the best fitness of any
segment of a range of lengths.

Sources: Mueller, Jiang and Grosche, "A Robust Fitness Measure for Capturing
Repetitions in Music Recordings with Applications to Audio Thumbnailing" (2013);
Wu and Yang, "The Jazz Transformer on the Front Line" (ISMIR 2020), whose ranges
these are.
"""

import numpy as np

from lakhnes_jax import events as ev
from lakhnes_jax.synth import score as scores

RANGES = {'short': (3, 8), 'mid': (8, 15), 'long': (15, 1 << 30)}  # Seconds.
_RATE = 2  # Chroma vectors per second.
_THRESHOLD = .3  # Share of similarities that is kept.
_PENALTY = -2  # Of what is not.
_SMOOTH = 4  # Vectors, along diagonals.
# Of `recurrence`: steps per second, steps of a window and up to earlier ones.
_STEPS, _WINDOW, _AGO = 10, 20, 100


def structureness(song: np.ndarray) -> dict[str, float]:
  """Structureness indicators of a song.

  Args:
    song: int32 events (see `lakhnes_jax.events`).

  Returns:
    `structureness_short`, `_mid` and `_long`, 0 to 1: the largest fitness of
    segments of `RANGES` seconds; nan where the song is not twice as long.
  """
  chroma = chromagram(song)
  found = {f'structureness_{name}': np.nan for name in RANGES}
  if len(chroma) < 2 * _RATE * RANGES['short'][0] or not chroma.any():
    return found
  similarity = enhance(chroma)
  for name, (shortest, longest) in RANGES.items():
    lengths = range(shortest * _RATE, min(
        longest * _RATE, len(chroma) // 2 + 1, 40 * _RATE), _RATE)
    best = [fitness(similarity, np.arange(
        0, len(chroma) - length + 1, _RATE), length).max()
            for length in lengths]
    if best:
      found[f'structureness_{name}'] = float(max(best))
  return found


def recurrence(song: np.ndarray) -> float:
  """How like some earlier time a song is, in the same key and rhythm.

  Args:
    song: int32 events.

  Returns:
    0 to 1: the mean over windows of 2 s of the largest cosine similarity of any
    that began 10 s or more before. What is compared are the NOTEONs of P1, P2
    and TR by voice, pitch class and tenth of a second. nan for songs of less
    than 13 s.
  """
  is_on = (ev.kind_of(song) == ev.NOTEON) & (ev.voice_of(song) != ev.NO)
  times = ev.times_of(song)
  n = int(times[-1]) * _STEPS // ev.SAMPLE_RATE if len(song) else 0
  if n < _AGO + _STEPS + _WINDOW:
    return np.nan
  count_NxC = np.zeros((n, 12 * len(ev.VOICES)))
  step = times[is_on] * _STEPS // ev.SAMPLE_RATE
  column = ev.voice_of(song)[is_on] * 12 + ev.value_of(song)[is_on] % 12
  inside = step < n
  np.add.at(count_NxC, (step[inside], column[inside]), 1)
  windows = np.lib.stride_tricks.sliding_window_view(
      count_NxC, _WINDOW, axis=0).reshape(n - _WINDOW + 1, -1)
  windows = windows / np.maximum(
      np.linalg.norm(windows, axis=1, keepdims=True), 1e-9)
  similarity = np.tril(windows @ windows.T, -_AGO)
  return float(similarity[_AGO + _STEPS:].max(1).mean())


def chromagram(song: np.ndarray) -> np.ndarray:
  """[frames, 12]: time that pitch classes of P1, P2 and TR sound, of norm 1."""
  score = scores.from_events(song)
  step = ev.SAMPLE_RATE // _RATE
  n_frames = score.length // step
  if not n_frames:
    return np.zeros((0, 12))
  chroma = time_by_pitch_class(score, np.arange(n_frames + 1) * step)
  norm = np.linalg.norm(chroma, axis=1, keepdims=True)
  return np.divide(chroma, norm, out=np.zeros_like(chroma), where=norm > 0)


def time_by_pitch_class(score: scores.Score, edges: np.ndarray) -> np.ndarray:
  """[len(edges) - 1, 12]: samples that pitch classes of P1, P2 and TR sound.

  Args:
    score: of a song.
    edges: samples, ascending; between each and the next.
  """
  ends = np.append(score.start[1:], score.length)
  found = np.zeros((len(edges) - 1, 12))
  for v in (ev.P1, ev.P2, ev.TR):
    note = score.state[:, v, scores.NOTE].astype(int)
    for pitch_class in range(12):
      is_on = (note > 0) & (note % 12 == pitch_class)
      if is_on.any():
        # Time sounding up to each edge, exactly.
        total = np.append(0, np.cumsum((ends - score.start) * is_on))
        at = np.interp(edges, np.append(score.start, score.length), total)
        found[:, pitch_class] += np.diff(at)
  return found


def enhance(chroma: np.ndarray) -> np.ndarray:
  """[frames, frames]: self-similarity in any key, smoothed, thresholded.

  1 on the diagonal, at most 1 elsewhere; `_PENALTY` for the less similar.
  """
  n = len(chroma)
  best = np.full((n, n), -1.)
  for key in range(12):
    plain = chroma @ np.roll(chroma, key, 1).T
    padded = np.pad(plain, ((0, _SMOOTH - 1),) * 2, mode='edge')
    smooth = sum(padded[i:i + n, i:i + n] for i in range(_SMOOTH)) / _SMOOTH
    best = np.maximum(best, smooth)
  limit = np.quantile(best, 1 - _THRESHOLD)
  scaled = (best - limit) / max(best.max() - limit, 1e-9)
  scaled = np.where(best > limit, scaled, _PENALTY)
  np.fill_diagonal(scaled, 1)
  return scaled


def fitness(similarity: np.ndarray, starts: np.ndarray,
            length: int) -> np.ndarray:
  """Fitness of segments of one length, 0 to 1 (Mueller et al., section IV).

  Of the best family of paths over the columns of a segment: each path runs
  through the whole segment, by steps (1, 1), (1, 2) and (2, 1), and no two
  overlap in time.

  Args:
    similarity: [N, N], see `enhance`.
    starts: [S], first frames.
    length: frames.
  """
  n = len(similarity)
  columns = starts[:, None] + np.arange(length)
  cell_NxSxC = similarity[:, columns]
  # Of the best family that ends in each cell: its value, number of cells, and
  # rows covered. Two empty rows come first.
  best = np.zeros((3, n + 2, len(starts), length))
  best[0, :2] = -np.inf
  free = np.zeros((3, len(starts)))  # Of the best that ended above.
  for row in range(2, n + 2):
    ended = best[:, row - 1, :, -1]
    free = np.where(ended[0] > free[0], ended, free)
    one, two = best[:, row - 1], best[:, row - 2]
    before = np.full((3, 3, len(starts), length), -np.inf)
    before[0, :, :, 1:] = one[..., :-1]
    before[1, :, :, 2:] = one[..., :-2]
    before[2, :, :, 1:] = two[..., :-1]
    which = before[:, 0].argmax(0)
    chosen = np.take_along_axis(before, which[None, None], 0)[0]
    chosen[:, :, 0] = free
    rows = 1 + (which == 2)
    rows[:, 0] = 1
    best[:, row] = chosen + np.stack([cell_NxSxC[row - 2],
                                      np.ones_like(rows), rows])
  ended = best[:, -1, :, -1]
  total, cells, covered = np.where(ended[0] > free[0], ended, free)
  # What any segment gets by being its own repetition does not count.
  score = np.maximum(0, total - length) / np.maximum(cells, 1)
  coverage = np.maximum(0, covered - length) / n
  both = score + coverage
  return np.divide(2 * score * coverage, both, out=np.zeros_like(both),
                   where=both > 0)
