"""Is it music, is it new? Measures songs against a corpus.

  python -m experiments.metrics tunes --reference=data/nesmdb

Measures each song of a folder (of any known kind; one file a name) and songs of
one split of the reference; prints how far apart they are, what each song shares
with *all* of the split (see `experiments.memorisation`), and, as a yardstick,
the same of held-out real songs. It all goes into FOLDER/metrics.json, which the
listening page shows; where the folder has such a page, it is made anew.

Like is compared with like: of every song the first N events (TX1) are measured,
N being the samples' median, and real songs shorter than that are left out.
What was given to the model to continue (`n_given` in samples.json) is no part
of a sample here. Memorisation is measured over whole samples.
"""

import argparse
import json
import pathlib
import sys
import time
from typing import Any

import numpy as np

from experiments.features import features
from lakhnes_jax import atomic
from lakhnes_jax import events as ev

_GRID = 1024  # Points of a density.
# A run is suspicious that so few held-out songs have, if it is more than an
# arpeggio or a glide.
_RARE, _PITCHES, _SECONDS = 0.02, 4, 1.0


def wasserstein(a: np.ndarray, b: np.ndarray) -> float:
  """Distance of two sets of numbers: the area between their distributions.

  Normalised by the standard deviation of `b`: 1 is, say, all of it shifted by
  one deviation. nan where a set is empty or `b` does not vary.
  """
  if not len(a) or not len(b) or not np.std(b):
    return np.nan
  values = np.sort(np.concatenate([a, b]))
  below = [np.searchsorted(np.sort(x), values[:-1], 'right') / len(x)
           for x in (a, b)]
  area = (np.abs(below[0] - below[1]) * np.diff(values)).sum()
  return float(area / np.std(b))


def overlap(a: np.ndarray, b: np.ndarray) -> float:
  """Overlap area of Yang and Lerch (2018): 1 where `a` is spread as `b` is.

  Of two densities: distances between all pairs within `b`, and between `a` and
  `b`; both smoothed by Gaussians of Scott's width. nan for fewer than 3 values.
  """
  if len(a) < 3 or len(b) < 3:
    return np.nan
  within = np.abs(b[:, None] - b)[np.triu_indices(len(b), 1)]
  between = np.abs(a[:, None] - b).reshape(-1)
  widths = [np.std(x, ddof=1) * len(x)**-0.2 for x in (within, between)]
  top = max(within.max(), between.max())
  if not min(widths):
    return np.nan
  edges = np.linspace(-4 * max(widths), top + 4 * max(widths), _GRID + 1)
  step = edges[1] - edges[0]
  offsets = np.arange(1 - _GRID, _GRID) * step
  densities = []
  for values, width in zip((within, between), widths, strict=True):
    counts, _ = np.histogram(values, edges)
    kernel = np.exp(-0.5 * (offsets / width)**2)
    density = np.convolve(counts, kernel, 'valid')
    densities.append(density / density.sum())
  return float(np.minimum(*densities).sum())


def compare(samples: list[dict], reference: list[dict]) -> dict[str, dict]:
  """Compares the features of two sets of songs.

  Returns:
    For each feature `n` (samples that have it), `mean` and `std` of the
    samples, `reference_mean`, `reference_std`, `wasserstein` and `overlap` (see
    there); nan where there is nothing to compare.
  """
  table = {}
  for name in reference[0]:
    a, b = (np.array([song[name] for song in songs]) for songs in
            (samples, reference))
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


def measure(samples: dict[str, np.ndarray], corpus, held_out=None, *,
            n_songs: int = 500, n_held_out: int = 100, length: int = 0,
            given: dict[str, int] | None = None) -> dict[str, Any]:
  """Measures samples against a corpus.

  Args:
    samples: name -> int32 events.
    corpus: a `shards.Corpus`; of its songs `n_songs` drawn at random (always
      the same) are the reference of features, all that of memorisation.
    held_out: a `shards.Corpus` of real songs that are not in `corpus`, or None.
    n_songs: see `corpus`.
    n_held_out: songs taken from `held_out`.
    length: TX1 events measured of each song; 0 means the samples' median.
    given: name -> events at a sample's start that the model did not write;
      they are not measured.

  Returns:
    `length`; `metrics` as `compare` returns them, and `held_out_wasserstein`
    and `held_out_overlap`; `memorisation`, for each view quantiles of the
    `length` of shared runs and their `share`; `samples`, for each name
    `metrics` and `memorisation` (see `memorisation.measure`), where
    `held_out_as_long` is the share of held-out songs whose run is as long, and
    `copied` whether that is at most 2%, with 4 pitches and 1 s or more.

  Raises:
    ValueError: there are no samples, or no real song is long enough.
  """
  from experiments import memorisation
  if not samples:
    raise ValueError('no songs to measure')
  first = {name: (given or {}).get(name, 0) for name in samples}
  songs = {name: ev.TX1.project(song[first[name]:])
           for name, song in samples.items()}
  length = length or int(np.median([len(song) for song in songs.values()]))
  train = [ev.TX1.project(corpus.song(i)) for i in range(len(corpus.names))]
  reference = [features(song) for song in _draw(train, length, n_songs)]
  real = []
  if held_out:
    real = _draw([ev.TX1.project(held_out.song(i))
                  for i in range(len(held_out.names))], length, n_held_out)
  if not reference or (held_out and not real):
    raise ValueError(f'no real song has {length} events; measure less of each '
                     'with --length')
  mine = {name: features(song[:length]) for name, song in songs.items()}
  table = compare(list(mine.values()), reference)
  found = memorisation.measure([*songs.values(), *real], train, corpus.names)
  found, found_real = found[:len(songs)], found[len(songs):]
  for (name, song), runs in zip(samples.items(), found, strict=True):
    skipped = int(np.maximum(song[:first[name]], 0).sum(dtype=np.int64))
    for run in runs.values():
      if run['length']:
        run['at'] += skipped / ev.SAMPLE_RATE
  if real:
    yardstick = compare([features(song) for song in real], reference)
    for name, row in table.items():
      for key in ('wasserstein', 'overlap'):
        row[f'held_out_{key}'] = yardstick[name][key]
  summary = {}
  for view in memorisation.LENGTHS:
    summary[view] = _quantiles([runs[view] for runs in found])
    if real:
      lengths = np.array([runs[view]['length'] for runs in found_real])
      summary[view] |= {f'held_out_{key}': value for key, value in _quantiles(
          [runs[view] for runs in found_real]).items()}
      for run in (runs[view] for runs in found):
        as_long = float((lengths >= run['length']).mean())
        run['held_out_as_long'] = as_long
        run['copied'] = (as_long <= _RARE and run['pitches'] >= _PITCHES and
                         run['seconds'] >= _SECONDS)
  return {
      'length': length, 'reference_songs': len(reference),
      'searched_songs': len(train), 'held_out_songs': len(real),
      'metrics': table, 'memorisation': summary,
      'samples': {name: {'metrics': mine[name], 'memorisation': runs}
                  for name, runs in zip(mine, found, strict=True)},
  }


