"""How far a long job is, how fast, and how long it will take, on stderr."""

import sys
import time
from typing import Self


class Progress:
  """A line that is kept up to date on a terminal, or written now and then.

  Use as a context manager; a last line is written at its end.
  """

  def __init__(self, what: str, unit: str, total: int | None = None):
    """Starts the clock.

    Args:
      what: what is being done: 'adapting'.
      unit: what is counted: 'files'.
      total: how many there are, if known; without it no end is foretold. The
        attribute may be set later.
    """
    self._what, self._unit, self.total = what, unit, total
    self._started = self._shown = time.monotonic()
    self._done = self._counted = 0
    self._live = sys.stderr.isatty()

  def add(self, n: int, skipped: bool = False) -> None:
    """Counts `n` more; skipped ones say nothing about the rate."""
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
      line += f', {rate:.1f} a second'
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
