"""A study as a folder of pages and clips, and the key to it."""

import html
import importlib.resources
import itertools
import json
import pathlib
import tempfile

import numpy as np

from experiments.listening import clips
from lakhnes_jax import atomic, render
from lakhnes_jax.formats import song_files
from lakhnes_jax.report import page

TESTS = ('turing', 'preference')
PAIRS, CONTROLS = 10, 2  # Of a sheet; the controls are among the pairs.
REAL, CONTROL = 'real', 'control'
_QUESTIONS = {
    'turing': 'One clip of each pair was composed by a human, the other by a '
              'computer. Which was composed by a human?',
    'preference': 'Which clip of each pair do you prefer, as music?'}


def pairs_of(test: str, methods: list[str], draws: np.random.Generator
            ) -> list[tuple[str, str]]:
  """Returns the methods of the pairs of one sheet, in the order of asking.

  In the Turing test real clips stand against those of each method, in the
  preference test the first method against the others and real music. Each is
  asked for about equally often; 2 of the 10 pairs are against the control. In
  each pair, that which is asked about comes first: real, or the first method.
  """
  first = REAL if test == 'turing' else methods[0]
  others = methods if test == 'turing' else [*methods[1:], REAL]
  start = int(draws.integers(len(others)))
  seconds = [CONTROL] * CONTROLS + [
      others[(start + i) % len(others)] for i in range(PAIRS - CONTROLS)]
  return [(first, seconds[i]) for i in draws.permutation(PAIRS)]


def write(out: pathlib.Path, folders: dict[str, pathlib.Path], sheets: int,
          seed: int) -> tuple[pathlib.Path, list[str]]:
  """Writes a study: OUT with pages and clips, and OUT.key.json beside it.

  Args:
    out: a new folder, for listeners. Names in it say nothing of methods.
    folders: method -> folder of its songs, and 'real' -> of real songs. No
      song is heard twice in a study before all others have been.
    sheets: of each test.
    seed: of all draws.

  Returns:
    the path of the key; what is wrong with which song, a line each.

  Raises:
    ValueError: the folder is there already, or a method has no song of use.
    OSError: a folder cannot be read or written.
  """
  if out.exists():
    raise ValueError(f'{out}: is there already; choose another folder')
  draws = np.random.default_rng(seed)
  errors: list[str] = []
  sources = {method: _clips_of(method, folder, draws, errors)
             for method, folder in folders.items()}
  sources[CONTROL] = (clips.control(draws) for _ in itertools.count())
  methods = [method for method in folders if method != REAL]
  key = {'seed': seed, 'first': methods[0], 'sheets': {
      f'{test}-{number}': pairs_of(test, methods, draws)
      for test in TESTS for number in range(1, sheets + 1)}}
  out.parent.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(dir=out.parent) as folder:
    place = pathlib.Path(folder, out.name)  # All of it is there, or nothing.
    numbers = iter(draws.permutation(10**6).tolist())
    for sheet, pairs in key['sheets'].items():
      rows = []
      for pair in pairs:
        row = []
        for method in pair:
          name = f'{next(numbers):06}'
          render.write_audio(place / f'clips/{name}.wav',
                             next(sources[method]))
          row.append({'clip': name, 'method': method})
        rows.append([row[i] for i in draws.permutation(2)])
      key['sheets'][sheet] = rows
      atomic.write(place / f'{sheet}.html', _sheet(sheet, rows).encode())
    path = out.with_name(f'{out.name}.key.json')
    atomic.write(path, json.dumps(key, indent=1).encode())
    place.rename(out)
  return path, errors


def _clips_of(method: str, folder: pathlib.Path, draws, errors: list[str]):
  """Yields clips of the songs of a folder, again and again in random order."""
  paths = list(page.songs(folder).values())
  if not paths:
    raise ValueError(f'{folder}: no song file there')
  return _endless_clips(method, folder, paths, draws, errors)


def _endless_clips(method, folder, paths, draws, errors):
  while paths:
    useful = []
    for i in draws.permutation(len(paths)):
      try:
        clip = clips.cut(song_files.read_song(paths[i]), draws)
      except (OSError, ValueError) as error:
        errors.append(str(error))
        continue
      if clip is None:
        errors.append(f'{paths[i]}: left out: no {clips.SECONDS} seconds in '
                      'which all four voices play')
        continue
      useful.append(paths[i])
      yield clip
    paths = useful
  raise ValueError(f'{folder}: no song of {method} in which all four voices '
                   f'play within {clips.SECONDS} seconds')


def _sheet(sheet: str, rows) -> str:
  """Returns the page of a sheet."""
  items = []
  for i, row in enumerate(rows):
    choices = ''.join(
        f'<div><audio controls preload="auto" src="clips/{side["clip"]}.wav" '
        f'aria-label="Clip {letter} of pair {i + 1}"></audio>'
        f'<label><input type="radio" name="pair{i}" value="{side["clip"]}"> '
        f'Clip {letter}</label></div>'
        for letter, side in zip('AB', row, strict=True))
    items.append(f'<fieldset class="pair"><legend>Pair {i + 1}</legend>'
                 f'{choices}</fieldset>')
  return page.fill(
      importlib.resources.files('experiments.listening').joinpath(
          'sheet.html').read_text('utf-8'), {
              'style': page.resource('player.css'), 'sheet': sheet,
              'title': f'Listening test {html.escape(sheet)}',
              'question': _QUESTIONS[sheet.rpartition('-')[0]],
              'pairs': '\n'.join(items)})
