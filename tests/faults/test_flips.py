"""One flipped bit in a file that we wrote: it is named, or nothing changes."""

import shutil

import numpy as np
import pytest

from data_prep import compose_chip, lakh_files, lakh_local
from lakhnes_jax.data import shards
from lakhnes_jax.tracker import store, vocabulary
from lakhnes_jax.weights import checkpoint, weights_folder

pytestmark = pytest.mark.faults
META = {'model': 'none', 'format': 'tx1', 'config': {'d_model': 16},
        'note': 'of a test'}


def flip(path, rng):
  """Flips one bit of a file; returns which."""
  data = bytearray(path.read_bytes())
  bit = int(rng.integers(len(data) * 8))
  data[bit // 8] ^= 1 << bit % 8
  path.write_bytes(data)
  return f'{path.name}, bit {bit}'


def files_of(folder):
  return [path for path in sorted(folder.rglob('*'))
          if path.is_file() and path.stat().st_size]


def flips(folder, copy, rng, n, read, equal):
  """Flips bits of copies of a folder, and reads each.

  Args:
    folder: what was written.
    copy: where copies go.
    rng: what draws the bits: first a file, large ones as often as small ones.
    n: how many.
    read: folder -> value, or a ValueError that names it.
    equal: (value, value) -> whether they are the same.

  Returns:
    how many bits made no difference.
  """
  whole, harmless = read(folder), 0
  paths = files_of(folder)
  for _ in range(n):
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    path = paths[int(rng.integers(len(paths)))].relative_to(folder)
    what = flip(copy / path, rng)
    try:
      found = read(copy)
    except (ValueError, OSError) as error:
      assert str(copy) in str(error), (what, error)
      assert '\n' not in str(error), (what, error)
    else:
      assert equal(found, whole), f'{what}: loads other values'
      harmless += 1
  return harmless


def test_corpus(tmp_path, n_faults):
  rng = np.random.default_rng(2)
  songs = [(f'{i}', rng.integers(-300, 2000, 40)) for i in range(12)]
  shards.write_split(tmp_path / 'a', 'train', songs, max_events=200,
                     metadata={'seed': 7})

  def read(folder):
    corpus = shards.Corpus(folder, 'train')
    return (corpus.names, corpus.metadata, corpus.dynamics,
            [corpus.song(i).tolist() for i in range(len(corpus))])

  n = 6 * n_faults
  harmless = flips(tmp_path / 'a', tmp_path / 'b', rng, n, read,
                   lambda a, b: a == b)
  assert harmless < n / 4  # White space of the index.


def test_patterns(tmp_path, n_faults):
  """Of songs that were parsed for the format `tracker`."""
  rng = np.random.default_rng(7)
  tracker = vocabulary.default()
  songs = compose_chip.compose_game(np.random.default_rng(0), 0)[:2]
  store.write(store.path_of(tmp_path / 'a', 'train'), tracker.version, [
      (store.digest(song), tracker.parse(song)) for _, song in songs])

  def read(folder):
    found = store.read(store.path_of(folder, 'train'), tracker.version)
    return {key: [np.asarray(field).tolist() for field in pattern]
            for key, pattern in found.items()}

  flips(tmp_path / 'a', tmp_path / 'b', rng, n_faults, read,
        lambda a, b: a == b)


def test_weights(tmp_path, n_faults):
  rng = np.random.default_rng(3)
  tree = {'layers': {'w': rng.normal(size=(8, 9)).astype(np.float32)},
          'b': rng.normal(size=7).astype(np.float32)}
  weights_folder.save(tmp_path / 'a', tree, META, opt_state={'mu': tree})

  def read(folder):
    found, meta = weights_folder.read(folder)
    return {name: leaf.tobytes() for name, leaf in
            checkpoint.leaves(found).items()}, meta

  n = 2 * n_faults
  harmless = flips(tmp_path / 'a', tmp_path / 'b', rng, n, read,
                   lambda a, b: a == b)
  assert harmless < n / 4


def test_checkpoint(tmp_path, n_faults, capsys):
  """What is damaged is refused, or the one before is taken with a warning."""
  rng = np.random.default_rng(4)
  run, states = tmp_path / 'a', {}
  with checkpoint.Checkpoints(run, 'last') as checkpoints:
    for step in (1, 2):
      states[step] = {'params': {
          'w': rng.normal(size=(8, 9)).astype(np.float32),
          'b': rng.normal(size=70).astype(np.float32)}}
      checkpoints.save(step, states[step], {'step': step, 'note': 'abc'})

  def read(folder):
    found, meta = checkpoint.restore(folder, 'last')
    return {name: np.asarray(leaf).tobytes() for name, leaf in
            checkpoint.leaves(found).items()}, meta

  def equal(found, whole):
    if found[1].get('step') == 1:
      whole = {name: leaf.tobytes() for name, leaf in
               checkpoint.leaves(states[1]).items()}, {**whole[1], 'step': 1}
      assert capsys.readouterr().err  # Not without a word.
    return found == whole

  flips(run, tmp_path / 'b', rng, -(-n_faults * 3 // 2), read, equal)


def test_parts_of_lakh(music, tmp_path, n_faults):
  """They are made again."""
  rng = np.random.default_rng(5)
  source = tmp_path / 'source'
  source.mkdir()
  for path in sorted((music / 'web').iterdir())[:2]:
    shutil.copy(path, source)

  def parts():
    return lakh_local.make_parts(*lakh_files.find(str(source)), tmp_path, 1)

  parts()
  whole = {path: path.read_bytes() for path in files_of(tmp_path / 'parts')}
  assert len(whole) == 2
  for _ in range(n_faults // 2):
    path = list(whole)[int(rng.integers(2))]
    what = flip(path, rng)
    parts()
    assert {path: path.read_bytes() for path in whole} == whole, what
