"""The listening page of a folder of songs, without network or server.

A player and a moving piano roll for each song, with links to its files, how it
was made (`samples.json`), and what was measured (`metrics.json`). The same name
with several endings is one song; each folder below makes a section of its own,
for comparison. Audio is played from files of the same name.
"""

import html
import importlib.resources
import json
import os
import pathlib
import re
import urllib.parse
from typing import Any

from lakhnes_jax import atomic, input_files
from lakhnes_jax import events as ev
from lakhnes_jax.formats import song_files
from lakhnes_jax.report import plot, song_card

# Which file of a song is read; then in the order of `song_files.FORMATS`.
_BEST = ('.tx2.txt', '.tx1.txt')
_VOICES = ('pulse', 'pulse', 'triangle', 'noise')


def songs(folder: str | os.PathLike) -> dict[str, pathlib.Path]:
  """Finds the songs of a folder, at any depth.

  Returns:
    name (path below the folder without ending) -> file, sorted by folder, then
    name; of several files of one name the one that says most. NSF files are
    none of them: they may be albums of songs that are there.

  Raises:
    FileNotFoundError: there is no such folder.
  """
  folder = pathlib.Path(folder)
  if not folder.is_dir():
    raise FileNotFoundError(f'{folder}: no such folder')
  order = [*_BEST, *(e for e in song_files.FORMATS if e not in _BEST)]
  found: dict[str, tuple[int, pathlib.Path]] = {}
  for path in song_files.find_songs([folder]):
    stem = song_files.song_name(path)
    name = (path.relative_to(folder).parent / stem).as_posix()
    rank = order.index(path.name[len(stem):].lower())
    if order[rank] == '.nsf':
      continue
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
      yield (path.parent.relative_to(folder),
             json.loads(input_files.read(path)))
    except (ValueError, RecursionError) as error:
      raise ValueError(f'{path}: not JSON ({error})') from None


def _measured(folder: str | os.PathLike) -> dict[str, str]:
  """name -> HTML of what `experiments.metrics` found, in metrics.json."""
  found = {}
  for place, whole in _read_all(folder, 'metrics.json'):
    try:
      for name, of_song in whole['samples'].items():
        found[(place / name).as_posix()] = song_card.to_html(
            of_song, whole['metrics'])
    except (TypeError, KeyError, AttributeError, ValueError, OverflowError):
      raise _bad(folder, place, 'metrics.json: not what experiments.metrics '
                 'writes') from None
  return found


def write(folder: str | os.PathLike, title: str | None = None) -> pathlib.Path:
  """Writes the listening page of a folder of songs, index.html.

  Args:
    folder: of songs (see `songs`), and samples.json and metrics.json where they
      are known.
    title: of the page; default: that of the page which is there already, or
      the folder's name.

  Returns:
    The page's path.

  Raises:
    ValueError: there is no song that can be read, or a JSON file is not what it
      should be.
    OSError: the folder cannot be read or written.
  """
  path, errors = write_readable(folder, title)
  if not path:
    raise ValueError(errors[0] if errors else f'{folder}: no song file there')
  return path


def write_readable(folder: str | os.PathLike, title: str | None = None
                  ) -> tuple[pathlib.Path | None, list[str]]:
  """Writes the page of those songs that can be read.

  Args and errors of other files are those of `write`.

  Returns:
    the page's path, None if there is no song; and what is wrong with which
    song, a line each.
  """
  folder = pathlib.Path(folder)
  known, measured = settings(folder), _measured(folder)
  errors, read = [], {}
  for name, path in songs(folder).items():
    try:
      read[name] = song_files.read_song(path)
    except (OSError, ValueError) as error:
      errors.append(str(error))
  if not read:
    return None, errors
  numbers = {name: f's{i}' for i, name in enumerate(read)}
  groups: dict[str, list[str]] = {}
  for name in read:
    groups.setdefault(name.rpartition('/')[0], []).append(name)
  sections, tabs = [], []
  for i, (group, names) in enumerate(groups.items()):
    common = _common([known.get(name, {}) for name in names])
    cards = [song_card.render(
        numbers[name], name.rpartition('/')[2], read[name],
        _files(folder, name), known.get(name, {}), common,
        measured.get(name, '')) for name in names]
    shown = song_card.text(group or 'songs')
    heading = f'<h2>{shown} <small>{song_card.count(names)}</small></h2>'
    sections.append(
        f'<section id="g{i}" aria-label="{shown}">'
        f'{heading if len(groups) > 1 else ""}'
        f'<p class="facts common">{song_card.facts(common)}</p>{"".join(cards)}'
        '</section>')
    tabs.append(f'<a href="#g{i}">{shown} <small>{len(names)}</small></a>')
  seconds = sum(int(ev.times_of(song)[-1]) for song in read.values()
                if len(song)) / ev.SAMPLE_RATE
  page = fill(resource('page.html'), {
      'style': resource('player.css'), 'script': resource('player.js'),
      'title': song_card.text(
          title or _title_of(folder) or folder.resolve().name),
      'summary': f'{song_card.count(read)}, {song_card.clock(seconds)}',
      'tabs': (f'<nav aria-label="Sections">{"".join(tabs)}</nav>'
               if len(groups) > 1 else ''),
      'songs': '\n'.join(sections),
  })
  atomic.write(folder / 'index.html', page.encode())
  return folder / 'index.html', errors


def resource(name: str) -> str:
  """Returns a file of this package: page.html, player.css or player.js."""
  return importlib.resources.files('lakhnes_jax.report').joinpath(
      name).read_text('utf-8')


def fill(template: str, values: dict[str, str]) -> str:
  """Puts HTML in place of each {{name}} of a page.

  Besides `values` there are `colours`, the voices' as CSS variables that
  player.css and player.js use, and `legend`, which says whose they are.
  """
  values = {
      'colours': ''.join(f'--v{i}:{colour};'
                         for i, colour in enumerate(plot.COLOURS)),
      'legend': ''.join(
          f'<li style="--c:var(--v{i})">{voice.name} {_VOICES[i]}</li>'
          for i, voice in enumerate(ev.VOICES)),
      **values}
  return re.sub(r'\{\{(\w+)\}\}', lambda mark: values[mark[1]], template)


def _title_of(folder: pathlib.Path) -> str | None:
  """The title of the page that is there already."""
  try:
    text = (folder / 'index.html').read_text('utf-8', 'replace')
  except FileNotFoundError:
    return None
  match = re.search('<title>(.*?)</title>', text, re.DOTALL)
  return html.unescape(match[1]) if match else None


def _common(rows: list[dict[str, Any]]) -> dict[str, Any]:
  """Settings that two songs or more share, all of them."""
  if len(rows) < 2:
    return {}
  return {key: value for key, value in rows[0].items()
          if key not in song_card.SHOWN_ELSEWHERE and all(
              key in row and row[key] == value for row in rows)}


def _files(folder: pathlib.Path, name: str) -> dict[str, str]:
  """Ending -> address relative to the page, of all files of a song."""
  return {ending: urllib.parse.quote(os.fsencode(f'{name}{ending}'))
          for ending in [*song_files.FORMATS, *song_card.AUDIO_ENDINGS, '.png']
          if (folder / f'{name}{ending}').is_file()}
