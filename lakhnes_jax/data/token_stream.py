"""Lanes of token ids: batches as a pure function of seed, epoch and song.

A song becomes `<S> e1 .. en <S>`; its inputs are all of that but the last, its
targets all but the first. Each *lane* reads whole songs one after another, and
takes the next of the epoch's order when its own is used up. Nothing marks the
boundary between songs; only where an epoch begins must memory be reset.

What is drawn (the order of an epoch, the augmentation of a song) depends on
(seed, epoch) and (seed, epoch, song) alone, so that a position in the data is
a few numbers a lane, and continuing from it exact.

Source: LakhNES (Donahue et al., ISMIR 2019), the file iterator of its code.
"""

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from lakhnes_jax import events as ev
from lakhnes_jax.data.augment import TRIM, Augmentation

__all__ = ['TRIM', 'Augmentation', 'Batch', 'Prefetch', 'Stream']

_ORDER, _AUGMENT, _ARRANGE = range(3)  # What a draw is for.
_NO_SONG = -1
_MAX_EMPTY_EPOCHS = 20  # Augmentation may leave too little of a tiny corpus.


class Batch(NamedTuple):
  """One segment of every lane.

  Attributes:
    inputs: [lanes, length] int32 token ids.
    targets: [lanes, length] int32, the ids that follow them.
    weights: [lanes, length] float32, 1 where a target counts, 0 on padding.
    new_epoch: whether an epoch begins here, and memory must be reset.
    epoch: from 0.
  """
  inputs: np.ndarray
  targets: np.ndarray
  weights: np.ndarray
  new_epoch: bool
  epoch: int


class _Position(NamedTuple):
  """Where the lanes stand: songs taken this epoch, and of each lane its song
  and the number of that song's inputs already read."""
  epoch: int
  taken: int
  songs: tuple[int, ...]
  offsets: tuple[int, ...]

  @classmethod
  def start(cls, epoch: int, lanes: int) -> '_Position':
    return cls(epoch, 0, (_NO_SONG,) * lanes, (0,) * lanes)


class Stream:
  """Iterator of batches, in any number of epochs.

  Attributes:
    lanes: global number of lanes.
    length: tokens a segment.
    n_songs: songs begun in this epoch by the batches handed out.
  """

  def __init__(self, corpus, vocabulary: ev.Vocabulary, lanes: int,
               length: int, *, augmentation: Augmentation | None = None,
               seed: int = 0, shuffle: bool = True, min_tokens: int = 0,
               repeat: bool = True, drop_last: bool = True,
               lane_slice: slice = slice(None),
               order: Callable[[int], np.ndarray] | None = None):
    """Prepares to read; O(songs) work, no song is read yet.

    Args:
      corpus: has `__len__`, `lengths`, `dynamics` and `song(i, rng)`, as
        `lakhnes_jax.data.shards.Corpus`.
      vocabulary: of the token ids.
      lanes: number of lanes, of all processes together.
      length: tokens a segment.
      augmentation: applied to each song each time that it is taken; None for
        the song as it is.
      seed: not negative.
      shuffle: draw an order for each epoch; else that of the corpus.
      min_tokens: songs that are shorter once augmented are left out. As in the
        original, the two <S> count: of the paper's 10, 8 are events.
      repeat: begin another epoch when one ends; else stop.
      drop_last: end an epoch where the first lane finds no next song, and
        discard that batch (the paper's rule); else pad lanes with weight 0
        until every song is read.
      lane_slice: the lanes that batches hold, for one of several processes.
      order: epoch -> song indices, in place of `shuffle`.

    Raises:
      ValueError: no songs or fewer than lanes, or the vocabulary has dynamics
        and the corpus none.
    """
    if lanes < 1 or length < 1:
      raise ValueError(f'{lanes} lanes of {length} tokens: need at least 1')
    if vocabulary.dynamics and not corpus.dynamics:
      raise ValueError(
          f'the songs have no dynamics (velocities), which {vocabulary.name} '
          'needs; use --format=tx1 or data prepared with dynamics')
    n_songs = int(np.sum(np.asarray(corpus.lengths) + 2 >= min_tokens))
    if not n_songs:
      raise ValueError(f'none of {len(corpus)} songs is as long as '
                       f'{min_tokens} tokens')
    if drop_last and n_songs < lanes:
      raise ValueError(f'{n_songs} songs are too few for {lanes} lanes; use a '
                       f'batch size of at most {n_songs}')
    self.lanes, self.length = lanes, length
    self._corpus, self._vocabulary = corpus, vocabulary
    vocabulary.prepare(corpus)
    self._augmentation = augmentation or Augmentation()
    self._seed, self._min_tokens = seed, min_tokens
    self._repeat, self._drop_last = repeat, drop_last
    self._lane_slice = lane_slice
    self._draw_order = order or (
        self._permutation if shuffle else lambda epoch: np.arange(len(corpus)))
    self._go_to(_Position.start(0, lanes), 0)

  def _rng(self, *purpose: int) -> np.random.Generator:
    return np.random.default_rng(
        np.random.SeedSequence(self._seed, spawn_key=purpose))

  def _permutation(self, epoch: int) -> np.ndarray:
    return self._rng(_ORDER, epoch).permutation(len(self._corpus))

  def _go_to(self, position: _Position, n_songs: int) -> None:
    self._position, self.n_songs = position, n_songs
    self._order = self._draw_order(position.epoch)
    self._ids = [
        np.zeros(0, np.int16) if song == _NO_SONG else self._read(song)
        for song in position.songs]

  def _read(self, song: int) -> np.ndarray:
    """Augments and encodes a song: int16 ids, <S> at both ends."""
    epoch = self._position.epoch
    events = self._corpus.song(song, self._rng(_ARRANGE, epoch, song))
    ids = self._vocabulary.encode_augmented(
        events, self._augmentation, self._rng(_AUGMENT, epoch, song))
    return np.pad(ids, 1, constant_values=ev.BOS_EOS)

  def __iter__(self) -> 'Stream':
    return self

  def __next__(self) -> Batch:
    """Returns the next batch.

    Raises:
      StopIteration: the epoch has ended, and `repeat` is false.
      ValueError: epoch after epoch is too short to fill one batch.
    """
    for _ in range(_MAX_EMPTY_EPOCHS):
      batch = self._fill()
      if batch is not None:
        return batch
      if not self._repeat:
        raise StopIteration
      self._go_to(_Position.start(self._position.epoch + 1, self.lanes), 0)
    raise ValueError(
        f'{len(self._order)} songs do not fill one batch of {self.lanes} lanes '
        f'of {self.length} tokens; use a smaller batch or segment')

  def _fill(self) -> Batch | None:
    """Reads a segment in every lane; None, and no change, at an epoch's end."""
    shape = self.lanes, self.length
    inputs, targets = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    weights = np.zeros(shape, np.float32)
    ids, songs, offsets = list(self._ids), [], []
    taken, begun = self._position.taken, self.n_songs
    for lane, (song, offset) in enumerate(
        zip(self._position.songs, self._position.offsets, strict=True)):
      filled = 0
      while filled < self.length:
        if offset + 1 >= len(ids[lane]):  # The last <S> is never an input.
          if taken == len(self._order):
            break
          song, offset = int(self._order[taken]), 0
          taken += 1
          ids[lane] = self._read(song)
          if len(ids[lane]) < self._min_tokens:
            offset = len(ids[lane])
            continue
          begun += 1
        n = min(len(ids[lane]) - 1 - offset, self.length - filled)
        span = slice(filled, filled + n)
        inputs[lane, span] = ids[lane][offset:offset + n]
        targets[lane, span] = ids[lane][offset + 1:offset + n + 1]
        weights[lane, span] = 1
        filled, offset = filled + n, offset + n
      if filled < self.length and self._drop_last:
        return None
      songs.append(song)
      offsets.append(offset)
    if not weights.any():
      return None
    new_epoch = self._position.songs == (_NO_SONG,) * self.lanes
    epoch, here = self._position.epoch, self._lane_slice
    self._position = _Position(epoch, taken, tuple(songs), tuple(offsets))
    self._ids, self.n_songs = ids, begun
    return Batch(inputs[here], targets[here], weights[here], new_epoch, epoch)

  def state(self) -> dict[str, Any]:
    """Returns the position after the batches handed out, as a JSON object."""
    epoch, taken, songs, offsets = self._position
    return {'epoch': epoch, 'taken': taken, 'begun': self.n_songs,
            'songs': list(songs), 'offsets': list(offsets),
            'corpus_songs': len(self._corpus)}

  def restore(self, state: dict[str, Any]) -> None:
    """Goes to a position; seed and settings must be those that it came from.

    Raises:
      ValueError: it is of another number of lanes or songs.
    """
    for what, was, is_now in (
        ('lanes', len(state['songs']), self.lanes),
        ('songs', state['corpus_songs'], len(self._corpus))):
      if was != is_now:
        raise ValueError(f'the saved position in the data has {was} {what}, '
                         f'this run {is_now}')
    self._go_to(
        _Position(int(state['epoch']), int(state['taken']),
                  tuple(map(int, state['songs'])),
                  tuple(map(int, state['offsets']))), int(state['begun']))


