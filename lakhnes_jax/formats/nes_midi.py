"""NES-MDB's MIDI layout <-> songs of events, exact to the sample.

A file has one track per voice, named p1, p2, tr and no, after one with the
tempo; at 22050 ticks per beat and 120 beats per minute a tick is a sample.
Velocity is the chip's volume, 1 to 15 (the triangle has none and carries 1);
controller 11 changes the volume of a sounding note, controller 12 sets the
timbre. A last 1/1 time signature marks the end of the song.

Source: NES-MDB (Donahue et al., ISMIR 2018), MIDI format.
"""

import bisect
import io
import itertools
import operator
import os
import re
from collections.abc import Callable, Iterable, Iterator

import mido
import numpy as np

from lakhnes_jax import events as ev
from lakhnes_jax import input_files
from lakhnes_jax.formats import midi_chunks

TRACK_NAMES = ('p1', 'p2', 'tr', 'no')  # Of voices 0 to 3.
_PROGRAMS = (80, 81, 38, 121)
_CHANNELS = (0, 1, 2, 9)
_VELOCITY_CONTROL, _TIMBRE_CONTROL = 11, 12
_TICKS_PER_BEAT, _TEMPO = 22050, 500000  # Microseconds per beat.
_MAX_LENGTH = 2**31 - 1  # Samples.
_MAX_DELTA = 2**28 - 1  # Ticks; what four bytes of seven bits hold.
_DEFAULT_VELOCITY = 15  # Of notes before any VELOCITY.
_MAX_BYTES = 2**21
_ENDLESS_NUMBER = re.compile(rb'[\x80-\xff]{1024}')
# Effect of a message; at one sample they apply in this order.
_END, _START, _VELOCITY, _TIMBRE = range(4)
_EFFECT = {_VELOCITY_CONTROL: _VELOCITY, _TIMBRE_CONTROL: _TIMBRE}


def parse(data: bytes, strict: bool = False) -> mido.MidiFile:
  """Parses any MIDI file of up to 2 MiB; NES-MDB's largest has 507 KiB.

  Args:
    data: the file.
    strict: whether to take it as it is; else it is mended first, and holds only
      the messages that `midi_chunks.mend` keeps.

  Raises:
    ValueError: it is not a MIDI file, damaged, or too large.
  """
  if len(data) > _MAX_BYTES:
    raise ValueError(f'a MIDI file of {len(data)} bytes; at most {_MAX_BYTES} '
                     'are read')
  # mido would read them as one number, which takes minutes.
  if strict and _ENDLESS_NUMBER.search(data):
    raise ValueError('not a readable MIDI file: a number that does not end')
  try:
    if not strict:
      data = midi_chunks.mend(data)
    return mido.MidiFile(file=io.BytesIO(data))
  except MemoryError:
    raise
  except Exception as error:  # mido lets errors of every kind through.
    reason = str(error) or ('it ends too early' if isinstance(error, EOFError)
                            else type(error).__name__)
    raise ValueError(f'not a readable MIDI file: {reason}') from None


def read(source: bytes | str | os.PathLike) -> np.ndarray:
  """Reads a song, with dynamics.

  Files of another tempo or resolution are read too, times rounded to the
  nearest sample. A note that starts while another sounds ends that one; one
  that is never ended lasts to the end of the song. The song ends at the last
  time signature or event.

  Args:
    source: the file's bytes, or its path.

  Returns:
    int32 song (see `events`). In one instant voices come in their order, in
    each voice NOTEOFF or NOTEON, then VELOCITY, then TIMBRE. NOTEOFF is left
    out where the next note starts at that very sample.

  Raises:
    ValueError: not a MIDI file in this layout; the message names the track,
      the value and its legal range.
  """
  if not isinstance(source, bytes):
    source = input_files.read(source)
  midi = parse(source)
  sample_of = _clock(midi)
  found, length = {}, 0
  for track in midi.tracks:
    name = track.name.strip().lower()
    messages, last = _messages(track, sample_of)
    length = max(length, last)
    if name in TRACK_NAMES and name not in found:
      found[name] = messages
    elif any(effect == _START for _, effect, _, _ in messages):
      raise ValueError(
          f'track {track.name!r} has notes, but is ' +
          ('there twice' if name in found else 'not one of ' +
           ', '.join(TRACK_NAMES)))
  if not found:
    raise ValueError('no track is named ' + ', '.join(TRACK_NAMES))
  if length > _MAX_LENGTH:
    raise ValueError(f'the song is longer than {_MAX_LENGTH} samples '
                     '(13 hours)')
  rows = [_voice_events(found.get(name, []), voice, length)
          for voice, name in enumerate(TRACK_NAMES)]
  times, events = (np.concatenate(parts) for parts in zip(*rows, strict=True))
  order = np.argsort(times, kind='stable')  # Voices stay in their order.
  return ev.from_times(times[order], events[order], length)


