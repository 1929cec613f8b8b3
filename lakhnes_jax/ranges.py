"""What numbers a model can be asked for, wherever somebody asks.

The flags of `experiments.run`, the requests to `lakhnes_jax.app` and the
arguments of Python's functions have these ranges. Nothing is imported here that
takes time: flags are read before jax is.
"""

from lakhnes_jax import schema
from lakhnes_jax.schema import Range

MAX_SIZE = 2**20  # Of a dimension, a batch or a context.
_EVENTS = Range(1, 1_000_000)
_SECONDS = Range(.001, 40_000, float)
# What a song is asked to be like, and how its tokens are drawn.
SAMPLING = {
    'seed': Range(0, 2**32 - 1),
    'temperature': Range(0, 100, float),
    'top_k': Range(0, 2**31 - 1),
    'top_p': Range(1e-6, 1, float),
    'tail_p': Range(1e-6, 1, float),
    'context_weight': Range(0, 10, float),
    'best_of': Range(1, 1024),
    'batch': Range(1, MAX_SIZE),
    'length': _EVENTS, 'seconds': _SECONDS,
    'prompt_events': _EVENTS, 'prompt_seconds': _SECONDS,
    'density': Range(.01, 100, float),  # Notes per second.
    'song_length': Range(.01, 3600, float),  # Seconds.
}


def check(**settings: float | None) -> None:
  """Raises a ValueError if a setting, None aside, is not in `SAMPLING`'s range.

  >>> check(top_p=2., best_of=None)
  ValueError: top_p: a number from 1e-06 to 1 expected, found 2.0
  """
  for name, value in settings.items():
    if value is not None:
      schema.check(value, SAMPLING[name], name)
