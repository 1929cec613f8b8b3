"""Composed songs whose meter is known: frames, rows, beats, bars and loop.

What `data_prep.compose` makes has a whole number of frames per row and lies on
it exactly. Here it is played again as real programs play: at 60.0988, 60 or 50
calls per second, at fractional tempi, with swing, a change of tempo, notes that
come a frame late, broken chords, vibrato and falling drums, the latency of the
program, and triangle notes on ticks of the frame counter.
"""

import itertools
from typing import NamedTuple

import numpy as np

from data_prep import compose_chip, music, styles
from lakhnes_jax import events as ev
from lakhnes_jax import nes

RATES = {'ntsc': nes.SAMPLE_RATE / nes.FRAME_RATES[0],
         '60 Hz': float(nes.FRAME_60HZ), '50 Hz': float(nes.FRAME_50HZ)}
TEMPI = ('whole', 'fractional', 'swing', 'change')
_LATE = .06  # Share of notes that come a frame late, where some do.
_ORNATE = .35  # Share of notes with ornaments, where some have them.


class Song(NamedTuple):
  """A song and what is known of it.

  Attributes:
    events: int32 song (see `lakhnes_jax.events`).
    period: samples per frame.
    calls: [n] int64, true frame of each chip event.
    step_frames: [S + 1] frames of the steps of the style's grid.
    units: {steps per row: share of notes between such rows}.
    steps_per_beat: steps.
    steps_per_bar: steps; step 0 begins a bar.
    loop: steps (start, end), or None.
    kind: what was done to it, in words.
  """
  events: np.ndarray
  period: float
  calls: np.ndarray
  step_frames: np.ndarray
  units: dict[int, float]
  steps_per_beat: int
  steps_per_bar: int
  loop: tuple[int, int] | None
  kind: dict[str, str]


