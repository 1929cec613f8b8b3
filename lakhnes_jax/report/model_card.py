"""Model cards: what weights are, how they were trained, what they reach.

A *lineage* is the whole line of runs that led to weights, the first run first:
a list of JSON objects with

    run: its name
    steps, hours: trained in it
    flags: {name: value}, those that say how it was trained
    data: {split: checksum of its songs}
    device, n_devices, versions, git_revision: what it ran on
    averaged_with: names of the runs whose weights are in the mean
    source: the file that it was imported from
    missing: true where nothing but the name is known

of which any but the name may be missing. An exported folder keeps it in its
`config.json`; of a run it is found by following `init_from` and `resume_from`.
"""

import math
import pathlib
from typing import Any

from lakhnes_jax import input_files, schema

# Of a run's flags, those that say how it was trained.
TRAINING_FLAGS = (
    'format', 'features', 'tgt_len', 'mem_len', 'batch_size', 'augment',
    'min_tokens', 'memory_reset_prob', 'optimizer', 'learning_rate', 'schedule',
    'warmup_steps', 'max_steps', 'weight_decay', 'dropout', 'within_song',
    'seed')
_COUNT, _TEXT = schema.Range(0, 2**53), (str, None)
_EVALUATION = {'split': str, 'protocol': str, 'tokens': _COUNT,
               'mem_len': _COUNT, 'ppl': float}
# What is known of any run.
_RUN = {'flags?': {**{f'{name}?': object for name in TRAINING_FLAGS},
                   'resume_from?': _TEXT, 'init_from?': _TEXT},
        'versions?': {'*': _TEXT}, 'device?': _TEXT, 'n_devices?': _COUNT,
        'git_revision?': _TEXT, 'source?': _TEXT, 'missing?': bool}
_LINEAGE = [{**_RUN, 'run': str, 'data?': {'*': _TEXT}, 'steps?': _COUNT,
             'hours?': float, 'averaged_with?': [str]}]
_META = {'lineage?': _LINEAGE, 'evaluations?': [_EVALUATION],
         'step?': (_COUNT, None), 'seconds?': (float, None)}
# Of `config.json`, of a run or a weights folder.
_CONFIG = {**_RUN, **_META, 'data?': (dict, None)}
_MAX_RUNS = 100  # Of a line, which a strange config might close to a circle.
_LICENCE = (
    'The weights may be used under the MIT licence, as the code. They were '
    'trained on NES-MDB, transcriptions of game music that belongs to its '
    'composers and publishers; models can repeat what they were trained on, so '
    'measure it (`python -m experiments.metrics`) before you publish what one '
    'writes.')


def find_lineage(source: str | pathlib.Path, meta: dict[str, Any]
                ) -> list[dict[str, Any]]:
  """Returns the lineage of a run directory or a weights folder.

  Args:
    source: path of the folder, or its URL.
    meta: of the weights, as `weights_folder.read` returns it.

  Raises:
    ValueError: what it says is of another shape; names the folder or file.
  """
  _check(meta, _META, source)
  if meta.get('lineage'):
    return list(meta['lineage'])
  config = _read_json(pathlib.Path(source, 'config.json'), _CONFIG)
  line = [_entry(source, {**meta, **config}, meta.get('step'),
                 meta.get('seconds'))]
  while len(line) < _MAX_RUNS:
    flags = config.get('flags', {})
    origin = flags.get('resume_from') or flags.get('init_from')
    if not origin:
      break
    folder = pathlib.Path(origin)
    config = _read_json(folder / 'config.json', _CONFIG)
    if config.get('lineage'):
      return [*config['lineage'], *reversed(line)]
    if config:
      step, seconds = _best_step(folder, config)
      line.append(_entry(origin, config, step, seconds))
    else:
      line.append({'run': _name(origin), 'missing': True})
  return list(reversed(line))


def _entry(path: str | pathlib.Path, config: dict[str, Any], step: int | None,
           seconds: float | None) -> dict[str, Any]:
  """Returns what is known of one run; keys without a value are left out."""
  flags = config.get('flags', {})
  data = config.get('data') or {}
  found = {
      'run': _name(path), 'steps': step,
      'hours': None if seconds is None else round(seconds / 3600, 2),
      'flags': {name: flags[name] for name in TRAINING_FLAGS if name in flags},
      # In a checkpoint of a run, `data` is where its lanes stand: numbers.
      'data': {split: checksum for split, checksum in data.items()
               if isinstance(checksum, str)},
      'source': config.get('source'),
      'averaged_with': _names(config.get('averaged_with'), path),
      **{key: config.get(key) for key in (
          'device', 'n_devices', 'versions', 'git_revision')}}
  return {key: value for key, value in found.items()
          if value is not None and value != {} and value != []}


def _best_step(folder: pathlib.Path, config: dict[str, Any]
              ) -> tuple[int | None, float | None]:
  """Returns step and seconds of the weights that a later run began with."""
  if 'step' in config:  # A weights folder.
    return config['step'], config.get('seconds')
  from lakhnes_jax.training import log  # Which needs jax.
  lines = log.read(folder)
  best = min((line for line in lines if line.get('kind') == 'valid'),
             key=lambda line: line.get('loss', math.inf),
             default=lines[-1] if lines else {})
  return best.get('step'), None


def _names(paths: Any, source: str | pathlib.Path) -> list[str]:
  """Names of runs; folders of old have one path instead of a list."""
  paths = [paths] if isinstance(paths, str) else paths or []
  _check({'averaged_with': paths}, {'averaged_with': [str]}, source)
  return [_name(path) for path in paths]


