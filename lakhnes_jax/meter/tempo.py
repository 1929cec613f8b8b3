"""How many frames a row has, and where a song changes that.

Cosines of the times between onsets say which lengths are worth a try, for the
song and for windows of it. Each of these is then followed through the song, and
the longest of those wins that leave few onsets between rows.
"""

import functools
from typing import NamedTuple

import numpy as np

_REACH = 128  # Frames between onsets that are compared.
LENGTHS = np.exp(np.arange(np.log(2.9), np.log(25), .004))  # Frames.
_LONG, _LONGEST = .055, 12.  # Worth of a row of twice the length, up to this.
_BEST, _OF_BEST = 7, .45  # So many lengths are tried, those of such scores.
_PHASE_ROWS = 12  # Rows on either side, in which the phase is measured.
_AUDIBLE, _FEW = .05, 8  # Weight of onsets that count; fewest with a row.
_NEAR = .6  # Frames between an onset and the row it is on.
_SWING, _EACH = .03, .45  # Shares of onsets, and of each parity, in swing.
_SKEW = .3  # Of a row, by which odd rows may be late.
_WINDOW, _HOP = 384, 96  # Frames; of the search for changes.
_SAME = .1  # Worth of a row of about the length in another part of the song.
_SWITCH = 1.6  # Cost of a change, in windows.


class Track(NamedTuple):
  """Rows of some length along onsets.

  Attributes:
    length: frames per row.
    place: [n] float64, of each onset in rows, ascending; whole numbers where
      rows begin, but for `swing`.
    swing: frames by which rows of even and odd number deviate.
    score: about the share of onsets on rows, less what chance gives.
  """
  length: float
  place: np.ndarray
  swing: tuple[float, float]
  score: float

  @property
  def value(self) -> float:
    """The score and what so long a row is worth; the largest wins."""
    return self.score + float(_worth(self.length))


@functools.lru_cache
def _cosines() -> np.ndarray:
  """[1 + _REACH, lengths] cosines of lags on circles of each length."""
  lag = np.arange(_REACH + 1)
  return np.cos(2 * np.pi * lag[:, None] / LENGTHS).astype(np.float32)


def scores(mass: np.ndarray) -> np.ndarray:
  """[.., lengths] mean cosine of times between onsets, -1 to 1.

  Args:
    mass: [.., V, F] weights of onsets by voice and frame. Times between onsets
      of one voice count twice, as voices may be apart by some frames.
  """
  size = 1 << int(np.ceil(np.log2(mass.shape[-1] + _REACH + 1)))
  spectrum = np.fft.rfft(mass, size)
  power = (np.abs(spectrum) ** 2).sum(-2) + np.abs(spectrum.sum(-2)) ** 2
  pairs = np.maximum(np.fft.irfft(power, size)[..., :_REACH + 1], 0)
  pairs[..., :2] = 0
  pairs /= np.maximum(pairs.sum(-1, keepdims=True), 1)
  # Not `@`: threads of BLAS wait for one another where cores are scarce.
  return np.einsum('...d,dl->...l', pairs.astype(np.float32), _cosines())


def _worth(length):
  """What rows of some length are worth, in shares of onsets."""
  return _LONG * np.log2(np.minimum(length, _LONGEST))


def segments(mass: np.ndarray) -> list[tuple[int, int]]:
  """Cuts a song at changes of tempo; returns (first, last + 1) in frames.

  Args:
    mass: [V, F] weights of onsets by voice and frame.
  """
  n = mass.shape[1]
  if n < 2 * _WINDOW:
    return [(0, n)]
  half = _WINDOW // 2  # The first and the last are half empty.
  windows = np.lib.stride_tricks.sliding_window_view(
      np.pad(mass, ((0, 0), (half, half))), _WINDOW, 1)
  windows = windows[:, ::_HOP].swapaxes(0, 1)
  score_WxL = np.maximum(scores(windows), 0) + 2 * _worth(LENGTHS)
  total = score_WxL[0]
  came_WxL = np.zeros(score_WxL.shape, np.int64)
  same = np.arange(len(LENGTHS))
  for w in range(1, len(windows)):
    other = int(total.argmax())
    switches = total[other] - _SWITCH > total
    came_WxL[w] = np.where(switches, other, same)
    total = np.maximum(total, total[other] - _SWITCH) + score_WxL[w]
  path = [int(total.argmax())]
  for w in range(len(windows) - 1, 0, -1):
    path.append(int(came_WxL[w, path[-1]]))
  path = np.array(path[::-1])
  cuts = np.flatnonzero(np.diff(path)) + 1
  length = LENGTHS[path]
  # A window that is half of either is about where the change is.
  at = [_refine(mass.sum(0), c * _HOP - _HOP // 2, length[c - 1],
                length[c])
        for c in cuts.tolist() if not _multiple(length[c - 1], length[c])]
  at = sorted({cut for cut in at if 0 < cut < n})
  return list(zip([0, *at], [*at, n], strict=True))


