"""Clips of songs: five seconds, all four voices, equally loud."""

import numpy as np

from lakhnes_jax import events as ev
from lakhnes_jax import nes, render
from lakhnes_jax.report import plot
from lakhnes_jax.synth import score as scores

SECONDS = 5
_LENGTH = SECONDS * nes.SAMPLE_RATE
_TRIES = 50
_RMS, _PEAK = .1, .95
_FADE = nes.SAMPLE_RATE // 100


def cut(events: np.ndarray, draws: np.random.Generator) -> np.ndarray | None:
  """Renders a random clip of a song in which all four voices play.

  Args:
    events: int32 song (see `lakhnes_jax.events`).
    draws: decide where it begins.

  Returns:
    [5 s] float32 samples at 44.1 kHz; None if the song is shorter, or no such
    clip was found.
  """
  times = ev.times_of(events)
  if not len(times) or times[-1] < _LENGTH:
    return None
  score = scores.from_events(events)
  bars = [plot.notes(score, voice) for voice in range(4)]
  for _ in range(_TRIES):
    start = int(draws.integers(times[-1] - _LENGTH + 1))
    if all(((b[:, 0] < start + _LENGTH) & (b[:, 1] > start)).any()
           for b in bars):
      # Steps of the chip begin to sound a little before they come.
      audio, = render.render_events(
          [ev.truncate(events, start + _LENGTH + _FADE)])
      return level(audio[start:start + _LENGTH])
  return None


def level(audio: np.ndarray) -> np.ndarray:
  """Makes a clip as loud as all others, with soft ends.

  The r.m.s. becomes 0.1, or less where the peak would be above 0.95.
  """
  audio = audio - audio.mean()
  audio *= min(_RMS / max(np.sqrt(np.mean(audio**2)), 1e-9),
               _PEAK / max(np.abs(audio).max(), 1e-9))
  fade = np.linspace(0, 1, _FADE, dtype=np.float32)
  audio[:_FADE] *= fade
  audio[-_FADE:] *= fade[::-1]
  return audio.astype(np.float32)


def control(draws: np.random.Generator) -> np.ndarray:
  """Renders a clip of a song of uniformly random TX1 events."""
  while True:
    ids = draws.integers(1, ev.TX1.size, 200)  # 0 is <S>.
    clip = cut(ev.TX1.decode(ids), draws)
    if clip is not None:
      return clip
