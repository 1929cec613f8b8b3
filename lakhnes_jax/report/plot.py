"""Pictures as PNG files; needs matplotlib: `pip install 'lakhnes_jax[plot]'`.
"""

import io
import itertools
import os
import pathlib
import sys

import numpy as np

from lakhnes_jax import atomic
from lakhnes_jax import events as ev
from lakhnes_jax.synth import score as scores

_GLITCH = 0.005  # Seconds; shorter notes do not widen the picture.
COLOURS = ('#d1495b', '#2e86ab', '#3a7d44', '#5c5470')  # P1, P2, TR, NO.


def figure(*args, **kwargs):
  """Returns a matplotlib figure that no window shows.

  It needs no backend, so that the environment's MPLBACKEND does not matter: a
  notebook's has modules that only the notebook has.

  Raises:
    ImportError: matplotlib is missing; the message says how to get it.
  """
  try:
    _import_matplotlib()
    from matplotlib.figure import Figure
  except ImportError as error:
    raise ImportError("pictures need matplotlib: pip install "
                      "'lakhnes_jax[plot]'") from error
  return Figure(*args, layout='constrained', **kwargs)


def _import_matplotlib() -> None:
  try:
    import matplotlib
  except ValueError:  # MPLBACKEND names a backend that is not here.
    for name in list(sys.modules):  # What the failure has left behind.
      if name.partition('.')[0] == 'matplotlib':
        del sys.modules[name]
    backend = os.environ.pop('MPLBACKEND')
    try:
      import matplotlib  # noqa: F401
    finally:
      os.environ['MPLBACKEND'] = backend


def save(fig, path: str | os.PathLike):
  """Writes a figure as PNG, whole or not at all.

  Text stays as it is: nothing in it is read as mathematics, whatever `$` is in
  the name of a song or a run; bytes of a name that are no UTF-8 are escaped.
  """
  from matplotlib.text import Text
  for text in fig.findobj(Text):
    text.set_parse_math(False)
    text.set_text(text.get_text().encode('utf-8', 'backslashreplace').decode())
  buffer = io.BytesIO()
  fig.savefig(buffer, format='png', dpi=120)
  atomic.write(path, buffer.getvalue())


def piano_roll(events: np.ndarray, path: str | os.PathLike,
               title: str | None = None):
  """Writes the figure of `roll_figure` as a PNG file."""
  save(roll_figure(events, title), path)


def roll_figure(events: np.ndarray, title: str | None = None):
  """Draws a song: time across, pitch up, a colour per voice, velocity as shade.

  Noise is drawn as hits in a strip of its own below.

  Args:
    events: int32 song (see `events`).
    title: above the picture.

  Returns:
    a matplotlib figure
  """
  score = scores.from_events(events)
  fig = figure(figsize=(12, 6))
  roll, hits = fig.subplots(2, 1, sharex=True, height_ratios=(5, 1))
  draw_roll(score, roll, hits)
  if title:
    fig.suptitle(title, parse_math=False)
  return fig


