"""Songs from what they play in frames, and back, event by event."""

import numpy as np

from lakhnes_jax import events as ev

_FRAME = ev.SAMPLE_RATE / 60.0988


def from_frames(events, n_frames: int) -> np.ndarray:
  """A song of (frame, voice, kind, value), in order, that lasts n frames."""
  return ev.from_times(
      np.array([round(frame * _FRAME) for frame, *_ in events]),
      np.array([ev.event(*event) for _, *event in events], np.int32),
      round(n_frames * _FRAME))


def state_by_frame(song, starts):
  """[T, 4, 3]: note, level and timbre when each frame ends, 0 in silence.

  Args:
    song: int32 song.
    starts: [T + 1] samples at which frames begin, and the last one ends.
  """
  voices = [[0, 15, 0] for _ in range(4)]
  frames, now = [], 0
  length = int(song[song > 0].sum())  # What comes then is not played.
  limits = list(starts[1:])

  def until(time):
    while len(frames) < len(limits) and limits[len(frames)] <= time:
      frames.append([[note, 15 if v == ev.TR else level,
                      0 if v == ev.TR else timbre]
                     if note and (level or v == ev.TR) else [0, 0, 0]
                     for v, (note, level, timbre) in enumerate(voices)])

  for event in song.tolist():
    if event > 0:
      now += event
      continue
    if now == length:
      break
    until(now)
    name = ev.to_text(np.array([event], np.int32))
    voice = ('P1', 'P2', 'TR', 'NO').index(name[:2])
    part = {'NOTEON': 0, 'NOTEOFF': 0, 'VELOCITY': 1, 'TIMBRE': 2}[
        name.split('_')[1]]
    voices[voice][part] = (int(name.split('_')[2])
                           if name.count('_') == 2 else 0)
  until(float('inf'))
  return np.array(frames, int)
