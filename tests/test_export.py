"""Exported runs: the files, their use as weights, and the model card."""

import hashlib
import json
import os
import pathlib
import sys

import jax
import numpy as np
import pytest

from experiments import run as run_lib
from lakhnes_jax import events as ev
from lakhnes_jax import export, file_lock
from lakhnes_jax.data import shards
from lakhnes_jax.generation import load, tasks
from lakhnes_jax.model import language_model, transformer_xl
from lakhnes_jax.model.language_model import LanguageModel
from lakhnes_jax.weights import weights_folder

CONFIG = transformer_xl.ModelConfig(
    n_token=631, n_layer=1, n_head=2, d_model=8, d_head=4, d_inner=12)


@pytest.fixture
def run(tmp_path):
  """A weights folder with what a run directory says about itself."""
  folder = tmp_path / 'my run'
  params = jax.device_get(LanguageModel(CONFIG).init_params(
      jax.random.key(0)))
  weights_folder.save(folder, params, {
      'model': 'txl', 'config': CONFIG.to_dict(), 'format': 'tx1',
      'mem_len': 16, 'step': 1234, 'seconds': 5400., 'best': 1.5,
      'data': {'songs': [1, 2]}, 'since_line': [3.]})
  (folder / weights_folder.SUMS).unlink()  # As the config is changed.
  meta = json.loads((folder / 'config.json').read_text())
  (folder / 'config.json').write_text(json.dumps({
      **meta, 'flags': {'learning_rate': .002, 'augment': ['trim'],
                        'data_dir': '/home/me', 'init_from': 'web'},
      'versions': {'jax': '0.0.1'}, 'git_revision': 'abc', 'device': 'abacus',
      'n_devices': 3, 'data': {'train': 'feed'}}))
  for protocol, ppl in (('paper', 3.25), ('full', 3.3)):
    (folder / f'eval-valid-{protocol}.json').write_text(json.dumps({
        'split': 'valid', 'protocol': protocol, 'tokens': 99, 'mem_len': 16,
        'ppl': ppl}))
  return folder


@pytest.mark.parametrize('dtype, tolerance', [('bfloat16', 2**-8),
                                              ('float32', 0)])
def test_weights_are_those_of_the_run(run, tmp_path, dtype, tolerance):
  export.main([str(run), f'--out={tmp_path / "out"}', f'--dtype={dtype}'])
  model, params, meta = weights_folder.load(tmp_path / 'out')
  _, expected, _ = weights_folder.load(run)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance),
               params, expected)
  assert model.config == CONFIG
  assert meta['mem_len'] == 16
  assert 'since_line' not in meta


def test_card_has_the_numbers_and_not_the_paths(run, tmp_path):
  (tmp_path / 'notes.md').write_text('## Listening\n\nIt hums.')
  export.main([str(run), f'--out={tmp_path / "out"}', '--name=Hummer',
               f'--notes={tmp_path / "notes.md"}'])
  card = (tmp_path / 'out/README.md').read_text()
  for words in ('# Hummer\n', 'for 1,234 steps in 2 runs, and in some of an '
                'unknown number.', '| valid | full | 99 | 16 | 3.300',
                'It hums.', '| `web` |  |  |  | not known',
                '| `my run` | 1,234 | 1.5 | `feed` | '
                '`--augment=trim --learning_rate=0.002` |',
                'The last run: on 3 abacus, revision `abc`, jax 0.0.1.',
                f'of {language_model.n_params(weights_folder.load(run)[1]):,} '
                'par'):
    assert words in card, words
  assert '/home/me' not in card


def test_memory_for_sampling(run, tmp_path):
  export.main([str(run), f'--out={tmp_path / "out"}', '--mem_len=7'])
  assert load.load(run).mem_len == 16
  assert load.load(tmp_path / 'out').mem_len == 7


