"""Songs that end -> songs that go round, at the best loop of their meter."""

from typing import Any, NamedTuple

import numpy as np

from lakhnes_jax import events as ev
from lakhnes_jax import meter as meter_lib
from lakhnes_jax.formats import transcribe
from lakhnes_jax.formats.vgm import RegisterLog
from lakhnes_jax.meter import seam

_SURE = .5  # Confidence of a loop that is preferred to any seam.
_STATUS = 0x15
_LOADS = (0x03, 0x07, 0x0b, 0x0f)  # Registers that start a voice's note.


class Looped(NamedTuple):
  """A song that goes round.

  Attributes:
    song: int32 song, up to where it goes back.
    loop: sample at which it goes on then; None for a song that ends.
  """
  song: np.ndarray
  loop: int | None


def find(song: np.ndarray) -> Looped | None:
  """Ends a song at the best loop point; None if no part of it comes again.

  Args:
    song: int32 song (see `events`).
  """
  found = points(song)
  return found and Looped(truncate(song, found[1]), found[0])


def points(song: np.ndarray) -> tuple[int, int] | None:
  """Finds where a song may end, and where it goes on then.

  Args:
    song: int32 song (see `events`).

  Returns:
    (start, end) in samples: after `end` it goes on at `start`; None if no part
    of it comes again
  """
  meter = meter_lib.analyze(song)
  sure = meter.loop is not None and meter.loop_confidence >= _SURE
  frames = None if meter.loop is None else meter.row_frames[list(meter.loop)]
  if not sure or frames[1] - frames[0] < seam.LONG:
    found = seam.find(song, meter)
    if found and (not sure or found.end - found.start >= seam.LONG):
      frames = found[:2]
  return None if frames is None else _samples(song, meter, *frames)


def whole(song: np.ndarray) -> tuple[int, int] | None:
  """All of a song up to its last bar, as `points`; None if it has no length.
  """
  meter = meter_lib.analyze(song)
  bars = meter.row_frames[meter.bar_row::meter.rows_per_bar]
  return _samples(song, meter, 0, bars[-1] if meter.row and len(bars) > 1
                  else meter.row_frames[-1])


def _samples(song, meter, start: int, end: int) -> tuple[int, int] | None:
  """Turns frames into samples."""
  last = len(meter.frame_starts) - 1
  start, end = (max(round(meter.frame_starts[min(x, last)]), 0)
                for x in (start, end))
  end = min(end, int(ev.times_of(song)[-1:].sum()))
  return (start, end) if end - start >= 2 else None


def of_metadata(metadata: dict[str, Any]) -> int | None:
  """Returns the `loop`, seconds, of what is known of a song, in samples."""
  loop = metadata.get('loop')
  return round(loop * ev.SAMPLE_RATE) if isinstance(loop, int | float) else None


def truncate(song: np.ndarray, end: int) -> np.ndarray:
  """The part of a song before a sample; what sounds then is not ended."""
  song = np.asarray(song)
  keep = (song < 0) & (ev.times_of(song) < end)
  return ev.from_times(ev.times_of(song)[keep], song[keep], end)


def to_log(looped: Looped) -> RegisterLog:
  """Turns it into a register log whose end leads over to its loop point."""
  log = transcribe.from_events(looped.song)
  if looped.loop is None:
    return log
  return close(log, min(looped.loop, log.length - 1))


def close(log: RegisterLog, loop: int) -> RegisterLog:
  """Lets a log go round, where only changes are written.

  At the loop point the registers are written that are different at the end, so
  that whichever way it is reached, the same sounds from there on.

  Args:
    log: with what `synth.registers` writes.
    loop: sample at which it goes on after its end.
  """
  at = int(np.searchsorted(log.time, loop, 'left'))
  before, last = (_values(log, n) for n in (at, len(log.time)))
  return insert(log, at, loop, _differences(before, last))._replace(loop=loop)


def insert(log: RegisterLog, at: int, time: int,
           writes: list[tuple[int, int]]) -> RegisterLog:
  """Inserts (register, value) writes before write number `at`."""
  registers, values = np.array(writes, np.uint8).reshape(-1, 2).T
  return log._replace(
      time=np.insert(log.time, at, np.full(len(writes), time)),
      register=np.insert(log.register, at, registers),
      value=np.insert(log.value, at, values))


def _values(log: RegisterLog, n: int) -> dict[int, int]:
  """What the first `n` writes leave in each register."""
  return dict(zip(log.register[:n].tolist(), log.value[:n].tolist(),
                  strict=True))


def _differences(wanted: dict[int, int], there: dict[int, int]
                ) -> list[tuple[int, int]]:
  """Writes that turn the registers `there` into those `wanted`."""
  writes = []
  on, was_on = wanted.get(_STATUS, 0), there.get(_STATUS, 0)
  if on != was_on:
    writes.append((_STATUS, on))
  started = {_LOADS[v] for v in range(4) if on & ~was_on & 1 << v}
  for register in range(16):
    value = wanted.get(register, 0)
    if register in started or (value != there.get(register, 0) and
                               register in there):
      writes.append((register, value))
  return writes


def unroll(log: RegisterLog, loops: int) -> RegisterLog:
  """Plays the looped part of a log, if there is one, so many times."""
  if log.loop is None:
    return log
  again = np.flatnonzero(log.time >= log.loop)
  period = log.length - log.loop
  shifts = np.repeat(period * np.arange(1, loops), len(again))
  again = np.tile(again, loops - 1)
  extra = period * (loops - 1)
  return log._replace(
      time=np.append(log.time, log.time[again] + shifts),
      register=np.append(log.register, log.register[again]),
      value=np.append(log.value, log.value[again]),
      length=log.length + extra, loop=log.loop + extra)
