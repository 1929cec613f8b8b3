"""Files that are written whole or not at all."""

import hashlib
import os
import pathlib

_MAX_NAME = 255  # Bytes, on most file systems.


def write(path: str | os.PathLike, data: bytes) -> None:
  """Writes a file whole or not at all; makes its folder if need be."""
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(_temporary(path.name))
  try:
    temporary.write_bytes(data)
    os.replace(temporary, path)
  except BaseException:
    temporary.unlink(missing_ok=True)
    raise


def _temporary(name: str) -> str:
  suffix = f'.{os.getpid()}.tmp'
  encoded = os.fsencode(name)
  if len(encoded) + len(suffix) > _MAX_NAME:
    return hashlib.sha256(encoded).hexdigest() + suffix
  return name + suffix
