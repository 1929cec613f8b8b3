"""The API documentation: `python -m experiments.api_docs --out=api`.

Writes a page for each module of lakhnes_jax, from its docstrings; needs pdoc,
of the extra `docs`. A warning of pdoc is an error.
"""

import argparse
import pathlib
import pkgutil
import re
import sys
import warnings

import lakhnes_jax
from lakhnes_jax import command_line

# What is code in Markdown, or a < outside of it, as in <S>.
_CODE_OR_LESS = re.compile(r'`[^`]*`|^ {4}.*$|<', re.MULTILINE)


def write(out: pathlib.Path) -> None:
  """Writes the pages to a folder.

  Raises:
    ImportError: pdoc is missing; the message says how to get it.
    Warning: of pdoc.
  """
  try:
    import pdoc
    from pdoc import render, render_helpers
  except ImportError as error:
    raise ImportError('API documentation needs pdoc: pip install '
                      "'lakhnes_jax[docs]'") from error
  rooms = ['lakhnes_jax', *(
      module.name for module in pkgutil.iter_modules(
          lakhnes_jax.__path__, 'lakhnes_jax.'))]
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    for name in lakhnes_jax.__all__:  # pdoc shows what is there already.
      vars(lakhnes_jax)[name] = getattr(lakhnes_jax, name)
    render.configure(docformat='google')
    render.env.filters['to_html'] = lambda text: render_helpers.to_html(
        _CODE_OR_LESS.sub(lambda found: found[0].replace('<', '&lt;')
                          if found[0] == '<' else found[0], text))
    pdoc.pdoc(*rooms, output_directory=out)


def main(argv: list[str] | None = None) -> int:
  command_line.escape_output()
  parser = argparse.ArgumentParser(
      prog='python -m experiments.api_docs', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--out', type=command_line.path, default='api',
                      help='folder for the pages (default: %(default)s)')
  args = parser.parse_args(argv)
  try:
    write(args.out)
  except (ImportError, OSError, Warning) as error:
    print(f'experiments.api_docs: {error}', file=sys.stderr)
    return 1
  print(args.out / 'index.html')
  return 0


if __name__ == '__main__':
  sys.exit(main())
