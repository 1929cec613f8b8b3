"""What this machine can do at best, and how measurements are summed up."""

import os
import platform
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def seconds(function: Callable[[], Any], repeats: int = 5) -> list[float]:
  """Times `function` after one call that compiles; waits for its result."""
  jax.block_until_ready(function())
  times = []
  for _ in range(repeats):
    started = time.perf_counter()
    jax.block_until_ready(function())
    times.append(time.perf_counter() - started)
  return times


def summary(amount: float, times: list[float]) -> dict[str, float]:
  """Returns `amount` per second: median, lowest and highest of the repeats."""
  rates = sorted(amount / t for t in times)
  return {'median': statistics.median(rates), 'low': rates[0],
          'high': rates[-1]}


def matmul_flops(dtype: str = 'float32', size: int = 2048) -> float:
  """Measures floating-point operations a second in a square matrix product."""
  a = jnp.ones((size, size), dtype)
  product = jax.jit(lambda x: x @ x)
  return 2 * size**3 / min(seconds(lambda: product(a)))


def read_bandwidth(size: int = 1 << 28) -> float:
  """Measures bytes a second at which a large array is summed up."""
  x = jnp.ones(size // 4, jnp.float32)
  total = jax.jit(jnp.sum)
  return size / min(seconds(lambda: total(x)))


def peak_memory() -> int:
  """Largest resident size of this process so far, bytes (Linux, macOS)."""
  unit = 1 if platform.system() == 'Darwin' else 1024
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def describe() -> dict[str, Any]:
  """Says where and with what a measurement was made."""
  return {'device': jax.local_devices()[0].device_kind,
          'cores': os.cpu_count(), 'load': os.getloadavg()[0],
          'jax': jax.__version__, 'python': platform.python_version()}
