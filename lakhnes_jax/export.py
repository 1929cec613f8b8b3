"""Exports weights for others: `python -m lakhnes_jax.export RUN --out=FOLDER`.

    python -m lakhnes_jax.export runs/nes --out=weights/nes --dtype=bfloat16

The folder holds the weights (safetensors), their config, a model card and
`SHA256SUMS`. Put its files anywhere on the web, and
`--weights=https://.../FOLDER` takes them; a path works as well. The card
lists the whole line of runs, and the numbers that evaluations have left in the
run directory (`experiments.run --mode=eval`).
"""

import argparse
import dataclasses
import itertools
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from lakhnes_jax import (
    command_line,
    file_lock,
    input_files,
    progress,
    ranges,
    vocabularies,
)
from lakhnes_jax import events as ev
from lakhnes_jax.analysis import critic as critic_lib
from lakhnes_jax.data import shards
from lakhnes_jax.generation import load, sample, tasks
from lakhnes_jax.report import model_card
from lakhnes_jax.weights import weights_folder

# What a critic is fitted on; samples are drawn as `sample.flags` does.
_SAMPLES, _REAL = 512, 400
_LIMITS = tasks.Limits(3000, critic_lib.SECONDS)
_SAMPLING = dataclasses.replace(sample.RECOMMENDED, best_of=1)
# Of a checkpoint's meta, what matters to the run alone.
_OF_RUN = ('data', 'since_line', 'flags', 'versions', 'git_revision', 'device',
           'n_devices')
# What a run was at its best, a mean of weights is not.
_OF_BEST = ('best', 'best_step')


def export(source: str, out: pathlib.Path, *, name: str | None = None,
           dtype: str = 'float32', optimizer: bool = False,
           average: Sequence[str] = (), mem_len: int | None = None,
           critic_of: str | None = None, notes: str = '') -> int:
  """Writes a weights folder from a run directory or another such folder.

  Args:
    source: what to export; of a run, the best checkpoint.
    out: the folder to write.
    name: title of the card; default: the name of `source`.
    dtype: of the weights in the file.
    optimizer: write Adam's moments too, in float32.
    average: other runs or folders; each array of `source` is replaced by the
      mean of its own and of theirs, where they have it (Wortsman et al., "Model
      soups", 2022). That helps where one began with the weights of another.
    mem_len: tokens that the model is to remember when songs are sampled; None
      for as many as in training.
    critic_of: folder of shards; the weights then come with a critic, for
      `best_of` in sampling (see `analysis.critic`). It is fitted on 512 songs
      that are drawn from the model, and 400 of the folder's train songs.
    notes: Markdown for the card.

  Returns:
    Bytes of all files.

  Raises:
    ImportError: scikit-learn is missing, for a critic.
    OSError, ValueError: as `weights_folder.read`; or the models are of other
      shapes, or there is no optimizer state, or another process writes to
      `out`.
  """
  if critic_of:
    critic_lib.require_sklearn()
  tree, meta = weights_folder.read(source)
  if meta['model'] == 'txl':  # Other kinds are not of this package.
    weights_folder.fit(tree['params'], meta, source)
  opt_state = tree.get('opt_state') if optimizer else None
  if optimizer and opt_state is None:
    raise ValueError(f'{source}: has no optimizer state; leave --optimizer out')
  if optimizer and average:
    raise ValueError('a mean of weights has no optimizer state; leave out '
                     '--optimizer or --average')
  lineage = model_card.find_lineage(source, meta)
  evaluations = model_card.find_evaluations(source, meta)
  if average:
    tree['params'] = _mean([
        (source, tree['params']),
        *((path, weights_folder.read(path)[0]['params']) for path in average)])
    meta = {key: value for key, value in meta.items() if key not in _OF_BEST}
    lineage[-1] = {**lineage[-1], 'averaged_with': [
        *lineage[-1].get('averaged_with', []),
        *(pathlib.Path(path).name for path in average)]}
  meta = {key: value for key, value in meta.items() if key not in _OF_RUN}
  meta |= {'lineage': lineage, 'evaluations': evaluations}
  if mem_len is not None:
    meta['mem_len'] = mem_len
  if meta['format'] in vocabularies.NAMES:
    vocabulary = vocabularies.get(meta['format'])
    if vocabulary.size == meta['config'].get('n_token'):  # Older do not say.
      meta['vocabulary_digest'] = vocabularies.digest(vocabulary)
  # Else the sums might be of one model's config and another one's arrays.
  with file_lock.exclusive(out):
    if critic_of:
      weights_folder.save(out, tree['params'], meta, dtype=dtype)
      meta['critic'] = _fit_critic(out, shards.Corpus(critic_of, 'train'))
    card = model_card.render(name or pathlib.Path(source).resolve().name, meta,
                             _n_params(tree['params']), notes)
    return weights_folder.save(out, tree['params'], meta, opt_state=opt_state,
                               dtype=dtype, card=card)


