"""Whether the meter that is found is the true one, in tables.

    python -m experiments.benchmarks.meter --composed=240
    python -m experiments.benchmarks.meter --midi=DIR/valid
    python -m experiments.benchmarks.meter --vgm=DIR --midi=DIR/train

The first composes songs of known meter (see `meter_songs`). The second reads
NES-MDB's MIDI files, and says how many notes begin exactly on rows. The third
compares loops with those that the headers of VGM files hold, of the songs that
are in both folders. Each says the milliseconds of processor time that a song
took, the median.
"""

import argparse
import collections
import pathlib
import struct
import time

import numpy as np

from experiments.benchmarks import machine, meter_songs
from lakhnes_jax import command_line, meter
from lakhnes_jax import events as ev
from lakhnes_jax.formats import nes_midi, vgm
from lakhnes_jax.meter import onsets, seam

_MOSTLY, _HARDLY = .12, .02  # Share of notes between rows of some length.
_RIGHT = .95  # Share of rows within a frame of a true one, and vice versa.
_WEIGHT = .3  # Of an onset that is no ornament.
_SAME = .9  # Share of notes of what counts as the same music.
_CLOSE = 4  # Frames by which its notes may differ, as rows are rounded.
_LED, _FEW = 120, 4  # Frames that lead to a loop; notes that they have.


def judge(song: meter_songs.Song, found: meter.Meter) -> dict[str, bool]:
  """Compares what was found with what is known of a composed song.

  Returns:
    frame: the rate is right, and events are in the frames of their calls;
    row: 95% of the rows found are within a frame of a true one, and vice
      versa, for rows on which nine tenths of the notes begin, and not so short
      that all begin on every second;
    beat, bar, bar row, loop: where the row is right
    bar x 2: the bar is right, or half or twice as long: what one musician
      writes as 4/4 at 75 another writes as 2/4, or at 150; the notes do not say
    loop: its length and start are right, within a row
    loop round: or else it plays on, for three times the song's length, with 95%
      of the notes of the true one; so it does with both ends earlier, where
      that is the same music
  """
  frames = meter.frames_of(found, ev.times_of(song.events)[song.events < 0])
  shift, count = np.unique(frames - song.calls, return_counts=True)
  steps = song.step_frames + int(shift[np.argmax(count)])
  result = {'frame': abs(found.frame / song.period - 1) < 8e-4 and
            count.max() > .99 * len(frames)}
  good = [unit for unit, off in song.units.items() if off <= _MOSTLY]
  good = [unit for unit in good if not any(
      more > unit and more % unit == 0 and song.units[more] <= _HARDLY
      for more in good)]
  rows = found.row_frames[:-1].astype(np.int64)
  near = [min(_near(rows, steps[::unit]), _near(steps[:-1:unit], rows))
          for unit in good]
  result['row'] = bool(near) and max(near) >= _RIGHT
  if not result['row']:
    return result
  unit = good[int(np.argmax(near))]
  bar = found.rows_per_bar * unit
  result['beat'] = found.rows_per_beat * unit == song.steps_per_beat
  result['bar'] = bar == song.steps_per_bar
  result['bar x 2'] = bar in (song.steps_per_bar * x for x in (.5, 1, 2))
  result['bar row'] = result['bar'] and _near(
      found.row_frames[[found.bar_row]], steps[::song.steps_per_bar]) == 1
  if song.loop:
    start, end = steps[list(song.loop)]
    at = found.row_frames[list(found.loop or (0, 0))]
    result['loop'] = (abs(at[1] - at[0] - (end - start)) <= found.row
                      and at[0] > start - found.row - 1)
    result['loop round'] = bool(result['loop'] or (found.loop and _plays_on(
        song, frames, steps, np.searchsorted(steps, at + 2) - 1) >= _RIGHT))
  else:
    result['no loop'] = found.loop is None
  return result


def _plays_on(song: meter_songs.Song, frames: np.ndarray, steps: np.ndarray,
              loop: np.ndarray) -> float:
  """Share of notes that are the same in a song's loop and in another, in steps.

  Args:
    song: with a loop.
    frames: of its chip events.
    steps: frames of its steps.
    loop: steps (start, end).
  """
  chip = song.events[song.events < 0]
  notes = onsets.find(frames, chip, int(frames.max()) + 1)
  counts = notes.weight > _WEIGHT
  pitch = np.zeros((len(steps), 4), np.int64)
  pitch[np.maximum(np.searchsorted(steps, notes.frame[counts] + 1, 'right') - 1,
                   0), notes.voice[counts]] = notes.pitch[counts]
  place = np.arange(3 * len(steps))
  one, other = (pitch[np.where(place < end, place, start + (
      place - end) % (end - start))] for start, end in (song.loop, loop))
  either = ((one > 0) | (other > 0)).sum()
  return float(((one == other) & (one > 0)).sum() / max(either, 1))


