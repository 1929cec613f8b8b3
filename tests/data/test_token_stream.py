"""Lanes of segments against the original's batches, and against themselves."""

import itertools
import json
import random
import threading

import numpy as np
import pytest
from test_augment import replay

from lakhnes_jax import events
from lakhnes_jax.data import shards, token_stream
from lakhnes_jax.data.token_stream import Stream
from support.corpora import Songs

ALL = token_stream.Augmentation.from_names(['all'])


def _random_songs(lengths, seed=0) -> Songs:
  rng = np.random.default_rng(seed)
  notes = ~np.flatnonzero(events.CODE_KIND <= events.NOTEON)
  songs = []
  for n in lengths:
    song = rng.choice(notes, n)
    is_wait = rng.random(n) < .5
    song[is_wait] = rng.integers(1, 30000, is_wait.sum())
    songs.append(song.astype(np.int32))
  return Songs(songs)


@pytest.fixture(scope='module')
def songs() -> Songs:
  return _random_songs([30, 0, 61, 3, 18, 44, 12, 27, 90, 9, 15])


def _split(oracles, split: str) -> dict[str, np.ndarray]:
  return {path.name: events.from_text(path.read_text())
          for path in sorted((oracles / 'model/corpus' / split).glob('*.txt'))}


def _assert_batches(batches, inputs, targets):
  """Ours are [lanes, length], the original's [length, lanes]."""
  assert len(batches) == len(inputs)
  for i, batch in enumerate(batches):
    np.testing.assert_array_equal(batch.inputs.T, inputs[i], err_msg=str(i))
    np.testing.assert_array_equal(batch.targets.T, targets[i], err_msg=str(i))
    assert batch.inputs.dtype == batch.targets.dtype == np.int32
    assert batch.weights.dtype == np.float32 and (batch.weights == 1).all()
    assert batch.new_epoch == (i == 0)


def _assert_same(batch, other):
  for field, one, two in zip(batch._fields, batch, other, strict=True):
    np.testing.assert_array_equal(one, two, err_msg=field)


@pytest.mark.parametrize('case, lanes, length', [
    ('a', 3, 16), ('b', 2, 32), ('c', 4, 8), ('d', 10, 16)])
def test_evaluation_batches_equal_the_originals(oracles, case, lanes, length):
  with np.load(oracles / 'model/data_pipeline.npz') as arrays:
    stream = Stream(
        Songs(list(_split(oracles, 'valid').values())), events.TX1, lanes,
        length, augmentation=token_stream.TRIM, shuffle=False, repeat=False,
        min_tokens=10)
    _assert_batches(list(stream), arrays[f'eval_{case}_data'],
                    arrays[f'eval_{case}_target'])


def test_each_song_is_encoded_as_the_original_does(oracles):
  with np.load(oracles / 'model/data_pipeline.npz') as arrays:
    for name, song in _split(oracles, 'valid').items():
      stream = Stream(Songs([song]), events.TX1, 1, 999, repeat=False,
                           augmentation=token_stream.TRIM, drop_last=False)
      batch, = stream
      n = int(batch.weights.sum())
      ids = arrays[f'enc_valid/{name}']
      np.testing.assert_array_equal(batch.inputs[0, :n], ids[:-1])
      np.testing.assert_array_equal(batch.targets[0, :n], ids[1:])


