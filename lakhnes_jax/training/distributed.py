"""Several processes that train as one, through `jax.distributed`.

Each process feeds its own devices with its own lanes, in order of processes;
process 0, the primary, alone writes files and the log. With one process
everything here does nothing.
"""

import json
import os
import sys
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

HEARTBEAT_S = 30  # A process silent for so long is taken for dead.


def join(coordinator: str | None = None, num_processes: int | None = None,
         process_id: int | None = None) -> None:
  """Joins the other processes; comes before any other use of jax.

  Args:
    coordinator: HOST:PORT that process 0 listens on; None to find this and
      the rest out, on a TPU slice or a cluster that jax knows.
    num_processes: how many there are.
    process_id: which this is, from 0.

  Raises:
    ValueError: something is missing, and cannot be found out.
  """
  # It would take SIGTERM, which is ours.
  jax.config.update('jax_enable_preemption_service', False)
  jax.distributed.initialize(
      coordinator, num_processes, process_id,
      heartbeat_timeout_seconds=HEARTBEAT_S)


def is_primary() -> bool:
  """Whether this process writes files and the log."""
  return jax.process_index() == 0


def abort_all(message: str) -> None:
  """Ends this process at once, with status 1, and the others by its absence.

  An ordinary exit would wait for them, and they for us.
  """
  print(f'{message} (process {jax.process_index()} of {jax.process_count()}; '
        'the cause may be in the output of another)', file=sys.stderr,
        flush=True)
  os._exit(1)


def own_lanes(lanes: int) -> slice:
  """Which of all lanes this process feeds."""
  n = lanes // jax.process_count()
  return slice(jax.process_index() * n, (jax.process_index() + 1) * n)


def all_lanes(lanes: Any) -> Any:
  """Gathers the lanes of all processes: axis 1 of each leaf with axes."""
  if jax.process_count() == 1:
    return lanes
  return jax.tree.map(
      lambda x: x if np.ndim(x) == 0 else np.concatenate(
          multihost_utils.process_allgather(x), axis=1), lanes)


def from_primary(arrays: Any, words: Any) -> tuple[Any, Any]:
  """Returns what the primary has: arrays of known shapes, and a JSON value."""
  if jax.process_count() == 1:
    return arrays, words
  text = np.frombuffer(json.dumps(words).encode(), np.uint8)
  n = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
  text = multihost_utils.broadcast_one_to_all(np.resize(text, n))
  return (multihost_utils.broadcast_one_to_all(arrays),
          json.loads(text.tobytes()))


class AsyncMax:
  """The highest number that any process says, known to all one call later.

  The late answer is what makes it cheap: the devices bring the votes of a step
  together behind it, and nobody waits. One process has its answer at once.
  """

  def __init__(self):
    self._waiting = None
    self._highest = jax.pmap(lambda x: jax.lax.pmax(x, 'devices'), 'devices')

  def __call__(self, mine: int) -> int:
    """Says a number, not negative; returns the highest of the last call."""
    if jax.process_count() == 1:
      return mine
    former, self._waiting = self._waiting, self._highest(
        np.full(jax.local_device_count(), mine, np.int32))
    return 0 if former is None else int(former.addressable_shards[0].data[0])
