"""What the format `tracker` keeps of real songs: a table as Markdown.

    python -m experiments.benchmarks.tracker --data_dir=data/nes --songs=40

Songs drawn from a split are encoded, decoded and compared by frame, the first
frames laid on each other: frame f of the song's own clock with frame f of the
console's.

*   notes: share of frames at whose end all voices play the same pitches, or are
    silent, as before;
*   mid-frame: likewise in the middle of frames; some songs change notes late
    in a frame, which the format moves to its beginning;
*   level: mean difference in volume of notes that play in both, of 15 steps;
*   tone: share of frames in which such notes have another duty or mode;
*   tokens: per note of the pattern, and per second, also those of tx2 (exact
    times, with dynamics) and tx1 (without).
"""

import argparse
import json
import pathlib

import numpy as np

from experiments.benchmarks import machine
from lakhnes_jax import command_line, vocabularies
from lakhnes_jax import events as ev
from lakhnes_jax.data import shards
from lakhnes_jax.tracker import frames, pattern, prompt


def compare(song: np.ndarray, vocabulary) -> dict[str, float]:
  """Compares a song with what comes back of it; see the module's docstring.

  Args:
    song: int32 song with at least one note.
    vocabulary: a `lakhnes_jax.tracker.vocabulary.Tracker`.
  """
  made, starts = pattern.parse(song, vocabulary.codebook)
  ids = vocabulary.write(made)
  back = vocabulary.decode(ids)
  # The song's frames from the row on in which it begins; some are before it.
  before = -prompt.row_at(made, 0)[1]
  size = max(len(starts) - 1 + before,
             round(ev.times_of(back)[-1] / frames.FRAME))
  was, middle = (
      np.pad(x, ((before, size - before - len(x)), (0, 0), (0, 0))) for x in (
          frames.from_events(song, starts),
          frames.at(song, (starts[:-1] + starts[1:]) / 2)))
  now = frames.at(back, frames.FRAME * (np.arange(size) + .5))
  both = (was[..., 0] > 0) & (now[..., 0] > 0)
  off = np.abs(was[..., 1].astype(int) - now[..., 1])[both]
  seconds = made.size * frames.FRAME / ev.SAMPLE_RATE
  return {
      'notes': float((was[..., 0] == now[..., 0]).all(-1).mean()),
      'mid-frame': float(
          (middle[..., 0] == now[..., 0]).all(-1).mean()),
      'level': float(off.mean()) if len(off) else 0.,
      'tone': float((was[..., 2] != now[..., 2])[both].mean()) if (
          both.any()) else 0.,
      'tokens a note': len(ids) / max(1, int((made.pitch > 0).sum())),
      'tokens per second': len(ids) / seconds,
      'tx2': len(ev.TX2.encode(ev.TX2.project(song))) / seconds,
      'tx1': len(ev.TX1.encode(ev.TX1.project(song))) / seconds}


def table(rows: list[dict[str, float]]) -> str:
  """A row per measure: mean, median, and the worst and best song."""
  lines = ['| | mean | median | lowest | highest |', '|---|---|---|---|---|']
  for name in rows[0]:
    x = np.array([row[name] for row in rows])
    lines.append(f'| {name} | {x.mean():.4g} | {np.median(x):.4g} | '
                 f'{x.min():.4g} | {x.max():.4g} |')
  x = np.array([row['notes'] for row in rows])
  lines += [f'| songs with notes {least:.0%} or more | '
            f'{(x >= least).mean():.0%} | | | |' for least in (.97, .99)]
  return '\n'.join(lines)


def main(argv: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(
      prog='python -m experiments.benchmarks.tracker', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--data_dir', type=pathlib.Path, required=True,
                      help='folder of shards')
  parser.add_argument('--split', default='valid')
  parser.add_argument('--songs', type=command_line.whole(), default=40,
                      help='drawn at random; 0 takes all')
  parser.add_argument('--seed', type=command_line.whole(), default=0)
  args = parser.parse_args(argv)
  with machine.errors_in_a_line('tracker'):
    corpus = shards.Corpus(args.data_dir, args.split)
  numbers = np.random.default_rng(args.seed).permutation(len(corpus))
  vocabulary = vocabularies.get('tracker')
  rows = []
  for number in numbers[:args.songs or None].tolist():
    song = np.asarray(corpus.song(number))
    if (ev.kind_of(song) == ev.NOTEON).any():
      rows.append(compare(song, vocabulary))
  print(table(rows))
  print(json.dumps({'songs': len(rows), **{
      name: float(np.mean([row[name] for row in rows])) for name in rows[0]}}))


if __name__ == '__main__':
  main()
