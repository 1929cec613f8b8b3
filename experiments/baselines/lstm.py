"""LSTM language model, a baseline: a `language_model.SequenceModel`.

The state of each lane is carried from segment to segment, with no gradient
through it. At its defaults the model has 39.7M parameters, the size
that the paper gives for its LSTM (its shape is not published).

Letters of the shape suffixes: B batch (lanes), L segment length, D width,
G = 4 D gates (input, forget, candidate, output), N layers, V vocabulary.

Source: Hochreiter & Schmidhuber 1997 with forget gates (Gers et al. 2000);
dropout between layers only (Zaremba et al. 2014); tied embeddings.
"""

import dataclasses
import functools
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from lakhnes_jax.model import transformer_xl
from lakhnes_jax.model.transformer_xl import DTYPES

_UNROLL = 4  # Steps of the recurrence in one turn of its loop.


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """Shape of the model, and how it computes.

  Attributes:
    n_token: size of the vocabulary.
    n_layer, d_model: N and D above.
    dropout: rate after the embedding and after each layer.
    dtype: of the matrix products. Parameters, cells, logits and loss are
      float32 whatever it is.
  """
  n_token: int
  n_layer: int = 4
  d_model: int = 1104
  dropout: float = 0.1
  dtype: str = 'float32'

  def __post_init__(self):
    for name in ('n_token', 'n_layer', 'd_model'):
      if getattr(self, name) < 1:
        raise ValueError(f'{name} is {getattr(self, name)}, not 1 or more')
    if not 0 <= self.dropout < 1:
      raise ValueError(f'dropout is {self.dropout}, not in [0, 1)')
    if self.dtype not in DTYPES:
      raise ValueError(f'dtype is {self.dtype!r}, not {" or ".join(DTYPES)}')

  def to_dict(self) -> dict[str, Any]:
    return dataclasses.asdict(self)

  @classmethod
  def from_dict(cls, settings: dict[str, Any]) -> 'ModelConfig':
    """Undoes `to_dict`.

    Raises:
      ValueError: a setting is unknown, missing or out of range.
    """
    try:
      return cls(**settings)
    except TypeError as error:
      raise ValueError(f'LSTM settings: {error}') from None


class State(NamedTuple):
  """Where each lane stands; zeros before anything is read.

  Attributes:
    hidden: [N, B, D] float32, last outputs of each layer.
    cell: [N, B, D] float32.
  """
  hidden: Any
  cell: Any


def _forget_bias(rng, shape, dtype):
  """Biases 0, but 1 for the forget gate (Jozefowicz et al. 2015)."""
  del rng
  d_model = shape[0] // 4
  return jnp.zeros(shape, dtype).at[d_model:2 * d_model].set(1)


class _Layer(nn.Module):
  """One layer over a segment."""
  config: ModelConfig

  @nn.compact
  def __call__(self, x_BxLxD, hidden_BxD, cell_BxD):
    c = self.config
    bound = c.d_model**-0.5

    def uniform(rng, shape, dtype):
      return jax.random.uniform(rng, shape, dtype, -bound, bound)

    shape = (c.d_model, 4 * c.d_model)
    input_DxG = self.param('input', uniform, shape, jnp.float32)
    recurrent_DxG = self.param('recurrent', uniform, shape, jnp.float32)
    bias_G = self.param('bias', _forget_bias, shape[1:], jnp.float32)
    product = functools.partial(transformer_xl.einsum_float32, '...d,dg->...g')
    # What comes from the input needs no recurrence: one product for all steps.
    from_input_LxBxG = product(
        x_BxLxD.astype(c.dtype).swapaxes(0, 1),
        input_DxG.astype(c.dtype)) + bias_G
    recurrent_DxG = recurrent_DxG.astype(c.dtype)

    def step(state, from_input_BxG):
      hidden_BxD, cell_BxD = state
      gates_BxG = from_input_BxG + product(
          hidden_BxD.astype(c.dtype), recurrent_DxG)
      enter, forget, candidate, leave = jnp.split(gates_BxG, 4, -1)
      cell_BxD = (nn.sigmoid(forget) * cell_BxD +
                  nn.sigmoid(enter) * jnp.tanh(candidate))
      hidden_BxD = nn.sigmoid(leave) * jnp.tanh(cell_BxD)
      return (hidden_BxD, cell_BxD), hidden_BxD

    state, out_LxBxD = jax.lax.scan(
        step, (hidden_BxD, cell_BxD), from_input_LxBxG, unroll=_UNROLL)
    return out_LxBxD.swapaxes(0, 1), state


class _Module(nn.Module):
  """The parameters, and what they compute; see `LstmModel`."""
  config: ModelConfig
  deterministic: bool = True

  @nn.compact
  def __call__(self, tokens_BxL, state: State):
    c = self.config
    dropout = nn.Dropout(c.dropout, deterministic=self.deterministic)
    embedding_VxD = self.param('embedding', nn.initializers.normal(
        c.d_model**-0.5), (c.n_token, c.d_model))
    output_bias_V = self.param('output_bias', nn.initializers.zeros,
                               (c.n_token,))
    x_BxLxD = dropout(embedding_VxD[tokens_BxL] * c.d_model**0.5)
    states = []
    for i in range(c.n_layer):
      x_BxLxD, new_state = _Layer(c, name=f'layer_{i}')(
          x_BxLxD, state.hidden[i], state.cell[i])
      x_BxLxD = dropout(x_BxLxD)
      states.append(new_state)
    logits_BxLxV = transformer_xl.einsum_float32(
        'bld,vd->blv', x_BxLxD.astype(c.dtype), embedding_VxD.astype(c.dtype)
    ) + output_bias_V
    hidden, cell = (jnp.stack(part) for part in zip(*states, strict=True))
    return logits_BxLxV, jax.lax.stop_gradient(State(hidden, cell))


@dataclasses.dataclass(frozen=True)
class LstmModel:
  """The model; for the methods see `language_model.SequenceModel`.

  Attributes:
    config: see `ModelConfig`.
    name: how checkpoints call this kind of model.
  """
  config: ModelConfig
  name: str = 'lstm'
  SETTINGS: ClassVar[frozenset[str]] = frozenset(
      field.name for field in dataclasses.fields(ModelConfig))

  def to_dict(self) -> dict[str, Any]:
    return self.config.to_dict()

  @classmethod
  def from_dict(cls, settings: dict[str, Any], vocabulary) -> 'LstmModel':
    del vocabulary
    return cls(ModelConfig.from_dict(settings))

  def init_params(self, rng) -> dict[str, Any]:
    """Draws parameters: uniform within 1 / sqrt(D); see the code for biases."""
    return _Module(self.config).init(
        rng, jnp.zeros((1, 1), jnp.int32), self.init_state(1))['params']

  def init_state(self, batch: int, mem_len: int = 0) -> State:
    """Returns zeros; `mem_len` is ignored."""
    del mem_len
    shape = self.config.n_layer, batch, self.config.d_model
    return State(jnp.zeros(shape), jnp.zeros(shape))  # Each may be donated.

  def reset(self, state: State, where) -> State:
    return jax.tree.map(lambda x: jnp.where(where, 0, x), state)

  def apply(self, params, tokens_BxL, state: State, *, dropout_rng=None):
    module = _Module(self.config, deterministic=dropout_rng is None)
    rngs = {} if dropout_rng is None else {'dropout': dropout_rng}
    return module.apply({'params': params}, tokens_BxL,
                        jax.lax.stop_gradient(state), rngs=rngs)

  def warm_start(self, params) -> dict[str, Any]:
    """Returns params: there is nothing that could be added."""
    return params