def _near(a: np.ndarray, b: np.ndarray) -> float:
  """Share of frames a that are within one of any of b, ascending."""
  if not len(a) or not len(b):
    return 0.
  place = np.searchsorted(b, a)
  apart = [abs(a - b[np.clip(place - back, 0, len(b) - 1)]) for back in (0, 1)]
  return float((np.minimum(*apart) <= 1).mean())


def timed(song: np.ndarray) -> tuple[meter.Meter, float]:
  """Analyses a song; returns the milliseconds of processor time too."""
  started = time.process_time()
  found = meter.analyze(song)
  return found, 1e3 * (time.process_time() - started)


def composed(n: int, seed: int) -> None:
  """Prints shares of what is right, by what was done to the songs."""
  right, ms = collections.defaultdict(list), []
  columns = ('frame', 'row', 'beat', 'bar', 'bar x 2', 'bar row', 'loop',
             'loop round', 'no loop')
  for number in range(n):
    song = meter_songs.make(seed, number)
    found, took = timed(song.events)
    ms.append(took)
    for what, is_right in judge(song, found).items():
      for kind in ('all', *song.kind.values()):
        right[kind, what].append(is_right)
  print('| songs |', ' | '.join(columns), '|')
  print('|---|' + '---|' * len(columns))
  for kind in ('all', *meter_songs.TEMPI, *meter_songs.RATES, 'plain',
               'ornate'):
    if (kind, 'row') in right:
      print(f'| {kind} |', ' | '.join(
          f'{np.mean(right[kind, c]):.3f} of {len(right[kind, c])}'
          if right[kind, c] else '' for c in columns), '|')
  print(f'{np.median(ms):.1f} ms per song')


def onset_shares(song: np.ndarray, found: meter.Meter) -> tuple[float, float]:
  """Shares of onsets exactly on rows, and within a frame of one."""
  is_chip = song < 0
  frames = meter.frames_of(found, ev.times_of(song)[is_chip])
  notes = onsets.find(frames, song[is_chip], len(found.frame_starts) - 1)
  at = notes.frame[notes.weight > _WEIGHT]
  if not len(at):
    return np.nan, np.nan
  return float(np.isin(at, found.row_frames).mean()), _near(
      at, found.row_frames.astype(np.int64))


def notes_on_rows(folder: pathlib.Path) -> None:
  """Prints how sure rows of a folder's songs are, and what begins on them."""
  rows, shares, ms = [], [], []
  for path in sorted(folder.glob('*.mid')):
    song = nes_midi.read(path)
    found, took = timed(song)
    rows.append((found.row, found.row_confidence, found.frame_confidence))
    shares.append(onset_shares(song, found))
    ms.append(took)
  row, sure, sure_frame = np.array(rows).T
  exact, close = np.array(shares)[row > 0].T
  print(f'{len(row)} songs; frames: confidence above .5 in '
        f'{(sure_frame > .5).mean():.3f} of them\nrow found in '
        f'{(row > 0).mean():.3f}; ' + ', '.join(
            f'confidence above {x}: {(sure > x).mean():.3f}'
            for x in (.3, .5, .7, .9)))
  print(f'onsets exactly on rows: mean {np.nanmean(exact):.3f}, median '
        f'{np.nanmedian(exact):.3f}; within a frame: mean '
        f'{np.nanmean(close):.3f}, median {np.nanmedian(close):.3f}')
  print(f'{np.median(ms):.1f} ms per song')


def _onsets(song: np.ndarray, found: meter.Meter) -> np.ndarray:
  """[n, 2] frames, and voices with pitches, of the notes that count."""
  is_chip = song < 0
  size = len(found.frame_starts) - 1
  notes = onsets.find(np.minimum(
      meter.frames_of(found, ev.times_of(song)[is_chip]), size), song[is_chip],
      size)
  return np.stack([notes.frame, notes.voice << 7 | notes.pitch],
                  1)[notes.weight > _WEIGHT]


def _played(notes: np.ndarray, loop, until: int) -> np.ndarray:
  """Notes that sound before a frame where a song goes round (start, end)."""
  start, end = (int(x) for x in loop)
  body = notes[(notes[:, 0] >= start) & (notes[:, 0] < end)]
  played = np.concatenate([notes[notes[:, 0] < end], *(
      np.add(body, [at - start, 0]) for at in range(end, until, end - start))])
  return played[played[:, 0] < until]


