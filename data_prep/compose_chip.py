"""Four-voice songs for the NES sound chip, named and timed as in NES-MDB.

Songs come in games of six. A game has a band of its own: pulse instruments
with volume envelopes, noise drums, and a driver that updates the voices once
a frame, one voice after the other, each update costing it some samples.
"""

from typing import NamedTuple

import numpy as np

from data_prep import music, styles
from lakhnes_jax import events as ev
from lakhnes_jax import nes

SONGS_PER_GAME = 6
# Title, styles that suit it, longest form in seconds.
_SCENES = (
    ('TitleScreen', ('march', 'rock'), 40),
    ('Overworld', ('rock', 'march'), 55),
    ('Town', ('waltz', 'ballad'), 50),
    ('Shop', ('blues', 'waltz'), 45),
    ('Dungeon', ('fugue', 'ballad'), 50),
    ('Boss', ('rock', 'rock', 'blues'), 40),
)
_FIRST = ('Turnip', 'Comet', 'Otter', 'Lantern', 'Pickle', 'Cactus', 'Waffle',
          'Marmot', 'Thimble', 'Biscuit')
_SECOND = ('Quest', 'Patrol', 'Panic', 'Racer', 'Legend', 'Brigade', 'Hotel',
           'Dash', 'Saga')
# Volumes, a frame each; a last one that is not 0 is held.
_ENVELOPES = (
    (15, 14, 12, 10, 9, 8, 7, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0),
    (15, 14, 13, 12, 11, 10, 9, 8), (10, 13, 15, 14, 12, 11), (12,),
    (15, 15, 13, 13, 11, 11, 10, 10, 9, 9, 8, 8, 7, 7, 6, 6, 5),
    (4, 8, 11, 12), (9, 8, 7, 6, 6, 5), (14, 10, 8, 7, 6, 5, 4),
)
# Noise pitches to choose from and the volumes, for each drum.
_DRUMS = {
    styles.KICK: ((2, 3, 4, 5), (15, 12, 8, 4, 0)),
    styles.TOM: ((6, 7), (15, 12, 9, 6, 3, 0)),
    styles.SNARE: ((9, 10, 11), (15, 13, 10, 8, 6, 4, 2, 1, 0)),
    styles.CLOSED_HAT: ((14, 15), (8, 4, 1, 0)),
    styles.RIDE: ((16,), (7, 5, 3, 1, 0)),
    styles.CRASH: ((12, 13), (15, 13, 12, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0)),
}
_LOUDEST_FIRST = (styles.CRASH, styles.SNARE, styles.TOM, styles.KICK,
                  styles.RIDE, styles.CLOSED_HAT)


class Band(NamedTuple):
  """How the songs of one game sound."""
  envelopes: tuple[tuple[int, ...], tuple[int, ...]]  # Of P1 and P2.
  duties: tuple[int, int]
  noise: dict[int, int]  # General MIDI drum -> pitch of the noise voice.
  gaps: tuple[int, int, int]  # Frames of silence after a note of P1, P2, TR.
  second: tuple[str, str]  # Parts for P2, one per song.
  lead_in: int  # Frames before the first note.
  cost: int  # Samples that the update of one voice takes.


def compose_game(rng: np.random.Generator,
                 number: int) -> list[tuple[str, np.ndarray]]:
  """Composes the songs of a game; returns (name, song) of each."""
  name = _FIRST[number % len(_FIRST)] + _SECOND[number % len(_SECOND)]
  band = Band(
      envelopes=(_pick(rng, _ENVELOPES), _pick(rng, _ENVELOPES)),
      duties=(_pick(rng, (1, 2, 2)), _pick(rng, (0, 1, 2))),
      noise={drum: _pick(rng, pitches) for drum, (pitches, _) in
             _DRUMS.items()},
      gaps=tuple(rng.integers(0, 2, 3).tolist()),
      second=_pick(rng, (('harmony', 'arpeggio'), ('arpeggio', 'echo'),
                         ('harmony', 'echo'))),
      lead_in=_pick(rng, (0, 0, 1, 10)), cost=_pick(rng, (0, 0, 0, 7)))
  songs = []
  for track, (title, fitting, seconds) in enumerate(_SCENES):
    style = styles.STYLES[_pick(rng, fitting)]
    frames = _frames_per_grid(rng, style)
    tempo = 3600 / frames * style.grid / styles.TICKS
    song = music.compose(rng, style, int(rng.integers(12)), tempo, seconds)
    songs.append((f'{number:03d}_{name}_{track:02d}_{track + 1:02d}{title}',
                  play(song, band, frames, _pick(rng, band.second))))
  return songs


