"""Renders songs to audio: `python -m lakhnes_jax.render IN... --out=FILE|DIR`.

IN is a song file (TX1 or TX2 text, NES-MDB MIDI), a folder or a glob pattern.
With one input, --out may name a WAV, FLAC or OGG file; else it is a folder
and each result keeps the name of its source.
"""

import argparse
import glob
import io
import os
import pathlib
import sys

from lakhnes_jax import files

SONG_ENDINGS = ('.mid', '.tx1.txt', '.tx2.txt')
AUDIO_ENDINGS = ('.wav', '.flac', '.ogg')
WINDOW = 1 << 16  # Samples rendered at once per row of a batch.
_BATCH = 4  # Windows rendered at once.


def render_events(songs, voices=(0, 1, 2, 3)) -> list:
  """Renders songs.

  Args:
    songs: iterable of int32 event arrays (see `events`).
    voices: those heard.

  Returns:
    A float32 array per song, [T] samples at 44.1 kHz, full scale 1.0.

  Raises:
    ValueError: a song has no length.
  """
  from lakhnes_jax import score
  return [render_score(score.from_events(song), voices) for song in songs]


def render_score(score, voices=(0, 1, 2, 3)):
  """Renders one score to [T] float32; see `render_events`."""
  import jax
  import numpy as np

  from lakhnes_jax import apu
  from lakhnes_jax import score as scores
  if score.length < 1:
    raise ValueError('the song is empty: it has no wait, so no length')
  start, state = scores.pad([score], _bucket(len(score.start) + 1))
  whole = jax.tree.map(lambda x: np.asarray(x)[0],
                       apu.segments_jit(start, state))
  firsts = np.arange(0, score.length, WINDOW)
  # Rows of a window: from the one that holds its first sample to its end.
  begin = np.searchsorted(score.start, firsts, 'right') - 1
  end = np.searchsorted(score.start, firsts + WINDOW, 'left')
  parts = []
  for i in range(0, len(firsts), _BATCH):
    rows = [min(i + j, len(firsts) - 1) for j in range(_BATCH)]
    size = _bucket(max(end[r] - begin[r] for r in rows))
    take = np.minimum(begin[rows][:, None] + np.arange(size),
                      len(whole.start) - 1)
    table = jax.tree.map(lambda x, take=take: x[take], whole)
    inside = take < end[rows][:, None]
    table = table._replace(
        start=np.where(inside, table.start, np.iinfo(np.int32).max))
    audio = apu.render_windows(table, firsts[rows].astype(np.int32),
                               count=WINDOW, voices=voices)
    parts.append(np.asarray(audio)[:len(firsts) - i].reshape(-1))
  return np.concatenate(parts)[:score.length]


def _bucket(n: int) -> int:
  """Rounds up to a power of 4, at least 256, so that few programs compile."""
  size = 256
  while size < n:
    size *= 4
  return size


def write_audio(path: str | os.PathLike, samples, rate: int = 44100):
  """Writes [T] float samples as 16-bit WAV or FLAC, or as OGG, by ending.

  Raises:
    ValueError: the ending is none of these.
  """
  import numpy as np
  import soundfile
  ending = pathlib.Path(path).suffix.lower()
  if ending not in AUDIO_ENDINGS:
    raise ValueError(f'{path}: audio is written as .wav, .flac or .ogg')
  buffer = io.BytesIO()
  subtype = 'VORBIS' if ending == '.ogg' else 'PCM_16'
  soundfile.write(buffer, np.clip(samples, -1, 1), rate, subtype,
                  format=ending[1:].upper())
  files.write_atomic(path, buffer.getvalue())


def _inputs(patterns: list[str]) -> list[pathlib.Path]:
  """Lists the files that patterns name, folders' songs included."""
  found = []
  for pattern in patterns:
    path = pathlib.Path(pattern)
    if path.is_dir():
      found += sorted(p for p in path.rglob('*')
                      if p.name.lower().endswith(SONG_ENDINGS))
    elif path.exists() or not glob.has_magic(pattern):
      found.append(path)
    else:
      found += map(pathlib.Path, sorted(glob.glob(pattern, recursive=True)))
  return found


def _output(source: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
  """Where the audio of `source` goes under folder or file `out`."""
  if out.suffix.lower() in AUDIO_ENDINGS:
    return out
  ending = next((e for e in SONG_ENDINGS if source.name.lower().endswith(e)),
                source.suffix)
  return out / f'{source.name[:len(source.name) - len(ending)]}.wav'


def main(argv: list[str] | None = None) -> int:
  parser = argparse.ArgumentParser(
      prog='python -m lakhnes_jax.render', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('inputs', nargs='+', metavar='IN',
                      help='song files, folders, or glob patterns')
  parser.add_argument('--out', required=True, type=pathlib.Path,
                      help='a .wav, .flac or .ogg file, or a folder')
  args = parser.parse_args(argv)
  sources = _inputs(args.inputs)
  if not sources:
    parser.error(f'no song file found in {" ".join(args.inputs)}')
  if len(sources) > 1 and args.out.suffix.lower() in AUDIO_ENDINGS:
    parser.error(f'--out={args.out} is one file, but there are {len(sources)} '
                 'songs: name a folder')
  failed = 0
  for source in sources:
    try:
      audio, = render_events([files.read_song(source)])
      target = _output(source, args.out)
      write_audio(target, audio)
      print(target)
    except (OSError, ValueError) as error:
      failed += 1
      message = str(error)
      prefix = '' if str(source) in message else f'{source}: '
      print(f'error: {prefix}{message}', file=sys.stderr)
  return 1 if failed else 0


if __name__ == '__main__':
  sys.exit(main())