def test_two_augmented_epochs_equal_the_originals(oracles):
  """The original's draws are replayed; order and songs are injected."""
  with np.load(oracles / 'model/data_pipeline.npz') as arrays:
    arrays = dict(arrays)
  corpus = _split(oracles, 'train')
  paths = sorted(corpus)
  flags = dict.fromkeys(
      ['voice_dropout', 'switch', 'transpose', 'stretch'], True)
  np.random.seed(1111)
  random.seed(7)
  augmented, orders = [], []
  for epoch in range(2):
    np.random.shuffle(paths)
    assert paths == arrays[f'train_ep{epoch}_paths'].tolist()
    order = list(range(len(augmented), len(augmented) + len(paths)))
    augmented += [ALL.apply_params(corpus[path], replay(flags))
                  for path in paths]
    order = [i for i in order if len(augmented[i]) + 2 >= 10]
    np.random.shuffle(order)
    orders.append(order)
  stream = Stream(Songs(augmented), events.TX1, 4, 16,
                       order=lambda epoch: np.array(orders[epoch]))
  for epoch in range(2):
    inputs = arrays[f'train_ep{epoch}_data']
    batches = [next(stream) for _ in inputs]
    _assert_batches(batches, inputs, arrays[f'train_ep{epoch}_target'])
    assert {batch.epoch for batch in batches} == {epoch}


def _reference(songs, order, lanes, length, min_tokens, drop_last):
  """Token by token: what each lane reads, with -1 on padding."""
  waiting = [[0, *events.TX1.encode(songs.song(i)).tolist(), 0] for i in order]
  waiting = [ids for ids in waiting if len(ids) >= min_tokens]
  lane_pairs, batches = [[] for _ in range(lanes)], []
  while True:
    batch = []
    for pairs in lane_pairs:
      row = []
      for _ in range(length):
        if not pairs and waiting:
          ids = waiting.pop(0)
          pairs += itertools.pairwise(ids)
        row.append(pairs.pop(0) if pairs else (-1, -1))
      batch.append(row)
    batch = np.array(batch)
    if (drop_last and (batch < 0).any()) or (batch < 0).all():
      return batches
    batches.append(batch)


@pytest.mark.parametrize('drop_last', [True, False])
@pytest.mark.parametrize('lanes, length', [(1, 7), (4, 5), (3, 50), (11, 2)])
@pytest.mark.parametrize('min_tokens', [0, 10])
def test_batches_equal_a_token_by_token_reader(songs, drop_last, lanes, length,
                                               min_tokens):
  order = np.random.default_rng(1).permutation(len(songs))
  lanes = min(lanes, 11 if min_tokens == 0 else 9)
  stream = Stream(songs, events.TX1, lanes, length, repeat=False,
                       min_tokens=min_tokens, drop_last=drop_last,
                       order=lambda epoch: order)
  expected = _reference(songs, order, lanes, length, min_tokens, drop_last)
  got = list(stream)
  assert len(got) == len(expected)
  for batch, pairs in zip(got, expected, strict=True):
    np.testing.assert_array_equal(batch.weights, pairs[..., 0] >= 0)
    np.testing.assert_array_equal(batch.inputs, np.maximum(pairs[..., 0], 0))
    np.testing.assert_array_equal(batch.targets, np.maximum(pairs[..., 1], 0))
  if not drop_last:
    counted = songs.lengths[songs.lengths + 2 >= min_tokens]
    assert sum(b.weights.sum() for b in got) == (counted + 1).sum()
    assert stream.n_songs == len(counted)


def test_more_lanes_than_songs_are_padded_when_every_target_counts(songs):
  stream = Stream(songs, events.TX1, 20, 8, repeat=False, drop_last=False)
  total = sum(batch.weights.sum() for batch in stream)
  assert total == (songs.lengths + 1).sum()


def test_orders_are_permutations_and_functions_of_seed_and_epoch(songs):
  def first_inputs(seed, epochs):
    stream = Stream(songs, events.TX1, 1, 1, seed=seed)
    orders = [[] for _ in range(epochs)]
    while (batch := next(stream)).epoch < epochs:
      state = stream.state()
      if state['offsets'] == [1]:
        orders[batch.epoch].append(state['songs'][0])
    return orders
  one, same, other = (first_inputs(seed, 3) for seed in (3, 3, 4))
  assert one == same
  assert one[0] != one[1] != one[2] and one[0] != other[0]
  for order in one:
    assert sorted(order) == list(range(len(songs)))


