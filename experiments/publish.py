"""Packs a run for others: `python -m experiments.publish RUN --out=FOLDER`.

The folder holds the weights (safetensors), their config, a model card and
`SHA256SUMS`. Put its files anywhere on the web, and
`--weights=https://.../FOLDER` takes them; a path works as well. The card's
numbers are those that the run's evaluations have left in its directory
(`--mode=eval`), and `log.json` of its samples (`experiments.metrics`).
"""

import argparse
import hashlib
import json
import pathlib
import sys
from collections.abc import Sequence

import numpy as np

from lakhnes_jax import atomic
from lakhnes_jax.model import language_model
from lakhnes_jax.weights import weights_folder

# Of a run's flags, those that say how it was trained.
_TOLD = ('tgt_len', 'mem_len', 'batch_size', 'augment', 'min_tokens', 'memory_reset_prob',
         'muon', 'learning_rate', 'schedule', 'warmup_steps', 'max_steps',
         'dropout', 'seed', 'init_from')


def _json(path: pathlib.Path) -> dict:
  return json.loads(path.read_text('utf-8')) if path.exists() else {}


def _table(rows: list[tuple]) -> str:
  header, *rest = [[str(cell) for cell in row] for row in rows]
  lines = [header, ['---'] * len(header), *rest]
  return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)


def card(name: str, run: pathlib.Path, meta: dict, n_params: int,
         notes: str = '') -> str:
  """Writes the model card of a run.

  Args:
    name: title.
    run: directory, whose `config.json` and evaluations are told.
    meta: of the checkpoint.
    n_params: of the model.
    notes: Markdown that goes below the numbers.

  Returns:
    Markdown.
  """
  settings = _json(run / 'config.json')
  flags = settings.get('flags', {})
  shape = {key: value for key, value in meta['config'].items()
           if key in ('n_layer', 'n_head', 'd_model', 'd_head', 'd_inner')}
  evaluations = [
      (found['split'], found['protocol'], found['tokens'], found['mem_len'],
       f'{found["ppl"]:.3f}')
      for found in map(_json, sorted(run.glob('eval-*.json')))]
  parts = [
      f'# {name}',
      f'A {meta["model"]} model of {n_params:,} parameters ('
      + ', '.join(f'{key} {value}' for key, value in shape.items())
      + f') that writes NES music as {meta["format"].upper()} events, trained '
      f'with lakhnes_jax for {meta["step"]:,} steps'
      + (f', from `{flags["init_from"]}` on.' if flags.get('init_from')
         else '.'),
      '    python -m experiments.run --flagfile=sample.flags --weights=FOLDER',
      '## Perplexity on NES-MDB']
  parts.append(_table([('split', 'protocol', 'events', 'memory', 'perplexity'),
                       *evaluations]) if evaluations else 'Not evaluated.')
  if notes:
    parts.append(notes.strip())
  told = [(key, f'`{flags[key]}`') for key in _TOLD if flags.get(key)]
  if 'averaged_with' in meta:  # Of folders packed at first, one name.
    told.append(('averaged with', ', '.join(
        f'`{path}`' for path in np.atleast_1d(meta['averaged_with']))))
  if told:
    parts += ['## Training', _table([('flag', 'value'), *told]),
              f'On {settings.get("n_devices", 1)} {settings.get("device")}, '
              f'{meta.get("seconds", 0) / 3600:.1f} hours; revision '
              f'`{settings.get("git_revision")}`; '
              + ', '.join(f'{key} {value}' for key, value
                          in settings.get('versions', {}).items()) + '.',
              'Checksums of the data: ' + ', '.join(
                  f'{key} `{value}`' for key, value
                  in settings.get('data', {}).items()) + '.']
  parts += [
      '## Data and licence',
      'The weights may be used under the MIT licence, as the code. They were '
      'trained on NES-MDB, transcriptions of game music that belongs to its '
      'composers and publishers; models can repeat what they were trained on, '
      'so measure it (`python -m experiments.metrics`) before you publish what '
      'one writes.']
  return '\n\n'.join(parts) + '\n'


def _mean(models: list[tuple[str, dict]]) -> dict:
  """Averages each leaf of the first (path, tree) over all that have it."""
  def mean(name, first):
    having = [(path, tree[name]) for path, tree in models if name in tree]
    if isinstance(first, dict):
      return _mean(having)
    for path, leaf in having:
      if np.shape(leaf) != np.shape(first):
        raise ValueError(f'{path}: {name} is of shape {np.shape(leaf)}, not '
                         f'{np.shape(first)}: only models of one shape have a '
                         'mean')
    return sum(leaf for _, leaf in having) / len(having)
  return {name: mean(name, first) for name, first in models[0][1].items()}


def publish(source: str, out: pathlib.Path, *, name: str, dtype: str,
            notes: str = '', average: Sequence[str] = ()) -> int:
  """Packs a run directory or a weights folder.

  Args:
    source: what to pack.
    out: the folder to write.
    name: title of the card.
    dtype: of the weights in the file.
    notes: see `card`.
    average: other runs or folders; each array of `source` is packed as the mean
      of its own and of theirs, where they have it (Wortsman et al., "Model
      soups", 2022). That helps where one began with the weights of another.

  Returns:
    Bytes of all files.

  Raises:
    OSError, ValueError: as `weights_folder.read`; or the models are of other shapes.
  """
  tree, meta = weights_folder.read(source)
  if average:
    tree['params'] = _mean([
        (source, tree['params']),
        *((path, weights_folder.read(path)[0]['params']) for path in average)])
    # What the run was at its best, these weights are not.
    meta = {key: value for key, value in meta.items()
            if key not in ('best', 'best_step')}
    meta['averaged_with'] = list(average)
  # Where each lane stood matters to the run only.
  meta = {key: value for key, value in meta.items()
          if key not in ('data', 'since_line')}
  weights_folder.save(out, tree['params'], meta, dtype=dtype)
  atomic.write(out / 'README.md', card(
      name, pathlib.Path(source), meta, language_model.n_params(tree['params']),
      notes).encode())
  names = ('README.md', 'config.json', 'model.safetensors')
  atomic.write(out / weights_folder.SUMS, ''.join(
      f'{hashlib.sha256((out / file).read_bytes()).hexdigest()}  {file}\n'
      for file in names).encode())
  return sum((out / file).stat().st_size for file in names)


def main(argv: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(
      prog='python -m experiments.publish',
      description=__doc__.split('\n\n')[1])
  parser.add_argument('run', help='run directory or weights folder')
  parser.add_argument('--out', required=True, type=pathlib.Path)
  parser.add_argument('--name', help="the card's title; default: of the run")
  parser.add_argument('--dtype', choices=('bfloat16', 'float32'),
                      default='bfloat16', help='default: %(default)s')
  parser.add_argument('--average', nargs='+', default=[], metavar='OTHER',
                      help='pack the mean of RUN and of these runs or weights '
                      'folders: those with which it began, or that began alike')
  parser.add_argument('--notes', type=pathlib.Path,
                      help='Markdown file to put into the card')
  args = parser.parse_args(argv)
  try:
    size = publish(
        args.run, args.out, dtype=args.dtype,
        name=args.name or pathlib.Path(args.run).resolve().name,
        average=args.average,
        notes=args.notes.read_text('utf-8') if args.notes else '')
  except (OSError, ValueError) as error:
    sys.exit(f'experiments.publish: {error}')
  print(f'{args.out}: {size / 1e6:.1f} MB')


if __name__ == '__main__':
  main()
