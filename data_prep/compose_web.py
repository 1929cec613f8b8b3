"""General MIDI files of composed songs, as the web has them."""

import mido
import numpy as np

from data_prep import music, styles

# Programs (General MIDI, from 0) that play each part of a style.
_PROGRAMS = {
    'march': {'lead': (56, 72, 73), 'harmony': (60, 57, 71), 'bass': (58, 43),
              'chords': (61, 48), 'arpeggio': (71, 68), 'echo': (9, 72)},
    'waltz': {'lead': (40, 21, 73), 'harmony': (41, 71), 'bass': (43, 32),
              'chords': (48, 21), 'arpeggio': (46, 0), 'echo': (10, 73)},
    'rock': {'lead': (29, 80, 65), 'harmony': (30, 81), 'bass': (33, 34, 38),
             'chords': (27, 16, 62), 'arpeggio': (81, 28), 'echo': (82, 84)},
    'ballad': {'lead': (65, 73, 22), 'harmony': (52, 42), 'bass': (35, 32),
               'chords': (0, 48, 4), 'arpeggio': (24, 0, 46),
               'echo': (11, 98)},
    'blues': {'lead': (22, 66, 26), 'harmony': (65, 57), 'bass': (32, 33),
              'chords': (16, 1), 'arpeggio': (26, 3), 'echo': (59, 22)},
    'fugue': {'lead': (6, 19, 68), 'harmony': (6, 19, 69), 'bass': (6, 70)},
}
_DRUM_FRAMES = 4  # Sixtieths of a second that a drum is held.
_KEYS = (0, 0, 7, 7, 2, 2, 5, 5, 9, 4, 10)  # Those with few accidentals.
_ADJECTIVES = ('brave', 'sleepy', 'green', 'humming', 'little', 'crooked',
               'polite', 'midnight', 'wobbly', 'golden', 'late', 'borrowed')
_NOUNS = ('teapot', 'lighthouse', 'badger', 'bicycle', 'harbour', 'umbrella',
          'orchard', 'tramway', 'pelican', 'attic', 'snowman', 'kettle')


def compose(rng: np.random.Generator) -> tuple[str, mido.MidiFile]:
  """Composes a song; returns its title and the file."""
  style = _pick(rng, list(styles.STYLES.values()))
  song = music.compose(rng, style, _pick(rng, _KEYS), _pick(rng, style.tempi))
  title = f'{style.name} of the {_pick(rng, _ADJECTIVES)} {_pick(rng, _NOUNS)}'
  return title, arrange(song, rng, title)


def arrange(song: music.Song, rng: np.random.Generator,
            title: str) -> mido.MidiFile:
  """Gives each part a program, a volume and small random variations.

  Up to two sixtieths of a second are left between notes, as a sound driver
  does. Lead and bass are always present, the other parts and drums not.
  """
  midi = mido.MidiFile(
      type=1, ticks_per_beat=int(_pick(rng, (240, 384, 480, 480, 960))))
  scale = midi.ticks_per_beat // styles.TICKS
  midi.tracks.append(mido.MidiTrack([
      mido.MetaMessage('track_name', name=title),
      mido.MetaMessage('time_signature', numerator=song.style.beats,
                       denominator=4),
      mido.MetaMessage('set_tempo', tempo=mido.bpm2tempo(song.tempo))]))
  channels = iter((0, 1, 2, 3, 4, 5))
  for name, notes in song.parts.items():
    optional = name in ('echo', 'arpeggio', 'chords', 'drums')
    if not notes or (optional and rng.random() < .3):
      continue
    drums = name == 'drums'
    channel = 9 if drums else next(channels)
    track = mido.MidiTrack([mido.MetaMessage('track_name', name=name)])
    if not drums:
      program = _pick(rng, _PROGRAMS[song.style.name][name])
      track.append(mido.Message('program_change', channel=channel,
                                program=program))
    track.append(mido.Message('control_change', channel=channel, control=7,
                              value=int(rng.integers(80, 120))))
    gap = int(_pick(rng, (0, 0, 1, 1, 2)))
    octave = 0 if drums else 12 * int(_pick(rng, (0, 0, 0, 1)))
    ticks_per_frame = midi.ticks_per_beat * song.tempo / 3600
    lengths = [
        round(_DRUM_FRAMES * ticks_per_frame) if drums else
        note.length * scale - round(gap * ticks_per_frame) for note in notes]
    track += _messages(notes, lengths, rng, channel, scale, octave)
    midi.tracks.append(track)
  return midi


def _pick(rng, items):
  return items[int(rng.integers(len(items)))]


def _messages(notes, lengths, rng, channel, scale, octave):
  """Note messages in order of time, ends before beginnings."""
  uneven = rng.integers(-6, 7, len(notes))
  timed = []
  for note, length, more in zip(notes, lengths, uneven, strict=True):
    start, pitch = note.start * scale, note.pitch + octave
    end = start + length
    velocity = int(np.clip(note.velocity + more, 1, 127))
    timed += [(start, 1, pitch, velocity), (end, 0, pitch, 0)]
  messages, now = [], 0
  for time, on, pitch, velocity in sorted(timed):
    messages.append(mido.Message(
        'note_on' if on else 'note_off', channel=channel, note=pitch,
        velocity=velocity, time=time - now))
    now = time
  return messages
