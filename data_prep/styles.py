"""What makes a march a march: meters, tempi, rhythms and patterns of styles."""

from typing import NamedTuple

TICKS = 12  # Per beat: divides into sixteenths (3) and triplets (4).
KICK, SNARE, CLOSED_HAT, TOM, CRASH, RIDE = 36, 38, 42, 45, 49, 51


class Style(NamedTuple):
  """A style of music.

  Patterns are strings, a character for each `grid` ticks: a digit is a step
  above the root of the chord (7 its octave), `-` holds, `.` rests. In drum
  patterns `x` strikes, `X` strikes hard and `o` softly.
  """
  name: str
  modes: tuple[str, ...]
  tempi: tuple[int, ...]  # Beats a minute.
  harmony: str  # 'functional', 'loop', 'blues' or 'fugue'.
  rhythms: tuple[str, ...]  # One bar of melody each: `x` an onset.
  bass: tuple[str, ...]
  arpeggio: tuple[str, ...]
  chords: tuple[str, ...]
  drums: tuple[dict[int, str], ...]
  grid: int = 3
  beats: int = 4

  @property
  def bar(self) -> int:
    """Ticks in a bar."""
    return self.beats * TICKS


STYLES = {style.name: style for style in (
    Style('march', ('major', 'major', 'minor'), (100, 113, 120), 'functional',
          ('x--xx---x---x---', 'x---x-x-x---x---', 'x-x-x-x-x---x---',
           'x-----x-x-x-x-x-'),
          ('0---....4---....', '0---0---4---0---'),
          ('0.2.4.2.0.2.4.2.', '0-2-4-2-7-4-2-4-'),
          ('....x---....x---', '....x-x-....x-x-'),
          ({KICK: 'x.......x.......', SNARE: '....x.x.....x.xx'},
           {KICK: 'x...x...x...x...', SNARE: '..x.X.x...x.Xoxo'})),
    Style('waltz', ('major', 'major', 'minor'), (129, 150, 180), 'functional',
          ('x-------x---', 'x---x---x---', 'x-----x-x---', 'x-x-x-x-x-x-'),
          ('0-------....', '0---4---....'), ('0-2-4-2-4-2-', '0-4-2-4-7-4-'),
          ('....x---x---',),
          ({KICK: 'x...........', CLOSED_HAT: '....x...x...'},
           {KICK: 'x.........o.', SNARE: '....x...x...'}), beats=3),
    Style('rock', ('minor', 'dorian', 'major'), (129, 150, 180), 'loop',
          ('x---x-x---x-x---', 'x--x--x---x-x-x-', 'x-x---x-x---x---',
           'x--x--x-x--x--x-'),
          ('0-0-0-0-0-0-0-0-', '0-0-7-0-0-7-0-7-', '0--0--0-0-0-4-7-'),
          ('0-4-7-4-0-4-7-4-', '0247024702470247', '0247420-0247420-'),
          ('x-------x-------', 'x--x--x-x--x--x-'),
          ({KICK: 'x.....x.x.......', SNARE: '....X.......X...',
            CLOSED_HAT: 'x.x.x.x.x.x.x.x.'},
           {KICK: 'x..x..x.x..x....', SNARE: '....X.......X..o',
            CLOSED_HAT: 'x.xxx.x.x.xxx.x.'})),
    Style('ballad', ('major', 'minor'), (75, 90, 100), 'functional',
          ('x-------x---x---', 'x-----x-x-------', 'x---x---x-x-x-x-',
           'x-------x-x-x---'),
          ('0-------4-------', '0-----0-4-------'),
          ('0-4-7-9-7-4-2-4-', '0-2-4-7-4-2-4-2-', '0-4-7-4-9-4-7-4-'),
          ('x---------------', 'x-------x-------'),
          ({KICK: 'x.......x.......', SNARE: '....o.......o...',
            CLOSED_HAT: 'x.o.x.o.x.o.x.o.'},
           {KICK: 'x......ox.......', RIDE: 'x...x...x...x...'})),
    Style('blues', ('blues',), (113, 129, 150), 'blues',
          ('x-xx--x-xx--', 'x--x-x---x-x', 'x-xx-xx-----', '..xx-xx-xx--'),
          ('0--2--4--5--', '0-02-24-45-4', '0--4--5--4--'),
          ('0-24-25-24-2', '0--4-27--4-2'),
          ('x--..x---...', '...x-....x-.'),
          ({RIDE: 'x--x-xx--x-x', KICK: 'x.....x.....',
            SNARE: '...X.....X..'},
           {CLOSED_HAT: 'x-xx-xx-xx-x', KICK: 'x..x..x..x..',
            SNARE: '...X.....X.o'}), grid=4),
    Style('fugue', ('minor', 'minor', 'major'), (90, 100, 113), 'fugue',
          ('x-x-x---x-xxx-x-', 'x---x-x-xxx-x-x-', 'x-x-x-x-x---xxxx'),
          (), (), (), ()),
)}
