"""The paper's table from shards and run directories made here."""

import json
import pathlib

import numpy as np
import pytest

from experiments import perplexity_table
from experiments.baselines import ngram
from lakhnes_jax import events
from lakhnes_jax.data import shards

Row = perplexity_table.Row
TXL = {'model': 'txl', 'format': 'tx1', 'n_layer': 12, 'n_head': 8,
       'd_model': 512, 'd_head': 64, 'd_inner': 2048, 'dropout': .1,
       'learning_rate': 2.5e-4}
LSTM = {'model': 'lstm', 'format': 'tx1', 'n_layer': 1, 'd_model': 8,
        'n_head': 8, 'dropout': 0.}


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory) -> pathlib.Path:
  folder = tmp_path_factory.mktemp('shards')
  rng = np.random.default_rng(1)
  for split in ('train', 'valid'):
    shards.write_split(folder, split, [
        (str(i), ~rng.integers(0, 9, 40).astype(np.int32)) for i in range(5)])
  return folder


def _run_dir(folder: pathlib.Path, settings, checksum, *, lines=(), **evals):
  folder.mkdir(parents=True)
  (folder / 'config.json').write_text(json.dumps(
      {'flags': settings, 'data': {'valid': checksum}}))
  (folder / 'metrics.jsonl').write_text(
      ''.join(json.dumps(line) + '\n' for line in lines))
  for split, ppl in evals.items():
    (folder / f'eval-{split}-paper.json').write_text(
        json.dumps({'split': split, 'protocol': 'paper', 'ppl': ppl}))


LINES = [
    {'step': 1, 'kind': 'train', 'epoch': 0, 'loss': 3.},
    {'step': 2, 'kind': 'train', 'epoch': 4, 'loss': 2.},
    {'step': 2, 'kind': 'valid', 'loss': 1., 'ppl': 2.7182},
    {'step': 3, 'kind': 'train', 'epoch': 6, 'loss': 1.},
    {'step': 3, 'kind': 'valid', 'loss': 2., 'ppl': 7.389}]


def test_a_run_directory_gives_a_row(tmp_path):
  _run_dir(tmp_path / 'a', TXL, 'same', lines=LINES, test=12.5)
  assert perplexity_table.run_row(tmp_path / 'a', 'same') == Row(
      41_274_487, 5, 2.7182, 12.5)
  _run_dir(tmp_path / 'b', TXL, 'other', lines=LINES)
  assert perplexity_table.run_row(tmp_path / 'b', 'same') == Row(
      41_274_487, 5, None, None)
  _run_dir(tmp_path / 'c', LSTM, 'other', lines=LINES, valid=3.5)
  # Embedding and output bias; two kernels and a bias.
  assert perplexity_table.run_row(tmp_path / 'c', 'same') == Row(
      631 * 8 + 631 + 2 * 8 * 32 + 32, 5, 3.5, None)
  _run_dir(tmp_path / 'd', LSTM, 'same')
  assert perplexity_table.run_row(tmp_path / 'd', 'same').epochs is None


def test_damaged_runs_are_named(tmp_path):
  _run_dir(tmp_path / 'a', {**TXL, 'model': 'rnn'}, 'same')
  with pytest.raises(ValueError, match=r'a/config.json: no such model'):
    perplexity_table.run_row(tmp_path / 'a', 'same')
  (tmp_path / 'a/config.json').write_text('{')
  with pytest.raises(ValueError, match=r'a/config.json: damaged'):
    perplexity_table.run_row(tmp_path / 'a', 'same')


def test_runs_are_found_by_name(tmp_path):
  for name in ('x/nes', 'x/mine', 'y/nes'):
    _run_dir(tmp_path / name, LSTM, '')
  (tmp_path / 'x/notes').mkdir()
  assert perplexity_table.find_runs([tmp_path / 'x']) == {
      'nes': tmp_path / 'x/nes', 'mine': tmp_path / 'x/mine'}
  assert perplexity_table.find_runs([tmp_path / 'x/mine', tmp_path / 'y']) == {
      'nes': tmp_path / 'y/nes', 'mine': tmp_path / 'x/mine'}
  with pytest.raises(ValueError, match='the same name'):
    perplexity_table.find_runs([tmp_path / 'x', tmp_path / 'y'])
  with pytest.raises(FileNotFoundError, match='nowhere is no folder'):
    perplexity_table.find_runs([tmp_path / 'nowhere'])


def test_command_prints_and_writes_the_table(data_dir, tmp_path, capsys):
  checksum = shards.Corpus(data_dir, 'valid').checksum
  _run_dir(tmp_path / 'nes', LSTM, checksum, lines=LINES, test=3.4567)
  for name in ('other', 'mine', 'third', 'zeroth'):
    _run_dir(tmp_path / name, LSTM, checksum, valid=12.345)
  perplexity_table.main([f'--data_dir={data_dir}', '--runs', str(tmp_path)])
  *lines, path = capsys.readouterr().out.splitlines()
  assert pathlib.Path(path) == tmp_path / 'perplexity.md'
  assert pathlib.Path(path).read_text() == '\n'.join(lines) + '\n'
  rows = [[cell.strip() for cell in line.strip('|').split('|')]
          for line in lines if line.startswith('|')]
  assert {len(row) for row in rows} == {10}
  cells = {row[1] or row[0]: row[2:] for row in rows}
  params = f'{631 * 9 + 2 * 8 * 32 + 32:,}'
  assert cells['nes'] == [params, '5', '2.718', '3.457', '41M', '76', '4.099',
                          '3.501']
  assert cells['mine'] == [params, '', '12.35', '', '', '', '', '']
  assert cells['finetune'] == ['', '', '', '', '41M', '250', '2.800', '2.460']
  assert cells['Random'] == ['0', '0', '631.00', '', '0', '0', '', '631.00']
  train, valid = (ngram.read(shards.Corpus(data_dir, split), events.TX1)
                  for split in ('train', 'valid'))
  unigram = ngram.perplexity(ngram.NGrams(train, 631, 1).backoff(valid))
  assert cells['Unigram'][:4] == ['631', '1', f'{unigram:.3f}', '']
  assert [row[1] for row in rows[-5:]] == [
      'finetune', 'mine', 'other', 'third', 'zeroth']


def test_command_says_what_is_missing(data_dir, tmp_path):
  for arguments, word in (
      ([f'--data_dir={tmp_path}', '--runs', tmp_path], 'data_prep.nesmdb'),
      ([f'--data_dir={data_dir}', '--runs', tmp_path / 'no'], 'no folder')):
    with pytest.raises(SystemExit) as error:
      perplexity_table.main([str(argument) for argument in arguments])
    assert error.value.code.startswith('experiments.perplexity_table: ')
    assert word in error.value.code and '\n' not in error.value.code
