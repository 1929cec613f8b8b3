"""What all tests that break things have in common."""

import pathlib

import pytest

HERE = pathlib.Path(__file__).parent


def pytest_collection_modifyitems(items):
  """Ignores what orbax's threads leave where a checkpoint is damaged.

  Their futures end after their event loop has; Python says so whenever it
  collects them, which may be in a later test.
  """
  for item in items:
    if HERE in item.path.parents:
      item.add_marker(pytest.mark.filterwarnings(
          'ignore::pytest.PytestUnraisableExceptionWarning'))
