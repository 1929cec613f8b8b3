"""Every function that reads JSON of others, each with a good file for it."""

import json

from data_prep import stats
from experiments import perplexity_table
from experiments.listening import analysis
from lakhnes_jax import events as ev
from lakhnes_jax import schema
from lakhnes_jax.data import shard_index, shards
from lakhnes_jax.formats import song_files
from lakhnes_jax.report import model_card, page
from support.json_edges import Edge

SONG = ev.from_text('P1_NOTEON_60\nWT_735\nP1_NOTEOFF\nWT_5')
FLAGS = {'model': 'txl', 'format': 'tx1', 'init_from': '', 'resume_from': None,
         'augment': ['trim', 'switch'], 'n_layer': 1, 'n_head': 2, 'd_model': 8,
         'd_head': 4, 'd_inner': 12, 'dropout': .1, 'features': '', 'seed': 3}
RUN = {'flags': FLAGS, 'versions': {'jax': '1'}, 'git_revision': None,
       'device': 'cpu', 'n_devices': 1, 'data': {'train': 'ab', 'valid': 'cd'}}
LINEAGE = [
    {'run': 'a', 'steps': 5, 'hours': .2, 'flags': {'augment': ['trim']},
     'data': {'train': 'ab'}, 'averaged_with': ['q']},
    {'run': 'b', 'missing': True},
    {**RUN, 'run': 'c', 'source': 'm.pt', 'steps': 9}]
EVALUATION = {'split': 'valid', 'protocol': 'paper', 'tokens': 5, 'mem_len': 3,
              'ppl': 4.2, 'loss': 1.4}
WEIGHTS = {'model': 'txl', 'config': {'n_layer': 1, 'd_model': 8},
           'format': 'tx1', 'step': 3, 'seconds': 20.}
METRICS = [*({'step': step, 'kind': 'train', 'epoch': 0, 'loss': 2., 'ppl': 7.4,
              'learning_rate': .1, 'tokens_per_second': 3.}
             for step in range(1, 6)),
           {'step': 5, 'kind': 'valid', 'loss': 2., 'ppl': 7.4}]
OF_RUN = {'length': 9, 'seconds': 1.5, 'pitches': 4, 'share': .1, 'song': 'x',
          'song_at': 2., 'at': 1., 'held_out_as_long': .4, 'copied': True}
PAIR = [{'clip': 'c1', 'method': 'real'}, {'clip': 'c2', 'method': 'ours'}]


def card(folder, meta=WEIGHTS):
  meta = {**meta, 'lineage': model_card.find_lineage(folder, meta),
          'evaluations': model_card.find_evaluations(folder, meta)}
  return model_card.render('name', meta, 99)


def page_of(folder):
  song_files.write_song(folder / 'a.mid', SONG)
  return lambda: page.write_readable(folder)


def metrics_json(folder):
  return Edge(folder / 'metrics.json', {
      'metrics': {'density': {'reference_mean': 1., 'reference_std': .5}},
      'samples': {'a': {'metrics': {'density': 2.},
                        'memorisation': {'tokens': OF_RUN}}}}, page_of(folder))


def samples_json(folder):
  return Edge(folder / 'samples.json', [
      {'name': name, 'task': 'new', 'seed': 1, 'temperature': .95, 'n_given': 0,
       'seconds': 3.2, 'voices': ['p1'], 'asked': {'tempo': '150'},
       'loop': [3, 4]} for name in ('a', 'b')], page_of(folder))


def weights_config(folder):
  def read():
    try:  # So far as `weights_folder.read` looks.
      meta = schema.parse(path.read_bytes(), {})
    except ValueError as error:
      raise ValueError(f'{folder}: {error}') from None
    card(folder, {**WEIGHTS, **{key: meta[key] for key in (
        'lineage', 'evaluations', 'step', 'seconds') if key in meta}})

  path = folder / 'kept.json'
  return Edge(path, {'lineage': LINEAGE, 'evaluations': [EVALUATION],
                     'step': 3, 'seconds': 20.}, read, folder)


def run_config(folder):
  return Edge(folder / 'config.json', RUN, lambda: card(folder))


def earlier_config(folder):
  (folder / 'config.json').write_text(json.dumps(
      {**RUN, 'flags': {**FLAGS, 'init_from': str(folder / 'web')}}))
  return Edge(folder / 'web' / 'config.json', {
      **RUN, 'lineage': LINEAGE, 'step': 3}, lambda: card(folder), folder)


def evaluation(folder):
  return Edge(folder / 'eval-valid-paper.json', EVALUATION,
              lambda: card(folder))


def table_config(folder):
  return Edge(folder / 'config.json', RUN,
              lambda: perplexity_table.run_row(folder, 'cd'))


def table_evaluation(folder):
  (folder / 'config.json').write_text(json.dumps(RUN))
  return Edge(folder / 'eval-test-paper.json', EVALUATION,
              lambda: perplexity_table.run_row(folder, 'cd'))


def table_metrics(folder):
  (folder / 'config.json').write_text(json.dumps(RUN))
  return Edge(folder / 'metrics.jsonl', METRICS,
              lambda: perplexity_table.run_row(folder, 'cd'), lines=True)


def _listening(folder):
  key, answers = folder / 'key.json', folder / 'answers.json'
  values = {'first': 'ours', 'sheets': {'turing-1': [PAIR] * 3}}, {
      'sheet': 'turing-1', 'listener': 'me', 'chosen': ['c1', 'c2', 'c1']}
  for path, value in zip((key, answers), values, strict=True):
    path.write_text(json.dumps(value))
  return (key, answers), values, lambda: analysis.to_text(analysis.summarise(
      analysis.read_key(key), [answers]))


def listening_key(folder):
  paths, values, read = _listening(folder)
  return Edge(paths[0], values[0], read, folder)


def listening_answers(folder):
  paths, values, read = _listening(folder)
  return Edge(paths[1], values[1], read)


def index(folder):
  """Of shards that are as it says; without a checksum, as old ones."""
  shards.write_split(folder, 'train', [('a', SONG), ('b', SONG)],
                     metadata={'seed': 1})
  path = folder / 'train.json'
  good = json.loads(path.read_bytes())
  del good['checksum']
  assert shard_index.load(json.dumps(good).encode())
  return Edge(path, good, lambda: stats.measure(shards.Corpus(folder, 'train')),
              folder)


EDGES = [metrics_json, samples_json, weights_config, run_config,
         earlier_config, evaluation, table_config, table_evaluation,
         table_metrics, listening_key, listening_answers, index]
