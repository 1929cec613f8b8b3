"""From logits to the token that is drawn."""

import functools

import jax
import jax.numpy as jnp

from lakhnes_jax import events

_GREEDY = 1e-6  # Lower temperatures are 0.
_FEW = 64  # A top-k up to this needs no sorting of all.


def process_logits(logits_BxV, temperature=1., top_k=0, top_p=1., tail_p=1.,
                   exclude_eos=True):
  """Shapes the distribution to draw from, as LakhNES's sampler does.

  <S> goes first, then the temperature divides; of the softmax of that only the
  most likely stay. Every setting may be traced, so that one compilation serves
  all; `lakhnes_jax.ranges` says what is in range.

  Top-p leaves nothing but the likeliest token where that has a share of p or
  more, which keeps a model that repeats itself from ever doing anything else.
  `tail_p`, which is our own, decides anew what follows if not that token, but
  not how often: of the probabilities .9, .05, .03, .02 it makes, at .7, .9,
  .0625, .0375, 0.

  Args:
    logits_BxV: float32.
    temperature: above 0; at 0 the most likely token is certain.
    top_k: keep the k most likely, of equals the first; 0 keeps all.
    top_p: keep the fewest most likely that add up to this (Holtzman et al.,
      ICLR 2020); 1 keeps all.
    tail_p: the most likely keeps its probability; of the others keep the
      fewest most likely that add up to this share of theirs, and give them
      all of it; 1 keeps all.
    exclude_eos: never <S>.

  Returns:
    [B, V] float32, -inf for what cannot be drawn; its softmax are the
    probabilities.
  """
  n_tokens = logits_BxV.shape[-1]
  token_V = jnp.arange(n_tokens)
  few = min(_FEW, n_tokens)
  logits_BxV = jnp.where((token_V == events.BOS_EOS) & exclude_eos, -jnp.inf,
                         logits_BxV)
  # The logits would overflow if divided by less.
  certain = jnp.asarray(temperature) < _GREEDY
  logits_BxV /= jnp.where(certain, 1, temperature)
  top_k = jnp.where(certain, 1, top_k)
  top_k = jnp.where(top_k == 0, n_tokens, top_k)
  first_Bx1, least_Bx1, last_Bx1, gain_Bx1 = jax.lax.cond(
      top_k <= few, functools.partial(_last, few),
      functools.partial(_last, n_tokens), logits_BxV, top_k, top_p, tail_p)
  kept_BxV = (logits_BxV > least_Bx1) | (logits_BxV == least_Bx1) & (
      token_V <= last_Bx1)
  return jnp.where(kept_BxV, logits_BxV + jnp.where(
      token_V == first_Bx1, 0, gain_Bx1), -jnp.inf)


def _last(most, logits_BxV, top_k, top_p, tail_p):
  """Finds which tokens of the `most` likeliest are kept, up to a last one.

  Returns:
    the likeliest token; the logit of the last, and its id; what the logits of
    all but the first gain, so that `tail_p` leaves the first its probability;
    [B, 1] each
  """
  sorted_BxK, order_BxK = jax.lax.top_k(logits_BxV, most)
  probs_BxK = jnp.exp(
      sorted_BxK - jax.nn.logsumexp(logits_BxV, -1, keepdims=True))
  before_BxK = jnp.cumsum(probs_BxK, -1) - probs_BxK
  kept_BxK = (jnp.arange(most) < top_k) & (
      (before_BxK < top_p) | (top_p == 1))
  tail_BxK = jnp.where(kept_BxK, probs_BxK, 0).at[:, 0].set(0)
  tail_Bx1 = tail_BxK.sum(-1, keepdims=True)
  ahead_BxK = jnp.cumsum(tail_BxK, -1) - tail_BxK
  kept_BxK &= (ahead_BxK < tail_p * tail_Bx1) | (tail_p == 1) | (
      jnp.arange(most) == 0)
  left_Bx1 = jnp.where(kept_BxK, tail_BxK, 0).sum(-1, keepdims=True)
  last_Bx1 = kept_BxK.sum(-1, keepdims=True) - 1
  return (order_BxK[:, :1], jnp.take_along_axis(sorted_BxK, last_Bx1, -1),
          jnp.take_along_axis(order_BxK, last_Bx1, -1),
          jnp.where((left_Bx1 > 0) & (tail_p < 1),
                    jnp.log(tail_Bx1 / left_Bx1), 0))


def draw(logits_BxV, keys_B):
  """Draws a token [B] int32 from the softmax of each row, by its own key."""
  return jax.vmap(jax.random.categorical)(keys_B, logits_BxV).astype(jnp.int32)
