"""Transformer-XL: a language model whose layers remember earlier segments.

Letters of the shape suffixes: B batch (lanes), L segment length, M memory
length, K = M + L keys, D model width, H heads, C width of a head, N layers,
F width of the feed-forward layers, V tokens of the language.

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

DTYPES = ('float32', 'bfloat16')
_INIT_STD = 0.02


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """Shape of the model, and how it computes; the defaults are LakhNES's.

  Attributes:
    n_token: V; tokens of the language.
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
    unroll_layers: compile each layer by itself instead of a loop over them: a
      fifth faster for small models on CPUs, whose loops copy what the backward
      pass needs; takes N times as long to compile, and more memory.
    within_song: see nothing before the start of a song, so that songs in
      training begin as songs from scratch do. The caller says where they start.
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
  unroll_layers: bool = False
  within_song: bool = False

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

  def to_dict(self) -> dict[str, Any]:
    return dataclasses.asdict(self)

  @classmethod
  def from_dict(cls, settings: dict[str, Any]) -> 'ModelConfig':
    """Undoes `to_dict`; `unroll` is an older name of `unroll_layers`.

    Raises:
      ValueError: a setting is unknown, missing or out of range.
    """
    settings = {'unroll_layers' if name == 'unroll' else name: value
                for name, value in settings.items()}
    known = {field.name for field in dataclasses.fields(cls)}
    unknown = sorted(settings.keys() - known)
    if unknown or 'n_token' not in settings:
      raise ValueError('model settings: ' + (
          f'{", ".join(unknown)} unknown' if unknown else 'n_token is missing'))
    return cls(**settings)


class Memory(NamedTuple):
  """What the layers remember of earlier segments.

  Attributes:
    hidden: [N, B, M, D], inputs of each layer, the newest last.
    length: int32 scalar; only the last `length` of M are valid. With
      `within_song` [1, B], those of the song that goes on.
  """
  hidden: Any
  length: Any


def check_memory(config: ModelConfig, mem_len: int) -> None:
  """Raises ValueError if the model needs a memory and has none."""
  if config.same_length and not mem_len:
    raise ValueError('same_length needs a memory: mem_len is 0')


def init_memory(config: ModelConfig, batch: int, mem_len: int) -> Memory:
  """Makes a memory of nothing yet that will hold up to `mem_len` states."""
  shape = (config.n_layer, batch, mem_len, config.d_model)
  return Memory(jnp.zeros(shape, config.dtype),
                jnp.zeros((1, batch) if config.within_song else (), jnp.int32))


def widen(forward, d_inner: int):
  """Adds units to feed-forward layers that have fewer than `d_inner`.

  They get new weights going in, of the spread of the old ones, and zeros going
  out: the layers compute what they did.
  """
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


def einsum_float32(equation: str, *factors):
  """Sums products of any dtype in float32.

  On CPUs the factors are converted first, which gives the same: XLA of jax 0.7
  cannot multiply bfloat16 into float32 where the CPU has instructions for it.
  """
  if jax.default_backend() == 'cpu':
    factors = [factor.astype(jnp.float32) for factor in factors]
  return jnp.einsum(equation, *factors, preferred_element_type=jnp.float32)


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


