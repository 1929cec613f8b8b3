"""Trains, evaluates and samples: `python -m experiments.run --mode=...`.

A flag file that is not found where you are is taken from `experiments/flags/`:

    python -m experiments.run --flagfile=pretrain.flags --data_dir=data/lakh
    python -m experiments.run --mode=eval --workdir=runs/nes --data_dir=data/nes
    python -m experiments.run --flagfile=sample.flags --workdir=runs/nes
"""

import importlib
import os
import sys

from absl import app, flags, logging

from experiments import huge_pages, options
from experiments.options import FLAGS
from lakhnes_jax import command_line

flags.adopt_module_key_flags(options)
# Imported once the mode is known, so that --help and errors are quick.
_MODULES = {'train': 'experiments.train', 'eval': 'experiments.evaluate',
            'sample': 'experiments.generate'}


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    sys.exit(f'experiments.run: {argv[1]!r} is no flag; flags begin with --')
  if not FLAGS['verbosity'].present:
    logging.set_verbosity(logging.WARNING)  # Orbax logs every detail.
  if FLAGS.compilation_cache:  # Read by jax, which is not imported yet.
    os.environ.setdefault('JAX_COMPILATION_CACHE_DIR',
                          command_line.expand(FLAGS.compilation_cache))
  try:
    importlib.import_module(_MODULES[FLAGS.mode]).main()
  except (ValueError, OSError, FloatingPointError) as error:
    sys.exit(f'experiments.run: {error}')
  except (RuntimeError, MemoryError) as error:
    if isinstance(error, RuntimeError) and (
        'RESOURCE_EXHAUSTED' not in str(error)):  # As XLA calls it.
      raise
    sys.exit('experiments.run: out of memory; a smaller --batch_size, '
             '--mem_len or --sample_batch, or a larger --grad_accumulation '
             'needs less')


def parse(argv: list[str]) -> list[str]:
  """Sets the flags; returns what is left. Exits with a line about a bad one."""
  argv = ['--help' if argument == '-h' else argument for argument in argv]
  try:
    argv = options.expand_flagfiles(argv)
  except (OSError, ValueError) as error:
    sys.exit(f'experiments.run: {error}')
  try:
    return FLAGS(argv)
  except (flags.Error, ValueError) as error:  # The latter of --noNAME=VALUE.
    sys.exit(f'experiments.run: {error}')
  except RecursionError:  # In the search for a flag of a similar name.
    sys.exit('experiments.run: there is no flag of so long a name')


def console() -> None:
  """Runs the command."""
  huge_pages.reexec()
  command_line.escape_output()
  app.run(main, flags_parser=parse)


if __name__ == '__main__':
  console()
