"""Huge pages for what glibc allocates."""

import os
import sys


def ask() -> None:
  """Starts Python over with them, once, on Linux; does nothing elsewhere.

  XLA takes fresh memory in each step on a CPU; clearing it 4 KiB at a time
  costs a quarter of the step (experiments/benchmarks/RESULTS.md). glibc reads
  the setting when a process starts; who has set GLIBC_TUNABLES, be it to
  nothing, is left alone.
  """
  if sys.platform == 'linux' and 'GLIBC_TUNABLES' not in os.environ:
    os.environ['GLIBC_TUNABLES'] = 'glibc.malloc.hugetlb=1'
    os.execv(sys.executable, sys.orig_argv)
