"""How to train, and from where."""

import dataclasses
from collections.abc import Sequence

from lakhnes_jax.training import evaluate


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
    max_epochs: end of training, whichever comes first; 0 disables.
    max_minutes: likewise, of training time, resumed runs added up.
    clip: norm to which gradients are clipped; 0 disables.
    optimizer: 'adam' or 'muon'.
    weight_decay: decoupled: of kernels and embeddings, each step removes this
      times the learning rate.
    grad_accumulation: parts in which a batch is computed, to save memory.
    memory_reset_prob: probability that a step begins with an empty memory.
    steps_per_dispatch: steps in one program, for devices that would otherwise
      wait for the host; the cadences are multiples of it.
    seed: of the weights, the dropout masks, the songs and their augmentation.
    log_every, eval_every, save_every: cadences; 0 disables.
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
  weight_decay: float = 0.
  grad_accumulation: int = 1
  memory_reset_prob: float = 0.
  steps_per_dispatch: int = 1
  seed: int = 1111
  log_every: int = 200
  eval_every: int = 4000
  save_every: int = 1000

  def check(self, n_devices: int) -> None:
    """Raises a ValueError if the batch or a cadence does not divide."""
    if self.batch_size % (n_devices * self.grad_accumulation):
      raise ValueError(
          f'batch_size {self.batch_size} is not a multiple of {n_devices} '
          f'devices x {self.grad_accumulation} accumulation steps')
    if self.steps_per_dispatch < 1:
      raise ValueError(
          f'steps_per_dispatch {self.steps_per_dispatch}: need at least 1')
    for cadence in ('log_every', 'eval_every', 'save_every'):
      if getattr(self, cadence) % self.steps_per_dispatch:
        raise ValueError(
            f'{cadence} {getattr(self, cadence)} is not a multiple of '
            f'steps_per_dispatch {self.steps_per_dispatch}')


@dataclasses.dataclass(frozen=True)
class InitFrom:
  """Where the first weights come from when the run has no checkpoint yet.

  Attributes:
    resume_from: another run's directory, continued exactly.
    init_from: another run or weights; steps and data start anew. See
      `SequenceModel.warm_start` for what those have not.
    init_optimizer: whether Adam's moments come along with the weights.
    allow_changes: names of `run_dir.IDENTITY` that may differ from those of
      the run that is resumed.
  """
  resume_from: str = ''
  init_from: str = ''
  init_optimizer: bool = False
  allow_changes: Sequence[str] = ()
