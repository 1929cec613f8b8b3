"""The clean engine: the 2A03 sound chip in jnp, band-limited.

Each voice is a periodic step function with a closed form, so no state is
carried along the audio, and any part of a song can be rendered on its own. The
step functions are averaged exactly over quarters of a sample, then low-pass
filtered and decimated.

The audio is cut into *pieces*, where a segment begins and at every TILE
samples, so that all parameters are constant in a piece; only the noise
register's bits are looked up.

Letters: B songs, E segments, N pieces, Q quarters of a tile, T samples.
Sources: nesmdb (player's mixing levels);
https://www.nesdev.org/wiki/APU (waveforms, mixing law).
"""

import functools
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

from lakhnes_jax.nes import SAMPLE_RATE
from lakhnes_jax.synth import channels
from lakhnes_jax.synth.oscillators import (
    Segments,
    advance,
    check_length,
    segments,
)

OVERSAMPLING = 4  # Parts of a sample, each averaged exactly.
TILE = 16  # Samples; also how far to either side a sample's filter reaches.
_QUARTERS = TILE * OVERSAMPLING
_PIECES = 2048  # Computed at once; more would not fit the processor's cache.
_BETA = 7.0  # Of the filter's Kaiser window.
# Where the narrow part of each duty begins and how wide it is, in sixteenths,
# and whether that is the low part.
_DUTY_FIRST = np.array([2, 2, 2, 2], np.uint32) << 28
_DUTY_WIDTH = np.array([2, 4, 8, 4], np.uint32) << 28
_DUTY_LOW = np.array([0, 0, 0, 1], np.float32)
_ONE = 1 << 22  # A step of the noise, in units of its position.


@functools.cache
def _noise_windows() -> np.ndarray:
  """[n] int32: the noise register's next 16 outputs, the first in bit 0."""
  table = channels.noise_table()
  windows = np.zeros(len(table.bits), np.int32)
  for offset, length in table.cycle.items():
    bits = table.bits[offset:offset + length].astype(np.int32)
    for ahead in range(16):
      windows[offset:offset + length] |= np.roll(bits, -ahead) << ahead
  return windows


class _Edges(NamedTuple):
  """Where one voice is in its period at the edges of quarters.

  Attributes:
    phase: [N, 1] uint32, where the piece's tile begins.
    width: [N, 1] uint32, of a quarter.
  """
  phase: jax.Array
  width: jax.Array

  @property
  def begin(self):
    """[N, Q] uint32."""
    return self.phase + self.width * jnp.arange(_QUARTERS, dtype=jnp.uint32)


def _pulse(edges: _Edges, duty):
  """[N, Q] shares of quarters that a pulse is high; duty is [N, 1] int32."""
  first, wide, low = (
      jnp.asarray(x)[duty] for x in (_DUTY_FIRST, _DUTY_WIDTH, _DUTY_LOW))
  # A trapezoid, by the distance of the quarter's middle from the part's.
  half = (wide >> 1) + (edges.width >> 1)
  off = jnp.abs((edges.begin + (half - first - wide)).astype(jnp.int32))
  most = jnp.minimum(edges.width, wide).astype(jnp.int32)
  inside = jnp.clip(half.astype(jnp.int32) - off, 0, most)
  sign = (1 - 2 * low) / jnp.maximum(edges.width, 1).astype(jnp.float32)
  return inside.astype(jnp.float32) * sign + low


def _triangle(edges: _Edges):
  """[N, Q] mean levels of quarters, 0 to 15; a period goes up and down."""

  def area(at):  # Of the levels from 0, in 2**-23 steps; odd in signed phase.
    way = jnp.abs(at)
    index = way >> 27
    half = index * ((way >> 4) - ((index + 1) << 22))
    return jnp.where(at < 0, -half, half)

  def level(at):
    index = (at >> 27).astype(jnp.int32)
    return jnp.minimum(index, 31 - index).astype(jnp.float32)

  begin = edges.begin.astype(jnp.int32)
  end = begin + edges.width.astype(jnp.int32)
  total = area(end) - area(begin) + jnp.where(end < begin, 240 << 23, 0)
  per = 16 / jnp.maximum(edges.width, 1).astype(jnp.float32)
  still = jnp.where(edges.width == 0, level(edges.phase), 0)
  return total.astype(jnp.float32) * per + still


