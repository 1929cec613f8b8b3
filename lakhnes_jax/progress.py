"""Progress of a long job on stderr: count, rate, time left.

On a terminal one line is kept up to date; elsewhere (a log file, a notebook
cell that keeps its output) a line is written every ten seconds. tqdm writes
one carriage return after another there, and has no notion of items that were
done by an earlier run and must not count towards the rate.
"""

import sys
import time
from typing import Self


class Progress:
  """Counts items of a job and shows the count; a context manager.

  The final count is written on exit.
  """

  def __init__(self, what: str, unit: str, total: int | None = None):
    """Starts the clock.

    Args:
      what: the job, such as 'adapting'.
      unit: the items counted, such as 'files'.
      total: number of items, if known; needed for the time left. The
        attribute may be set later.
    """
    self._what, self._unit, self.total = what, unit, total
    self._started = self._shown = time.monotonic()
    self._done = self._counted = 0
    self._live = sys.stderr.isatty()

  def add(self, n: int, skipped: bool = False) -> None:
    """Counts `n` more items; skipped ones do not count towards the rate."""
    self._done += n
    self._counted += 0 if skipped else n
    now = time.monotonic()
    if now - self._shown >= (.2 if self._live else 10):
      self._shown = now
      self._show('\r' if self._live else '', '' if self._live else '\n')

  def _show(self, before: str, after: str) -> None:
    rate = self._counted / max(time.monotonic() - self._started, 1e-3)
    line = f'{self._what}: {self._done}'
    if self.total is not None:
      line += f' of {self.total}'
    line += f' {self._unit}'
    if rate:
      line += f', {rate:.1f} per second'
    if self.total is not None and rate:
      left = (self.total - self._done) / rate
      line += f', {left / 60:.0f} min left' if left > 90 else (
          f', {left:.0f} s left')
    print(f'{before}{line:<76}' if before else line, end=after, file=sys.stderr,
          flush=True)

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *error) -> None:
    self._show('\r' if self._live else '', '\n')
