"""Random, unigram and n-gram baselines: how well does mere counting predict?

    python -m experiments.baselines.ngram --data_dir=data/nesmdb

counts n-grams in the train split and prints the perplexity on another, in
seconds. An n-gram is one uint64, so counting is sorting. Songs are trimmed and
have <S> at both ends; every token but a song's first <S> is a target, and no
n-gram reaches over the boundary of a song.

Two 5-grams are given. The paper's takes the raw frequency of the longest
n-gram seen in training, without discount: what it puts on seen n-grams and
what it puts on the rest add up to more than one, so it is *not a normalised
distribution* and its perplexity flatters it. Interpolated Kneser-Ney is one.
"""

import argparse
import json
import sys
import time
from typing import NamedTuple

import numpy as np

from lakhnes_jax import command_line
from lakhnes_jax import events as ev
from lakhnes_jax.data import augment, shards

ORDER = 5
MIN_TOKENS = 10  # Shorter songs are not evaluated on, as in the paper.


class Tokens(NamedTuple):
  """The songs of a split, one after another.

  Attributes:
    ids: [n] int16 token ids, <S> at both ends of each song.
    positions: [n] int32, of each token in its song, from 0.
  """
  ids: np.ndarray
  positions: np.ndarray


def read(corpus, vocabulary: ev.Vocabulary, min_tokens: int = 0) -> Tokens:
  """Reads trimmed songs, those of fewer tokens (with both <S>) left out.

  Raises:
    ValueError: no song is left.
  """
  songs = []
  for i in range(len(corpus)):
    events = augment.trim(vocabulary.project(corpus.song(i)))
    if len(events) + 2 >= min_tokens:
      songs.append(np.pad(vocabulary.encode(events), 1,
                          constant_values=ev.BOS_EOS))
  if not songs:
    raise ValueError(f'no song has {min_tokens} tokens')
  return Tokens(np.concatenate(songs), np.concatenate(
      [np.arange(len(song), dtype=np.int32) for song in songs]))


class _Counts(NamedTuple):
  """Counted n-grams of one order, and what follows each context.

  Attributes:
    keys: [k] uint64, ascending.
    counts: [k] int64.
    contexts: [c] uint64, ascending: the keys less their last token.
    totals: [c] int64, the counts of n-grams that begin with the context.
    types: [c] int64, how many such n-grams there are.
  """
  keys: np.ndarray
  counts: np.ndarray
  contexts: np.ndarray
  totals: np.ndarray
  types: np.ndarray

  @classmethod
  def make(cls, keys: np.ndarray, counts: np.ndarray,
           bits: np.uint64) -> '_Counts':
    contexts, starts = np.unique(keys >> bits, return_index=True)
    return cls(keys, counts, contexts, np.add.reduceat(counts, starts),
               np.diff(starts, append=len(keys)))


class NGrams:
  """N-grams counted in training songs; predicts the tokens of others.

  Attributes:
    size: of the vocabulary.
    order: the longest n-gram.
  """

  def __init__(self, tokens: Tokens, size: int, order: int = ORDER):
    """Counts every n-gram of 1 to `order` tokens whose last is a target.

    Raises:
      ValueError: an n-gram does not fit 64 bits.
    """
    self.size, self.order = size, order
    self._bits = np.uint64((size - 1).bit_length())
    if order * int(self._bits) > 64:
      raise ValueError(f'{order} tokens of {self._bits} bits do not fit 64')
    self._raw = []
    for n, keys in self._keys(tokens, order):
      keys = keys[tokens.positions >= max(n - 1, 1)]
      if not keys.size:
        raise ValueError(f'the training songs have no {n} tokens in a row')
      self._raw.append(_Counts.make(
          *np.unique(keys, return_counts=True), self._bits))

  @property
  def n_ngrams(self) -> int:
    """Number of n-grams of all orders: the size of the model."""
    return sum(len(counts.keys) for counts in self._raw)

  def _keys(self, tokens: Tokens, order: int):
    """Yields n and the n-gram that ends at each token.

    Some reach over the start of a song. With their two <S> inside they are
    equal to none that does not, and so are never found.
    """
    keys = np.zeros(len(tokens.ids), np.uint64)
    for n in range(1, order + 1):
      # The token n - 1 places back is the highest digit.
      shifted = tokens.ids[:len(tokens.ids) - n + 1].astype(np.uint64)
      keys[n - 1:] |= shifted << (self._bits * np.uint64(n - 1))
      yield n, keys

  def backoff(self, tokens: Tokens, order: int | None = None) -> np.ndarray:
    """Raw frequency of each target after the longest context it was seen in.

    Not normalised (see the module) but for order 1, the unigram. A token never
    seen at all gets 1 / size.

    Returns:
      [targets] float64 in (0, 1].
    """
    probabilities = np.full(len(tokens.ids), 1 / self.size)
    for n, keys in self._keys(tokens, order or self.order):
      counts = self._raw[n - 1]
      seen, where = _find(counts.keys, keys)
      _, context = _find(counts.contexts, keys[seen] >> self._bits)
      probabilities[seen] = (counts.counts[where[seen]] /
                             counts.totals[context])
    return probabilities[tokens.positions > 0]

  def kneser_ney(self, tokens: Tokens) -> np.ndarray:
    """Interpolated Kneser-Ney with one discount an order.

    The longest n-grams have their raw counts; shorter ones the number of
    different tokens seen before them, which is none for those that begin a
    song. From each count D = n1 / (n1 + 2 n2) is taken (n1, n2: n-grams of
    count 1 and 2; 1/2 where n1 is 0) and goes to the order below; below order
    1 all tokens are alike (Chen & Goodman 1998, section 2.7).

    Returns:
      [targets] float64 in (0, 1).
    """
    probabilities = np.full(len(tokens.ids), 1 / self.size)
    for n, keys in self._keys(tokens, self.order):
      counts = self._continuations(n)
      singles, doubles = (int(np.sum(counts.counts == k)) for k in (1, 2))
      discount = singles / (singles + 2 * doubles) if singles else .5
      known, context = _find(counts.contexts, keys >> self._bits)
      keys, context = keys[known], context[known]
      seen, where = _find(counts.keys, keys)
      kept = np.where(seen, counts.counts[where] - discount, 0)
      given_on = discount * counts.types[context] * probabilities[known]
      probabilities[known] = (kept + given_on) / counts.totals[context]
    return probabilities[tokens.positions > 0]

  def _continuations(self, n: int) -> _Counts:
    """Counts of order n as Kneser-Ney wants them."""
    if n == self.order:
      return self._raw[n - 1]
    mask = (np.uint64(1) << (self._bits * np.uint64(n))) - np.uint64(1)
    keys, counts = np.unique(self._raw[n].keys & mask, return_counts=True)
    return _Counts.make(keys, counts, self._bits)


