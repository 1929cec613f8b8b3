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

from experiments import evaluate, models, options, run, train
from lakhnes_jax import events
from lakhnes_jax.data import shards
from lakhnes_jax.formats import song_files
from lakhnes_jax.generation import sample
from lakhnes_jax.model import transformer_xl
from lakhnes_jax.model.language_model import LanguageModel
from lakhnes_jax.training import evaluate as evaluation
from lakhnes_jax.training import loop
from lakhnes_jax.weights import weights_folder
from support import experiments_run

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


def test_flag_files_are_found_here_or_in_the_package(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv('HOME', str(tmp_path))
  inside = options.expand_flagfiles(['x', '--flagfile=nes.flags', '--seed=1'])
  assert (inside[:2], inside[-1]) == (['x', '--mode=train'], '--seed=1')
  assert options.expand_flagfiles(['--flagfile', 'nes.flags']) == inside[1:-1]
  (tmp_path / 'nes.flags').write_text('--seed=2\n')
  (tmp_path / 'all.flags').write_text(
      '\ufeff# Mine.\n\n  --flagfile=nes.flags\n//\n--seed=3', 'utf-8')
  for name in ('all.flags', '~/all.flags'):
    assert options.expand_flagfiles([f'--flagfile={name}', '--seed=4']) == [
        '--seed=2', '--seed=3', '--seed=4']


def test_flag_files_that_are_none(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'circle').write_text('--flagfile=circle')
  (tmp_path / 'noise').write_bytes(bytes(range(256)))
  for name, words in (('no.flags', r'no such flag file.*pretrain\.flags'),
                      ('circle', 'circle: flag files name each other'),
                      ('noise', 'noise: is no text'), ('.', r'\.: a folder'),
                      ('', 'no such flag file')):
    with pytest.raises((OSError, ValueError), match=words):
      options.expand_flagfiles([f'--flagfile={name}'])


@pytest.mark.parametrize('line, reason', [
    ('--workdir', '--workdir: its value is missing'),  # --seed=2 would be it.
    ('--workdir=a --seed=3', 'two flags; give each a line'),
    ('--nlayer=3', 'there is no such flag; --n_layer is one'),
    (f'--{"x" * 5000}=1', 'there is no such flag'),
    ('--noseed', 'there is no such flag'), ('--noremat=1', 'takes no value'),
    ('--remat=maybe', 'Non-boolean'), ('n_layer=3', 'no flag'),
    ('--n_layer=0', 'expected an integer from 1'), ('--', 'no flag'),
    (f'--flagfile={"x" * 300}', 'x: no such flag file'),
    ('--model=gpt', 'should be one of')])
def test_lines_of_flag_files_that_are_refused(tmp_path, line, reason):
  path = tmp_path / 'my.flags'
  path.write_text(f'# Mine.\n{line}\n--seed=2\n')
  said = experiments_run.main(f'--flagfile={path}')
  assert reason in said and '\n' not in said and len(said) < 500
  assert f'{path}: line 2: ' in said or 'no such flag file' in said


def test_flags_that_absl_trips_over():
  assert 'does not take an argument' in experiments_run.main('--noremat=1')
  assert 'so long a name' in experiments_run.main(f'--{"x" * 5000}=1')


def test_paths_of_the_home_folder(monkeypatch):
  monkeypatch.setenv('HOME', '/home/me')
  with flagsaver.flagsaver():
    run.parse(['run', '--workdir=~/a', '--input=~/b', '--input=c~'])
    assert flags.FLAGS.workdir == '/home/me/a'
    assert flags.FLAGS.input == ['/home/me/b', 'c~']


@pytest.mark.parametrize('name', sorted(
    path.name for path in options.FLAGS_DIR.glob('*.flags')))
def test_every_flag_file_is_read_and_says_what_it_is(name):
  text = (options.FLAGS_DIR / name).read_text()
  assert text.startswith('# ')
  assert '# Hardware: ' in text
  with flagsaver.flagsaver():
    run.parse(['run', f'--flagfile={name}'])
    kind = name.removesuffix('.flags')
    assert flags.FLAGS.mode == (
        'eval' if kind == 'eval' else 'sample'
        if kind in ('sample', 'continue', 'rhythm', 'voices') else 'train')


def test_the_command_names_what_is_missing(tmp_path):
  done = subprocess.run(
      [sys.executable, '-m', 'experiments.run', '--flagfile=pretrain.flags'],
      cwd=tmp_path, text=True, capture_output=True, check=False, env={
          **os.environ, 'PYTHONPATH': os.pathsep.join(
              [str(ROOT), os.environ.get('PYTHONPATH', '')])})
  assert done.returncode == 1
  assert done.stderr.startswith('experiments.run: data/lakh: ')
  assert 'data_prep.lakh' in done.stderr
  assert len(done.stderr.splitlines()) == 1


def test_eval_prints_json_last(weights_dir, tmp_path, capsys):
  rng = np.random.default_rng(0)
  notes = np.flatnonzero(events.CODE_KIND <= events.NOTEON)
  shards.write_split(tmp_path, 'valid', [
      (f'{i}', ~rng.choice(notes, 30).astype(np.int32)) for i in range(5)])
  assert experiments_run.main(
      '--mode=eval', f'--init_from={weights_dir}', '--split=valid',
      f'--data_dir={tmp_path}', '--eval_tgt_len=8', '--eval_mem_len=8',
      '--eval_batch_size=2', '--protocol=paper,full') == 0
  paper, full = map(json.loads, capsys.readouterr().out.strip().splitlines())
  assert full['split'] == 'valid'
  assert (full['protocol'], full['tokens'], full['songs']) == ('full', 155, 5)
  assert paper['protocol'] == 'paper'
  assert paper['tokens'] < 155
  assert (full['tgt_len'], full['mem_len'], full['lanes']) == (8, 8, 2)
  assert full['ppl'] == pytest.approx(631, rel=.05)  # It has learned nothing.


def test_sample_writes_each_song_in_every_form(weights_dir, tmp_path, capsys):
  assert experiments_run.main(
      '--flagfile=sample.flags', f'--weights={weights_dir}',
      f'--out_dir={tmp_path / "tunes"}', '--n_samples=2', '--length=40',
      '--mem_len=16', '--seed=4') == 0
  assert capsys.readouterr().out.strip().splitlines()[-1] == str(
      tmp_path / 'tunes')
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
  line = experiments_run.main(*(
      flag.format(data=tmp_path, out=tmp_path / 'run') for flag in given))
  assert line.startswith('experiments.run: ') and '\n' not in line
  for word in words:
    assert word in line


@pytest.mark.parametrize('flag', [
    'learning_rate=-1', 'learning_rate=nan', 'forget=2', 'clip=-1', 'clip=inf',
    'temperature=inf', 'temperature=-1', 'top_k=-1', 'top_p=0', 'top_p=1.1',
    'batch_size=0', 'n_layer=0', 'n_head=x', 'seed=-1', 'seed=4294967296',
    'dropout=1', 'tgt_len=0', 'mem_len=-1', 'eval_batch_size=0',
    'grad_accumulation=0', 'steps_per_dispatch=0', 'warmup_steps=-1',
    'max_steps=-1', 'max_minutes=-1', 'log_every=-1', 'n_samples=0',
    'length=0', 'seconds=-1', 'prompt_events=0', 'sample_batch=0',
    'process_id=-1', 'protocol=', 'mode=bake', 'nosuch=1', 'clamp_len=-2',
    'batch_size=99999999999999999999'])
def test_every_flag_has_a_range(flag):
  with flagsaver.flagsaver(), pytest.raises(SystemExit) as error:
    run.parse(['run', f'--{flag}'])
  assert flag.partition('=')[0] in error.value.code.replace(
      'memory_reset_prob', 'forget')
  assert error.value.code.startswith('experiments.run: ')
  assert '\n' not in error.value.code


def test_numbers_all_have_ranges():
  """A flag that is added later, too."""
  for name in options.names():
    flag = flags.FLAGS[name]
    if flag.flag_type() in ('int', 'float'):
      assert isinstance(flag.parser, options._Range), name


def test_configs_have_the_values_of_their_flags():
  with flagsaver.flagsaver():
    run.parse(['run', '--tgt_len=5', '--mem_len=7', '--eval_tgt_len=3',
               '--batch_size=8', '--eval_batch_size=2', '--sample_batch=4',
               '--seed=6', '--top_k=9'])
    assert models.evaluation() == evaluation.EvalConfig(3, 9, 2)
    options.FLAGS.eval_mem_len = 0
    assert models.evaluation().mem_len == 0
    trained = models.from_flags(loop.TrainConfig)
    assert (trained.batch_size, trained.tgt_len, trained.seed) == (8, 5, 6)
    sampled = models.from_flags(sample.SamplingConfig, 'sample_')
    assert (sampled.batch, sampled.seed, sampled.top_k) == (4, 6, 9)


def test_former_names():
  with flagsaver.flagsaver():
    run.parse(['run', '--weights=w', '--forget=.5', '--noend_at_start',
               '--muon'])
    assert flags.FLAGS.optimizer == 'muon'
    assert flags.FLAGS.init_from == options.given('init_from') == 'w'
    assert flags.FLAGS.memory_reset_prob == .5
    assert not {'weights', 'forget'} & options.to_json().keys()


def test_a_picture_that_fails_does_not_end_training(
    monkeypatch, tmp_path, capsys):
  def fails(*args):
    raise RuntimeError('no ink')
  monkeypatch.setattr(train.plot, 'learning_curves', fails)
  with flagsaver.flagsaver(eval_samples=0):
    train._report_on(tmp_path, None, events.TX1)(3, None)
  assert capsys.readouterr().err == (
      'no learning curves: RuntimeError: no ink\n')


def test_eval_honours_dtype_and_format(weights_dir, monkeypatch, capsys):
  given = '--mode=eval', f'--weights={weights_dir}'
  monkeypatch.setattr(models, 'corpus', lambda split: [])
  monkeypatch.setattr(
      evaluate.evaluate, 'evaluate',
      lambda model, *args, **kwargs: {'dtype': model.config.dtype})
  for dtype in ('bfloat16', 'float32'):
    assert experiments_run.main(*given, f'--dtype={dtype}') == 0
    assert json.loads(capsys.readouterr().out)['dtype'] == dtype
  assert 'the model was trained on tx1' in experiments_run.main(
      *given, '--format=tx2')


@pytest.mark.parametrize('error', [
    RuntimeError('RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes'),
    MemoryError()])
def test_out_of_memory_is_one_line(monkeypatch, error):
  def fails():
    raise error
  monkeypatch.setattr(evaluate, 'main', fails)
  line = experiments_run.main('--mode=eval')
  assert line.startswith('experiments.run: out of memory; a smaller')
