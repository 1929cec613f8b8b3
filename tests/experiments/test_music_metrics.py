"""Distances by hand and by scipy; the command on a folder of its own making."""

import json
import math

import numpy as np
import pytest
from scipy import stats

from experiments import metrics
from lakhnes_jax import events as ev
from lakhnes_jax.data import shards
from lakhnes_jax.formats import song_files
from lakhnes_jax.report import page


def test_wasserstein_by_hand():
  assert metrics.wasserstein(np.array([3., 5.]), np.array([1., 3.])) == 2
  # Half of it moved by 4, in deviations of 2.
  assert metrics.wasserstein(np.array([0., 4., 4., 8.]),
                             np.array([0., 4., 0., 4.])) == 1
  values = np.array([1., 4., 9., 16.])
  assert metrics.wasserstein(values, values[::-1]) == 0
  # A set thrice as large with the same distribution is the same.
  assert metrics.wasserstein(np.tile(values, 3), values) == pytest.approx(0)
  for a, b in ([], [1, 2]), ([1, 2], []), ([1, 2], [3, 3]):
    assert math.isnan(metrics.wasserstein(np.array(a), np.array(b)))


def test_wasserstein_is_scipys():
  rng = np.random.default_rng(0)
  for n, m in (5, 5), (3, 40), (100, 7):
    a, b = rng.normal(1, 2, n), rng.exponential(3, m)
    assert metrics.wasserstein(a, b) == pytest.approx(
        stats.wasserstein_distance(a, b) / b.std())


def test_overlap_is_that_of_scipys_densities():
  rng = np.random.default_rng(1)
  for a, b in ((rng.normal(0, 1, 20), rng.normal(0, 1, 60)),
               (rng.normal(2, 1, 20), rng.normal(0, 1, 60)),
               (rng.normal(0, 5, 9), rng.normal(0, 1, 30))):
    within = [abs(x - y) for i, x in enumerate(b) for y in b[:i]]
    between = [abs(x - y) for x in a for y in b]
    grid = np.linspace(-20, 40, 3001)
    expected = np.minimum(stats.gaussian_kde(within)(grid),
                          stats.gaussian_kde(between)(grid)).sum() * 60 / 3000
    assert metrics.overlap(a, b) == pytest.approx(expected, abs=0.005)
  near, far = (metrics.overlap(rng.normal(mean, 1, 50), b) for mean in (0, 9))
  assert far < 0.1 < 0.6 < near
  assert math.isnan(metrics.overlap(np.ones(2), b))
  assert math.isnan(metrics.overlap(np.ones(5), np.ones(5)))


def melody(rng, n: int) -> np.ndarray:
  """A random tune of n notes and waits, no two alike at once."""
  pitches = rng.integers(40, 100, n)
  return tune_of(pitches, rng.integers(1000, 20000, n))


def tune_of(pitches, waits) -> np.ndarray:
  """Notes of P1, each with a wait behind it."""
  return np.stack([ev.EVENT[ev.P1, ev.NOTEON, pitches], waits],
                  1).reshape(-1).astype(np.int32)


@pytest.fixture(scope='module')
def reference(tmp_path_factory):
  """20 songs to train on, 60 held out, all random."""
  folder = tmp_path_factory.mktemp('shards')
  rng = np.random.default_rng(2)
  for split, n in (('train', 20), ('valid', 60)):
    shards.write_split(folder, split, [
        (f'{split} {i}', melody(rng, 60)) for i in range(n)])
  return folder


@pytest.fixture
def tunes(tmp_path, reference):
  """Three samples: new, one copied in part a fourth higher, none at all."""
  rng = np.random.default_rng(3)
  corpus = shards.Corpus(reference, 'train')
  copied = corpus.song(7)[20:80].copy()
  pitches = ev.value_of(copied[::2]) - 5
  copied[::2] = ev.EVENT[ev.P1, ev.NOTEON, np.maximum(pitches, 33)]
  assert (pitches >= 33).all()
  folder = tmp_path / 'tunes'
  song_files.write_song(folder / 'copied.tx1.txt',
                   np.concatenate([melody(rng, 20), copied]))
  # The text is read.
  song_files.write_song(folder / 'copied.mid', melody(rng, 5))
  song_files.write_song(folder / 'new.tx1.txt', melody(rng, 50))
  song_files.write_song(folder / 'silent.tx1.txt', ev.from_text('P1_NOTEON_60'))
  return folder


