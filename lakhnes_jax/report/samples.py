"""Folders of sampled songs: text, MIDI, audio and a picture of each, a page."""

import contextlib
import json
import os
import pathlib
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from lakhnes_jax import atomic, file_lock, input_files, render
from lakhnes_jax.formats import looping, nsf, song_files
from lakhnes_jax.report import page, plot


def write(samples: Iterable[Any], out_dir: str | os.PathLike, *,
          also: Sequence[str] = (), album: str = '') -> int:
  """Writes each sample as text, MIDI, WAV and piano roll, and a listening page.

  `samples.json` is a list of their summaries, those of samples that were there
  before included; `index.html` plays them all. A line on stderr says what
  cannot be made: audio of a song without any wait, pictures without matplotlib.
  Other processes may write to the folder at the same time. Where a sample's
  metadata have a `loop`, files that can hold it do.

  Args:
    samples: `generation.sample.Sample`s or `lakhnes_jax.Song`s, written one by
      one as they come.
    out_dir: folder for the files; made if missing.
    also: endings of more files of each song, as in ['.vgm'].
    album: name of one NSF file with all of these songs; '' for none.

  Returns:
    how many files of `also` and `album` could not be made.

  Raises:
    ValueError: samples.json of an earlier call is damaged.
    OSError: a file cannot be written.
  """
  out_dir = pathlib.Path(out_dir)
  tracks, missing = [], 0
  summaries = _read_summaries(out_dir / 'samples.json')  # Before any work.
  for sample in samples:
    loop = looping.of_metadata(sample.metadata)
    with file_lock.exclusive(out_dir, wait=True):
      missing += _write_files(sample, out_dir / sample.name, also, loop)
      summaries = _read_summaries(out_dir / 'samples.json')
      summaries[sample.name] = sample.summary()
      atomic.write(out_dir / 'samples.json', json.dumps(
          list(summaries.values()), indent=2).encode())
    if album:
      tracks.append(looping.to_log(looping.Looped(sample.events, loop))
                    ._replace(tags={'title': sample.name}))
  if summaries:
    with file_lock.exclusive(out_dir, wait=True):
      page.write(out_dir)
  if tracks:
    path = out_dir / f'{album.replace("/", "-")}.nsf'
    missing += 1
    with _named(path):
      atomic.write(path, nsf.write_album(tracks, album))
      missing -= 1
  return missing


def _write_files(sample: Any, path: pathlib.Path, also: Sequence[str],
                 loop: Any) -> int:
  """Writes the files of one sample; returns how many of `also` failed."""
  # TX1 has no dynamics, TX2 all that a song holds.
  text = 'tx1' if sample.metadata.get('format') == 'tx1' else 'tx2'
  song_files.write_song(f'{path}.{text}.txt', sample.events)
  song_files.write_song(f'{path}.mid', sample.events)
  missing = 0
  for ending in also:
    missing += 1
    with _named(path):
      song_files.write_song(f'{path}{ending}', sample.events, loop=loop)
      missing -= 1
  with _named(path):
    audio, = render.render_events([sample.events])
    render.write_audio(f'{path}.wav', audio)
    plot.piano_roll(sample.events, f'{path}.png')
  return missing


@contextlib.contextmanager
def _named(path: str | os.PathLike):
  """Says what cannot be made; nothing else ends there."""
  try:
    yield
  except (ValueError, ImportError) as error:
    message = str(error)
    print(message if message.startswith(str(path)) else f'{path}: {message}',
          file=sys.stderr, flush=True)


def _read_summaries(path: pathlib.Path) -> dict[str, dict[str, Any]]:
  """Returns the summaries of samples that are there already, by name."""
  try:
    return {row['name']: row for row in json.loads(input_files.read(path))}
  except FileNotFoundError:
    return {}
  except (ValueError, TypeError, KeyError, RecursionError):
    raise ValueError(f'{path}: not a list of samples; delete it, or choose '
                     'another folder') from None