def make(seed: int, number: int) -> Song:
  """Composes song `number`; the same seed and number give the same song."""
  rng = np.random.default_rng((seed, number))
  tempo = TEMPI[number % len(TEMPI)]
  rate = list(RATES)[number // len(TEMPI) % len(RATES)]
  plain = number // (len(TEMPI) * len(RATES)) % 4 == 0
  loops = tempo != 'change' and number % 7 < 4
  style = list(styles.STYLES.values())[rng.integers(len(styles.STYLES))]
  length = _length(rng, tempo, style)
  around = max(3, round(length))
  composed = music.compose(
      rng, style, int(rng.integers(12)),
      3600 / length * style.grid / styles.TICKS, 45)
  band = compose_chip.Band(
      envelopes=tuple(compose_chip._ENVELOPES[i] for i in rng.integers(
          len(compose_chip._ENVELOPES), size=2)),
      duties=(2, 1), noise={drum: pitches[0] for drum, (pitches, _) in
                            compose_chip._DRUMS.items()},
      gaps=(0, 1, 0), second=('harmony', 'echo'), lead_in=0, cost=0)
  played = compose_chip.play(composed, band, around,
                             ('harmony', 'arpeggio', 'echo')[rng.integers(3)])
  frame = ev.times_of(played)[played < 0] // nes.FRAME_60HZ
  chip = played[played < 0]
  n_steps = -(-int(frame[-1] + 1) // around)
  units = _units(frame, chip, around, style.bar // style.grid)
  if not plain:
    frame, chip = _ornament(rng, frame, chip)
  loop = None
  if loops:  # Without the last bar, and then again from some bar on.
    bar = style.bar // style.grid
    end = composed.length // style.grid - bar
    start = bar * int(rng.integers(0, max(1, end // bar // 3)))
    extra = min(end - start, bar * int(rng.integers(2, 9)))
    frame, chip = _again(frame, chip, *(x * around for x in (
        start, end, extra)))
    loop, n_steps = (start, end), end + extra
  steps = _steps(rng, tempo, length, n_steps, style.bar // style.grid)
  lead_in = int(rng.integers(0, 12))
  frame = lead_in + np.rint(np.interp(
      frame, np.arange(n_steps + 1) * around, steps)).astype(np.int64)
  steps = steps + lead_in
  if not plain:
    frame = _late(rng, frame, chip)
  order = np.lexsort((np.arange(len(chip)), frame))
  frame, chip = frame[order], chip[order]
  times = _times(rng, frame, chip, RATES[rate], plain)
  end = max(int((steps[-1] + .5) * RATES[rate]), int(times[-1]))
  return Song(ev.from_times(times, chip, end), RATES[rate], frame, steps, units,
              styles.TICKS // style.grid, style.bar // style.grid, loop,
              {'tempo': tempo, 'rate': rate,
               'played': 'plain' if plain else 'ornate'})


def _length(rng, tempo: str, style: styles.Style) -> float:
  """Frames per step: about those of a tempo of the style, at 60 per second."""
  usual = 3600 / rng.choice(style.tempi) * style.grid / styles.TICKS
  length = usual * rng.uniform(.85, 1.2)
  return float(max(4, round(length, 2 if tempo == 'fractional' else None)))


def _again(frame, chip, start, end, extra):
  """Plays [start, end), then the first `extra` frames of it once more."""
  body = frame < end
  more = (frame >= start) & (frame < start + extra)
  return (np.concatenate([frame[body], frame[more] - start + end]),
          np.concatenate([chip[body], chip[more]]))


def _units(frame, chip, around: int, bar: int) -> dict[int, float]:
  """Shares of notes between rows of each number of steps that fits a bar."""
  step = np.rint(frame[ev.kind_of(chip) == ev.NOTEON] / around).astype(int)
  return {unit: float((step % unit != 0).mean())
          for unit in range(1, bar + 1) if bar % unit == 0}


def _steps(rng, tempo: str, length: float, n: int, bar: int) -> np.ndarray:
  """[n + 1] int64 frames of steps."""
  at = np.arange(n + 1) * length
  if tempo == 'fractional':
    at = np.floor(at + rng.random())
  elif tempo == 'swing' and length >= 5:
    at[1::2] += max(1, round(length * rng.uniform(.1, .22)))
  elif tempo == 'change':
    turn = bar * int(rng.integers(n // bar // 3, 2 * n // bar // 3 + 1))
    other = length + (1 if length < 7 else int(rng.choice([-2, -1, 1, 2])))
    at[turn:] = at[turn] + (np.arange(n + 1 - turn)) * other
  return at.astype(np.int64)


def _ornament(rng, frame, chip):
  """Breaks chords up, lets pitches tremble and drums fall."""
  frames, chips = [frame], [chip.copy()]
  voice, kind = ev.voice_of(chip), ev.kind_of(chip)
  for v in (ev.P1, ev.P2, ev.TR, ev.NO):
    mine = np.flatnonzero((voice == v) & (kind <= ev.NOTEON))
    for i, after in itertools.pairwise(mine):
      lasts = frame[after] - frame[i]
      if kind[i] != ev.NOTEON or lasts < 4 or rng.random() > _ORNATE:
        continue
      pitch = ev.value_of(chip[i])
      if v == ev.P2:  # A broken chord, a pitch per frame.
        offset = np.arange(1, lasts)
        pitches = pitch + np.array([0, 4, 7])[offset % 3]
      elif v == ev.P1:  # Vibrato after a while.
        if lasts < 9:
          continue
        offset = np.arange(3, lasts, 3)
        pitches = pitch + (np.arange(len(offset)) % 2 == 0)
      elif v == ev.NO:
        offset = np.arange(1, min(3, lasts))
        pitches = np.maximum(pitch - offset, 1)
      else:  # A grace note from below: the pitch comes a frame late.
        offset, pitches = np.array([1]), np.array([pitch])
        chips[0][i] = ev.EVENT[v, ev.NOTEON, max(pitch - 2, 21)]
      legal = [ev.EVENT[v, ev.NOTEON, p] for p in np.minimum(pitches, 108)]
      frames.append(frame[i] + offset)
      chips.append(np.where(np.array(legal) < 0, legal, chip[i]))
  return (np.concatenate(frames),
          np.concatenate(chips).astype(np.int32))


def _late(rng, frame, chip):
  """Lets some notes come a frame late."""
  voice, kind = ev.voice_of(chip), ev.kind_of(chip)
  frame = frame.copy()
  for v in range(4):
    mine = np.flatnonzero(voice == v)
    mine = mine[np.argsort(frame[mine], kind='stable')]
    if not len(mine):
      continue
    note = np.cumsum(kind[mine] == ev.NOTEON)
    late = rng.random(note[-1] + 1) < _LATE
    moved = frame[mine] + late[note]
    frame[mine] = np.maximum.accumulate(moved)
  return frame


def _times(rng, frame, chip, period: float, plain: bool) -> np.ndarray:
  """[n] int64 samples at which a program called at `period` writes."""
  voice = ev.voice_of(chip)
  begin = float(rng.uniform(0, 183))
  late = rng.uniform(0, [40, 90, 60, 120])
  latency = np.cumsum(late)[[0, 2, 3, 1]][voice]  # Some order of voices.
  if not plain:
    latency = latency + rng.uniform(0, 40, len(chip))
  times = np.floor(begin + frame * period + latency)
  ticks = np.ceil(times / nes.TICK) * nes.TICK
  times = np.where(voice == ev.TR, ticks, times).astype(np.int64)
  return np.maximum.accumulate(times)
