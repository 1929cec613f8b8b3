"""A training run in its directory: resume, step, log, evaluate, save.

The directory explains itself: `config.json` (what was asked, of which
versions), `metrics.jsonl` (a line each `log_every` steps and each evaluation),
if asked for the same in `tensorboard`, `checkpoints/last` and
`checkpoints/best`.
"""

import contextlib
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from lakhnes_jax import vocabularies
from lakhnes_jax.data import token_stream
from lakhnes_jax.model import language_model
from lakhnes_jax.model.language_model import SequenceModel
from lakhnes_jax.training import (
    distributed,
    evaluate,
    log,
    optimizer,
    run_dir,
    train_step,
)
from lakhnes_jax.training.config import InitFrom, TrainConfig
from lakhnes_jax.training.stop import Stop
from lakhnes_jax.weights import checkpoint, weights_folder

CONTINUE, TIME_LIMIT, SIGNAL = range(3)  # What a process wants; most wins.


class _Start(NamedTuple):
  """Where a run begins.

  Attributes:
    state: parameters, optimizer and lanes.
    meta: of the checkpoint continued, None if there is none.
    folder: the run directory that it is from.
    words: what happened.
  """
  state: train_step.TrainState
  meta: dict[str, Any] | None
  folder: pathlib.Path
  words: str


def _starting_point(folder: pathlib.Path, init: InitFrom,
                    state: train_step.TrainState, model: SequenceModel,
                    identity: dict[str, Any]) -> _Start:
  """Fills the state from the first source that has something."""
  for source, name in ((str(folder), 'this run'),
                       (init.resume_from, init.resume_from)):
    if source and (name != 'this run' or checkpoint.exists(source, 'last')):
      tree, meta = checkpoint.restore(source, 'last')
      where = f'{source}/checkpoints/last'
      vocabularies.check(meta, where)
      changed = run_dir.check_identity(
          meta.get('identity', {}), identity, init.allow_changes, where)
      words = f'resuming {name} at step {meta["step"]}' + (
          f' with other {", ".join(changed)}' if changed else '')
      if 'data' in changed:  # Places in other songs mean nothing.
        meta = {**meta, 'data': None}
      return _Start(checkpoint.fill(state, tree, where), meta,
                    pathlib.Path(source), words)
  if init.init_from:
    tree, meta = weights_folder.read(init.init_from)
    wanted = ('params', 'opt_state') if init.init_optimizer else ('params',)
    if 'opt_state' not in tree and init.init_optimizer:
      raise ValueError(f'{init.init_from}: has weights but no optimizer '
                       'state; leave out --init_optimizer')
    tree['params'] = model.warm_start(tree['params'])
    parts = {part: checkpoint.fill(getattr(state, part), tree[part],
                                   init.init_from) for part in wanted}
    words = f'{" and ".join(wanted)} from {init.init_from}'
    if 'step' in meta:
      words += f' (its best, of step {meta["step"]})'
    return _Start(state._replace(**parts), None, folder, words + ', step 0')
  return _Start(state, None, folder, 'new weights')


def _lay_out(group: list[token_stream.Batch],
             devices: int) -> tuple[np.ndarray, ...]:
  """Returns inputs, targets and resets for `train_step.pmapped_steps`."""
  inputs, targets = (
      np.stack([x.reshape(devices, -1, x.shape[-1]) for x in part], axis=1)
      for part in zip(*((x.inputs, x.targets) for x in group), strict=True))
  return inputs, targets, np.tile([x.new_epoch for x in group], (devices, 1))


