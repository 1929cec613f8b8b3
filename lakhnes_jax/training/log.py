"""The metric lines of a run, and how far it has come."""

import contextlib
import json
import math
import pathlib
import sys
import time
from typing import Any

from lakhnes_jax import atomic, input_files, schema
from lakhnes_jax.training import train_step

_MAX_BYTES = 2**30
_COUNT = schema.Range(0, 2**53)
_LINE = {'step': _COUNT, 'kind': str, 'loss': float, 'epoch?': _COUNT,
         'ppl?': float, 'learning_rate?': float, 'tokens_per_second?': float}


def report(line: str) -> None:
  """Writes a line to the terminal."""
  print(line, file=sys.stderr, flush=True)


def is_time(step: int, every: int) -> bool:
  """Whether something done `every` so many steps is done after this one."""
  return every > 0 and step % every == 0


def read(run_dir: str | pathlib.Path) -> list[dict[str, Any]]:
  """Reads a run's `metrics.jsonl`.

  Blank lines are skipped, as is a last line cut off by a kill; any other line
  that is none is reported.

  Returns:
    Objects with `step`, `loss` in nats and `kind`: 'train' (epoch, ppl,
    grad_norm, learning_rate, tokens_per_second, data_wait_fraction: share of
    the time without data) or 'valid' (as `evaluate`). What stands in brackets
    may be missing in lines that something else has written.
  """
  path = pathlib.Path(run_dir) / 'metrics.jsonl'
  if not path.exists():
    return []
  rows, lines = input_files.read(path, _MAX_BYTES).split(b'\n'), []
  for number, row in enumerate(rows, 1):
    if not row.strip():
      continue
    try:
      lines.append(schema.parse(row, _LINE))
    except ValueError as error:
      if number < len(rows):  # The last one a kill may have cut off.
        report(f'{path}: line {number} is left out: {error}')
  return lines


