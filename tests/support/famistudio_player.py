"""Plays FamiStudio's text frame by frame, as its documentation says.

Sources: Docs/docs/export.md of FamiStudio; that no attribute may be empty, its
reader.
"""

import re

import numpy as np

_ATTRIBUTE = re.compile(r'(\w+)="((?:[^"]|"")+)"')
_NAMES = ['C', 'C#', 'D', 'D#', 'E', 'F', 'F#', 'G', 'G#', 'A', 'A#', 'B']
_CHANNELS = ('Square1', 'Square2', 'Triangle', 'Noise')


def parse(text):
  """Lines as (object, attributes); each is as the grammar has it."""
  objects = []
  for line in text.strip().split('\n'):
    name = line.split()[0]
    attributes = {k: v.replace('""', '"') for k, v in _ATTRIBUTE.findall(line)}
    rest = _ATTRIBUTE.sub('', line).split()
    assert rest == [name], line
    objects.append((name, attributes))
  return objects


class Project:
  """A project of one song."""

  def __init__(self, text):
    objects = parse(text)
    assert objects[0][0] == 'Project' and 'Version' not in objects[0][1]
    assert objects[0][1]['TempoMode'] == 'FamiStudio'
    self.attributes = objects[0][1]
    self.instruments, self.lengths = {}, {}
    self.patterns = {c: {} for c in _CHANNELS}
    self.instances = {c: {} for c in _CHANNELS}
    for name, a in objects[1:]:
      if name == 'Instrument':
        envelopes = self.instruments.setdefault(a['Name'], {})
        assert not envelopes
      elif name == 'Envelope':
        values = [int(v) for v in a['Values'].split(',')]
        assert len(values) == int(a['Length']) <= 255
        assert 'Loop' not in a and all(-64 <= v <= 63 for v in values)
        envelopes[a['Type']] = values
      elif name == 'Song':
        self.song = {k: v if k in ('Name', 'GroovePaddingMode') else int(v)
                     for k, v in a.items()}
        note = self.song['NoteLength']
        assert note == self.song['Groove'] and 1 <= note <= 18
        assert self.song['PatternLength'] * note * note <= 2048
        assert 1 <= self.song['Length'] <= 256
      elif name == 'PatternCustomSettings':
        assert a['Groove'] == a['NoteLength']
        assert 1 <= int(a['NoteLength']) <= 18
        assert int(a['BeatLength']) >= 1
        frames = int(a['Length']) * int(a['NoteLength'])
        assert 1 <= frames <= 2048
        self.lengths[int(a['Time'])] = frames
      elif name == 'Channel':
        channel = a['Type']
      elif name == 'Pattern':
        pattern = self.patterns[channel].setdefault(a['Name'], [])
        assert not pattern
      elif name == 'Note':
        pattern.append((int(a['Time']), a['Value'], int(a['Duration']),
                        a['Instrument']))
      elif name == 'PatternInstance':
        assert a['Pattern'] in self.patterns[channel]
        self.instances[channel][int(a['Time'])] = a['Pattern']
      else:
        raise AssertionError(name)

  def play(self):
    """Plays the song once.

    Returns:
      [T, 4, 3] int: MIDI note, or of noise 16 less the period; level; duty. The
      frame that it goes on at, or None.
    """
    lengths = [self.lengths[t] for t in range(self.song['Length'])]
    starts = np.cumsum([0, *lengths]).tolist()
    state = np.zeros((starts[-1], 4, 3), int)
    for voice, channel in enumerate(_CHANNELS):
      for time, name in self.instances[channel].items():
        for at, value, duration, instrument in self.patterns[channel][name]:
          assert 0 <= at < lengths[time]
          begin = starts[time] + at
          # A note ends where another begins, or with the song.
          state[begin:, voice] = 0
          self._note(state[begin:begin + duration, voice], voice, value,
                     self.instruments[instrument])
    loop = self.song['LoopPoint']
    return state, None if loop < 0 else starts[loop]

  def _note(self, out, voice, value, envelopes):
    number = _NAMES.index(value[:-1]) + 12 * int(value[-1]) + 1

    def envelope(kind, default):
      values = envelopes.get(kind, [default])
      return np.array([values[min(i, len(values) - 1)]
                       for i in range(len(out))], int)

    level, step = envelope('Volume', 15), envelope('Arpeggio', 0)
    duty = envelope('DutyCycle', 0)
    if voice == 3:
      pitch = ((number + step) & 15) + 1
    else:
      assert (number + step >= 1).all() and (number + step <= 96).all()
      pitch = number - 1 + step + (12 if voice == 2 else 24)
    if voice == 2:
      level, duty = 15 * (level > 0), 0 * duty
    out[:] = np.stack([pitch, level, duty], 1) * (level > 0)[:, None]
