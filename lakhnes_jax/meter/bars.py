"""Beats and bars, in rows.

A bar is the distance at which the onsets of the voices repeat best, among those
that make a bar of one to four seconds; a beat divides it by 2, 3 or 4. Bars
begin where the most notes do, above all low and loud ones.
"""

from typing import NamedTuple

import numpy as np

_BARS = {  # Rows per bar -> rows per beat, in the order of preference.
    16: 4, 12: 4, 8: 2, 24: 6, 32: 8, 6: 2, 48: 12, 64: 16, 18: 6, 20: 4, 4: 1,
    3: 1, 36: 12, 96: 24,
}
_BAR_FRAMES, _SPREAD = 115., .45  # Usual length, and its spread in octaves/e.


class Bars(NamedTuple):
  """Rows per beat and bar, the first row of a bar, 0 to 1 how sure."""
  rows_per_beat: int
  rows_per_bar: int
  bar_row: int
  confidence: float


def find(onsets: np.ndarray, row: float) -> Bars:
  """Finds beats and bars.

  Args:
    onsets: [R, 4] weights of the onsets of each voice on each row.
    row: frames per row.
  """
  n = len(onsets)
  candidates = [bar for bar in _BARS if 2 * bar <= n]
  if not candidates or not onsets.any() or not row:
    return Bars(4, 16, 0, 0.)
  total = onsets.sum(1)
  centred = onsets - onsets.mean(0)
  power = (centred ** 2).sum()
  score, likeness = [], []
  for bar in candidates:
    like = (centred[bar:] * centred[:-bar]).sum() / max(power, 1e-9) * (
        n / (n - bar))
    usual = -.5 * (np.log(bar * row / _BAR_FRAMES) / _SPREAD) ** 2
    likeness.append(like)
    score.append(like + .25 * np.exp(usual))
  best = int(np.argmax(score))
  bar = candidates[best]
  accents = np.bincount(np.arange(n) % bar, total + 1.5 * onsets[:, 2], bar)
  bar_row = int(np.argmax(accents + .01 * accents.max() * (
      np.arange(bar) == 0)))
  return Bars(_BARS[bar], bar, bar_row, float(np.clip(likeness[best], 0, 1)))
