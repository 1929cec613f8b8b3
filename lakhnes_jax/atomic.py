"""Files that are written whole or not at all."""

import os
import pathlib


def write(path: str | os.PathLike, data: bytes) -> None:
  """Writes a file whole or not at all; makes its folder if need be."""
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f'{path.name}.{os.getpid()}.tmp')
  try:
    temporary.write_bytes(data)
    os.replace(temporary, path)
  except BaseException:
    temporary.unlink(missing_ok=True)
    raise
