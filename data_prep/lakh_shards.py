"""The second half of `data_prep.lakh`: parts -> shards, ledger, summary."""

import collections
import json
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from data_prep import lakh_parts
from lakhnes_jax import events as ev
from lakhnes_jax import files, shards


class _Song(NamedTuple):
  """A file that is kept: where its examples lie."""
  entry: dict[str, Any]
  stem: str  # Of its part.
  start: int  # In the events of the part.


def write(stems: list[str], output: str, settings: lakh_parts.Settings,
          valid_percent: float) -> dict[str, Any]:
  """Writes shards of train and valid, `ledger.tsv` and `summary.json`.

  Songs lie in the order of the hashes of their notes; of files with the same
  notes the one whose name sorts first is kept.

  Args:
    stems: parts, as `lakh_parts.make` returns them.
    output: folder to write to.
    settings: noted down in the shards' metadata.
    valid_percent: share of songs held out, by their hash; if it is not 0,
      at least one of two songs.

  Returns:
    the summary.

  Raises:
    ValueError: no file was kept.
  """
  entries, songs = _read_entries(stems)
  splits = _split(sorted(songs), valid_percent)
  metadata = {'source': 'data_prep.lakh', **settings._asdict()}
  counts = {}
  for split, digests in splits.items():
    chosen = [songs[digest] for digest in digests]
    counts[split] = dict.fromkeys(('songs', 'examples', 'events', 'hours'), 0)
    shards.write_split(output, split, _examples(chosen, counts[split]),
                       metadata=metadata)
  split_of = {digest: split for split, digests in splits.items()
              for digest in digests}
  lines = [('file', 'result', 'examples', 'seconds', 'notes')]
  results = collections.Counter()
  for entry in sorted(entries, key=lambda entry: entry['name']):
    digest = entry.get('hash', '')
    result, n_examples = entry.get('error'), 0
    if result is None:
      kept = songs[digest].entry
      if kept['name'] == entry['name']:
        result, n_examples = split_of[digest], len(entry['lengths'])
      else:
        result = f'same notes as {kept["name"]}'
    results['kept' if n_examples else _kind(result)] += 1
    seconds = f'{entry["seconds"]:.3f}' if digest else ''
    lines.append((entry['name'], result, str(n_examples), seconds, digest))
  text = ''.join('\t'.join(map(_one_line, line)) + '\n' for line in lines)
  folder = pathlib.Path(output)
  files.write_atomic(folder / 'ledger.tsv', text.encode('utf-8', 'replace'))
  summary = {'files': len(entries), 'results': dict(results.most_common()),
             'splits': counts}
  files.write_atomic(folder / 'summary.json',
                     json.dumps(summary, indent=1).encode())
  return summary


def describe(summary: dict[str, Any]) -> str:
  """Returns the summary as lines to read."""
  results = ''.join(f'\n{count:8d}  {result}'
                    for result, count in summary['results'].items())
  splits = ''.join(
      f'\n{split}: {c["songs"]} songs, {c["examples"]} examples, '
      f'{c["hours"]:.2f} hours, {c["events"]} events'
      for split, c in summary['splits'].items())
  return f'{summary["files"]} files{results}{splits}'


def _read_entries(stems) -> tuple[list[dict[str, Any]], dict[str, _Song]]:
  """Reads what became of all files, and finds the song of each hash."""
  entries, songs = [], {}
  for stem in stems:
    start = 0
    for entry in lakh_parts.read_entries(stem):
      entries.append(entry)
      if 'hash' in entry:
        song = _Song(entry, stem, start)
        start += sum(entry['lengths'])
        other = songs.setdefault(entry['hash'], song)
        if entry['name'] < other.entry['name']:
          songs[entry['hash']] = song
  if not songs:
    reasons = collections.Counter(_kind(entry['error']) for entry in entries)
    raise ValueError(f'none of {len(entries)} files can be adapted: ' +
                     ', '.join(f'{n} {reason}' for reason, n in
                               reasons.most_common(5)))
  return entries, songs


def _split(digests: list[str], valid_percent: float) -> dict[str, list[str]]:
  """Deals sorted hashes out to the splits, by their low digits."""
  def share(digest):
    return int(digest[-8:], 16) / 2**32 * 100

  valid = {digest for digest in digests if share(digest) < valid_percent}
  if valid_percent and len(digests) > 1 and not 0 < len(valid) < len(digests):
    valid = {min(digests, key=share)}
  splits = {'train': [digest for digest in digests if digest not in valid],
            'valid': [digest for digest in digests if digest in valid]}
  return {split: chosen for split, chosen in splits.items() if chosen}


def _examples(songs, counts) -> Iterator[tuple[str, np.ndarray]]:
  """Yields names and events of all examples, and counts them."""
  for entry, stem, start in songs:
    counts['songs'] += 1
    # A copy, so that no map of the part stays open.
    end = start + sum(entry['lengths'])
    events = np.array(lakh_parts.read_events(stem)[start:end])
    ends = np.cumsum(entry['lengths'])
    for number, example in enumerate(np.split(events, ends[:-1])):
      counts['examples'] += 1
      counts['events'] += len(example)
      counts['hours'] += float(ev.times_of(example)[-1]) / (
          3600 * ev.SAMPLE_RATE)
      yield f'{entry["name"]}#{number}', example


def _kind(result: str) -> str:
  """The part of a reason that files share."""
  return ('same notes as another' if result.startswith('same notes') else
          result.split(':')[0])


def _one_line(text: str) -> str:
  return ' '.join(text.split())