def _refine(mass: np.ndarray, cut: int, before: float, after: float) -> int:
  """Moves a change of tempo to where rows of both lengths fit best.

  Args:
    mass: [F] weights of onsets by frame.
    cut: about the frame of the change.
    before: frames per row until then.
    after: frames per row from then on.
  """
  frame = np.arange(max(0, cut - _WINDOW), min(len(mass), cut + _WINDOW))
  weight = mass[frame]
  fit = []
  for length, inside in ((before, frame < cut - _HOP),
                         (after, frame >= cut + _HOP)):
    z = np.exp(2j * np.pi * frame / length)
    mean = (weight * z)[inside].sum()
    fit.append(weight * (z * np.conj(mean)).real / max(abs(mean), 1e-9))
  gain = np.cumsum(fit[0] - fit[1])
  return int(frame[np.argmax(gain)]) + 1


def _multiple(a: float, b: float) -> bool:
  """Whether one length is about a whole number of the other."""
  ratio = max(a, b) / min(a, b)
  return abs(ratio - round(ratio)) < .03 * ratio


def onset_frames(mass: np.ndarray) -> np.ndarray:
  """[n] int64 frames with onsets that count, of [V, F] weights."""
  return np.flatnonzero(mass.sum(0) > _AUDIBLE)


def choose(mass: np.ndarray, near: float = 0.) -> Track | None:
  """Chooses the rows of a song, or of a part of it.

  Args:
    mass: [V, F] weights of onsets by voice and frame.
    near: frames; rows of about this length are preferred.

  Returns:
    the best, along `onset_frames`, or None where nothing repeats
  """
  at = onset_frames(mass)
  if len(at) < _FEW:
    return None
  score = scores(mass)
  inner = score[1:-1]
  peaks = 1 + np.flatnonzero((inner >= score[:-2]) & (inner > score[2:]))
  if not len(peaks) or score[peaks].max() < .15:
    return None
  peaks = peaks[score[peaks] > _OF_BEST * score[peaks].max()]
  worth = score[peaks] + 2 * _worth(LENGTHS[peaks])
  peaks = peaks[np.argsort(-worth)[:_BEST]]
  weight = np.minimum(mass.sum(0)[at], 2)
  tracks = [track_rows(at, weight, float(LENGTHS[peak])) for peak in peaks]
  return max(tracks, key=lambda track: track.value + _SAME * (
      near > 0 and abs(np.log(track.length / near)) < .3))


def track_rows(at: np.ndarray, weight: np.ndarray, length: float) -> Track:
  """Tracks rows of about a length along onsets at [n] frames."""
  place = _places(at, weight, length)
  row = np.rint(place)
  off = (place - row) * length
  straight, hits = _center(off, weight, length)
  swing = straight, straight
  odd = row.astype(np.int64) % 2 == 1
  if odd.any() and not odd.all() and length >= 4.5:
    centers, shares = zip(*(_center(off[x], weight[x], length)
                            for x in (~odd, odd)), strict=True)
    both = sum(shares)
    if (abs(centers[0] - centers[1]) < _SKEW * length and
        both > hits + _SWING * weight.sum() and
        min(shares[0] / weight[~odd].sum(), shares[1] / weight[odd].sum())
        > _EACH):
      swing, hits = centers, both - .02 * weight.sum()
  hits /= weight.sum()
  chance = 2 * _NEAR / length
  return Track(length, place, swing, float((hits - chance) / (1 - chance)))


def _places(at: np.ndarray, weight: np.ndarray, length: float) -> np.ndarray:
  """[n] ascending places in rows, by the phase of all onsets around each."""
  z = weight * np.exp(2j * np.pi * at / length)
  reach = _PHASE_ROWS * length
  first = np.searchsorted(at, at - reach)
  last = np.searchsorted(at, at + reach, 'right')
  total = np.concatenate([[0], np.cumsum(z)])
  phase = np.unwrap(np.angle(total[last] - total[first])) / (2 * np.pi)
  place = np.maximum.accumulate(at / length - phase)
  return place + 1e-9 * np.arange(len(at))


def _center(off: np.ndarray, weight: np.ndarray, length: float
            ) -> tuple[float, float]:
  """Returns the deviation that most onsets have, and how many do."""
  bins = np.floor((off + length / 2) * 2).astype(np.int64)
  mass = np.bincount(np.maximum(bins, 0), weight)
  if len(mass) < 3:
    return 0., float(mass.sum())
  # Three bins of half a frame; then exactly around their mean.
  middle = int(np.argmax(np.convolve(mass, [1, 1.01, 1], 'same')))
  inside = np.abs(bins - middle) <= 1
  center = float(np.average(off[inside], weights=weight[inside]))
  return center, float(weight[np.abs(off - center) <= _NEAR].sum())
