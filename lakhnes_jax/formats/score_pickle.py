"""NES-MDB's score pickles <-> songs of events.

A score is a tuple (rate, samples, steps), with `rate` steps per second, 24 in
NES-MDB, in one of three forms:

*   expressive (.exprsco.pkl): uint8 [N, 4, 3], note, velocity and timbre of
    each voice (the triangle's velocity is 0);
*   separated (.seprsco.pkl): uint8 [N, 4], notes only;
*   blended (.blndsco.pkl): N lists of what P1, P2 and TR play, ascending.

Python's unpickler runs whatever a file names. `unpickle` runs nothing: it knows
a list of what songs need, and refuses a file that asks for more.

Source: nesmdb (Donahue et al., ISMIR 2018), scores and their downsampling.
"""

import io
import pickle
from typing import Any

import numpy as np

from lakhnes_jax import events as ev
from lakhnes_jax.formats import safe_pickle
from lakhnes_jax.synth import score as scores

RATE = 24.0  # Steps per second of NES-MDB's scores.
_MIN_RATE = .001
_MAX_SAMPLES = 2**31 - 1
_MAX_STEPS = 2**25  # 12 minutes at the full rate.
# What songs need of what a pickle can name; numpy._core is numpy 2's name.
_NEEDED = frozenset({
    'numpy.core.multiarray _reconstruct', 'numpy.core.multiarray scalar',
    'numpy ndarray', 'numpy dtype', '_codecs encode', '__builtin__ bytes'
})


class _Dtype:
  """Stand-in for numpy.dtype."""

  def __init__(self, code: str, *_):
    self.code = code

  def set_state(self, state: tuple):
    self.code = state[1].replace('|', '') + self.code

  def values(self, data: bytes | str) -> np.ndarray:
    """Reads numbers; Python 2 has their bytes as text."""
    dtype = np.dtype(self.code)
    if dtype.kind not in 'iuf':
      raise ValueError(f'values of type {dtype}')
    data = data.encode('latin1') if isinstance(data, str) else data
    return np.frombuffer(data, dtype)


class _Array:
  """Stand-in for numpy.ndarray."""

  def __init__(self):
    self.values = np.zeros(0)

  def set_state(self, state: tuple):
    _, shape, dtype, is_fortran, data = state
    self.values = dtype.values(data).reshape(shape,
                                             order='FC'[not is_fortran])


class _Builder:
  """Builds arrays and numbers, for `safe_pickle.read`."""

  def find_class(self, module: str, name: str) -> str:
    full = f'{module.replace("numpy._core", "numpy.core")} {name}'
    if full not in _NEEDED:
      raise ValueError(f'it asks for {module[:60]}.{name[:60]}, which no song '
                       'needs')
    return full

  def reduce(self, function: str, args: tuple) -> Any:
    if function == 'numpy.core.multiarray _reconstruct':
      return _Array()
    if function == 'numpy dtype':
      return _Dtype(*args)
    if function == 'numpy.core.multiarray scalar':
      dtype, data = args
      return dtype.values(data)[0].item()
    if function == '_codecs encode':
      return args[0].encode('latin1')
    if function == '__builtin__ bytes' and not args:
      return b''
    raise ValueError('it calls what is no function')

  def persistent_load(self, saved: Any) -> Any:
    raise ValueError('it asks for objects outside of the file')

  def build(self, instance: Any, state: Any) -> None:
    if not isinstance(instance, _Array | _Dtype):
      raise ValueError(f'it gives a {type(instance).__name__} a state')
    instance.set_state(state)


def unpickle(data: bytes) -> Any:
  """Reads a pickle of lists, numbers and arrays.

  Raises:
    ValueError: it is damaged, or asks for anything else.
  """
  try:
    return safe_pickle.read(io.BytesIO(data), _Builder())
  except MemoryError:
    raise
  except Exception as error:  # Damaged pickles fail in every possible way.
    raise ValueError("not a song's pickle: " +
                     safe_pickle.describe(error)) from None


