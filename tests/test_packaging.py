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
