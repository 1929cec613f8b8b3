"""When a game's music program was called: the frames of a song.

A program is called once per video frame and writes to the chip's registers for
some hundred samples. Notes of the pulses and of noise begin as it writes them;
the triangle's notes and the steps of hardware envelopes come up to a quarter of
a frame later, on ticks of the chip's frame counter. So note-ons give the rate
and the phase, and a frame begins just before the densest part of its cycle.

Rates: NTSC has 60.0988 frames per second, PAL 50.0070 (see `nes`); logs of
programs that were called by a timer have 60 and 50.
"""

from typing import NamedTuple

import numpy as np

from lakhnes_jax import events as ev
from lakhnes_jax import nes

_PERIODS = np.array([nes.FRAME_NTSC, nes.FRAME_60HZ, nes.FRAME_PAL,
                     nes.FRAME_50HZ])
_USUAL = np.array([.15, .1, 0, 0])  # By how much NTSC may agree less than PAL.
_FREE_HZ = (45., 260.)  # Where other rates are searched for.
_STEPS = 1024  # Changes of volume that are looked at.
_BIN = 49  # Samples; the resolution of that search.
_CLEAR = .6  # Concentration at which a known rate needs no other one.
_WINDOW = 1.5 * ev.SAMPLE_RATE  # Half the time in which a phase is measured.
_N_BINS = 96  # Of a frame, to find where it begins.
_MARGIN = .1  # Of a frame before its first event, where there is room.
_FEW, _ENOUGH = 12, 48  # Note-ons that say nothing, all about a rate.


class Clock(NamedTuple):
  """Frames of a song.

  Attributes:
    frame: samples between two calls of the program.
    confidence: 0 to 1, how well note-ons agree with that.
    starts: [F + 1] float64, the sample at which each frame begins, and the end
      of the last; ascending, starts[0] <= 0.
  """
  frame: float
  confidence: float
  starts: np.ndarray

  def frames_of(self, samples: np.ndarray) -> np.ndarray:
    """[n] int64 frames of times in samples; the rate goes on outside."""
    samples = np.asarray(samples, np.float64)
    inside = np.searchsorted(self.starts, samples, 'right') - 1
    after = len(self.starts) - 1 + np.floor(
        (samples - self.starts[-1]) / self.frame).astype(np.int64)
    before = np.floor((samples - self.starts[0]) / self.frame).astype(np.int64)
    return np.where(samples < self.starts[0], before,
                    np.where(samples >= self.starts[-1], after, inside))


def find(times: np.ndarray, events: np.ndarray, length: int) -> Clock:
  """Finds the frames of a song.

  Args:
    times: [n] int64, samples, of chip events in playing order.
    events: [n] int32, those events.
    length: samples, the end of the song.
  """
  voice, kind = ev.voice_of(events), ev.kind_of(events)
  is_on = (kind == ev.NOTEON) & (voice != ev.TR)
  if is_on.sum() < _FEW:
    is_on = kind == ev.NOTEON
  on, by = times[is_on].astype(np.float64), voice[is_on]
  is_step = (kind == ev.VELOCITY) & (np.cumsum(kind == ev.VELOCITY) <= _STEPS)
  period, confidence = _rate(
      on, by, times[is_step].astype(np.float64), voice[is_step])
  at, turns = _phase(on, by, period)
  weight = np.where(is_on, 1., .1)
  place = times / period - np.interp(times, at, turns)
  place += _begin(place, weight)
  return Clock(period, confidence, _starts(times, place, period, length))


def _rate(on: np.ndarray, voice: np.ndarray, steps: np.ndarray,
          step_voice: np.ndarray) -> tuple[float, float]:
  """Returns samples per frame and how sure that is.

  Args:
    on: times of note-ons.
    voice: of each, as each has its own latency.
    steps: times of changes of volume; those of software come every frame.
    step_voice: of each.
  """
  if len(on) < _FEW:
    return nes.FRAME_NTSC, 0.
  known = _concentration(on, voice, _PERIODS)
  local = np.array([_local(on, voice, p) for p in _PERIODS])
  stepped = (_concentration(steps, step_voice, _PERIODS)
             if len(steps) >= _FEW else np.zeros(len(_PERIODS)))
  best = int(np.argmax(known + .5 * local + .5 * stepped + _USUAL))
  period, found = _PERIODS[best], max(
      known[best], local[best] ** 2, stepped[best] ** 2)
  if found < _CLEAR ** 2 and len(on) >= _ENOUGH:
    free, share = _free_rate(on)
    if share > max(2 * found, .75):
      period, found = free, share
  chance = 1.2 / np.sqrt(len(on))
  return float(period), float(np.clip((found - chance) / (1 - chance), 0, 1))


