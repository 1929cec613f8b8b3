"""The sound chip of the NES (2A03) in jnp: score arrays in, samples out.

Each voice is a periodic step function whose level is known in closed form at
every instant, so a sample is computed from its own index alone: no state runs
along the audio, any part of a song can be rendered on its own, and everything
is vectorised. An output sample is the exact average of the step function over
the sample.

Phases are unsigned integers, 2**32 to the voice's whole period, so they wrap
as the chip's counters do; `step` has 16 further bits, so that a tone stays on
its frequency through hours.

Letters: B songs, E segments, T samples. Sources: nesmdb (pitches, player's
mixing levels); https://www.nesdev.org/wiki/APU (waveforms, mixing law).
"""

import functools
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

from lakhnes_jax import registers, tracks
from lakhnes_jax.chip import NOISE_PERIODS

SAMPLE_RATE = 44100
# First sixteenth and number of sixteenths of the high part of each duty.
_PULSE_HIGH = np.array([[2, 2], [2, 4], [2, 8], [6, 12]])
OVERSAMPLING = 4  # Pieces of a sample, each averaged exactly.
_BETA = 7.0  # Of the filter's Kaiser window.
MARGIN = 16  # Samples on either side that a sample's filter reaches.


class Segments(NamedTuple):
  """What the oscillators do in each segment.

  Attributes:
    start: [..., E] int32, first sample.
    phase: [..., E, 4] uint32 at `start`, 2**32 a period.
    step: [..., E, 4] uint32 per sample.
    fine: [..., E, 4] uint32, the step's next 16 bits.
    volume: [..., E, 5] float32, 0 to 15; of the triangle not used; last the
      sample channel's level, 0 to 127.
    timbre: [..., E, 2] int32, duty of the pulses.
    noise_offset: [..., E] int32, where the noise register's cycle lies in
      `tracks.noise_table`.
    noise_cycle: [..., E] int32, length of this cycle; 2**32 of noise's phase.
  """
  start: jax.Array
  phase: jax.Array
  step: jax.Array
  fine: jax.Array
  volume: jax.Array
  timbre: jax.Array
  noise_offset: jax.Array
  noise_cycle: jax.Array


@functools.cache
def _steps() -> np.ndarray:
  """[3, 128, 2, 2] uint32: step and fine by pulse/triangle/noise, note, mode.
  """
  table = np.zeros((3, 128, 2, 2), np.uint32)

  def put(row, note, mode, period, cycle):
    step = (registers.CLOCK << 48) // (period * cycle * SAMPLE_RATE)
    table[row, note, mode] = step >> 16, step & 0xffff

  for mode in range(2):
    for note in range(33, 109):
      put(0, note, mode, int(registers.timer(note)) + 1, 16)
    for note in range(21, 109):
      put(1, note, mode, int(registers.timer(note, 32)) + 1, 32)
    for note in range(1, 17):
      put(2, note, mode, NOISE_PERIODS[0][16 - note], int(_cycles()[1][mode]))
  return table


@functools.cache
def _noise_areas() -> np.ndarray:
  """[n] int32: the noise register's output, in bit 0, and above that how often
  it was high before."""
  bits = np.append(tracks.noise_table().bits, 0).astype(np.int32)
  return bits + 2 * np.append(0, np.cumsum(bits[:-1], dtype=np.int32))


@functools.cache
def _cycles() -> tuple[np.ndarray, np.ndarray]:
  """[2] int32 each: offset and length of a cycle of the noise by mode."""
  table = tracks.noise_table()
  offsets = [int(table.offset[mode, 1]) for mode in range(2)]
  return (np.array(offsets, np.int32),
          np.array([table.cycle[o] for o in offsets], np.int32))


def _advance(step, fine, n):
  """Phase after n samples (n < 2**28), short by at most 2**-20 of a period."""
  n = n.astype(jnp.uint32)
  return n * step + ((n >> 12) * fine >> 4)


