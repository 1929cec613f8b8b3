"""What people's files and terminals are like, for every command alike."""

import contextlib
import importlib
import io
import os

import numpy as np
import pytest

from data_prep import compose_chip, compose_web
from lakhnes_jax import atomic
from lakhnes_jax.data import shards
from lakhnes_jax.formats import song_files

COMMANDS = ('compose', 'convert', 'download', 'instruments', 'lakh', 'nesmdb',
            'prepare', 'stats', 'tracker')
LATIN = os.fsdecode(b'caf\xe9')  # No UTF-8.
LONG = 'n' * 250


@pytest.fixture
def home(tmp_path, monkeypatch):
  """A home folder with songs as macOS, long ago and long names leave them."""
  song = compose_chip.compose_game(np.random.default_rng(0), 0)[0][1]
  file = io.BytesIO()
  compose_web.compose(np.random.default_rng(1))[1].save(file=file)
  for name in (LATIN, '曲', LONG):
    song_files.write_song(tmp_path / 'chip' / 'train' / f'{name}.mid', song)
    song_files.write_song(tmp_path / 'mine' / f'{name}.mid', song)
    atomic.write(tmp_path / 'web' / f'{name}.mid', file.getvalue())
  for folder in ('chip/train', 'mine', 'web'):
    for name in ('._曲.mid', '__MACOSX/曲.mid'):
      atomic.write(tmp_path / folder / name, b'\0\5\x16\7')
  monkeypatch.setenv('HOME', str(tmp_path))
  monkeypatch.chdir(tmp_path)
  return tmp_path


def run(command, *arguments):
  """Runs a command on a Windows console; returns its status and output."""
  out = io.TextIOWrapper(io.BytesIO(), encoding='cp1252', write_through=True)
  main = importlib.import_module(f'data_prep.{command}').main
  with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
    try:
      status = main(list(arguments))
    except SystemExit as ended:
      status = ended.code
  return status, out.buffer.getvalue().decode('cp1252')


@pytest.mark.parametrize('command', COMMANDS)
def test_help(command):
  for flag in ('-h', '--help'):
    status, text = run(command, flag)
    assert status == 0
    assert text.count(f'python -m data_prep.{command}') >= 2


@pytest.mark.parametrize('command, folder', [
    ('nesmdb', 'chip'), ('prepare', 'mine'), ('lakh', 'web')])
def test_home_names_and_macos(home, command, folder):
  flags = {'prepare': ['--valid=0', '--test=0'], 'nesmdb': [],
           'lakh': ['--valid_percent=0']}[command]
  status, text = run(command, f'--input=~/{folder}', '--output=~/out',
                     '--workers=1', *flags)
  assert status == 0, text
  assert not (home / '~').exists()
  names = shards.Corpus(home / 'out', 'train').names
  known = {r'caf\udce9', '曲', LONG}
  assert {name.split('.')[0] for name in names} <= known
  if command == 'nesmdb':
    assert set(names) == known
  else:
    text = (home / 'out/manifest.tsv').read_text('utf-8')
    assert {line.split('.')[0] for line in text.splitlines()[1:]} == known
  assert run('stats', '~/out')[0] == 0
  if command == 'nesmdb':
    status, text = run('tracker', '--input=~/out', '--workers=1')
    assert status == 0, text
    status, text = run('tracker', '--input=~/chip')
    assert status == 1 and "no split 'train' here" in text


def test_convert(home):
  status, text = run('convert', '~/mine', '--to=tx1.txt', '--out=~/out',
                     '--workers=1')
  assert status == 1  # 250 bytes and .tx1.txt are too many.
  assert text.count('bad file: ') == 1
  assert sorted(path.name for path in (home / 'out').iterdir()) == sorted(
      [f'{LATIN}.tx1.txt', '曲.tx1.txt'])
  assert run('convert', f'~/mine/{LATIN}.mid', f'~/mine/{LONG}.mid', '--to=vgm',
             '--out=~/vgm', '--workers=1')[0] == 0
  status, text = run('convert', f'~/{LATIN}/*', '--to=vgm', '--out=x')
  assert status == 1
  assert r'caf\udce9/*: no such file' in text
