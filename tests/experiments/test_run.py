"""The command experiments.run: flag files, evaluation, samples, errors."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
import soundfile
from absl import flags
from absl.testing import flagsaver

from experiments import run
from lakhnes_jax import events
from lakhnes_jax.data import shards
from lakhnes_jax.formats import song_files
from lakhnes_jax.model import transformer_xl
from lakhnes_jax.model.language_model import LanguageModel
from lakhnes_jax.weights import weights_folder

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = transformer_xl.ModelConfig(
    n_token=events.TX1.size, n_layer=1, n_head=2, d_model=8, d_head=4,
    d_inner=8)


@pytest.fixture(scope='module')
def weights_dir(tmp_path_factory) -> pathlib.Path:
  folder = tmp_path_factory.mktemp('weights')
  model = LanguageModel(CONFIG)
  weights_folder.save(folder, model.init_params(jax.random.key(0)), {
      'model': model.name, 'config': model.to_dict(), 'format': 'tx1'})
  return folder


def _run(*given: str, cwd: pathlib.Path = ROOT) -> subprocess.CompletedProcess:
  path = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])
  return subprocess.run(
      [sys.executable, '-m', 'experiments.run', *given], cwd=cwd, text=True,
      env={**os.environ, 'PYTHONPATH': path}, capture_output=True, check=False)


def test_flag_files_are_found_here_or_in_the_package(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  inside = str(run.FLAGS_DIR / 'nes.flags')
  assert run.resolve_flagfiles(['x', '--flagfile=nes.flags', '--seed=1']) == [
      'x', f'--flagfile={inside}', '--seed=1']
  assert run.resolve_flagfiles(['x', '--flagfile', 'nes.flags']) == [
      'x', '--flagfile', inside]
  (tmp_path / 'nes.flags').write_text('--seed=2\n')
  assert run.resolve_flagfiles(['x', '--flagfile=nes.flags']) == [
      'x', '--flagfile=nes.flags']
  with pytest.raises(FileNotFoundError, match=r'no\.flags.*pretrain\.flags'):
    run.resolve_flagfiles(['x', '--flagfile=no.flags'])


@pytest.mark.parametrize('name', sorted(
    path.name for path in run.FLAGS_DIR.glob('*.flags')))
def test_every_flag_file_is_read_and_says_what_it_is(name):
  text = (run.FLAGS_DIR / name).read_text()
  assert text.startswith('# ')
  assert '# Hardware: ' in text
  with flagsaver.flagsaver():
    flags.FLAGS(['run', f'--flagfile={run.FLAGS_DIR / name}'])
    kind = name.removesuffix('.flags')
    assert flags.FLAGS.mode == (
        'eval' if kind == 'eval' else 'sample'
        if kind in ('sample', 'continue', 'rhythm', 'voices') else 'train')


def test_the_contract_command_names_what_is_missing(tmp_path):
  done = _run('--flagfile=pretrain.flags', cwd=tmp_path)
  assert done.returncode == 1
  assert done.stderr.startswith('experiments.run: data/lakh: ')
  assert 'data_prep.lakh' in done.stderr
  assert len(done.stderr.splitlines()) == 1


def test_eval_prints_json_last(weights_dir, tmp_path):
  rng = np.random.default_rng(0)
  notes = np.flatnonzero(events.CODE_KIND <= events.NOTEON)
  shards.write_split(tmp_path, 'valid', [
      (f'{i}', ~rng.choice(notes, 30).astype(np.int32)) for i in range(5)])
  done = _run('--mode=eval', f'--init_from={weights_dir}', '--split=valid',
              f'--data_dir={tmp_path}', '--eval_tgt_len=8',
              '--eval_mem_len=8', '--eval_batch_size=2',
              '--protocol=paper,full')
  assert done.returncode == 0, done.stderr
  paper, full = map(json.loads, done.stdout.strip().splitlines())
  assert full['split'] == 'valid'
  assert (full['protocol'], full['tokens'], full['songs']) == ('full', 155, 5)
  assert paper['protocol'] == 'paper'
  assert paper['tokens'] < 155
  assert full['ppl'] == pytest.approx(631, rel=.05)  # It has learned nothing.


def test_sample_writes_each_song_in_every_form(weights_dir, tmp_path):
  done = _run('--flagfile=sample.flags', f'--weights={weights_dir}',
              f'--out_dir={tmp_path / "tunes"}', '--n_samples=2',
              '--length=40', '--mem_len=16', '--seed=4')
  assert done.returncode == 0, done.stderr
  assert done.stdout.strip().splitlines()[-1] == str(tmp_path / 'tunes')
  for name in ('000', '001'):
    song = song_files.read_song(tmp_path / f'tunes/{name}.tx1.txt')
    assert len(song) == 40
    audio, rate = soundfile.read(tmp_path / f'tunes/{name}.wav')
    assert rate == 44100
    assert len(audio) == events.times_of(song)[-1]
    picture = (tmp_path / f'tunes/{name}.png').read_bytes()
    assert picture[:8] == b'\x89PNG\r\n\x1a\n'
    # MIDI keeps the notes: turned to events again, the same pitches sound.
    midi = song_files.read_song(tmp_path / f'tunes/{name}.mid')
    assert events.times_of(midi)[-1] == len(audio)


@pytest.mark.parametrize('given, words', [
    (['--mode=eval'], ['--data_dir']),
    (['--mode=eval', '--init_from=/nowhere'], ['/nowhere']),
    (['--mode=sample', '--workdir=/nowhere'], ['/nowhere', 'no checkpoint']),
    (['stray'], ['stray']),
    (['--n_layer=0', '--data_dir={data}', '--workdir={out}'], ['n_layer']),
    (['--flagfile=no.flags'], ['no.flags', 'nes.flags']),
])
def test_errors_are_one_line(tmp_path, given, words):
  for split in ('train', 'valid'):
    shards.write_split(tmp_path, split, [('a', np.array([1, -1], np.int32))])
  done = _run(*(flag.format(data=tmp_path, out=tmp_path / 'run')
                for flag in given))
  assert done.returncode != 0
  assert 'Traceback' not in done.stderr
  for word in words:
    assert word in done.stderr