def song(events: np.ndarray, audio: np.ndarray, rate: int,
         path: str | os.PathLike, title: str | None = None):
  """Draws a song as `piano_roll` does, and its waveform below.

  Args:
    events: int32 song.
    audio: [T] float, what it sounds like.
    rate: Hz, of `audio`.
    path: PNG file to write.
    title: above the picture.
  """
  fig = figure(figsize=(12, 8))
  roll, hits, wave = fig.subplots(3, 1, sharex=True, height_ratios=(5, 1, 1.5))
  draw_roll(scores.from_events(events), roll, hits)
  # Lowest and highest value of each pixel's worth of samples.
  size = max(len(audio) // 2400, 1)
  blocks = audio[:len(audio) // size * size].reshape(-1, size)
  times = np.arange(len(blocks)) * size / rate
  wave.fill_between(times, blocks.min(1), blocks.max(1), color='#444444',
                    linewidth=0.3)
  hits.set_xlabel('')
  wave.set(ylabel='waveform', xlabel='seconds')
  if title:
    fig.suptitle(title, parse_math=False)
  save(fig, path)


def notes(score: scores.Score, voice: int) -> np.ndarray:
  """Returns one voice's bars as [n, 4]: start, end (samples), note, velocity.
  """
  state = score.state[:, voice].astype(np.int64)
  end = np.append(score.start[1:], score.length)
  change = np.ones(len(state), bool)
  change[1:] = ((state[1:, :2] != state[:-1, :2]).any(1) |
                score.onset[1:, voice])
  first = np.flatnonzero(change)
  last = np.append(first[1:], len(state)) - 1
  bars = np.stack([score.start[first], end[last], *state[first, :2].T], 1)
  return bars[bars[:, 2] > 0]


def draw_roll(score: scores.Score, roll, hits):
  """Draws a score into two matplotlib axes, melody above and noise below."""
  from matplotlib.collections import PolyCollection
  from matplotlib.colors import to_rgb
  low, high = 127, 0
  for voice, colour in enumerate(COLOURS):
    bars = notes(score, voice)
    axes = hits if voice == ev.NO else roll
    label = ev.VOICES[voice].name
    axes.plot([], [], color=colour, linewidth=6, label=label)
    if not len(bars):
      continue
    x0, x1 = bars[:, :2].T / ev.SAMPLE_RATE
    note = bars[:, 2]
    loud = np.where(voice == ev.TR, 1.0, 0.3 + 0.7 * bars[:, 3] / 15)
    rgba = np.column_stack([np.tile(to_rgb(colour), (len(bars), 1)), loud])
    half = 0.4
    axes.add_collection(PolyCollection(
        np.stack([np.stack([x0, note - half], 1),
                  np.stack([x1, note - half], 1),
                  np.stack([x1, note + half], 1),
                  np.stack([x0, note + half], 1)], 1), facecolors=rgba,
        linewidths=0))
    # Logs have glitches of a sample, which are not to be seen anyway.
    seen = note[x1 - x0 > _GLITCH]
    if voice != ev.NO and len(seen):
      low, high = min(low, seen.min()), max(high, seen.max())
  if low > high:
    low, high = 33, 108
  octaves = np.arange(12, 128, 12)
  roll.set(ylim=(low - 2, high + 2), ylabel='pitch')
  roll.set_yticks(octaves[(octaves >= low - 2) & (octaves <= high + 2)])
  roll.yaxis.set_major_formatter(lambda y, _: f'C{int(y) // 12 - 1}')
  roll.grid(axis='y', alpha=0.3)
  hits.set(ylim=(0, 17), ylabel='noise', xlabel='seconds',
           xlim=(0, max(score.seconds, 0.1)))
  handles, labels = roll.get_legend_handles_labels()
  more, names = hits.get_legend_handles_labels()
  roll.legend(handles + more, labels + names, loc='upper right', ncols=4,
              fontsize='small')


def learning_curves(runs: list, path: str | os.PathLike):
  """Draws train and valid loss of some runs over the steps.

  The losses of the first tenth of the steps may lie above the picture: they
  would press all others together.

  Args:
    runs: run directories with `metrics.jsonl`, those without are left out; or
      lists of them, each of one colour, as for several seeds.
    path: PNG file to write.
  """
  from lakhnes_jax.training import log
  fig = figure(figsize=(9, 8))
  loss, rate, speed = fig.subplots(3, 1, sharex=True, height_ratios=(4, 1, 1))
  groups = [[group] if isinstance(group, str | os.PathLike) else group
            for group in runs]
  styled = [(run, f'C{number}', dashes) for number, group in enumerate(groups)
            for run, dashes in zip(group, itertools.cycle(('-', '--', ':')))]
  late = []  # Losses that the picture has to show.
  for run, colour, dashes in styled:
    lines = log.read(run)
    name = pathlib.Path(run).name
    late += [x['loss'] for x in lines if x['step'] > lines[-1]['step'] / 10]

    def draw(axes, kind, value, lines=lines, colour=colour, dashes=dashes,
             **style):
      points = [(x['step'], x[value]) for x in lines
                if x['kind'] == kind and value in x]
      if points:
        axes.plot(*zip(*points, strict=True), dashes, color=colour, **style)

    draw(loss, 'train', 'loss', alpha=0.4, label=f'{name}, train')
    draw(loss, 'valid', 'loss', marker='o', markersize=4,
         label=f'{name}, valid')
    draw(rate, 'train', 'learning_rate')
    draw(speed, 'train', 'tokens_per_second')
  loss.set(ylabel='loss (nats per event)')
  if loss.lines:
    margin = 0.01 + (max(late) - min(late)) / 20
    loss.set_ylim(min(late) - margin, max(late) + margin)
    loss.legend(ncols=2)
  rate.set(ylabel='learning rate')
  speed.set(ylabel='tokens/s', xlabel='step', ylim=(0, None))
  for axes in (loss, rate, speed):
    axes.grid(alpha=0.3)
  save(fig, path)
