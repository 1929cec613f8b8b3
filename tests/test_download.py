"""Downloads from a server of our own: one that fails, and one that lies."""

import hashlib
import http.server
import io
import tarfile
import threading

import numpy as np
import pytest

from data_prep import download

DATA = np.random.default_rng(0).bytes(3 * 2**20 + 12345)


def pack(members):
  """(name, bytes or TarInfo changes) -> a .tar.gz."""
  buffer = io.BytesIO()
  with tarfile.open(fileobj=buffer, mode='w:gz') as archive:
    for name, content in members:
      info = tarfile.TarInfo(name)
      if isinstance(content, bytes):
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
      else:
        for key, value in content.items():
          setattr(info, key, value)
        archive.addfile(info)
  return buffer.getvalue()


ARCHIVE = pack([('songs', {'type': tarfile.DIRTYPE}),
                ('songs/train/a.mid', b'a' * 1000), ('songs/b.mid', b'bb')])


class Server(http.server.ThreadingHTTPServer):
  """Serves `files`; the first of `break_off` requests end too early."""
  daemon_threads = True

  def __init__(self):
    super().__init__(('127.0.0.1', 0), Handler)
    self.files = {'/data': DATA, '/songs.tar.gz': ARCHIVE}
    self.break_off = 0
    self.status = None
    self.ranges = True
    self.requests = []
    self.url = f'http://127.0.0.1:{self.server_port}'


