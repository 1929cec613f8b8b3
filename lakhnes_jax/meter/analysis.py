"""All of a song's meter at once."""

from typing import NamedTuple

import numpy as np

from lakhnes_jax import events as ev
from lakhnes_jax.meter import bars, clock, form, onsets, rows, sections

_AUDIBLE = .3  # Weight of an onset that counts as one.


class Meter(NamedTuple):
  """The grid that a song was written on.

  Attributes:
    frame: samples between two calls of the music program: 733.79 for NTSC,
      735 where a log has 60 Hz, 881.88 for PAL, or another.
    phase: sample at which frame 0 begins, at most 0.
    frame_confidence: 0 to 1.
    row: frames per row on average, not always whole; 0 where none was found.
    row_confidence: 0 to 1, the share of onsets on rows less what chance gives.
    row_frames: [R + 1] int32, the frame at which each row begins, then the end
      of the song; strictly ascending. Without a row: equal rows of 8 frames.
    rows_per_beat: rows.
    rows_per_bar: rows.
    bar_row: the first row at which a bar begins.
    bar_confidence: 0 to 1.
    loop: rows (start, end): after `end` the song goes on at `start`; None where
      none was found.
    loop_confidence: 0 to 1.
    sections: (row, label) of each section; those that are alike have a label.
    frame_starts: [F + 1] float64, the sample at which each frame begins, and
      the end of the last; the clock, where it is not quite steady.
  """
  frame: float
  phase: float
  frame_confidence: float
  row: float
  row_confidence: float
  row_frames: np.ndarray
  rows_per_beat: int
  rows_per_bar: int
  bar_row: int
  bar_confidence: float
  loop: tuple[int, int] | None
  loop_confidence: float
  sections: tuple[tuple[int, str], ...]
  frame_starts: np.ndarray


def analyze(song: np.ndarray, bar_weights: np.ndarray = bars.WEIGHTS) -> Meter:
  """Finds the meter of a song.

  Args:
    song: int32 song (see `events`), with or without dynamics.
    bar_weights: of what makes a bar; `bars` has them.
  """
  song = np.asarray(song)
  is_chip = song < 0
  times = ev.times_of(song)
  length = int(times[-1]) if len(times) else 0
  times, chip = times[is_chip], song[is_chip]
  ticks = clock.find(times, chip, length)
  frames = ticks.frames_of(times)
  n_frames = max(len(ticks.starts) - 1, 1)
  frames = np.minimum(frames, n_frames)
  notes = onsets.find(frames, chip, n_frames)
  grid = rows.find(notes, int(frames[0]) if len(frames) else 0, n_frames)
  by_row = _by_row(notes, grid)
  bar = bars.find(by_row, grid.length, bar_weights)
  loop, loop_confidence = form.loop(by_row.pitch, bar, grid.length)
  return Meter(
      frame=ticks.frame, phase=float(ticks.starts[0]),
      frame_confidence=ticks.confidence, row=grid.length,
      row_confidence=grid.confidence, row_frames=grid.frames,
      rows_per_beat=bar.rows_per_beat, rows_per_bar=bar.rows_per_bar,
      bar_row=bar.bar_row, bar_confidence=bar.confidence, loop=loop,
      loop_confidence=loop_confidence,
      sections=(sections.find(by_row.pitch, bar, loop) if grid.length else
                ((0, 'A'),)),
      frame_starts=ticks.starts)


def _by_row(notes: onsets.Onsets, grid: rows.Rows) -> bars.RowNotes:
  """Sorts notes by row and voice; of several the first that counts stays."""
  n_rows = len(grid.frames) - 1
  # A frame early is still the row's.
  row = np.clip(np.searchsorted(grid.frames, notes.frame + 1, 'right') - 1, 0,
                n_rows - 1)
  at = row, notes.voice
  weight, length = np.zeros((n_rows, 4)), np.zeros((n_rows, 4))
  np.maximum.at(weight, at, notes.weight)
  np.maximum.at(length, at, notes.frames / max(grid.length, 1.))
  pitch, level = np.zeros((2, n_rows, 4), np.int64)
  last_first = np.flatnonzero(notes.weight > _AUDIBLE)[::-1]
  at = row[last_first], notes.voice[last_first]
  pitch[at], level[at] = notes.pitch[last_first], notes.level[last_first]
  return bars.RowNotes(weight, pitch, level, length)


def frames_of(meter: Meter, samples: np.ndarray) -> np.ndarray:
  """[n] int32 frames of times in samples."""
  return clock.Clock(meter.frame, meter.frame_confidence, meter.frame_starts
                     ).frames_of(samples).astype(np.int32)