def _find(keys: np.ndarray, wanted: np.ndarray
          ) -> tuple[np.ndarray, np.ndarray]:
  """Returns whether each wanted key is there, and where (or any place)."""
  where = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
  return keys[where] == wanted, where


def perplexity(probabilities: np.ndarray) -> float:
  """exp of the mean negative log."""
  return float(np.exp(-np.mean(np.log(probabilities))))


class Result(NamedTuple):
  """One baseline on one split.

  Attributes:
    model: its name.
    params: numbers it is made of.
    ppl: perplexity.
    normalised: whether its probabilities add up to one.
    tokens: targets counted.
  """
  model: str
  params: int
  ppl: float
  normalised: bool
  tokens: int


def evaluate(train, corpora, vocabulary: ev.Vocabulary) -> list[list[Result]]:
  """Counts n-grams in `train` once and evaluates on each corpus.

  Returns:
    For each corpus: random, unigram, back-off and Kneser-Ney 5-gram.
  """
  ngrams = NGrams(read(train, vocabulary), vocabulary.size)
  size, results = vocabulary.size, []
  for corpus in corpora:
    tokens = read(corpus, vocabulary, MIN_TOKENS)
    n = int(np.sum(tokens.positions > 0))
    results.append([
        Result('random', 0, float(size), True, n),
        Result('unigram', size, perplexity(ngrams.backoff(tokens, 1)), True, n),
        Result(f'{ORDER}-gram', ngrams.n_ngrams,
               perplexity(ngrams.backoff(tokens)), False, n),
        Result(f'{ORDER}-gram Kneser-Ney', ngrams.n_ngrams,
               perplexity(ngrams.kneser_ney(tokens)), True, n)])
  return results


def main() -> None:
  command_line.escape_output()
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--data_dir', required=True, type=command_line.path,
                      help='folder of shards with a train split')
  parser.add_argument('--split', default='valid', help='what to evaluate on')
  parser.add_argument('--format', default='tx1', choices=list(ev.VOCABULARIES),
                      help='tx1: notes; tx2: with dynamics')
  arguments = parser.parse_args()
  started = time.monotonic()
  try:
    train, corpus = (shards.Corpus(arguments.data_dir, split)
                     for split in ('train', arguments.split))
    results, = evaluate(train, [corpus], ev.VOCABULARIES[arguments.format])
  except (ValueError, OSError) as error:
    sys.exit(f'experiments.baselines.ngram: {error}')
  for result in results:
    note = '' if result.normalised else '  (not normalised)'
    print(f'{result.model:20}{result.params:>12,}  ppl {result.ppl:8.2f}{note}')
  print(json.dumps({
      'split': arguments.split, 'tokens': results[0].tokens,
      'ppl': {result.model: result.ppl for result in results},
      'seconds': round(time.monotonic() - started, 1)}))


if __name__ == '__main__':
  main()
