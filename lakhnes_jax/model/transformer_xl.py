"""Transformer-XL: a language model whose layers remember earlier segments.

Letters of the shape suffixes: B batch (lanes), L segment length, M memory
length, K = M + L keys, D model width, H heads, C width of a head, N layers,
F width of the feed-forward layers, V vocabulary.

Source: Transformer-XL (Dai et al., ACL 2019), relative attention as in section
3.3, with the settings of LakhNES (Donahue et al., ISMIR 2019, section 4).
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from lakhnes_jax.model.features import (
    context_match,
    frame_counter,
    voice_match,
    voice_state,
)

NAME = 'txl'  # How checkpoints call this kind of model.
DTYPES = ('float32', 'bfloat16')
_INIT_STD = 0.02


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """Shape of the model, and how it computes; the defaults are LakhNES's.

  Attributes:
    n_token: size of the vocabulary.
    n_layer, n_head, d_model, d_head, d_inner: N, H, D, C and F above.
    dropout: rate after embedding, attention, feed-forward and at the end.
    dropatt: rate on the attention weights.
    pre_lnorm: layer norm before each block instead of after it.
    same_length: each query sees as many keys as the memory is long, itself
      included, and not the farther ones that its segment would offer.
    clamp_len: keys farther away count as this far; -1 for no such limit.
    dtype: what to compute in. Parameters, softmax, layer-norm statistics,
      logits and loss are float32 whatever it is.
    remat: recompute each layer in the backward pass: less memory, more time.
    smear_keys: each key is mixed with the one before it, in proportions that
      each head learns (Olsson et al., "In-context Learning and Induction
      Heads", 2022): what came after like tokens is then found, and copied, by
      one layer alone.
    voice_state: each token comes with what every voice did last and how long
      ago, see `lakhnes_jax.model.features.voice_state`.
    recall: each token comes with what followed when the song was here before,
      up to so many tokens ago, see `lakhnes_jax.model.features.context_match`; 0 for no such thing.
    voice_recall: each token comes with what every voice should do next, and
      when, as it or another did after the like within the last `recall` tokens,
      see `lakhnes_jax.model.features.voice_match`.
    frame_counter: each token comes with when the chip's frame counter ticks
      next, and waits that end then can be favoured, see
      `lakhnes_jax.model.features.frame_counter`.
    unroll: compile each layer by itself instead of a loop over them: a fifth
      faster for small models on CPUs, whose loops copy what the backward pass
      needs; takes N times as long to compile, and more memory.
  """
  n_token: int
  n_layer: int = 12
  n_head: int = 8
  d_model: int = 512
  d_head: int = 64
  d_inner: int = 2048
  dropout: float = 0.1
  dropatt: float = 0.
  pre_lnorm: bool = False
  same_length: bool = False
  clamp_len: int = -1
  dtype: str = 'float32'
  remat: bool = False
  smear_keys: bool = False
  voice_state: bool = False
  recall: int = 0
  voice_recall: bool = False
  frame_counter: bool = False
  unroll: bool = False

  def __post_init__(self):
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      kinds = (int, float) if field.type is float else (field.type,)
      if type(value) not in kinds:
        raise ValueError(f'{field.name} is {value!r}, not of type '
                         f'{field.type.__name__}')
    for name in ('n_token', 'n_layer', 'n_head', 'd_model', 'd_head',
                 'd_inner'):
      if getattr(self, name) < 1:
        raise ValueError(f'{name} is {getattr(self, name)}, not 1 or more')
    if self.d_model % 2:
      raise ValueError(f'd_model is {self.d_model}, not even (half of the '
                       'position embedding are sines, half cosines)')
    for name in ('dropout', 'dropatt'):
      if not 0 <= getattr(self, name) < 1:
        raise ValueError(f'{name} is {getattr(self, name)}, not in [0, 1)')
    if self.clamp_len < 1 and self.clamp_len != -1:
      raise ValueError(f'clamp_len is {self.clamp_len}, neither -1 nor above 0')
    if self.dtype not in DTYPES:
      raise ValueError(f'dtype is {self.dtype!r}, not {" or ".join(DTYPES)}')
    if self.recall < 0:
      raise ValueError(f'recall is {self.recall}, not 0 or more')
    if self.voice_recall and not self.recall:
      raise ValueError('voice_recall needs recall, which is 0')
    if self.voice_state:
      voice_state.check(self.n_token)
    if self.recall:
      context_match.check(self.n_token)
    if self.frame_counter:
      frame_counter.check(self.n_token)

  def to_dict(self) -> dict[str, Any]:
    return dataclasses.asdict(self)

  @classmethod
  def from_dict(cls, settings: dict[str, Any]) -> 'ModelConfig':
    """Undoes `to_dict`.

    Raises:
      ValueError: a setting is unknown, missing or out of range.
    """
    known = {field.name for field in dataclasses.fields(cls)}
    unknown = sorted(settings.keys() - known)
    if unknown or 'n_token' not in settings:
      raise ValueError('model settings: ' + (
          f'{", ".join(unknown)} unknown' if unknown else 'n_token is missing'))
    return cls(**settings)


class Told(NamedTuple):
  """What has to be kept of tokens, to tell the model more than the next one.

  Attributes:
    voices: [2, B, 4], see `lakhnes_jax.model.features.voice_state`; () without it.
    history: [1, B, H], see `lakhnes_jax.model.features.context_match`; () without it.
    expected: see `lakhnes_jax.model.features.voice_match`; () without it.
    ticks: see `lakhnes_jax.model.features.frame_counter`; () without it.
  """
  voices: Any = ()
  history: Any = ()
  expected: Any = ()
  ticks: Any = ()


class Memory(NamedTuple):
  """What the layers remember of earlier segments.

  Attributes:
    hidden: [N, B, M, D], inputs of each layer, the newest last.
    length: int32 scalar; only the last `length` of M are valid.
    told: of the tokens before; not valid where `length` is 0.
  """
  hidden: Any
  length: Any
  told: Told = Told()


def check_memory(config: ModelConfig, mem_len: int) -> None:
  """Raises ValueError if the model needs a memory and has none."""
  for name in ('same_length', 'voice_state', 'recall', 'frame_counter'):
    if getattr(config, name) and not mem_len:
      raise ValueError(f'{name} needs a memory: mem_len is 0')


def empty_memory(config: ModelConfig, batch: int, mem_len: int) -> Memory:
  """Makes a memory of nothing yet that will hold up to `mem_len` states."""
  shape = (config.n_layer, batch, mem_len, config.d_model)
  return Memory(jnp.zeros(shape, config.dtype), jnp.int32(0),
                nothing_told(config, batch))


def nothing_told(config: ModelConfig, batch: int) -> Told:
  """Returns what is kept before the first token."""
  return Told(voice_state.empty(batch) if config.voice_state else (),
              context_match.empty(batch, config.recall) if config.recall else (),
              voice_match.empty(batch, config.recall)
              if config.voice_recall else (),
              frame_counter.empty(batch) if config.frame_counter else ())


def table_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
  """Returns the shapes of the tables that `tell` takes, by name."""
  shapes = {}
  if config.voice_state:
    shapes |= voice_state.shapes(config.n_token, config.d_model)
  if config.recall:
    shapes |= context_match.shapes(config.n_token, config.d_model)
  if config.voice_recall:
    shapes |= voice_match.shapes(config.n_token, config.d_model)
  if config.frame_counter:
    shapes |= frame_counter.shapes(config.d_model)
  return shapes


def gate_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
  """Returns the shapes of the gates that `favour` takes, by name."""
  return {'tick_gate': frame_counter.gate_shape(
      config.d_model)} if config.frame_counter else {}


def grow(params, config: ModelConfig):
  """Adds what a larger model has more, so that it computes the same at first.

  That is tables of zeros where it is told more, and units of the feed-forward
  layers: they get new weights going in, of the spread of the old ones, and
  zeros going out.

  Args:
    params: of a model that is told no more than `config` says, and whose
      feed-forward layers are not wider.
    config: of the model to be.

  Returns:
    params that make the same of every token, until they are trained
  """
  params = {**{name: np.zeros(shape, np.float32)
               for name, shape in (table_shapes(config)
                                   | gate_shapes(config)).items()}, **params}
  layers = params.get('layers', {})
  if 'feed_forward' in layers:
    params['layers'] = {**layers, 'feed_forward': _widen(
        layers['feed_forward'], config.d_inner)}
  return params


def _widen(forward, d_inner: int):
  """Adds units to feed-forward layers that have fewer than `d_inner`."""
  kernel_NxDxF = forward['inner']['kernel']
  more = d_inner - kernel_NxDxF.shape[2]
  if more <= 0:
    return forward
  new_NxDxF = np.random.default_rng(0).normal(
      0, kernel_NxDxF.std(), (*kernel_NxDxF.shape[:2], more))
  return {
      **forward,
      'inner': {
          'kernel': np.concatenate(
              [kernel_NxDxF, new_NxDxF.astype(np.float32)], 2),
          'bias': np.pad(forward['inner']['bias'], ((0, 0), (0, more))),
      },
      'outer': {
          **forward['outer'],
          'kernel': np.pad(forward['outer']['kernel'],
                           ((0, 0), (0, more), (0, 0))),
      },
  }


def tell(tables, config: ModelConfig, told: Told, tokens_BxL, n_read):
  """Embeds what comes with tokens beside themselves.

  Args:
    tables: shaped as `table_shapes` says.
    config: the model's.
    told: of the tokens before.
    tokens_BxL: int32 ids.
    n_read: int scalar, 1 .. L; so many are kept for what follows.

  Returns:
    ([B, L, D], or 0 where nothing comes with them; what `favour` takes; `Told`
    to go on with)
  """
  x_BxLxD, heard, (voices, history, expected, ticks) = 0, (), told
  if config.voice_state:
    state_2xBxLx4 = voice_state.follow(config.n_token, voices, tokens_BxL)
    x_BxLxD += voice_state.embed(tables, state_2xBxLx4)
    voices = jax.lax.dynamic_index_in_dim(state_2xBxLx4, n_read - 1, 2, False)
  if config.recall:
    found_XxBxL, all_1xBxK = context_match.follow(config.n_token, history, tokens_BxL)
    x_BxLxD += context_match.embed(tables, found_XxBxL)
    history = jax.lax.dynamic_slice_in_dim(
        all_1xBxK, n_read, history.shape[2], 2)
  if config.voice_recall:
    expected_2xBxLx4xS, expected = voice_match.follow(
        config.n_token, expected,
        all_1xBxK[0, :, -tokens_BxL.shape[1] - config.recall:], n_read)
    x_BxLxD += voice_match.embed(tables, expected_2xBxLx4xS)
  if config.frame_counter:
    heard, ticks = frame_counter.follow(
        config.n_token, ticks, tokens_BxL, n_read)
    x_BxLxD += frame_counter.embed(tables, heard)
  return x_BxLxD, heard, Told(voices, history, expected, ticks)


def favour(gates, config: ModelConfig, heard, x_BxLxD):
  """What is added to logits because of what `tell` heard; 0 for nothing.

  Args:
    gates: shaped as `gate_shapes` says.
    config: the model's.
    heard: as `tell` returns it.
    x_BxLxD: what the last layer makes of the tokens.
  """
  return frame_counter.favour(
      gates['tick_gate'], config.n_token, heard, x_BxLxD
  ) if config.frame_counter else 0


def position_embedding(distance, d_model: int):
  """Embeds distances [..] as [.., D]: sines, then cosines, not interleaved.

  Angle k of D / 2 is distance / 10000^(2k / D) (Transformer-XL, section 3.3).
  """
  rate = 1 / 10000**(np.arange(0, d_model, 2) / d_model)
  angle = distance[..., None] * rate.astype(np.float32)
  return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1)


def embed_distances(config: ModelConfig, distance):
  """Embeds distances, clamped if the model clamps them, in float32."""
  if config.clamp_len > 0:
    distance = np.minimum(distance, config.clamp_len)
  return position_embedding(distance.astype(np.float32), config.d_model)


def visible(config: ModelConfig, length: int, mem_len: int, valid):
  """Says which keys each query may see.

  Args:
    config: the model's.
    length: L.
    mem_len: M.
    valid: int32 scalar, valid states of the memory.

  Returns:
    [L, K] bool: keys that exist, that are not in the future and, with
    `same_length`, less than M away. With `smear_keys` the oldest of a full
    memory is not seen: what it is to be mixed with has gone.
  """
  query = mem_len + np.arange(length)[:, None]
  key = np.arange(mem_len + length)
  causal = key <= query
  if config.same_length:
    causal = causal & (query - key < mem_len)
  if config.smear_keys:
    valid = jnp.minimum(valid, max(mem_len - 1, 0))
  return causal & (key >= mem_len - valid)


def smear(weight, keys, before):
  """Mixes keys with those before them; sigmoid(weight) is their own share."""
  own = jax.nn.sigmoid(weight).astype(keys.dtype)
  return own * keys + (1 - own) * before


def shift(scores_BHLP):
  """Aligns scores by distance with keys: [B, H, L, K + 1] -> [B, H, L, K].

  Column p of query i scores distance K - p; it is read at key
  j = p - L + i, which is K - p before query M + i. Keys after their query
  receive the scores of other queries, to be masked.
  """
  *batch, length, columns = scores_BHLP.shape
  # In flat order the scores of one query begin one before they would if its
  # row had K columns; so L elements on, the rows are those of the keys.
  flat = scores_BHLP.reshape(*batch, length * columns)
  return flat[..., length:].reshape(*batch, length, columns - 1)


def _attend(config: ModelConfig, q_BxLxHxC, k_BxKxHxC, v_BxKxHxC, r_PxHxC,
            content_bias_HxC, position_bias_HxC, visible_LxK, dropout_rng):
  """Mixes values, [B, L, H, C], by content and distance of their keys."""
  c = config
  # The scale is put on the queries, the smaller factor of either product.
  scale = c.d_head**-0.5
  scores = jnp.einsum(
      'blhc,bkhc->bhlk',
      (q_BxLxHxC + content_bias_HxC.astype(c.dtype)) * scale,
      k_BxKxHxC, preferred_element_type=jnp.float32)
  scores += shift(jnp.einsum(
      'blhc,phc->bhlp',
      (q_BxLxHxC + position_bias_HxC.astype(c.dtype)) * scale,
      r_PxHxC, preferred_element_type=jnp.float32))
  weights_BxHxLxK = jax.nn.softmax(
      jnp.where(visible_LxK, scores, -jnp.inf)).astype(c.dtype)
  if dropout_rng is not None:
    kept = jax.random.bernoulli(dropout_rng, 1 - c.dropatt,
                                weights_BxHxLxK.shape)
    weights_BxHxLxK = jnp.where(kept, weights_BxHxLxK / (1 - c.dropatt), 0)
  return jnp.einsum('bhlk,bkhc->blhc', weights_BxHxLxK, v_BxKxHxC)


class _Attention(nn.Module):
  """Relative attention of a segment to the memory and itself."""
  config: ModelConfig
  deterministic: bool

  @nn.compact
  def __call__(self, x_BxLxD, memory_BxMxD, position_PxD, exists_K,
               visible_LxK, content_bias_HxC, position_bias_HxC):
    c = self.config
    heads = (c.n_head, c.d_head)

    def kernel(name, *shape):
      return self.param(
          name, nn.initializers.normal(_INIT_STD), shape).astype(c.dtype)

    qkv_Dx3xHxC = kernel('qkv', c.d_model, 3, *heads)
    position_DxHxC = kernel('position', c.d_model, *heads)
    output_HxCxD = kernel('output', *heads, c.d_model)
    norm = _layer_norm(c)

    keys_from_BxKxD = jnp.concatenate([memory_BxMxD, x_BxLxD], 1)
    if c.pre_lnorm:
      keys_from_BxKxD = norm(keys_from_BxKxD)
    queries_from_BxLxD = keys_from_BxKxD[:, memory_BxMxD.shape[1]:]
    q_BxLxHxC = jnp.einsum('bld,dhc->blhc', queries_from_BxLxD,
                           qkv_Dx3xHxC[:, 0])
    kv_BxKx2xHxC = jnp.einsum('bkd,dihc->bkihc', keys_from_BxKxD,
                              qkv_Dx3xHxC[:, 1:])
    k_BxKxHxC = kv_BxKx2xHxC[:, :, 0]
    if c.smear_keys:
      # From a head that mostly looks one back to one that hardly does.
      weight_H = self.param(
          'smear', lambda _, n: jnp.linspace(-2., 2., n), c.n_head)
      existing = jnp.where(exists_K[:, None, None], k_BxKxHxC, 0)
      k_BxKxHxC = smear(weight_H[:, None], k_BxKxHxC, jnp.pad(
          existing[:, :-1], ((0, 0), (1, 0), (0, 0), (0, 0))))
    r_PxHxC = jnp.einsum('pd,dhc->phc', position_PxD, position_DxHxC)

    # What is as large as the keys times the queries is not kept for the
    # backward pass, but computed again.
    mixed_BxLxHxC = jax.checkpoint(functools.partial(_attend, c))(
        q_BxLxHxC, k_BxKxHxC, kv_BxKx2xHxC[:, :, 1], r_PxHxC, content_bias_HxC,
        position_bias_HxC, visible_LxK,
        None if self.deterministic or not c.dropatt else
        self.make_rng('dropout'))
    out_BxLxD = jnp.einsum('blhc,hcd->bld', mixed_BxLxHxC, output_HxCxD)
    out_BxLxD = x_BxLxD + nn.Dropout(c.dropout)(out_BxLxD, self.deterministic)
    return out_BxLxD if c.pre_lnorm else norm(out_BxLxD)


class _FeedForward(nn.Module):
  """Two dense layers with a ReLU between, on each position by itself."""
  config: ModelConfig
  deterministic: bool

  @nn.compact
  def __call__(self, x_BxLxD):
    c = self.config
    dropout = nn.Dropout(c.dropout, deterministic=self.deterministic)

    def dense(name, width):
      return nn.Dense(width, dtype=c.dtype, name=name,
                      kernel_init=nn.initializers.normal(_INIT_STD))

    norm = _layer_norm(c)
    h_BxLxF = dense('inner', c.d_inner)(norm(x_BxLxD) if c.pre_lnorm
                                        else x_BxLxD)
    h_BxLxF = dropout(nn.relu(h_BxLxF))
    out_BxLxD = x_BxLxD + dropout(dense('outer', c.d_model)(h_BxLxF))
    return out_BxLxD if c.pre_lnorm else norm(out_BxLxD)


def _layer_norm(config: ModelConfig) -> nn.LayerNorm:
  def around_1(rng, shape, dtype):
    return 1 + _INIT_STD * jax.random.normal(rng, shape, dtype)
  # The fast variance is E[x^2] - E[x]^2, which cancels in float32.
  return nn.LayerNorm(epsilon=1e-5, dtype=config.dtype, scale_init=around_1,
                      use_fast_variance=False, name='norm')


class _Layer(nn.Module):
  """One layer, as a step of a scan over the layers."""
  config: ModelConfig
  deterministic: bool

  @nn.compact
  def __call__(self, x_BxLxD, memory_BxMxD, *shared):
    new_memory_BxMxD = jax.lax.stop_gradient(jnp.concatenate(
        [memory_BxMxD, x_BxLxD], 1)[:, x_BxLxD.shape[1]:])
    x_BxLxD = _Attention(self.config, self.deterministic, name='attention')(
        x_BxLxD, jax.lax.stop_gradient(memory_BxMxD), *shared)
    x_BxLxD = _FeedForward(self.config, self.deterministic,
                           name='feed_forward')(x_BxLxD)
    return x_BxLxD, new_memory_BxMxD


class TransformerXL(nn.Module):
  """The whole model; the parameters of all layers are stacked on axis 0."""
  config: ModelConfig
  deterministic: bool = True

  @nn.compact
  def __call__(self, tokens_BxL, memory: Memory):
    c = self.config
    _, _, mem_len, _ = memory.hidden.shape
    check_memory(c, mem_len)
    normal = nn.initializers.normal(_INIT_STD)
    dropout = nn.Dropout(c.dropout, deterministic=self.deterministic)
    embedding_VxD = self.param('embedding', normal, (c.n_token, c.d_model))
    output_bias_V = self.param('output_bias', nn.initializers.zeros,
                               (c.n_token,))
    # u and v of the paper, shared by all layers.
    content_bias_HxC = self.param('content_bias', normal, (c.n_head, c.d_head))
    position_bias_HxC = self.param('position_bias', normal,
                                   (c.n_head, c.d_head))

    length = tokens_BxL.shape[1]
    x_BxLxD = embedding_VxD[tokens_BxL] * c.d_model**0.5
    tables = {name: self.param(name, normal, shape)
              for name, shape in table_shapes(c).items()}
    gates = {name: self.param(name, nn.initializers.zeros, shape)
             for name, shape in gate_shapes(c).items()}
    told_BxLxD, heard, told = tell(tables, c, jax.tree.map(
        lambda x: jnp.where(memory.length, x, 0), memory.told), tokens_BxL,
        length)
    x_BxLxD += c.d_model**0.5 * told_BxLxD
    x_BxLxD = dropout(x_BxLxD).astype(c.dtype)
    # Distances K .. 0; nothing is K away, but see `shift`.
    position_PxD = dropout(embed_distances(
        c, np.arange(mem_len + length, -1, -1)))
    # What all distances share moves all scores of a query alike, and softmax
    # does not see it; but in the gradient it would cancel, and leave noise.
    position_PxD = (position_PxD - position_PxD.mean(0)).astype(c.dtype)

    x_BxLxD, hidden_NxBxMxD = self._layers(
        x_BxLxD, memory.hidden, position_PxD,
        jnp.arange(mem_len + length) >= mem_len - memory.length,
        visible(c, length, mem_len, memory.length),
        content_bias_HxC, position_bias_HxC)
    x_BxLxD = dropout(x_BxLxD)
    logits_BxLxV = jnp.einsum(
        'bld,vd->blv', x_BxLxD, embedding_VxD.astype(c.dtype),
        preferred_element_type=jnp.float32) + output_bias_V
    logits_BxLxV += favour(gates, c, heard, x_BxLxD)
    return logits_BxLxV, Memory(
        hidden_NxBxMxD, jnp.minimum(memory.length + length, mem_len), told)

  def _layers(self, x_BxLxD, memory_NxBxMxD, *shared):
    """Applies the layers, which share the other arguments, one by one."""
    c = self.config
    layer = nn.remat(_Layer, prevent_cse=False) if c.remat else _Layer
    if self.is_initializing() or not c.unroll:
      return nn.scan(
          layer, variable_axes={'params': 0}, length=c.n_layer,
          split_rngs={'params': True, 'dropout': True},
          in_axes=(0, *5 * (nn.broadcast,)))(
              c, self.deterministic, name='layers')(
                  x_BxLxD, memory_NxBxMxD, *shared)
    # Split, not indexed: the gradient is then one concatenation.
    split = functools.partial(jax.lax.split, sizes=c.n_layer * (1,))
    params = jax.tree.map(split, self.variables['params']['layers'])
    hidden = []
    for i in range(c.n_layer):
      params_of_layer = jax.tree.map(
          lambda parts, i=i: parts[i][0], params,
          is_leaf=lambda x: isinstance(x, (list, tuple)))
      rngs = {} if self.deterministic else {'dropout': self.make_rng('dropout')}
      x_BxLxD, new_memory_BxMxD = layer(
          c, self.deterministic, parent=None).apply(
              {'params': params_of_layer}, x_BxLxD, memory_NxBxMxD[i],
              *shared, rngs=rngs)
      hidden.append(new_memory_BxMxD)
    return x_BxLxD, jnp.stack(hidden)


def init_params(config: ModelConfig, rng) -> dict[str, Any]:
  """Draws parameters: N(0, 0.02), layer-norm scales N(1, 0.02), biases 0."""
  return TransformerXL(config).init(
      rng, jnp.zeros((1, 1), jnp.int32), empty_memory(config, 1, 1))['params']


def apply(params, config: ModelConfig, tokens_BxL, memory: Memory, *,
          dropout_rng=None):
  """Reads one segment of each lane.

  Args:
    params: as `init_params` returns them.
    config: the model's.
    tokens_BxL: int32, 0 .. V - 1.
    memory: of the segments before; M may differ from call to call, and be 0.
    dropout_rng: key of the dropout masks; None for no dropout.

  Returns:
    (logits [B, L, V] float32 of the next token, the memory to go on with;
    no gradient flows through either memory)
  """
  module = TransformerXL(config, deterministic=dropout_rng is None)
  rngs = {} if dropout_rng is None else {'dropout': dropout_rng}
  return module.apply({'params': params}, tokens_BxL, memory, rngs=rngs)


def nll(logits_BxLxV, targets_BxL):
  """Negative log likelihood of each target, [B, L] float32, in nats."""
  logits_BxLxV = logits_BxLxV.astype(jnp.float32)
  chosen_BxL = jnp.take_along_axis(logits_BxLxV, targets_BxL[..., None], -1)
  return jax.nn.logsumexp(logits_BxLxV, -1) - chosen_BxL[..., 0]


def n_params(params) -> int:
  """Counts parameters; the tied embedding counts once."""
  return sum(int(np.prod(np.shape(leaf))) for leaf in jax.tree.leaves(params))
