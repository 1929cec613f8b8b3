"""All benchmarks: `python -m experiments.benchmarks --stages=... --out=FILE`.

Each stage is measured in a process of its own, one after another; its module
says what it does. At the end comes a table. Arguments after `--` go to the
stage, if it is one: `--stages=train -- --lanes=60`. Measure on a machine that
does nothing else.
"""

import argparse
import json
import pathlib
import subprocess
import sys

from experiments import huge_pages
from experiments.benchmarks import machine
from lakhnes_jax import atomic

STAGES = ('machine', 'prepare', 'train', 'evaluate', 'decode', 'render')
OTHERS = ('original',)  # Needs torch and a checkout.


def main(argv: list[str] | None = None) -> int:
  parser = argparse.ArgumentParser(
      prog='python -m experiments.benchmarks',
      description=__doc__.split('\n')[0])
  parser.add_argument('--stages', default=','.join(STAGES),
                      help=f'some of %(default)s,{",".join(OTHERS)}')
  parser.add_argument('--out', type=pathlib.Path,
                      help='JSON file for the results')
  parser.add_argument('arguments', nargs='*', metavar='-- ARGUMENT',
                      help='for the stage, if it is only one')
  args = parser.parse_args(argv)
  stages = args.stages.split(',')
  for stage in stages:
    if stage not in STAGES + OTHERS:
      parser.error(f'--stages={stage}: not one of '
                   f'{", ".join(STAGES + OTHERS)}')
  if args.arguments and len(stages) > 1:
    parser.error(f'{" ".join(args.arguments)}: for which stage? Give one in '
                 '--stages')
  results, rows, failed = {}, [], False
  for stage in stages:
    print(f'{stage} ...', file=sys.stderr, flush=True)
    done = subprocess.run(
        [sys.executable, '-m', f'experiments.benchmarks.{stage}',
         *args.arguments], text=True, stdout=subprocess.PIPE, check=False)
    if done.returncode:
      failed = True
      print(f'error: stage {stage} failed', file=sys.stderr)
      continue
    *lines, last = done.stdout.strip().splitlines()
    print('\n'.join(lines), flush=True)
    results[stage] = json.loads(last)
    found = results[stage]
    rows += [machine.row(stage, result) for result in
             (found if isinstance(found, list) else [found])]
    if args.out:
      atomic.write(args.out, json.dumps(results, indent=2).encode())
  print(machine.table([row for row in rows if row[2]]), end='')
  return int(failed)


if __name__ == '__main__':
  huge_pages.reexec()  # As experiments.run does; the stages inherit them.
  sys.exit(main())
