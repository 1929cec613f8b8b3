"""Files that are written whole or not at all."""

import hashlib
import os
import pathlib

_MAX_NAME = 255  # Bytes, on most file systems.


def write(path: str | os.PathLike, data: bytes) -> None:
  """Writes a file whole or not at all; makes its folder if need be."""
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = temporary_of(path)
  try:
    temporary.write_bytes(data)
    os.replace(temporary, path)
  except BaseException:
    temporary.unlink(missing_ok=True)
    raise


def temporary_of(path: pathlib.Path) -> pathlib.Path:
  """Returns where to write what is to replace `path` when it is whole."""
  suffix = f'.{os.getpid()}.tmp'
  encoded = os.fsencode(path.name)
  if len(encoded) + len(suffix) > _MAX_NAME:
    return path.with_name(hashlib.sha256(encoded).hexdigest() + suffix)
  return path.with_name(path.name + suffix)
