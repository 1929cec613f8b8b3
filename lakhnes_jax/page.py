"""A page to listen to songs: `python -m lakhnes_jax.page FOLDER`.

Writes FOLDER/index.html, which needs no network and no server: a player and a
moving piano roll for each song of the folder, with links to its files, how it
was made (`samples.json`), and what was measured (`metrics.json`). Songs are
files of any known kind; the same name with several endings is one song; each
folder below makes a section of its own, for comparison. Audio is played from
files of the same name, which --render makes where they are missing.
"""

import argparse
import html
import importlib.resources
import json
import math
import os
import pathlib
import re
import sys
import urllib.parse
from typing import Any

import numpy as np

from lakhnes_jax import events as ev
from lakhnes_jax import files, plot
from lakhnes_jax import score as scores

AUDIO_ENDINGS = ('.wav', '.flac', '.ogg')
# In this order a song of several files is read; then as in `files.FORMATS`.
_BEST = ('.tx2.txt', '.tx1.txt')
_LABELS = {'.mid': 'MIDI', '.midi': 'MIDI', '.tx1.txt': 'TX1',
           '.tx2.txt': 'TX2', '.vgm': 'VGM', '.vgz': 'VGZ', '.wav': 'WAV',
           '.flac': 'FLAC', '.ogg': 'OGG', '.png': 'picture'}
# Of samples.json: what is shown in a way of its own.
_TOLD = ('name', 'number', 'n_events', 'n_given', 'seconds', 'nll_given',
         'nll_generated', 'ppl_given', 'ppl_generated')
_VOICES = ('pulse', 'pulse', 'triangle', 'noise')
_VIEWS = {
    'exact': ('Same events', 'events'),
    'transposed': ('Same events, transposed', 'events'),
    'notes': ('Same notes, any rhythm', 'notes'),
    'melody': ('Same melody in one voice', 'notes'),
}


def songs(folder: str | os.PathLike) -> dict[str, pathlib.Path]:
  """Finds the songs of a folder, at any depth.

  Returns:
    name (path below the folder without ending) -> file, sorted by folder, then
    name; of several files of one name the one that says most.

  Raises:
    FileNotFoundError: there is no such folder.
  """
  folder = pathlib.Path(folder)
  if not folder.is_dir():
    raise FileNotFoundError(f'{folder}: no such folder')
  order = [*_BEST, *(e for e in files.FORMATS if e not in _BEST)]
  found: dict[str, tuple[int, pathlib.Path]] = {}
  for path in files.find_songs([folder]):
    stem = files.song_name(path)
    name = (path.relative_to(folder).parent / stem).as_posix()
    rank = order.index(path.name[len(stem):].lower())
    found[name] = min(found.get(name, (rank, path)), (rank, path))
  return {name: found[name][1] for name in
          sorted(found, key=lambda name: name.rpartition('/')[::2])}


def settings(folder: str | os.PathLike) -> dict[str, dict[str, Any]]:
  """Reads how songs were made: samples.json in the folder and below.

  Returns:
    name, as in `songs` -> what is known, JSON values.

  Raises:
    ValueError: a file is no list of objects with names; names it.
  """
  found = {}
  for place, rows in _read_all(folder, 'samples.json'):
    try:
      for row in rows:
        found[(place / str(row['name'])).as_posix()] = row
    except (TypeError, KeyError):
      raise _bad(folder, place, 'samples.json: not a list of objects with a '
                 'name') from None
  return found


def _bad(folder, place, what: str) -> ValueError:
  return ValueError(f'{pathlib.Path(folder, place)}/{what}')


def _read_all(folder: str | os.PathLike, name: str):
  """Yields (folder relative to this one, JSON) of all files of a name."""
  for path in sorted(pathlib.Path(folder).rglob(name)):
    try:
      yield path.parent.relative_to(folder), json.loads(path.read_bytes())
    except ValueError as error:
      raise ValueError(f'{path}: not JSON ({error})') from None


def _measured(folder: str | os.PathLike) -> dict[str, str]:
  """name -> HTML of what `experiments.metrics` found, in metrics.json."""
  found = {}
  for place, whole in _read_all(folder, 'metrics.json'):
    try:
      for name, of_song in whole['samples'].items():
        found[(place / name).as_posix()] = _findings(of_song, whole['metrics'])
    except (TypeError, KeyError, AttributeError):
      raise _bad(folder, place, 'metrics.json: not what experiments.metrics '
                 'writes') from None
  return found