class Progress:
  """Counts steps, tokens and time; writes the lines and to the terminal.

  Attributes:
    step: steps done.
    best: lowest valid loss so far, nats.
    best_step: when.
  """

  def __init__(self, run_dir: pathlib.Path, config, meta: dict | None, *,
               source: pathlib.Path | None = None, tensorboard: bool = False,
               silent: bool = False):
    """Continues at `meta` (see `to_meta`); later lines are cut off.

    Args:
      run_dir: the run's.
      config: a `loop.TrainConfig`.
      meta: of the checkpoint continued, or None.
      source: run directory of that checkpoint; `run_dir` if None.
      tensorboard: write the same numbers to `run_dir/tensorboard`.
      silent: write nothing; another process does.

    Raises:
      ValueError: the package that writes for TensorBoard is missing.
    """
    meta = meta or {}
    self._config = config
    self._path = run_dir / 'metrics.jsonl'
    self.step = meta.get('step', 0)
    self.best = meta.get('best', math.inf)
    self.best_step = meta.get('best_step', 0)
    self._since_line = meta.get('since_line', [])  # Losses not yet in a line.
    self._seconds = meta.get('seconds', 0.)
    self._started = time.monotonic() - self._seconds
    self._line_time, self._line_step = self._seconds, self.step
    self._line_waited = 0.
    self._board, self._silent = None, silent
    self._evaluated = set()  # Steps.
    if silent:
      return
    if tensorboard:
      self._board = _board(run_dir / 'tensorboard', self.step)
    kept = [line for line in read(run_dir) if line['step'] <= self.step]
    atomic.write(self._path, ''.join(map(_to_line, kept)).encode())
    # A checkpoint is from before its evaluation, the line from after it.
    for line in kept if source in (None, run_dir) else read(source):
      if line['kind'] == 'valid' and line['step'] <= self.step:
        self._evaluated.add(line['step'])
        if line['loss'] < self.best:
          self.best, self.best_step = line['loss'], line['step']

  def __enter__(self) -> 'Progress':
    return self

  def __exit__(self, *_) -> None:
    if self._board:
      self._board.close()

  def to_meta(self) -> dict[str, Any]:
    """What a checkpoint keeps of this, as JSON."""
    return {'step': self.step, 'best': self.best, 'best_step': self.best_step,
            'since_line': [*self._since_line], 'seconds': self.seconds}

  @property
  def seconds(self) -> float:
    """Training time so far, evaluations and saving left out."""
    return time.monotonic() - self._started

  @contextlib.contextmanager
  def paused(self):
    """The time inside does not count as training."""
    seconds = self.seconds
    yield
    self._started = time.monotonic() - seconds

  def done(self, step: int, epoch: int) -> bool:
    """Whether all steps or epochs are done after `step`, were `epoch` next."""
    s = self._config
    return step >= s.max_steps or 0 < s.max_epochs <= epoch

  def time_is_up(self) -> bool:
    """Whether the minutes are used up."""
    return 0 < 60 * self._config.max_minutes <= self.seconds

  def read(self, step: int, epoch: int, measured, waited: float) -> None:
    """Fetches a dispatch's metrics from the devices; writes a line when due.

    Args:
      step, epoch: of its last step.
      measured: of each of its steps, on the devices.
      waited: seconds spent on waiting for data, since the beginning.

    Raises:
      FloatingPointError: the loss is not finite.
    """
    measured = {name: x.tolist()
                for name, x in train_step.first(measured).items()}
    losses = measured.pop('loss')
    last = {name: values[-1] for name, values in measured.items()}
    for number, loss in enumerate(losses, step + 1 - len(losses)):
      if not math.isfinite(loss):
        raise FloatingPointError(
            f'step {number}: the loss is {loss}. The last checkpoint is from '
            'before it; try a lower --learning_rate')
    self._since_line.extend(losses)
    if not is_time(step, self._config.log_every):
      return
    loss = sum(self._since_line) / len(self._since_line)
    self._since_line.clear()
    seconds = self.seconds
    passed = max(seconds - self._line_time, 1e-9)
    rate = (step - self._line_step) / passed
    idle, self._line_waited = (waited - self._line_waited) / passed, waited
    speed = rate * self._config.batch_size * self._config.tgt_len
    self._line_time, self._line_step = seconds, step
    self._write(step=step, kind='train', epoch=epoch, loss=loss,
                ppl=_ppl(loss), **last, tokens_per_second=round(speed, 1),
                data_wait_fraction=round(idle, 4))
    self._show(f'step {step}/{self._config.max_steps}  epoch {epoch + 1}  '
           f'loss {loss:.4f}  ppl {_ppl(loss):.2f}  '
           f'lr {last["learning_rate"]:.3g}  {speed:,.0f} tokens/s  '
           f'ETA {self._eta(step, epoch, rate)}')

  def _eta(self, step: int, epoch: int, rate: float) -> str:
    s = self._config
    left = (s.max_steps - step) / rate
    if s.max_minutes:
      left = min(left, 60 * s.max_minutes - self.seconds)
    if s.max_epochs and epoch:
      left = min(left, (s.max_epochs / (epoch + .5) - 1) * self.seconds)
    minutes, seconds = divmod(int(max(left, 0)), 60)
    return f'{minutes // 60}:{minutes % 60:02}:{seconds:02}'

  def is_best(self, result: dict[str, Any]) -> bool:
    """Returns whether an evaluation is the best so far, and counts it."""
    better = result['loss'] < self.best
    if better:
      self.best, self.best_step = result['loss'], self.step
    return better

  def valid(self, result: dict[str, Any], better: bool) -> None:
    """Writes an evaluation's line."""
    self._evaluated.add(self.step)
    self._write(step=self.step, kind='valid', **result)
    self._show(f'step {self.step}  valid loss {result["loss"]:.4f}  '
               f'ppl {result["ppl"]:.3f}{"  (best)" if better else ""}')

  def misses_evaluation(self, ended: bool) -> bool:
    """Whether the last step has none but should, the run being resumed.

    Args:
      ended: whether it is the run's last step.
    """
    every = self._config.eval_every
    return (self.step > 0 and every > 0 and self.step not in self._evaluated
            and (ended or is_time(self.step, every)))

  def _show(self, line: str) -> None:
    if not self._silent:
      report(line)

  def _write(self, **values) -> None:
    if self._silent:
      return
    with (atomic.named(self._path),
          self._path.open('a', encoding='utf-8') as file):
      file.write(_to_line(values))
    if self._board:
      for name in values.keys() - {'step', 'kind', 'protocol'}:
        self._board.add_scalar(
            f'{values["kind"]}/{name}', values[name], values['step'])
      self._board.flush()


def _board(folder: pathlib.Path, step: int):
  """Opens a writer for TensorBoard; points after `step` are withdrawn."""
  try:
    import tensorboardX  # An extra.
  except ImportError as error:
    raise ValueError('--tensorboard needs a package that is not installed: '
                     "pip install 'lakhnes_jax[tensorboard]'") from error
  return tensorboardX.SummaryWriter(str(folder), purge_step=step + 1)


def _to_line(values: dict[str, Any]) -> str:
  return json.dumps(values) + '\n'


def _ppl(loss: float) -> float:
  return math.exp(min(loss, 700))
