"""SIGTERM and SIGINT stop a run after it has saved."""

import os
import signal
import threading
import time

GRACE_S = 1.  # Signals that come together are one: schedulers send several.


class Stop:
  """Whether SIGTERM or SIGINT came; the loop then saves and returns.

  A second one, more than `GRACE_S` later, ends the process at once.

  Attributes:
    asked: whether one came.
  """

  def __init__(self):
    self.asked = False
    self._since = 0.
    self._former = {}

  def __enter__(self):
    if threading.current_thread() is threading.main_thread():
      for number in (signal.SIGTERM, signal.SIGINT):
        self._former[number] = signal.signal(number, self._ask)
    return self

  def _ask(self, number, frame):
    del frame
    if self.asked:
      if time.monotonic() - self._since > GRACE_S:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
      return
    self.asked, self._since = True, time.monotonic()
    # Not through sys.stderr: the signal may have come amid a line there.
    os.write(2, f'{signal.Signals(number).name}: stopping\n'.encode())

  def __exit__(self, *_):
    for number, handler in self._former.items():
      signal.signal(number, handler)