def visible_within_song(config: ModelConfig, mem_len: int, length_1xB,
                        context_BxL):
  """Says which keys each query may see, where songs are kept apart.

  Args:
    config: the model's.
    mem_len: M.
    length_1xB: int32, states of the memory that are of the song that goes on.
    context_BxL: int32, tokens of its own song before each; 0 where one starts.

  Returns:
    ([B, 1, L, K] bool as `visible`, for each lane; [B, K] bool, keys whose next
    is of the same song, and may be mixed with them)
  """
  n = np.arange(context_BxL.shape[1])
  distance = mem_len + n[:, None] - np.arange(mem_len + len(n))
  farthest = n + (max(mem_len - 1, 0) if config.smear_keys else mem_len)
  if config.same_length:
    farthest = np.minimum(farthest, mem_len - 1)
  seen_BxLxK = (distance >= 0) & (
      distance <= jnp.minimum(context_BxL, farthest)[..., None])
  remembered_BxM = np.arange(mem_len) >= mem_len - length_1xB[0][:, None]
  goes_on_BxL = context_BxL > 0
  if mem_len:
    remembered_BxM = remembered_BxM.at[:, -1].set(
        remembered_BxM[:, -1] & goes_on_BxL[:, 0])
  mixed_BxK = jnp.concatenate(
      [remembered_BxM, jnp.roll(goes_on_BxL, -1, 1)], 1)
  return seen_BxLxK[:, None], mixed_BxK


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
  """Mixes values, [B, L, H, C], by content and distance of their keys.

  `visible_LxK` is that, or [B, 1, L, K].
  """
  c = config
  # The scale is put on the queries, the smaller factor of either product.
  scale = c.d_head**-0.5
  scores = einsum_float32(
      'blhc,bkhc->bhlk',
      (q_BxLxHxC + content_bias_HxC.astype(c.dtype)) * scale, k_BxKxHxC)
  scores += shift(einsum_float32(
      'blhc,phc->bhlp',
      (q_BxLxHxC + position_bias_HxC.astype(c.dtype)) * scale, r_PxHxC))
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
      existing = jnp.where(exists_K[..., None, None], k_BxKxHxC, 0)
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
  """The layers; their parameters are stacked on axis 0.

  Called on embedded tokens and the memory of the segments before, whose M may
  differ from call to call, and be 0; with `within_song` also on [B, L] int32,
  how many tokens of its own song come before each. Returns the output of the
  last layer [B, L, D], and the memory to go on with; no gradient flows through
  either memory.
  """
  config: ModelConfig
  deterministic: bool = True

  @nn.compact
  def __call__(self, x_BxLxD, memory: Memory, context_BxL=None):
    c = self.config
    length, mem_len = x_BxLxD.shape[1], memory.hidden.shape[2]
    check_memory(c, mem_len)
    normal = nn.initializers.normal(_INIT_STD)
    dropout = nn.Dropout(c.dropout, deterministic=self.deterministic)
    # u and v of the paper, shared by all layers.
    content_bias_HxC = self.param('content_bias', normal, (c.n_head, c.d_head))
    position_bias_HxC = self.param('position_bias', normal,
                                   (c.n_head, c.d_head))

    x_BxLxD = dropout(x_BxLxD).astype(c.dtype)
    # Distances K .. 0; nothing is K away, but see `shift`.
    position_PxD = dropout(embed_distances(
        c, np.arange(mem_len + length, -1, -1)))
    # What all distances share moves all scores of a query alike, and softmax
    # does not see it; but in the gradient it would cancel, and leave noise.
    position_PxD = (position_PxD - position_PxD.mean(0)).astype(c.dtype)

    if c.within_song:
      seen, exists = visible_within_song(
          c, mem_len, memory.length, context_BxL)
      valid = context_BxL[None, :, -1] + 1
    else:
      seen = visible(c, length, mem_len, memory.length)
      exists = jnp.arange(mem_len + length) >= mem_len - memory.length
      valid = memory.length + length

    layer = nn.remat(_Layer, prevent_cse=False) if c.remat else _Layer
    x_BxLxD, hidden_NxBxMxD = nn.scan(
        layer, variable_axes={'params': 0}, length=c.n_layer,
        split_rngs={'params': True, 'dropout': True},
        in_axes=(0, *5 * (nn.broadcast,)),
        unroll=c.n_layer if c.unroll_layers else 1)(
            c, self.deterministic, name='layers')(
                x_BxLxD, memory.hidden, position_PxD, exists, seen,
                content_bias_HxC, position_bias_HxC)
    return dropout(x_BxLxD), Memory(
        hidden_NxBxMxD, jnp.minimum(valid, mem_len))
