"""New songs from a model, and the files that are made of each."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from lakhnes_jax import events, files, model, nesmidi, sampling


@functools.partial(jax.jit, static_argnames=(
    'config', 'length', 'mem_len', 'temperature', 'top_k'))
def _generate(params, keys_B, *, config, length: int, mem_len: int,
              temperature: float, top_k: int):
  """[B, length] int32 ids, each song a function of its key."""
  def body(carry, step):
    tokens_B, memory = carry
    logits_BxLxV, memory = model.apply(params, config, tokens_B[:, None], memory)
    probs_BxV = sampling.probabilities(
        logits_BxLxV[:, 0], temperature=temperature, top_k=top_k)
    keys = jax.vmap(lambda key: jax.random.fold_in(key, step))(keys_B)
    tokens_B = jax.vmap(jax.random.categorical)(keys, jnp.log(probs_BxV))
    return (tokens_B, memory), tokens_B

  batch = keys_B.shape[0]
  first = (jnp.full(batch, events.START),
           model.empty_memory(config, batch, mem_len))
  return jax.lax.scan(body, first, jnp.arange(length))[1].T


def songs(config, params, vocabulary: events.Vocabulary, n: int, *,
          length: int = 1024, mem_len: int = 512, temperature: float = 0.95,
          top_k: int = 32, seed: int = 0) -> list[np.ndarray]:
  """Samples `n` songs of `length` events, from <S> and an empty memory.

  Args:
    config: of the model, a `ModelConfig`.
    params: its parameters.
    vocabulary: its vocabulary.
    n: songs; song i of a seed is the same whatever `n`.
    length: events a song; <S> is never drawn.
    mem_len: hidden states kept for attention.
    temperature: divides the logits; 0 always takes the likeliest event.
    top_k: only the likeliest so many events are drawn; 0 means all.
    seed: of the draws.

  Returns:
    n songs, int32 event arrays.
  """
  keys = jax.vmap(functools.partial(jax.random.fold_in, jax.random.key(seed)))(
      jnp.arange(n))
  ids = _generate(params, keys, config=config, length=length, mem_len=mem_len,
                  temperature=temperature, top_k=top_k)
  return [vocabulary.decode(row) for row in np.asarray(ids)]