def write(folder: str | os.PathLike, title: str | None = None) -> pathlib.Path:
  """Writes the listening page of a folder of songs, index.html.

  Args:
    folder: of songs (see `songs`), and samples.json and metrics.json where they
      are known.
    title: of the page; default: the folder's name.

  Returns:
    The page's path.

  Raises:
    ValueError: there is no song that can be read, or a JSON file is not what it
      should be.
    OSError: the folder cannot be read or written.
  """
  path, errors = _write(folder, title)
  if not path:
    raise ValueError(errors[0] if errors else f'{folder}: no song file there')
  return path


def _write(folder, title=None) -> tuple[pathlib.Path | None, list[str]]:
  """Writes the page; returns it and what is wrong with which song."""
  folder = pathlib.Path(folder)
  known, measured = settings(folder), _measured(folder)
  errors, read = [], {}
  for name, path in songs(folder).items():
    try:
      read[name] = files.read_song(path)
    except (OSError, ValueError) as error:
      errors.append(str(error))
  if not read:
    return None, errors
  common = _common([known.get(name, {}) for name in read])
  groups: dict[str, list[str]] = {}
  for number, (name, song) in enumerate(read.items()):
    group, _, short = name.rpartition('/')
    groups.setdefault(group, []).append(_card(
        f's{number}', short, song, _files(folder, name),
        known.get(name, {}), common, measured.get(name, '')))
  sections = [
      f'<section id="g{i}" aria-label="{_text(group or "songs")}">' +
      (f'<h2>{_text(group or "songs")} <small>{_count(cards)}</small></h2>'
       if len(groups) > 1 else '') + '\n'.join(cards) + '</section>'
      for i, (group, cards) in enumerate(groups.items())]
  tabs = [f'<a href="#g{i}">{_text(group or "songs")} '
          f'<small>{len(cards)}</small></a>'
          for i, (group, cards) in enumerate(groups.items())]
  seconds = sum(int(ev.times_of(song)[-1]) for song in read.values()
                if len(song)) / ev.SAMPLE_RATE
  template = importlib.resources.files('lakhnes_jax').joinpath('page.html')
  values = {
      'title': _text(title or folder.resolve().name),
      'colours': ''.join(f'--v{i}:{colour};'
                         for i, colour in enumerate(plot.COLOURS)),
      'legend': ''.join(
          f'<li style="--c:var(--v{i})">{voice.name} {_VOICES[i]}</li>'
          for i, voice in enumerate(ev.VOICES)),
      'summary': f'{_count(read)}, {_clock(seconds)}',
      'common': _facts(common),
      'tabs': (f'<nav aria-label="Sections">{"".join(tabs)}</nav>'
               if len(groups) > 1 else ''),
      'songs': '\n'.join(sections),
  }
  page = re.sub(r'\{\{(\w+)\}\}', lambda mark: values[mark[1]],
                template.read_text('utf-8'))
  files.write_atomic(folder / 'index.html', page.encode())
  return folder / 'index.html', errors


def _common(rows: list[dict[str, Any]]) -> dict[str, Any]:
  """Settings that two songs or more share, all of them."""
  if len(rows) < 2:
    return {}
  return {key: value for key, value in rows[0].items()
          if key not in _TOLD and all(key in row and row[key] == value
                                      for row in rows)}


def _files(folder: pathlib.Path, name: str) -> dict[str, str]:
  """Ending -> address relative to the page, of all files of a song."""
  return {ending: urllib.parse.quote(os.fsencode(f'{name}{ending}'))
          for ending in [*files.FORMATS, *AUDIO_ENDINGS, '.png']
          if (folder / f'{name}{ending}').is_file()}


