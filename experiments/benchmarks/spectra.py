"""Spectra of high pulse notes: clean, reference, and sampled naively.

    python -m experiments.benchmarks.spectra --out=spectra.png

Prints, for each note, how strong all is that is not a harmonic, below 18 kHz,
in dB of the whole. The picture (needs matplotlib) shows the spectra.
"""

import argparse
import pathlib

import numpy as np

NOTES = (84, 91, 96, 100, 103, 108)
_RATE = 44100
_AUDIBLE = 18000  # Hz; the clean engine's filter lets aliases in above it.


def _period(note: int) -> int:
  """Clocks of a pulse's period."""
  from lakhnes_jax.synth import registers
  return 16 * (int(registers.timer(note)) + 1)


def naive(note: int) -> np.ndarray:
  """One second of a square wave's values at the samples' instants."""
  clocks = (np.arange(_RATE) + 0.5) * 1789773 / _RATE
  phase = clocks % _period(note) * 16 // _period(note)
  return ((phase >= 2) & (phase < 10)).astype(np.float64)


def power(audio: np.ndarray) -> np.ndarray:
  """[_RATE // 2 + 1] power by Hz of one second, without its mean."""
  window = np.blackman(len(audio))
  return np.square(np.abs(np.fft.rfft((audio - audio.mean()) * window)))


def aliases(spectrum: np.ndarray, note: int) -> float:
  """Power of all that is not a harmonic, dB of the whole."""
  hertz = np.arange(len(spectrum))
  fundamental = 1789773 / _period(note)
  harmonic = np.abs(hertz - fundamental * np.round(hertz / fundamental)) < 12
  other = ~harmonic & (hertz < _AUDIBLE)
  return float(10 * np.log10(spectrum[other].sum() / spectrum.sum()))


def spectra(note: int) -> dict[str, np.ndarray]:
  """Power spectra of a square wave by how it is made."""
  from lakhnes_jax import events as ev
  from lakhnes_jax import render
  song = ev.from_text(
      f'P1_NOTEON_{note}\nP1_TIMBRE_2\nWT_{_RATE + 2000}\n')
  made = {'naive': naive(note)}
  for engine in reversed(render.ENGINES):
    audio, = render.render_events([song], engine)
    made[engine] = audio[1000:1000 + _RATE].astype(np.float64)
  return {name: power(audio) for name, audio in made.items()}


def draw(made: dict[int, dict[str, np.ndarray]], path: pathlib.Path):
  """Draws spectra: a row a note, a column a way to make it."""
  import matplotlib
  matplotlib.use('Agg')
  from matplotlib import pyplot as plt
  figure, axes = plt.subplots(len(made), 3, figsize=(12, 2 * len(made)),
                              sharex=True, sharey=True, squeeze=False)
  for row, (note, ways) in zip(axes, made.items(), strict=True):
    for axis, (name, spectrum) in zip(row, ways.items(), strict=True):
      level = 10 * np.log10(np.maximum(spectrum / spectrum.max(), 1e-12))
      axis.plot(np.arange(len(level)) / 1000, level, linewidth=0.5)
      axis.set_title(f'note {note}, {name}: aliases '
                     f'{aliases(spectrum, note):.1f} dB', fontsize=9)
      axis.set_ylim(-110, 5)
      axis.set_xlim(0, _RATE / 2000)
  for axis in axes[-1]:
    axis.set_xlabel('kHz')
  for row in axes:
    row[0].set_ylabel('dB')
  figure.tight_layout()
  figure.savefig(path, dpi=100)
  plt.close(figure)


def main(argv: list[str] | None = None):
  parser = argparse.ArgumentParser(
      prog='python -m experiments.benchmarks.spectra', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--out', type=pathlib.Path, help='PNG to draw')
  args = parser.parse_args(argv)
  made = {note: spectra(note) for note in NOTES}
  print('| note | Hz | naive | reference | clean | below naive |')
  print('|---|---|---|---|---|---|')
  for note, ways in made.items():
    level = {name: aliases(s, note) for name, s in ways.items()}
    print(f'| {note} | {1789773 / _period(note):.1f} | {level["naive"]:.1f} | '
          f'{level["reference"]:.1f} | {level["clean"]:.1f} | '
          f'{level["naive"] - level["clean"]:.1f} |')
  if args.out:
    draw(made, args.out)


if __name__ == '__main__':
  main()