def _clock(midi: mido.MidiFile) -> Callable[[int], int]:
  """Returns the function from ticks to samples, rounded to the nearest."""
  if midi.type == 2:
    raise ValueError('MIDI files of type 2 hold several songs')
  if midi.ticks_per_beat < 0:
    raise ValueError('timing by SMPTE frames is not supported')
  if midi.ticks_per_beat == 0:
    raise ValueError('a time division of 0: no ticks per beat')
  changes = {0: _TEMPO}
  for track in midi.tracks:
    tick = 0
    for message in track:
      tick += message.time
      if message.type == 'set_tempo':
        if not message.tempo:
          raise ValueError(f'a tempo of 0 at tick {tick}')
        changes[tick] = message.tempo
  if midi.ticks_per_beat == _TICKS_PER_BEAT and set(
      changes.values()) == {_TEMPO}:
    return lambda tick: tick
  # Times in microseconds / ticks_per_beat are whole numbers.
  ticks, tempi = zip(*sorted(changes.items()), strict=True)
  begins = [0]
  for i in range(len(ticks) - 1):
    begins.append(begins[i] + (ticks[i + 1] - ticks[i]) * tempi[i])
  per_sample = midi.ticks_per_beat * 10**6

  def sample_of(tick: int) -> int:
    i = bisect.bisect_right(ticks, tick) - 1
    time = begins[i] + (tick - ticks[i]) * tempi[i]
    return (2 * time * ev.SAMPLE_RATE + per_sample) // (2 * per_sample)

  return sample_of


def _messages(track: mido.MidiTrack, sample_of: Callable[[int], int]
             ) -> tuple[list[tuple[int, int, int, int]], int]:
  """Lists the messages of a track that matter.

  Returns:
    (sample, _END .. _TIMBRE, value, velocity) of each, sorted by the first two;
    and the sample of the last one.
  """
  found, tick, last = [], 0, 0
  for message in track:
    tick += message.time
    kind = message.type
    if kind == 'note_on':
      velocity = message.velocity
      found.append((sample_of(tick), _START if velocity else _END, message.note,
                    velocity))
    elif kind == 'control_change' and message.control in _EFFECT:
      found.append((sample_of(tick), _EFFECT[message.control], message.value,
                    0))
    elif kind == 'note_off':
      found.append((sample_of(tick), _END, message.note, 0))
    elif kind != 'time_signature':
      continue
    last = tick
  found.sort(key=operator.itemgetter(0, 1))
  return found, sample_of(last)


def _voice_events(messages: list[tuple[int, int, int, int]], voice: int,
                  length: int) -> tuple[np.ndarray, np.ndarray]:
  """Turns the messages of a track into times and events of its voice."""
  has_velocity = bool(ev.VOICES[voice].velocities)
  times, kinds, values = [-1], [-1], [0]  # A guard before the first.

  def append(time, kind, value):
    times.append(time)
    kinds.append(kind)
    values.append(value)

  sounding, last_onset = -1, -1
  for time, effect, value, velocity in messages:
    if effect == _START and time >= length:
      effect, value = _END, sounding  # No time is left for it to sound.
    if effect == _END:
      if value == sounding >= 0:
        sounding = -1
        append(time, ev.NOTEOFF, 0)
    elif effect == _START:
      if time == last_onset:
        raise ValueError(
            f'track {TRACK_NAMES[voice]}: notes {sounding} and {value} start '
            f'at the same sample, {time}; a voice plays one note at a time')
      if kinds[-1] == ev.NOTEOFF and times[-1] == time:
        del times[-1], kinds[-1], values[-1]
      sounding, last_onset = value, time
      append(time, ev.NOTEON, value)
      if has_velocity:
        append(time, ev.VELOCITY, velocity)
    elif has_velocity:
      kind = ev.VELOCITY if effect == _VELOCITY else ev.TIMBRE
      if kinds[-1] == kind and times[-1] == time:
        values[-1] = value  # The last one counts.
      else:
        append(time, kind, value)
  if sounding >= 0:  # Before what else there is at the very end.
    at = bisect.bisect_left(times, length)
    for column, value in zip((times, kinds, values), (length, ev.NOTEOFF, 0),
                             strict=True):
      column.insert(at, value)
  # In NES-MDB a voice without notes has no events, not even of timbre.
  used = slice(1 if ev.NOTEON in kinds else len(times), None)
  times, kinds, values = times[used], kinds[used], values[used]
  events = ev.EVENT[voice, kinds, values]
  for i in np.flatnonzero(events == 0)[:1]:
    try:
      ev.event(voice, kinds[i], values[i])
    except ValueError as error:
      raise ValueError(f'track {TRACK_NAMES[voice]}, sample {times[i]}: '
                       f'{error}') from None
  return np.array(times, np.int64), events


