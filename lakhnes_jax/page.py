"""A page to listen to songs: `python -m lakhnes_jax.page FOLDER`.

Writes FOLDER/index.html, which needs no network and no server: a player and a
moving piano roll for each song of the folder, with links to its files, how it
was made (`samples.json`), and what was measured (`metrics.json`). Songs are
files of any known kind; the same name with several endings is one song; each
folder below makes a section of its own, for comparison. Audio is played from
files of the same name, which --render makes where they are missing.
"""

import argparse
import pathlib
import sys

from lakhnes_jax import command_line, render
from lakhnes_jax.report import page, song_card


def _render_missing(folder: pathlib.Path) -> int:
  """Makes audio of songs that have none; returns how many failed."""
  return sum(
      render.main([str(path), f'--out={folder / name}.wav'])
      for name, path in page.songs(folder).items()
      if not any((folder / f'{name}{ending}').is_file()
                 for ending in song_card.AUDIO_ENDINGS))


def main(argv: list[str] | None = None) -> int:
  command_line.escape_output()
  parser = argparse.ArgumentParser(
      prog='python -m lakhnes_jax.page', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('folder', type=command_line.path, metavar='FOLDER')
  parser.add_argument('--title', help="default: as before, or the folder's "
                      'name')
  parser.add_argument('--render', action='store_true',
                      help='make a WAV of each song that has no audio')
  args = parser.parse_args(argv)
  failed, errors = 0, []
  try:
    if args.render:
      failed = _render_missing(args.folder)
    path, errors = page.write_readable(args.folder, args.title)
    if path:
      print(path)
    else:
      errors.append(f'{args.folder}: no song ' +
                    ('could be read' if errors else 'file there'))
  except (OSError, ValueError) as error:
    errors.append(str(error))
  for error in errors:
    print(f'lakhnes_jax.page: {error}', file=sys.stderr)
  return 1 if errors or failed else 0


if __name__ == '__main__':
  sys.exit(main())