def segments(start, state) -> Segments:
  """Works out the oscillators of a score.

  As on the chip, a pulse starts anew at phase 0 when it comes out of silence
  or the upper bits of its timer change; the triangle freezes in silence.

  Args:
    start: [..., E] int32, samples, ascending; padded beyond the song's end.
    state: [..., E, 4, 3] uint8: note, velocity, timbre (see `score`).
  """
  note, timbre = (state[..., i].astype(jnp.int32) for i in (0, 2))
  velocity = state[..., 1].astype(jnp.float32)
  row = np.array([0, 0, 1, 2])
  mode = jnp.where(row == 2, timbre & 1, 0)
  steps = jnp.asarray(_steps())[row, note, mode]
  step, fine = steps[..., 0], steps[..., 1]
  # Noise keeps its last period in silence; any will do.
  length = jnp.diff(start, axis=-1, append=start[..., -1:])
  moved = jnp.cumsum(_advance(step, fine, length[..., None]), axis=-2,
                     dtype=jnp.uint32)
  phase = jnp.concatenate(
      [jnp.zeros_like(moved[..., :1, :]), moved[..., :-1, :]], axis=-2)
  index = jnp.arange(note.shape[-2])[:, None]
  before = jnp.concatenate(
      [jnp.zeros_like(note[..., :1, :]), note[..., :-1, :]], axis=-2)
  high = jnp.asarray((registers.timer(np.arange(128)) >> 8).astype(np.int32))
  reset = ((row == 0) & (note > 0) &
           ((before == 0) | (high[note] != high[before])))
  origin = jax.lax.cummax(jnp.where(reset, index, 0), axis=note.ndim - 2)
  phase -= jnp.take_along_axis(phase, origin, axis=-2)
  offset, cycle = (jnp.asarray(x)[timbre[..., 3] & 1] for x in _cycles())
  volume = jnp.concatenate([velocity, jnp.zeros_like(velocity[..., :1])], -1)
  return Segments(start, phase, step, fine, volume,
                  timbre[..., :2], offset, cycle)


def from_tracks(clock: tracks.Clock, parts: list[tracks.Track],
                rate: int = SAMPLE_RATE) -> Segments:
  """Takes over the oscillators of a register log; on the host, in numpy.

  What the log changes within a sample begins at the sample's nearer end.

  Args:
    clock, parts: see `tracks.play`.
    rate: Hz of the samples to render.
  """
  hertz = clock.ratio * clock.rate / 2**24
  begins = [np.rint(part.step * (rate / clock.rate)).astype(np.int64)
            for part in parts]
  start = np.unique(np.concatenate(begins))
  clocks = start * (hertz / rate)
  phase, step, fine = (np.zeros((len(start), 4), np.uint32) for _ in range(3))
  volume = np.zeros((len(start), 5), np.float32)
  timbre = np.zeros((len(start), 2), np.int32)
  lengths = tracks.noise_table().cycle
  for voice, (part, begin) in enumerate(zip(parts, begins, strict=True)):
    row = tracks.Track(*(
        x[np.searchsorted(begin, start, 'right') - 1] for x in part))
    volume[:, voice] = row.level
    if voice == 4:
      break
    cycle = (tracks.PULSE_CYCLE, tracks.PULSE_CYCLE, tracks.TRIANGLE_CYCLE,
             0)[voice]
    if voice == 3:
      table = tracks.noise_table()
      lead = np.isin(row.timbre, table.lead)
      offset = np.where(lead, table.offset[0, 1], row.timbre)
      cycle = np.array([lengths[o] for o in offset.tolist()])
    elif voice < 2:
      timbre[:, voice] = row.timbre
    still = row.period == 0
    period = np.maximum(row.period, 1)
    turns = (row.phase + np.where(
        still, 0, (row.count + clocks - row.at) / period)) / cycle
    phase[:, voice] = (turns % 1 * 2.0**32).astype(np.uint64) & 0xffffffff
    turns = np.where(still, 0, hertz / rate / (period * cycle))
    turns = np.where(turns < 1, turns * 2.0**48, 0).astype(np.uint64)  # Else
    step[:, voice], fine[:, voice] = turns >> 16, turns & 0xffff  # inaudible.
  return Segments(start.astype(np.int32), phase, step, fine, volume, timbre,
                  offset.astype(np.int32), cycle.astype(np.int32))


def _pulse(edges, duty):
  """Shares of each piece, between consecutive phases, that a pulse is high."""
  first, width = (jnp.asarray(_PULSE_HIGH[:, i].astype(np.uint32) << 28)[duty]
                  for i in range(2))
  edges = [edge - first for edge in edges]
  areas = [jnp.minimum(edge, width) for edge in edges]
  out = []
  for j in range(len(edges) - 1):
    whole = jnp.where(edges[j + 1] < edges[j], width, jnp.uint32(0))
    high = areas[j + 1] - areas[j] + whole
    still = (edges[j] < width).astype(jnp.float32)
    out.append(_ratio(high, edges[j + 1] - edges[j], still))
  return out


def _ratio(area, width, still):
  """area / width, both uint32; `still` where width is 0."""
  divisor = jnp.maximum(width, 1).astype(jnp.float32)
  return jnp.where(width > 0, area.astype(jnp.float32) / divisor, still)


