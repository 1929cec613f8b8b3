"""Is it music, is it new? Measures songs against a corpus.

  python -m experiments.metrics tunes --reference=data/nesmdb

Measures each song of a folder (of any known kind; one file a name) and real
songs of the --held_out split; prints how far apart they are by their features,
and for a critic that is trained to tell them apart, with, as the floor, the
same of real songs of the split that the model was trained on; and what each
song shares with *all* of that split (see `experiments.memorisation`). It all
goes into FOLDER/metrics.json, which the listening page shows; where the folder
has such a page, it is made anew.

Like is compared with like: the first --seconds of every song are measured, and
real songs that are shorter are left out. What was given to the model to
continue (`n_given` in samples.json) is no part of a sample here. Memorisation
is measured over whole samples.
"""

import argparse
import json
import sys
import time
from typing import Any

import numpy as np
from scipy import stats

from data_prep import stats as corpus_stats
from experiments import information, memorisation, two_sample
from lakhnes_jax import atomic, command_line, render, vocabularies
from lakhnes_jax import events as ev
from lakhnes_jax.analysis import song_features
from lakhnes_jax.data import shards
from lakhnes_jax.formats import song_files
from lakhnes_jax.report import page

SECONDS = 30.  # Measured of each song.
_GRID = 1024  # Points of a density.
# A run is suspicious that so few held-out songs have, if it is more than an
# arpeggio or a glide.
_RARE, _PITCHES, _SECONDS = 0.02, 4, 1.0


def wasserstein(a: np.ndarray, b: np.ndarray) -> float:
  """Wasserstein-1 distance of two sets of numbers, in deviations of `b`.

  1 is, say, all of it shifted by one deviation. nan where a set is empty or `b`
  does not vary.
  """
  if not len(a) or not len(b) or not np.std(b):
    return np.nan
  return float(stats.wasserstein_distance(a, b) / np.std(b))


def overlap(a: np.ndarray, b: np.ndarray) -> float:
  """Overlap area of Yang and Lerch (2018): 1 where `a` is spread as `b` is.

  Of two densities: distances between all pairs within `b`, and between `a` and
  `b`; both smoothed by Gaussians of Scott's width. nan for fewer than 3 values.
  """
  if len(a) < 3 or len(b) < 3:
    return np.nan
  within = np.abs(b[:, None] - b)[np.triu_indices(len(b), 1)]
  between = np.abs(a[:, None] - b).reshape(-1)
  if not within.std() or not between.std():
    return np.nan
  densities = [stats.gaussian_kde(x) for x in (within, between)]
  margin = 4 * max(x.std() for x in (within, between))
  grid = np.linspace(-margin, max(within.max(), between.max()) + margin, _GRID)
  shares = [density(grid) for density in densities]
  return float(np.minimum(*(share / share.sum() for share in shares)).sum())


def compare(songs: list[dict], real: list[dict]) -> dict[str, dict]:
  """Compares the features of songs with those of real songs.

  Returns:
    For each feature `n` (songs that have it), `mean` and `std` of the songs,
    `reference_mean`, `reference_std` of the real ones, `wasserstein` and
    `overlap` (see there); nan where there is nothing to compare.
  """
  table = {}
  for name in real[0]:
    a, b = (np.array([row[name] for row in rows]) for rows in (songs, real))
    a, b = a[~np.isnan(a)], b[~np.isnan(b)]
    table[name] = {
        'n': len(a), **_moments(a), **{
            f'reference_{key}': value for key, value in _moments(b).items()},
        'wasserstein': wasserstein(a, b), 'overlap': overlap(a, b)}
  return table


def _moments(values: np.ndarray) -> dict[str, float]:
  if not len(values):
    return {'mean': np.nan, 'std': np.nan}
  return {'mean': float(values.mean()), 'std': float(values.std())}


