"""Features: what a token comes with besides itself, behind one protocol.

A feature observes a song token by token, in a state of its own, and makes a
*signal* of what it knows after each: all of it comes from the tokens alone.
The signal is embedded and added to the embedding of the token, and may add a
bias to the logits of the next. A model may have any number of features, or
none; it only knows `Features`, which is their sum.

To write another: a frozen dataclass with the methods of `Feature` in a file
beside this one, a line in `names.KINDS`, and a test.

Letters as in `lakhnes_jax.model.transformer_xl`; V tokens of the vocabulary.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

State = Any  # Pytree of arrays, B on axis 1 of each.
Signal = Any  # Pytree of arrays, one entry a token.


class Vocabulary(Protocol):
  """What features know of tokens, as `lakhnes_jax.events.Vocabulary` has it.

  Token 0, <S>, begins each song. Hashable; equal only to itself.

  Attributes:
    size: V.
    voice: [V] int32, the voice that a token is for; -1 for none.
    kind: [V] int32, NOTEOFF .. TIMBRE of `lakhnes_jax.events`; -1 for none.
    value: [V] int32, pitch, velocity or timbre; of waits, samples.
    wait: [V] int32 samples that pass; 0 for none.
  """
  size: int
  voice: np.ndarray
  kind: np.ndarray
  value: np.ndarray
  wait: np.ndarray


class ParamSpec(NamedTuple):
  """How a parameter begins: `init(rng, shape)` -> float32 array."""
  init: Callable[[Any, tuple[int, ...]], Any]
  shape: tuple[int, ...]


class Feature(Protocol):
  """One feature; a frozen dataclass, hashable, for it is static under jit.

  The fields after `vocabulary` are its settings, see `names.parse`.

  Attributes:
    name: of its state, and what `names.parse` calls it.
    vocabulary: of the tokens.
  """
  name: str
  vocabulary: Vocabulary

  def init_state(self, batch: int) -> State:
    """Returns the state before the first token: zeros, B on axis 1."""

  def observe(self, state: State, tokens_BxL, n_read) -> tuple[Signal, State]:
    """Observes songs through a segment.

    Args:
      state: before it.
      tokens_BxL: int32 ids. At <S> all begins anew.
      n_read: int scalar, 1 .. L; the tokens after so many are padding.

    Returns:
      (the signal after each token, the state after `n_read` tokens)
    """

  def param_specs(self, d_model: int) -> dict[str, ParamSpec]:
    """Returns the parameters of the methods below, by name.

    All names of a model's features differ. A model to which the feature is
    added begins with zeros, and so computes what it did.
    """

  def embed(self, params, signal: Signal):
    """Embeds a signal as [B, L, D]; linear in the parameters."""

  def logit_bias(self, params, signal: Signal, hidden_BxLxD):
    """Returns [B, L, V] float32 to add to the logits; 0, and so at params 0.

    Args:
      params: by name; there may be others among them.
      signal: as `observe` returns it.
      hidden_BxLxD: output of the last layer.
    """
    del params, signal, hidden_BxLxD
    return 0


@dataclasses.dataclass(frozen=True)
class Features:
  """The features of a model, together; () is the paper's model.

  Its methods are those of `Feature`, over all parts: states and signals are
  dictionaries by name; embeddings and biases are added, and 0 for no part.
  """
  parts: tuple[Feature, ...] = ()

  def __post_init__(self):
    names = [part.name for part in self.parts]
    if len(set(names)) < len(names):
      raise ValueError(f'features {", ".join(names)}: one is named twice')

  def init_state(self, batch: int) -> dict[str, State]:
    return {part.name: part.init_state(batch) for part in self.parts}

  def observe(self, state, tokens_BxL, n_read):
    observed = {part.name: part.observe(state[part.name], tokens_BxL, n_read)
                for part in self.parts}
    return tuple({name: pair[i] for name, pair in observed.items()}
                 for i in range(2))

  def param_specs(self, d_model: int) -> dict[str, ParamSpec]:
    specs = {}
    for part in self.parts:
      specs |= part.param_specs(d_model)
    return specs

  def embed(self, params, signals):
    return sum(part.embed(params, signals[part.name]) for part in self.parts)

  def logit_bias(self, params, signals, hidden_BxLxD):
    return sum(part.logit_bias(params, signals[part.name], hidden_BxLxD)
               for part in self.parts)


def scan_tokens(step: Callable[[State, Any], State],
                signal_of: Callable[[State], Signal], state: State, tokens_BxL,
                n_read) -> tuple[Signal, State]:
  """Observes songs token by token, as `Feature.observe` does.

  Args:
    step: (state, tokens [B]) -> the state after them.
    signal_of: state -> signal; B on the last axis of each leaf.
    state, tokens_BxL, n_read: as of `Feature.observe`.

  Returns:
    (the signal after each token, L on the last axis; the state after `n_read`)
  """
  def body(state, x):
    number, tokens_B = x
    new = jax.tree.map(lambda a, b: jnp.where(number < n_read, a, b),
                       step(state, tokens_B), state)
    return new, signal_of(new)

  state, signal = jax.lax.scan(
      body, state, (jnp.arange(tokens_BxL.shape[1]), tokens_BxL.T))
  return jax.tree.map(lambda x_LxSxB: x_LxSxB.transpose(1, 2, 0),
                      signal), state


def embed_entries(table_ExD, entries_SxBxL):
  """Adds those S rows of a table that are true of each token: [B, L, D].

  E or more is no row. A product with zeros and ones: its gradient is a product
  too, which is far sooner done on a CPU than what gathering has, scattered
  additions.
  """
  _, batch, length = entries_SxBxL.shape
  true_BxLxE = jnp.zeros((batch, length, len(table_ExD))).at[
      jnp.arange(batch)[:, None], jnp.arange(length), entries_SxBxL
  ].add(1., mode='drop')
  return true_BxLxE @ table_ExD


def table(*shape: int) -> ParamSpec:
  """An embedding table, drawn as those of tokens are: N(0, 0.02)."""
  return ParamSpec(jax.nn.initializers.normal(0.02), shape)


def gate(*shape: int) -> ParamSpec:
  """Weights that begin at 0: what they gate comes in as they learn."""
  return ParamSpec(jax.nn.initializers.zeros, shape)


def check(feature: Any) -> None:
  """Checks the settings of a feature of events and waits.

  Raises:
    ValueError: its vocabulary has no tables of those, or its `window` is not 1
      or more.
  """
  tables = Vocabulary.__annotations__
  if not all(hasattr(feature.vocabulary, name) for name in tables):
    raise ValueError(f'{feature.name} is for vocabularies of events and waits, '
                     'as tx1 and tx2 are')
  if getattr(feature, 'window', 1) < 1:
    raise ValueError(
        f'{feature.name}={feature.window}: the window is not 1 token or more')
