"""The paper's table of perplexities, ours beside theirs.

    python -m experiments.perplexity_table --data_dir=data/nesmdb --runs=runs

prints the table and writes it to RUNS/perplexity.md. Random, unigram and 5-gram
are computed from the shards (seconds). Every other row is a run directory of
that name (`nes`, `nesaug`, `pretrain`, `finetune`, ...); runs of other names
come below. Blank is what has not been run. A run's numbers are those of
`experiments.run --mode=eval` where there are any; else its valid perplexity is
the best seen in training, if that was on the same songs.
"""

import argparse
import pathlib
import sys
from typing import Any, NamedTuple

import jax

from experiments.baselines import lstm, ngram
from lakhnes_jax import (
    atomic,
    command_line,
    events,
    input_files,
    schema,
    vocabularies,
)
from lakhnes_jax.data import shards
from lakhnes_jax.model import language_model
from lakhnes_jax.training import log


class Row(NamedTuple):
  """One model; None where nothing is known.

  Attributes:
    params: number of parameters.
    epochs: passes over the training songs until the best valid perplexity.
    valid, test: perplexity.
  """
  params: int | str | None = None
  epochs: int | None = None
  valid: float | None = None
  test: float | None = None


# Run name or n-gram model -> its name in the table, the paper's numbers.
# Where the paper rounds ('41M'), so do we.
PAPER = {
    'random': ('Random', Row(0, 0, None, 631.)),
    'unigram': ('Unigram', Row(631, 1, None, 198.14)),
    '5-gram': ('5-gram, back-off [1]', Row('9M', 1, None, 37.25)),
    '5-gram Kneser-Ney': ('5-gram, Kneser-Ney', Row()),
    'lstm': ('LSTM [2]', Row('40M', 18, None, 14.11)),
    'lstmaug': ('LSTM, augmented [2]', Row('40M', 35, None, 12.64)),
    'nes': ('Transformer-XL [2]', Row('41M', 76, 4.099, 3.501)),
    'nesaug': ('Transformer-XL, augmented [2]',
               Row('41M', 350, 3.175, 2.741)),
    'pretrain': ('Lakh only, no fine-tuning', Row('41M', None, 6.448, 5.541)),
    'finetune100k': ('Lakh 100k steps, fine-tuned',
                     Row('41M', None, 2.911, 2.545)),
    'finetune200k': ('Lakh 200k steps, fine-tuned',
                     Row('41M', None, 2.817, 2.472)),
    'finetune': ('LakhNES: Lakh 400k steps, fine-tuned [2]',
                 Row('41M', 250, 2.800, 2.460)),
}
NOTES = ('[1] Frequencies without discount: not a normalised distribution, so '
         'not comparable with the rest.\n'
         '[2] The paper\'s epochs, and its LSTM\'s perplexities, are quoted '
         'from memory.\n')


_CONFIG = {'flags': {'model': str, 'format': str},
           'data?': {'valid?': (str, None)}}
_EVALUATION = {'ppl': float}


def ngram_rows(data_dir: str) -> dict[str, Row]:
  """Computes the rows of models that count; of the splits there are.

  Raises:
    FileNotFoundError: no train or valid split.
  """
  splits = ['valid', 'test']
  if not pathlib.Path(data_dir, 'test.json').exists():
    splits.remove('test')
  train, *corpora = (shards.Corpus(data_dir, split)
                     for split in ('train', *splits))
  rows = {}
  for split, results in zip(
      splits, ngram.evaluate(train, corpora, events.TX1), strict=True):
    for result in results:
      row = rows.get(result.model, Row(result.params, int(result.params > 0)))
      rows[result.model] = row._replace(**{split: result.ppl})
  return rows


def find_runs(paths: list[str]) -> dict[str, pathlib.Path]:
  """Finds run directories, by name: those given, or in the folders given.

  Raises:
    FileNotFoundError: there is no such folder.
    ValueError: two runs have one name.
  """
  runs = {}
  for path in map(pathlib.Path, paths):
    if not path.is_dir():
      raise FileNotFoundError(f'--runs: {path} is no folder')
    there = [path] if (path / 'config.json').exists() else sorted(
        child.parent for child in path.glob('*/config.json'))
    for run in there:
      name = run.resolve().name
      if name in runs:
        raise ValueError(f'--runs: {runs[name]} and {run} have the same name')
      runs[name] = run
  return runs


