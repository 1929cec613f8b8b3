"""Data for the faults, and how many there are to be.

What is tried, of what can happen to files and processes:

*   kill -9 at any moment: training (which saves and evaluates on its way),
    evaluation, preparation, conversion, download, export (`test_kills`);
    amid each step of saving weights (`tests/weights`).
*   Flipped bits: everything that has checksums, and JSON that has none
    (`test_flips`); songs have none either (`test_inputs`).
*   Mutated input: each reader of songs, archives, shards and weights
    (`test_inputs`), of JSON (`test_json`), flags (`test_flag_files`), checksums
    (`test_sums`), PyTorch's files (`test_torch`), requests (`test_app_calls`
    without a network, `test_app_requests` with one).
*   Two writers (`test_writers`; samples and exports in their own tests).
*   Full disks, and nowhere to write (`test_no_room`).
*   The cases of ../shared (`test_cases`).
"""

import pathlib
import tarfile
import time

import numpy as np
import pytest

from data_prep import compose
from lakhnes_jax import events
from lakhnes_jax.data import shards
from lakhnes_jax.formats import song_files
from support import served_app, victims

HERE = pathlib.Path(__file__).parent
STARTED = time.monotonic()


def pytest_collection_modifyitems(items):
  """Puts kills last; ignores what orbax's threads leave of damaged checkpoints.

  What --faults_minutes leaves no time for is then some of the kills, which are
  other ones in each run, and nothing else. Of orbax's threads the futures end
  after their event loop has; Python says so whenever it collects them, which
  may be in a later test.
  """
  items.sort(key=lambda item: item.path == HERE / 'test_kills.py')
  for item in items:
    if HERE in item.path.parents:
      item.add_marker(pytest.mark.filterwarnings(
          'ignore::pytest.PytestUnraisableExceptionWarning'))


@pytest.fixture(autouse=True)
def in_time(request):
  """Skips what --faults_minutes leaves no time for."""
  minutes = request.config.getoption('--faults_minutes')
  if minutes is not None and time.monotonic() - STARTED > 60 * minutes:
    pytest.skip(f'--faults_minutes={minutes:g} are over')


@pytest.fixture(scope='session')
def n_faults(request) -> int:
  """N of --faults: about N kills, 10 N flipped bits, 100 N mutated files."""
  return request.config.getoption('--faults')


@pytest.fixture(scope='session')
def midi(tmp_path_factory) -> bytes:
  """A MIDI file of the tune that the app's model has for all tasks."""
  path = tmp_path_factory.mktemp('midi') / 'a.mid'
  song_files.write_song(path, served_app.TUNE)
  return path.read_bytes()


@pytest.fixture(scope='session')
def music(tmp_path_factory) -> pathlib.Path:
  """Folders `web` and `chip` of composed songs, and web.tar.gz."""
  folder = tmp_path_factory.mktemp('music')
  assert not compose.main([f'--out={folder}', '--web=24', '--chip=12'])
  with tarfile.open(folder / 'web.tar.gz', 'w:gz') as archive:
    archive.add(folder / 'web', 'web')
  return folder


@pytest.fixture(scope='session')
def corpus(tmp_path_factory) -> pathlib.Path:
  """Shards of random songs: some epochs are 24 steps of 4 lanes."""
  folder = tmp_path_factory.mktemp('corpus')
  rng = np.random.default_rng(1)
  notes = ~np.flatnonzero(events.CODE_KIND <= events.NOTEON)
  for split, n_songs in (('train', 12), ('valid', 4)):
    songs = []
    for i in range(n_songs):
      n = rng.integers(12, 40)
      songs.append((f'{i}', np.stack(
          [rng.integers(1, 5000, n), rng.choice(notes, n)], 1).reshape(-1)))
    shards.write_split(folder, split, songs)
  return folder


@pytest.fixture(scope='session')
def preloaded():
  """Runs `experiments.run` without the seconds that imports take."""
  process = victims.Preloaded()
  yield process
  process.close()


@pytest.fixture(scope='session')
def train(corpus):
  """Returns the flags of a tiny training in a run directory."""
  flags = {
      'data_dir': corpus, 'n_layer': 2, 'n_head': 2, 'd_model': 16, 'd_head': 8,
      'd_inner': 24, 'tgt_len': 8, 'mem_len': 12, 'eval_tgt_len': 4,
      'eval_batch_size': 2, 'batch_size': 4, 'augment': 'all', 'max_steps': 24,
      'log_every': 5, 'eval_every': 8, 'save_every': 2, 'seed': 3,
      'learning_rate': 1e-3}
  return lambda workdir, **changes: [
      f'--{name}={value}' for name, value in
      {**flags, 'workdir': workdir, **changes}.items()]