def _fit_critic(weights: pathlib.Path,
                corpus: shards.Corpus) -> critic_lib.Critic:
  """Draws songs and fits a critic of them."""
  model = load.load(weights)
  real = list(itertools.islice(_real_songs(corpus, model.vocabulary), _REAL))
  with progress.Progress('sampling', 'songs', _SAMPLES) as bar:
    samples = []
    for song in sample.generate(
        model, [tasks.new_song(model.vocabulary, _LIMITS)], _SAMPLING,
        n=_SAMPLES):
      samples.append(song.events)
      bar.add(1)
  return critic_lib.fit(samples, real)


def _real_songs(corpus: shards.Corpus, vocabulary) -> Iterator[np.ndarray]:
  """Draws songs that last long enough, as the vocabulary can write them."""
  vocabulary.prepare(corpus)
  for i in np.random.default_rng(0).permutation(len(corpus)).tolist():
    song = corpus.song(i)
    if ev.times_of(song)[-1:].sum() >= critic_lib.SECONDS * ev.SAMPLE_RATE:
      yield vocabulary.decode(vocabulary.encode(vocabulary.project(song)))


def _n_params(params: dict[str, Any]) -> int:
  return sum(_n_params(leaf) if isinstance(leaf, dict) else np.size(leaf)
             for leaf in params.values())


def _mean(models: list[tuple[str, dict]]) -> dict[str, Any]:
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


def main(argv: list[str] | None = None) -> None:
  command_line.escape_output()
  parser = argparse.ArgumentParser(
      prog='python -m lakhnes_jax.export', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  add = parser.add_argument
  add('source', metavar='RUN', help='run directory or weights folder')
  add('--out', required=True, type=command_line.path,
      help='folder for the weights')
  add('--name', help="title of the card; default: the run's name")
  add('--dtype', choices=('bfloat16', 'float32'), default='float32',
      help='of the weights in the file; default: %(default)s')
  add('--optimizer', action='store_true',
      help="export Adam's moments too, in float32")
  add('--average', nargs='+', default=[], metavar='OTHER',
      help='export the mean of RUN and of these runs or weights folders: those '
      'that it began with, or that began with the same')
  add('--mem_len', type=command_line.whole(0, ranges.MAX_SIZE),
      metavar='TOKENS',
      help='that the model is to remember in sampling; default: as in training')
  add('--critic_of', type=command_line.path, metavar='SHARDS',
      help='fit a critic on samples and on the train songs of this folder, so '
      'that sampling can take one of several songs (--best_of); minutes; needs '
      'the extra `metrics`')
  add('--notes', type=command_line.path, metavar='FILE',
      help='Markdown file to include in the card')
  args = parser.parse_args(argv)
  try:
    size = export(
        command_line.expand(args.source), args.out, name=args.name,
        dtype=args.dtype, optimizer=args.optimizer,
        average=[command_line.expand(path) for path in args.average],
        mem_len=args.mem_len, critic_of=args.critic_of,
        notes=input_files.read_text(args.notes) if args.notes else '')
  except (OSError, ValueError, ImportError) as error:
    sys.exit(f'export: {error}')
  print(f'{args.out}: {size / 1e6:.1f} MB')


if __name__ == '__main__':
  main()
