"""A song as a notebook or a script handles it: heard, seen, saved."""

import base64
import dataclasses
import html
import io
import os
import pathlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from lakhnes_jax import events as ev
from lakhnes_jax import nes, render
from lakhnes_jax.formats import looping, song_files
from lakhnes_jax.report import plot

if TYPE_CHECKING:
  import matplotlib.figure


@dataclasses.dataclass(frozen=True, eq=False)
class Song:
  """A song; the last value of a notebook cell, it is a player and a roll.

  Attributes:
    events: int32 song (see `lakhnes_jax.events`).
    name: shown above its picture.
    metadata: how it was made; JSON.
  """
  events: np.ndarray
  name: str = 'song'
  metadata: dict[str, Any] = dataclasses.field(default_factory=dict)

  def __repr__(self) -> str:
    return (f'Song({self.name!r}, {self.seconds:.1f} seconds, '
            f'{len(self.events)} events)')

  @property
  def seconds(self) -> float:
    """Its length."""
    return int(ev.times_of(self.events)[-1:].sum()) / nes.SAMPLE_RATE

  def summary(self) -> dict[str, Any]:
    """Returns how it was made, with its name."""
    return {**self.metadata, 'name': self.name}

  def render(self, engine: str = 'clean', *,
             voices: Iterable[str] | None = None) -> np.ndarray:
    """Synthesizes the song.

    Args:
      engine: 'clean', free of aliasing, or 'reference', as nesmdb renders.
      voices: names of those heard, as in ['p1', 'tr']; all if None.

    Returns:
      [T] float32 samples at 44.1 kHz, full scale 1.0.

    Raises:
      ValueError: the song has no length, or there is no such engine or voice.
    """
    if engine not in render.ENGINES:
      raise ValueError(f'engine {engine!r}: expected '
                       f'{" or ".join(render.ENGINES)}')
    numbers = None
    if voices is not None:
      known = [voice.name.lower() for voice in ev.VOICES]
      numbers = []
      for name in voices:
        if name.lower() not in known:
          raise ValueError(f'{name!r} is no voice; expected some of '
                           f'{", ".join(known)}')
        numbers.append(known.index(name.lower()))
    audio, = render.render_events([self.events], engine, voices=numbers)
    return audio

  def roll(self) -> 'matplotlib.figure.Figure':
    """Draws the piano roll; returns a matplotlib figure."""
    return plot.roll_figure(self.events, self.name)

  def save(self, path: str | os.PathLike) -> pathlib.Path:
    """Writes the song as the ending says, the file whole or not at all.

    Args:
      path: .mid, .tx1.txt, .tx2.txt, .vgm or another song format; .wav, .flac
        or .ogg for audio; .png for the piano roll.

    Returns:
      the path.

    Raises:
      ValueError: another ending, or the format cannot hold the song.
      OSError: it cannot be written.
    """
    path = pathlib.Path(path)
    ending = path.suffix.lower()
    if ending in render.AUDIO_ENDINGS:
      render.write_audio(path, self.render())
    elif ending == '.png':
        plot.save(self.roll(), path)
    elif song_files.song_name(path) != path.name:
      song_files.write_song(path, self.events,
                            loop=looping.of_metadata(self.metadata))
    else:
      raise ValueError(f'{path}: expected one of ' + ', '.join(
          [*song_files.FORMATS, *render.AUDIO_ENDINGS, '.png']))
    return path

  def looped(self) -> 'Song':
    """Ends the song where it can best go on at an earlier place.

    That place is in the metadata, `loop`, seconds; `save` writes it to formats
    that have loops (.vgm, .nsf, .nes, .famitracker.txt, .famistudio.txt).

    Raises:
      ValueError: no part of the song comes again.
    """
    found = looping.points(self.events)
    if found is None:
      raise ValueError(f'{self.name}: no part of it comes again')
    start, end = found
    return dataclasses.replace(
        self, events=looping.truncate(self.events, end), metadata={
            **self.metadata, 'loop': start / nes.SAMPLE_RATE})

  def play(self) -> Any:
    """Returns a player for a notebook: `display(song.play())`."""
    from IPython.display import HTML
    return HTML(self._repr_html_())

  def _repr_html_(self) -> str:
    """HTML that needs no file beside it: audio, and the roll if it can be
    drawn."""
    import soundfile
    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(self.render(), -1, 1), nes.SAMPLE_RATE,
                    format='OGG', subtype='VORBIS')
    name = html.escape(self.name)
    parts = [f'<p>{name}</p><audio controls src="data:audio/ogg;base64,'
             f'{base64.b64encode(buffer.getvalue()).decode()}"></audio>']
    try:
      figure = self.roll()
    except ImportError:  # No matplotlib.
      figure = None
    if figure:
      buffer = io.BytesIO()
      figure.savefig(buffer, format='png', dpi=72)
      parts.append(f'<br><img alt="Piano roll of {name}" src="data:image/png;'
                   f'base64,{base64.b64encode(buffer.getvalue()).decode()}">')
    return ''.join(parts)


def read_song(path: str | os.PathLike) -> Song:
  """Reads a song file of any known kind: MIDI, VGM, TX1 text and so on.

  Raises:
    ValueError: unknown ending or bad content; names the file and the reason.
    OSError: it cannot be read.
  """
  return Song(song_files.read_song(path), song_files.song_name(path),
              {'source': os.fspath(path)})
