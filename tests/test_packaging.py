"""What setup.cfg promises: commands, and files beside the modules."""

import configparser
import importlib
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]


def _config() -> configparser.ConfigParser:
  # '%' is for setuptools to expand.
  config = configparser.ConfigParser(interpolation=None)
  config.read(ROOT / 'setup.cfg', 'utf-8')
  return config


SCRIPTS = _config()['options.entry_points']['console_scripts'].split('\n')[1:]


@pytest.mark.parametrize('script', SCRIPTS)
def test_commands_exist(script):
  name, _, target = script.partition(' = ')
  module, _, function = target.partition(':')
  assert name.startswith('lakhnes-')
  assert callable(getattr(importlib.import_module(module), function))


def test_data_files_are_there_and_packed():
  data = _config()['options.package_data']
  for package, patterns in data.items():
    for pattern in patterns.split():
      assert list((ROOT / package).glob(pattern)), f'{package}/{pattern}'
  packed = {path for package, patterns in data.items()
            for pattern in patterns.split()
            for path in (ROOT / package).glob(pattern)}
  beside = {path for package in data for path in (ROOT / package).rglob('*')
            if path.is_file() and path.suffix not in ('.py', '.pyc', '.png',
                                                      '.md')}
  assert beside <= packed


def test_lower_bounds_are_what_is_tested():
  """With Colab's versions, where .ci/run installs those."""
  needed = _config()['options']['install_requires']
  tested = dict(
      line.split('==') for line in
      (ROOT / '.ci/colab-constraints.txt').read_text().splitlines()
      if not line.startswith('#'))
  assert len(tested) == 6
  for name, version in tested.items():
    if name != 'jaxlib':  # jax's own.
      assert f'{name}>={version}' in needed.replace(',', '\n').split('\n')
