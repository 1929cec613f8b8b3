"""A page that asks a model for songs: `python -m lakhnes_jax.app`.

Serves this machine alone, at a loopback address. New songs, or songs to a given
file, are written one after another by one model that stays in memory; each is
played with a moving piano roll, kept or discarded, and downloaded as MIDI, WAV,
VGM or NSF. What is kept goes to the folder --out, with a listening page.
"""

import argparse
import contextlib
import pathlib
import socket
import sys

import lakhnes_jax
from lakhnes_jax import command_line


def main(argv: list[str] | None = None) -> int:
  command_line.escape_output()
  parser = argparse.ArgumentParser(
      prog='python -m lakhnes_jax.app', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--weights', type=command_line.expand,
                      help='a weights folder, its URL, or a run; default: the '
                      'pretrained model of the package')
  parser.add_argument('--out', type=command_line.path, metavar='FOLDER',
                      default=pathlib.Path('songs'),
                      help='for songs that are kept; default: %(default)s')
  parser.add_argument('--port', type=command_line.whole(0, 65535), default=8000,
                      help='default: %(default)s; 0 takes any that is free')
  args = parser.parse_args(argv)
  try:
    import uvicorn

    from lakhnes_jax.app import server
  except ModuleNotFoundError as error:
    if error.name not in ('uvicorn', 'starlette'):
      raise
    print(f'lakhnes_jax.app: needs {error.name}: pip install '
          "'lakhnes_jax[app]'", file=sys.stderr)
    return 1
  try:
    listening = socket.create_server(('127.0.0.1', args.port))
  except OSError as error:
    print(f'lakhnes_jax.app: --port={args.port}: {error.strerror}; give '
          'another', file=sys.stderr)
    return 1
  with listening:
    try:
      model = lakhnes_jax.load(args.weights)
    except (OSError, ValueError) as error:
      print(f'lakhnes_jax.app: {error}', file=sys.stderr)
      return 1
    serving = uvicorn.Server(uvicorn.Config(
        server.create(model, args.out), log_level='warning', ws='none',
        server_header=False, timeout_graceful_shutdown=2))
    print(f'http://127.0.0.1:{listening.getsockname()[1]}  (Ctrl-C ends it)',
          flush=True)
    with contextlib.suppress(KeyboardInterrupt):  # Raised after the shutdown.
      serving.run(sockets=[listening])
  return 0


if __name__ == '__main__':
  sys.exit(main())
