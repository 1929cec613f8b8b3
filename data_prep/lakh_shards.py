"""The second half of `data_prep.lakh`: parts -> shards, ledger, summary."""

import collections
import json
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from data_prep import adapt, lakh_parts
from lakhnes_jax import ensemble, files, shards
from lakhnes_jax import events as ev

EXAMPLES_PER_FILE = 16  # The paper's.


class Settings(NamedTuple):
  """How shards are made of parts.

  Attributes:
    seed: of what is drawn for examples.
    valid_percent: share of songs held out, by their hash; if it is not 0, at
      least one of two songs.
    train_examples: how many of each training song; 0 to write ensembles.
  """
  seed: int = 0
  valid_percent: float = 5
  train_examples: int = 0


class _Song(NamedTuple):
  """A file that is kept: where its ensemble lies."""
  entry: dict[str, Any]
  stem: str  # Of its part.
  start: int

  def packed(self) -> np.ndarray:
    # A copy, so that no map of the part stays open.
    end = self.start + self.entry['length']
    return np.array(lakh_parts.read_packed(self.stem)[self.start:end])


def write(stems: list[str], output: str, settings: Settings) -> dict[str, Any]:
  """Writes shards of train and valid, `ledger.tsv` and `summary.json`.

  Songs lie in the order of the hashes of their notes; of files with the same
  notes the one whose name sorts first is kept. The valid split always holds
  examples, so that losses on it can be compared.

  Args:
    stems: parts, as `lakh_parts.make` returns them.
    output: folder to write to.
    settings: see there.

  Returns:
    the summary.

  Raises:
    ValueError: no file was kept.
  """
  entries, songs = _read_entries(stems)
  splits = _split(sorted(songs), settings.valid_percent)
  summary = {'files': len(entries), 'results': {}, 'splits': {}}
  for split, digests in splits.items():
    chosen = [songs[digest] for digest in digests]
    limit = settings.train_examples if split == 'train' else EXAMPLES_PER_FILE
    counts = collections.Counter(songs=len(chosen))
    made = _examples(chosen, limit, settings.seed) if limit else _packed(chosen)
    shards.write_split(
        output, split, _count(made, counts), ensembles=not limit,
        metadata={'command': 'data_prep.lakh', **settings._asdict()})
    summary['splits'][split] = dict(counts)
  split_of = {digest: split for split, digests in splits.items()
              for digest in digests}
  results = collections.Counter()
  lines = ['file\tresult\tseconds\tnotes\n']
  for entry in sorted(entries, key=lambda entry: entry['name']):
    digest = entry.get('hash')
    if digest is None:
      result, facts = entry['error'], '\t'
      results[result.split(':')[0]] += 1
    else:
      facts = f'{entry["seconds"]:.3f}\t{digest}'
      kept = songs[digest].entry['name']
      same = kept == entry['name']
      result = split_of[digest] if same else f'same notes as {kept}'
      results['kept' if same else 'same notes as another'] += 1
    name, result = (' '.join(text.split()) for text in (entry['name'], result))
    lines.append(f'{name}\t{result}\t{facts}\n')
  summary['results'] = dict(results.most_common())
  folder = pathlib.Path(output)
  files.write_atomic(folder / 'ledger.tsv',
                     ''.join(lines).encode('utf-8', 'backslashreplace'))
  files.write_atomic(folder / 'summary.json',
                     json.dumps(summary, indent=1).encode())
  return summary


def describe(summary: dict[str, Any]) -> str:
  """Returns the summary as lines to read."""
  results = ''.join(f'\n{count:8d}  {result}'
                    for result, count in summary['results'].items())
  splits = ''.join(
      f'\n{split}: {counts["songs"]} songs; an epoch has '
      f'{counts["examples"]} examples, {counts["hours"]:.2f} hours, '
      f'{counts["events"]} events'
      for split, counts in summary['splits'].items())
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
        start += entry['length']
        other = songs.setdefault(entry['hash'], song)
        if entry['name'] < other.entry['name']:
          songs[entry['hash']] = song
  if not songs:
    reasons = collections.Counter(
        entry['error'].split(':')[0] for entry in entries)
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


def _packed(songs: list[_Song]) -> Iterator[
    tuple[str, np.ndarray, np.ndarray]]:
  """Yields name, what to store, and an arrangement, of each song."""
  for song in songs:
    packed = song.packed()
    rng = np.random.default_rng(int(song.entry['hash'], 16))
    yield (song.entry['name'], packed,
           ensemble.arrange(ensemble.unpack(packed), rng))


def _examples(songs: list[_Song], limit: int, seed: int) -> Iterator[
    tuple[str, np.ndarray, np.ndarray]]:
  """Yields name, what to store, and the same again, of each example."""
  for song in songs:
    rng = np.random.default_rng((seed, int(song.entry['hash'], 16)))
    for number, example in enumerate(
        adapt.examples(ensemble.unpack(song.packed()), rng, limit)):
      yield f'{song.entry["name"]}#{number}', example, example


def _count(made, counts) -> Iterator[tuple[str, np.ndarray]]:
  """Passes songs on, and counts what an epoch of them has."""
  for name, stored, played in made:
    counts['examples'] += 1
    counts['events'] += len(played)
    if len(played):
      counts['hours'] += int(ev.times_of(played)[-1]) / (
          3600 * ev.SAMPLE_RATE)
    yield name, stored
