"""A run's directory: one process at a time in it, and what it was asked for."""

import contextlib
import json
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

from lakhnes_jax import atomic, file_lock

# What must stay the same when a run is resumed, and the flags of these names.
IDENTITY = ('data', 'format', 'seed', 'augment', 'min_tokens')


@contextlib.contextmanager
def lock(run_dir: pathlib.Path) -> Iterator[None]:
  """Keeps other processes out of a run's directory, which is made if missing.

  The lock goes with the process, however that ends. On file systems without
  locks there is none.

  Raises:
    ValueError: another process has it.
  """
  run_dir.mkdir(parents=True, exist_ok=True)
  with file_lock.signed(run_dir / 'lock') as holder:
    if holder:
      raise ValueError(f'{run_dir}: {holder} is training here; wait for it to '
                       'end, or choose another --workdir')
    yield


def identity(corpus, vocabulary, augmentation, min_tokens: int,
             seed: int) -> dict[str, Any]:
  """Returns what a run reads and draws, JSON, by the names of `IDENTITY`."""
  names = [name for name, chosen in vars(augmentation).items()
           if chosen] if augmentation else []
  return {'data': getattr(corpus, 'checksum', None), 'format': vocabulary.name,
          'seed': seed, 'augment': ','.join(names) or 'none',
          'min_tokens': min_tokens}


def check_identity(recorded: dict[str, Any], now: dict[str, Any],
                   allowed: Iterable[str], source: str) -> list[str]:
  """Compares a run with what it was before.

  Args:
    recorded: the identity in the checkpoint; older ones have none, {}.
    now: the present one.
    allowed: names of what may have changed.
    source: the checkpoint, for messages.

  Returns:
    The names of what has changed.

  Raises:
    ValueError: something that is not allowed has, or a name is unknown.
  """
  unknown = sorted(set(allowed) - set(IDENTITY))
  if unknown:
    raise ValueError(f'--allow_changes={",".join(unknown)}: expected some of '
                     f'{", ".join(IDENTITY)}')
  changed = [name for name in IDENTITY
             if name in recorded and recorded[name] != now[name]]
  refused = [name for name in changed if name not in allowed]
  if refused:
    raise ValueError(f'{source}: ' + '; '.join(
        f'{name} was {recorded[name]}, and is {now[name]}' for name in refused
    ) + f'. Give what it was, or --allow_changes={",".join(refused)}')
  return changed


def describe(run_dir: pathlib.Path, description: dict[str, Any],
             step: int) -> None:
  """Writes `config.json`, once; what a resumed run was asked lies beside it.

  Args:
    run_dir: the run's.
    description: what it was asked for, JSON.
    step: at which the run begins, or is resumed: the description goes to
      `config-STEP.json` if another one is there.
  """
  path = run_dir / 'config.json'
  content = json.dumps(description, indent=2).encode()
  if step and path.exists():
    if path.read_bytes() == content:
      return
    path = run_dir / f'config-{step:06}.json'
  atomic.write(path, content)