def run(folder: str | pathlib.Path, model: SequenceModel, vocabulary, corpus,
        valid, config: TrainConfig, *, init: InitFrom = InitFrom(),
        augmentation: token_stream.Augmentation | None = None,
        min_tokens: int = 0, description: dict[str, Any] | None = None,
        tensorboard: bool = False,
        after_eval: Callable[[int, Any], None] = lambda step, params: None
        ) -> dict[str, Any]:
  """Trains a model until the config or a signal ends it.

  A checkpoint is saved before its evaluation, so that an evaluation that fails
  costs no step; where it is missing it is made when the run is resumed.

  Args:
    folder: the run directory, made if missing; continued exactly where it holds
      a checkpoint.
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
      several processes (see `lakhnes_jax.training.distributed`). What it raises
      is reported and ends nothing.

  Returns:
    step, best_step, best_valid_loss (nats), and `finished`, false if a signal
    ended it.

  Raises:
    FloatingPointError: the loss is not finite; names the step.
    ValueError: the batch or a cadence does not divide, the valid split is too
      short, another process is training here, or a checkpoint does not fit or
      is of other data or seed.
  """
  folder = pathlib.Path(folder)
  devices, n_devices = jax.local_device_count(), jax.device_count()
  if devices * jax.process_count() != n_devices:
    raise ValueError(f'{devices} devices of {n_devices} are on this one of '
                     f'{jax.process_count()} processes: give each the same')
  config.check(n_devices)
  if valid is not None and config.eval_every:
    evaluate.check(valid, vocabulary, config.evaluation)
  is_primary = distributed.is_primary()
  lanes = distributed.own_lanes(config.batch_size)
  stream = token_stream.Stream(
      corpus, vocabulary, config.batch_size, config.tgt_len,
      augmentation=augmentation, seed=config.seed, min_tokens=min_tokens,
      lane_slice=lanes)
  adam = optimizer.make(config.clip, config.optimizer, config.weight_decay)
  steps_fn = train_step.pmapped_steps(
      model=model, optimizer=adam, seed=config.seed,
      accumulation=config.grad_accumulation,
      memory_reset_prob=config.memory_reset_prob,
      schedule=optimizer.schedule(
          config.schedule, config.learning_rate, config.max_steps,
          config.warmup_steps))
  identity = run_dir.identity(
      corpus, vocabulary, augmentation, min_tokens, config.seed)
  with contextlib.ExitStack() as stack:
    if is_primary:
      stack.enter_context(run_dir.lock(folder))
    state = train_step.init_state(
        model, adam, config.batch_size, config.mem_len, config.seed)
    start = _Start(state, None, folder, '')
    if is_primary:
      start = _starting_point(folder, init, state, model, identity)
      log.report(
          f'{folder}: {start.words}; '
          f'{language_model.n_params(start.state.params):,} parameters on '
          f'{n_devices} {jax.local_devices()[0].device_kind}')
    state, meta = distributed.from_primary(start.state, start.meta)
    if meta and meta['data']:
      stream.restore(meta['data'])
    progress = stack.enter_context(log.Progress(
        folder, config, meta, source=start.folder, tensorboard=tensorboard,
        silent=not is_primary))
    if is_primary:
      run_dir.describe(folder, description or {}, progress.step)
      last, best = (stack.enter_context(checkpoint.Checkpoints(folder, which))
                    for which in ('last', 'best'))
      last.discard_after(progress.step)
    batches = stack.enter_context(token_stream.Prefetch(
        stream, config.steps_per_dispatch))
    stop = stack.enter_context(Stop())

    def save(to: checkpoint.Checkpoints, host: train_step.TrainState) -> None:
      to.save(progress.step, host, {
          'model': model.name, 'config': model.to_dict(),
          'format': vocabulary.name,
          'vocabulary_digest': vocabularies.digest(vocabulary),
          'mem_len': config.mem_len,
          'data': batches.state(), 'identity': identity,
          **progress.to_meta()})

    def evaluate_now(host: train_step.TrainState) -> None:
      result = evaluate.evaluate(
          model, host.params, valid, vocabulary, config=config.evaluation)
      better = progress.is_best(result)
      if is_primary and better:
        save(best, host)
        best.wait()  # The line says that it is there.
      progress.valid(result, better)
      if is_primary:
        try:
          after_eval(progress.step, host.params)
        except Exception as error:  # Training is worth more.
          log.report(f'step {progress.step}: after the evaluation: '
                     f'{type(error).__name__}: {error}')

    _, (ending, missing) = distributed.from_primary((), (
        ended := progress.done(progress.step, batches.peek().epoch)
        or progress.time_is_up(),
        valid is not None and progress.misses_evaluation(ended)))
    if missing:
      with progress.paused():
        evaluate_now(state)
    state = train_step.to_devices(state._replace(lanes=jax.tree.map(
        lambda x: x[:, lanes] if np.ndim(x) else x, state.lanes)), devices)
    waiting = None  # The last dispatch's metrics, not yet read.
    highest, agreed = distributed.AsyncMax(), CONTINUE
    while not ending:
      group, step = [next(batches)], progress.step + 1
      while (step % config.steps_per_dispatch
             and not progress.done(step, batches.peek().epoch)):
        group.append(next(batches))
        step += 1
      state, measured = steps_fn(state, *_lay_out(group, devices))
      if waiting:  # The device works on these steps while we read the last.
        progress.read(*waiting)
      progress.step = step
      waiting = step, group[-1].epoch, measured, batches.waited
      agreed = highest(SIGNAL if stop.asked else
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
          if is_primary:
            save(last, host)
          if evaluating:
            evaluate_now(host)
  return {'step': progress.step, 'best_step': progress.best_step,
          'best_valid_loss': progress.best, 'finished': agreed != SIGNAL}
