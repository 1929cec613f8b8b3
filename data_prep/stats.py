"""A look at a corpus: counts, lengths, pitches and waits of its shards.

  python -m data_prep.stats data/nesmdb --plot=nesmdb.png

Prints for each split the number of songs, hours, events in each format, events
per song and per second, lengths of songs, quantisation of waits by the
vocabulary, and statistics of each voice. --json prints them as JSON, with
histograms; --plot draws them as well.
"""

import argparse
import json
import pathlib
import re
import sys
from typing import Any

import numpy as np

from lakhnes_jax import command_line, progress
from lakhnes_jax import events as ev
from lakhnes_jax.data import shards
from lakhnes_jax.report import plot

_GAME = re.compile(r'(?:.*/)?(\d+)_')  # NES-MDB numbers its games.


def main(argv: list[str] | None = None) -> int:
  command_line.escape_output()
  parser = argparse.ArgumentParser(
      prog='python -m data_prep.stats', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('shards', type=command_line.path, metavar='SHARDS',
                      help='folder of shards')
  parser.add_argument('--json', action='store_true', help='print JSON')
  parser.add_argument('--plot', type=command_line.path, metavar='FILE.png',
                      help='draw the numbers')
  args = parser.parse_args(argv)

  try:
    splits = sorted(path.stem for path in args.shards.glob('*.json')
                    if list(args.shards.glob(f'{path.stem}-*-of-*.npy')))
    measured = {split: measure(shards.Corpus(args.shards, split))
                for split in splits or ['train']}  # 'train': for its error.
    if args.plot:
      draw(measured, args.plot)
  except (OSError, ValueError, ImportError) as error:
    print(f'data_prep.stats: {error}', file=sys.stderr)
    return 1
  print(json.dumps(measured, indent=1) if args.json else
        '\n'.join(describe(split, numbers)
                  for split, numbers in measured.items()))
  return 0


def measure(corpus) -> dict[str, Any]:
  """Measures one split.

  Args:
    corpus: a `shards.Corpus`, or what has its names, dynamics and song().

  Returns:
    JSON values. `waits` are those of TX1; `spacing` is the time from one note
    of a voice to its next, `wait_ids` and `spacing_ids` histograms over token
    ids of waits; `cut` notes last until the song ends.
  """
  codes = np.zeros(ev.N_CODES, np.int64)
  wait_ids = np.zeros(1 + len(ev.WAITS), np.int64)
  spacing_ids = np.zeros((4, len(wait_ids)), np.int64)
  songs_with, cut = np.zeros(4, np.int64), np.zeros(4, np.int64)
  inexact = too_long = quantised = n_events = 0
  tx1, samples = [], []
  with progress.Progress('measuring', 'songs', len(corpus.names)) as bar:
    for i in range(len(corpus.names)):
      song = corpus.song(i)
      times = ev.times_of(song)
      codes += np.bincount(~song[song < 0], minlength=len(codes))
      projected = ev.TX1.project(song)
      waits = projected[projected >= 0]
      ids = ev.TX1.encode(waits)
      wait_ids += np.bincount(ids, minlength=len(wait_ids))
      inexact += int((ev.WAITS[ids - 1] != waits).sum())
      too_long += int((waits > ev.WAITS[-1]).sum())
      quantised += int(ev.WAITS[ids - 1].sum(dtype=np.int64))
      n_events += len(song)
      tx1.append(len(projected))
      samples.append(int(times[-1]) if len(times) else 0)
      voices, kinds = ev.voice_of(song), ev.kind_of(song)
      for v in range(4):
        notes = np.flatnonzero((voices == v) & (kinds <= ev.NOTEON))
        onsets = times[notes[kinds[notes] == ev.NOTEON]]
        if not len(onsets):
          continue
        songs_with[v] += 1
        spacing_ids[v] += np.bincount(ev.TX1.encode(np.diff(onsets)),
                                      minlength=len(wait_ids))
        cut[v] += (kinds[notes[-1]] == ev.NOTEON or
                   times[notes[-1]] == times[-1])
      bar.add(1)
  tx1, seconds = np.array(tx1), np.array(samples) / ev.SAMPLE_RATE
  games = [game_of(name) for name in corpus.names]
  return {
      'songs': len(tx1),
      'games': len(set(games)) if all(games) else None,
      'hours': float(seconds.sum() / 3600),
      'dynamics': corpus.dynamics,
      'events_tx1': int(tx1.sum()),
      'events_tx2': n_events,
      'events_per_song': _spread(tx1),
      'events_per_second': float(tx1.sum() / max(seconds.sum(), 1e-9)),
      'seconds_per_song': _spread(seconds),
      'waits': {
          'count': int(wait_ids.sum()), 'inexact': inexact,
          'over_longest': too_long,
          'hours_as_tokens': quantised / ev.SAMPLE_RATE / 3600},
      'wait_ids': wait_ids.tolist(),
      'voices': {
          ev.VOICES[v].name: _voice(v, codes, spacing_ids[v]) | {
              'songs': int(songs_with[v]), 'cut': int(cut[v])}
          for v in range(4)},
  }


def game_of(name: str) -> str | None:
  """Returns the number of the game that NES-MDB has a song from, by its name.

  >>> game_of('012_AlphaMission_00_01Start')
  '012'
  """
  match = _GAME.match(name)
  return match and match[1]


def _spread(values: np.ndarray) -> dict[str, float]:
  return {'mean': float(values.mean()), 'shortest': float(values.min()),
          'median': float(np.median(values)), 'longest': float(values.max()),
          'histogram': np.histogram(np.log10(np.maximum(values, .01)), 60,
                                    (-2, 6))[0].tolist()}


def _voice(voice: int, codes: np.ndarray, spacing_ids: np.ndarray
          ) -> dict[str, Any]:
  """Describes the notes of one voice."""
  mine = (voice == ev.CODE_VOICE) & (ev.CODE_KIND == ev.NOTEON)
  counts = codes[mine]
  played = ev.CODE_VALUE[mine][counts > 0]
  spacing = np.concatenate([[0], ev.WAITS])
  return {
      'notes': int(counts.sum()),
      'lowest': int(played.min()) if len(played) else None,
      'median': _median(ev.CODE_VALUE[mine], counts),
      'highest': int(played.max()) if len(played) else None,
      'pitch_counts': counts.tolist(),
      'spacing_median': _median(spacing, spacing_ids),
      'spacing_ids': spacing_ids.tolist(),
  }


def _median(values: np.ndarray, counts: np.ndarray) -> int | None:
  """Returns the (lower) median of values that occur so many times."""
  if not counts.sum():
    return None
  return int(values[np.searchsorted(np.cumsum(counts), counts.sum() / 2)])


def describe(split: str, numbers: dict[str, Any]) -> str:
  """Returns the numbers of one split as lines to read."""
  per_song, seconds = numbers['events_per_song'], numbers['seconds_per_song']
  waits = numbers['waits']
  games = f' of {numbers["games"]} games' if numbers['games'] else ''
  lines = [
      f'{split}: {numbers["songs"]:,} songs{games}, {numbers["hours"]:.2f} '
      f'hours, {"with" if numbers["dynamics"] else "without"} dynamics',
      f'  events       {numbers["events_tx1"]:,} in TX1, '
      f'{numbers["events_tx2"]:,} in all; TX1 per second: '
      f'{numbers["events_per_second"]:.1f}',
      f'  TX1 per song mean {per_song["mean"]:,.0f}, median '
      f'{per_song["median"]:,.0f}, {per_song["shortest"]:,.0f} to '
      f'{per_song["longest"]:,.0f}',
      f'  seconds      mean {seconds["mean"]:.1f}, median '
      f'{seconds["median"]:.1f}, {seconds["shortest"]:.1f} to '
      f'{seconds["longest"]:.1f}',
      f'  waits        {waits["count"]:,}; {waits["inexact"]:,} have no token '
      f'of their own, {waits["over_longest"]:,} are over {ev.WAITS[-1]} '
      f'samples; as tokens they last {waits["hours_as_tokens"]:.2f} hours',
      '  voice     songs      notes  lowest  median  highest  spacing   cut',
  ]
  for name, voice in numbers['voices'].items():
    spacing = voice['spacing_median']
    shown = ['-' if value is None else value for value in (
        voice['lowest'], voice['median'], voice['highest'],
        None if spacing is None else f'{1000 * spacing / ev.SAMPLE_RATE:.0f} ms'
    )]
    lines.append(
        f'  {name:5}{voice["songs"]:10,}{voice["notes"]:11,}{shown[0]:>8}'
        f'{shown[1]:>8}{shown[2]:>9}{shown[3]:>9}{voice["cut"]:6,}')
  return '\n'.join(lines)


def draw(measured: dict[str, dict[str, Any]], path: pathlib.Path) -> None:
  """Draws the numbers of all splits as PNG."""
  fig = plot.figure(figsize=(12, 8))
  (events, seconds), (pitches, spacing) = fig.subplots(2, 2)
  edges = np.logspace(-2, 6, 61)
  for split, numbers in measured.items():
    for axes, key in ((events, 'events_per_song'),
                      (seconds, 'seconds_per_song')):
      share = np.array(numbers[key]['histogram']) / numbers['songs']
      axes.stairs(share, edges, label=f'{split}, {numbers["songs"]:,} songs')
  events.set(xscale='log', xlim=(1, 1e6), xlabel='TX1 events per song',
             ylabel='share of songs')
  seconds.set(xscale='log', xlim=(.1, 1e4), xlabel='seconds per song')
  for v, (voice, colour) in enumerate(zip(ev.VOICES, plot.COLOURS,
                                          strict=True)):
    counts = sum(np.array(numbers['voices'][voice.name]['pitch_counts'])
                 for numbers in measured.values())
    if v != ev.NO:
      pitches.plot(voice.pitches, counts, color=colour, label=voice.name)
    # Per octave of time, so that the coarser tokens do not look like peaks.
    ids = sum(np.array(numbers['voices'][voice.name]['spacing_ids'])
              for numbers in measured.values())[1:]
    bins = np.logspace(0, np.log10(ev.WAITS[-1]), 41)
    density, _ = np.histogram(ev.WAITS, bins, weights=ids)
    spacing.stairs(density, bins / ev.SAMPLE_RATE * 1000, color=colour,
                   label=voice.name)
  pitches.set(xlabel='pitch (MIDI number)', ylabel='notes, all splits')
  spacing.set(xscale='log', xlabel='ms from note to note', xlim=(10, None))
  for axes in (events, seconds, pitches, spacing):
    axes.legend()
    axes.grid(alpha=.3)
  plot.save(fig, path)


if __name__ == '__main__':
  sys.exit(main())