def _noise(edges: _Edges, step, offset, cycle):
  """[N, Q] shares of quarters that the noise register's output is high.

  Args:
    step: [N, 1] uint32 per sample, 2**32 to a cycle.
    offset, cycle: [N, 1] int32, see `Segments`.
  """
  length = cycle.astype(jnp.uint32)
  upper, lower = (edges.phase >> 16) * length, (edges.phase & 0xffff) * length
  # At most 15 steps a quarter, so that a window holds what is passed.
  width = jnp.round(step.astype(jnp.float32) * cycle.astype(jnp.float32) *
                    (_ONE / 2**32 / OVERSAMPLING)).astype(jnp.uint32)
  width = jnp.minimum(width, 15 * _ONE)
  begin = (((upper & 0xffff) << 6) + (lower >> 10) +
           width * jnp.arange(_QUARTERS, dtype=jnp.uint32))
  index = ((upper >> 16) + begin // _ONE).astype(jnp.int32)
  laps = (index.astype(jnp.float32) + 0.5) / cycle.astype(jnp.float32)
  index -= laps.astype(jnp.int32) * cycle
  window = jnp.asarray(_noise_windows())[offset + index]
  begin = (begin % _ONE).astype(jnp.int32)
  end = begin + width.astype(jnp.int32)
  passed = end // _ONE
  ones = jax.lax.population_count(window & ((1 << passed) - 1))
  total = (ones * _ONE + (window >> passed & 1) * (end % _ONE) -
           (window & 1) * begin)
  return total.astype(jnp.float32) / jnp.maximum(width, 1).astype(jnp.float32)


def pulse_law(volume):
  """Output of the pulse group, 1.0 at full scale; volume 0 to 30."""
  return 0.25 * 95.88 * 4 * volume / (8128 + 100 * volume)


def tnd_law(triangle, noise, sample=0.0):
  """Output of triangle, noise (0 to 15) and sample channel (0 to 127)."""
  load = triangle / 8227 + noise / 12241 + sample / 22638
  return 0.75 * 159.79 * load / (100 * load + 1)


def voice_mask(voices) -> np.ndarray:
  """[5] float32: 1 for each of `voices` (0 to 4), which sound, 0 for others."""
  return np.isin(np.arange(5), np.array(tuple(voices))).astype(np.float32)


_ALL_VOICES = voice_mask(channels.VOICES)


class _Pieces(NamedTuple):
  """Pieces of all songs, one after the other; each attribute is [N] int32.

  Attributes:
    row: of the piece's segment, counted through all songs.
    slot: of its tile, counted through all songs.
    since: where the tile begins, in samples from the segment's start.
    begin, end: of the piece, in quarters from where the tile begins.
  """
  row: jax.Array
  slot: jax.Array
  since: jax.Array
  begin: jax.Array
  end: jax.Array


def _pieces(start, first, tiles: int) -> _Pieces:
  """Cuts `tiles` tiles from `first` [B] on where segments start."""
  batch, size = start.shape
  song = jnp.arange(batch)[:, None]
  # Padding lies far beyond and must not overflow.
  began = jnp.minimum(start, first[:, None] + tiles * TILE) - first[:, None]
  began = jnp.maximum(began, 0).at[:, 0].set(0)
  # A segment's pieces come after those of the segments and tiles before.
  place = began // TILE + jnp.arange(size)
  marks = jnp.zeros((batch, tiles + size), jnp.int32)
  marks = marks.at[song, place].add(1, mode='drop')
  row = jnp.cumsum(marks, axis=1) - 1
  tile = jnp.arange(tiles + size) - row
  row += size * song
  ends = jnp.append(began[:, 1:], jnp.full((batch, 1), tiles * TILE), 1)
  begin, end = (OVERSAMPLING * (x.reshape(-1)[row] - TILE * tile)
                for x in (began, ends))
  since = first[:, None] + TILE * tile - start.reshape(-1)[row]
  slot = jnp.minimum(tile, tiles - 1) + tiles * song
  return _Pieces(*(x.reshape(-1) for x in (row, slot, since, begin, end)))


def _levels(seg: Segments, pieces: _Pieces, voice_mask):
  """[N, Q] output of the chip in each quarter of the pieces' tiles."""
  # Gathers from flat tables are several times as fast as batched ones.
  at = lambda table: table.reshape(-1)[pieces.row][:, None]  # noqa: E731
  since = pieces.since[:, None]
  edges = []
  for v in range(4):
    step = at(seg.step[..., v])
    # What lies before the segment's start is cut off below.
    phase = (at(seg.phase[..., v]) + since.astype(jnp.uint32) * step +
             advance(0, at(seg.fine[..., v]), jnp.maximum(since, 0)))
    edges.append(_Edges(phase, step // OVERSAMPLING))
  volume = [at(seg.volume[..., v] * voice_mask[v]) for v in range(5)]
  pulse1, pulse2 = (_pulse(edges[v], at(seg.timbre[..., v])) for v in range(2))
  triangle = _triangle(edges[2]) * voice_mask[2]
  noise = _noise(edges[3], at(seg.step[..., 3]), at(seg.noise_offset),
                 at(seg.noise_cycle))
  # Each pulse is on or off, so their joint law is bilinear in the shares.
  law1, law2 = pulse_law(volume[0]), pulse_law(volume[1])
  both = pulse_law(volume[0] + volume[1]) - law1 - law2
  quiet = tnd_law(triangle, 0.0, volume[4])
  loud = tnd_law(triangle, volume[3], volume[4])
  return (pulse1 * law1 + pulse2 * (law2 + pulse1 * both) +
          quiet + noise * (loud - quiet))


@functools.cache
def _filter_matrix() -> np.ndarray:
  """[Q, 3 * TILE]: a tile's share in the samples of the one before, of its
  own, and of the one after."""
  # Keeps what is below 20 kHz from what is above 24 kHz. The middle is that of
  # the sample TILE samples in.
  n = np.arange(2 * _QUARTERS) + 0.5 - (TILE + 0.5) * OVERSAMPLING
  reach = (TILE - 0.5) * OVERSAMPLING
  window = np.i0(_BETA * np.sqrt(np.maximum(1 - (n / reach)**2, 0)))
  taps = np.sinc(n / OVERSAMPLING) * np.where(np.abs(n) < reach, window, 0)
  taps = (taps / taps.sum()).astype(np.float32)
  matrix = np.zeros((3 * _QUARTERS, TILE), np.float32)
  for i in range(TILE):
    matrix[OVERSAMPLING * i:OVERSAMPLING * i + len(taps), i] = taps
  return np.concatenate(np.split(matrix, 3)[::-1], 1)


def samples(seg: Segments, first, count: int, voice_mask=_ALL_VOICES):
  """Renders samples `first` to `first + count` of each song.

  Args:
    seg: segments of B songs, [B, E, ...].
    first: [B] int32, first sample.
    count: T, samples to render (static).
    voice_mask: [5] float32, which voices sound (see `voice_mask`).

  Returns:
    [B, T] float32, full scale 1.0, all voices together at most 1; unipolar,
    as on the chip: silence is 0 but for a triangle that holds its level.
  """
  batch, tiles = len(seg.start), -(-count // TILE) + 2
  pieces = _pieces(seg.start, first - TILE, tiles)
  total = len(pieces.row)
  size = -(-total // -(-total // _PIECES))
  extra = -total % size
  if extra:  # Empty pieces of the last tile fill the last chunk.
    pieces = _Pieces(*(jnp.pad(x, (0, extra), 'edge') for x in pieces))
    pieces = pieces._replace(
        end=jnp.where(jnp.arange(total + extra) < total, pieces.end, 0))
  quarter = jnp.arange(_QUARTERS)

  def add(out, chunk):
    """Adds what a chunk's pieces sound like; its slots follow each other."""
    begin, end = chunk.begin[:, None], chunk.end[:, None]
    level = jnp.where((quarter >= begin) & (quarter < end),
                      _levels(seg, chunk, voice_mask), 0)
    tile = jnp.zeros((size, _QUARTERS)).at[chunk.slot - chunk.slot[0]].add(
        level, indices_are_sorted=True, mode='promise_in_bounds')
    shares = jnp.matmul(tile, jnp.asarray(_filter_matrix()),
                        precision='highest').reshape(size, 3, TILE)
    place = chunk.slot[0], 0
    new = jax.lax.dynamic_slice(out, place, (size + 2, TILE))
    for i in range(3):
      new = new.at[i:size + i].add(shares[:, i])
    return jax.lax.dynamic_update_slice(out, new, place), None

  out = jnp.zeros((batch * tiles + size + 2, TILE))
  out, _ = jax.lax.scan(add, out, jax.tree.map(
      lambda x: x.reshape(-1, size), pieces))
  out = out[1:batch * tiles + 1].reshape(batch, -1)
  return out[:, TILE:TILE + count]


@partial(jax.jit, static_argnames=('count', 'rate'))
def render(start, state, first=0, *, count: int,
           rate: int = SAMPLE_RATE, voice_mask=_ALL_VOICES):
  """Renders a batch of scores; `jit`, `vmap`, `pmap` and `grad` go through.

  Args:
    start: [B, E] int32, first sample of each segment, padded (`score.pad`).
    state: [B, E, 4, 3] uint8: note, velocity, timbre. Velocities may be
      fractions, and gradients flow to them, if it is float32.
    first: int or [B] int32, where to begin.
    count: T, samples to render (static).
    rate: Hz of the samples, in which `start` and `first` count (static).
    voice_mask: [5] float32, which voices sound (see `voice_mask`).

  Returns:
    [B, T] float32, see `samples`.
  """
  seg = segments(start, state, rate)
  return samples(seg, jnp.broadcast_to(first, len(start)), count, voice_mask)


render_windows = jax.jit(samples, static_argnames='count')


def windows(seg: Segments, length: int, size: int = 1 << 16,
            voices=channels.VOICES):
  """Renders one song window by window, so that memory stays bounded.

  Args:
    seg: numpy arrays without batch axes.
    length: samples.
    size: samples a window.
    voices: those that sound.

  Yields:
    [t] float32, t at most `size`.

  Raises:
    ValueError: there are more than 2**31 - 1 samples.
  """
  check_length(length)

  def render(first):
    low, high = np.searchsorted(seg.start, [first - TILE, first + size + TILE],
                                'right')
    low = max(low - 1, 0)
    rows = channels.padded_size(high - low)
    # What lies behind the window's segments starts after the window.
    take = np.minimum(low + np.arange(rows), len(seg.start) - 1)
    part = jax.tree.map(lambda x: x[None, take], seg)
    part.start[0, high - low:] = np.iinfo(np.int32).max
    audio = render_windows(part, np.full(1, first, np.int32), count=size,
                           voice_mask=voice_mask(voices))
    return np.asarray(audio)[0, :length - first]

  yield from channels.prefetch_map(render, range(0, length, size))