def _read(data: bytes) -> tuple[float, int, Any]:
  """Returns rate, samples and steps, the first two checked."""
  loaded = unpickle(data)
  if not (isinstance(loaded, tuple) and len(loaded) == 3 and
          isinstance(loaded[0], int | float) and isinstance(loaded[1], int)):
    raise ValueError('not a score: it should be (rate, samples, steps)')
  rate, length, steps = loaded
  check_rate(rate)
  if not 0 <= length <= _MAX_SAMPLES:
    raise ValueError(f'{length} samples: legal values are 0 to {_MAX_SAMPLES}')
  return float(rate), length, steps


def check_rate(rate: float) -> None:
  """Raises ValueError unless a score can have so many steps per second."""
  if not _MIN_RATE <= rate <= ev.SAMPLE_RATE:
    raise ValueError(f'rate {rate}: legal values are {_MIN_RATE} to '
                     f'{ev.SAMPLE_RATE}')


def _array(steps: Any, shape: tuple[int, ...]) -> np.ndarray:
  """Returns uint8 [N, *shape]."""
  if not isinstance(steps, _Array) or steps.values.shape[1:] != shape or (
      steps.values.dtype.kind == 'f'):
    raise ValueError(f'not a score: steps should be an array of integers '
                     f'[N, {", ".join(map(str, shape))}]')
  values = steps.values
  if values.size and not 0 <= values.min() <= values.max() < 256:
    raise ValueError('not a score: values should be 0 to 255')
  return values.astype(np.uint8)


def _edges(n_steps: int, rate: float) -> np.ndarray:
  """Returns the samples between which the steps lie, int64 [n_steps + 1].

  This is where nesmdb takes steps from. (When it plays them it sums up float
  time, which differs by at most a sample.)
  """
  steps = np.arange(n_steps + 1)
  if abs(rate - ev.SAMPLE_RATE) < 1e-6:
    return steps
  return (steps / rate * ev.SAMPLE_RATE).astype(np.int64)


def _to_events(rate: float, length: int, state: np.ndarray,
               dynamics: bool) -> np.ndarray:
  """Builds a song from uint8 [N, 4, 3] steps."""
  start = _edges(len(state), rate)[:-1]
  state, start = state[start < length], start[start < length]
  if not len(state):
    return ev.from_times([], [], length)
  note = state[..., scores.NOTE]
  onset = (note > 0) & (np.diff(note, axis=0, prepend=np.uint8(0)) != 0)
  return scores.to_events(scores.compact(
      scores.Score(start, state, onset, length)), dynamics)


def read_expressive(data: bytes) -> np.ndarray:
  """Reads an expressive score.

  Returns:
    int32 song (see `events`), with dynamics. Equal notes in adjacent steps are
    one note: a score does not hold repetitions.

  Raises:
    ValueError: it is no such score, or asks for what a score does not need.
  """
  rate, length, steps = _read(data)
  return _to_events(rate, length, _array(steps, (4, 3)), dynamics=True)


def read_separated(data: bytes) -> np.ndarray:
  """Reads a separated score, as `read_expressive`; without dynamics."""
  rate, length, steps = _read(data)
  notes = _array(steps, (4,))
  state = np.zeros((*notes.shape, 3), np.uint8)
  state[..., scores.NOTE] = notes
  return _to_events(rate, length, state, dynamics=False)


def read_blended(data: bytes) -> np.ndarray:
  """Reads a blended score, as `read_expressive`; without dynamics.

  Its notes go to P1, P2 and TR in their order, as in nesmdb; but if the pulses
  cannot play the lowest, the triangle plays it.
  """
  rate, length, steps = _read(data)
  if not isinstance(steps, list):
    raise ValueError('not a score: steps should be a list of lists')
  state = np.zeros((len(steps), 4, 3), np.uint8)
  for i, step in enumerate(steps):
    if not (isinstance(step, list) and len(step) <= 3 and
            all(isinstance(n, int) and 0 < n < 128 for n in step)):
      raise ValueError(f'step {i}: should be a list of at most 3 notes')
    low = step and step[0] not in ev.VOICES[ev.P1].pitches
    for voice, note in zip((ev.TR, ev.P1, ev.P2) if low else
                           (ev.P1, ev.P2, ev.TR), step, strict=False):
      state[i, voice, scores.NOTE] = note
  return _to_events(rate, length, state, dynamics=False)


