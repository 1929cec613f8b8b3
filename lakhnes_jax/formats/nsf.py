"""NSF files: music for the NES as a program for its processor, with the data.

Any NSF player plays them, and so does a console with a suitable cartridge. They
hold our own driver (`player6502`), one song or an album of them. Whatever the
song, it takes less than 10,000 of a frame's 29,780 cycles (33,247 on PAL).

Sources: https://www.nesdev.org/wiki/NSF, https://www.nesdev.org/wiki/NSF2 (the
metadata behind the program, which older players do not see).
"""

import struct
from collections.abc import Sequence

from lakhnes_jax import nes
from lakhnes_jax.formats.player6502 import frames, image
from lakhnes_jax.synth.register_log import RegisterLog

HEADER = 128
_MAGIC = b'NESM\x1a'
_NAME = 31  # Bytes of title, artist and copyright, less their end.


def write(log: RegisterLog) -> bytes:
  """Writes an NSF file of one song; title and artist are those of its tags.

  Raises:
    ValueError: it is empty, or longer than what fits.
  """
  return write_album([log])


def write_album(logs: Sequence[RegisterLog], title: str | None = None,
                artist: str | None = None) -> bytes:
  """Writes an NSF file of several songs.

  Args:
    logs: the songs, in order; their tags name them.
    title, artist: of the album; by default the first song's, where a song has
      a game its name.

  Raises:
    ValueError: a song is empty, they do not fit, or some are for NTSC and some
      for PAL.
  """
  image.check_count(len(logs))
  songs = []
  for number, log in enumerate(logs, 1):
    try:
      songs.append(frames.from_log(log, log.loop))
    except ValueError as error:
      name = log.tags.get('title', '')
      raise ValueError(f'track {number} {name}: {error}' if logs[1:]
                       else str(error)) from None
  pal = {song.pal for song in songs}
  if len(pal) > 1:
    raise ValueError('some songs are for NTSC and some for PAL')
  built = image.build(songs)
  speeds = {round(1e6 / song.rate) for song in songs}
  # There is one speed for all.
  speed = speeds.pop() if len(speeds) == 1 else nes.FRAME_MICROSECONDS[
      songs[0].pal]
  tags = logs[0].tags
  if title is None:
    title = tags.get('title' if len(logs) == 1 else 'game', '')
  if artist is None:
    artist = tags.get('author', '')
  return _header(built, len(songs), pal.pop(), speed, title, artist, tags.get(
      'date', '')) + built.data + _metadata(logs, songs, speed)


def notes(log: RegisterLog) -> list[str]:
  """What the file cannot hold of a log, one line each."""
  return list(frames.from_log(log, log.loop).notes)


def _header(built: image.Image, n_songs: int, pal: bool, speed: int,
            title: str, artist: str, date: str) -> bytes:
  speeds = list(nes.FRAME_MICROSECONDS)
  speeds[pal] = speed
  names = [text.encode('ascii', 'replace')[:_NAME]
           for text in (title, artist, date)]
  return struct.pack(
      '<5s3B3H32s32s32sH8BH2BB3s', _MAGIC, 1, n_songs, 1, image.ORIGIN,
      built.init, built.play, *names, speeds[0], *(built.banks or [0] * 8),
      speeds[1], pal, 0, 0, len(built.data).to_bytes(3, 'little'))


def _metadata(logs, songs, speed) -> bytes:
  """Chunks with the length of each track, its fade and its name."""
  # What loops is meant to be played twice.
  lengths = [round((2 * len(song.table) - (
      len(song.table) if song.loop is None else song.loop)) * speed / 1000)
             for song in songs]
  titles = [log.tags.get('title', '') for log in logs]
  fades = [0 if song.loop is None else 5000 for song in songs]
  chunks = [(b'time', struct.pack(f'<{len(lengths)}i', *lengths)),
            (b'fade', struct.pack(f'<{len(fades)}i', *fades))]
  if any(titles):
    chunks.append((b'tlbl', b''.join(
        title.replace('\0', ' ').encode('utf-8', 'replace') + b'\0'
        for title in titles)))
  chunks.append((b'NEND', b''))
  return b''.join(struct.pack('<I', len(data)) + name + data
                  for name, data in chunks)