def _draw(songs: list[np.ndarray], length: int, n: int) -> list[np.ndarray]:
  """Draws at most n songs of enough events, and cuts them."""
  songs = [song[:length] for song in songs if len(song) >= length]
  order = np.random.default_rng(0).permutation(len(songs))
  return [songs[i] for i in order[:n]]


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
      f'the first {found["length"]} events of {len(found["samples"])} samples, '
      f'{found["reference_songs"]} reference and {found["held_out_songs"]} '
      'held-out songs',
      '',
      f'{"":21}{"samples":^19}{"reference":^19}{"distance":>9}{"overlap":>8}'
      f'{"held-out":^18}',
      f'{"":21}{"mean":>9}{"std":>10}{"mean":>9}{"std":>10}{"W1/std":>9}'
      f'{"area":>8}{"W1/std":>10}{"area":>8}']
  for name, row in found['metrics'].items():
    lines.append(f'{name:21}' + ''.join(
        show(row.get(key, np.nan), width) for key, width in (
            ('mean', 9), ('std', 10), ('reference_mean', 9),
            ('reference_std', 10), ('wasserstein', 9), ('overlap', 8),
            ('held_out_wasserstein', 10), ('held_out_overlap', 8))))
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
  parser = argparse.ArgumentParser(
      prog='python -m experiments.metrics', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  add = parser.add_argument
  add('folder', type=pathlib.Path, metavar='FOLDER', help='the songs')
  add('--reference', type=pathlib.Path, required=True, metavar='SHARDS',
      help='folder of shards')
  add('--split', default='train', help='of the reference; what the model was '
      'trained on (default: %(default)s)')
  add('--held_out', default='valid', help='split for the yardstick, or empty '
      'for none (default: %(default)s)')
  add('--songs', type=int, default=500, metavar='N',
      help='of the reference, for all but memorisation (default: %(default)s)')
  add('--length', type=int, default=0, metavar='N',
      help="events measured of each song (default: the samples' median)")
  add('--out', type=pathlib.Path, metavar='FILE.json',
      help='default: FOLDER/metrics.json')
  args = parser.parse_args(argv)
  if args.songs < 3 or args.length < 0:
    parser.error('--songs is 3 or more, --length is not negative')

  from lakhnes_jax import page
  from lakhnes_jax.data import shards
  from lakhnes_jax.formats import song_files

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
    held_out = None
    if args.held_out and args.held_out != args.split:
      held_out = shards.Corpus(args.reference, args.held_out)
    if not samples:
      raise ValueError(f'{args.folder}: no song file there')
    silent = [name for name, song in samples.items()
              if not np.maximum(song, 0).any()]
    if silent:
      complain(f'{len(silent)} of {len(samples)} songs last no time at all: ' +
               ', '.join(silent[:10]))
    found = measure(samples, corpus, held_out, n_songs=args.songs,
                    length=args.length, given=given)
    found = {'reference': str(args.reference), 'split': args.split,
             'held_out': args.held_out if held_out else None,
             'checksum': corpus.checksum, 'skipped': skipped, **found}
    out = args.out or args.folder / 'metrics.json'
    atomic.write(out, json.dumps(_without_nan(found), indent=1).encode())
    print(describe(found))
    print(f'\n{out}, {time.monotonic() - started:.0f} s')
    if (args.folder / 'index.html').exists() and not args.out:
      print(page.write(args.folder))
  except (OSError, ValueError) as error:
    complain(error)
    return 1
  return 1 if skipped else 0


if __name__ == '__main__':
  sys.exit(main())
