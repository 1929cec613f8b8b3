"""General MIDI files -> the notes of each instrument, as pretty_midi has them.

An instrument is a program on a channel of a track; the program is the one set
when a note *ends*. A note-off ends every note of its pitch and channel that
began at an earlier tick. Tempo changes count on the first track only. The
original adaptation of Lakh read its files by these rules.
"""

from typing import NamedTuple

import mido
import numpy as np

from lakhnes_jax import events as ev
from lakhnes_jax.data.arrangement import PITCH, START
from lakhnes_jax.formats import nes_midi

_DRUM_CHANNEL = 9
_MAX_TICK = 10**7  # pretty_midi rejects longer files as corrupt.
_DEFAULT_TEMPO = 500000  # Microseconds per beat.


class Instrument(NamedTuple):
  """What one program on one channel of one track plays.

  Attributes:
    program: 0 to 127.
    is_drum: whether it is on the drum channel.
    notes: [n, 4] int64: start and end in samples at 44.1 kHz, pitch,
      velocity; by start, those that start together in order of their ends.
  """
  program: int
  is_drum: bool
  notes: np.ndarray


def read(data: bytes, strict: bool = False) -> list[Instrument]:
  """Reads the notes of a MIDI file.

  Args:
    data: the file.
    strict: whether to refuse what pretty_midi refuses; see `nes_midi.parse`.

  Returns:
    The instruments that have notes, in the order of their first note-offs.

  Raises:
    ValueError: the file is damaged, or its times make no sense.
  """
  midi = nes_midi.parse(data, strict)
  if midi.ticks_per_beat <= 0:
    raise ValueError('time division is not in ticks per beat')
  grouped, tempi = read_ticks(midi)
  to_samples = _clock(tempi, midi.ticks_per_beat)
  instruments = []
  for (_, channel, program), rows in grouped.items():
    notes = np.array(rows, np.int64)
    notes[:, :PITCH] = to_samples(notes[:, :PITCH])
    notes = notes[np.argsort(notes[:, START], kind='stable')]
    instruments.append(Instrument(program, channel == _DRUM_CHANNEL, notes))
  return instruments


def read_ticks(midi: mido.MidiFile) -> tuple[
    dict[tuple[int, int, int], list[tuple[int, ...]]], list[tuple[int, int]]]:
  """Returns notes and tempo changes, in ticks.

  Returns:
    for each (track, channel, program) rows of start and end in ticks, pitch
    and velocity, in the order in which they end; and (tick, microseconds a
    beat).

  Raises:
    ValueError: it is too long, or has a tempo of 0.
  """
  grouped: dict[tuple[int, int, int], list[tuple[int, ...]]] = {}
  tempi = [(0, _DEFAULT_TEMPO)]
  last_tick = 0
  for number, track in enumerate(midi.tracks):
    now = _read_track(track, number, grouped, tempi)
    last_tick = max(last_tick, now)
  if last_tick > _MAX_TICK:
    # Not the number itself, which may have thousands of digits.
    raise ValueError(f'too long: over {_MAX_TICK} ticks')
  return grouped, tempi


def _read_track(track, number, grouped, tempi) -> int:
  """Adds the notes of a track, in ticks, to `grouped`; returns its length."""
  programs = [0] * 16
  sounding: dict[tuple[int, int], list[tuple[int, int]]] = {}
  now = 0
  for message in track:
    now += message.time
    kind = message.type
    if kind == 'note_on' and message.velocity:
      key = message.channel, message.note
      sounding.setdefault(key, []).append((now, message.velocity))
    elif kind in ('note_on', 'note_off'):
      channel, pitch = message.channel, message.note
      begun = sounding.pop((channel, pitch), ())
      ended = [note for note in begun if note[0] != now]
      if ended:
        key = number, channel, programs[channel]
        grouped.setdefault(key, []).extend(
            (start, now, pitch, velocity) for start, velocity in ended)
        if len(ended) < len(begun):
          sounding[channel, pitch] = [n for n in begun if n[0] == now]
    elif kind == 'program_change':
      programs[message.channel] = message.program
    elif kind == 'set_tempo' and number == 0:
      if not message.tempo:
        raise ValueError(f'tempo of 0: at tick {now}')
      tempi.append((now, message.tempo))
  return now


def _clock(tempi, ticks_per_beat):
  """Returns a function from ticks to samples, whole numbers both."""
  ticks, tempo = np.array(tempi, np.float64).T
  samples_per_tick = tempo * (ev.SAMPLE_RATE * 1e-6 / ticks_per_beat)
  begins = np.concatenate(
      [[0], np.cumsum(np.diff(ticks) * samples_per_tick[:-1])])

  def to_samples(tick):
    at = np.searchsorted(ticks, tick, side='right') - 1
    return np.rint(begins[at] + (tick - ticks[at]) * samples_per_tick[at])

  return to_samples
