"""The language model: tokens and features in, Transformer-XL, logits out.

Letters as in `lakhnes_jax.model.transformer_xl`.
"""

import dataclasses
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from lakhnes_jax import events
from lakhnes_jax.model import transformer_xl
from lakhnes_jax.model.features import base, names
from lakhnes_jax.model.transformer_xl import ModelConfig

_INIT_STD = 0.02
# Features as older versions wrote them, and what they are called now; `recall`
# is the window of all matches.
_OLDER = {'voice_state': 'voice_state', 'recall': 'context_match={}',
          'voice_recall': 'voice_match={}', 'frame_counter': 'frame_counter'}


class SequenceModel(Protocol):
  """What training, evaluation and checkpoints ask of a model.

  A frozen dataclass, hashable, for it is static under jit. Its state is a
  pytree: of each leaf but scalars, the lanes are on axis 1.

  Attributes:
    SETTINGS: names that `from_dict` knows.
    name: how checkpoints call this kind of model.
    config: its settings, a dataclass with `n_token` and `dtype`.
  """
  SETTINGS: ClassVar[frozenset[str]]
  name: str
  config: Any

  def to_dict(self) -> dict[str, Any]:
    """Returns all that the model is made of, JSON."""

  @classmethod
  def from_dict(cls, settings: dict[str, Any],
                vocabulary: base.Vocabulary | None) -> 'SequenceModel':
    """Undoes `to_dict`.

    Args:
      settings: as `to_dict` returns them, now or in an older version.
      vocabulary: of the model's tokens, None if it is not known.

    Raises:
      ValueError: a setting is unknown, missing or out of range.
    """

  def init_params(self, rng) -> dict[str, Any]:
    """Draws parameters."""

  def init_state(self, batch: int, mem_len: int) -> Any:
    """Returns the state of lanes that have read nothing."""

  def reset(self, state: Any, where) -> Any:
    """Returns the state, or where `where` (bool scalar) is true a new one."""

  def apply(self, params, tokens_BxL, state, *, dropout_rng=None):
    """Reads one segment of each lane.

    Args:
      params: as `init_params` returns them.
      tokens_BxL: int32, 0 .. V - 1.
      state: of the segments before.
      dropout_rng: key of the dropout masks; None for no dropout.

    Returns:
      (logits [B, L, V] float32 of the next token, the state to go on with; no
      gradient flows through either state)
    """

  def warm_start(self, params) -> dict[str, Any]:
    """Adds what this model has and a smaller one has not.

    Returns:
      params that make the same of every token, until they are trained
    """


