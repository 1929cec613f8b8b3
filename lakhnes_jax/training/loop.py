"""A training run in its directory: resume, step, log, evaluate, save.

The directory explains itself: `config.json` (what was asked, of which
versions), `log.jsonl` (a line each `log_every` steps and each evaluation),
if asked for the same in `tensorboard`, `checkpoints/last` and
`checkpoints/best`.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import threading
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from lakhnes_jax import atomic
from lakhnes_jax.data import token_stream
from lakhnes_jax.model import language_model
from lakhnes_jax.model.language_model import SequenceModel
from lakhnes_jax.training import (
    distributed,
    evaluate,
    log,
    optimizer,
    train_step,
)
from lakhnes_jax.weights import checkpoint, weights_folder


@dataclasses.dataclass(frozen=True)
class TrainConfig:
  """How to train. Lengths in tokens, durations in steps unless named.

  Attributes:
    batch_size: lanes, of all devices together.
    tgt_len: tokens a segment.
    mem_len: hidden states kept for attention.
    evaluation: how the valid split is read.
    learning_rate: the peak.
    schedule: 'cosine' (to 0 at max_steps) or 'constant'.
    warmup_steps: of linear growth to the peak.
    max_steps: end of the schedule, and of training.
    max_epochs: end of training, whichever comes first; 0 means no such end.
    max_minutes: likewise, of training time, resumed runs added up.
    clip: norm to which gradients are clipped; 0 means not at all.
    optimizer: 'adam' or 'muon'.
    accumulation: parts in which a batch is computed, to save memory.
    memory_reset_prob: probability that a step begins with an empty memory.
    steps_per_dispatch: steps in one program, for devices that would otherwise
      wait for the host; the cadences are multiples of it.
    seed: of the weights, the dropout masks, the songs and their augmentation.
    log_every, eval_every, save_every: cadences; 0 means never.
  """
  batch_size: int = 60
  tgt_len: int = 512
  mem_len: int = 512
  evaluation: evaluate.EvalConfig = evaluate.EvalConfig()
  learning_rate: float = 2.5e-4
  schedule: str = 'cosine'
  warmup_steps: int = 0
  max_steps: int = 400_000
  max_epochs: int = 0
  max_minutes: float = 0.
  clip: float = 0.25
  optimizer: str = 'adam'
  accumulation: int = 1
  memory_reset_prob: float = 0.
  steps_per_dispatch: int = 1
  seed: int = 1111
  log_every: int = 200
  eval_every: int = 4000
  save_every: int = 1000


@dataclasses.dataclass(frozen=True)
class InitFrom:
  """Where the first weights come from when the run has no checkpoint yet.

  Attributes:
    resume_from: another run's directory, continued exactly.
    init_from: another run or weights; steps and data start anew. See
      `SequenceModel.warm_start` for what those have not.
    init_optimizer: whether Adam's moments come along with the weights.
  """
  resume_from: str = ''
  init_from: str = ''
  init_optimizer: bool = False


CONTINUE, TIME_LIMIT, SIGNAL = range(3)  # What a process wants; most wins.


class _Stop:
  """Whether SIGTERM or SIGINT came; the loop then saves and returns."""

  def __init__(self):
    self.asked = False
    self._former = {}

  def __enter__(self):
    if threading.current_thread() is threading.main_thread():
      for number in (signal.SIGTERM, signal.SIGINT):
        self._former[number] = signal.signal(number, self._ask)
    return self

  def _ask(self, number, frame):
    del frame
    if self.asked:  # A second time means now.
      signal.signal(number, signal.SIG_DFL)
      signal.raise_signal(number)
    self.asked = True
    # Not through sys.stderr: the signal may have come amid a line there.
    os.write(2, f'{signal.Signals(number).name}: stopping\n'.encode())

  def __exit__(self, *_):
    for number, handler in self._former.items():
      signal.signal(number, handler)


def _starting_point(run_dir, init: InitFrom, state: train_step.TrainState,
                    model: SequenceModel):
  """Fills the state from the first source that has something.

  Returns:
    (state, meta of the checkpoint continued or None, what happened in words)
  """
  for folder, named in ((run_dir, 'this run'),
                        (init.resume_from, init.resume_from)):
    if folder and (folder != run_dir or checkpoint.exists(folder, 'last')):
      tree, meta = checkpoint.restore(folder, 'last')
      source = f'{folder}/checkpoints/last'
      return (checkpoint.fill(state, tree, source), meta,
              f'resuming {named} at step {meta["step"]}')
  if init.init_from:
    tree, _ = weights_folder.read(init.init_from)
    wanted = ('params', 'opt_state') if init.init_optimizer else ('params',)
    if 'opt_state' not in tree and init.init_optimizer:
      raise ValueError(f'{init.init_from}: has weights but no optimizer '
                       'state; leave out --init_optimizer')
    tree['params'] = model.warm_start(tree['params'])
    parts = {part: checkpoint.fill(getattr(state, part), tree[part],
                                   init.init_from) for part in wanted}
    return (state._replace(**parts), None,
            f'{" and ".join(wanted)} from {init.init_from}, step 0')
  return state, None, 'new weights'


def _lay_out(group: list[token_stream.Batch],
             devices: int) -> tuple[np.ndarray, ...]:
  """Returns inputs, targets and resets for `train_step.pmapped_steps`."""
  inputs, targets = (
      np.stack([x.reshape(devices, -1, x.shape[-1]) for x in part], axis=1)
      for part in zip(*((x.inputs, x.targets) for x in group), strict=True))
  return inputs, targets, np.tile([x.new_epoch for x in group], (devices, 1))


def run(run_dir: str | pathlib.Path, model: SequenceModel, vocabulary, corpus,
        valid, config: TrainConfig, *, init: InitFrom = InitFrom(),
        augmentation: token_stream.Augmentation | None = None,
        min_tokens: int = 0,
        description: dict[str, Any] | None = None, tensorboard: bool = False,
        after_eval: Callable[[int, Any], None] = lambda step, params: None
        ) -> dict[str, Any]:
  """Trains a model until the config or a signal ends it.

  Args:
    run_dir: made if missing; continued exactly where it holds a checkpoint.
    model: what is trained.
    vocabulary: of `lakhnes_jax.events`.
    corpus: training songs.
    valid: songs to evaluate on, or None.
    config: see there.
    init: where the first weights come from.
    augmentation: drawn anew for each song at each epoch.
    min_tokens: shorter songs are left out.
    description: what `config.json` says, JSON.
    tensorboard: write the metrics for TensorBoard too.
    after_eval: called with the step and the host parameters, by the primary of
      several processes (see `lakhnes_jax.training.distributed`).

  Returns:
    step, best_step, best_valid_loss (nats), and `finished`, false if a signal
    ended it.

  Raises:
    FloatingPointError: the loss is not finite; names the step.
    ValueError: the batch or a cadence does not divide, or a checkpoint does
      not fit.
  """
  run_dir = pathlib.Path(run_dir)
  devices, n_devices = jax.local_device_count(), jax.device_count()
  if devices * jax.process_count() != n_devices:
    raise ValueError(f'{devices} devices of {n_devices} are on this one of '
                     f'{jax.process_count()} processes: give each the same')
  if config.batch_size % (n_devices * config.accumulation):
    raise ValueError(
        f'batch_size {config.batch_size} is not a multiple of {n_devices} '
        f'devices x {config.accumulation} accumulation steps')
  at_once = config.steps_per_dispatch
  if at_once < 1:
    raise ValueError(f'steps_per_dispatch {at_once}: need at least 1')
  for cadence in ('log_every', 'eval_every', 'save_every'):
    if getattr(config, cadence) % at_once:
      raise ValueError(f'{cadence} {getattr(config, cadence)} is not a '
                       f'multiple of steps_per_dispatch {at_once}')
  is_primary = distributed.is_primary()
  lanes = distributed.own_lanes(config.batch_size)
  stream = token_stream.Stream(
      corpus, vocabulary, config.batch_size, config.tgt_len,
      augmentation=augmentation, seed=config.seed, min_tokens=min_tokens,
      lane_slice=lanes)
  adam = optimizer.make(config.clip, config.optimizer)
  steps_fn = train_step.pmapped_steps(
      model=model, optimizer=adam, seed=config.seed,
      accumulation=config.accumulation,
      memory_reset_prob=config.memory_reset_prob,
      schedule=optimizer.schedule(
          config.schedule, config.learning_rate, config.max_steps,
          config.warmup_steps))
  state = train_step.init_state(
      model, adam, config.batch_size, config.mem_len, config.seed)
  meta = None
  if is_primary:
    state, meta, words = _starting_point(run_dir, init, state, model)
    log.report(
        f'{run_dir}: {words}; {language_model.n_params(state.params):,} '
        f'parameters on {n_devices} {jax.local_devices()[0].device_kind}')
  state, meta = distributed.from_primary(state, meta)
  if meta:
    stream.restore(meta['data'])
  progress = log.Progress(run_dir, config, meta, tensorboard=tensorboard,
                          silent=not is_primary)
  last = best = contextlib.nullcontext()
  if is_primary:
    atomic.write(run_dir / 'config.json',
                 json.dumps(description or {}, indent=2).encode())
    last, best = (checkpoint.Checkpoints(run_dir, x) for x in ('last', 'best'))

  def save(to: checkpoint.Checkpoints, host: train_step.TrainState) -> None:
    to.save(progress.step, host, {
        'model': model.name, 'config': model.to_dict(),
        'format': vocabulary.name, 'mem_len': config.mem_len,
        'data': batches.state(),
        **progress.to_meta()})

  state = train_step.to_devices(state._replace(lanes=jax.tree.map(
      lambda x: x[:, lanes] if np.ndim(x) else x, state.lanes)), devices)
  waiting = None  # The last dispatch's metrics, not yet read.
  vote, agreed = distributed.AsyncMax(), CONTINUE
  with (token_stream.Prefetch(stream, at_once) as batches, progress, last, best,
        _Stop() as stop):
    _, ending = distributed.from_primary(
        (), progress.done(progress.step, batches.peek().epoch) or
        progress.time_is_up())
    while not ending:
      group, step = [next(batches)], progress.step + 1
      while step % at_once and not progress.done(step, batches.peek().epoch):
        group.append(next(batches))
        step += 1
      state, measured = steps_fn(state, *_lay_out(group, devices))
      if waiting:  # The device works on these steps while we read the last.
        progress.read(*waiting)
      progress.step = step
      waiting = step, group[-1].epoch, measured, batches.waited
      agreed = vote(SIGNAL if stop.asked else
                    TIME_LIMIT if progress.time_is_up() else CONTINUE)
      ending = agreed != CONTINUE or progress.done(step, batches.peek().epoch)
      evaluating = valid is not None and (
          log.is_time(progress.step, config.eval_every) or
          (ending and agreed != SIGNAL and config.eval_every > 0))
      saving = log.is_time(progress.step, config.save_every)
      if ending or evaluating or saving:
        progress.read(*waiting)
        waiting = None
        with progress.paused():
          host = train_step.to_host(state)
          host = host._replace(lanes=distributed.all_lanes(host.lanes))
          better = evaluating and progress.valid(evaluate.evaluate(
              model, host.params, valid, vocabulary,
              config=config.evaluation))
          if is_primary:
            if better:
              save(best, host)
            if evaluating:
              after_eval(progress.step, host.params)
            save(last, host)
  return {'step': progress.step, 'best_step': progress.best_step,
          'best_valid_loss': progress.best, 'finished': agreed != SIGNAL}
