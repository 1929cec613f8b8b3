"""Several CPU devices and one compilation cache for all tests; real data."""

import atexit
import os
import pathlib
import shutil
import tarfile
import tempfile
from importlib import metadata

if 'PYTEST_XDIST_WORKER' not in os.environ:  # Workers inherit all of this.
  # Most of the time goes into compiling tiny models, and most of that into
  # LLVM's optimisation and into MLIR, by which XLA compiles fusions. jaxlib
  # 0.7 to 0.10 can do without; 0.12 aborts where it is given the flag.
  # Who sets the level gets programs as users have them, as .ci/run does.
  given = os.environ.get('XLA_FLAGS', '')
  if 'xla_backend_optimization_level' not in given:
    if tuple(map(int, metadata.version('jaxlib').split('.')[:2])) < (0, 11):
      given = f'--xla_cpu_use_fusion_emitters=false {given}'
    given = f'--xla_backend_optimization_level=0 {given}'
  os.environ['XLA_FLAGS'] = (
      f'{given} --xla_force_host_platform_device_count=4')
  # Each worker has one core: threads of BLAS and OpenMP that wait for each
  # other keep the others' busy. A tiny logistic regression took 20 times the
  # CPU seconds.
  for name in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS'):
    os.environ.setdefault(name, '1')
  os.environ.setdefault('JAX_PLATFORMS', 'cpu')
  # What one test compiles is loaded by the others, in the other workers and in
  # the processes that tests start.
  if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
    _cache = tempfile.mkdtemp(prefix='lakhnes-tests-')
    atexit.register(shutil.rmtree, _cache, ignore_errors=True)
    os.environ['JAX_COMPILATION_CACHE_DIR'] = _cache
  os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'
  # Which shards were verified is remembered for the tests alone.
  os.environ['XDG_CACHE_HOME'] = os.environ['JAX_COMPILATION_CACHE_DIR']

import jax
import numpy as np
import pytest

from lakhnes_jax.formats import nes_midi
from support.browser import chromium  # noqa: F401  (a fixture)
from support.http_server import server  # noqa: F401  (a fixture)

SHARED = pathlib.Path(
    os.environ.get('LAKHNES_SHARED',
                   pathlib.Path(__file__).parents[2] / 'shared'))


def pytest_addoption(parser):
  parser.addoption(
      '--faults', type=int, default=20, metavar='N',
      help='size of the tests marked so: about N killed processes, 10 N '
      'flipped bits, 100 N mutated files')
  parser.addoption(
      '--faults_minutes', type=float, metavar='M',
      help='after so many minutes no more of these tests begin')


@pytest.fixture(scope='module', autouse=True)
def forget_programs():
  """Lets go of what the tests of a module compiled.

  Each program takes some memory maps, of which Linux allows 65,530 a process;
  XLA crashes where it gets no more.
  """
  yield
  jax.clear_caches()


@pytest.fixture(scope='session')
def oracles() -> pathlib.Path:
  """Folder of reference arrays made with the original programs."""
  if not (SHARED / 'oracles').is_dir():
    pytest.skip(f'no reference data at {SHARED}/oracles')
  return SHARED / 'oracles'


@pytest.fixture(scope='session')
def real_data(tmp_path_factory) -> pathlib.Path:
  """Folder of archives of real NES-MDB and web MIDI files."""
  if not (SHARED / 'data').is_dir():
    pytest.skip(f'no real music at {SHARED}/data')
  return SHARED / 'data'


@pytest.fixture(scope='session')
def real_songs(real_data) -> list[np.ndarray]:
  """The first 40 songs of NES-MDB."""
  songs = []
  with tarfile.open(real_data / 'nesmdb_midi_train_valid.tar.xz',
                    'r|xz') as archive:
    for member in archive:
      if member.name.endswith('.mid'):
        songs.append(nes_midi.read(archive.extractfile(member).read()))
      if len(songs) == 40:
        break
  return songs


@pytest.fixture(scope='session')
def cases() -> pathlib.Path:
  """Folder of small inputs that once showed a fault."""
  if not (SHARED / 'cases').is_dir():
    pytest.skip(f'no cases at {SHARED}/cases')
  return SHARED / 'cases'
