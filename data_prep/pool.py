"""One function over many items, in worker processes, errors kept apart."""

import collections
import concurrent.futures
import functools
import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import process
from typing import Any


def attempt_all(function: Callable[[Any], Any], items: Iterable[Any],
                workers: int = 0, ahead: int = 64
                ) -> Iterator[tuple[Any, Any, str | None]]:
  """Maps a function over items in parallel, in order.

  Yields (item, result, None), or (item, None, reason) where it raised.

  Args:
    function: picklable; what it raises becomes the reason.
    items: picklable; read only a little ahead of what is yielded.
    workers: processes; 0 means one per CPU core, 1 none but this one.
    ahead: items submitted in advance for each worker.

  Raises:
    OSError: a worker was killed.
  """
  workers = workers or os.cpu_count() or 1
  attempt = functools.partial(_attempt, function)
  if workers == 1:
    yield from map(attempt, items)
    return
  items = iter(items)
  # Spawned, not forked: nothing of this process (JAX threads) leaks in.
  pool = concurrent.futures.ProcessPoolExecutor(
      workers, multiprocessing.get_context('spawn'), _begin)
  try:
    pending = collections.deque(
        pool.submit(attempt, item)
        for item in itertools.islice(items, ahead * workers))
    while pending:
      yield pending.popleft().result()
      pending.extend(pool.submit(attempt, item)
                     for item in itertools.islice(items, 1))
  except process.BrokenProcessPool:
    raise OSError('a worker process was killed, perhaps for lack of memory; '
                  'try again with fewer --workers') from None
  finally:
    pool.shutdown(cancel_futures=True)


def _begin() -> None:
  """Initialises a worker, so that it ends with the main process."""
  # On Ctrl-C the main process stops the workers.
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  # A main process that is killed cannot, and they would wait for ever.
  threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
  multiprocessing.parent_process().join()
  os._exit(1)


def _attempt(function, item):
  try:
    return item, function(item), None
  except (ValueError, OSError) as error:
    return item, None, str(error)
  except Exception as error:  # One file must not end the job of thousands.
    return item, None, f'{item}: {type(error).__name__}: {error}'
