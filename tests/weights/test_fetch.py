"""Downloads from a server of our own that fails in many ways."""

import numpy as np
import pytest

from lakhnes_jax.weights import fetch

DATA = np.random.default_rng(0).bytes(3 * 2**20 + 12345)


def files_in(folder):
  return {p.relative_to(folder).as_posix(): p.read_bytes()
          for p in folder.rglob('*') if p.is_file()}


@pytest.fixture(autouse=True)
def data(server):
  server.files['/data'] = DATA


def test_whole(server, tmp_path):
  fetch.fetch(f'{server.url}/data', tmp_path / 'new' / 'x')
  assert files_in(tmp_path) == {'new/x': DATA}


@pytest.mark.parametrize('ranges', [True, False])
def test_goes_on_after_breaking_off(server, tmp_path, ranges):
  server.break_off, server.ranges = 2, ranges
  fetch.fetch(f'{server.url}/data', tmp_path / 'x', pause=0)
  assert files_in(tmp_path) == {'x': DATA}
  half = len(DATA) // 2
  half_of_rest = half + (len(DATA) - half) // 2 if ranges else half
  assert [asked for _, asked in server.requests] == [
      None, f'bytes={half}-', f'bytes={half_of_rest}-']


def test_goes_on_in_another_run(server, tmp_path):
  (tmp_path / 'x.part').write_bytes(DATA[:10**6])
  fetch.fetch(f'{server.url}/data', tmp_path / 'x')
  assert files_in(tmp_path) == {'x': DATA}
  assert server.requests == [('/data', 'bytes=1000000-')]


def test_part_that_is_whole(server, tmp_path):
  (tmp_path / 'x.part').write_bytes(DATA)
  fetch.fetch(f'{server.url}/data', tmp_path / 'x')
  assert files_in(tmp_path) == {'x': DATA}


def test_part_of_something_longer_is_dropped(server, tmp_path):
  (tmp_path / 'x.part').write_bytes(DATA + b'more')
  fetch.fetch(f'{server.url}/data', tmp_path / 'x', pause=0)
  assert files_in(tmp_path) == {'x': DATA}


def test_gives_up_where_nothing_more_comes(server, tmp_path):
  server.status = 503
  with pytest.raises(OSError, match=r'503.*tried 5 times'):
    fetch.fetch(f'{server.url}/data', tmp_path / 'x', pause=0)
  assert len(server.requests) == 5


def test_what_is_not_there_is_not_asked_for_again(server, tmp_path):
  with pytest.raises(OSError, match='404'):
    fetch.fetch(f'{server.url}/nothing', tmp_path / 'x')
  assert len(server.requests) == 1
