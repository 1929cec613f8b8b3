"""Mutated files never crash, hang or fill the memory; each gives a reason.

What is done to them, and with them, is in `support/fuzzing.py`.
"""

import io
import json
import os
import pathlib
import subprocess
import sys
import tarfile

import numpy as np
import pytest

from data_prep import compose_chip, compose_web
from lakhnes_jax import atomic
from lakhnes_jax.formats import song_files
from support import fuzzing

if sys.platform == 'win32':
  pytest.skip('needs the timers and limits of POSIX', allow_module_level=True)

HERE = pathlib.Path(__file__).parent
# The checkout is found as by pytest, installed or not.
ENVIRONMENT = {**os.environ,
               'PYTHONPATH': os.pathsep.join(map(str, (HERE, HERE.parent)))}
SONG_KINDS = ('mid', 'vgm', 'nlm.pkl', 'ndf.txt', 'ndr.txt', 'tx1.txt',
              'tx2.txt', 'exprsco.pkl', 'seprsco.pkl', 'blndsco.pkl')


@pytest.fixture(scope='module')
def bases(tmp_path_factory):
  """A folder of good files for each kind."""
  folder = tmp_path_factory.mktemp('bases')
  songs = compose_chip.compose_game(np.random.default_rng(0), 0)[:4]
  for kind in SONG_KINDS:
    for name, song in songs:
      song_files.write_song(folder / kind / f'{name}.{kind}', song[:400])
  for number in range(4):
    content = io.BytesIO()
    compose_web.compose(np.random.default_rng(number))[1].save(file=content)
    atomic.write(folder / 'web' / f'{number}.mid', content.getvalue())
  atomic.write(folder / 'shards' / 'none', b'')  # These make their own.
  return folder


@pytest.fixture
def with_real_files(bases, real_data):
  """As `bases`, and some real ones."""
  for archive, kind, ending, step in (
      ('gm_midi.tar.xz', 'web', '.mid', 9),
      ('nesmdb_midi_train_valid.tar.xz', 'mid', '.mid', 9),
      ('nesmdb_vgm_sample.tar.xz', 'vgm', '.vgm', 3)):
    with tarfile.open(real_data / archive, 'r|xz') as members:
      found = 0
      for number, member in enumerate(members):
        if number % step == 0 and member.name.lower().endswith(ending):
          atomic.write(bases / kind / f'real{number}',
                             members.extractfile(member).read())
          found += 1
        if found == 30:
          break
  return bases


def fuzz(bases, *arguments):
  """Runs a process that may crash; returns what it says of each kind."""
  done = subprocess.run(
      [sys.executable, '-m', 'support.fuzzing', bases, *arguments],
      cwd=HERE.parent, env=ENVIRONMENT, capture_output=True, text=True,
      check=False)
  assert done.returncode in (0, 1), done.stderr[-2000:]
  results = json.loads(done.stdout.splitlines()[-1])
  print(*results, sep='\n')
  assert not [failure for result in results for failure in result['failures']]
  for result in results:
    assert result['result'] and result['reason'], result
    assert result['peak_mb'] < 1000, result
  return results


def test_some_files_of_each_kind(bases):
  results = fuzz(bases, 'web=60', 'mid=40', 'vgm=40', *(
      f'{kind}=20' for kind in (*SONG_KINDS[2:], 'shards')))
  assert sum(r['result'] + r['reason'] for r in results) == 320


@pytest.mark.slow
def test_ten_thousand(with_real_files):
  results = fuzz(with_real_files, 'web=3500', 'mid=2500', 'vgm=4000')
  assert sum(r['result'] + r['reason'] for r in results) == 10000


@pytest.mark.slow
def test_a_thousand_of_each_other_kind(bases):
  fuzz(bases, *(f'{kind}=1000' for kind in (*SONG_KINDS[2:], 'shards')))


@pytest.mark.slow
def test_what_is_read_is_rendered(bases):
  fuzz(bases, 'mid=40', 'vgm=60', '--render')


def test_what_is_a_clear_reason():
  assert fuzzing._reason(ValueError('a.mid: cut off')) is None
  for error in (KeyError('x'), ValueError(''), ValueError('two\nlines'),
                ValueError('x' * 1000), MemoryError()):
    assert fuzzing._reason(error)
