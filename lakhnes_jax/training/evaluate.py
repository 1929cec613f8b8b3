"""Perplexity of a model on a split, by the paper's protocol and by a full one.

Both read the songs in order, trimmed, those under 10 tokens left out, in lanes
whose memory is carried from song to song. The *paper*'s stops when the first
lane runs out of songs, so the end of the other lanes is not counted. The
*full* one counts every target of every song.
"""

import functools
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lakhnes_jax.data import token_stream

PROTOCOLS = ('paper', 'full')
MIN_TOKENS = 10


class Setting(NamedTuple):
  """How to evaluate; the paper's values.

  Attributes:
    tgt_len: tokens a segment.
    mem_len: hidden states kept for attention.
    lanes: songs read side by side.
  """
  tgt_len: int = 128
  mem_len: int = 896
  lanes: int = 10


@functools.lru_cache(maxsize=8)
def segment_fn(model, config):
  """Compiles (params, memory, batch) -> (summed nll, memory)."""
  def segment_nll(params, memory, inputs_BxL, targets_BxL, weights_BxL, reset):
    memory = memory._replace(length=jnp.where(reset, 0, memory.length))
    logits, memory = model.apply(params, config, inputs_BxL, memory)
    return jnp.sum(model.nll(logits, targets_BxL) * weights_BxL), memory
  return jax.jit(segment_nll, donate_argnums=1)


def evaluate(model, config, params, corpus, vocabulary, *,
             setting: Setting = Setting(), protocol: str = 'paper',
             progress: Callable[[int], Any] = lambda tokens: None
             ) -> dict[str, Any]:
  """Computes mean negative log likelihood and perplexity.

  Args:
    model: module with the functions of `lakhnes_jax.model.transformer_xl`.
    config: the model's.
    params: its parameters.
    corpus: the songs of one split.
    vocabulary: the model's, of `lakhnes_jax.events`.
    setting: see there. Of fewer songs than lanes, each gets one lane.
    protocol: one of `PROTOCOLS`.
    progress: called with the number of tokens counted so far.

  Returns:
    JSON object: protocol, loss (nats), ppl, tokens, songs, tokens_per_second
    and the setting.
  """
  stream = token_stream.Stream(
      corpus, vocabulary, min(setting.lanes, len(corpus)), setting.tgt_len,
      augmentation=token_stream.TRIM, min_tokens=MIN_TOKENS, shuffle=False,
      repeat=False, drop_last=protocol == 'paper')
  segment_nll = segment_fn(model, config)
  params = jax.device_put(params)
  memory = model.empty_memory(config, stream.lanes, setting.mem_len)
  total, tokens, waiting = 0.0, 0, None
  started = time.monotonic()
  for batch in stream:
    loss, memory = segment_nll(params, memory, batch.inputs, batch.targets,
                               batch.weights, batch.new_epoch)
    if waiting is not None:  # Read one late: the device never waits for us.
      total += float(waiting)
      progress(tokens)
    waiting, tokens = loss, tokens + int(np.sum(batch.weights))
  if waiting is None:
    raise ValueError(f'the split is too short to fill one segment of '
                     f'{setting.tgt_len} in {stream.lanes} lanes')
  total += float(waiting)
  progress(tokens)
  loss = total / tokens
  return {
      'protocol': protocol,
      'loss': loss,
      'ppl': math.exp(min(loss, 700)),
      'tokens': tokens,
      'songs': stream.n_songs,
      'tokens_per_second': round(tokens / (time.monotonic() - started), 1),
      **setting._asdict(),
  }
