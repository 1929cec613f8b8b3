"""The paper's listening study, section 5: `python -m experiments.listening`.

  python -m experiments.listening make --out=study --real=data/songs \\
    --method ours=samples --method 5gram=samples_5gram
  python -m experiments.listening analyse study.key.json answers-*.json

`make` writes a folder of pages that need no server: sheets of 10 pairs of
5-second clips, 2 of them against random events, of a Turing test (which was
composed by a human?) and a preference test (the first method against each other
and real music). Each listener opens one sheet and sends back the file that it
saves. The key, OUT.key.json, is not for listeners. `analyse` drops those who
fail a control, and prints shares, standard errors and binomial tests; it writes
them beside the key, with a figure.
"""

import argparse
import json
import pathlib
import sys

from experiments.listening import analysis, study
from lakhnes_jax import atomic, command_line


def _method(text: str) -> tuple[str, pathlib.Path]:
  name, _, folder = text.partition('=')
  if not name or not folder or name in (study.REAL, study.CONTROL):
    raise argparse.ArgumentTypeError(
        f'{text!r}: expected NAME=FOLDER, another name than {study.REAL} and '
        f'{study.CONTROL}')
  return name, command_line.path(folder)


def _make(args: argparse.Namespace) -> int:
  folders = dict(args.method)
  if len(folders) < len(args.method):
    raise ValueError('--method: two of one name')
  path, errors = study.write(args.out, {**folders, study.REAL: args.real},
                             args.sheets, args.seed)
  for error in dict.fromkeys(errors):
    print(f'experiments.listening: {error}', file=sys.stderr)
  print(f'{args.out}\n{path}')
  return 0


def _analyse(args: argparse.Namespace) -> int:
  found = analysis.summarise(analysis.read_key(args.key), args.answers)
  stem = args.key.name.removesuffix('.json').removesuffix('.key')
  atomic.write(args.key.with_name(f'{stem}.results.json'),
               json.dumps(found, indent=1).encode())
  print(analysis.to_text(found))
  print(analysis.draw(found, args.key.with_name(f'{stem}.results.png')))
  return 0


def main(argv: list[str] | None = None) -> int:
  command_line.escape_output()
  parser = argparse.ArgumentParser(
      prog='python -m experiments.listening', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  commands = parser.add_subparsers(required=True, metavar='make|analyse')
  make = commands.add_parser('make', help='the folder of a study')
  make.add_argument('--out', type=command_line.path, required=True)
  make.add_argument('--real', type=command_line.path, required=True,
                    metavar='FOLDER', help='real songs')
  make.add_argument('--method', type=_method, action='append', required=True,
                    metavar='NAME=FOLDER', help='songs of a method; repeat it')
  make.add_argument('--sheets', type=command_line.whole(1, 1000), default=10,
                    help='of each test; default: %(default)s')
  make.add_argument('--seed', type=command_line.whole(), default=0)
  make.set_defaults(run=_make)
  analyse = commands.add_parser('analyse', help='what the answers say')
  analyse.add_argument('key', type=command_line.path, metavar='KEY.json')
  analyse.add_argument('answers', nargs='+', type=command_line.path,
                       metavar='ANSWERS.json')
  analyse.set_defaults(run=_analyse)
  args = parser.parse_args(argv)
  try:
    return args.run(args)
  except (OSError, ValueError, ImportError) as error:
    print(f'experiments.listening: {error}', file=sys.stderr)
    return 1


if __name__ == '__main__':
  sys.exit(main())