def run_row(run: pathlib.Path, valid_checksum: str) -> Row:
  """Reads what a run directory says of its model.

  Args:
    run: the directory.
    valid_checksum: of the valid split; perplexities from training count only
      where they were measured on it.

  Raises:
    ValueError: a file of it is damaged.
  """
  config = _read_json(run / 'config.json', _CONFIG)
  lines = log.read(run)
  best = min((line for line in lines if line['kind'] == 'valid'),
             key=lambda line: line['loss'], default=None)
  last = best['step'] if best else float('inf')
  epochs = [line['epoch'] + 1 for line in lines
            if 'epoch' in line and line['step'] <= last]
  ppl: dict[str, float | None] = {'valid': None, 'test': None}
  if best and config.get('data', {}).get('valid') == valid_checksum:
    ppl['valid'] = best.get('ppl')
  for split in ppl:
    path = run / f'eval-{split}-paper.json'
    if path.exists():
      ppl[split] = _read_json(path, _EVALUATION)['ppl']
  return Row(_n_params(run / 'config.json', config['flags']),
             max(epochs, default=None), **ppl)


def _read_json(path: pathlib.Path, expected: dict[str, Any]
              ) -> dict[str, Any]:
  data = input_files.read(path)
  try:
    return schema.parse(data, expected)
  except ValueError as error:
    raise ValueError(f'{path}: damaged ({error})') from None


def _n_params(path: pathlib.Path, settings: dict[str, Any]) -> int:
  """Counts the parameters of a run's model without making them."""
  kinds = {kind.name: kind for kind in (
      language_model.LanguageModel, lstm.LstmModel)}
  try:
    kind = kinds[settings['model']]
    vocabulary = vocabularies.get(settings['format'])
    model = kind.from_dict({'n_token': vocabulary.size, **{
        name: settings[name] for name in kind.SETTINGS & settings.keys()}},
                           vocabulary)
    return language_model.n_params(jax.eval_shape(
        lambda: model.init_params(jax.random.key(0))))
  except Exception as error:  # JAX refuses sizes in many ways.
    reason = ' '.join(str(error).split())[:200] or type(error).__name__
    raise ValueError(f'{path}: no such model: {reason}') from None


def to_markdown(ours: dict[str, Row]) -> str:
  """Lays out the table; rows that the paper lacks come last."""
  lines = [['', '', 'ours', '', '', '', 'paper', '', '', ''],
           ['model', 'run', *2 * ['params', 'epochs', 'valid', 'test']]]
  computed = {'random', 'unigram', '5-gram', '5-gram Kneser-Ney'}
  for key in (*PAPER, *(ours.keys() - PAPER.keys())):
    name, theirs = PAPER.get(key, ('', Row()))
    lines.append([name, '' if key in computed else key,
                  *_cells(ours.get(key, Row())), *_cells(theirs)])
  lines[2 + len(PAPER):] = sorted(lines[2 + len(PAPER):])
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  rule = ['-' * width for width in widths[:2]] + [
      '-' * (width - 1) + ':' for width in widths[2:]]
  lines.insert(1, rule)
  return ''.join(
      '| ' + ' | '.join(
          cell.ljust(width) if i < 2 else cell.rjust(width)
          for i, (cell, width) in enumerate(zip(line, widths, strict=True))) +
      ' |\n' for line in lines) + '\n' + NOTES


def _cells(row: Row) -> list[str]:
  params = f'{row.params:,}' if isinstance(row.params, int) else row.params
  return [params or '', '' if row.epochs is None else str(row.epochs),
          *('' if ppl is None else f'{ppl:.{3 if ppl < 10 else 2}f}'
            for ppl in (row.valid, row.test))]


def main(argv: list[str] | None = None) -> None:
  command_line.escape_output()
  parser = argparse.ArgumentParser(
      prog='python -m experiments.perplexity_table', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--data_dir', required=True, type=command_line.expand,
                      help='folder of NES-MDB shards: train, valid, and test '
                      'if there is one')
  parser.add_argument('--runs', nargs='+', default=['runs'],
                      type=command_line.expand,
                      help='run directories, or folders of them')
  parser.add_argument('--out', type=command_line.expand,
                      help='Markdown file; default: perplexity.md in the first '
                      'of --runs')
  arguments = parser.parse_args(argv)
  try:
    runs = find_runs(arguments.runs)
    ours = ngram_rows(arguments.data_dir)
    checksum = shards.Corpus(arguments.data_dir, 'valid').checksum
    for name, run in runs.items():
      ours[name] = run_row(run, checksum)
    table = to_markdown(ours)
    path = arguments.out or pathlib.Path(arguments.runs[0]) / 'perplexity.md'
    atomic.write(path, table.encode())
  except (ValueError, OSError) as error:
    sys.exit(f'experiments.perplexity_table: {error}')
  print(table, end='')
  print(path)


if __name__ == '__main__':
  main()
