"""Converts song files from any known format to another.

  python -m data_prep.convert nesmdb_midi --to=tx1.txt --out=nesmdb_tx1

Takes files, folders (searched at any depth) and glob patterns. Results keep
the name of their source, and what lay in a folder keeps its place there. Bad
files are named and left out; the exit status is then 1.
"""

import argparse
import pathlib
import sys
import time


def main(argv: list[str] | None = None) -> int:
  parser = argparse.ArgumentParser(
      prog='python -m data_prep.convert', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('inputs', nargs='+', metavar='IN',
                      help='song files, folders or glob patterns')
  parser.add_argument('--to', required=True, metavar='ENDING',
                      help='mid, tx1.txt, tx2.txt, exprsco.pkl, seprsco.pkl '
                      'or blndsco.pkl')
  parser.add_argument('--out', required=True, type=pathlib.Path,
                      help='folder for the results')
  parser.add_argument('--workers', type=int, default=0, metavar='N',
                      help='processes (default: one per CPU core)')
  args = parser.parse_args(argv)

  from data_prep import pool, progress
  from lakhnes_jax import files
  ending = '.' + args.to.lower().removeprefix('.')
  if ending not in files.FORMATS:
    parser.error(f'--to={args.to}: known are ' +
                 ', '.join(e[1:] for e in files.FORMATS))
  if args.workers < 0:
    parser.error('--workers is not negative')
  started = time.monotonic()
  bad = []
  try:
    named = files.name_songs(args.inputs)
    if not named:
      raise ValueError(f'no song files in {" ".join(args.inputs)}; known '
                       'endings are ' + ', '.join(files.FORMATS))
    jobs = [(path, args.out / f'{name}{ending}')
            for name, path in named.items()]
    with progress.Progress('converting', 'songs', len(jobs)) as bar:
      for _, _, reason in pool.attempt_all(convert, jobs, args.workers):
        bar.add(1)
        if reason is not None:
          bad.append(reason)
  except (OSError, ValueError) as error:
    print(f'data_prep.convert: {error}', file=sys.stderr)
    return 1
  for reason in bad:
    print(f'bad file: {reason}', file=sys.stderr)
  print(f'{args.out}: {len(jobs) - len(bad)} songs written, {len(bad)} bad '
        f'files, in {time.monotonic() - started:.0f} s')
  return 1 if bad else 0


def convert(job: tuple[pathlib.Path, pathlib.Path]) -> None:
  """Reads the song at the first path and writes it to the second."""
  from lakhnes_jax import files
  source, target = job
  if source.resolve() == target.resolve():
    raise ValueError(f'{source}: would be overwritten by its own result')
  files.write_song(target, files.read_song(source))


if __name__ == '__main__':
  sys.exit(main())