class Prefetch:
  """Reads a stream in a background thread, `ahead` batches in advance.

  A context manager; leaving it ends the thread. Till then the stream is the
  thread's, and ahead of `state()`. An exception of the stream comes up in the
  consumer, at the batch it belongs to.

  Attributes:
    waited: seconds that the consumer has waited for batches.
  """

  def __init__(self, stream: Stream, ahead: int = 1):
    self.waited = 0.
    self._stream = stream
    self._state = stream.state()
    self._peeked: tuple[Batch | None, Any] | None = None
    self._queue: queue.Queue = queue.Queue(maxsize=ahead)
    self._closed = threading.Event()
    # A daemon, so that an interpreter that exits in a hurry is not held up.
    self._thread = threading.Thread(
        target=self._work, name='prefetch', daemon=True)
    self._thread.start()

  def _work(self) -> None:
    while not self._closed.is_set():
      try:
        item = next(self._stream), self._stream.state()
      except BaseException as error:
        item = None, error
      self._queue.put(item)  # `close` empties the queue, so this returns.
      if item[0] is None:
        return

  def peek(self) -> Batch:
    """Returns the batch that comes next, without handing it out."""
    if self._peeked is None:
      if self._closed.is_set():
        raise ValueError('this Prefetch is closed')
      started = time.monotonic()
      self._peeked = self._queue.get()
      self.waited += time.monotonic() - started
    batch, state = self._peeked
    if batch is None:
      raise state
    return batch

  def __iter__(self) -> 'Prefetch':
    return self

  def __next__(self) -> Batch:
    batch = self.peek()
    self._state, self._peeked = self._peeked[1], None
    return batch

  def state(self) -> dict[str, Any]:
    """Returns the stream's position after the last batch handed out."""
    return self._state

  def close(self) -> None:
    """Ends the thread; it may be called again."""
    self._closed.set()
    while self._thread.is_alive():
      with contextlib.suppress(queue.Empty):
        self._queue.get(timeout=.01)
    self._thread.join()

  def __enter__(self) -> 'Prefetch':
    return self

  def __exit__(self, *_) -> None:
    self.close()