def test_augmentation_is_a_function_of_seed_epoch_and_song(songs):
  def tokens(lanes, seed, order, epoch):
    """The ids that each song gives, by song."""
    stream = Stream(songs, events.TX1, lanes, 1, augmentation=ALL,
                         seed=seed, order=lambda epoch: np.array(order))
    found = {}
    while (batch := next(stream)).epoch <= epoch:
      if batch.epoch == epoch:
        for lane, song in enumerate(stream.state()['songs']):
          found.setdefault(song, []).append(int(batch.targets[lane, 0]))
    return {song: ids for song, ids in found.items() if ids[-1] == 0}

  order = list(range(len(songs)))
  one = tokens(1, 0, order, 1)
  other_lanes = tokens(3, 0, order[::-1], 1)
  shared = one.keys() & other_lanes.keys()
  assert len(shared) > 5
  assert all(one[song] == other_lanes[song] for song in shared)
  assert one != tokens(1, 0, order, 0)
  assert one != tokens(1, 1, order, 1)
  twins = Stream(Songs([songs.song(8)] * 9), events.TX1, 9, 20,
                      augmentation=ALL)
  assert len(np.unique(next(twins).inputs, axis=0)) > 6


@pytest.mark.parametrize('drop_last', [True, False])
def test_any_state_continues_exactly(songs, drop_last):
  def new():
    return Stream(songs, events.TX1, 3, 7, augmentation=ALL, seed=5,
                       min_tokens=6, drop_last=drop_last)
  stream, n = new(), 40
  states, batches = [], []
  for _ in range(n):
    states.append(json.loads(json.dumps(stream.state())))
    batches.append(next(stream))
  assert batches[-1].epoch >= 3
  for i, state in enumerate(states):
    restored = new()
    restored.restore(state)
    assert restored.state() == state
    for batch in batches[i:i + 12]:
      _assert_same(next(restored), batch)
  stream.restore(states[0])  # Also backwards, on a stream in use.
  _assert_same(next(stream), batches[0])


def test_a_state_of_other_lanes_or_songs_is_refused(songs):
  state = Stream(songs, events.TX1, 3, 7).state()
  with pytest.raises(ValueError, match='3 lanes, this run 4'):
    Stream(songs, events.TX1, 4, 7).restore(state)
  with pytest.raises(ValueError, match='11 songs, this run 3'):
    Stream(_random_songs([9, 9, 9]), events.TX1, 3, 7).restore(state)


def test_slices_of_lanes_make_up_the_global_batch(songs):
  def stream(lane_slice=slice(None)):
    return Stream(songs, events.TX1, 6, 5, augmentation=ALL, seed=2,
                       lane_slice=lane_slice)
  whole, left, right = stream(), stream(slice(0, 4)), stream(slice(4, 6))
  for _ in range(30):
    batch, *parts = next(whole), next(left), next(right)
    assert parts[0].inputs.shape == (4, 5)
    joined = token_stream.Batch(
        *(np.concatenate(pair) for pair in zip(
            *(part[:3] for part in parts), strict=True)), *parts[1][3:])
    _assert_same(batch, joined)
  assert whole.state() == left.state() == right.state()


def test_only_songs_that_are_read_are_touched():
  songs = _random_songs([50] * 300)
  stream = Stream(songs, events.TX1, 4, 10)
  assert songs.asked == 0
  next(stream)
  assert songs.asked == 4
  restored = Stream(songs, events.TX1, 4, 10)
  restored.restore(stream.state())
  assert songs.asked == 8


