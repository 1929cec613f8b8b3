"""Good files of each kind, and runs of `support.fuzzing` over them."""

import io
import json
import os
import pathlib
import subprocess
import sys
import tarfile

import numpy as np

from data_prep import compose_chip, compose_web
from lakhnes_jax import atomic
from lakhnes_jax.formats import song_files

TESTS = pathlib.Path(__file__).parents[1]
SONG_KINDS = ('mid', 'vgm', 'nlm.pkl', 'ndf.txt', 'ndr.txt', 'tx1.txt',
              'tx2.txt', 'exprsco.pkl', 'seprsco.pkl', 'blndsco.pkl', 'nsf',
              'famitracker.txt')
_OWN = ('shards', 'weights')  # These make their own good files.


def write_bases(folder: pathlib.Path) -> None:
  """Writes a folder of good files for each kind."""
  songs = compose_chip.compose_game(np.random.default_rng(0), 0)[:4]
  for kind in SONG_KINDS:
    for name, song in songs:
      song_files.write_song(folder / kind / f'{name}.{kind}', song[:400])
  archive = io.BytesIO()
  with tarfile.open(fileobj=archive, mode='w') as members:
    for number in range(4):
      content = io.BytesIO()
      compose_web.compose(np.random.default_rng(number))[1].save(file=content)
      atomic.write(folder / 'web' / f'{number}.mid', content.getvalue())
      members.add(folder / 'web' / f'{number}.mid',
                  f'{"long" * 30}/{number}.mid')
  atomic.write(folder / 'tar' / 'a.tar', archive.getvalue())
  for kind in _OWN:
    atomic.write(folder / kind / 'none', b'')


def add_real_files(folder: pathlib.Path, real_data: pathlib.Path) -> None:
  """Adds some real songs to good files."""
  for archive, kind, ending, step in (
      ('gm_midi.tar.xz', 'web', '.mid', 9),
      ('nesmdb_midi_train_valid.tar.xz', 'mid', '.mid', 9),
      ('nesmdb_vgm_sample.tar.xz', 'vgm', '.vgm', 3)):
    with tarfile.open(real_data / archive, 'r|xz') as members:
      found = 0
      for number, member in enumerate(members):
        if number % step == 0 and member.name.lower().endswith(ending):
          atomic.write(folder / kind / f'real{number}',
                       members.extractfile(member).read())
          found += 1
        if found == 30:
          break


def fuzz(bases: pathlib.Path, *arguments: str) -> list[dict]:
  """Runs a process that may crash; returns what it says of each kind.

  Raises:
    AssertionError: it crashed, or something else than a reason came out.
  """
  done = subprocess.run(
      [sys.executable, '-m', 'support.fuzzing', bases, *arguments],
      # The checkout is found as by pytest, installed or not.
      cwd=TESTS.parent, env={**os.environ, 'PYTHONPATH': os.pathsep.join(
          map(str, (TESTS, TESTS.parent)))},
      capture_output=True, text=True, check=False)
  assert done.returncode in (0, 1) and done.stdout, done.stderr[-2000:]
  results = json.loads(done.stdout.splitlines()[-1])
  print(*results, sep='\n')
  assert not [failure for result in results for failure in result['failures']]
  for result in results:
    assert result['result'] and result['reason'], result
    assert result['peak_mb'] < 1000, result
  return results
