"""The command experiments.run in the process of the test."""

from absl.testing import flagsaver

from experiments import run
from experiments.options import FLAGS


def main(*given: str) -> int | str:
  """Runs `python -m experiments.run` with flags, from defaults for the rest.

  Returns:
    what it exits with: 0, another status, or a line that goes to stderr.
  """
  with flagsaver.flagsaver():
    FLAGS.unparse_flags()
    try:
      run.main(run.parse(['run', *given]))
    except SystemExit as exit_:
      return exit_.code
    finally:
      FLAGS.unparse_flags()
      FLAGS.mark_as_parsed()
  return 0
