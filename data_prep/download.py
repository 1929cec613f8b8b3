"""Downloads the published data sets and unpacks them.

  python -m data_prep.download nesmdb --out=data
  python -m data_prep.download lmd_full --out=data

Rerun the same command to resume an interrupted download. The file must have the
published SHA-256. --mirror=URL downloads from another place, --file=PATH takes
an archive on disk. NES-MDB is unpacked. Lakh is unpacked with --unpack only, as
`data_prep.lakh` reads the archive.
"""

import argparse
import os
import pathlib
import shutil
import sys
from typing import NamedTuple

from data_prep import archives
from lakhnes_jax import command_line, file_lock, progress
from lakhnes_jax.weights import fetch

_MIB = 2**20


class DataSet(NamedTuple):
  """A published archive: where it is, and what it must be."""
  archive: str  # File name.
  folder: str  # What it unpacks to.
  urls: tuple[str, ...]
  sha256: str | None  # None: none is published.
  unpack: bool
  then: str  # The command that takes it from there.


_NESMDB = 'http://deepyeti.ucsd.edu/cdonahue/nesmdb/'
_DRIVE = ('https://drive.usercontent.google.com/download?export=download&'
          'confirm=t&id=')
_LAKH = 'http://hog.ee.columbia.edu/craffel/lmd/'
DATA_SETS = {
    'nesmdb': DataSet(
        'nesmdb_midi.tar.gz', 'nesmdb_midi',
        (f'{_DRIVE}1w2uo1Cmio4gz6nGUhZOtzF54kPkoKyo7',
         f'{_NESMDB}nesmdb_midi.tar.gz'),
        '37610e2ca5fe70359c85170cf1f4982596783bb304c59d9c439f68c24ff4ee93',
        True, 'data_prep.nesmdb --input={} --output=data/nesmdb'),
    'nesmdb_exprsco': DataSet(
        'nesmdb24_exprsco.tar.gz', 'nesmdb24_exprsco',
        (f'{_DRIVE}1i2HdWsxPEjBUtsMclioqC7nmN9aCDwRc',
         f'{_NESMDB}nesmdb24_exprsco.tar.gz'),
        '7ca09fdf2be6db5c0767ef6ef7f3f4cac06ae23336c463d123009681b9d64d50',
        True, 'data_prep.convert {} --to=mid --out=converted'),
    'nesmdb_vgm': DataSet(
        'nesmdb_vgm.tar.gz', 'nesmdb_vgm',
        (f'{_DRIVE}1lx03YN-giEPuNdQiiuKTSfZRu2Dt7Uf8',
         f'{_NESMDB}nesmdb_vgm.tar.gz'),
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


def _fetch(url: str, path: pathlib.Path, sha256: str | None) -> None:
  """Does `fetch.fetch_checked`, and shows its progress."""
  with progress.Progress(f'downloading {path.name}', 'MiB') as bar:
    shown = None

    def show(there: int, total: int | None) -> None:
      nonlocal shown
      bar.total = total and -(-total // _MIB)
      bar.add(there // _MIB - (shown or 0), skipped=shown is None)
      shown = there // _MIB

    fetch.fetch_checked(url, path, sha256, progress=show)


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
  with file_lock.exclusive(temporary):
    try:
      for left in temporary.iterdir():  # By a run that was killed.
        shutil.rmtree(left) if left.is_dir() else left.unlink()
      n_files = _extract(archive, temporary.resolve())
      inner = temporary / target.name
      whole = inner.is_dir() and len(list(temporary.iterdir())) == 1
      os.replace(inner if whole else temporary, target)
    except BaseException:
      shutil.rmtree(temporary, ignore_errors=True)
      raise
    if whole:
      temporary.rmdir()
  return n_files


def _extract(archive: pathlib.Path, root: pathlib.Path) -> int:
  n_files = 0
  with (open(archive, 'rb') as file,
        progress.Progress(f'unpacking {archive.name}', 'files') as bar):
    for member, content in archives.read(file, str(archive)):
      try:
        path = (root / member.name).resolve()
        if not path.is_relative_to(root):
          raise ValueError(f'{archive}: {member.name!r} leads outside of the '
                           'folder; nothing was unpacked')
        if member.isdir():
          path.mkdir(parents=True, exist_ok=True)
        elif content is not None:
          path.parent.mkdir(parents=True, exist_ok=True)
          with open(path, 'wb') as target:
            shutil.copyfileobj(content, target)
          n_files += 1
          bar.add(1)
        else:
          raise ValueError(f'{archive}: {member.name!r} is neither file nor '
                           'folder; nothing was unpacked')
      except OSError as error:
        raise OSError(f'{archive}: {member.name!r} cannot be unpacked '
                      f'({error})') from error
  return n_files


def get(data_set: DataSet, out: pathlib.Path, *, mirror: str | None = None,
        file: pathlib.Path | None = None, unpacked: bool | None = None
        ) -> pathlib.Path:
  """Gets a data set; what is on disk already is kept.

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
        _fetch(url, archive, data_set.sha256)
        break
      except (OSError, ValueError) as error:
        if number == len(urls):
          raise OSError(f'{error}. Get {data_set.archive} elsewhere, and use '
                        '--mirror=URL or --file=PATH') from error
        print(f'data_prep.download: {error}; trying the next place',
              file=sys.stderr)
  found = fetch.check(archive, data_set.sha256)
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
  command_line.escape_output()
  parser = argparse.ArgumentParser(
      prog='python -m data_prep.download', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('data_set', choices=DATA_SETS)
  parser.add_argument('--out', required=True, type=command_line.path,
                      help='folder for the archive and its contents')
  parser.add_argument('--mirror', metavar='URL',
                      help='download the archive from here')
  parser.add_argument('--file', type=command_line.path, metavar='PATH',
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
