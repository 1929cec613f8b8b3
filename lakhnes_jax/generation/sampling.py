"""From logits to the token that is drawn."""

import jax
import jax.numpy as jnp

from lakhnes_jax import events

_GREEDY = 1e-6  # Lower temperatures are 0.


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
  logits_BxV = jnp.where((token_V == events.BOS_EOS) & exclude_eos, -jnp.inf,
                         logits_BxV)
  # The logits would overflow if divided by less.
  certain = jnp.asarray(temperature) < _GREEDY
  logits_BxV /= jnp.where(certain, 1, temperature)
  top_k = jnp.where(certain, 1, top_k)
  probs_BxV = jax.nn.softmax(logits_BxV)
  kept_BxV = _likeliest(logits_BxV, jnp.ones_like(probs_BxV), top_k,
                        (top_k > 0) & (top_k < n_tokens))
  kept_BxV &= _likeliest(logits_BxV, probs_BxV, top_p, top_p < 1)
  first_BxV = token_V == jnp.argmax(logits_BxV, -1)[:, None]
  tail_BxV = jnp.where(kept_BxV & ~first_BxV, probs_BxV, 0)
  tail_Bx1 = tail_BxV.sum(-1, keepdims=True)
  kept_BxV &= first_BxV | _likeliest(logits_BxV, tail_BxV, tail_p * tail_Bx1,
                                     tail_p < 1)
  left_Bx1 = jnp.where(kept_BxV, tail_BxV, 0).sum(-1, keepdims=True)
  gain_BxV = jnp.where(first_BxV | (left_Bx1 == 0) | (tail_p == 1), 0,
                       jnp.log(tail_Bx1 / left_Bx1))
  return jnp.where(kept_BxV, logits_BxV + gain_BxV, -jnp.inf)


def _likeliest(logits_BxV, weights_BxV, least, asked):
  """Says which are the fewest likeliest tokens that weigh so much together.

  Without sorting, which takes longer than all of a small model.

  Args:
    logits_BxV: of equals the first counts as likelier.
    weights_BxV: not negative.
    least: scalar or [B, 1]; if all together weigh less, it is all.
    asked: if not, it is all.

  Returns:
    [B, V] bool
  """
  def find():
    # Ordered as the logits are, where -0. would come before 0.
    bits_BxV = jax.lax.bitcast_convert_type(
        jnp.where(logits_BxV == 0, 0., logits_BxV), jnp.uint32)
    sign = jnp.uint32(1 << 31)
    key_BxV = jnp.where(bits_BxV < sign, bits_BxV ^ sign, ~bits_BxV)
    last_Bx1 = _weighed(key_BxV, weights_BxV, least, 32)
    above_BxV, equal_BxV = key_BxV > last_Bx1, key_BxV == last_Bx1
    rest = least - jnp.where(above_BxV, weights_BxV, 0).sum(-1, keepdims=True)
    n_tokens = logits_BxV.shape[-1]
    order_V = jnp.arange(n_tokens, 0, -1).astype(jnp.uint32)
    return above_BxV | equal_BxV & (order_V >= _weighed(
        order_V, jnp.where(equal_BxV, weights_BxV, 0), rest,
        n_tokens.bit_length()))
  return jax.lax.cond(asked, find, lambda: jnp.ones(logits_BxV.shape, bool))


def _weighed(key, weights_BxV, least, n_bits: int):
  """[B, 1] uint32, the greatest k so that keys of k or more weigh `least`."""
  def with_bit(i, found_Bx1):
    more_Bx1 = found_Bx1 | (jnp.uint32(1) << (n_bits - 1 - i).astype(
        jnp.uint32))
    weight_Bx1 = jnp.where(key >= more_Bx1, weights_BxV, 0).sum(
        -1, keepdims=True)
    return jnp.where(weight_Bx1 >= least, more_Bx1, found_Bx1)
  return jax.lax.fori_loop(
      0, n_bits, with_bit, jnp.zeros((len(weights_BxV), 1), jnp.uint32))


def draw(logits_BxV, keys_B):
  """Draws a token [B] int32 from the softmax of each row, by its own key."""
  return jax.vmap(jax.random.categorical)(keys_B, logits_BxV).astype(jnp.int32)
