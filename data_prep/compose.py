"""Composes two small corpora, so that everything can be tried without data.

  python -m data_prep.compose --out=DIR [--seed=0 --web=200 --chip=72]

writes General MIDI songs to DIR/web/*.mid, as a stand-in for Lakh, and songs
for the NES sound chip to DIR/chip/{train,valid,test}/*.mid in the layout of
NES-MDB. All of it is composed by our own code (`music`); the two share their
harmony, phrases and rhythms, but not keys, tempi or instruments. The same
seed gives the same bytes.
"""

import argparse
import io
import pathlib
import sys

import numpy as np

from data_prep import compose_chip as chip
from data_prep import compose_web as web
from lakhnes_jax import atomic, command_line
from lakhnes_jax.formats import nes_midi

_WEB, _CHIP = range(2)  # Streams of chance.
SPLITS = ('train', 'valid', 'test')


def compose_web(folder: pathlib.Path, seed: int, n_songs: int) -> None:
  """Writes `n_songs` General MIDI songs to a flat folder."""
  for number in range(n_songs):
    title, midi = web.compose(np.random.default_rng((seed, _WEB, number)))
    data = io.BytesIO()
    midi.save(file=data)
    name = f'{number:04d}_{title.replace(" ", "_")}.mid'
    atomic.write(folder / name, data.getvalue())


def compose_chip(folder: pathlib.Path, seed: int, n_train: int) -> None:
  """Writes `n_train` training songs, a sixth as many valid and test songs.

  All songs of a game are in one split.
  """
  game = 0
  for split in SPLITS:
    left = n_train if split == 'train' else -(-n_train // 6)
    while left > 0:
      songs = chip.compose_game(np.random.default_rng((seed, _CHIP, game)),
                                game)
      for name, song in songs[:left]:
        atomic.write(folder / split / f'{name}.mid',
                           nes_midi.write(song))
      left -= len(songs)
      game += 1


def main(argv: list[str] | None = None) -> int:
  command_line.escape_output()
  parser = argparse.ArgumentParser(
      prog='python -m data_prep.compose', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--out', required=True, type=command_line.path,
                      help='folder to write to')
  parser.add_argument('--seed', type=command_line.whole(), default=0)
  parser.add_argument('--web', type=command_line.whole(0, 10**6), default=200,
                      metavar='N',
                      help='General MIDI songs (default %(default)s)')
  parser.add_argument('--chip', type=command_line.whole(0, 10**6), default=72,
                      metavar='N',
                      help='NES training songs (default %(default)s)')
  args = parser.parse_args(argv)
  try:
    compose_web(args.out / 'web', args.seed, args.web)
    compose_chip(args.out / 'chip', args.seed, args.chip)
  except OSError as error:
    print(f'data_prep.compose: {error}', file=sys.stderr)
    return 1
  n_chip = sum(1 for _ in args.out.glob('chip/*/*.mid'))
  print(f'composed {args.web} songs in {args.out / "web"} and {n_chip} in '
        f'{args.out / "chip"}')
  return 0


if __name__ == '__main__':
  sys.exit(main())
