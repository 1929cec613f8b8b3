"""One flipped bit in a file that we wrote: it is named, or nothing changes.

So where there are checksums: weights, checkpoints, shards and their indices,
songs parsed for `tracker`, codebooks of instruments, parts of Lakh. JSON that
tells of runs and samples (config.json, metrics.jsonl, eval-*.json,
samples.json, metrics.json) and files of songs (MIDI, VGM, NSF, NES, text) have
none, and others write such files too: of them a flipped bit is one value, or
one line that names the file. Of songs that is in `test_inputs`.
"""

import json
import shutil

import numpy as np
import pytest

from data_prep import compose_chip, lakh_files, lakh_local
from lakhnes_jax.data import shards
from lakhnes_jax.tracker import instruments, store, vocabulary
from lakhnes_jax.training import log
from lakhnes_jax.weights import checkpoint, weights_folder
from support import json_readers as edges

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


def test_instruments(tmp_path, n_faults):
  """Weights name the digest of their instruments."""
  (tmp_path / 'a').mkdir()
  shutil.copy(instruments.PATH, tmp_path / 'a')

  def read(folder):
    codebook = instruments.read(folder / instruments.PATH.name)
    return [[array.tobytes() for array in (*kind.table, kind.ends)]
            for kind in codebook.kinds]

  flips(tmp_path / 'a', tmp_path / 'b', np.random.default_rng(8), n_faults,
        read, lambda a, b: a == b)


def _count_different(a, b) -> int:
  """How many values differ between two JSON values; a key is one of them.

  A key that becomes another that is there takes its value away, too.
  """
  if type(a) is not type(b) or not isinstance(a, dict | list):
    return int(repr(a) != repr(b))
  if isinstance(a, list):
    return abs(len(a) - len(b)) + sum(
        map(_count_different, a, b))
  return max(len(a.keys() - b.keys()), len(b.keys() - a.keys())) + sum(
      _count_different(a[key], b[key]) for key in a.keys() & b.keys())


@pytest.mark.parametrize('make', [
    edges.run_config, edges.evaluation, edges.weights_config,
    edges.table_metrics, edges.samples_json, edges.metrics_json])
def test_json_without_checksums(tmp_path, n_faults, make, capsys):
  """One value is another one, or a line names the file."""
  edge = make(tmp_path)
  rng, refused, n_lines = np.random.default_rng(9), 0, len(edge.good)
  n = n_faults if edge.lines else -(-n_faults // 2)
  for _ in range(n):
    edge.write(None)
    what = flip(edge.path, rng)
    capsys.readouterr()
    try:
      edge.read()
      if edge.lines:
        lines = log.read(edge.path.parent)
        # A line break is a byte of two lines.
        lost = n_lines - len(lines)
        # What lacks the last line break may have been cut off by a kill.
        reported = capsys.readouterr().err or not (
            edge.path.read_bytes().endswith(b'\n'))
        assert lost <= 2 and bool(reported) >= bool(lost), what
        assert lost or _count_different(lines, edge.good) <= 2, what
      else:
        assert _count_different(json.loads(edge.path.read_bytes()),
                                edge.good) <= 2, what
    except (ValueError, OSError) as error:
      assert not isinstance(error, UnicodeError), (what, error)
      assert str(edge.named or edge.path) in str(error), (what, error)
      assert '\n' not in str(error), (what, error)
      refused += 1
  assert refused or edge.lines


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
