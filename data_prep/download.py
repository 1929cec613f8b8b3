"""Downloads the published data sets and unpacks them.

  python -m data_prep.download nesmdb --out=data
  python -m data_prep.download lmd_full --out=data

A download that was cut off goes on where it was; what arrives must have the
published SHA-256. --mirror=URL takes another place, --file=PATH an archive
that is there already. NES-MDB is unpacked; of Lakh the archive is what
`data_prep.lakh` reads, and is unpacked with --unpack only.
"""

import argparse
import hashlib
import http.client
import os
import pathlib
import shutil
import sys
import tarfile
import time
import urllib.error
import urllib.request
from typing import NamedTuple

from data_prep import progress

_CHUNK = 2**20
_TRIES = 5  # In a row without a byte more.
_TIMEOUT = 60  # Seconds without a byte.


class DataSet(NamedTuple):
  """A published archive: where it is, and what it must be."""
  archive: str  # File name.
  folder: str  # What it unpacks to.
  urls: tuple[str, ...]
  sha256: str | None  # None: none is published.
  unpack: bool
  then: str  # The command that takes it from there.


_NESMDB = 'http://deepyeti.ucsd.edu/cdonahue/nesmdb/'
_LAKH = 'http://hog.ee.columbia.edu/craffel/lmd/'
DATA_SETS = {
    'nesmdb': DataSet(
        'nesmdb_midi.tar.gz', 'nesmdb_midi',
        ('https://drive.usercontent.google.com/download?export=download&'
         'confirm=t&id=1w2uo1Cmio4gz6nGUhZOtzF54kPkoKyo7',
         f'{_NESMDB}nesmdb_midi.tar.gz'),
        '37610e2ca5fe70359c85170cf1f4982596783bb304c59d9c439f68c24ff4ee93',
        True, 'data_prep.nesmdb --input={} --output=data/nesmdb'),
    'nesmdb_exprsco': DataSet(
        'nesmdb24_exprsco.tar.gz', 'nesmdb24_exprsco',
        (f'{_NESMDB}nesmdb24_exprsco.tar.gz',),
        '7ca09fdf2be6db5c0767ef6ef7f3f4cac06ae23336c463d123009681b9d64d50',
        True, 'data_prep.convert {} --to=mid --out=converted'),
    'nesmdb_vgm': DataSet(
        'nesmdb_vgm.tar.gz', 'nesmdb_vgm', (f'{_NESMDB}nesmdb_vgm.tar.gz',),
        'cd44290957cd2dd22a497966f79d24d2a0cdfe135afa83857f25c0871893abc7',
        True, 'data_prep.convert {} --to=mid --out=converted'),
    'lmd_full': DataSet(
        'lmd_full.tar.gz', 'lmd_full', (f'{_LAKH}lmd_full.tar.gz',),
        '6fcfe2ac49ca08f3f214cec86ab138d4fc4dabcd7f27f491a838dae6db45a12b',
        False, 'data_prep.lakh --input={} --output=data/lakh'),
    'lmd_clean': DataSet(
        'clean_midi.tar.gz', 'clean_midi', (f'{_LAKH}clean_midi.tar.gz',),
        None, False, 'data_prep.lakh --input={} --output=data/lakh'),
}


def fetch(url: str, path: pathlib.Path, pause: float = 1.) -> None:
  """Downloads to `path`; goes on where an earlier try broke off.

  Args:
    url: http, https or file.
    path: where the file goes; until it is whole, `.part` is added.
    pause: seconds before the second try, twice as long before each later one.

  Raises:
    OSError: the server does not have it, or it breaks off again and again.
  """
  part = path.with_name(path.name + '.part')
  part.parent.mkdir(parents=True, exist_ok=True)
  failures, size = 0, 0
  while True:
    try:
      _fetch_rest(url, part)
      break
    except urllib.error.HTTPError as error:
      if error.code < 500:
        raise OSError(f'{url}: {error}') from error
      reason = error
    except (OSError, http.client.HTTPException) as error:
      reason = error
    failures = 1 if _size(part) > size else failures + 1
    size = _size(part)
    if failures == _TRIES:
      raise OSError(f'{url}: {reason} (tried {_TRIES} times; the same command '
                    'goes on from here)') from reason
    time.sleep(pause * 2**(failures - 1))
  os.replace(part, path)


def _size(path: pathlib.Path) -> int:
  return path.stat().st_size if path.exists() else 0


