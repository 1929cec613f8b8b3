"""Arguments of all commands, and output in any encoding."""

import argparse
import importlib
import io
import pathlib
import sys

import pytest

from lakhnes_jax import command_line

# What each command needs, and its numbers. `experiments.run` has its own test.
NUMBERS = {
    'lakhnes_jax.render': (['x', '--out=y'], ['rate', 'fade', 'loops']),
    'lakhnes_jax.app.__main__': ([], ['port']),
    'data_prep.compose': (['--out=y'], ['seed', 'web', 'chip']),
    'data_prep.convert': (['x', '--out=y', '--to=exprsco.pkl'],
                          ['rate', 'loops', 'workers']),
    'data_prep.instruments': (['--input=x'], ['songs', 'rounds', 'workers']),
    'data_prep.lakh': (['--input=x', '--output=y'], [
        'seed', 'workers', 'valid_percent', 'limit', 'examples_per_file']),
    'data_prep.nesmdb': (['--input=x', '--output=y'],
                         ['workers', 'shard_events']),
    'data_prep.prepare': (['--input=x', '--output=y'], [
        'valid', 'test', 'seed', 'examples_per_file', 'workers']),
    'data_prep.tracker': (['--input=x'], ['workers']),
    'experiments.benchmarks.decode': (
        [], ['batch', 'length', 'mem_len', 'repeats']),
    'experiments.benchmarks.fidelity': (['--shared=x'], ['seconds']),
    'experiments.benchmarks.meter': ([], ['composed', 'seed']),
    'experiments.benchmarks.original': ([], ['repeats']),
    'experiments.benchmarks.render': ([], ['seconds']),
    'experiments.benchmarks.tracker': (['--data_dir=x'], ['songs', 'seed']),
    'experiments.benchmarks.train': ([], ['lanes', 'tgt_len', 'mem_len']),
    'experiments.demo': ([], ['seed']),
    'experiments.examples.__main__': ([], ['seed', 'seconds']),
    'experiments.listening.__main__': (
        ['make', '--out=y', '--real=x', '--method=a=x'], ['sheets', 'seed']),
    'experiments.metrics': (['x', '--reference=x'], ['songs', 'seconds'])}


@pytest.mark.parametrize('command, name', [
    (command, name) for command, (_, names) in NUMBERS.items()
    for name in names])
def test_every_number_has_a_range(command, name, monkeypatch, capsys, tmp_path):
  monkeypatch.chdir(tmp_path)
  main = importlib.import_module(command).main
  for value in ('-1', 'nan', 'inf', '1e400', '9' * 30, '9' * 5000, 'x', ''):
    with pytest.raises(SystemExit) as ended:
      main([*NUMBERS[command][0], f'--{name}={value}'])
    assert ended.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert f'--{name}: ' in line and len(line) < 300, value
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('stage, arguments, reason', [
    ('original', ['--shape', '4', '128', '-1'], '--shape: a whole number'),
    ('train', ['--dtype=float16'], '--dtype: invalid choice'),
    ('decode', ['--weights=x'], '--weights needs --data_dir'),
    ('meter', ['--composed=1', '--vgm=x'], '--vgm needs --midi'),
    ('machine', ['--lanes=60'], 'unrecognized arguments: --lanes=60'),
    ('evaluate', ['--lanes=60'], 'unrecognized arguments: --lanes=60'),
    ('__main__', ['--stages=x'], '--stages=x: not one of'),
    ('tracker', ['--data_dir=no'], 'benchmarks.tracker: no'),
    ('fidelity', ['--shared=no'], 'no/data/nesmdb_vgm_sample'),
    ('meter', ['--midi=no'], 'benchmarks.meter: no'),
    ('decode', ['--weights=no', '--data_dir=no'], 'benchmarks.decode: no'),
    ('prepare', ['--data_dir=no'], 'benchmarks.prepare: no')])
def test_benchmarks_refuse_in_a_line(stage, arguments, reason, monkeypatch,
                                     capsys, tmp_path):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(SystemExit) as ended:
    importlib.import_module(f'experiments.benchmarks.{stage}').main(arguments)
  code = ended.value.code
  line = (code if isinstance(code, str) else
          capsys.readouterr().err.splitlines()[-1])
  assert code and reason in line and '\n' not in line
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('low, high, good, bad', [
    (1, 5, ['1', '5', ' 3 '], ['0', '6', '1.5', '1e0']),
    (0, 9, ['0'], ['-0.5', 'true'])])
def test_whole(low, high, good, bad):
  parse = command_line.whole(low, high)
  assert [parse(text) for text in good] == [int(text) for text in good]
  for text in bad:
    with pytest.raises(argparse.ArgumentTypeError,
                       match=f'^a whole number from {low} to {high} expected'):
      parse(text)


def test_home_folders(monkeypatch):
  monkeypatch.setenv('HOME', '/home/me')
  assert command_line.path('~/x') == pathlib.Path('/home/me/x')
  assert command_line.path('~') == pathlib.Path('/home/me')
  for text in ('a/~', '~nobody-of-this-name/x', 'x'):
    assert command_line.path(text) == pathlib.Path(text)


def test_output_in_any_encoding(monkeypatch):
  out = io.TextIOWrapper(io.BytesIO(), encoding='cp1252')
  monkeypatch.setattr(sys, 'stdout', out)
  monkeypatch.setattr(sys, 'stderr', io.StringIO())  # Cannot be changed.
  command_line.escape_output()
  print('é 曲 \udcff', end='', flush=True)
  assert out.buffer.getvalue() == b'\xe9 \\u66f2 \\udcff'