def run(*args) -> int:
  return metrics.main([*map(str, args), '--skip_audio'])


def test_command(tunes, reference, capsys):
  page.write(tunes)
  before = (tunes / 'index.html').read_text()
  assert run(tunes, f'--reference={reference}', '--seconds=8') == 0
  out, err = capsys.readouterr()
  assert '1 of 3 songs last no time at all: silent' in err
  assert ('1 of 3 songs end before 8 s, and are measured as they are: silent'
          in err)
  found = json.loads((tunes / 'metrics.json').read_text())
  assert found['seconds'] == 8
  assert (found['reference_songs'], found['floor_songs']) == (60, 3)
  copied = found['samples']['copied']['memorisation']
  for view, length in (('transposed', 60), ('notes', 30), ('melody', 25)):
    run_ = copied[view]
    assert run_['length'] >= length and run_['song'] == 'train 7', view
    assert run_['shift'] == -5 and run_['copied']
    assert run_['held_out_as_long'] == 0
  assert copied['exact']['length'] < 5 and not copied['exact']['copied']
  assert copied['transposed']['share'] == pytest.approx(0.6, abs=0.02)
  assert not any(view['copied'] for view in
                 found['samples']['new']['memorisation'].values())
  # What is nan there is null here.
  assert found['samples']['silent']['metrics']['note_density'] is None
  assert found['metrics']['note_density']['n'] == 2
  assert found['metrics']['silence_P2']['mean'] == 1
  assert found['metrics']['silence_P2']['wasserstein'] is None
  assert 'copied: 30 in notes' in out
  # The page tells it too.
  after = (tunes / 'index.html').read_text()
  assert 'copied from a' in after and 'copied from a' not in before


class Songs:
  """What `measure` needs of a corpus."""

  def __init__(self, *songs):
    self.names = [f's{i}' for i in range(len(songs))]
    self.song = songs.__getitem__

  def __len__(self):
    return len(self.names)


def test_a_critic_hears_what_differs_and_nothing_else():
  """Tunes in whole frames, against such tunes and against chromatic scales."""
  def corpus(seed, scale):
    rng = np.random.default_rng(seed)
    songs = []
    for _ in range(12):
      steps = rng.integers(0, 2, 80) if scale else rng.integers(-7, 8, 80)
      pitches = 50 + np.cumsum(steps) % 40
      waits = rng.choice([6, 12], 80) * 735
      songs.append(tune_of(pitches, waits))
    return Songs(*songs)

  def measured(scale):
    samples = corpus(1, scale)
    return metrics.measure(
        {name: samples.song(i) for i, name in enumerate(samples.names)},
        corpus(2, False), corpus(3, False), seconds=8)

  alike, scales = measured(False), measured(True)
  for view in ('features', 'ngrams', 'both'):
    assert scales['critic'][view] > .93
    # So few songs that are alike come out below one half as well.
    assert alike['critic'][view] < .75
    assert scales['critic_floor'][view] < .75
  assert scales['frechet'] > 3 * scales['frechet_floor']
  assert alike['frechet'] < 3 * alike['frechet_floor']
  assert 'critic, AUC on ngrams' in metrics.describe(scales)


