"""How close both engines come to nesmdb's player: a table as Markdown.

    python -m experiments.benchmarks.fidelity --shared=../shared

A row per song, engine and voice. Whole songs (voice "all") are compared with
the renders in `oracles/audio`; the clean engine's voices with those of the
reference engine, which the tests hold to the player's, over the song's first
seconds.

*   wave: correlation of the waveforms at the best lag (in samples; positive
    where ours is late), the reference engine's in full, the clean engine's
    likewise (its noise starts elsewhere, so noise differs);
*   log-mel: correlation of 80 mel bands from 40 Hz to 16 kHz, in dB down to
    80 dB below the song's maximum;
*   level: difference in r.m.s. without the constant part, dB;
*   equal: share of equal int16 samples.
"""

import argparse
import pathlib
import tarfile

import numpy as np
import soundfile

from experiments.benchmarks import machine
from lakhnes_jax import command_line, nes, render
from lakhnes_jax.formats import song_files, vgm

VOICES = ('all', 'p1', 'p2', 'tr', 'no')
_FRAME, _HOP, _BANDS, _FLOOR = 2048, 512, 80, 1e-8
_MAX_LAG = 64  # Samples.


def _mel_bands() -> np.ndarray:
  """[_FRAME // 2 + 1, _BANDS] triangles, even on the mel scale."""
  low, high = (2595 * np.log10(1 + f / 700) for f in (40, 16000))
  edges = 700 * (10**(np.linspace(low, high, _BANDS + 2) / 2595) - 1)
  hertz = np.arange(_FRAME // 2 + 1)[:, None] * nes.SAMPLE_RATE / _FRAME
  rise = (hertz - edges[:-2]) / (edges[1:-1] - edges[:-2])
  fall = (edges[2:] - hertz) / (edges[2:] - edges[1:-1])
  return np.maximum(np.minimum(rise, fall), 0)


def mel_power(audio: np.ndarray) -> np.ndarray:
  """[frames, bands] float64 power of [T] audio."""
  audio = np.pad(audio.astype(np.float64), (0, max(_FRAME - len(audio), 0)))
  frames = np.lib.stride_tricks.sliding_window_view(audio, _FRAME)[::_HOP]
  spectrum = np.fft.rfft(frames * np.hanning(_FRAME))
  return np.square(np.abs(spectrum)) @ _mel_bands()


def log_mel(a: np.ndarray, b: np.ndarray) -> float:
  """Correlation of two sounds' log-mel spectra."""
  a, b = mel_power(a), mel_power(b)
  floor = _FLOOR * max(a.max(), b.max())
  return float(np.corrcoef(*(np.log(np.maximum(x, floor)).reshape(-1)
                             for x in (a, b)))[0, 1])


def best_lag(a: np.ndarray, b: np.ndarray) -> tuple[float, int]:
  """Highest correlation, and how many samples `a` is late there."""
  best = -1.0, 0
  for lag in sorted(range(-_MAX_LAG, _MAX_LAG + 1), key=abs):
    x, y = a[max(lag, 0):len(a) + min(lag, 0)], b[max(-lag, 0):]
    best = max(best, (np.corrcoef(x, y[:len(x)])[0, 1], -abs(lag), lag))
    if best[0] > 0.9999:
      break
  return float(best[0]), best[-1]


def compare(ours: np.ndarray, expected: np.ndarray) -> dict[str, float]:
  """Compares int16 sounds; see the module's docstring."""
  ours = ours[:len(expected)].astype(np.float64)
  expected = expected[:len(ours)].astype(np.float64)
  wave, lag = best_lag(ours, expected)
  return {'wave': wave, 'lag': lag, 'log-mel': log_mel(ours, expected),
          'level': 20 * np.log10(ours.std() / expected.std()),
          'equal': float((ours == expected).mean())}


def _songs(shared: pathlib.Path):
  """Yields (name, register log by engine, expected) of each oracle."""

  audio = shared / 'oracles' / 'audio'
  with tarfile.open(shared / 'data' / 'nesmdb_vgm_sample.tar.xz') as archive:
    logs = {pathlib.PurePath(m.name).stem: archive.extractfile(m).read()
            for m in archive if m.name.endswith('.vgm')}
  for path in sorted(audio.glob('*.flac')):
    name, *route = path.name.removesuffix('.flac').split('.')
    expected, _ = soundfile.read(path, dtype='int16')
    if route and route[0].startswith('stem'):
      continue  # Silent, all four of them.
    if not route:
      log = vgm.parse((audio / f'{name}.vgm').read_bytes()
                      if (audio / f'{name}.vgm').exists() else logs[name])
      yield name, dict.fromkeys(render.ENGINES, log), expected
    else:
      ending = {'mid': '.mid', 'tx1': '.tx1.txt'}[route[0]]
      events = song_files.read_song(audio / (name + ending))
      yield f'{name}{ending}', {
          e: render.to_source(events, e) for e in render.ENGINES}, expected


def rows(shared: pathlib.Path, seconds: float):
  """Yields (song, voice, engine, comparison) of every oracle."""
  count = int(seconds * render.SAMPLE_RATE)

  def play(source, engine, voices=None, stop=None):
    pieces, got = [], 0
    for piece in render.windows(source, engine, voices):
      pieces.append(np.rint(piece * 32768).astype(np.int16))
      got += len(piece)
      if stop and got >= stop:
        break
    return np.concatenate(pieces)[:stop]

  for name, sources, expected in _songs(shared):
    for engine, source in sources.items():
      yield name, 'all', engine, compare(play(source, engine), expected)
    length = min(count, len(expected))
    for voice in range(4 if length else 0):
      alone = play(sources['reference'], 'reference', [voice], length)
      if np.ptp(alone):
        yield name, VOICES[voice + 1], 'clean', compare(
            play(sources['clean'], 'clean', [voice], length), alone)


def main(argv: list[str] | None = None):
  parser = argparse.ArgumentParser(
      prog='python -m experiments.benchmarks.fidelity', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--shared', type=pathlib.Path, required=True,
                      help='folder that holds oracles/ and data/')
  parser.add_argument('--seconds', type=command_line.real(0, 3600), default=2.0,
                      help='of each voice alone; 0 leaves these out')
  args = parser.parse_args(argv)
  print('| song | voice | engine | wave | lag | log-mel | level | equal |')
  print('|---|---|---|---|---|---|---|---|')
  with machine.errors_in_a_line('fidelity'):
    for name, voice, engine, c in rows(args.shared, args.seconds):
      print(f'| {name} | {voice} | {engine} | {c["wave"]:.5f} | {c["lag"]} | '
            f'{c["log-mel"]:.5f} | {c["level"]:+.3f} | {c["equal"]:.5f} |',
            flush=True)


if __name__ == '__main__':
  main()
