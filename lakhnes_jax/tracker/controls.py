"""What can be asked of a model of the format `tracker`, in musicians' units.

Each setting becomes a token of the prefix that the model goes on from. It has
learnt what songs with such a token are like; it is a wish and not a rule, but
for voices, of which no others play, and the tempo, which is that of row 0.
"""

import math
import re
from collections.abc import Sequence

from lakhnes_jax import events as ev
from lakhnes_jax import ranges
from lakhnes_jax.tracker import clock as clock_lib
from lakhnes_jax.tracker import frames as frames_lib
from lakhnes_jax.tracker import vocabulary as voc

ROWS_PER_BEAT = 4
_FRAMES_PER_MINUTE = 60 * ev.SAMPLE_RATE / frames_lib.FRAME
# Beats of a row of 24 frames, and of one of 2.
SLOWEST, FASTEST = (
    _FRAMES_PER_MINUTE * clock_lib.PARTS / (ROWS_PER_BEAT * tempo)
    for tempo in (voc.TEMPOS[-1], voc.TEMPOS[0]))
_TEMPO = re.compile(r'(\d+(?:\.\d*)?|\.\d+)\s*(bpm|f|frames)?', re.ASCII)


def asked(tempo: str | float | None = None, density: float | None = None,
          voices: Sequence[str] = (), song_length: float | None = None
         ) -> dict[int, int]:
  """Returns what `generation.tasks.new_song` takes as `asked`.

  Args:
    tempo: beats per minute, of four rows each: 38 to 450, as in 150 or
      '150bpm'; or frames of a row, 2 to 24, as in '6f' or '6.5 frames'.
    density: notes per second of all voices together, .01 to 100.
    voices: names of the voices that play, as in ['p1', 'tr']; the model
      chooses if there are none.
    song_length: seconds of the whole song, .01 to 3,600. The song is written
      as one of about this length; where it ends is up to the model and to the
      limits.

  Raises:
    ValueError: something is out of range; the message says what is legal.
  """
  found = {}
  if tempo is not None:
    found[voc.TEMPO] = _parts(tempo)
  if density is not None:
    ranges.check(density=density)
    found[voc.DENSITY] = voc.bin_of(density, voc.DENSITIES)
  if voices:
    found[voc.VOICES] = _bits(voices)
  if song_length is not None:
    ranges.check(song_length=song_length)
    found[voc.LENGTH] = voc.bin_of(song_length, voc.LENGTHS)
  return found


def _parts(tempo: str | float) -> int:
  """Returns parts of a frame per row."""
  match = _TEMPO.fullmatch(str(tempo).strip().lower())
  legal = (f'expected beats per minute, {math.ceil(SLOWEST)} to '
           f'{math.floor(FASTEST)}, or frames of a row, 2f to 24f')
  if not match:
    raise ValueError(f'tempo={tempo!s:.40}: {legal}')
  number, unit = float(match[1]), match[2]
  if unit in ('f', 'frames'):
    parts = round(number * clock_lib.PARTS)
  else:
    parts = round(_FRAMES_PER_MINUTE * clock_lib.PARTS / (
        ROWS_PER_BEAT * number)) if number else 0
  if parts not in voc.TEMPOS:
    raise ValueError(f'tempo={tempo}: {legal}')
  return parts


def _bits(names: Sequence[str]) -> int:
  known = [voice.name.lower() for voice in ev.VOICES]
  bits = 0
  for name in [names] if isinstance(names, str) else names:
    if name.strip().lower() not in known:
      raise ValueError(f'voices: {name!r:.40} is no voice; expected some of '
                       f'{", ".join(known)}')
    bits |= 1 << known.index(name.strip().lower())
  return bits
