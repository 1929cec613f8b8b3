"""Rows of a song: a stand-in until `lakhnes_jax.meter` is here."""

from typing import NamedTuple

import numpy as np

_PERIODS = np.arange(3, 17, 1 / 16)


class Rows(NamedTuple):
  """Attributes: row_frames [R + 1] int32; bar_rows; phase, of row 0 in its bar;
  confidence."""
  row_frames: np.ndarray
  bar_rows: int
  phase: int
  confidence: float


def find(onsets: np.ndarray, size: int) -> Rows:
  """Finds rows from the frames of note onsets."""
  on = np.unique(onsets)
  if not len(on):
    return Rows(np.array([0, max(size, 1)], np.int32), 16, 0, 0.)
  apart = (on[None] - on[:, None]).reshape(-1)
  apart = apart[(apart > 2) & (apart < 128)]
  period, best = 6., 0.
  if len(apart) >= 8:
    counts = np.bincount(apart, minlength=128)
    phase = np.cos(2 * np.pi * np.arange(128) / _PERIODS[:, None])
    score = phase @ counts / counts.sum()
    # Long rows are better than their halves, if they say as much.
    best = score.max()
    period = _PERIODS[np.flatnonzero(score >= max(.92 * best, best - .05))[-1]]
    while period < 4.4:
      period *= 2
  kept, number = [int(on[0])], [0]
  for f in on[1:].tolist():
    step = (f - kept[-1]) / period
    k = round(step)
    if k >= 1 and abs(step - k) * period <= 1.01:
      kept.append(f)
      number.append(number[-1] + k)
  n = number[-1] + int(np.ceil((size - kept[-1]) / period)) + 1
  rows = np.interp(np.arange(n + 1), number, kept)
  tail = np.arange(n + 1) > number[-1]
  rows[tail] = kept[-1] + period * (np.arange(n + 1)[tail] - number[-1])
  rows = np.maximum.accumulate(np.rint(rows).astype(np.int32))
  rows = np.unique(rows)
  rows = rows[: int(np.searchsorted(rows, size)) + 1]
  if len(rows) < 2:
    rows = np.array([rows[0], rows[0] + 1], np.int32)
  return Rows(rows, 16, 0, float(best))
