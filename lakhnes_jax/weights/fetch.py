"""Downloads that go on where they broke off, and are checked."""

import hashlib
import http.client
import os
import pathlib
import time
import urllib.error
import urllib.request
from collections.abc import Callable

from lakhnes_jax import atomic, file_lock

_CHUNK = 2**20
_TRIES = 5  # In a row without a byte more.
_TIMEOUT = 60  # Seconds without a byte.


def fetch(url: str, path: pathlib.Path, *, pause: float = 1.,
          progress: Callable[[int, int | None], None] = lambda *_: None
          ) -> None:
  """Downloads to `path`; goes on where an earlier try broke off.

  Args:
    url: http, https or file.
    path: where the file goes; until it is whole, `.part` is added.
    pause: seconds before the second try, twice as long before each later one.
    progress: called with the bytes that are there, and with all that there
      will be if the server says so.

  Raises:
    OSError: the server does not have it, or it breaks off again and again.
  """
  part = path.with_name(path.name + '.part')
  part.parent.mkdir(parents=True, exist_ok=True)
  with file_lock.in_turn(part) as waited:
    if waited and path.exists():
      part.unlink()  # Another process has just fetched it.
      return
    try:
      _fetch_whole(url, part, pause, progress)
      os.replace(part, path)
    finally:
      if part.exists() and not _size(part):
        part.unlink()


def _fetch_whole(url: str, part: pathlib.Path, pause: float, progress) -> None:
  """Tries `_fetch_rest` again and again; errors are those of `fetch`."""
  failures, size = 0, 0
  while True:
    try:
      return _fetch_rest(url, part, progress)
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


def _size(path: pathlib.Path) -> int:
  return path.stat().st_size if path.exists() else 0


def _fetch_rest(url: str, part: pathlib.Path, progress) -> None:
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
      os.truncate(part, 0)
      raise OSError('the partial file was longer than the file') from error
    raise
  with response:
    if there and response.status != http.HTTPStatus.PARTIAL_CONTENT:
      there = 0  # It sends everything again.
    length = response.headers.get('Content-Length')
    total = None if length is None else there + int(length)
    with open(part, 'r+b' if there else 'wb') as file:
      file.seek(there)
      progress(there, total)
      while chunk := response.read(_CHUNK):
        with atomic.named(part):
          file.write(chunk)
        there += len(chunk)
        progress(there, total)
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


def fetch_checked(url: str, path: pathlib.Path, sha256: str | None,
                  **settings) -> None:
  """Does `fetch`, then `check`; what does not pass is removed.

  Raises:
    OSError: as `fetch`.
    ValueError: the file is another one.
  """
  fetch(url, path, **settings)
  try:
    check(path, sha256)
  except ValueError as error:
    path.unlink()
    raise ValueError(
        f'{url} sent something else ({error}); it was removed') from error