def test_card_has_the_whole_line_of_runs(run, tmp_path):
  """Of run directories, through an exported folder, and of what it exports."""
  def of(name, origin, **more):
    (tmp_path / name).mkdir()
    (tmp_path / name / 'config.json').write_text(json.dumps({
        'flags': {'seed': 3, **origin}, 'data': {'train': name}, **more}))
    (tmp_path / name / 'metrics.jsonl').write_text(''.join(
        json.dumps({'kind': 'valid', 'step': step, 'loss': loss}) + '\n'
        for step, loss in ((10, 2.), (20, 1.), (30, 3.))))

  of('first', {})
  of('second', {'resume_from': str(tmp_path / 'first'), 'init_from': 'no'})
  config = json.loads((run / 'config.json').read_text())
  config['flags']['init_from'] = str(tmp_path / 'second')
  (run / 'config.json').write_text(json.dumps(config))
  export.main([str(run), f'--out={tmp_path / "a"}'])
  of('fourth', {'init_from': str(tmp_path / 'a')})
  # As if the fourth had these weights: its directory has no checkpoint.
  weights = weights_folder.read(tmp_path / 'a')
  weights_folder.save(tmp_path / 'fifth', weights[0]['params'], {
      **{k: v for k, v in weights[1].items() if k != 'lineage'}, 'step': 7,
      'flags': {'init_from': str(tmp_path / 'fourth')}})
  export.main([str(tmp_path / 'fifth'), f'--out={tmp_path / "b"}'])
  export.main([str(tmp_path / 'b'), f'--out={tmp_path / "c"}', '--name=x'])
  card = (tmp_path / 'c/README.md').read_text()
  rows = [line.split('|')[1:4] for line in card.splitlines()
          if line.startswith('| `')]
  assert [(row[0].strip(), row[1].strip()) for row in rows] == [
      ('`first`', '20'), ('`second`', '20'), ('`my run`', '1,234'),
      ('`fourth`', '20'), ('`fifth`', '7')]
  assert 'for 1,301 steps in 5 runs.' in card
  assert '| valid | full | 99 | 16 | 3.300' in card  # They were exported too.


def test_what_import_torch_writes(run, tmp_path):
  """It knows neither steps nor a memory length."""
  tree, meta = weights_folder.read(run)
  weights_folder.save(tmp_path / 'imported', tree['params'], {
      **{key: meta[key] for key in ('model', 'config', 'format')},
      'source': 'model.pt'})
  export.main([str(tmp_path / 'imported'), f'--out={tmp_path / "out"}'])
  card = (tmp_path / 'out/README.md').read_text()
  assert 'imported from `model.pt`.' in card
  assert 'Not evaluated.' in card


def test_where_lanes_stand_is_no_part_of_the_weights(run, tmp_path):
  config = json.loads((run / 'config.json').read_text())
  config['data'] = {'songs': [1, 2]}
  (run / 'config.json').write_text(json.dumps(config))
  export.main([str(run), f'--out={tmp_path / "out"}'])
  found = json.loads((tmp_path / 'out/config.json').read_text())
  assert not {'data', 'since_line'} & found.keys()
  assert 'data' not in found['lineage'][-1]


def test_a_config_that_is_damaged_is_named(run, tmp_path):
  (tmp_path / 'web').mkdir()
  (tmp_path / 'web/config.json').write_text('{')
  config = json.loads((run / 'config.json').read_text())
  config['flags']['init_from'] = str(tmp_path / 'web')
  (run / 'config.json').write_text(json.dumps(config))
  with pytest.raises(SystemExit, match=r'export: .*web/config\.json: damaged'):
    export.main([str(run), f'--out={tmp_path / "out"}'])


def test_sums_are_of_all_files_at_any_time(run, tmp_path, monkeypatch):
  out, n_checked = tmp_path / 'out', 0

  def check():
    nonlocal n_checked
    if (out / 'SHA256SUMS').exists():
      n_checked += 1
      lines = (out / 'SHA256SUMS').read_text().splitlines()
      assert {tuple(line.split('  ')) for line in lines} == {
          (hashlib.sha256(path.read_bytes()).hexdigest(), path.name)
          for path in out.iterdir()
          if path.name != 'SHA256SUMS' and path.suffix != '.tmp'}

  def replace(source, path, real=os.replace):
    real(source, path)
    check()

  export.main([str(run), f'--out={out}'])
  check()
  monkeypatch.setattr(os, 'replace', replace)
  export.main([str(run), f'--out={out}', '--name=another'])
  assert n_checked == 2


