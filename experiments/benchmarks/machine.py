"""What this machine can do at best, and how measurements are summed up.

`python -m experiments.benchmarks.machine` prints the roofs by themselves.

Every stage prints, as its last line, one JSON object or a list of them. What
they have in common has the same key everywhere, and makes the columns of the
table (`row`):

*   `case`: what was measured, where a stage measures several things;
*   some `..._per_second` or `..._seconds`: a summary, {median, low, high};
*   `compile_seconds`, `peak_memory` (bytes);
*   some `..._share`: of a roof that was measured in the same run;
*   `ratio`: to the original.
"""

import argparse
import contextlib
import json
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

COLUMNS = ('stage', 'case', 'measured', 'median', 'low', 'high', 'compile s',
           'peak MB', 'share of roof', 'ratio')


@contextlib.contextmanager
def errors_in_a_line(stage: str) -> Iterator[None]:
  """Ends the command with one line where a file or folder is at fault."""
  try:
    yield
  except (OSError, ValueError) as error:
    sys.exit(f'experiments.benchmarks.{stage}: {error}')


def seconds(function: Callable[[], Any], repeats: int = 5) -> list[float]:
  """Times `function` after one call that compiles; waits for its result."""
  import jax
  jax.block_until_ready(function())
  times = []
  for _ in range(repeats):
    started = time.perf_counter()
    jax.block_until_ready(function())
    times.append(time.perf_counter() - started)
  return times


def summary(amount: float, times: list[float]) -> dict[str, float]:
  """Returns `amount` per second: median, lowest and highest of the repeats."""
  return spread([amount / t for t in times])


def spread(values: list[float]) -> dict[str, float]:
  """Returns median, lowest and highest."""
  return {'median': statistics.median(values), 'low': min(values),
          'high': max(values)}


def matmul_flops(dtype: str = 'float32', size: int = 2048) -> float:
  """Measures floating-point operations a second in a square matrix product."""
  import jax
  import jax.numpy as jnp
  a = jnp.ones((size, size), dtype)
  product = jax.jit(lambda x: x @ x)
  return 2 * size**3 / min(seconds(lambda: product(a)))


def read_bandwidth(size: int = 1 << 28) -> float:
  """Measures bytes a second at which a large array is summed up."""
  import jax
  import jax.numpy as jnp
  x = jnp.ones(size // 4, jnp.float32)
  total = jax.jit(jnp.sum)
  return size / min(seconds(lambda: total(x)))


def peak_memory() -> int:
  """Largest resident size of this process so far, bytes (Linux, macOS)."""
  unit = 1 if platform.system() == 'Darwin' else 1024
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def describe() -> dict[str, Any]:
  """Says where and with what a measurement was made."""
  import jax
  return {'device': jax.local_devices()[0].device_kind,
          'cores': os.cpu_count(), 'load': os.getloadavg()[0],
          'jax': jax.__version__, 'python': platform.python_version()}


def row(stage: str, result: dict[str, Any]) -> list[str]:
  """Lays a result out under `COLUMNS`; what it lacks is blank."""
  measured = next((key for key, value in result.items()
                   if isinstance(value, dict) and 'median' in value), '')
  share = next((result[key] for key in result if key.endswith('_share')), None)
  peak = result.get('peak_memory')
  case = result.get('case') or ' '.join(
      f'{key} {result[key]}' for key in ('batch', 'lanes', 'tgt_len', 'mem_len',
                                         'dtype') if key in result)
  return [stage, case, measured.replace('_', ' '),
          *(_digits(result.get(measured, {}).get(key))
            for key in ('median', 'low', 'high')),
          _digits(result.get('compile_seconds')),
          '' if peak is None else f'{peak / 1e6:,.0f}',
          '' if share is None else f'{share:.0%}', _digits(result.get('ratio'))]


def _digits(number: float | None) -> str:
  return '' if number is None else (
      f'{number:,.0f}' if abs(number) >= 1000 else f'{number:.3g}')


def table(rows: list[list[str]]) -> str:
  """Lays rows out as a Markdown table with `COLUMNS` as its head."""
  lines = [list(COLUMNS), *rows]
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  lines.insert(1, ['-' * width for width in widths])
  return ''.join('| ' + ' | '.join(
      cell.ljust(width) for cell, width in zip(line, widths, strict=True)) +
      ' |\n' for line in lines)


def main(argv: list[str] | None = None) -> None:
  argparse.ArgumentParser(
      prog='python -m experiments.benchmarks.machine',
      description=__doc__.split('\n')[0]).parse_args(argv)
  results = []
  for dtype in ('float32', 'bfloat16'):
    results.append({'case': f'{dtype} matrix product',
                    'matmul_flops': matmul_flops(dtype)})
    print(f'{dtype}: {results[-1]["matmul_flops"] / 1e9:.0f} GFLOP/s')
  bandwidth = read_bandwidth()
  print(f'reading: {bandwidth / 1e9:.1f} GB/s')
  print(json.dumps([*results, {'case': 'reading', 'read_bandwidth': bandwidth},
                    describe()]))


if __name__ == '__main__':
  main()