def sample(score: scores.Score, rate: float) -> np.ndarray:
  """Samples a score at a lower rate, as nesmdb does.

  A voice plays in a step if it plays at any time in it; note, velocity and
  timbre are each the most frequent while it plays, of several the smallest.

  Args:
    score: exact score.
    rate: steps per second, up to 44100.

  Returns:
    uint8 [N, 4, 3], N = int(seconds * rate).

  Raises:
    ValueError: it would have over 33,554,432 steps.
  """
  n_steps = int(score.length / ev.SAMPLE_RATE * rate)
  if abs(rate - ev.SAMPLE_RATE) < 1e-6:
    n_steps = score.length
  if n_steps > _MAX_STEPS:
    raise ValueError(f'{n_steps} steps of {rate} per second: at most '
                     f'{_MAX_STEPS} are possible')
  if not n_steps:
    return np.zeros((0, 4, 3), np.uint8)
  edges = _edges(n_steps, rate)
  # Pieces in which neither the step nor the state changes.
  begins = np.union1d(edges, score.start)
  begins = begins[begins < edges[-1]]
  durations = np.diff(begins, append=edges[-1])
  step = np.searchsorted(edges, begins, 'right') - 1
  state = score.state[np.searchsorted(score.start, begins, 'right') - 1]
  result = np.zeros((n_steps, 4, 3), np.uint8)
  for voice in range(4):
    sounds = state[:, voice, scores.NOTE] > 0
    plays = np.bincount(step[sounds], minlength=n_steps) > 0
    # Settings during silence count only in steps that are silent throughout.
    weights = np.where(sounds | ~plays[step], durations, 0)
    for column in range(3):
      result[:, voice, column] = _most_frequent(
          step, state[:, voice, column], weights)
  return result


def _most_frequent(step: np.ndarray, values: np.ndarray,
                   weights: np.ndarray) -> np.ndarray:
  """Returns the value of most weight in each step, of several the smallest.

  Args:
    step, values, weights: [n], uint8 values; each step occurs.
  """
  keys, place = np.unique(step * 256 + values, return_inverse=True)
  total = np.bincount(place, weights)
  # By step, then by weight from the greatest, then by value.
  order = np.lexsort((keys, -total, keys // 256))
  first = np.diff(keys[order] // 256, prepend=-1) > 0
  return (keys[order][first] % 256).astype(np.uint8)


def _write(events: np.ndarray, rate: float, steps_of) -> bytes:
  """Pickles a score as Python 2 and 3 and every numpy can read it."""
  score = scores.from_events(events)
  check_rate(rate)
  steps = sample(score, rate)
  steps[:, ev.TR, scores.VELOCITY] = 0
  data = pickle.dumps((float(rate), score.length, steps_of(steps)), protocol=2)
  return data.replace(b'cnumpy._core.', b'cnumpy.core.', 1)


def write_expressive(events: np.ndarray, rate: float = RATE) -> bytes:
  """Writes an expressive score of `rate` steps per second.

  Raises:
    ValueError: no score has such a rate.
  """
  return _write(events, rate, lambda steps: steps)


def write_separated(events: np.ndarray, rate: float = RATE) -> bytes:
  """Writes a separated score, as `write_expressive`."""
  return _write(events, rate, lambda steps: steps[..., scores.NOTE].copy())


def write_blended(events: np.ndarray, rate: float = RATE) -> bytes:
  """Writes a blended score, as `write_expressive`."""
  return _write(events, rate, lambda steps: [
      sorted(note for note in step if note)
      for step in steps[:, :ev.NO, scores.NOTE].tolist()])