def _pick(rng, items):
  return items[int(rng.integers(len(items)))]


def _frames_per_grid(rng, style) -> int:
  """Frames a sixteenth (or triplet) lasts: near a tempo of the style."""
  exact = 3600 / _pick(rng, style.tempi) * style.grid / styles.TICKS
  return max(4, round(exact) + int(_pick(rng, (-1, 0, 0, 1))))


def play(song: music.Song, band: Band, frames: int,
         second: str) -> np.ndarray:
  """Arranges a song for the chip.

  Args:
    song: its lead goes to P1, `second` to P2, bass to TR, drums to NO.
    band: instruments and driver.
    frames: frames per grid unit of the song's style.
    second: the part for P2; the harmony if the song lacks it.

  Returns:
    int32 song in events, with dynamics.
  """
  parts = song.parts
  second_part = parts[second] or parts['harmony']
  timed = []  # (frame, voice, event), in the driver's order once sorted.

  def to_frame(tick):
    return band.lead_in + round(tick * frames / song.style.grid)

  for voice, notes in ((ev.P1, parts['lead']), (ev.P2, second_part),
                       (ev.TR, parts['bass'])):
    envelope = (1,) if voice == ev.TR else band.envelopes[voice]
    for note, end in _until_next(notes, to_frame):
      end = min(end, to_frame(note.start + note.length) - band.gaps[voice])
      timed += _note(voice, note.pitch, to_frame(note.start), end, envelope)
  for note, end in _until_next(_one_at_a_time(parts['drums']), to_frame):
    timed += _note(ev.NO, band.noise[note.pitch], to_frame(note.start), end,
                     _DRUMS[note.pitch][1])
  timed += [(0, voice, ev.event(voice, ev.TIMBRE, duty))
              for voice, duty in enumerate(band.duties)]
  timed.sort(key=lambda event_at: event_at[:2])
  # Where the next note starts at once, its NOTEON alone ends the one before.
  timed = [event_at for event_at, following in
             zip(timed, [*timed[1:], (-1, -1, 0)], strict=True)
             if not (ev.kind_of(event_at[2]) == ev.NOTEOFF and
                     event_at[:2] == following[:2])]
  length = (to_frame(song.length) + 1) * nes.FRAME_60HZ
  return ev.from_times(_driver_times(timed, band.cost),
                       np.array([event for *_, event in timed], np.int32),
                       length)


def _one_at_a_time(drums):
  """Keeps the loudest drum of those struck together."""
  loudest = {}
  for note in drums:
    loudest.setdefault(note.start, []).append(note)
  return [min(notes, key=lambda note: _LOUDEST_FIRST.index(note.pitch))
          for _, notes in sorted(loudest.items())]


def _until_next(notes, to_frame):
  """Yields each note and the frame where the next begins."""
  ends = [to_frame(note.start) for note in notes[1:]] + [1 << 30]
  yield from zip(notes, ends, strict=False)


def _note(voice, pitch, start, end, envelope):
  """Timed events of one note: on, its volumes where they change, off."""
  if end <= start:
    return []
  timed = [(start, voice, ev.event(voice, ev.NOTEON, pitch))]
  last = 0
  for frame in range(start, end):
    volume = envelope[min(frame - start, len(envelope) - 1)]
    if not volume:
      end = frame
      break
    if voice != ev.TR and volume != last:
      timed.append((frame, voice, ev.event(voice, ev.VELOCITY, volume)))
    last = volume
  return [*timed, (end, voice, ev.event(voice, ev.NOTEOFF))]


def _driver_times(timed, cost):
  """Samples at which the driver gets to each event, in order."""
  times, frame, spent, last_voice = [], -1, 0, -1
  for at, voice, _ in timed:
    if at != frame:
      frame, spent, last_voice = at, 0, -1
    if voice != last_voice and last_voice >= 0:
      spent += cost
    last_voice = voice
    times.append(at * nes.FRAME_60HZ + spent)
  return times