def _fetch_rest(url: str, part: pathlib.Path) -> None:
  """Appends to `part` what is missing.

  Raises:
    OSError: the connection failed, or ended before the file.
  """
  there = _size(part)
  request = urllib.request.Request(
      url, headers={'Range': f'bytes={there}-'} if there else {})
  try:
    response = urllib.request.urlopen(request, timeout=_TIMEOUT)
  except urllib.error.HTTPError as error:
    error.close()
    if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
      # All of it is there, or it is of another file.
      if error.headers.get('Content-Range') == f'bytes */{there}':
        return
      part.unlink()
      raise OSError('the partial file was longer than the file') from error
    raise
  with response:
    if there and response.status != http.HTTPStatus.PARTIAL_CONTENT:
      there = 0  # It sends everything again.
    length = response.headers.get('Content-Length')
    total = None if length is None else there + int(length)
    n_chunks = None if total is None else -(-total // _CHUNK)
    what = f'downloading {part.stem}'
    with (open(part, 'r+b' if there else 'wb') as file,
          progress.Progress(what, 'MiB', n_chunks) as bar):
      file.seek(there)
      bar.add(there // _CHUNK, skipped=True)
      while chunk := response.read(_CHUNK):
        file.write(chunk)
        there += len(chunk)
        bar.add(1)
  if total is not None and there < total:
    raise OSError(f'broke off after {there} of {total} bytes')


def check(path: pathlib.Path, sha256: str | None) -> str:
  """Returns the SHA-256 of a file.

  Raises:
    ValueError: it is not the one given.
  """
  with open(path, 'rb') as file:
    found = hashlib.file_digest(file, 'sha256').hexdigest()
  if sha256 is not None and found != sha256:
    raise ValueError(f'{path}: SHA-256 is {found}, should be {sha256}')
  return found


def _fetch_checked(url: str, path: pathlib.Path, sha256: str | None) -> None:
  fetch(url, path)
  try:
    check(path, sha256)
  except ValueError as error:
    path.unlink()
    raise ValueError(
        f'{url} sent something else ({error}); it was removed') from error


def unpack(archive: pathlib.Path, target: pathlib.Path) -> int:
  """Unpacks files and folders of a tar archive; whole or not at all.

  Args:
    archive: a .tar, compressed or not.
    target: the folder to make. If all the archive holds is one folder of that
      name, that is what it becomes.

  Returns:
    the number of files.

  Raises:
    ValueError: the archive is damaged, or holds links, devices, or a path
      that leads outside.
  """
  temporary = target.with_name(f'{target.name}.unpacking')
  shutil.rmtree(temporary, ignore_errors=True)
  temporary.mkdir(parents=True)
  try:
    n_files = _extract(archive, temporary.resolve())
    inner = temporary / target.name
    whole = inner.is_dir() and len(list(temporary.iterdir())) == 1
    os.replace(inner if whole else temporary, target)
  finally:
    shutil.rmtree(temporary, ignore_errors=True)
  return n_files


def _extract(archive: pathlib.Path, root: pathlib.Path) -> int:
  n_files = 0
  try:
    with (tarfile.open(archive) as tar,
          progress.Progress(f'unpacking {archive.name}', 'files') as bar):
      for member in tar:
        path = (root / member.name).resolve()
        if not path.is_relative_to(root):
          raise ValueError(f'{archive}: {member.name!r} leads outside of the '
                           'folder; nothing was unpacked')
        if member.isdir():
          path.mkdir(parents=True, exist_ok=True)
        elif member.isreg():
          path.parent.mkdir(parents=True, exist_ok=True)
          with tar.extractfile(member) as source, open(path, 'wb') as file:
            shutil.copyfileobj(source, file)
          n_files += 1
          bar.add(1)
        else:
          raise ValueError(f'{archive}: {member.name!r} is neither file nor '
                           'folder; nothing was unpacked')
  except (tarfile.TarError, EOFError, OSError) as error:
    raise ValueError(f'{archive}: damaged, or cannot be unpacked '
                     f'({error})') from error
  return n_files


def get(data_set: DataSet, out: pathlib.Path, *, mirror: str | None = None,
        file: pathlib.Path | None = None, unpacked: bool | None = None
        ) -> pathlib.Path:
  """Gets a data set; parts of it that are there already stay.

  Args:
    data_set: one of `DATA_SETS`.
    out: folder for the archive, and for what is in it.
    mirror: URL of the archive, in place of the published ones.
    file: the archive itself, if it is on disk.
    unpacked: whether to unpack; None leaves it to the data set.

  Returns:
    the folder, or the archive where it is not unpacked.

  Raises:
    OSError, ValueError: it could not be had, or is not what was published.
  """
  archive = file or out / data_set.archive
  if file is None and not archive.exists():
    urls = (mirror,) if mirror else data_set.urls
    for number, url in enumerate(urls, 1):
      try:
        _fetch_checked(url, archive, data_set.sha256)
        break
      except (OSError, ValueError) as error:
        if number == len(urls):
          raise OSError(f'{error}. Get {data_set.archive} elsewhere, and use '
                        '--mirror=URL or --file=PATH') from error
        print(f'data_prep.download: {error}; trying the next place',
              file=sys.stderr)
  found = check(archive, data_set.sha256)
  print(f'{archive}: SHA-256 {found} ' +
        ('as published' if data_set.sha256 else '(none is published)'))
  if not (data_set.unpack if unpacked is None else unpacked):
    return archive
  target = out / data_set.folder
  if target.exists():
    print(f'{target}: there already')
  else:
    print(f'{target}: {unpack(archive, target)} files')
  return target


def main(argv: list[str] | None = None) -> int:
  parser = argparse.ArgumentParser(
      prog='python -m data_prep.download', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('data_set', choices=DATA_SETS)
  parser.add_argument('--out', required=True, type=pathlib.Path,
                      help='folder for the archive and its contents')
  parser.add_argument('--mirror', metavar='URL',
                      help='download the archive from here')
  parser.add_argument('--file', type=pathlib.Path, metavar='PATH',
                      help='use this archive, download nothing')
  parser.add_argument('--unpack', action=argparse.BooleanOptionalAction)
  args = parser.parse_args(argv)
  data_set = DATA_SETS[args.data_set]
  try:
    result = get(data_set, args.out, mirror=args.mirror, file=args.file,
                 unpacked=args.unpack)
  except (OSError, ValueError) as error:
    print(f'data_prep.download: {error}', file=sys.stderr)
    return 1
  print(f'next: python -m {data_set.then.format(result)}')
  return 0


if __name__ == '__main__':
  sys.exit(main())