def test_a_critic_of_its_own_songs(run, tmp_path, monkeypatch):
  monkeypatch.setattr(export, '_SAMPLES', 12)
  monkeypatch.setattr(export, '_LIMITS', tasks.Limits(60))
  note = ev.event(ev.P1, ev.NOTEON, 60)
  songs = [np.array([note, wait] * 400, np.int32)
           for wait in (4000, 5000, 9, 6000)]
  shards.write_split(tmp_path / 'data', 'train', [
      (str(i), song) for i, song in enumerate(songs)])
  export.main([str(run), f'--out={tmp_path / "out"}',
               f'--critic_of={tmp_path / "data"}'])
  _, _, meta = weights_folder.load(tmp_path / 'out')
  found = {row['feature']: row for row in meta['critic']['features']}
  # Of the songs that last 30 seconds.
  rates = np.array([44100 / wait for wait in (4000, 5000, 6000)])
  assert found['note_density']['mean'] == pytest.approx(rates.mean(), .01)
  assert found['note_density']['deviation'] == pytest.approx(rates.std(), .05)
  assert any(row['weight'] for row in found.values())
  with pytest.raises(SystemExit, match="nowhere: no split 'train' here"):
    export.main([str(run), f'--out={tmp_path / "out"}',
                 f'--critic_of={tmp_path / "nowhere"}'])


def test_no_critic_without_sklearn(run, tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'sklearn', None)
  with pytest.raises(SystemExit, match=r'lakhnes_jax\[metrics\]'):
    export.main([str(run), f'--out={tmp_path / "out"}',
                 f'--critic_of={tmp_path}'])
  assert not (tmp_path / 'out').exists()  # Before anything takes time.


def test_one_process_at_a_time(run, tmp_path):
  with file_lock.exclusive(tmp_path / 'out'):
    with pytest.raises(OSError, match='out: another process is writing'):
      export.export(str(run), tmp_path / 'out')
    assert list((tmp_path / 'out').iterdir()) == []


def test_nothing_to_export(tmp_path):
  with pytest.raises(SystemExit, match=r'export: .*nowhere'):
    export.main([str(tmp_path / 'nowhere'), f'--out={tmp_path / "out"}'])
  assert not (tmp_path / 'out').exists()


def test_mean(run, tmp_path):
  model, ours, meta = weights_folder.load(run)
  others = [jax.tree.map(lambda x, more=more: x + more, ours)
            for more in (2, 7)]
  for other in others:
    del other['output_bias']  # Ours alone has it.
  del others[0]['content_bias']
  for name, other in zip(('p', 'q'), others, strict=True):
    weights_folder.save(tmp_path / name, other,
                        {**meta, 'config': model.to_dict()})
  export.main([str(run), '--average', str(tmp_path / 'p'), str(tmp_path / 'q'),
                '--dtype=float32', f'--out={tmp_path / "out"}'])
  _, params, meta = weights_folder.load(tmp_path / 'out')
  np.testing.assert_array_equal(params.pop('output_bias'),
                                ours.pop('output_bias'))
  np.testing.assert_allclose(params.pop('content_bias'),
                             ours.pop('content_bias') + 3.5, rtol=1e-6)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b + 3, rtol=1e-6),
               params, ours)
  assert 'best' not in meta
  card = (tmp_path / 'out/README.md').read_text()
  assert 'averaged with `p`, `q` |' in card
  assert str(tmp_path) not in card


def test_card_of_a_folder_packed_when_a_mean_was_of_two(run, tmp_path):
  config = json.loads((run / 'config.json').read_text())
  (run / 'config.json').write_text(json.dumps(
      {**config, 'averaged_with': 'fifth'}))
  export.main([str(run), f'--out={tmp_path / "out"}'])
  assert 'averaged with `fifth` |' in (
      tmp_path / 'out/README.md').read_text()


def test_no_mean_of_other_shapes(run, tmp_path):
  model, params, meta = weights_folder.load(run)
  params['output_bias'] = params['output_bias'][:-1]
  weights_folder.save(tmp_path / 'other', params,
                      {**meta, 'config': model.to_dict()})
  with pytest.raises(SystemExit, match=r'other: output_bias is .*\(630,\)'):
    export.main([str(run), f'--average={tmp_path / "other"}',
                  f'--out={tmp_path / "out"}'])
  assert not (tmp_path / 'out').exists()


def test_a_critic_reads_songs_as_sample_flags_draws_them():
  flags = dict(
      line.removeprefix('--').split('=') for line in (
          pathlib.Path(run_lib.__file__).parent / 'flags/sample.flags'
      ).read_text().splitlines() if '=' in line and line.startswith('--'))
  sampling, limits = export._SAMPLING, export._LIMITS
  for name, value in (
      ('temperature', sampling.temperature),
      ('top_k', sampling.top_k),
      ('tail_p', sampling.tail_p),
      ('context_weight', sampling.context_weight), ('length', limits.events),
      ('seconds', limits.seconds)):
    assert float(flags[name]) == value, name
