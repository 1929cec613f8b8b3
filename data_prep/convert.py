"""Converts song files from any known format to another.

  python -m data_prep.convert nesmdb_midi --to=tx1.txt --out=nesmdb_tx1

Takes files, folders (searched at any depth) and glob patterns. Results keep
the name of their source, and what lay in a folder keeps its place there.
Nothing is overwritten without --overwrite. Bad files are named and left out;
the exit status is then 1.

Register logs (vgm, vgz, nlm.pkl, ndf.txt, ndr.txt) become each other write by
write, at the clock of their source (NTSC or PAL), tags and sample data included
where the format has them; sound of other chips is left out. To anything else
they are transcribed as nesmdb did it, and from anything else they are made for
an NTSC console.

famitracker.txt and famistudio.txt are what these programs import: rows of the
song's meter, notes, and instruments with macros. nsf and nes files are programs
that play a log frame by frame. All of them have the loop of a VGM file. --album
puts all songs into one nsf file. An nsf file is read by running its first song
under a 6502 emulator (pip install 'lakhnes_jax[nsf]').
"""

import argparse
import pathlib
import sys
import time
from typing import NamedTuple

from data_prep import pool
from lakhnes_jax import atomic, command_line, progress


def main(argv: list[str] | None = None) -> int:
  command_line.escape_output()
  parser = argparse.ArgumentParser(
      prog='python -m data_prep.convert', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('inputs', nargs='+', metavar='IN',
                      help='song files, folders or glob patterns')
  parser.add_argument('--to', required=True, metavar='ENDING',
                      help='mid, tx1.txt, tx2.txt, exprsco.pkl, seprsco.pkl, '
                      'blndsco.pkl, nlm.pkl, ndf.txt, ndr.txt, vgm, vgz, nsf, '
                      'nes, famitracker.txt or famistudio.txt')
  parser.add_argument('--out', required=True, type=command_line.path,
                      help='folder for the results')
  parser.add_argument('--rate', type=float, metavar='HZ',
                      help='steps per second of scores (default 24)')
  parser.add_argument('--loops', type=command_line.whole(1, 100), default=1,
                      metavar='N',
                      help='times that the looped part of a VGM file is played')
  parser.add_argument('--loop', action='store_true',
                      help='end songs that are no register logs where they '
                      'repeat themselves best, and set the loop in vgm, nsf, '
                      'nes and tracker files')
  parser.add_argument('--album', metavar='TITLE',
                      help='one nsf file of this name with all songs as tracks,'
                      ' in the order of their names')
  parser.add_argument('--artist', default='',
                      help="of the album; the first song's if not given")
  parser.add_argument('--overwrite', action='store_true',
                      help='replace results that are there already')
  parser.add_argument('--workers', default=0, metavar='N',
                      type=command_line.whole(0, command_line.MAX_WORKERS),
                      help='processes (default: one per CPU core)')
  args = parser.parse_args(argv)

  from lakhnes_jax.formats import score_pickle, song_files
  ending = '.' + args.to.lower().removeprefix('.')
  if ending not in song_files.FORMATS:
    parser.error(f'--to={args.to}: known are ' +
                 ', '.join(e[1:] for e in song_files.FORMATS))
  if args.rate is not None:
    if not song_files.FORMATS[ending].sampled:
      parser.error(f'--rate is for scores, not for {ending[1:]}')
    try:
      score_pickle.check_rate(args.rate)
    except ValueError as error:
      parser.error(f'--rate: {error}')
  if args.album is not None and ending != '.nsf':
    parser.error('--album is for --to=nsf')
  started = time.monotonic()
  bad, notes = [], []
  try:
    named = song_files.name_songs(args.inputs)
    if not named:
      raise ValueError(f'no song files in {" ".join(args.inputs)}; known '
                       'endings are ' + ', '.join(song_files.FORMATS))
    if args.album is not None:
      return _album(named, args)
    jobs = [Job(path, args.out / f'{name}{ending}', args.rate, args.loops,
                args.loop)
            for name, path in named.items()]
    there = [str(job.target) for job in jobs
             if job.target.exists() and not job.in_place()]
    if there and not args.overwrite:
      raise FileExistsError(
          f'{there[0]} is there already' +
          (f', as are {len(there) - 1} other results' if there[1:] else '') +
          '; nothing was written (--overwrite replaces what is there)')
    with progress.Progress('converting', 'songs', len(jobs)) as bar:
      for job, lines, reason in pool.attempt_all(convert, jobs, args.workers):
        bar.add(1)
        notes += [f'{job.source}: {line}' for line in lines or ()]
        if reason is not None:
          bad.append(reason)
  except (OSError, ValueError) as error:
    print(f'data_prep.convert: {error}', file=sys.stderr)
    return 1
  for note in notes:
    print(f'note: {note}', file=sys.stderr)
  for reason in bad:
    print(f'bad file: {reason}', file=sys.stderr)
  print(f'{args.out}: {len(jobs) - len(bad)} songs written, {len(bad)} bad '
        f'files, in {time.monotonic() - started:.0f} s')
  return 1 if bad else 0


class Job(NamedTuple):
  """One conversion; see the command's flags."""
  source: pathlib.Path
  target: pathlib.Path
  rate: float | None = None
  loops: int = 1
  loop: bool = False

  def in_place(self) -> bool:
    """Returns whether the source is the target."""
    return self.source.resolve() == self.target.resolve()


def convert(job: Job) -> list[str]:
  """Reads the song at the source and writes it to the target.

  Returns:
    what the target does not hold of it, one line each.

  Raises:
    ValueError, OSError: it cannot be read or written; names the file.
  """
  from lakhnes_jax.formats import song_files
  if job.in_place():
    raise ValueError(f'{job.source}: would be overwritten by its own result')
  if not song_files.holds_log(job.source):
    return _convert_song(job, song_files.read_song(job.source))
  log, lines = song_files.read_log(job.source, job.loops), []
  if song_files.takes_log(job.target):
    lines = song_files.write_log(job.target, log)
  else:
    song_files.write_song(job.target, song_files.to_song(job.source, log),
                          job.rate)
  note = f'{log.describe_left_out()} left out'
  if log.left_out and note not in lines:
    lines = [note, *lines]
  if log.volume and job.target.suffix.lower() not in ('.vgm', '.vgz'):
    lines = [*lines, f'its volume, {log.gain:.2f} times, left out']
  return lines


def _convert_song(job: Job, song) -> list[str]:
  """Writes a song, with a loop if one is asked for and found."""
  from lakhnes_jax.formats import looping, song_files
  looped = looping.find(song) if job.loop else None
  if looped and song_files.takes_log(job.target):
    return song_files.write_log(job.target, looping.to_log(looped))
  song_files.write_song(job.target, looped.song if looped else song, job.rate)
  return (['no part of it comes again; it ends'] if job.loop and not looped
          else [])


def _album(named: dict[str, pathlib.Path], args: argparse.Namespace) -> int:
  """Writes all songs into one file; returns the exit status.

  Raises:
    ValueError, OSError: a song cannot be read, or they do not fit; nothing is
      written then.
  """
  from lakhnes_jax.formats import looping, nsf, song_files, transcribe
  target = args.out / f'{args.album.replace("/", "-")}.nsf'
  if target.exists() and not args.overwrite:
    raise FileExistsError(f'{target} is there already; nothing was written '
                          '(--overwrite replaces what is there)')
  logs = []
  for name, path in named.items():
    if song_files.holds_log(path):
      log = song_files.read_log(path, args.loops)
    else:
      song = song_files.read_song(path)
      looped = looping.find(song) if args.loop else None
      log = (looping.to_log(looped) if looped
             else transcribe.from_events(song))
    title = log.tags.get('title') or song_files.song_name(name)
    logs.append(log._replace(tags=log.tags | {'title': title}))
  data = nsf.write_album(logs, args.album, args.artist or None)
  for path, log in zip(named.values(), logs, strict=True):
    for note in nsf.notes(log):
      print(f'note: {path}: {note}', file=sys.stderr)
  atomic.write(target, data)
  print(f'{target}: {len(logs)} tracks, {len(data)} bytes')
  return 0


if __name__ == '__main__':
  sys.exit(main())
