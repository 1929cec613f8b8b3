"""Renders songs to audio: `python -m lakhnes_jax.render IN... --out=FILE|DIR`.

IN is a song file (TX1 or TX2 text, NES-MDB MIDI, score pickle), a register log
(VGM, VGZ, NLM pickle, NDF or NDR text), a folder of such files or a glob
pattern. With one input, --out may name a .wav, .flac or .ogg file; else it is a
folder, and each result keeps its song's name.
"""

import argparse
import json
import math
import os
import pathlib
import re
import sys
from collections.abc import Iterable, Iterator

import numpy as np

from lakhnes_jax import atomic, command_line
from lakhnes_jax import events as ev
from lakhnes_jax.formats import song_files
from lakhnes_jax.nes import SAMPLE_RATE
from lakhnes_jax.report import plot
from lakhnes_jax.synth import registers
from lakhnes_jax.synth import score as scores
from lakhnes_jax.synth.score import Score

AUDIO_ENDINGS = ('.wav', '.flac', '.ogg')
_ENDING = re.compile(r'\.[a-z][a-z0-9]{1,4}', re.IGNORECASE)
ENGINES = ('clean', 'reference')
STEMS = ('p1', 'p2', 'tr', 'no', 'dmc')
_EMPTY = 'the song is empty: it has no wait, so no length'
_FULL_SCALE = 32768  # Of int16.
_MAX_FADE, _MAX_LOOPS = 3600, 1000  # Seconds; of a log's loop.
_PEAK, _LOUDNESS = 0.9, 0.1  # Goals of normalisation: peak, and r.m.s.


def render_events(songs, engine: str = 'clean', expression: str = 'flat',
                  voices=None) -> list[np.ndarray]:
  """Renders songs.

  Args:
    songs: iterable of int32 event arrays (see `events`).
    engine: 'clean', free of aliasing, or 'reference', as nesmdb renders.
    expression: 'flat', or 'decay' for songs without dynamics (see
      `score.with_decay`).
    voices: those heard, of 0 to 4 (sample channel); all if None.

  Returns:
    A float32 array per song, [T] samples at 44.1 kHz, full scale 1.0.

  Raises:
    ValueError: a song is empty.
  """
  return [np.concatenate(list(windows(to_source(song, engine, expression),
                                      engine, voices)))
          for song in songs]


def to_source(events: np.ndarray, engine: str = 'clean',
              expression: str = 'flat'):
  """Turns a song into what an engine plays.

  Returns:
    For the clean engine a `score.Score`; for the reference engine the
    `register_log.RegisterLog` that nesmdb makes of the song.

  Raises:
    ValueError: the song is empty.
  """
  score = scores.from_events(events)
  if score.length < 2:
    raise ValueError(_EMPTY)
  if expression == 'decay' and not (ev.kind_of(events) == ev.VELOCITY).any():
    score = scores.with_decay(score)
  return registers.from_score(score) if engine == 'reference' else score


def read(path: str | os.PathLike, engine: str = 'clean',
         expression: str = 'flat', loops: int = 1):
  """Reads a song file or register log of any known kind for `windows`.

  Raises:
    ValueError: bad content, or an empty song.
    OSError: it cannot be read.
  """
  if not song_files.holds_log(path):
    return to_source(song_files.read_song(path), engine, expression)
  log = song_files.read_log(path, loops)
  if log.length < 2:
    raise ValueError(_EMPTY)
  return log