class State(NamedTuple):
  """What a lane carries from segment to segment.

  Attributes:
    memory: `transformer_xl.Memory`.
    features: states of the features, by name.
  """
  memory: transformer_xl.Memory
  features: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class LanguageModel:
  """Transformer-XL on tokens and what they come with; a `SequenceModel`.

  Attributes:
    config: shape of the Transformer, and V.
    features: what tokens come with; none in the paper.
    name: see `SequenceModel`.
  """
  config: ModelConfig
  features: base.Features = base.Features()
  name: str = 'txl'
  SETTINGS: ClassVar[frozenset[str]] = frozenset({
      *(field.name for field in dataclasses.fields(ModelConfig)), 'features',
      'unroll', *_OLDER})

  def __post_init__(self):
    for part in self.features.parts:
      if part.vocabulary.size != self.config.n_token:
        raise ValueError(
            f'{part.name} is for {part.vocabulary.size} tokens, not '
            f'{self.config.n_token}')

  def to_dict(self) -> dict[str, Any]:
    return {**self.config.to_dict(), 'features': names.unparse(self.features)}

  @classmethod
  def from_dict(cls, settings: dict[str, Any],
                vocabulary: base.Vocabulary | None) -> 'LanguageModel':
    settings = dict(settings)
    features = ','.join(filter(None, [
        settings.pop('features', ''), *_older_features(settings)]))
    return cls(ModelConfig.from_dict(settings),
               names.parse(features, vocabulary))

  def init_params(self, rng) -> dict[str, Any]:
    """Draws parameters: N(0, 0.02), layer-norm scales N(1, 0.02), biases 0."""
    c = self.config
    layers_rng, rng, *rngs = jax.random.split(rng, 2 + len(self._specs()))
    in_a_loop = dataclasses.replace(c, unroll_layers=False)  # Compiles sooner.
    layers = transformer_xl.TransformerXL(in_a_loop).init(
        layers_rng, jnp.zeros((1, 1, c.d_model)),
        transformer_xl.init_memory(c, 1, 1), jnp.zeros((1, 1), jnp.int32)
    )['params']
    return {
        'embedding': _INIT_STD * jax.random.normal(rng, (c.n_token, c.d_model)),
        'output_bias': jnp.zeros(c.n_token),
        **layers,
        **{name: spec.init(rng, spec.shape) for rng, (name, spec) in zip(
            rngs, self._specs().items(), strict=True)}}

  def _specs(self) -> dict[str, base.ParamSpec]:
    return self.features.param_specs(self.config.d_model)

  def init_state(self, batch: int, mem_len: int) -> State:
    return State(transformer_xl.init_memory(self.config, batch, mem_len),
                 self.features.init_state(batch))

  def reset(self, state: State, where) -> State:
    memory = state.memory._replace(
        length=jnp.where(where, 0, state.memory.length))
    return State(memory, jax.tree.map(
        lambda x: jnp.where(where, 0, x), state.features))

  def apply(self, params, tokens_BxL, state: State, *, dropout_rng=None):
    signals, features = self.features.observe(
        state.features, tokens_BxL, tokens_BxL.shape[1])
    layers = transformer_xl.TransformerXL(
        self.config, deterministic=dropout_rng is None)
    hidden_BxLxD, memory = layers.apply(
        {'params': {name: params[name] for name in (
            'content_bias', 'position_bias', 'layers')}},
        self.embed(params, tokens_BxL, signals), state.memory,
        self._context(tokens_BxL, state) if self.config.within_song else None,
        rngs={} if dropout_rng is None else {'dropout': dropout_rng})
    return (self.logits(params, hidden_BxLxD, signals),
            State(memory, features))

  def _context(self, tokens_BxL, state: State):
    """Counts the tokens of its own song before each, [B, L] int32."""
    place = jnp.arange(tokens_BxL.shape[1])
    start_BxL = jax.lax.cummax(
        jnp.where(tokens_BxL == events.BOS_EOS, place, -1), 1)
    return place - jnp.where(
        start_BxL < 0, -state.memory.length[0][:, None], start_BxL)

  def embed(self, params, tokens_BxL, signals):
    """Embeds tokens and what comes with them as [B, L, D] float32."""
    scale = self.config.d_model**0.5
    return (scale * params['embedding'][tokens_BxL]
            + scale * self.features.embed(params, signals))

  def logits(self, params, hidden_BxLxD, signals):
    """Returns [B, L, V] float32 of the next tokens; the embedding is tied."""
    logits_BxLxV = transformer_xl.einsum_float32(
        'bld,vd->blv', hidden_BxLxD,
        params['embedding'].astype(self.config.dtype)) + params['output_bias']
    return logits_BxLxV + self.features.logit_bias(
        params, signals, hidden_BxLxD)

  def warm_start(self, params) -> dict[str, Any]:
    """Features that are new begin at 0; feed-forward layers are widened."""
    params = {**{name: np.zeros(spec.shape, np.float32)
                 for name, spec in self._specs().items()}, **params}
    layers = params.get('layers', {})
    if 'feed_forward' in layers:
      params['layers'] = {**layers, 'feed_forward': transformer_xl.widen(
          layers['feed_forward'], self.config.d_inner)}
    return params


def _older_features(settings: dict[str, Any]) -> list[str]:
  """Takes features as older versions wrote them out of `settings`."""
  found = {name: settings.pop(name) for name in _OLDER if name in settings}
  return [_OLDER[name].format(found.get('recall'))
          for name, value in found.items() if value]


def nll(logits_BxLxV, targets_BxL):
  """Negative log likelihood of each target, [B, L] float32, in nats."""
  logits_BxLxV = logits_BxLxV.astype(jnp.float32)
  chosen_BxL = jnp.take_along_axis(logits_BxLxV, targets_BxL[..., None], -1)
  return jax.nn.logsumexp(logits_BxLxV, -1) - chosen_BxL[..., 0]


def n_params(params) -> int:
  """Counts parameters; the tied embedding counts once."""
  return sum(int(np.prod(np.shape(leaf))) for leaf in jax.tree.leaves(params))
