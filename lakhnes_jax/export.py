"""Writes the weights of a run as safetensors with a JSON config.

    python -m lakhnes_jax.export runs/nes --out=weights/nes --dtype=bfloat16

Any flag that takes weights takes the folder; so does this command.
"""

import sys

from absl import app, flags

_OUT = flags.DEFINE_string('out', None, 'Folder for the weights.')
_DTYPE = flags.DEFINE_enum('dtype', 'float32', ['float32', 'bfloat16'],
                           'Of the weights in the file.')
_OPTIMIZER = flags.DEFINE_bool(
    'optimizer', False, "Write Adam's moments too, in float32.")


def export(source: str, out: str, *, dtype: str = 'float32',
           optimizer: bool = False) -> None:
  """Writes a weights folder from a run directory or another such folder.

  Raises:
    OSError, ValueError: as `weights_folder.read`; or there is no optimizer state.
  """
  from lakhnes_jax.weights import weights_folder
  tree, meta = weights_folder.read(source)
  opt_state = tree.get('opt_state') if optimizer else None
  if optimizer and opt_state is None:
    raise ValueError(f'{source}: has no optimizer state; leave --optimizer out')
  weights_folder.save(out, tree['params'], meta, opt_state=opt_state, dtype=dtype)


def main(argv: list[str]) -> None:
  if len(argv) != 2 or not _OUT.value:
    raise app.UsageError('give one run directory or weights folder, and '
                         '--out=DIR')
  try:
    export(argv[1], _OUT.value, dtype=_DTYPE.value, optimizer=_OPTIMIZER.value)
  except (OSError, ValueError) as error:
    sys.exit(f'export: {error}')
  print(_OUT.value)


if __name__ == '__main__':
  app.run(main)