def write(events: np.ndarray) -> bytes:
  """Writes a song in NES-MDB's layout.

  Every song that `read` returns is read back unchanged. Any other is written
  as it sounds: of a voice's events at one sample the last of each kind holds, a
  NOTEOFF in silence has no effect, a NOTEON ends the note before it, a note
  still on at the end ends there. A note without a VELOCITY takes the voice's
  last one, at first 15.

  Args:
    events: int32 song (see `events`).

  Returns:
    the bytes of the MIDI file, the same for the same song.

  Raises:
    ValueError: a pause is longer than MIDI can represent (1.7 hours).
  """
  events = np.asarray(events)
  times, is_event = ev.times_of(events), events < 0
  length = int(times[-1]) if len(times) else 0
  midi = mido.MidiFile(type=1, ticks_per_beat=_TICKS_PER_BEAT)
  midi.tracks.append(_track([
      (0, mido.MetaMessage('set_tempo', tempo=_TEMPO)),
      (0, mido.MetaMessage('time_signature', numerator=4, denominator=4)),
      (length, mido.MetaMessage('time_signature', numerator=1, denominator=1)),
  ]))
  voices, kinds, values = ev.voice_of(events), ev.kind_of(events), ev.value_of(
      events)
  for voice, name in enumerate(TRACK_NAMES):
    mine = is_event & (voices == voice)
    rows = zip(times[mine].tolist(), kinds[mine].tolist(),
               values[mine].tolist(), strict=True)
    midi.tracks.append(_track([
        (0, mido.MetaMessage('track_name', name=name)),
        (0, mido.Message('program_change', channel=_CHANNELS[voice],
                         program=_PROGRAMS[voice])),
        *_voice_messages(rows, voice, length)]))
  buffer = io.BytesIO()
  midi.save(file=buffer)
  return buffer.getvalue()


def _voice_messages(rows: Iterable[tuple[int, int, int]], voice: int,
                    length: int) -> Iterator[tuple[int, mido.Message]]:
  """Yields the sample and message of each change of one voice."""
  has_velocity = bool(ev.VOICES[voice].velocities)

  def message(kind, **values):
    return mido.Message(kind, channel=_CHANNELS[voice], **values)

  sounding, level = 0, _DEFAULT_VELOCITY if has_velocity else 1
  for time, instant in itertools.groupby(rows, lambda row: row[0]):
    now = {}  # The last of each kind; of NOTEOFF and NOTEON the last of both.
    for _, kind, value in instant:
      now[max(kind, ev.NOTEON)] = value  # A NOTEOFF has value 0.
    level = now.get(ev.VELOCITY, level)
    note = now.get(ev.NOTEON)
    if note and time >= length:
      note = 0  # No time is left for it to sound.
    if ev.VELOCITY in now and not note:
      yield time, message('control_change', control=_VELOCITY_CONTROL,
                          value=level)
    if ev.TIMBRE in now:
      yield time, message('control_change', control=_TIMBRE_CONTROL,
                          value=now[ev.TIMBRE])
    if note is not None:
      pair = [(sounding, 0), (note, level)]
      for pitch, velocity in sorted(pair):
        if pitch:
          yield time, message('note_on', note=pitch, velocity=velocity)
      sounding = note
  if sounding:
    yield length, message('note_on', note=sounding, velocity=0)


def _track(messages: Iterable[tuple[int, mido.Message]]
          ) -> mido.MidiTrack:
  """Makes a track of messages at ascending samples."""
  track, now = mido.MidiTrack(), 0
  for time, message in messages:
    if time - now > _MAX_DELTA:
      raise ValueError(f'a pause of {time - now} samples is longer than MIDI '
                       f'can represent, {_MAX_DELTA}')
    message.time, now = time - now, time
    track.append(message)
  track.append(mido.MetaMessage('end_of_track', time=1))
  return track