def _common(one: np.ndarray, other: np.ndarray, apart: int) -> float:
  """Share of notes that both have within some frames, of that with more."""
  return min(np.mean(_with_key(a, b, apart)) if len(a) else 0.
             for a, b in ((one, other), (other, one)))


def _with_key(a: np.ndarray, b: np.ndarray, apart: int) -> np.ndarray:
  """[n] whether notes a have their like in b."""
  room = 1 << 32  # More frames than there are.
  near = np.sort(b[:, 1] * room + b[:, 0])
  place = a[:, 1] * room + a[:, 0]
  at = np.searchsorted(near, place - apart)
  return np.append(near, np.iinfo(np.int64).max)[at] <= place + apart


def _alike(notes: np.ndarray, loop, other) -> bool:
  """Whether nine in ten notes are the same for three rounds of a loop."""
  until = loop[0] + 3 * (loop[1] - loop[0])
  return _common(*(_played(notes, x, until) for x in (loop, other)),
                 _CLOSE) >= _SAME


def _repeats(notes: np.ndarray, loop) -> bool:
  """Whether two seconds before a loop are like those before its end."""
  before, last = (notes[(notes[:, 0] >= x - _LED) & (notes[:, 0] < x)] - [x, 0]
                  for x in loop)
  return loop[0] >= _LED and len(last) >= _FEW and _common(
      before, last, 1) >= _SAME


def loops(vgm_folder: pathlib.Path, midi_folder: pathlib.Path) -> None:
  """Prints how many loops agree with those of VGM headers."""
  counts, ms = collections.Counter(), []
  for path in sorted(vgm_folder.glob('*.vgm')):
    midi = midi_folder / f'{path.stem}.mid'
    if not midi.exists():
      counts['without MIDI'] += 1
      continue
    song = nes_midi.read(midi)
    found, took = timed(song)
    ms.append(took)
    data = vgm.unpack(path.read_bytes())
    total, offset, length = struct.unpack_from('<3I', data, 0x18)
    if not offset:
      counts['songs without loop'] += 1
      counts['  none found'] += found.loop is None
      continue
    counts['songs with loop'] += 1
    row = (found.row or 8) * found.frame
    jump = seam.find(song, found)
    if jump:
      counts['  seam found'] += 1
      loops = (jump.end - jump.start) * found.frame / length
      whole = abs(loops - max(round(loops), 1)) * length <= row
      counts['  and a whole number of loops, within a row'] += whole
      counts['  or else 4 in 5 notes around it the same'] += (
          not whole and jump.same >= .8)
      counts['  shorter than 8 s, where the loop is not'] += (
          jump.end - jump.start < seam.LONG <= length / found.frame)
    notes, begin = _onsets(song, found), np.searchsorted(
        found.frame_starts, total - length)
    loop = int(begin), len(found.frame_starts) - 1
    repeats = _repeats(notes, loop)
    kind = ('from the first row on' if total - length < row else
            'what led to it is repeated' if repeats else
            'after what does not come again')
    counts[f'  {kind}'] += 1
    if not found.loop:
      counts['  none found for it'] += 1
      continue
    sure = found.loop_confidence > .7
    counts['  confidence above .7'] += sure
    ends = np.minimum(found.row_frames[list(found.loop)],
                      len(found.frame_starts) - 1)
    start, end = found.frame_starts[ends]
    if abs(end - start - length) <= row:
      counts['  length within a row'] += 1
      counts[f'  and {kind}'] += 1
      counts['  and confidence above .7'] += sure
      apart = (start - (total - length)) % length
      counts['  and start too' if min(apart, length - apart) <= row else
             '  same loop, other start'
             if _alike(notes, loop, ends) else '  other start'] += 1
    elif _alike(notes, loop, ends):
      counts['  other length, the same heard'] += 1
  for what, count in counts.items():
    print(f'{what:45}{count}')
  print(f'{np.median(ms):.1f} ms per song')


def main(argv: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(
      prog='python -m experiments.benchmarks.meter', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--composed', type=command_line.whole(0, 100_000),
                      default=0, metavar='N', help='songs to compose')
  parser.add_argument('--seed', type=command_line.whole(), default=0)
  parser.add_argument('--midi', type=pathlib.Path, help='folder of NES-MDB')
  parser.add_argument('--vgm', type=pathlib.Path, help='folder of VGM files')
  args = parser.parse_args(argv)
  if args.vgm and not args.midi:
    parser.error('--vgm needs --midi')
  if args.composed:
    composed(args.composed, args.seed)
  with machine.errors_in_a_line('meter'):
    if args.midi and args.vgm:
      loops(args.vgm, args.midi)
    elif args.midi:
      notes_on_rows(args.midi)


if __name__ == '__main__':
  main()
