"""Whether libgme plays our NSF files as we play the songs: a table as Markdown.

    python -m experiments.benchmarks.libgme VGM --seconds=30

Takes ffmpeg with libgme (Debian's has it). Each song is written as an NSF file,
which ffmpeg plays; the clean engine plays the song itself. Compared are log-mel
spectra (`log_mel`) at the delay at which they agree best (`compare`): libgme
leaves out up to two seconds of the silence that a song begins with.

Below the table comes a row for each song that agrees less than `--least`, to
tell why:

*   linear: our song, mixed as libgme does: linearly, where on the chip voices
    dampen each other, and a high level of one dampens itself;
*   p1, p2, tr, no, dmc: a voice alone, from an NSF file of its writes, beside
    the clean engine's.
"""

import argparse
import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator

import numpy as np

from experiments.benchmarks import machine
from lakhnes_jax import command_line, render
from lakhnes_jax.formats import nsf, song_files, transcribe
from lakhnes_jax.nes import FRAME_60HZ, SAMPLE_RATE
from lakhnes_jax.synth.register_log import RegisterLog

_WINDOW, _HOP, _BANDS = 2048, FRAME_60HZ, 48
_LOW, _HIGH = 77, 3270  # Mel; 50 Hz and 12 kHz.
_FLOOR = 0.5  # Of magnitudes; those of a sine wave are 724.
_STATUS = 0x15  # This register and those behind it are of all voices.
_EARLY, _LATE = 8, 128  # Hops by which theirs may be late, and early.
_PARTS = 4  # Of a hop, to which delays are found.
_SILENT = 1e-4  # r.m.s. of a voice that does not play.
_TAIL = .25  # Seconds that theirs may be late, with the delay of its start.


def has_libgme() -> bool:
  """Whether ffmpeg is here and plays NSF files."""
  if not shutil.which('ffmpeg'):
    return False
  return 'libgme' in subprocess.run(
      ['ffmpeg', '-hide_banner', '-demuxers'], capture_output=True, text=True,
      check=True).stdout


def play(data: bytes, seconds: float, track: int = 0) -> np.ndarray:
  """[T] float32: a track of an NSF file as ffmpeg plays it.

  Raises:
    ValueError: it does not.
  """
  with tempfile.NamedTemporaryFile(suffix='.nsf') as file:
    file.write(data)
    file.flush()
    done = subprocess.run(
        ['ffmpeg', '-v', 'error', '-f', 'libgme', '-track_index', str(track),
         '-i', file.name, '-t', str(seconds), '-ac', '1', '-ar',
         str(SAMPLE_RATE), '-f', 'f32le', '-'], capture_output=True,
        check=False)
  if done.returncode:
    raise ValueError('ffmpeg does not play it: ' +
                     done.stderr.decode(errors='replace').strip())
  return np.frombuffer(done.stdout, np.float32)


def log_mel(audio: np.ndarray) -> np.ndarray:
  """[frames, 48] log of mel bands, of audio at an r.m.s. of 1."""
  audio = audio / max(np.std(audio), 1e-9)
  audio = np.pad(audio, (0, max(_WINDOW - len(audio), 0)))
  edges = 700 * (10 ** (np.linspace(_LOW, _HIGH, _BANDS + 2) / 2595) - 1)
  bins = np.fft.rfftfreq(_WINDOW, 1 / SAMPLE_RATE)
  up, down = ((bins - edges[:-2, None]) / np.diff(edges)[:-1, None],
              (edges[2:, None] - bins) / np.diff(edges)[1:, None])
  filters = np.maximum(np.minimum(up, down), 0)
  windows = np.lib.stride_tricks.sliding_window_view(audio, _WINDOW)[::_HOP]
  spectrum = np.abs(np.fft.rfft(windows * np.hanning(_WINDOW), axis=1))
  return np.log(spectrum @ filters.T + _FLOOR)


def _at(a: np.ndarray, b: np.ndarray, lag: int) -> float:
  """Correlation where `a` is `lag` rows ahead of `b`; -1 where none is."""
  a, b = a[max(lag, 0):], b[max(-lag, 0):]
  n = min(len(a), len(b))
  a, b = a[:n].reshape(-1), b[:n].reshape(-1)
  if not n or not np.ptp(a) or not np.ptp(b):
    return -1.
  return float(np.corrcoef(a, b)[0, 1])


