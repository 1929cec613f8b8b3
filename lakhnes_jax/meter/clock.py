"""When a game's music program was called: the frames of a song.

A program is called once per video frame and writes to the chip's registers for
some hundred samples. Notes of the pulses and of noise begin as it writes them;
the triangle's notes and the steps of hardware envelopes come up to a quarter of
a frame later, on ticks of the chip's frame counter. So note-ons give the rate
and the phase, and a frame begins just before the densest part of its cycle.

Rates: NTSC has 1789772.7 / 29780.5 = 60.0988 frames per second, PAL
1662607 / 33247.5 = 50.0070 (NESdev wiki, "Cycle reference chart"); logs of
programs that were called by a timer have 60 and 50.
"""

from typing import NamedTuple

import numpy as np

from lakhnes_jax import events as ev

NTSC = ev.SAMPLE_RATE / (1789772.727 / 29780.5)
_PERIODS = np.array([NTSC, ev.SAMPLE_RATE / 60,
                     ev.SAMPLE_RATE / (1662607 / 33247.5), ev.SAMPLE_RATE / 50])
_USUAL = np.array([.15, .1, 0, 0])  # By how much NTSC may agree less than PAL.
_FREE_HZ = (45., 260.)  # Where other rates are searched for.
_TICK = ev.SAMPLE_RATE / 240  # Samples between ticks of the frame counter.
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
  on = times[is_on].astype(np.float64)
  period, confidence = _rate(on)
  z = np.exp(2j * np.pi / period * on)
  at, turns = _phase(on, z)
  turn_of = np.interp(times, at, turns)
  weight = np.where(is_on, 1., .1)
  place = times / period - turn_of + _begin(
      times / period - turn_of, weight)
  return Clock(period, confidence, _starts(times, place, period, length))


def _rate(on: np.ndarray) -> tuple[float, float]:
  """Returns samples per frame and how sure that is, from times of note-ons."""
  if len(on) < _FEW:
    return NTSC, 0.
  known = _concentration(on, _PERIODS)
  local = np.array([_local_concentration(on, p) for p in _PERIODS])
  best = int(np.argmax(known + .5 * local + _USUAL))
  period, found = _PERIODS[best], max(known[best], local[best] ** 2)
  if found < _CLEAR ** 2 and len(on) >= _ENOUGH:
    free, share = _free_rate(on)
    if share > max(2 * found, .75):
      period, found = free, share
  chance = 1.2 / np.sqrt(len(on))
  return float(period), float(np.clip((found - chance) / (1 - chance), 0, 1))


def _concentration(on: np.ndarray, periods: np.ndarray) -> np.ndarray:
  """Lengths of the mean vectors of times on circles of these periods."""
  return np.abs(np.exp(2j * np.pi * on / periods[:, None]).mean(1))


def _local_concentration(on: np.ndarray, period: float) -> float:
  """The same, where the phase may change slowly; less what chance gives."""
  total, count = _windowed(on, np.exp(2j * np.pi / period * on))
  share = np.abs(total) / count
  return float(np.sqrt(np.clip((share ** 2 * count - 1) / np.maximum(
      count - 1, 1), 0, 1)).mean())


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
  ticks = ev.SAMPLE_RATE / np.maximum(hertz, 1) / _TICK
  spectrum[(hertz < _FREE_HZ[0]) | (hertz > _FREE_HZ[1]) |
           (abs(ticks - np.rint(ticks)) < .02)] = 0
  peak = int(np.argmax(spectrum))
  near = ev.SAMPLE_RATE / _BIN / n * (peak + np.linspace(-1, 1, 41))
  periods = ev.SAMPLE_RATE / near
  share = _concentration(on, periods)
  best = int(np.argmax(share))
  return float(periods[best]), float(share[best])


def _phase(on: np.ndarray, z: np.ndarray):
  """Follows the phase of the frames.

  Returns:
    times, ascending, and the phase at them in turns: one value where the clock
    is steady, else one for each note-on
  """
  if not len(on):
    return np.zeros(1), np.zeros(1)
  mean = z.mean()
  if len(on) < _FEW:
    return on[:1], np.angle(z[:1].mean(keepdims=True)) / (2 * np.pi)
  total, count = _windowed(on, z)
  local = (np.abs(total) / count).mean()
  if abs(mean) > .7 or local - abs(mean) < .15:
    return on[:1], np.array([np.angle(mean) / (2 * np.pi)])
  at, first = np.unique(on, return_index=True)
  turns = np.unwrap(np.angle(total[first])) / (2 * np.pi)
  return at, turns


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
