"""Adapts a collection of MIDI files to the NES: Lakh -> training shards.

  python -m data_prep.lakh --input=lmd_full.tar.gz --output=data/lakh

Takes a folder of .mid, .midi and .kar files, at any depth, or a .tar.gz of
one, which is read as it streams by and not unpacked. Writes the shards of
splits train and valid, `manifest.tsv` (one line per file: kept, or why not) and
`summary.json`. Files with the same notes count once; a song is held out for
valid by a hash of its notes. The same files and seed give the same bytes,
whatever their order and the number of workers. Rerun the same
command to resume an interrupted run.

For training each file is stored once, with all its instruments. Which voice
plays which instrument is drawn anew each time the song is read.
--examples_per_file=16 stores 16 such draws of each file instead, as the paper
did. The valid split always holds 16.

With --runner the same is done by an Apache Beam pipeline on as many machines
as you have, and the same bytes come out; --input and --output may be on any
file system that Beam knows. Other flags are handed on to the pipeline:

  python -m data_prep.lakh --runner=DataflowRunner --project=P --region=R \
      --temp_location=gs://B/tmp --extra_package=dist/lakhnes_jax-0.1.0.tar.gz \
      --input=gs://B/lmd_full --output=gs://B/lakh
"""

import argparse
import sys
import time

from lakhnes_jax import command_line


def main(argv: list[str] | None = None) -> int:
  command_line.escape_output()
  parser = argparse.ArgumentParser(
      prog='python -m data_prep.lakh', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
  parser.add_argument('--input', required=True, type=command_line.expand,
                      help='folder of MIDI files, or a .tar.gz of one')
  parser.add_argument('--output', required=True, type=command_line.expand,
                      help='folder for the shards')
  parser.add_argument('--seed', type=command_line.whole(), default=0)
  parser.add_argument('--workers', default=0, metavar='N',
                      type=command_line.whole(0, command_line.MAX_WORKERS),
                      help='processes (default: one per CPU core)')
  parser.add_argument('--valid_percent', default=5, metavar='P',
                      type=command_line.real(0, 99.999),
                      help='share of songs held out (default %(default)s)')
  parser.add_argument('--limit', type=command_line.whole(1), metavar='N',
                      help='read the first N files only')
  parser.add_argument('--examples_per_file', default=0, metavar='N',
                      type=command_line.whole(0, 1024),
                      help='for training, write up to N examples of each file '
                      '(the paper: 16) instead of its instruments')
  parser.add_argument('--runner', metavar='NAME',
                      help='run as an Apache Beam pipeline: DirectRunner, '
                      'DataflowRunner, FlinkRunner, SparkRunner')
  args, options = parser.parse_known_args(argv)
  if options and not args.runner:
    parser.error(f'unknown arguments: {" ".join(options)}')
  if args.workers and args.runner:
    parser.error('--workers is of the local runner; Beam has flags of its own')

  from data_prep import lakh_shards
  started = time.monotonic()
  config = lakh_shards.ShardConfig(args.seed, args.valid_percent,
                                   args.examples_per_file)
  try:
    if args.runner:
      from data_prep import lakh_beam
      summary = lakh_beam.run(args.input, args.output, config, args.limit,
                              [f'--runner={args.runner}', *options])
    else:
      from data_prep import lakh_local
      summary = lakh_local.run(args.input, args.output, config, args.workers,
                               args.limit)
  except (OSError, ValueError, ImportError) as error:
    print(f'data_prep.lakh: {error}', file=sys.stderr)
    return 1
  print(lakh_shards.describe(summary))
  print(f'{args.output}: done in {time.monotonic() - started:.0f} s')
  return 0


if __name__ == '__main__':
  sys.exit(main())