def _length(source, engine: str, rate: int) -> int:
  """Samples of the result; the player is one short of the log."""
  if engine == 'reference':
    return source.length - 1
  return -(-source.length * rate // SAMPLE_RATE)


def windows(source, engine: str = 'clean', voices=None,
            rate: int = SAMPLE_RATE) -> Iterator[np.ndarray]:
  """Renders a song piece by piece.

  Args:
    source: a `register_log.RegisterLog`; for the clean engine also a
      `score.Score`.
    engine, voices: see `render_events`.
    rate: Hz; the reference engine has 44100 only.

  Yields:
    [t] float32, full scale 1.0, all but the last of one length.
  """
  from lakhnes_jax.synth import channels, clean, oscillators, reference
  voices = channels.VOICES if voices is None else tuple(voices)
  length = _length(source, engine, rate)
  if engine == 'reference':
    if rate != SAMPLE_RATE:
      raise ValueError(f'the reference engine renders at {SAMPLE_RATE} Hz, not '
                       f'{rate}')
    gain = np.float32(source.gain / _FULL_SCALE)
    for piece in reference.render(*channels.play(source), length, voices):
      yield piece.astype(np.float32) * gain
    return
  gain = np.float32(1)
  if isinstance(source, Score):
    seg = oscillators.from_score(source, rate)
  else:
    seg = oscillators.from_channels(
        *channels.play(source, as_player=False), rate)
    gain = np.float32(source.gain)
  for piece in clean.windows(seg, length, voices=voices):
    yield piece * gain


def write_audio(path: str | os.PathLike, samples: np.ndarray,
                rate: int = SAMPLE_RATE):
  """Writes [T] float samples as 16-bit WAV or FLAC, or as OGG, by ending.

  Raises:
    ValueError: the ending is none of these.
  """
  write_windows(path, [samples], rate)


def write_windows(path: str | os.PathLike, pieces: Iterable[np.ndarray],
                  rate: int = SAMPLE_RATE):
  """Writes audio piece by piece, the file whole or not at all."""
  import soundfile
  path = pathlib.Path(path)
  ending = path.suffix.lower()
  if ending not in AUDIO_ENDINGS:
    raise ValueError(f'{path}: audio is written as .wav, .flac or .ogg')
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = atomic.temporary_of(path)
  subtype = 'VORBIS' if ending == '.ogg' else 'PCM_16'
  try:
    # Bytes, as it cannot encode a name that is no UTF-8.
    with soundfile.SoundFile(os.fsencode(temporary), 'w', rate, 1, subtype,
                             format=ending[1:].upper()) as file:
      for piece in pieces:
        if ending == '.ogg':
          file.write(np.clip(piece, -1, 1))
        else:  # Our own rounding keeps the reference engine's samples exact.
          file.write(np.clip(np.rint(piece * _FULL_SCALE), -_FULL_SCALE,
                             _FULL_SCALE - 1).astype(np.int16))
    os.replace(temporary, path)
  except soundfile.LibsndfileError as error:
    raise OSError(f'{path}: cannot be written: {error}') from None
  finally:
    temporary.unlink(missing_ok=True)


class _Meter:
  """Measures audio that passes: peak, and r.m.s. without its constant part."""

  def __init__(self):
    self.count, self.total, self.square, self.peak = 0, 0.0, 0.0, 0.0

  def through(self, pieces: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    for piece in pieces:
      self.count += len(piece)
      self.total += float(piece.sum(dtype=np.float64))
      self.square += float(np.square(piece, dtype=np.float64).sum())
      self.peak = max(self.peak, float(np.abs(piece).max(initial=0)))
      yield piece

  @property
  def rms(self) -> float:
    count = max(self.count, 1)
    return math.sqrt(max(self.square / count - (self.total / count)**2, 0.0))


def _gain(kind: str, pieces: Iterable[np.ndarray]) -> float:
  """Factor that brings audio to the goal of normalisation."""
  if kind == 'none':
    return 1.0
  meter = _Meter()
  for _ in meter.through(pieces):
    pass
  if not meter.peak:
    return 1.0
  gain = _PEAK / meter.peak
  if kind == 'loudness' and meter.rms:
    gain = min(gain, _LOUDNESS / meter.rms)
  return gain


def _shape(pieces, gain: float, fade: int, length: int):
  """Scales audio; its last `fade` samples fall to silence."""
  at = 0
  for piece in pieces:
    if fade and at + len(piece) > length - fade:
      left = length - np.arange(at, at + len(piece))
      piece = piece * np.clip(left / fade, 0, 1).astype(np.float32)
    at += len(piece)
    yield piece * np.float32(gain)


class _Job:
  """Renders songs as the command line asks."""

  def __init__(self, args):
    self.args = args

  def audio(self, song, voices=None):
    pieces = windows(song, self.args.engine, voices, self.args.rate)
    if self.args.console:
      from lakhnes_jax.synth import output_filter
      pieces = output_filter.apply(pieces, self.args.rate)
    return pieces

  def render(self, source: pathlib.Path, target: pathlib.Path) -> dict:
    """Renders one file; returns what was made."""
    args = self.args
    song = read(source, args.engine, args.expression, args.loops)
    if getattr(song, 'left_out', None):
      print(f'note: {source}: left out {song.describe_left_out()}',
            file=sys.stderr)
    length = _length(song, args.engine, args.rate)
    fade = int(args.fade * args.rate)
    gain = _gain(args.normalize, _shape(self.audio(song), 1.0, fade, length))
    meter = _Meter()

    def shaped(voices=None):
      return _shape(self.audio(song, voices), gain, fade, length)

    write_windows(target, meter.through(shaped()), args.rate)
    made = {'input': str(source), 'output': str(target),
            'engine': args.engine, 'rate': args.rate, 'samples': meter.count,
            'seconds': round(meter.count / args.rate, 6),
            'peak': round(meter.peak, 6), 'rms': round(meter.rms, 6),
            'gain': round(gain, 6)}
    if args.stems:
      made['stems'] = []
      stems = STEMS if getattr(song, 'memory', ()) else STEMS[:4]
      for voice, name in enumerate(stems):
        stem = _stem(target, name)
        write_windows(stem, shaped([voice]), args.rate)
        made['stems'].append(str(stem))
    if args.plot:
      picture = target.with_suffix('.png')
      plot.song(song_files.read_song(source, args.loops),
                np.concatenate(list(shaped())), args.rate, picture,
                title=song_files.song_name(source))
      made['plot'] = str(picture)
    return made


def _targets(sources: list[str], out: pathlib.Path, ending: str, complain):
  """Returns (source, target) of each song; calls `complain` for what fails."""
  found = {}
  for source in sources:
    try:
      for name, path in song_files.name_songs([source]).items():
        if found.setdefault(name, path) != path:
          complain(path, f'{found[name]} is named {name!r} too; rename one')
    except (OSError, ValueError) as error:
      complain(source, error)
  if out.suffix.lower() in AUDIO_ENDINGS:
    return [(path, out) for path in found.values()]
  return [(path, out / f'{name}.{ending}') for name, path in found.items()]


def _stem(target: pathlib.Path, voice: str) -> pathlib.Path:
  return target.with_name(f'{target.stem}.{voice}{target.suffix}')


def _apart(jobs, stems: bool, complain):
  """Returns those jobs that write no file that an earlier one writes."""
  writers, kept = {}, []
  for source, target in jobs:
    outputs = [target, *(_stem(target, name) for name in STEMS if stems)]
    twice = next((path for path in outputs if path in writers), None)
    if twice is None:
      writers.update(dict.fromkeys(outputs, source))
      kept.append((source, target))
    else:
      complain(source, f'would write {twice} as {writers[twice]} does; rename '
               'one')
  return kept


def main(argv: list[str] | None = None) -> int:
  command_line.escape_output()
  parser = argparse.ArgumentParser(
      prog='python -m lakhnes_jax.render', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  add = parser.add_argument
  add('inputs', nargs='+', metavar='IN',
      help='song files, register logs, folders, or glob patterns')
  add('--out', required=True,
      help='a .wav, .flac or .ogg file, or a folder')
  add('--engine', choices=ENGINES, default='clean',
      help='clean: free of aliasing; reference: as nesmdb renders, sample for '
      'sample')
  add('--format', choices=[e[1:] for e in AUDIO_ENDINGS], default='wav',
      help='kind of the files in a folder')
  add('--rate', type=command_line.whole(8000, 192000), default=SAMPLE_RATE,
      help='Hz, of the clean engine')
  add('--normalize', choices=('none', 'peak', 'loudness'), default='none',
      help='peak: to 0.9 of full scale; loudness: to an r.m.s. of -20 dB, or '
      'as far as the peak allows')
  add('--fade', type=command_line.real(0, _MAX_FADE), default=0.0,
      metavar='SECONDS', help='fade out at the end')
  add('--expression', choices=('flat', 'decay'), default='flat',
      help='of songs without dynamics: full volume, or notes that fall off')
  add('--console', action='store_true',
      help="through the console's output filters (90 and 440 Hz high-pass, "
      '14 kHz low-pass)')
  add('--loops', type=command_line.whole(1, _MAX_LOOPS), default=1,
      metavar='N', help="play the loop of a register log N times")
  add('--stems', action='store_true', help='also a file for each voice')
  add('--plot', action='store_true',
      help='also a picture of the notes and the waveform')
  add('--json', action='store_true', help='print what was made as JSON lines')
  args = parser.parse_args(argv)
  args.named_folder = args.out.endswith(('/', os.sep))
  args.out = command_line.path(args.out)
  if args.engine == 'reference' and args.rate != SAMPLE_RATE:
    parser.error(f'the reference engine renders at {SAMPLE_RATE} Hz only')
  if (_ENDING.fullmatch(args.out.suffix) and
      args.out.suffix.lower() not in AUDIO_ENDINGS and
      not args.named_folder and not args.out.is_dir()):
    parser.error(f'--out={args.out}: audio is written as .wav, .flac or .ogg '
                 '(a new folder of this name: end it with /)')
  failed = 0

  def complain(source, error):
    nonlocal failed
    failed += 1
    message = str(error)
    prefix = '' if str(source) in message else f'{source}: '
    print(f'error: {prefix}{message}', file=sys.stderr)

  jobs = _targets(args.inputs, args.out, args.format, complain)
  if len(jobs) > 1 and args.out.suffix.lower() in AUDIO_ENDINGS:
    parser.error(f'--out={args.out} is one file, but there are {len(jobs)} '
                 'songs: name a folder')
  jobs = _apart(jobs, args.stems, complain)
  job = _Job(args)
  for source, target in jobs:
    try:
      made = job.render(source, target)
      print(json.dumps(made) if args.json else target, flush=True)
    except (OSError, ValueError, ImportError) as error:
      complain(source, error)
    except Exception as error:  # One bad file must not end the rest.
      complain(source, f'{type(error).__name__}: {error}')
  if not jobs and not failed:
    complain(' '.join(args.inputs), 'no song file there')
  return 1 if failed else 0


if __name__ == '__main__':
  sys.exit(main())