def _card(key: str, name: str, song: np.ndarray, paths: dict[str, str],
          about: dict[str, Any], common: dict[str, Any], findings: str) -> str:
  """The HTML of one song."""
  score = scores.from_events(song)
  shown = _text(name)
  audio = next((paths[e] for e in AUDIO_ENDINGS if e in paths), None)
  links = ''.join(
      f'<a href="{_text(path)}" {"" if ending == ".png" else "download"} '
      f'aria-label="{_label(ending)} of {shown}">{_label(ending)}</a>'
      for ending, path in paths.items())
  playing = (f'<audio preload="none" controls src="{_text(audio)}"></audio>'
             if audio else '<p class="none">No audio here: <code>python -m '
             'lakhnes_jax.page --render</code> makes it.</p>')
  picture = (f'<noscript><img loading="lazy" alt="Piano roll of {shown}" '
             f'src="{_text(paths[".png"])}"></noscript>' if '.png' in paths
             else '')
  told = {'events': len(song)} | {
      key: value for key, value in about.items() if key not in common}
  return f'''<article id="{key}" aria-labelledby="{key}t" tabindex="-1" \
data-seconds="{score.seconds:.3f}" data-given="{_given(song, about):.3f}">
<header><button class="play" type="button" {"" if audio else "disabled "}\
aria-label="Play {shown}"></button>
<div><h3 id="{key}t">{shown}</h3><p class="facts">{_facts(told)}</p></div>
{_fit(about)}</header>
<canvas class="roll" aria-hidden="true"></canvas>
<div class="seek"><canvas aria-hidden="true"></canvas><input type="range" \
min="0" max="{score.seconds:.3f}" step="0.01" value="0" \
aria-label="Position in {shown}"></div>
{playing}{picture}
<footer><p class="time"><output>0:00</output> / {_clock(score.seconds)}</p>
<p class="links">{links}</p></footer>
{findings}
<script type="application/json">{_json(_notes(score))}</script>
</article>'''


def _given(song: np.ndarray, about: dict[str, Any]) -> float:
  """Seconds of the song that the model was given to continue."""
  n = about.get('n_given')
  if about.get('task') != 'continue' or not isinstance(n, int):
    return 0.0
  return int(ev.times_of(song[:n])[-1:].sum()) / ev.SAMPLE_RATE


def _notes(score: scores.Score) -> list[list[int]]:
  """For each voice a flat list, four numbers a bar of the roll.

  Milliseconds from the last bar's start to this one's, milliseconds it lasts,
  pitch, and velocity (0 to 15) plus 16 where a NOTEON begins it.
  """
  rows = []
  for voice in range(4):
    bars = plot.notes(score, voice)
    began = np.isin(bars[:, 0], score.start[score.onset[:, voice]])
    times = np.rint(bars[:, :2] * (1000 / ev.SAMPLE_RATE)).astype(np.int64)
    rows.append(np.stack([
        np.diff(times[:, 0], prepend=0), times[:, 1] - times[:, 0], bars[:, 2],
        bars[:, 3] + 16 * began], 1).reshape(-1).tolist())
  return rows


def _fit(about: dict[str, Any]) -> str:
  """How well the model likes the song."""
  rows = []
  for part, label in (('generated', 'perplexity'), ('given', 'given part')):
    nll = about.get(f'nll_{part}')
    if isinstance(nll, int | float) and math.isfinite(nll):
      rows.append(f'<dt>{label}</dt><dd title="NLL {nll:.4f} nats an event">'
                  f'{math.exp(min(nll, 99)):.2f}</dd>')
  return f'<dl class="fit">{"".join(rows)}</dl>' if rows else ''


def _findings(of_song: dict[str, Any], table: dict[str, Any]) -> str:
  """What was found of a song: is it copied, the longest runs, the features."""
  runs = {view: run for view, run in of_song['memorisation'].items()
          if view in _VIEWS}
  parts = []
  copied = [f'{run["length"]} {_VIEWS[view][1]}, {run["seconds"]:.1f} s, are '
            f'as in {_text(run["song"])} ({_VIEWS[view][0].lower()}; '
            f'{run["held_out_as_long"]:.0%} of real songs share as much)'
            for view, run in runs.items() if run.get('copied')]
  if copied:
    parts.append('<p class="verdict copied"><strong>Perhaps copied from a '
                 f'training song:</strong> {"; ".join(copied)}.</p>')
  elif any('copied' in run for run in runs.values()):
    parts.append('<p class="verdict">Shares no more with training songs than '
                 'real songs do.</p>')
  if runs:
    parts.append(_table(
        'Longest runs shared with training songs',
        ('length', 'seconds', 'pitches', 'of song', 'real songs', 'found in'),
        [(_VIEWS[view][0], f'{run["length"]} {_VIEWS[view][1]}',
          f'{run["seconds"]:.1f}', str(run['pitches']), f'{run["share"]:.0%}',
          f'{run["held_out_as_long"]:.0%}' if 'held_out_as_long' in run else '',
          _where(run)) for view, run in runs.items()],
        'Pitches: different ones. Of song: share of it that lies in long runs. '
        'Real songs: how many held-out ones share a run as long.'))
  if of_song['metrics']:
    rows = [(key, value, table.get(key, {}))
            for key, value in of_song['metrics'].items()]
    parts.append(_table(
        'Metrics', ('this song', 'real songs'),
        [(key.replace('_', ' '), _number(value),
          f'{_number(row.get("reference_mean"))} ± '
          f'{_number(row.get("reference_std"))}') for key, value, row in rows]))
  return ''.join(parts)


