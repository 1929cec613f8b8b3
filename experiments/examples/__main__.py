"""The songs that README.md lets hear: `python -m experiments.examples`.

Writes the first four songs of a seed to this folder, none chosen by hand: each
as a small OGG file with its piano roll, and a README.md that says what it is.
Run it again whenever the pretrained weights change; a test compares them.
"""

import argparse
import pathlib
import sys

import numpy as np

import lakhnes_jax
from lakhnes_jax import atomic, command_line, input_files, render
from lakhnes_jax.report import plot
from lakhnes_jax.weights import weights_folder

HERE = pathlib.Path(__file__).parent
N_SONGS = 4
_INCHES = (6, 3)  # Of a roll; four stand side by side.
_FADE = lakhnes_jax.SAMPLE_RATE  # Samples at the end, where songs are cut.


def weights_digest() -> str:
  """Returns the SHA-256 of the pretrained weights, as their folder has it."""
  sums = input_files.read(weights_folder.PRETRAINED / weights_folder.SUMS)
  return next(line.split()[0] for line in sums.decode().splitlines()
              if line.endswith('model.safetensors'))


def write(songs: list[lakhnes_jax.Song], out: pathlib.Path, what: str) -> None:
  """Writes songs as 1.ogg, 1.png, ..., and a README.md.

  Args:
    songs: of one length.
    out: the folder; made if missing.
    what: a paragraph of Markdown: what the songs are.
  """
  rows = []
  for number, song in enumerate(songs, 1):
    audio = song.render()
    fade = min(_FADE, len(audio))
    audio[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
    render.write_audio(out / f'{number}.ogg', audio)
    roll = song.roll()
    roll.suptitle('')
    roll.set_size_inches(*_INCHES)
    plot.save(roll, out / f'{number}.png')
    rows.append(f'| [{number}.ogg]({number}.ogg) | '
                f'![Piano roll of song {number}]({number}.png) |')
  atomic.write(out / 'README.md', '\n'.join([
      '# Songs to hear', '', what, '', '| song | piano roll |', '| --- | --- |',
      *rows, '']).encode())


def main(argv: list[str] | None = None) -> int:
  command_line.escape_output()
  parser = argparse.ArgumentParser(
      prog='python -m experiments.examples', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--out', type=command_line.path, default=HERE,
                      help='folder for the songs (default: that of README.md)')
  parser.add_argument('--seed', type=command_line.whole(), default=0)
  parser.add_argument('--seconds', type=command_line.real(.1, 3600), default=15)
  args = parser.parse_args(argv)
  try:
    songs = lakhnes_jax.load().generate(N_SONGS, seconds=args.seconds,
                                        seed=args.seed)
    write(songs, args.out, f'''\
The pretrained model's first {N_SONGS} songs with seed {args.seed},
{args.seconds:g} seconds each; none was chosen by hand.
`python -m experiments.examples` makes them. The weights have the SHA-256
`{weights_digest()}`.''')
  except (OSError, ValueError, ImportError) as error:
    print(f'experiments.examples: {error}', file=sys.stderr)
    return 1
  size = sum(path.stat().st_size for path in args.out.glob('*.[op][gn]g'))
  print(f'{args.out}: {N_SONGS} songs, {size / 1024:.0f} KiB')
  return 0


if __name__ == '__main__':
  sys.exit(main())
