"""All benchmarks: `python -m experiments.benchmarks --stages=... --out=FILE`.

Each stage is measured in a process of its own, one after another; its module
says what it does. At the end comes a table. Measure on a machine that does
nothing else.
"""

import argparse
import json
import pathlib
import subprocess
import sys

from experiments import huge_pages
from experiments.benchmarks import machine

STAGES = ('machine', 'prepare', 'train', 'evaluate', 'decode', 'render',
          'scaling', 'startup')
# Not by default: long, 4 GB of disk, or of our own options alone.
OTHERS = ('costs', 'corpus', 'told')


def main() -> int:
  parser = argparse.ArgumentParser(
      prog='python -m experiments.benchmarks',
      description=__doc__.split('\n')[0])
  parser.add_argument('--stages', default=','.join(STAGES),
                      help=f'some of %(default)s,{",".join(OTHERS)}')
  parser.add_argument('--out', type=pathlib.Path,
                      help='JSON file for the results')
  args = parser.parse_args()
  stages = args.stages.split(',')
  for stage in stages:
    if stage not in STAGES + OTHERS:
      parser.error(f'--stages={stage}: not one of '
                   f'{", ".join(STAGES + OTHERS)}')
  results, rows, failed = {}, [], False
  for stage in stages:
    print(f'{stage} ...', file=sys.stderr, flush=True)
    done = subprocess.run(
        [sys.executable, '-m', f'experiments.benchmarks.{stage}'], text=True,
        stdout=subprocess.PIPE, check=False)
    if done.returncode:
      failed = True
      print(f'error: stage {stage} failed', file=sys.stderr)
      continue
    *said, last = done.stdout.strip().splitlines()
    print('\n'.join(said), flush=True)
    results[stage] = json.loads(last)
    found = results[stage]
    rows += [machine.row(stage, result) for result in
             (found if isinstance(found, list) else [found])]
    if args.out:
      from lakhnes_jax import atomic
      atomic.write(args.out, json.dumps(results, indent=2).encode())
  print(machine.table([row for row in rows if row[2]]), end='')
  return int(failed)


if __name__ == '__main__':
  huge_pages.ask()  # As experiments.run does.
  sys.exit(main())
