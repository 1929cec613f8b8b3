"""Adam, clipping and the learning rate, as the original's PyTorch does them."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax import contrib

SCHEDULES = ('cosine', 'constant')
KINDS = ('adam', 'muon')
_NOT_DECAYED = ('bias', 'scale', 'smear')  # Ends of parameters' names.


@functools.cache  # The same object for the same, as what compiles steps asks.
def make(clip: float, kind: str = 'adam',
         weight_decay: float = 0.) -> optax.GradientTransformation:
  """Builds the transformation from gradients to directions of ascent.

  The learning rate is applied by the training step, so that Adam's moments can
  be kept where the schedule starts anew.

  Args:
    clip: largest global norm of the gradients; 0 for no limit.
    kind: 'adam', with PyTorch's defaults (eps after bias correction), as the
      original; or 'muon' (Jordan et al., 2024) for the kernels of the layers
      of a Transformer-XL, whose steps are orthogonal matrices scaled to a root
      mean square of 1 (Liu et al., 2025, section 2.2), and Adam with Nesterov's
      momentum for the rest.
    weight_decay: this share of kernels and embeddings is added to their
      directions, after all else (Loshchilov and Hutter, "Decoupled Weight
      Decay Regularization", ICLR 2019); biases and gains are left alone.

  Raises:
    ValueError: an unknown kind.
  """
  if kind not in KINDS:
    raise ValueError(f'optimizer {kind!r} is none of {", ".join(KINDS)}')
  if kind == 'muon':
    # A rate of -1, because updates are scaled and subtracted elsewhere.
    step = contrib.muon(-1., consistent_rms=1.,
                        muon_weight_dimension_numbers=_kernels)
  else:
    step = optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-8)
  if weight_decay:
    step = _with_decay(step, weight_decay)
  return optax.chain(_clip(clip), step) if clip else optax.chain(
      optax.identity(), step)  # The same state with and without clipping.


def _with_decay(step: optax.GradientTransformation,
                weight_decay: float) -> optax.GradientTransformation:
  """Adds weight decay to `step`, whose state stays all that there is."""
  decay = optax.add_decayed_weights(weight_decay, _decays)

  def update(grads, state, params=None):
    updates, state = step.update(grads, state, params)
    return decay.update(updates, decay.init(params), params)[0], state

  return optax.GradientTransformation(step.init, update)


def _decays(params):
  """Says which parameters weight decay is for."""
  return jax.tree_util.tree_map_with_path(
      lambda path, _: not path[-1].key.endswith(_NOT_DECAYED), params)


def _kernels(params):
  """Says which axes of the Transformer's stacked kernels make a matrix."""
  axes = {
      'qkv': ((1,), (3, 4)), 'position': ((1,), (2, 3)), 'output': ((1, 2), 3),
      'kernel': (1, 2),
  }

  def dimensions(path, leaf):
    del leaf
    name = path[-1].key
    return contrib.MuonDimensionNumbers(*axes[name]) if name in axes else None

  return jax.tree_util.tree_map_with_path(dimensions, params)


def _clip(clip: float) -> optax.GradientTransformation:
  """Scales gradients by clip / (norm + 1e-6) where that is below 1."""
  def update(grads, params=None):
    del params
    factor = jnp.minimum(1, clip / (optax.tree.norm(grads) + 1e-6))
    return optax.tree.scale(factor, grads)
  return optax.stateless(update)


@functools.cache
def schedule(kind: str, peak: float, max_steps: int,
             warmup_steps: int) -> Callable:
  """Builds the learning rate as a function of the steps done so far.

  It grows linearly over `warmup_steps`, but for the very first step, which
  takes the full rate. Then it follows the cosine that began with step 0 and
  reaches 0 at `max_steps`; or, if constant, stays where the warm-up ended, one
  of its steps below the peak. All this as in the original.

  Args:
    kind: one of `SCHEDULES`.
    peak: the highest rate.
    max_steps: length of the cosine.
    warmup_steps: 0 for none.

  Returns:
    Function from int32 scalar to float32 scalar.

  Raises:
    ValueError: an unknown kind.
  """
  if kind not in SCHEDULES:
    raise ValueError(f'schedule {kind!r} is none of {", ".join(SCHEDULES)}')

  def rate(done):
    warm = peak * jnp.minimum(done, warmup_steps - 1) / max(warmup_steps, 1)
    cosine = peak / 2 * (1 + jnp.cos(np.pi * done / max_steps))
    warming = (done > 0) & (done < warmup_steps)
    if kind == 'constant':
      warming, cosine = (done > 0) & (warmup_steps > 0), peak
    return jnp.float32(jnp.where(warming, warm, cosine))

  return rate
