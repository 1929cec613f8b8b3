"""What `experiments.run --mode=train` does."""

import importlib.metadata
import pathlib
import subprocess
import sys
from typing import Any

import jax

from experiments import generate, models, options
from experiments.options import FLAGS
from lakhnes_jax import vocabularies
from lakhnes_jax.data import token_stream
from lakhnes_jax.generation import sample
from lakhnes_jax.report import plot, samples
from lakhnes_jax.training import distributed, log, loop


def _join() -> bool:
  """Joins the other processes, if the flags ask for it; whether they do."""
  if not (FLAGS.distributed or FLAGS.coordinator):
    return False
  if not FLAGS.coordinator:
    distributed.join()
    return True
  for name in ('num_processes', 'process_id'):
    if FLAGS[name].value is None:
      raise ValueError(f'--coordinator needs --{name} too')
  distributed.join(FLAGS.coordinator, FLAGS.num_processes, FLAGS.process_id)
  return True


def _describe(**corpora) -> dict[str, Any]:
  """Returns what `config.json` of a run holds."""
  versions = {name: importlib.metadata.version(name) for name in (
      'jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')}
  try:
    revision = subprocess.run(
        ['git', 'rev-parse', 'HEAD'], cwd=pathlib.Path(__file__).parent,
        capture_output=True, text=True, check=False).stdout.strip()
  except OSError:  # No git here.
    revision = ''
  return {
      'flags': options.to_json(),
      'versions': {'python': sys.version.split()[0], **versions},
      'git_revision': revision or None,
      'device': jax.local_devices()[0].device_kind,
      'n_devices': jax.device_count(),
      'data': {name: corpus.checksum for name, corpus in corpora.items()
               if corpus},
  }


def _report_on(workdir: pathlib.Path, model, vocabulary):
  """Returns what follows each evaluation: learning curves, samples.

  Nothing that fails there ends the training.
  """
  def draw_curves(step, params):
    plot.learning_curves([workdir], workdir / 'curves.png')

  def write_samples(step, params):
    songs = generate.new_songs(
        sample.Model(model, params, vocabulary, FLAGS.mem_len),
        FLAGS.eval_samples)
    samples.write(songs, workdir / 'samples' / f'step-{step:06}')

  todo = {'learning curves': draw_curves}
  if FLAGS.eval_samples:
    todo['samples'] = write_samples

  def after_eval(step: int, params) -> None:
    for what, make in todo.items():
      try:
        make(step, params)
      except Exception as error:  # Training is worth more than a picture.
        log.report(f'no {what}: {type(error).__name__}: {error}')

  return after_eval


def _train() -> dict[str, Any]:
  """Trains in --workdir; returns what `loop.run` does."""
  if FLAGS.eval_samples:
    models.check_can_sample('eval_samples')
  workdir = pathlib.Path(options.require('workdir', 'the run directory'))
  vocabulary = vocabularies.get(FLAGS.format)
  corpus = models.corpus('train')
  try:
    valid = models.corpus('valid')
  except FileNotFoundError:
    valid = None
  model = models.make(vocabulary)
  return loop.run(
      workdir, model, vocabulary, corpus, valid,
      models.from_flags(loop.TrainConfig, evaluation=models.evaluation()),
      init=models.from_flags(loop.InitFrom),
      augmentation=token_stream.Augmentation.from_names(FLAGS.augment),
      min_tokens=FLAGS.min_tokens,
      description=_describe(train=corpus, valid=valid),
      tensorboard=FLAGS.tensorboard,
      after_eval=_report_on(workdir, model, vocabulary))


def main() -> dict[str, Any]:
  """Trains alone or as one of several processes."""
  if not _join():
    return _train()
  try:
    return _train()
  except (ValueError, OSError, ArithmeticError, RuntimeError) as error:
    distributed.abort_all(f'experiments.run: {error}')
