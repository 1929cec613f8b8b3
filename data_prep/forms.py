"""Learns the forms of songs: shards -> which bars come again, when, and how.

  python -m data_prep.forms --input=data/nesmdb

New songs of the format `tracker` are given the form of a song that is drawn
from these. The same songs give the same file; run data_prep.tracker before,
and it takes seconds.
"""

import argparse
import sys
import time

import numpy as np

from lakhnes_jax import command_line
from lakhnes_jax import events as ev
from lakhnes_jax.data import shards
from lakhnes_jax.tracker import form, vocabulary

_SECONDS = 30  # Shorter songs have no form to speak of.
_BARS = 8  # Likewise.


def main(argv: list[str] | None = None) -> int:
  command_line.escape_output()
  parser = argparse.ArgumentParser(
      prog='python -m data_prep.forms', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--input', required=True, type=command_line.path,
                      help='folder of shards')
  parser.add_argument('--split', default='train')
  parser.add_argument('--output', type=command_line.path, default=form.PATH,
                      help='the forms (default: those of the package)')
  args = parser.parse_args(argv)
  started = time.monotonic()
  try:
    corpus = shards.Corpus(args.input, args.split)
    tracker = vocabulary.default()
    tracker.prepare(corpus)
    found = []
    for song in map(corpus.song, range(len(corpus))):
      if ev.times_of(song)[-1:].sum() >= _SECONDS * ev.SAMPLE_RATE and (
          ev.kind_of(song) == ev.NOTEON).any():
        made = form.of_pattern(tracker.pattern(np.asarray(song)))
        if made.source.shape[1] >= _BARS:
          found.append(made)
    if not found:
      raise ValueError(
          f'{args.input}: no song of {_SECONDS} s and {_BARS} bars')
    form.write(args.output, found)
  except (OSError, ValueError) as error:
    print(f'data_prep.forms: {error}', file=sys.stderr)
    return 1
  print(f'{args.output}: forms of {len(found)} of {len(corpus)} songs, '
        f'{time.monotonic() - started:.0f} s')
  return 0


if __name__ == '__main__':
  sys.exit(main())
