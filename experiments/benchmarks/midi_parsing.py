"""symusic against mido: `python -m experiments.benchmarks.midi_parsing FOLDER`.

Reads every MIDI file of a folder with both, and says how long each takes, what
share of `data_prep.lakh` the parsing is, and where the notes differ, in ticks:

*   `refused by`: files that only one of them reads;
*   `overlaps`: notes that differ at pitches that begin again while they sound.
    A note-off ends all of them for pretty_midi and so for us, as the paper's
    adaptation had it; symusic ends one;
*   `without length`: notes that end as they begin; pretty_midi has none;
*   `program`: notes of two programs, the one when a note ends counts for
    pretty_midi, the one when it begins for symusic;
*   `other`: notes that differ otherwise. In 5 files of 3,700 they come after a
    meta message of unknown type, whose delta time mido drops, and with it
    pretty_midi and the original.

Needs `pip install symusic`, which is no part of the package.
"""

import argparse
import collections
import json
import pathlib
import sys
import time


def compare(paths: list[pathlib.Path]) -> dict:
  """Reads files with mido and symusic; see the top of this file."""
  import symusic

  from data_prep import adapt
  from lakhnes_jax.data import arrangement
  from lakhnes_jax.formats import general_midi, nes_midi
  seconds, counts = collections.Counter(), collections.Counter()
  examples = []

  def timed(what, function, *args):
    started = time.process_time()
    try:
      return function(*args)
    except Exception:  # symusic has its own kinds of errors.
      return None
    finally:
      seconds[what] += time.process_time() - started

  for path in paths:
    data = path.read_bytes()
    midi = timed('mido', nes_midi.parse, data)
    score = timed('symusic', symusic.Score.from_midi, data)
    timed('adaptation', lambda d: arrangement.pack(adapt.select_instruments(general_midi.read(d))),
          data)
    counts['files'] += 1
    if midi is None or score is None:
      if midi is not score:
        counts['refused by ' + ('mido' if midi is None else 'symusic')] += 1
        examples.append(str(path))
      continue
    try:
      grouped, _ = general_midi.read_ticks(midi)
    except ValueError:
      continue
    ours = collections.Counter(
        (channel == 9, program, *row)
        for (_, channel, program), rows in grouped.items() for row in rows)
    theirs = collections.Counter(
        (track.is_drum, track.program, n.time, n.time + n.duration, n.pitch,
         n.velocity) for track in score.tracks for n in track.notes)
    counts['notes'] += ours.total()
    counts['files with the same notes'] += ours == theirs
    kinds = _explain(ours, theirs, _overlapping(midi))
    for kind, n in kinds.items():
      counts[f'{kind}: files'] += 1
      counts[f'{kind}: notes'] += n
    if kinds['other']:
      examples.append(str(path))
  return {**counts, 'ms_a_file': {what: 1000 * s / len(paths)
                                  for what, s in seconds.items()},
          'look_at': examples[:10]}


def _explain(ours, theirs, overlapping) -> collections.Counter:
  """Counts the notes that differ by why they do."""
  kinds, without_program = collections.Counter(), collections.Counter()
  for sign, notes in ((1, ours - theirs), (-1, theirs - ours)):
    for (drum, _, start, end, pitch, velocity), n in notes.items():
      if (drum, pitch) in overlapping:
        kinds['overlaps'] += n
      elif start == end:
        kinds['without length'] += n
      else:
        kinds['program'] += n
        without_program[drum, start, end, pitch, velocity] += sign * n
  other = sum(map(abs, without_program.values()))
  kinds['program'] -= other
  kinds['other'] = other
  return +kinds


def _overlapping(midi) -> set[tuple[bool, int]]:
  """Returns (is_drum, pitch) that begin while they sound already.

  On one channel of one track, and so in one instrument or two.
  """
  found = set()
  for track in midi.tracks:
    sounding = set()
    for message in track:
      if message.type not in ('note_on', 'note_off'):
        continue
      key = message.channel, message.note
      if message.type == 'note_on' and message.velocity:
        if key in sounding:
          found.add((message.channel == 9, message.note))
        sounding.add(key)
      else:
        sounding.discard(key)
  return found


def main() -> int:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('folder', type=pathlib.Path)
  args = parser.parse_args()
  try:
    import symusic  # noqa: F401
  except ImportError:
    print('skipped: symusic is not installed (pip install symusic)')
    return 0
  paths = sorted(p for p in args.folder.rglob('*')
                 if p.suffix.lower() in ('.mid', '.midi', '.kar'))
  if not paths:
    print(f'{args.folder}: no MIDI files there', file=sys.stderr)
    return 1
  print(json.dumps(compare(paths), indent=1))
  return 0


if __name__ == '__main__':
  sys.exit(main())
