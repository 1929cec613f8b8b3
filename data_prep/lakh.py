"""Adapts a collection of MIDI files to the NES: Lakh -> training shards.

  python -m data_prep.lakh --input=lmd_full.tar.gz --output=data/lakh

Takes a folder of .mid, .midi and .kar files, at any depth, or a .tar.gz of
one, which is read as it streams by and not unpacked. Writes the shards of
splits train and valid, `ledger.tsv` (a line a file: kept, or why not) and
`summary.json`. Files with the same notes count once; a song is held out for
valid by a hash of its notes. The same files and seed give the same bytes,
whatever their order and the number of workers. A run that was cut off goes on
where it was.

For training each file is stored once, all its players together; who plays
what is drawn anew each time that the song is read. --examples_per_file=16
writes 16 such draws of each file in its place, as the paper did. The valid
split always holds 16.
"""

import argparse
import sys
import time


def main(argv: list[str] | None = None) -> int:
  parser = argparse.ArgumentParser(
      prog='python -m data_prep.lakh', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--input', required=True,
                      help='folder of MIDI files, or a .tar.gz of one')
  parser.add_argument('--output', required=True, help='folder for the shards')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--workers', type=int, default=0, metavar='N',
                      help='processes (default: one per CPU core)')
  parser.add_argument('--valid_percent', type=float, default=5, metavar='P',
                      help='share of songs held out (default %(default)s)')
  parser.add_argument('--limit', type=int, metavar='N',
                      help='read the first N files only')
  parser.add_argument('--examples_per_file', type=int, default=0, metavar='N',
                      help='for training, write up to N examples of each file '
                      '(the paper: 16) in place of its ensemble')
  args = parser.parse_args(argv)
  if not 0 <= args.valid_percent < 100:
    parser.error('--valid_percent is at least 0 and under 100')
  if min(args.seed, args.workers, args.examples_per_file) < 0:
    parser.error('--seed, --workers and --examples_per_file are not negative')

  from data_prep import lakh_parts, lakh_shards
  started = time.monotonic()
  settings = lakh_shards.Settings(args.seed, args.valid_percent,
                                  args.examples_per_file)
  try:
    parts = lakh_parts.make(args.input, args.output, args.workers, args.limit)
    summary = lakh_shards.write(parts, args.output, settings)
    lakh_parts.remove(args.output)
  except (OSError, ValueError) as error:
    print(f'data_prep.lakh: {error}', file=sys.stderr)
    return 1
  print(lakh_shards.describe(summary))
  print(f'{args.output}: done in {time.monotonic() - started:.0f} s')
  return 0


if __name__ == '__main__':
  sys.exit(main())