def compare(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
  """Compares two sounds, at the delay at which they agree best.

  At least half of the shorter one is compared.

  Returns:
    the correlation of their log-mel spectra; seconds that theirs is early.
  """
  a, b = log_mel(ours), log_mel(theirs)
  half = min(len(a), len(b)) // 2
  best = max((_at(a, b, lag), lag) for lag in range(
      -min(_EARLY, half), min(_LATE, len(a) - half - 1, len(a) - 1) + 1))
  lag = best[1]
  for part in range(1, _PARTS):
    cut = part * _HOP // _PARTS
    b = log_mel(theirs[cut:])
    for near in (lag, lag + 1):
      best = max(best, (_at(a, b, near), near - cut / _HOP))
  return best[0], best[1] * _HOP / SAMPLE_RATE


def ours(source, seconds: float, voices=None) -> np.ndarray:
  """[T] float32: the first seconds of what the clean engine plays."""
  pieces, count, most = [], 0, int(seconds * SAMPLE_RATE)
  for piece in render.windows(source, voices=voices):
    pieces.append(piece)
    count += len(piece)
    if count >= most:
      break
  return np.concatenate(pieces)[:most]


def read(path: pathlib.Path):
  """A song for `render.windows`, and the log that its NSF file is made of."""
  if song_files.holds_log(path):
    log = song_files.read_log(path)
    return log, log
  song = song_files.read_song(path)
  return render.to_source(song), transcribe.from_events(song)


def alone(log: RegisterLog, voice: int) -> RegisterLog:
  """The log with one voice's writes, and those that are for all."""
  kept = (log.register >= _STATUS) | (log.register >> 2 == voice)
  before = np.append(0, np.cumsum(kept))
  return log._replace(
      time=log.time[kept], register=log.register[kept], value=log.value[kept],
      memory=tuple((int(before[min(at, len(kept))]), address, data)
                   for at, address, data in log.memory))


def _linear(voice: int, audio: np.ndarray) -> np.ndarray:
  """Undoes the mixing law for a voice alone; see `clean.pulse_law`."""
  if voice < 2:
    return audio / (95.88 - 100 * audio)
  return audio / (.75 * 159.79 - 100 * audio)


def by_voice(source, log: RegisterLog, theirs: np.ndarray, seconds: float
            ) -> tuple[float, list[float | None]]:
  """Why a song differs; see the module's docstring.

  Returns:
    the correlation of a linear mix; that of each voice, None if it is silent.
  """
  mix, result = 0., []
  for voice in range(len(render.STEMS)):
    one = ours(source, seconds, [voice])
    if one.std() < _SILENT:
      result.append(None)
      continue
    other = play(nsf.write(alone(log, voice)), seconds + _TAIL)
    result.append(compare(one, other)[0])
    one = _linear(voice, one / log.gain)
    mix = mix + one * (other[:len(one)].std() / one[:len(other)].std())
  return compare(mix, theirs)[0], result


def rows(paths: list[pathlib.Path], seconds: float, least: float
        ) -> Iterator[tuple[str, float, float, tuple | None]]:
  """Yields name, correlation and delay of each song; below least, why."""
  for path in paths:
    source, log = read(path)
    audio = ours(source, seconds)
    length = len(audio) / SAMPLE_RATE
    try:
      theirs = play(nsf.write(log), length + _TAIL)
      found, delay = compare(audio, theirs)
      why = by_voice(source, log, theirs, length) if found < least else None
    except ValueError as error:
      raise ValueError(f'{path}: {error}') from None
    yield song_files.song_name(path), found, delay, why


def main(argv: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(
      prog='python -m experiments.benchmarks.libgme', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('songs', nargs='+', help='song files, folders, patterns')
  parser.add_argument('--seconds', type=command_line.real(.1, 3600),
                      default=30., help='of each song (%(default)s)')
  parser.add_argument('--least', type=command_line.real(-1, 1), default=.9,
                      help='look into songs below this (%(default)s)')
  args = parser.parse_args(argv)
  if not has_libgme():
    parser.error('there is no ffmpeg with libgme: apt-get install ffmpeg')
  found, why = [], []
  with machine.errors_in_a_line('libgme'):
    for name, value, delay, reason in rows(
        song_files.find_songs(args.songs), args.seconds, args.least):
      found.append(value)
      if reason:
        why.append([name, f'{value:.3f}', f'{delay:+.3f}',
                    *('' if x is None else f'{x:.3f}'
                      for x in (reason[0], *reason[1]))])
  if not found:
    parser.error(f'no songs in {" ".join(args.songs)}')
  found = np.array(found)
  print('| songs | .9 or more | .95 or more | median | least |\n|' + 5 * '---|')
  print(f'| {len(found)} | {(found >= .9).sum()} | {(found >= .95).sum()} | '
        f'{np.median(found):.3f} | {found.min():.3f} |')
  if why:
    columns = ('song', 'log-mel', 'early, s', 'linear', *render.STEMS)
    print('\n|', ' | '.join(columns), '|\n|' + '---|' * len(columns))
    for row in why:
      print('|', ' | '.join(row), '|')


if __name__ == '__main__':
  main()