def _concentration(on: np.ndarray, voice: np.ndarray,
                   periods: np.ndarray) -> np.ndarray:
  """Mean vectors of times on circles of these periods: their lengths.

  Each voice has its own, less what chance would give, and counts by its notes.
  """
  z = np.exp(2j * np.pi * on / periods[:, None])
  total = np.zeros(len(periods))
  for v in range(len(ev.VOICES)):
    mine = voice == v
    if count := np.count_nonzero(mine):
      power = np.abs(z[:, mine].sum(1)) ** 2
      total += np.sqrt(np.maximum(power - count, 0) * count / max(count - 1, 1))
  return total / len(on)


def _local(on: np.ndarray, voice: np.ndarray, period: float) -> float:
  """The same, where the phase may change slowly."""
  z = np.exp(2j * np.pi / period * on)
  total = 0.
  for v in range(len(ev.VOICES)):
    mine = voice == v
    if mine.any():
      near, count = _windowed(on[mine], z[mine])
      share = (np.abs(near) ** 2 / count - 1) / np.maximum(count - 1, 1)
      total += np.sqrt(np.clip(share, 0, 1)).sum()
  return total / len(on)


def _windowed(on: np.ndarray, z: np.ndarray):
  """Sums z over all that is near in time; returns sums and counts."""
  first = np.searchsorted(on, on - _WINDOW)
  last = np.searchsorted(on, on + _WINDOW, 'right')
  total = np.concatenate([[0], np.cumsum(z)])
  return total[last] - total[first], last - first


def _free_rate(on: np.ndarray) -> tuple[float, float]:
  """Searches all rates; returns the best period and its concentration."""
  bins = ((on - on[0]) // _BIN).astype(np.int64)
  n = 1 << int(np.ceil(np.log2(2 * bins[-1] + 2)))
  n = min(n, 1 << 18)
  spectrum = np.abs(np.fft.rfft(np.bincount(bins % n, minlength=n), n))
  hertz = np.arange(len(spectrum)) * ev.SAMPLE_RATE / _BIN / n
  ticks = ev.SAMPLE_RATE / np.maximum(hertz, 1) / nes.TICK
  spectrum[(hertz < _FREE_HZ[0]) | (hertz > _FREE_HZ[1]) |
           (abs(ticks - np.rint(ticks)) < .02)] = 0
  peak = int(np.argmax(spectrum))
  near = ev.SAMPLE_RATE / _BIN / n * (peak + np.linspace(-1, 1, 41))
  periods = ev.SAMPLE_RATE / near
  share = _concentration(on, np.zeros(len(on)), periods)
  best = int(np.argmax(share))
  return float(periods[best]), float(share[best])


def _phase(on: np.ndarray, voice: np.ndarray, period: float):
  """Follows the phase of the frames.

  Returns:
    times, ascending, and the phase at them in turns: one value where the clock
    is steady, else one for each note-on
  """
  if len(on) < _FEW:
    return np.zeros(1), np.zeros(1)
  steady = _concentration(on, voice, np.array([period]))[0]
  if steady > .7 or _local(on, voice, period) - steady < .15:
    return np.zeros(1), np.zeros(1)
  near, _ = _windowed(on, np.exp(2j * np.pi / period * on))
  at, first = np.unique(on, return_index=True)
  return at, np.unwrap(np.angle(near[first])) / (2 * np.pi)


def _begin(place: np.ndarray, weight: np.ndarray) -> float:
  """Turns to add to places so that frames begin at whole numbers."""
  if not len(place):
    return 0.
  bins = np.floor((place % 1) * _N_BINS).astype(np.int64) % _N_BINS
  mass = np.bincount(bins, weight, _N_BINS)
  mass /= mass.sum()
  # Mean square of the time since the frame began, for each beginning.
  since = (np.arange(_N_BINS) / _N_BINS) ** 2
  cost = np.fft.irfft(np.fft.rfft(mass) * np.conj(np.fft.rfft(since)), _N_BINS)
  begin = int(np.argmin(cost))
  before = mass[(begin - 1 - np.arange(_N_BINS // 2)) % _N_BINS]
  room = int(np.searchsorted(np.cumsum(before), .01)) / _N_BINS
  return -(begin / _N_BINS - min(_MARGIN, room / 2))


def _starts(times: np.ndarray, place: np.ndarray, period: float,
            length: int) -> np.ndarray:
  """[F + 1] samples at which frames begin, from places of events in frames."""
  if not len(times):
    return np.arange(max(1, round(length / period)) + 1) * period
  place = np.maximum.accumulate(place)
  at, last = np.unique(times, return_index=True)
  place = place[last]
  first = np.floor(place[0] - at[0] / period)
  end = max(place[-1] + (length - at[-1]) / period - .25, place[-1])
  n = int(np.floor(end - first)) + 1
  frames = np.arange(n + 1) + first
  keep = np.concatenate([[True], np.diff(place) > 1e-9])
  at, place = at[keep], place[keep]
  starts = np.interp(frames, place, at.astype(np.float64))
  starts = np.where(frames < place[0],
                    at[0] - (place[0] - frames) * period, starts)
  return np.where(frames > place[-1],
                  at[-1] + (frames - place[-1]) * period, starts)
