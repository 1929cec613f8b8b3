"""Checkpoints of a run: the whole training state, saved atomically by orbax.

A run directory keeps two kinds: `checkpoints/last` to resume from, and
`checkpoints/best`, that of the lowest valid loss. Each is a tree of arrays
(`flax.serialization.to_state_dict` of a `TrainState`) and a JSON object `meta`:
model kind and config, event format, data position, best valid loss, and the
SHA-256 of all this, which must be right when it is restored. Of each kind two
are kept; where the newer one is damaged, the older one is taken.
"""

import hashlib
import json
import pathlib
import sys
from typing import Any

import jax
import numpy as np
from flax import serialization, traverse_util

WHICH = ('best', 'last')
_KEPT = 2
_SHA256 = 'sha256'


def _digest(tree: Any, meta: dict[str, Any]) -> str:
  """Returns the SHA-256 of meta (but for its own) and of all arrays."""
  sha256 = hashlib.sha256(json.dumps(
      {name: value for name, value in meta.items() if name != _SHA256},
      sort_keys=True).encode())
  for name, leaf in sorted(leaves(tree).items()):
    array = np.asarray(leaf)
    sha256.update(f'{name} {array.dtype} {array.shape} '.encode())
    sha256.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
  return sha256.hexdigest()


class Checkpoints:
  """One kind of checkpoint of one run; saving goes on in the background."""

  def __init__(self, run_dir: str | pathlib.Path, which: str):
    import orbax.checkpoint as ocp  # Slow to import.
    self._ocp = ocp
    self._folder = _folder(run_dir, which)
    self._folder.mkdir(parents=True, exist_ok=True)  # Before orbax looks.
    # What one of several processes does with it, orbax is not to await of all.
    alone = ocp.options.MultiprocessingOptions(
        primary_host=jax.process_index(),
        active_processes={jax.process_index()},
        barrier_sync_key_prefix=which)
    self._manager = ocp.CheckpointManager(
        self._folder.absolute(),
        options=ocp.CheckpointManagerOptions(
            max_to_keep=_KEPT, create=False, multiprocessing_options=alone))

  def save(self, step: int, state: Any, meta: dict[str, Any]) -> None:
    """Saves host arrays; drops old checkpoints once complete."""
    if self._manager.latest_step() == step:
      return  # Nothing has happened since.
    tree = _with_size(state)
    meta = {**meta, _SHA256: _digest(tree, meta)}
    self._manager.save(step, args=self._ocp.args.Composite(
        state=self._ocp.args.StandardSave(tree),
        meta=self._ocp.args.JsonSave(meta)), force=True)

  def wait(self) -> None:
    """Returns when all is saved."""
    self._manager.wait_until_finished()

  def discard_after(self, step: int) -> None:
    """Deletes later checkpoints: damaged ones, where `restore` took `step`."""
    for later in self._manager.all_steps():
      if later > step:
        self._manager.delete(later)

  def restore(self) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Returns (tree of numpy arrays, meta), or None where there is none yet.

    Of damaged checkpoints a line says so, and the one before is taken.

    Raises:
      ValueError: all are damaged; the message is of the newest.
    """
    errors = []
    for step in sorted(self._manager.all_steps(), reverse=True):
      try:
        found = self._read(step)
      except ValueError as error:
        errors.append(error)
        continue
      for error in errors:
        print(f'{error}; step {step} is taken instead', file=sys.stderr,
              flush=True)
      return found
    if errors:
      raise errors[0]
    return None

  def _read(self, step: int) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
      found = self._manager.restore(step, args=self._ocp.args.Composite(
          state=self._ocp.args.StandardRestore(),
          meta=self._ocp.args.JsonRestore()))
      # Older ones have no digest.
      reason = '' if found.meta.get(_SHA256) in (
          None, _digest(found.state, found.meta)) else 'its SHA-256 is another'
    except Exception as error:  # Orbax raises many kinds, down to KeyError.
      reason = str(error).split('\n')[0][:200] or type(error).__name__
    if reason:
      raise ValueError(
          f'{self._folder / str(step)}: damaged checkpoint ({reason}); '
          'delete this folder to start again')
    return found.state, {name: value for name, value in found.meta.items()
                         if name != _SHA256}

  def __enter__(self):
    return self

  def __exit__(self, *_):
    """Waits for the last save."""
    self._manager.wait_until_finished()
    self._manager.close()


def _folder(run_dir: str | pathlib.Path, which: str) -> pathlib.Path:
  return pathlib.Path(run_dir) / 'checkpoints' / which


def exists(run_dir: str | pathlib.Path, which: str) -> bool:
  """Whether the run has a complete checkpoint of this kind."""
  folder = _folder(run_dir, which)
  return folder.is_dir() and any(
      child.name.isdecimal() for child in folder.iterdir())


def restore(run_dir: str | pathlib.Path,
            which: str = 'best') -> tuple[dict[str, Any], dict[str, Any]]:
  """Reads a checkpoint of a run; `best` falls back to `last`.

  Returns:
    Tree of numpy arrays with the fields of `TrainState`, and meta.

  Raises:
    FileNotFoundError: no run, or no checkpoint in it.
    ValueError: the checkpoint is damaged.
  """
  if which == 'best' and not exists(run_dir, 'best'):
    which = 'last'
  if not exists(run_dir, which):
    raise FileNotFoundError(
        f'{run_dir}: no checkpoint here; train one with python -m '
        f'experiments.run --flagfile=nes.flags --workdir={run_dir}')
  with Checkpoints(run_dir, which) as checkpoints:
    return checkpoints.restore()


def fill(template: Any, tree: dict[str, Any], source: str) -> Any:
  """Puts restored arrays into a state of the expected shape.

  Args:
    template: the state with arrays or `jax.ShapeDtypeStruct` as leaves.
    tree: what `restore` returned, or a part of it.
    source: where it came from, for messages.

  Raises:
    ValueError: names arrays that are missing, left over or of another shape.
  """
  whole = serialization.to_state_dict(template)
  wanted, found = shapes(_with_size(template)), shapes(tree)
  wrong = [f'{name} is missing' for name in wanted.keys() - found.keys()]
  wrong += [f'{shown(name)} is unknown'
            for name in found.keys() - wanted.keys()]
  wrong += [
      f'{name} is {found[name]}, not {wanted[name]}'
      for name in wanted.keys() & found.keys() if wanted[name] != found[name]]
  if wrong:
    raise ValueError(
        f'{source}: checkpoint of another shape: {"; ".join(sorted(wrong)[:4])}'
        f'{" ..." if len(wrong) > 4 else ""}. Give the flags that it was '
        'trained with, or another --workdir')
  restored = traverse_util.flatten_dict(tree)
  return serialization.from_state_dict(
      template, traverse_util.unflatten_dict({
          path: restored.get(path, leaf) for path, leaf in
          traverse_util.flatten_dict(whole, keep_empty_nodes=True).items()}))


def _with_size(state: Any) -> dict[str, Any]:
  """The state as a tree, without arrays of size 0: orbax refuses them."""
  flat = traverse_util.flatten_dict(
      serialization.to_state_dict(state), keep_empty_nodes=True)
  return traverse_util.unflatten_dict(
      {path: leaf for path, leaf in flat.items() if 0 not in np.shape(leaf)})


def shown(name: str) -> str:
  """Returns a name from a file for a message of one line."""
  return name if name.isprintable() and len(name) < 99 else repr(name[:99])


def leaves(tree: Any) -> dict[str, Any]:
  """Names each array of a tree by its path, as in 'params/embedding'."""
  return {jax.tree_util.keystr(path, simple=True, separator='/'): leaf
          for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def shapes(tree: Any) -> dict[str, tuple[int, ...]]:
  """The shape of each array of a tree, by its path."""
  return {name: tuple(np.shape(leaf)) for name, leaf in leaves(tree).items()}