def measure(samples: dict[str, np.ndarray], trained_on, held_out, *,
            seconds: float = SECONDS, n_songs: int = 400,
            given: dict[str, int] | None = None, audio: bool = False,
            weights: str | None = None) -> dict[str, Any]:
  """Measures samples against real songs.

  Args:
    samples: name -> int32 events.
    trained_on: a `shards.Corpus`, searched for what the samples copy. As many
      of its songs as there are samples, drawn at random (always the same), are
      compared in their place for the floor: what real songs get.
    held_out: a `shards.Corpus` of other real songs, which samples are compared
      with.
    seconds: what is measured of each song, from its beginning; real songs that
      are shorter are left out.
    n_songs: of `held_out`, at most.
    given: name -> events at a sample's start that the model did not write;
      they are not measured.
    audio: whether to render the songs, for `loudness_range`.
    weights: of a model that reads samples and held-out songs (see
      `experiments.information`), or None.

  Returns:
    `seconds`, `reference_songs`, `searched_songs`, `floor_songs`; `shorter`,
    names of samples that end before; `metrics` as `compare` returns them, and
    `floor_wasserstein` and `floor_overlap`; `critic` and `critic_floor`, see
    `two_sample.auc`, and `frechet` and `frechet_floor`, where there are enough
    songs; `information`, see `information.compare`; `memorisation`, for each
    view quantiles of the `length` of shared runs and their `share`; `samples`,
    for each name `metrics` and `memorisation` (see `memorisation.measure`),
    where `held_out_as_long` is the share of held-out songs whose run is as
    long, and `copied` whether that is at most 2%, with 4 pitches and 1 s or
    more.

  Raises:
    ValueError: there are no samples, or no real song is long enough.
  """
  if not samples:
    raise ValueError('no songs to measure')
  first = {name: (given or {}).get(name, 0) for name in samples}
  whole = {name: song[first[name]:] for name, song in samples.items()}
  real = _draw(held_out, seconds, n_songs)
  floor = _draw(trained_on, seconds, len(samples))
  if not real or not floor:
    raise ValueError(f'no real song lasts {seconds:g} s; measure less of each '
                     'with --seconds')
  named = [(name, ev.truncate(song, round(seconds * ev.SAMPLE_RATE)))
           for name, song in whole.items()], floor, real
  parts = [[song for _, song in songs] for songs in named]
  groups = [[corpus_stats.game_of(name) or name for name, _ in songs]
            for songs in named]
  measured = [_features(songs, audio) for songs in parts]
  table, yardstick = (compare(songs, measured[2]) for songs in measured[:2])
  for name, row in table.items():
    for key in ('wasserstein', 'overlap'):
      row[f'floor_{key}'] = yardstick[name][key]
  distances = {}
  # Of the samples, and of the floor's songs in their place.
  for suffix, songs, rows, games in zip(
      ('', '_floor'), parts[:2], measured[:2], groups[:2], strict=True):
    if min(len(songs), len(parts[2])) >= two_sample.FOLDS:
      distances[f'frechet{suffix}'] = two_sample.frechet(rows, measured[2])
    if min(len(set(games)), len(set(groups[2]))) >= two_sample.FOLDS:
      distances[f'critic{suffix}'] = two_sample.auc(
          songs, parts[2], rows, measured[2], games, groups[2])

  if weights:
    from lakhnes_jax.weights import weights_folder
    model, params, meta = weights_folder.load(weights)
    distances['information'] = information.compare(
        model, params, vocabularies.get(meta['format']),
        meta.get('mem_len', 512), parts[0], parts[2], seconds=seconds)

  train = [ev.TX1.project(trained_on.song(i)) for i in range(len(trained_on))]
  found = memorisation.measure(
      [ev.TX1.project(song) for song in (*whole.values(), *parts[2])], train,
      trained_on.names)
  found, found_real = found[:len(whole)], found[len(whole):]
  for (name, song), runs in zip(samples.items(), found, strict=True):
    skipped = int(np.maximum(song[:first[name]], 0).sum(dtype=np.int64))
    for run in runs.values():
      if run['length']:
        run['at'] += skipped / ev.SAMPLE_RATE
  summary = {}
  for view in memorisation.LENGTHS:
    summary[view] = _quantiles([runs[view] for runs in found]) | {
        f'held_out_{key}': value for key, value in _quantiles(
            [runs[view] for runs in found_real]).items()}
    lengths = np.array([runs[view]['length'] for runs in found_real])
    for run in (runs[view] for runs in found):
      as_long = float((lengths >= run['length']).mean())
      run['held_out_as_long'] = as_long
      run['copied'] = (as_long <= _RARE and run['pitches'] >= _PITCHES and
                       run['seconds'] >= _SECONDS)
  return {
      'seconds': seconds, 'reference_songs': len(real),
      'floor_songs': len(floor), 'searched_songs': len(train),
      'shorter': [name for name, song in whole.items()
                  if _duration(song) < seconds],
      'metrics': table, **distances, 'memorisation': summary,
      'samples': {name: {'metrics': row, 'memorisation': runs}
                  for name, row, runs in zip(whole, measured[0], found,
                                             strict=True)},
  }


