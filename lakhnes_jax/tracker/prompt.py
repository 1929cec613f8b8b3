"""Given songs as a model of the format `tracker` reads them.

Of a given song the model reads the pattern; what is written of it is the song
itself, to the sample. So frames of the pattern and samples of the song have to
be told apart and turned into each other, which is done here.
"""

from typing import Any, NamedTuple

import numpy as np

from lakhnes_jax import events as ev
from lakhnes_jax.tracker import pattern as pattern_lib

# Letters: n events, T frames of the pattern.


class Prompt(NamedTuple):
  """A song, its pattern, and where that lies in it.

  Attributes:
    song: int32, as it was given.
    pattern: of the song.
    starts: [T + 1] float64, samples at which the pattern's frames begin.
    ids: tokens that the model reads; their first row begins at frame 0 of the
      tokens.
    first: frame of the pattern at which frame 0 of the tokens is.
  """
  song: np.ndarray
  pattern: pattern_lib.Pattern
  starts: np.ndarray
  ids: np.ndarray
  first: int

  @property
  def length(self) -> int:
    """Samples."""
    times = ev.times_of(self.song)
    return int(times[-1]) if len(times) else 0

  @property
  def frame(self) -> float:
    """Samples of a frame, for those past the song's end."""
    return float(np.median(np.diff(self.starts)))

  def samples_of(self, frames: np.ndarray) -> np.ndarray:
    """Returns [k] int64, when frames of the tokens begin; 0 or later.

    Past either end of the song its clock goes on.
    """
    frames = np.asarray(frames) + self.first
    inside = np.clip(frames, 0, len(self.starts) - 1)
    samples = self.starts[inside] + (frames - inside) * self.frame
    return np.maximum(np.rint(samples), 0).astype(np.int64)

  def frames_of(self, samples: np.ndarray) -> np.ndarray:
    """Returns [k] int64, the frames of the tokens in which samples lie."""
    samples = np.asarray(samples, np.float64)
    frames = np.searchsorted(self.starts, samples, 'right') - 1
    past = np.floor((samples - self.starts[-1]) / self.frame).astype(np.int64)
    last = len(self.starts) - 1
    return np.where(frames >= last, last + past, frames) - self.first

  def tokens_of(self, token: np.ndarray) -> np.ndarray:
    """Returns which token each event of the song is from.

    Args:
      token: [S, 4] as `Reading.render` returns it.

    Returns:
      [n] int32; -1 for waits, and events of which no token says anything.
    """
    chip = self.song < 0
    frames = self.frames_of(ev.times_of(self.song)[chip])
    inside = (frames >= 0) & (frames < len(token))
    owner = np.full(len(self.song), -1, np.int32)
    owner[chip] = np.where(
        inside, token[np.clip(frames, 0, len(token) - 1),
                      ev.voice_of(self.song[chip])], -1)
    return owner


def read(vocabulary: Any, song: np.ndarray, events: int | None,
         samples: int) -> Prompt:
  """Finds the pattern of a given song, or of its beginning.

  Args:
    vocabulary: a `vocabulary.Tracker`.
    song: int32 song.
    events: only its first N, the first wait not counted.
    samples: only so much of it.

  Raises:
    ValueError: nothing is played.
  """
  song = ev.truncate(np.asarray(song, np.int32), samples)
  if events is not None:
    song = song[:events + int((song[:1] >= 0).sum())]
  if not (ev.kind_of(song) == ev.NOTEON).any():
    raise ValueError('the song is empty: nothing is played in the part that is '
                     'used; give one with notes')
  pattern, starts = pattern_lib.parse(song, vocabulary.codebook, goes_on=True)
  return Prompt(song, pattern, starts, vocabulary.write(pattern).astype(
      np.int32), int(row_at(pattern, 0)[1]))


def row_at(pattern: pattern_lib.Pattern, frame: int) -> tuple[int, int]:
  """Returns the row of a pattern that a frame is in, and when it begins."""
  row = int(np.searchsorted(pattern.row_frames, frame, 'right')) - 1
  return row, int(pattern.row_frames[row])
