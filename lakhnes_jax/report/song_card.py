"""The HTML of one song on the listening page (see `report.page`)."""

import html
import json
import math
from typing import Any

import numpy as np

from lakhnes_jax import events as ev
from lakhnes_jax.report import plot
from lakhnes_jax.synth import score as scores

AUDIO_ENDINGS = ('.wav', '.flac', '.ogg')
_LABELS = {'.mid': 'MIDI', '.midi': 'MIDI', '.tx1.txt': 'TX1',
           '.tx2.txt': 'TX2', '.vgm': 'VGM', '.vgz': 'VGZ', '.nsf': 'NSF',
           '.nes': 'ROM', '.famitracker.txt': 'FamiTracker',
           '.famistudio.txt': 'FamiStudio', '.wav': 'WAV',
           '.flac': 'FLAC', '.ogg': 'OGG', '.png': 'picture'}
# Of samples.json, what is not shown among the facts.
SHOWN_ELSEWHERE = (
    'name', 'number', 'n_events', 'n_given', 'seconds', 'nll_given',
    'nll_generated', 'ppl_given', 'ppl_generated')
_VIEWS = {
    'exact': ('Same events', 'events'),
    'transposed': ('Same events, transposed', 'events'),
    'notes': ('Same notes, any rhythm', 'notes'),
    'melody': ('Same melody in one voice', 'notes'),
}


def render(key: str, name: str, events: np.ndarray, paths: dict[str, str],
           metadata: dict[str, Any], common: dict[str, Any], findings: str
          ) -> str:
  """Returns the HTML of one song.

  Args:
    key: an id, one for each song of a page.
    name: shown.
    events: int32 song (see `events`).
    paths: ending -> address of each of its files.
    metadata: how it was made: `task`, settings, `nll_given` and so on; any may
      be missing.
    common: of these, what is shown elsewhere.
    findings: HTML of what was measured (see `to_html`).
  """
  score = scores.from_events(events)
  shown = text(name)
  audio = next((paths[e] for e in AUDIO_ENDINGS if e in paths), None)
  links = ''.join(
      f'<a href="{text(path)}" {"" if ending == ".png" else "download"} '
      f'aria-label="{_label(ending)} of {shown}">{_label(ending)}</a>'
      for ending, path in paths.items())
  playing = (f'<audio preload="none" controls src="{text(audio)}"></audio>'
             if audio else '<p class="none">No audio here: <code>python -m '
             'lakhnes_jax.page --render</code> makes it.</p>')
  picture = (f'<noscript><img loading="lazy" alt="Piano roll of {shown}" '
             f'src="{text(paths[".png"])}"></noscript>' if '.png' in paths
             else '')
  shown_facts = {'events': len(events)} | {
      key: value for key, value in metadata.items() if key not in common}
  notes = json.dumps(_notes(score), separators=(',', ':'))
  return f'''<article id="{key}" aria-labelledby="{key}t" tabindex="-1" \
data-seconds="{score.seconds:.3f}" data-given="{_given(events, metadata):.3f}">
<header><button class="play" type="button" {"" if audio else "disabled "}\
aria-label="Play {shown}"></button>
<div><h3 id="{key}t">{shown}</h3><p class="facts">{facts(shown_facts)}</p></div>
{_fit(metadata)}</header>
<canvas class="roll" aria-hidden="true"></canvas>
<div class="seek"><canvas aria-hidden="true"></canvas><input type="range" \
min="0" max="{score.seconds:.3f}" step="0.01" value="0" \
aria-label="Position in {shown}"></div>
{playing}{picture}
<footer><p class="time"><output>0:00</output> / {clock(score.seconds)}</p>
<p class="links">{links}</p></footer>
{findings}
<script type="application/json">{notes}</script>
</article>'''


def _given(events: np.ndarray, metadata: dict[str, Any]) -> float:
  """Seconds of the song that the model was given to continue."""
  n = metadata.get('n_given')
  if metadata.get('task') != 'continue' or not isinstance(n, int):
    return 0.0
  return int(ev.times_of(events[:n])[-1:].sum()) / ev.SAMPLE_RATE


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


def _fit(metadata: dict[str, Any]) -> str:
  """Perplexity of the song by its model."""
  rows = []
  for part, label in (('generated', 'perplexity'), ('given', 'given part')):
    nll = metadata.get(f'nll_{part}')
    if isinstance(nll, int | float) and math.isfinite(nll):
      rows.append(f'<dt>{label}</dt><dd title="NLL {nll:.4f} nats per event">'
                  f'{math.exp(min(nll, 99)):.2f}</dd>')
  return f'<dl class="fit">{"".join(rows)}</dl>' if rows else ''


def to_html(of_song: dict[str, Any], table: dict[str, Any]) -> str:
  """Returns HTML of what `experiments.metrics` found of a song.

  Args:
    of_song: of `samples` in metrics.json.
    table: its `metrics`, of all songs.
  """
  runs = {view: run for view, run in of_song['memorisation'].items()
          if view in _VIEWS}
  parts = []
  copied = [f'{run["length"]} {_VIEWS[view][1]}, {run["seconds"]:.1f} s, are '
            f'as in {text(run["song"])} ({_VIEWS[view][0].lower()}; '
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
  return f'{run["song"]} at {clock(run["song_at"])}{shift}'


def _table(title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]],
           note: str = '') -> str:
  """A table that opens; the first cell of each row says what is in it."""
  head = ''.join(f'<th scope="col">{column}</th>' for column in columns)
  body = ''.join(
      f'<tr><th scope="row">{text(row[0])}</th>' +
      ''.join(f'<td>{text(cell)}</td>' for cell in row[1:]) + '</tr>'
      for row in rows)
  return (f'<details><summary>{title}</summary><div class="wide"><table><thead>'
          f'<tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table></div>'
          f'<p>{note}</p></details>')


def facts(values: dict[str, Any]) -> str:
  """Returns settings as short labels."""
  return ''.join(
      f'<span><b>{text(str(key).replace("_", " "))}</b> '
      f'{text(_shown(value))}</span> '
      for key, value in values.items()
      if key not in SHOWN_ELSEWHERE and value is not None and value != '')


def _shown(value: Any) -> str:
  if isinstance(value, str):
    return value
  if isinstance(value, list) and all(isinstance(v, str) for v in value):
    return ', '.join(value)
  return f'{value:.6g}' if isinstance(value, float) else json.dumps(value)


def text(value: str) -> str:
  """Returns text as HTML, for elements and attributes."""
  # Names of files may hold bytes that are no text.
  return html.escape(value.encode('utf-8', 'replace').decode(), quote=True)


def _label(ending: str) -> str:
  return _LABELS.get(ending, ending[1:])


def _number(value: Any) -> str:
  return f'{value:.3f}' if isinstance(value, int | float) else '-'


def count(of) -> str:
  """Says how many songs there are."""
  return f'{len(of)} song{"" if len(of) == 1 else "s"}'


def clock(seconds: float) -> str:
  """Returns a time as 1:02 or 1:02:03."""
  minutes, seconds = divmod(int(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return (f'{hours}:{minutes:02}:{seconds:02}' if hours else
          f'{minutes}:{seconds:02}')