class Handler(http.server.BaseHTTPRequestHandler):

  def do_GET(self):
    server, data = self.server, self.server.files.get(self.path)
    asked = self.headers.get('Range')
    server.requests.append((self.path, asked))
    if server.status or data is None:
      self.send_error(server.status or 404)
      return
    start = 0
    if asked and server.ranges:
      start = int(asked.removeprefix('bytes=').removesuffix('-'))
      if start >= len(data):
        self.send_response(416)
        self.send_header('Content-Range', f'bytes */{len(data)}')
        self.end_headers()
        return
      self.send_response(206)
    else:
      self.send_response(200)
    rest = data[start:]
    self.send_header('Content-Length', str(len(rest)))
    self.end_headers()
    if server.break_off:
      server.break_off -= 1
      rest = rest[:len(rest) // 2]
    self.wfile.write(rest)

  def log_message(self, *_):
    pass


@pytest.fixture
def server():
  with Server() as server:
    thread = threading.Thread(target=server.serve_forever, args=(.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()


@pytest.fixture
def songs(server, monkeypatch):
  """A data set that lies on the server."""
  data_set = download.DataSet(
      'songs.tar.gz', 'songs', (f'{server.url}/songs.tar.gz',),
      hashlib.sha256(ARCHIVE).hexdigest(), True, 'next {}')
  monkeypatch.setitem(download.DATA_SETS, 'nesmdb', data_set)
  return data_set


def run(tmp_path, *flags):
  return download.main(['nesmdb', f'--out={tmp_path}', *flags])


def files_in(folder):
  return {p.relative_to(folder).as_posix(): p.read_bytes()
          for p in folder.rglob('*') if p.is_file()}


class TestFetch:

  def test_whole(self, server, tmp_path):
    download.fetch(f'{server.url}/data', tmp_path / 'new' / 'x')
    assert files_in(tmp_path) == {'new/x': DATA}

  @pytest.mark.parametrize('ranges', [True, False])
  def test_goes_on_after_breaking_off(self, server, tmp_path, ranges):
    server.break_off, server.ranges = 2, ranges
    download.fetch(f'{server.url}/data', tmp_path / 'x', pause=0)
    assert files_in(tmp_path) == {'x': DATA}
    half = len(DATA) // 2
    half_of_rest = half + (len(DATA) - half) // 2 if ranges else half
    assert [asked for _, asked in server.requests] == [
        None, f'bytes={half}-', f'bytes={half_of_rest}-']

  def test_goes_on_in_another_run(self, server, tmp_path):
    (tmp_path / 'x.part').write_bytes(DATA[:10**6])
    download.fetch(f'{server.url}/data', tmp_path / 'x')
    assert files_in(tmp_path) == {'x': DATA}
    assert server.requests == [('/data', 'bytes=1000000-')]

  def test_part_that_is_whole(self, server, tmp_path):
    (tmp_path / 'x.part').write_bytes(DATA)
    download.fetch(f'{server.url}/data', tmp_path / 'x')
    assert files_in(tmp_path) == {'x': DATA}

  def test_part_of_something_longer_is_dropped(self, server, tmp_path):
    (tmp_path / 'x.part').write_bytes(DATA + b'more')
    download.fetch(f'{server.url}/data', tmp_path / 'x', pause=0)
    assert files_in(tmp_path) == {'x': DATA}

  def test_gives_up_where_nothing_more_comes(self, server, tmp_path):
    server.status = 503
    with pytest.raises(OSError, match=r'503.*tried 5 times'):
      download.fetch(f'{server.url}/data', tmp_path / 'x', pause=0)
    assert len(server.requests) == 5

  def test_what_is_not_there_is_not_asked_for_again(self, server, tmp_path):
    with pytest.raises(OSError, match='404'):
      download.fetch(f'{server.url}/nothing', tmp_path / 'x')
    assert len(server.requests) == 1


class TestCommand:

  def test_downloads_checks_and_unpacks(self, songs, server, tmp_path, capsys):
    assert run(tmp_path) == 0
    unpacked = {'songs/train/a.mid': b'a' * 1000, 'songs/b.mid': b'bb'}
    assert files_in(tmp_path) == unpacked | {'songs.tar.gz': ARCHIVE}
    output = capsys.readouterr().out
    assert f'{songs.sha256} as published' in output
    assert f'next: python -m next {tmp_path / "songs"}' in output
    assert run(tmp_path) == 0  # And once more, without a request.
    assert len(server.requests) == 1
    assert 'there already' in capsys.readouterr().out

  def test_wrong_bytes_are_refused_and_removed(self, songs, server, tmp_path,
                                               capsys):
    server.files['/songs.tar.gz'] = b'<html>Too many downloads</html>'
    assert run(tmp_path) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert 'something else' in error and songs.sha256 in error
    assert '--mirror' in error
    assert not files_in(tmp_path)
    server.files['/songs.tar.gz'] = ARCHIVE
    assert run(tmp_path) == 0

  def test_tries_the_next_place(self, songs, server, tmp_path, monkeypatch,
                                capsys):
    server.files['/lie'] = b'something else'
    monkeypatch.setitem(download.DATA_SETS, 'nesmdb', songs._replace(
        urls=(f'{server.url}/gone', f'{server.url}/lie', *songs.urls)))
    assert run(tmp_path) == 0
    assert capsys.readouterr().err.count('trying the next place') == 2

  def test_mirror(self, songs, server, tmp_path):
    server.files['/elsewhere'] = server.files.pop('/songs.tar.gz')
    assert run(tmp_path) == 1
    assert run(tmp_path, '--mirror=no address') == 1
    assert run(tmp_path, f'--mirror={server.url}/elsewhere') == 0

  def test_local_file(self, songs, server, tmp_path):
    path = tmp_path / 'my.tgz'
    path.write_bytes(ARCHIVE)
    assert run(tmp_path / 'out', f'--file={path}', '--no-unpack') == 0
    assert not (tmp_path / 'out').exists()
    assert run(tmp_path / 'out', f'--file={path}') == 0
    assert len(files_in(tmp_path / 'out')) == 2
    assert not server.requests
    path.write_bytes(ARCHIVE[:-1])
    assert run(tmp_path / 'out', f'--file={path}') == 1
    assert path.exists()  # It is the user's.

  def test_missing_local_file(self, songs, tmp_path, capsys):
    assert run(tmp_path, f'--file={tmp_path / "no.tgz"}') == 1
    assert 'no.tgz' in capsys.readouterr().err


class TestUnpack:

  @pytest.mark.parametrize('member', [
      ('../evil', b'x'), ('/tmp/evil-of-test-download', b'x'),
      ('songs/../../evil', b'x'),
      ('songs/link', {'type': tarfile.SYMTYPE, 'linkname': '/etc'}),
      ('songs/hard', {'type': tarfile.LNKTYPE, 'linkname': 'songs/a.mid'}),
      ('songs/pipe', {'type': tarfile.FIFOTYPE})])
  def test_refuses_what_leads_outside(self, tmp_path, member):
    archive = tmp_path / 'x.tar.gz'
    archive.write_bytes(pack([('songs/a.mid', b'a'), member,
                              ('songs/link/b', b'b')]))
    with pytest.raises(ValueError, match='nothing was unpacked'):
      download.unpack(archive, tmp_path / 'out' / 'songs')
    assert list((tmp_path / 'out').iterdir()) == []
    assert {p.name for p in tmp_path.iterdir()} == {'x.tar.gz', 'out'}

  def test_damaged(self, tmp_path):
    archive = tmp_path / 'x.tar.gz'
    archive.write_bytes(ARCHIVE[:len(ARCHIVE) // 2])
    with pytest.raises(ValueError, match='damaged'):
      download.unpack(archive, tmp_path / 'songs')
    assert list(tmp_path.iterdir()) == [archive]

  def test_archive_without_a_folder_of_its_own(self, tmp_path):
    archive = tmp_path / 'x.tar.gz'
    archive.write_bytes(pack([('a.mid', b'a'), ('x/b.mid', b'b')]))
    assert download.unpack(archive, tmp_path / 'songs') == 2
    assert files_in(tmp_path / 'songs') == {'a.mid': b'a', 'x/b.mid': b'b'}


def test_published_sets():
  assert {'nesmdb', 'lmd_full', 'lmd_clean'} <= set(download.DATA_SETS)
  for data_set in download.DATA_SETS.values():
    assert data_set.urls[-1].endswith('/' + data_set.archive)
    assert data_set.sha256 is None or len(data_set.sha256) == 64
