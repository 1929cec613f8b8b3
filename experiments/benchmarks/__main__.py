"""All benchmarks: `python -m experiments.benchmarks --stages=... --out=FILE`.

Each stage is measured in a process of its own, one after another; its module
says what it does. Measure on a machine that does nothing else.
"""

import argparse
import json
import pathlib
import subprocess
import sys

STAGES = ('prepare', 'train', 'evaluate', 'decode', 'render')


def main() -> int:
  parser = argparse.ArgumentParser(
      prog='python -m experiments.benchmarks',
      description=__doc__.split('\n')[0])
  parser.add_argument('--stages', default=','.join(STAGES),
                      help='some of %(default)s')
  parser.add_argument('--out', type=pathlib.Path,
                      help='JSON file for the results')
  args = parser.parse_args()
  stages = args.stages.split(',')
  for stage in stages:
    if stage not in STAGES:
      parser.error(f'--stages={stage}: not one of {", ".join(STAGES)}')
  results, failed = {}, False
  for stage in stages:
    print(f'{stage} ...', file=sys.stderr, flush=True)
    done = subprocess.run(
        [sys.executable, '-m', f'experiments.benchmarks.{stage}'], text=True,
        stdout=subprocess.PIPE, check=False)
    if done.returncode:
      failed = True
      print(f'error: stage {stage} failed', file=sys.stderr)
      continue
    print(done.stdout, end='', flush=True)
    results[stage] = json.loads(done.stdout.strip().splitlines()[-1])
  if args.out:
    from lakhnes_jax import files
    files.write_atomic(args.out, json.dumps(results, indent=2).encode())
  return int(failed)


if __name__ == '__main__':
  sys.exit(main())
