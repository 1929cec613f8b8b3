"""Mutated files never crash, hang or fill the memory; each gives a reason.

What is done to them, and with them, is in `support/fuzzing.py`; many more are
tried by `faults/test_inputs.py`.
"""

import sys

import pytest

from support import fuzz_runs, fuzzing

if sys.platform == 'win32':
  pytest.skip('needs the timers and limits of POSIX', allow_module_level=True)


@pytest.fixture(scope='module')
def bases(tmp_path_factory):
  folder = tmp_path_factory.mktemp('bases')
  fuzz_runs.write_bases(folder)
  return folder


def test_some_files_of_each_kind(bases):
  results = fuzz_runs.fuzz(bases, 'web=60', 'mid=40', 'vgm=40', *(
      # Reading NSF runs its program for as long as the song is.
      f'{kind}={8 if kind == "nsf" else 20}'
      for kind in (*fuzz_runs.SONG_KINDS[2:], 'shards', 'tar')))
  assert sum(r['result'] + r['reason'] for r in results) == 368


@pytest.mark.slow
def test_what_is_read_is_rendered(bases):
  fuzz_runs.fuzz(bases, 'mid=40', 'vgm=60', '--render')


def test_what_is_a_clear_reason():
  assert fuzzing._reason(ValueError('a.mid: cut off')) is None
  for error in (KeyError('x'), ValueError(''), ValueError('two\nlines'),
                ValueError('x' * 1000), MemoryError()):
    assert fuzzing._reason(error)
