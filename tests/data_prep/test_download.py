"""Data sets from a server of our own, which may lie."""

import hashlib
import io
import tarfile

import pytest

from data_prep import download


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


@pytest.fixture
def songs(server, monkeypatch):
  """A data set that lies on the server."""
  server.files['/songs.tar.gz'] = ARCHIVE
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
  assert [download.DATA_SETS[name].sha256 for name in (
      'nesmdb', 'nesmdb_exprsco', 'nesmdb_vgm')] == [
          '37610e2ca5fe70359c85170cf1f4982596783bb304c59d9c439f68c24ff4ee93',
          '7ca09fdf2be6db5c0767ef6ef7f3f4cac06ae23336c463d123009681b9d64d50',
          'cd44290957cd2dd22a497966f79d24d2a0cdfe135afa83857f25c0871893abc7']
