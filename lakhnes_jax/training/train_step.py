"""The training step, pure: one batch on every device, gradients averaged.

Letters: A accumulation steps, B lanes of one device, K steps of a dispatch,
L segment length, N layers. Models are `language_model.SequenceModel`s: each
leaf of their state but scalars has the lanes on axis 1.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lakhnes_jax.model import language_model
from lakhnes_jax.model.language_model import SequenceModel

AXIS = 'devices'


class TrainState(NamedTuple):
  """What a step carries to the next; on the devices, one copy each.

  Attributes:
    step: int32 scalar, steps done.
    params: the model's parameters.
    opt_state: state of the gradient transformation.
    lanes: the model's state of this device's lanes.
  """
  step: Any
  params: Any
  opt_state: Any
  lanes: Any


def init_state(model: SequenceModel, optimizer: optax.GradientTransformation,
               batch_size: int, mem_len: int, seed: int) -> TrainState:
  """Draws new parameters, with the state of lanes that have read nothing."""
  params = _new_params(model, jax.random.key(seed))
  return TrainState(np.int32(0), params, optimizer.init(params),
                    model.init_state(batch_size, mem_len))


@functools.partial(jax.jit, static_argnums=0)
def _new_params(model: SequenceModel, key):
  return model.init_params(key)


def train_step(state: TrainState, inputs_BxL, targets_BxL, reset, *,
               model: SequenceModel, optimizer: optax.GradientTransformation,
               schedule, seed: int, accumulation: int = 1,
               memory_reset_prob: float = 0.):
  """Takes one step; runs under an axis named `AXIS`.

  Args:
    state: this device's `TrainState`.
    inputs_BxL: int32 token ids.
    targets_BxL: int32 token ids.
    reset: bool scalar; an epoch begins, and the lanes with it.
    model: what is trained.
    optimizer: turns gradients into descent directions (clipping, Adam), which
      the learning rate then scales.
    schedule: steps done -> learning rate.
    seed: of the dropout masks, which are a function of it, the step and the
      device, and of when lanes are reset.
    memory_reset_prob: probability that all lanes are reset before the step, so
      that the model learns to begin from nothing; the original has 0.
    accumulation: the lanes are computed in so many equal parts, one after
      another.

  Returns:
    The new state, and {loss, grad_norm, learning_rate}: float32 scalars, the
    mean over all tokens of all devices (nats), the norm of its gradient before
    clipping, and the rate applied.
  """
  rng, reset_rng = jax.random.split(
      jax.random.fold_in(jax.random.key(seed), state.step))
  rng = jax.random.fold_in(rng, jax.lax.axis_index(AXIS))
  reset |= jax.random.bernoulli(reset_rng, memory_reset_prob)
  lanes = model.reset(state.lanes, reset)

  def loss_fn(params, lanes, inputs, targets, rng):
    logits, lanes = model.apply(params, inputs, lanes, dropout_rng=rng)
    return language_model.nll(logits, targets).mean(), lanes

  grad_fn = jax.value_and_grad(loss_fn, has_aux=True)
  if accumulation == 1:
    (loss, lanes), grads = grad_fn(
        state.params, lanes, inputs_BxL, targets_BxL, rng)
  else:
    split = functools.partial(_split, parts=accumulation)

    def body(total, part):
      number, lanes, inputs, targets = part
      (loss, lanes), grads = grad_fn(
          state.params, lanes, inputs, targets,
          jax.random.fold_in(rng, number))
      return jax.tree.map(jnp.add, total, (loss, grads)), lanes

    zero = jax.tree.map(jnp.zeros_like, (jnp.float32(0), state.params))
    total, lanes = jax.lax.scan(
        body, zero,
        (jnp.arange(accumulation), _split_lanes(lanes, accumulation),
         split(inputs_BxL), split(targets_BxL)))
    loss, grads = jax.tree.map(lambda x: x / accumulation, total)
    lanes = _join_lanes(lanes)

  loss, grads = jax.lax.pmean((loss, grads), AXIS)
  rate = schedule(state.step)
  updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
  params = optax.apply_updates(
      state.params, jax.tree.map(lambda u: -rate * u, updates))
  metrics = {
      'loss': loss,
      'grad_norm': optax.tree.norm(grads),
      'learning_rate': jnp.float32(rate),
  }
  return TrainState(state.step + 1, params, opt_state, lanes), metrics


def _split(x, parts: int, axis: int = 0):
  """[.., B, ..] -> [A, .., B / A, ..], every A-th lane in one part."""
  shape = (*x.shape[:axis], x.shape[axis] // parts, parts, *x.shape[axis + 1:])
  return jnp.moveaxis(x.reshape(shape), axis + 1, 0)


def _split_lanes(lanes, parts: int):
  return jax.tree.map(
      lambda x: jnp.broadcast_to(x, (parts,)) if x.ndim == 0 else
      _split(x, parts, 1), lanes)


def _join_lanes(lanes):
  """Undoes `_split_lanes`."""
  def join(x):
    if x.ndim == 1:
      return x[0]
    x = jnp.moveaxis(x, 0, 2)
    return x.reshape(x.shape[0], x.shape[1] * x.shape[2], *x.shape[3:])
  return jax.tree.map(join, lanes)


@functools.lru_cache(maxsize=8)
def pmapped_steps(**settings):
  """Compiles `train_step` for all local devices; see there for `settings`.

  Another run with the same settings in one process compiles nothing.

  Returns:
    Function of (state, inputs [devices, K, B, L], targets, reset [devices, K])
    that takes K steps, one after another, in one program, so that the host is
    needed once for all of them. The state is donated; each metric is
    [devices, K]. Another K compiles anew.
  """
  def steps(state: TrainState, *batches):
    return jax.lax.scan(
        lambda state, batch: train_step(state, *batch, **settings), state,
        batches)

  return jax.pmap(steps, axis_name=AXIS, donate_argnums=0)


def to_devices(state: TrainState, devices: int) -> TrainState:
  """Lays a host state out for `pmapped_steps`: lanes split, the rest copied."""
  def copy(x):
    x = np.asarray(x)
    return np.broadcast_to(x, (devices, *x.shape))

  def split(x):
    x = np.asarray(x)
    return copy(x) if x.ndim == 0 else np.stack(np.split(x, devices, axis=1))

  # Where the step itself leaves it: else its second call would compile anew.
  sharding = jax.sharding.NamedSharding(
      jax.sharding.Mesh(
          jax.local_devices()[:devices] if jax.process_count() == 1 else
          jax.devices(), AXIS), jax.sharding.PartitionSpec(AXIS))
  return jax.tree.map(
      functools.partial(jax.make_array_from_process_local_data, sharding),
      TrainState(copy(state.step), jax.tree.map(copy, state.params),
                 jax.tree.map(copy, state.opt_state),
                 jax.tree.map(split, state.lanes)))


def to_host(state: TrainState) -> TrainState:
  """Undoes `to_devices`: numpy arrays, all lanes together."""
  def join(x):
    x = np.asarray(x)
    return x[0] if x.ndim == 1 else np.concatenate(x, axis=1)

  return TrainState(first(state.step), first(state.params),
                    first(state.opt_state), jax.tree.map(join, state.lanes))


def first(tree):
  """Fetches the first device's copy of replicated arrays, as numpy."""
  return jax.device_get(jax.tree.map(
      lambda x: x.addressable_shards[0].data[0], tree))
