"""Perplexity of a model on a split, by the paper's protocol and by a full one.

Both read the songs in order, trimmed, those under 10 tokens left out, in lanes
whose memory is carried from song to song. The *paper*'s stops when the first
lane runs out of songs, so the end of the other lanes is not counted. The
*full* one counts every target of every song.
"""

import dataclasses
import functools
import math
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lakhnes_jax.data import token_stream
from lakhnes_jax.model import language_model
from lakhnes_jax.model.language_model import SequenceModel

PROTOCOLS = ('paper', 'full')
MIN_TOKENS = 10
_TOO_SHORT = 'the split is too short to fill one segment of {} in {} lanes'


@dataclasses.dataclass(frozen=True)
class EvalConfig:
  """How to evaluate; the defaults are the paper's.

  Attributes:
    tgt_len: tokens a segment.
    mem_len: hidden states kept for attention.
    batch_size: lanes, songs read side by side.
  """
  tgt_len: int = 128
  mem_len: int = 896
  batch_size: int = 10

  def to_dict(self) -> dict[str, int]:
    """Returns the settings as files of evaluations name them."""
    return {'tgt_len': self.tgt_len, 'mem_len': self.mem_len,
            'lanes': self.batch_size}


def _stream(corpus, vocabulary, config: EvalConfig,
            protocol: str) -> token_stream.Stream:
  n_songs = int(np.sum(np.asarray(corpus.lengths) + 2 >= MIN_TOKENS))
  return token_stream.Stream(
      corpus, vocabulary, max(1, min(config.batch_size, n_songs)),
      config.tgt_len, augmentation=token_stream.TRIM, min_tokens=MIN_TOKENS,
      shuffle=False, repeat=False, drop_last=protocol == 'paper')


def check(corpus, vocabulary, config: EvalConfig,
          protocol: str = 'paper') -> None:
  """Raises a ValueError if `evaluate` would, for the songs or the config."""
  if config.mem_len < 0:
    raise ValueError(f'evaluation with mem_len {config.mem_len}: need 0 or '
                     'more')
  stream = _stream(corpus, vocabulary, config, protocol)
  if next(iter(stream), None) is None:
    raise ValueError(_TOO_SHORT.format(config.tgt_len, stream.lanes))


@functools.lru_cache(maxsize=8)
def segment_fn(model: SequenceModel):
  """Compiles (params, state, batch) -> (summed nll, state)."""
  def segment_nll(params, state, inputs_BxL, targets_BxL, weights_BxL, reset):
    logits, state = model.apply(
        params, inputs_BxL, model.reset(state, reset))
    return jnp.sum(
        language_model.nll(logits, targets_BxL) * weights_BxL), state
  return jax.jit(segment_nll, donate_argnums=1)


def evaluate(model: SequenceModel, params, corpus, vocabulary, *,
             config: EvalConfig = EvalConfig(), protocol: str = 'paper',
             progress: Callable[[int], Any] = lambda tokens: None
             ) -> dict[str, Any]:
  """Computes mean negative log likelihood and perplexity.

  Args:
    model: what is evaluated.
    params: its parameters.
    corpus: the songs of one split.
    vocabulary: the model's, of `lakhnes_jax.events`.
    config: see there. Of fewer songs than lanes, each gets one lane (of those
      that are long enough).
    protocol: one of `PROTOCOLS`.
    progress: called with the number of tokens counted so far.

  Returns:
    JSON object: protocol, loss (nats), ppl, tokens, songs, tokens_per_second,
    and the config: tgt_len, mem_len and lanes.
  """
  stream = _stream(corpus, vocabulary, config, protocol)
  segment_nll = segment_fn(model)
  params = jax.device_put(params)
  state = model.init_state(stream.lanes, config.mem_len)
  total, tokens, waiting = 0.0, 0, None
  started = time.monotonic()
  for batch in stream:
    loss, state = segment_nll(params, state, batch.inputs, batch.targets,
                              batch.weights, batch.new_epoch)
    if waiting is not None:  # Read one late: the device never waits for us.
      total += float(waiting)
      progress(tokens)
    waiting, tokens = loss, tokens + int(np.sum(batch.weights))
  if waiting is None:
    raise ValueError(_TOO_SHORT.format(config.tgt_len, stream.lanes))
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
      **config.to_dict(),
  }