def _triangle(edges):
  """Mean levels of each piece, 0 to 15; a period goes up and down again."""

  def area(at):  # Of the levels from 0, in units of 2**-24 steps.
    index = (at >> 27).astype(jnp.int32)
    down = 32 - index
    before = jnp.where(index < 17, index * (index - 1) // 2,
                       240 - down * (down - 1) // 2)
    level = jnp.minimum(index, 31 - index)
    return ((before.astype(jnp.uint32) << 24) +
            level.astype(jnp.uint32) * ((at & (2**27 - 1)) >> 3)), level

  areas = [area(edge) for edge in edges]
  out = []
  for j in range(len(edges) - 1):
    whole = jnp.where(edges[j + 1] < edges[j], jnp.uint32(240 << 24),
                      jnp.uint32(0))
    total = areas[j + 1][0] - areas[j][0] + whole
    # Areas are in eighths of the width's unit.
    out.append(_ratio(total, edges[j + 1] - edges[j],
                      areas[j][1].astype(jnp.float32) / 8) * 8)
  return out


def _noise(edges, offset, cycle, turn):
  """Shares of each piece that the noise register's output is high."""
  table = jnp.asarray(_noise_areas())

  def area(at):  # Of the output from step 0, in units of 2**-16 steps.
    steps = (at >> 16) * cycle + ((at & 0xffff) * cycle >> 16)
    index = offset + (steps >> 16).astype(jnp.int32)
    entry = table[index]
    bit = entry & 1
    return entry >> 1, bit * (steps & 0xffff).astype(jnp.int32), bit, steps

  areas = [area(edge) for edge in edges]
  out = []
  for j in range(len(edges) - 1):
    ones, part, bit, steps = areas[j]
    ones_end, part_end, _, steps_end = areas[j + 1]
    wraps = edges[j + 1] < edges[j]
    ones = ones_end - ones + jnp.where(wraps, turn, 0)
    width = steps_end - steps + jnp.where(wraps, cycle << 16, jnp.uint32(0))
    out.append(_ratio(((ones << 16) + part_end - part).astype(jnp.uint32),
                      width, bit.astype(jnp.float32)))
  return out


def pulse_law(volume):
  """Output of the pulse group, 1.0 at full scale; volume 0 to 30."""
  return 0.25 * 95.88 * 4 * volume / (8128 + 100 * volume)


def tnd_law(triangle, noise, sample=0.0):
  """Output of triangle, noise (0 to 15) and sample channel (0 to 127)."""
  load = triangle / 8227 + noise / 12241 + sample / 22638
  return 0.75 * 159.79 * load / (100 * load + 1)


def mute(voices) -> np.ndarray:
  """[5] float32 that is 1 for `voices` and 0 for the others."""
  return np.isin(np.arange(5), np.array(tuple(voices))).astype(np.float32)


_ALL = mute(tracks.VOICES)


def samples(seg: Segments, first, count: int, heard=_ALL):
  """Renders samples `first` to `first + count` of each song.

  Args:
    seg: segments of B songs, [B, E, ...].
    first: [B] int32, first sample.
    count: T, samples to render (static).
    heard: [5] float32, which voices are (see `mute`).

  Returns:
    [B, T] float32, full scale 1.0, all voices together at most 1; unipolar,
    as on the chip: silence is 0 but for a triangle that holds its level.
  """
  whole = -(-count // (2 * MARGIN)) * 2 * MARGIN
  first = first[:, None] - MARGIN
  row = _rows_at(seg.start, first, whole + 2 * MARGIN)
  now = first + jnp.arange(row.shape[1])
  # Gathers from flat tables are several times as fast as batched ones.
  row += jnp.arange(len(row))[:, None] * seg.start.shape[1]
  at = lambda table: table.reshape(-1)[row]  # noqa: E731
  since = now - at(seg.start)
  edges = []
  for v in range(4):
    step = at(seg.step[..., v])
    phase = at(seg.phase[..., v]) + _advance(step, at(seg.fine[..., v]), since)
    edges.append([phase + step // OVERSAMPLING * j +
                  (step % OVERSAMPLING * j // OVERSAMPLING)
                  for j in range(OVERSAMPLING + 1)])
  volume = [at(seg.volume[..., v] * heard[v]) for v in range(5)]
  pulse1, pulse2 = (_pulse(edges[v], at(seg.timbre[..., v])) for v in range(2))
  triangle = _triangle(edges[2])
  ones = jnp.asarray(_noise_areas() >> 1)
  turn = ones[seg.noise_offset + seg.noise_cycle] - ones[seg.noise_offset]
  noise = _noise(edges[3], at(seg.noise_offset),
                 at(seg.noise_cycle).astype(jnp.uint32), at(turn))
  # Each pulse is on or off, so their joint law is bilinear in the shares.
  law1, law2 = pulse_law(volume[0]), pulse_law(volume[1])
  both = pulse_law(volume[0] + volume[1]) - law1 - law2
  out = []
  for p1, p2, t, n in zip(pulse1, pulse2, triangle, noise, strict=True):
    t = t * heard[2]
    quiet = tnd_law(t, 0.0, volume[4])
    out.append(p1 * law1 + p2 * law2 + p1 * p2 * both + quiet +
               n * (tnd_law(t, volume[3], volume[4]) - quiet))
  return _decimate(out)[:, :count]


def _rows_at(start, first, count: int):
  """[B, T] row that holds each of `count` samples from `first` [B, 1] on."""
  end = first + count  # Padding lies far beyond and must not overflow.
  began = jnp.maximum(jnp.minimum(start, end) - first, 0)
  marks = jnp.zeros((len(start), count + 1), jnp.int32)
  marks = marks.at[jnp.arange(len(start))[:, None], began].add(1)
  return jnp.maximum(jnp.cumsum(marks[:, :count], axis=1) - 1, 0)


def _low_pass() -> np.ndarray:
  """[n] taps that keep what is below 20 kHz from what is above 24 kHz."""
  # The middle is that of the sample MARGIN pieces in.
  n = np.arange(2 * MARGIN * OVERSAMPLING) + 0.5
  n -= (MARGIN + 0.5) * OVERSAMPLING
  reach = (MARGIN - 0.5) * OVERSAMPLING
  window = np.i0(_BETA * np.sqrt(np.maximum(1 - (n / reach)**2, 0)))
  taps = np.sinc(n / OVERSAMPLING) * np.where(np.abs(n) < reach, window, 0)
  return (taps / taps.sum()).astype(np.float32)


@functools.cache
def _filter_matrix() -> np.ndarray:
  """[OVERSAMPLING, 4 * MARGIN, 2 * MARGIN]: a block of pieces -> samples."""
  taps = _low_pass().reshape(2 * MARGIN, OVERSAMPLING).T
  matrix = np.zeros((OVERSAMPLING, 4 * MARGIN, 2 * MARGIN), np.float32)
  for i in range(2 * MARGIN):
    matrix[:, i:i + 2 * MARGIN, i] = taps
  return matrix


def _decimate(pieces):
  """OVERSAMPLING pieces, each [B, T + 2 * MARGIN] -> [B, T] filtered samples.

  T is a multiple of 2 * MARGIN. Products of blocks with a matrix are ten times
  as fast on a CPU as a convolution.
  """
  # Unless the pieces are made first, XLA makes each many times over.
  pieces = jax.lax.optimization_barrier(tuple(pieces))
  size = 2 * MARGIN
  total = 0
  for piece, matrix in zip(pieces, _filter_matrix(), strict=True):
    blocks = piece.reshape(len(piece), -1, size)
    for part, rows in ((blocks[:, :-1], matrix[:size]),
                       (blocks[:, 1:], matrix[size:])):
      total += jnp.matmul(part.reshape(-1, size), jnp.asarray(rows),
                          precision='highest')
  return total.reshape(len(pieces[0]), -1)


@partial(jax.jit, static_argnames='count')
def render(start, state, first=0, *, count: int, heard=_ALL):
  """Renders a batch of scores.

  Args:
    start: [B, E] int32, first sample of each segment, padded (`score.pad`).
    state: [B, E, 4, 3] uint8: note, velocity, timbre. Velocities may be
      fractions, and gradients flow to them, if it is float32.
    first: int or [B] int32, where to begin.
    count: T, samples to render (static).
    heard: [5] float32, which voices are (see `mute`).

  Returns:
    [B, T] float32.
  """
  seg = segments(start, state)
  return samples(seg, jnp.broadcast_to(first, len(start)), count, heard)


render_windows = jax.jit(samples, static_argnames='count')


def windows(seg: Segments, length: int, size: int = 1 << 14, batch: int = 4,
            voices=tracks.VOICES):
  """Renders one song window by window, so that memory stays bounded.

  Args:
    seg: numpy arrays without batch axes.
    length: samples.
    size: samples a window.
    batch: windows to render at once.
    voices: those heard.

  Yields:
    [t] float32, t at most `batch` * `size`.
  """
  firsts = np.arange(0, length, size)
  low = np.searchsorted(seg.start, firsts - MARGIN, 'right') - 1
  low = np.maximum(low, 0)
  high = np.searchsorted(seg.start, firsts + size + MARGIN)

  def dispatch(i):
    which = np.minimum(np.arange(i, i + batch), len(firsts) - 1)
    rows = tracks.bucket(int((high - low)[which].max()))
    take = np.minimum(low[which, None] + np.arange(rows), len(seg.start) - 1)
    part = Segments(*(x[take] for x in seg))
    inside = take < high[which, None]
    part = part._replace(
        start=np.where(inside, part.start, np.iinfo(np.int32).max))
    return render_windows(part, firsts[which].astype(np.int32), count=size,
                          heard=mute(voices))

  starts = range(0, len(firsts), batch)
  pieces = tracks.ahead((i, dispatch(i)) for i in starts)
  for i, audio in pieces:
    yield np.asarray(audio)[:len(firsts) - i].reshape(-1)[:length - i * size]