def _where(run: dict[str, Any]) -> str:
  if not run['length']:
    return ''
  shift = f', {run["shift"]:+d} semitones' if run['shift'] else ''
  return f'{run["song"]} at {_clock(run["song_at"])}{shift}'


def _table(title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]],
           note: str = '') -> str:
  """A table that opens; the first cell of each row says what is in it."""
  head = ''.join(f'<th scope="col">{column}</th>' for column in columns)
  body = ''.join(
      f'<tr><th scope="row">{_text(row[0])}</th>' +
      ''.join(f'<td>{_text(cell)}</td>' for cell in row[1:]) + '</tr>'
      for row in rows)
  return (f'<details><summary>{title}</summary><div class="wide"><table><thead>'
          f'<tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table></div>'
          f'<p>{note}</p></details>')


def _facts(values: dict[str, Any]) -> str:
  """Settings as short labels."""
  return ''.join(
      f'<span><b>{_text(str(key).replace("_", " "))}</b> '
      f'{_text(_shown(value))}</span> '
      for key, value in values.items()
      if key not in _TOLD and value is not None and value != '')


def _shown(value: Any) -> str:
  if isinstance(value, str):
    return value
  if isinstance(value, list) and all(isinstance(v, str) for v in value):
    return ', '.join(value)
  return f'{value:.6g}' if isinstance(value, float) else json.dumps(value)


def _text(value: str) -> str:
  # Names of files may hold bytes that are no text.
  return html.escape(value.encode('utf-8', 'replace').decode(), quote=True)


def _json(value: Any) -> str:
  """JSON that no HTML parser takes for the end of its script."""
  return json.dumps(value, separators=(',', ':')).replace('<', '\\u003c')


def _label(ending: str) -> str:
  return _LABELS.get(ending, ending[1:])


def _number(value: Any) -> str:
  return f'{value:.3f}' if isinstance(value, int | float) else '-'


def _count(of) -> str:
  return f'{len(of)} song{"" if len(of) == 1 else "s"}'


def _clock(seconds: float) -> str:
  minutes, seconds = divmod(int(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return (f'{hours}:{minutes:02}:{seconds:02}' if hours else
          f'{minutes}:{seconds:02}')


def _render_missing(folder: pathlib.Path) -> list[str]:
  """Makes audio of songs that have none; returns what went wrong."""
  from lakhnes_jax import render, vgm
  errors = []
  for name, path in songs(folder).items():
    if any((folder / f'{name}{ending}').is_file() for ending in AUDIO_ENDINGS):
      continue
    try:
      if path.suffix.lower() in render.LOG_ENDINGS:
        log = vgm.read(path)
      else:
        log = render.to_log(files.read_song(path))
      render.write_windows(folder / f'{name}.wav', render.windows(log))
      print(folder / f'{name}.wav', flush=True)
    except (OSError, ValueError) as error:
      errors.append(f'{path}: {error}' if str(path) not in str(error) else
                    str(error))
  return errors


def main(argv: list[str] | None = None) -> int:
  parser = argparse.ArgumentParser(
      prog='python -m lakhnes_jax.page', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('folder', type=pathlib.Path, metavar='FOLDER')
  parser.add_argument('--title', help="default: the folder's name")
  parser.add_argument('--render', action='store_true',
                      help='make a WAV of each song that has no audio')
  args = parser.parse_args(argv)
  errors = []
  try:
    if args.render:
      errors += _render_missing(args.folder)
    path, unread = _write(args.folder, args.title)
    errors += [error for error in unread if error not in errors]
    if path:
      print(path)
    elif not errors:
      errors = [f'{args.folder}: no song file there']
    else:
      errors.append(f'{args.folder}: no song could be read')
  except (OSError, ValueError) as error:
    errors.append(str(error))
  for error in errors:
    print(f'lakhnes_jax.page: {error}', file=sys.stderr)
  return 1 if errors else 0


if __name__ == '__main__':
  sys.exit(main())
