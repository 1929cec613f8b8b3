"""Whether a MIDI file of NES-MDB and the VGM file it was made of sound alike.

    python -m experiments.benchmarks.heard --midi=MIDI_DIR --vgm=VGM_DIR

Renders both by the clean engine and prints, song by song, the correlation of
semitone levels (notes 36 to 96, dB, 10 frames a second), of onset strengths
(rise of mel bands, 86 frames a second), and of the semitone levels with those
of the next song's VGM file: what songs have in common anyway.
"""

import argparse
import pathlib

import numpy as np

from experiments.benchmarks import fidelity

_NOTES = np.arange(36, 97)
_FRAME, _HOP, _RATE = 8192, 4410, 44100


def semitones(audio: np.ndarray) -> np.ndarray:
  """[frames, 61] levels of [T] audio by semitone, dB, 50 dB deep."""
  frames = np.lib.stride_tricks.sliding_window_view(audio, _FRAME)[::_HOP]
  spectrum = np.square(np.abs(np.fft.rfft(frames * np.hanning(_FRAME))))
  hertz = np.maximum(np.arange(spectrum.shape[1]) * _RATE / _FRAME, 1)
  note = np.round(69 + 12 * np.log2(hertz / 440))
  power = spectrum @ (note[:, None] == _NOTES)
  return 10 * np.log10(np.maximum(power, 1e-5 * power.max()))


def onsets(audio: np.ndarray) -> np.ndarray:
  """[frames - 1] how much mel bands rise."""
  power = fidelity.mel_power(audio)
  level = np.log(np.maximum(power, 1e-5 * power.max()))
  return np.maximum(np.diff(level, axis=0), 0).sum(1)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
  size = min(len(a), len(b))
  return float(np.corrcoef(a[:size].ravel(), b[:size].ravel())[0, 1])


def main(argv: list[str] | None = None):
  parser = argparse.ArgumentParser(
      prog='python -m experiments.benchmarks.heard', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--midi', type=pathlib.Path, required=True)
  parser.add_argument('--vgm', type=pathlib.Path, required=True)
  parser.add_argument('--songs', type=int, default=12,
                      help='so many, evenly out of those in both folders')
  parser.add_argument('--seconds', type=float, default=20, help='of each')
  args = parser.parse_args(argv)

  from lakhnes_jax import render

  def play(path):
    pieces = render.windows(render.read(path))
    return np.concatenate(list(pieces))[:int(args.seconds * _RATE)]

  paths = [path for path in sorted(args.vgm.rglob('*.vgm'))
           if (args.midi / f'{path.stem}.mid').exists()]
  paths = paths[::max(len(paths) // args.songs, 1)][:args.songs]
  pairs = []
  for path in paths:
    pair = play(args.midi / f'{path.stem}.mid'), play(path)
    if min(map(len, pair)) >= _RATE:
      pairs.append((path.stem, *pair))
  print('| song | notes | onsets | notes of another song |\n|---|---|---|---|')
  for i, (name, midi, vgm) in enumerate(pairs):
    other = pairs[(i + 1) % len(pairs)][2]
    print(f'| {name} | {_correlation(semitones(midi), semitones(vgm)):.3f} | '
          f'{_correlation(onsets(midi), onsets(vgm)):.3f} | '
          f'{_correlation(semitones(midi), semitones(other)):.3f} |')


if __name__ == '__main__':
  main()