def _duration(song: np.ndarray) -> float:
  return float(np.maximum(song, 0).sum(dtype=np.int64)) / ev.SAMPLE_RATE


def _features(songs: list[np.ndarray], audio: bool) -> list[dict[str, float]]:
  """Measures each song, with `loudness_range` if asked for."""
  rows = [song_features.measure(song) for song in songs]
  if audio:
    for row, song in zip(rows, songs, strict=True):
      row['loudness_range'] = song_features.loudness_range(
          render.render_events([song])[0]) if _duration(song) else np.nan
  return rows


def _draw(corpus, seconds: float, n: int) -> list[tuple[str, np.ndarray]]:
  """Draws at most n songs that last so long, with names, and truncates them."""
  songs = []
  for i in np.random.default_rng(0).permutation(len(corpus)):
    song = corpus.song(i)
    if len(songs) < n and _duration(song) >= seconds:
      songs.append((corpus.names[i],
                    ev.truncate(song, round(seconds * ev.SAMPLE_RATE))))
  return songs


def _quantiles(runs: list[dict]) -> dict[str, float]:
  lengths = [run['length'] for run in runs]
  return {'median': float(np.median(lengths)),
          'p95': float(np.percentile(lengths, 95)), 'max': max(lengths),
          'share': float(np.mean([run['share'] for run in runs]))}


def describe(found: dict[str, Any]) -> str:
  """Returns what `measure` found as tables to read."""
  def show(value: float, width: int) -> str:
    text = '-' if value is None or np.isnan(value) else f'{value:.3f}'
    return f'{text:>{width}}'

  lines = [
      f'the first {found["seconds"]:g} s of {len(found["samples"])} samples, '
      f'{found["reference_songs"]} held-out and {found["floor_songs"]} other '
      'real songs (floor)',
      '',
      f'{"":21}{"samples":^19}{"held-out":^19}{"distance":>9}{"overlap":>8}'
      f'{"floor":^18}',
      f'{"":21}{"mean":>9}{"std":>10}{"mean":>9}{"std":>10}{"W1/std":>9}'
      f'{"area":>8}{"W1/std":>10}{"area":>8}']
  for name, row in found['metrics'].items():
    lines.append(f'{name:21}' + ''.join(
        show(row.get(key, np.nan), width) for key, width in (
            ('mean', 9), ('std', 10), ('reference_mean', 9),
            ('reference_std', 10), ('wasserstein', 9), ('overlap', 8),
            ('floor_wasserstein', 10), ('floor_overlap', 8))))
  if 'frechet' in found:
    floor = found.get('critic_floor', {})
    lines += ['', f'{"":30}{"samples":>9}{"floor":>9}'] + [
        f'critic, AUC on {view:14}' + show(value, 9) + show(floor.get(view), 9)
        for view, value in found.get('critic', {}).items()] + [
            f'{"Frechet distance":29}' + show(found['frechet'], 9)
            + show(found.get('frechet_floor'), 9)]
    if 'critic' not in found:
      lines.append('no critic: needs samples and real songs of '
                   f'{two_sample.FOLDS} games each')
  if 'information' in found:
    rows = [found['information'][name] for name in ('samples', 'real')]
    lines += ['', f'{"":30}{"samples":>9}{"held-out":>9}'] + [
        f'{name.replace("_", " "):30}' + ''.join(
            show(row[name], 9) for row in rows)
        for name in ('nats_per_second', 'nats_per_note', 'nats_per_token')] + [
            f'{"seconds between the quartiles":30}'
            f'{found["information"]["inside"]:9.0%}']
  lines += [
      '', f'longest run shared with any of {found["searched_songs"]} songs, '
      'and share of a song in long ones',
      f'{"":13}{"samples":^32}{"held-out":^32}',
      f'{"":13}' + f'{"median":>8}{"95%":>8}{"max":>8}{"share":>8}' * 2]
  for view, row in found['memorisation'].items():
    lines.append(f'{view:13}' + ''.join(
        f'{row[key]:8.1%}' if key.endswith('share') else f'{row[key]:8.0f}'
        for prefix in ('', 'held_out_') for key in
        (f'{prefix}median', f'{prefix}p95', f'{prefix}max', f'{prefix}share')
        if key in row))
  copied = [f'{name}: {run["length"]} in {view}, {run["seconds"]:.1f} s, '
            f'{run["song"]} at {run["song_at"]:.1f} s'
            for name, sample in found['samples'].items()
            for view, run in sample['memorisation'].items()
            if run.get('copied')]
  if copied:
    lines += ['', 'longer than in 98% of held-out songs:', *copied]
  return '\n'.join(lines)


