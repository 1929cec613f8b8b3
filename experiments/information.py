"""Information content: how surprising songs are to a model, second by second.

A song that means something is neither random nor foreseen: its surprise begins
high, falls as its themes are known, and rises where something new begins. Songs
that a model wrote should cost it what real songs do at the same place. Nats per
second of music and nats per note can be compared across formats, whose tokens
differ.

Source: Pearce, "The Construction and Evaluation of Statistical Models of
Melodic Structure" (2005), for information content as -log p.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lakhnes_jax import events as ev

_BATCH = 16  # Songs that are read at once.
_SETTLED = 2  # Seconds; the curves are compared after these.


def token_times(vocabulary, ids: np.ndarray) -> np.ndarray:
  """[n] float: second at which each token stands in its song.

  Tokens without a time of their own stand where the event before them does.
  """
  if hasattr(vocabulary, 'decode_with_tokens'):
    song, tokens = vocabulary.decode_with_tokens(ids)
    times = np.zeros(len(ids), np.int64)
    owned = tokens >= 0
    np.maximum.at(times, tokens[owned], ev.times_of(song)[owned])
    times = np.maximum.accumulate(times)
  else:
    times = ev.times_of(vocabulary.events[ids])
  return times / ev.SAMPLE_RATE


def nats(model, params, vocabulary, mem_len: int,
         songs: Sequence[np.ndarray]) -> list[np.ndarray]:
  """Reads songs from their beginnings; returns the nats of each token.

  Args:
    model: a `language_model.LanguageModel`.
    params: its parameters.
    vocabulary: of its tokens.
    mem_len: tokens before the newest that it sees.
    songs: token ids of each, without <S>.
  """
  from lakhnes_jax.generation import decode
  params = decode.to_decode_params(model, params)
  order = np.argsort([len(ids) for ids in songs])
  found: list[Any] = [None] * len(songs)
  for start in range(0, len(order), _BATCH):
    chosen = order[start:start + _BATCH]
    lengths = np.array([len(songs[i]) + 1 for i in chosen])
    tokens = np.full((len(chosen), lengths.max()), ev.BOS_EOS, np.int32)
    for row, i in zip(tokens, chosen, strict=True):
      row[len(row) - len(songs[i]):] = songs[i]
    cache = decode.init_cache(model, params, len(chosen), mem_len)
    nll_BxL, _, _ = decode.prefill(model, params, cache, tokens,
                                   lengths_B=lengths)
    for row, i in zip(nll_BxL, chosen, strict=True):
      found[i] = row[len(row) - len(songs[i]):]
  return found


def curves(nats_of: Sequence[np.ndarray], times_of: Sequence[np.ndarray],
           seconds: int) -> np.ndarray:
  """[songs, seconds]: nats in each second of each song."""
  return np.stack([
      np.bincount(np.minimum(times.astype(int), seconds - 1), weights,
                  minlength=seconds)[:seconds]
      for weights, times in zip(nats_of, times_of, strict=True)])


def compare(model, params, vocabulary, mem_len: int, samples, real, *,
            seconds: float) -> dict[str, Any]:
  """Compares the information content of samples and of real songs.

  Args:
    model, params, vocabulary, mem_len: see `nats`.
    samples, real: int32 songs of events, cut to `seconds`.
    seconds: whole seconds of each that are read.

  Returns:
    JSON: for `samples` and `real` the `median` curve, nats in each second, and
    means of `nats_per_second`, `nats_per_note` and `nats_per_token`; `lower`
    and `upper`, the quartiles of real songs; `inside`, the share of seconds,
    the first 2 left out, in which the samples' median lies between these.
  """
  found, seconds = {}, max(1, int(seconds))
  both = {}
  for name, songs in (('samples', samples), ('real', real)):
    ids = [vocabulary.encode(vocabulary.project(song)) for song in songs]
    cost = nats(model, params, vocabulary, mem_len, ids)
    both[name] = curves(cost, [token_times(vocabulary, x) for x in ids],
                        seconds)
    notes = sum(int((ev.kind_of(song) == ev.NOTEON).sum()) for song in songs)
    total = float(sum(row.sum() for row in cost))
    found[name] = {
        'median': np.median(both[name], 0).tolist(),
        'nats_per_second': total / (seconds * len(songs)),
        'nats_per_note': total / max(notes, 1),
        'nats_per_token': total / max(sum(map(len, ids)), 1)}
  lower, upper = np.quantile(both['real'], (.25, .75), axis=0)
  median = np.median(both['samples'], 0)
  inside = ((median >= lower) & (median <= upper))[_SETTLED:]
  return {**found, 'lower': lower.tolist(), 'upper': upper.tolist(),
          'inside': float(inside.mean()) if len(inside) else np.nan}
