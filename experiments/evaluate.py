"""What `experiments.run --mode=eval` does."""

import json
import pathlib
from typing import Any

from experiments import models
from experiments.options import FLAGS
from lakhnes_jax import atomic
from lakhnes_jax.training import evaluate


def main() -> dict[str, Any]:
  """Evaluates; prints a line of JSON per protocol, and returns the last."""
  for protocol in FLAGS.protocol:
    if protocol not in evaluate.PROTOCOLS:
      raise ValueError(f'--protocol={protocol}: not one of '
                       f'{", ".join(evaluate.PROTOCOLS)}')
  model, params, vocabulary, _ = models.load()
  corpus = models.corpus(FLAGS.split)
  for protocol in FLAGS.protocol:
    result = {'split': FLAGS.split, **evaluate.evaluate(
        model, params, corpus, vocabulary, config=models.evaluation(),
        protocol=protocol)}
    line = json.dumps(result)
    if FLAGS.workdir:
      atomic.write(
          pathlib.Path(FLAGS.workdir, f'eval-{FLAGS.split}-{protocol}.json'),
          line.encode())
    print(line, flush=True)
  return result
