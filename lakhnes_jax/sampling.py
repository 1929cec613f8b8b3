"""From logits to the probabilities that the next event is drawn from."""

import jax
import jax.numpy as jnp

from lakhnes_jax import events


def probabilities(logits_BxV, *, temperature: float = 1., top_k: int = 0,
                  top_p: float = 1., exclude_start: bool = True):
  """Turns logits into probabilities, as LakhNES's sampler does.

  <S> goes first, then the temperature divides, then softmax; of that only the
  most likely stay, and are scaled to add up to 1.

  Args:
    logits_BxV: float32.
    temperature: above 0; at 0 the most likely token has probability 1.
    top_k: keep the k most likely; 0 keeps all.
    top_p: keep the fewest most likely that add up to this (Holtzman et al.,
      ICLR 2020); 1 keeps all.
    exclude_start: never <S>.

  Returns:
    [B, V] float32.

  Raises:
    ValueError: a setting is out of range.
  """
  if temperature < 0 or top_k < 0 or not 0 < top_p <= 1:
    raise ValueError(
        f'temperature {temperature}, top_k {top_k}, top_p {top_p}: need '
        'temperature >= 0, top_k >= 0 and 0 < top_p <= 1')
  n_tokens = logits_BxV.shape[-1]
  if exclude_start:
    logits_BxV = logits_BxV.at[..., events.START].set(-jnp.inf)
  if temperature == 0:
    return jax.nn.one_hot(jnp.argmax(logits_BxV, -1), n_tokens)
  probs_BxV = jax.nn.softmax(logits_BxV / temperature)
  if 0 < top_k < n_tokens or top_p < 1:
    kept = min(top_k or n_tokens, n_tokens)
    values, tokens = jax.lax.top_k(probs_BxV, kept)
    before = jnp.cumsum(values, -1) - values
    values = jnp.where((before < top_p) | (top_p == 1), values, 0)
    probs_BxV = jnp.put_along_axis(
        jnp.zeros_like(probs_BxV), tokens, values, axis=-1, inplace=False)
    probs_BxV /= probs_BxV.sum(-1, keepdims=True)
  return probs_BxV