def _without_nan(value):
  """Turns nan, which JSON has not, into None."""
  if isinstance(value, dict):
    return {key: _without_nan(item) for key, item in value.items()}
  return None if isinstance(value, float) and np.isnan(value) else value


def main(argv: list[str] | None = None) -> int:
  command_line.escape_output()
  parser = argparse.ArgumentParser(
      prog='python -m experiments.metrics', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  add = parser.add_argument
  add('folder', type=command_line.path, metavar='FOLDER', help='the songs')
  add('--reference', type=command_line.path, required=True, metavar='SHARDS',
      help='folder of shards')
  add('--split', default='train', help='of the reference; what the model was '
      'trained on (default: %(default)s)')
  add('--held_out', default='valid', help='split that the samples are compared '
      'with (default: %(default)s)')
  add('--songs', type=command_line.whole(3), default=400, metavar='N',
      help='held-out songs, at most (default: %(default)s)')
  add('--seconds', type=command_line.real(.001, 1e6), default=SECONDS,
      metavar='S', help='measured of each song (default: %(default)g)')
  add('--skip_audio', action='store_true', help='render nothing; leaves '
      'loudness_range out')
  add('--weights', type=command_line.expand, metavar='WEIGHTS',
      help='run directory or weights folder of a model to measure the '
      'information content with')
  add('--out', type=command_line.path, metavar='FILE.json',
      help='default: FOLDER/metrics.json')
  args = parser.parse_args(argv)
  if args.split == args.held_out:
    parser.error(f'--held_out={args.held_out} is the split that the model was '
                 'trained on; name another')

  def complain(error):
    print(f'experiments.metrics: {error}', file=sys.stderr)

  started = time.monotonic()
  samples, skipped = {}, {}
  try:
    given = {name: about['n_given']
             for name, about in page.settings(args.folder).items()
             if about.get('task') == 'continue'}
    for name, path in page.songs(args.folder).items():
      try:
        samples[name] = song_files.read_song(path)
      except (OSError, ValueError) as error:
        skipped[name] = str(error)
        complain(error)
    corpus = shards.Corpus(args.reference, args.split)
    held_out = shards.Corpus(args.reference, args.held_out)
    if not samples:
      raise ValueError(f'{args.folder}: no song file there')
    silent = [name for name, song in samples.items()
              if not np.maximum(song, 0).any()]
    if silent:
      complain(f'{len(silent)} of {len(samples)} songs last no time at all: ' +
               ', '.join(silent[:10]))
    found = measure(samples, corpus, held_out, n_songs=args.songs,
                    seconds=args.seconds, given=given,
                    audio=not args.skip_audio, weights=args.weights)
    if found['shorter']:
      complain(f'{len(found["shorter"])} of {len(samples)} songs end before '
               f'{args.seconds:g} s, and are measured as they are: ' +
               ', '.join(found['shorter'][:10]))
    found = {'reference': str(args.reference), 'split': args.split,
             'held_out': args.held_out,
             'checksum': corpus.checksum, 'skipped': skipped, **found}
    out = args.out or args.folder / 'metrics.json'
    atomic.write(out, json.dumps(_without_nan(found), indent=1).encode())
    print(describe(found))
    print(f'\n{out}, {time.monotonic() - started:.0f} s')
    if (args.folder / 'index.html').exists() and not args.out:
      print(page.write(args.folder))
  except (OSError, ValueError, ImportError) as error:
    complain(error)
    return 1
  return 1 if skipped else 0


if __name__ == '__main__':
  sys.exit(main())