def _name(path: str | pathlib.Path) -> str:
  """The last part of a path; where it lies is the owner's business."""
  return pathlib.PurePath(path).name or str(path)


def _read_json(path: pathlib.Path, expected: dict[str, Any]
              ) -> dict[str, Any]:
  """Reads an object of a schema; {} where there is no file.

  Raises:
    ValueError: the file is damaged, or of another shape; names it.
  """
  try:
    data = input_files.read(path)
  except OSError:
    return {}
  try:
    return schema.parse(data, expected)
  except ValueError as error:
    raise ValueError(f'{path}: damaged ({error})') from None


def _check(value: Any, expected: dict[str, Any], source: Any) -> None:
  """Checks a JSON value; the error names where it is from."""
  try:
    schema.check(value, expected)
  except ValueError as error:
    raise ValueError(f'{source}: {error}') from None


def find_evaluations(source: str | pathlib.Path, meta: dict[str, Any]
                    ) -> list[dict[str, Any]]:
  """Returns the results of `--mode=eval` that lie in a run directory, or that
  an exported folder keeps."""
  _check(meta, _META, source)
  found = [_read_json(path, _EVALUATION)
           for path in sorted(pathlib.Path(source).glob('eval-*.json'))]
  return found or list(meta.get('evaluations', []))


def render(name: str, meta: dict[str, Any], n_params: int, notes: str = ''
          ) -> str:
  """Writes a model card as Markdown.

  Args:
    name: title.
    meta: of the weights, with `lineage` and `evaluations`.
    n_params: of the model.
    notes: Markdown that goes below the numbers.
  """
  lineage = meta.get('lineage', [])
  shape = ', '.join(
      f'{key} {value}' for key, value in meta['config'].items()
      if key in ('n_layer', 'n_head', 'd_model', 'd_head', 'd_inner'))
  parts = [
      f'# {name}',
      f'A {meta["model"]} model of {n_params:,} parameters ({shape}) that '
      f'writes NES music as {meta["format"].upper()} events; '
      f'{_origin(lineage)}.',
      '    python -m experiments.run --flagfile=sample.flags --weights=FOLDER',
      '## Perplexity on NES-MDB',
      _evaluations(meta.get('evaluations', []))]
  if notes:
    parts.append(notes.strip())
  if lineage:
    parts += ['## Training', *_training(lineage)]
  return '\n\n'.join([*parts, '## Data and licence', _LICENCE]) + '\n'


def _origin(lineage: list[dict[str, Any]]) -> str:
  """Says in a few words where weights come from."""
  if not lineage:
    return 'how it was trained is not known'
  if 'source' in lineage[0] and len(lineage) == 1:
    return f'imported from `{lineage[0]["source"]}`'
  steps = [entry.get('steps') for entry in lineage]
  known = sum(step for step in steps if step is not None)
  words = f'trained with lakhnes_jax for {known:,} steps'
  if len(lineage) > 1:
    words += f' in {len(lineage)} runs'
  if None in steps:
    words += ', and in some of an unknown number'
  return words


def _evaluations(evaluations: list[dict[str, Any]]) -> str:
  if not evaluations:
    return 'Not evaluated.'
  return _table([('split', 'protocol', 'events', 'memory', 'perplexity'), *(
      (found['split'], found['protocol'], found['tokens'], found['mem_len'],
       f'{found["ppl"]:.3f}') for found in evaluations)])


def _training(lineage: list[dict[str, Any]]) -> list[str]:
  """Returns the table of all runs, and what is known of the last."""
  rows = [('run', 'steps', 'hours', 'train songs', 'flags')]
  before = {}
  for entry in lineage:
    rows.append((
        f'`{entry["run"]}`', _shown(entry.get('steps')),
        _shown(entry.get('hours')), _shown(entry.get('data', {}).get('train')),
        _settings(entry, before)))
    before = entry.get('flags', before)
  parts = [_table(rows)]
  if len(lineage) > 1:
    parts.append('Each run began with the weights of the one above it; of its '
                 'flags, those are shown that differ.')
  last = lineage[-1]
  if 'device' in last:
    parts.append(
        f'The last run: on {last.get("n_devices", 1)} {last["device"]}, '
        f'revision `{last.get("git_revision")}`, ' + ', '.join(
            f'{key} {value}'
            for key, value in last.get('versions', {}).items()) + '.')
  return parts


def _settings(entry: dict[str, Any], before: dict[str, Any]) -> str:
  """Flags that are not as in the run before, and what else is known."""
  if entry.get('missing'):
    return 'not known: its directory was not there'
  flags = ' '.join(
      f'--{key}={_flag(value)}'
      for key, value in entry.get('flags', {}).items()
      if (value != before[key] if key in before else value))
  parts = [f'`{flags}`'] if flags else []
  if 'source' in entry:
    parts.append(f'imported from `{entry["source"]}`')
  if 'averaged_with' in entry:
    parts.append('averaged with ' + ', '.join(
        f'`{name}`' for name in entry['averaged_with']))
  return '; '.join(parts)


def _flag(value: Any) -> str:
  return ','.join(map(str, value)) if isinstance(value, list) else str(value)


def _shown(value: Any) -> str:
  if value is None:
    return ''
  return f'{value:,}' if isinstance(value, int | float) else f'`{value}`'


def _table(rows: list[tuple]) -> str:
  header, *rest = [[str(cell) for cell in row] for row in rows]
  return '\n'.join('| ' + ' | '.join(line) + ' |' for line in [
      header, ['---'] * len(header), *rest])