def test_a_critic_does_not_know_a_song_by_its_game():
  """Each game has a figure of its own, and nothing else tells songs apart."""
  def corpus(seed, names):
    rng = np.random.default_rng(seed)
    songs = []
    for _ in range(8):
      figure = rng.permutation([-5, -3, -2, 2, 3, 5])
      for _ in range(4):
        pitches = rng.integers(55, 65) + np.cumsum(np.tile(figure, 14))
        songs.append(tune_of(
            pitches, np.full(len(pitches), rng.choice([6, 12]) * 735)))
    found = Songs(*songs)
    found.names = [names.format(game=i // 4, song=i) for i in range(len(songs))]
    return found

  def heard(names):
    samples = corpus(1, names)
    return metrics.measure(
        {name: samples.song(i) for i, name in enumerate(samples.names)},
        corpus(2, names), corpus(3, names), seconds=8)

  by_song, by_game = heard('s{song}'), heard('{game:03}_Game_{song:02}')
  for part in ('critic', 'critic_floor'):
    assert by_song[part]['ngrams'] > .9
    assert by_game[part]['ngrams'] < .8
  too_few = metrics.measure({'a': corpus(1, 's{song}').song(0)},
                            corpus(2, 's{song}'), corpus(3, 's{song}'),
                            seconds=8)
  assert 'critic' not in too_few


def test_what_real_songs_share_as_well_is_not_copied():
  rng = np.random.default_rng(4)
  rest = np.int32([30 * 44100])  # All last as long as is measured.
  tune, *others = (np.append(melody(rng, 60), rest) for _ in range(9))
  corpus = Songs(tune, *others[:4])
  for held_out, copied in ((Songs(*others[4:]), True),
                           (Songs(tune, *others[4:]), False)):
    found = metrics.measure({'a': tune}, corpus, held_out)[
        'samples']['a']['memorisation']['notes']
    assert found['copied'] == copied and found['length'] == 60
    assert found['held_out_as_long'] == (0 if copied else 1 / 5)
  # Nor is a long trill, nor what is over at once.
  trill = np.tile(ev.from_text('P1_NOTEON_60\nWT_9000\nP1_NOTEON_62\nWT_9000'),
                  20)
  fast = np.where(tune > 0, 300, tune).astype(np.int32)
  corpus = Songs(trill, fast, *others[:4])
  for song in trill, fast:
    found = metrics.measure(
        {'a': song}, corpus, Songs(*others[4:]), seconds=.1)
    found = found['samples']['a']['memorisation']['notes']
    assert found['length'] >= 40 and found['held_out_as_long'] == 0
    assert not found['copied']


def test_given_events_are_not_searched(tunes, reference):
  (tunes / 'samples.json').write_text(json.dumps([
      {'name': 'new', 'n_given': 50},
      {'name': 'copied', 'n_given': 60, 'task': 'continue'}]))
  assert run(tunes, f'--reference={reference}', '--seconds=5') == 0
  found = json.loads((tunes / 'metrics.json').read_text())
  run_ = found['samples']['copied']['memorisation']['transposed']
  assert run_['length'] == 40  # Of 60.
  song = song_files.read_song(tunes / 'copied.tx1.txt')
  assert run_['at'] == pytest.approx(np.maximum(song[:60], 0).sum() / 44100)


def test_bad_files_are_named_and_skipped(tunes, reference, capsys):
  (tunes / 'bad.tx1.txt').write_text('P9_NOTEON_1')
  assert run(tunes, f'--reference={reference}', f'--out={tunes}/m.json',
             '--seconds=3') == 1
  assert 'bad.tx1.txt: line 1:' in capsys.readouterr().err
  found = json.loads((tunes / 'm.json').read_text())
  assert list(found['skipped']) == ['bad'] and len(found['samples']) == 3
  assert found['seconds'] == 3 and found['held_out'] == 'valid'
  assert not (tunes / 'metrics.json').exists()


@pytest.mark.parametrize('args, message', [
    (['{tunes}', '--reference={tunes}'], "no split 'train' here"),
    (['{tunes}/none', '--reference={shards}'], 'none: no such folder'),
    (['{shards}', '--reference={shards}'], 'no song file there'),
    (['{tunes}', '--reference={shards}', '--seconds=1000'],
     'no real song lasts 1000 s'),
])
def test_errors(args, message, tunes, reference, capsys):
  assert run(*(arg.format(tunes=tunes, shards=reference) for arg in args)) == 1
  err = capsys.readouterr().err
  assert message in err and 'Traceback' not in err