def test_tx2_keeps_dynamics_and_tx1_leaves_them_out():
  song = events.from_text(
      'WT_5\nP1_NOTEON_60\nP1_VELOCITY_7\nWT_3\nP1_TIMBRE_1\nWT_4\nP1_NOTEOFF')
  corpus = Songs([song], dynamics=True)
  for vocabulary, text in (
      (events.TX1, 'WT_5 P1_NOTEON_60 WT_7 P1_NOTEOFF <S>'),
      (events.TX2, 'WT_5 P1_NOTEON_60 P1_VELOCITY_7 WT_3 P1_TIMBRE_1 WT_4 '
                   'P1_NOTEOFF <S>')):
    batch = next(Stream(corpus, vocabulary, 1, len(text.split())))
    assert [vocabulary.tokens[i] for i in batch.targets[0]] == text.split()


def test_errors_say_what_to_do(songs):
  with pytest.raises(ValueError, match=r'11 songs are too few for 12 lanes'):
    Stream(songs, events.TX1, 12, 4)
  with pytest.raises(ValueError, match=r'9 songs are too few for 10 lanes'):
    Stream(songs, events.TX1, 10, 4, min_tokens=10)
  with pytest.raises(ValueError, match='dynamics'):
    Stream(songs, events.TX2, 2, 4)
  with pytest.raises(ValueError, match='none of 11 songs'):
    Stream(songs, events.TX1, 1, 4, min_tokens=1000)
  with pytest.raises(ValueError, match='at least 1'):
    Stream(songs, events.TX1, 1, 0)
  with pytest.raises(ValueError, match='do not fill one batch of 2 lanes'):
    next(Stream(songs, events.TX1, 2, 1000))
  assert list(Stream(songs, events.TX1, 2, 1000, repeat=False)) == []


def test_shards_give_the_same_batches_as_memory(songs, tmp_path):
  corpus = shards.write_split(
      tmp_path, 'train',
      [(str(i), songs.song(i)) for i in range(len(songs))], max_events=100)
  one, other = (Stream(c, events.TX1, 3, 16, augmentation=ALL)
                for c in (songs, corpus))
  for _ in range(20):
    _assert_same(next(one), next(other))


def _prefetch_threads() -> list[threading.Thread]:
  return [t for t in threading.enumerate() if t.name == 'prefetch']


@pytest.mark.parametrize('ahead', [1, 4])
def test_prefetch_hands_out_the_same_batches_and_states(songs, ahead):
  plain = Stream(songs, events.TX1, 3, 7, augmentation=ALL)
  with token_stream.Prefetch(
      Stream(songs, events.TX1, 3, 7, augmentation=ALL),
      ahead) as batches:
    assert batches.state() == plain.state()
    for i in range(30):
      if i % 2:  # Looking ahead is no handing out.
        before = batches.state()
        ahead = batches.peek()
        assert batches.peek() is ahead and batches.state() == before
      _assert_same(next(batches), next(plain))
      assert batches.state() == plain.state()
    assert batches.waited >= 0
  assert not _prefetch_threads()
  with pytest.raises(ValueError, match='closed'):
    for _ in range(3):
      next(batches)


def test_prefetch_ends_with_its_stream(songs):
  def stream():
    return Stream(songs, events.TX1, 3, 7, repeat=False)
  with token_stream.Prefetch(stream()) as batches:
    got = list(batches)
    with pytest.raises(StopIteration):
      batches.peek()
  assert len(got) == len(list(stream())) > 3
  assert not _prefetch_threads()


def test_prefetch_passes_exceptions_on_in_their_place():
  class Broken(Songs):
    def song(self, i, rng):
      if i == 3:
        raise OSError('shard gone')
      return super().song(i)

  broken = Broken([_random_songs([20]).song(0)] * 5)
  with token_stream.Prefetch(Stream(broken, events.TX1, 1, 21,
                                 shuffle=False)) as batches:
    for _ in range(3):
      next(batches)
    with pytest.raises(OSError, match='shard gone'):
      next(batches)
  assert not _prefetch_threads()


def test_prefetch_closes_while_its_thread_is_at_work(songs):
  for _ in range(20):
    batches = token_stream.Prefetch(Stream(songs, events.TX1, 3, 7))
    batches.close()
    batches.close()
  assert not _prefetch_threads()
