"""Peak memory of this process."""

import pathlib
import resource
import sys


def peak_bytes() -> int:
  """Returns the largest resident memory since the program began.

  On Linux `ru_maxrss` would count the process that started this one, before it
  became another program.
  """
  status = pathlib.Path('/proc/self/status')
  if status.exists():
    return 1024 * int(status.read_text().split('VmHWM:')[1].split()[0])
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak if sys.platform == 'darwin' else 1024 * peak
