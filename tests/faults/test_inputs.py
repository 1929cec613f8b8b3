"""Mutated files for every reader: a result, or one line that names the file."""

import pytest

from support import fuzz_runs

pytestmark = pytest.mark.faults
# Of a hundred files, how many are of each kind.
SHARES = {
    'web': 20, 'mid': 18, 'vgm': 18, 'nlm.pkl': 4, 'ndf.txt': 4, 'ndr.txt': 4,
    'tx1.txt': 3, 'tx2.txt': 3, 'exprsco.pkl': 3, 'seprsco.pkl': 3,
    'blndsco.pkl': 3, 'shards': 4, 'tar': 4, 'weights': 3, 'nsf': 3,
    'famitracker.txt': 3}


@pytest.fixture(scope='module')
def bases(tmp_path_factory, real_data):
  folder = tmp_path_factory.mktemp('bases')
  fuzz_runs.write_bases(folder)
  fuzz_runs.add_real_files(folder, real_data)
  return folder


def test_mutated_files(bases, n_faults):
  results = fuzz_runs.fuzz(bases, *(
      f'{kind}={share * n_faults}' for kind, share in SHARES.items()))
  assert sum(r['result'] + r['reason'] for r in results) == 100 * n_faults
