"""What setup.cfg promises: commands, files beside the modules, types."""

import configparser
import importlib
import os
import pathlib
import shutil
import subprocess
import sys

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
            if path.is_file() and path.suffix not in (
                  '.py', '.pyc', '.png', '.md', '.ipynb', '.ogg')}
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


def test_users_see_types(tmp_path):
  """Of the face, which is imported lazily."""
  from mypy import api
  code = tmp_path / 'user.py'
  code.write_text('''
import lakhnes_jax
model = lakhnes_jax.load()
reveal_type(model)
song, = model.generate(seconds=2)
reveal_type(song.render(engine=3))
''')
  found, errors, status = api.run([
      str(code), f'--cache-dir={tmp_path / "cache"}', '--config-file=',
      '--ignore-missing-imports', '--follow-imports=silent'])
  assert (errors, status) == ('', 1)
  model, audio, wrong, _ = found.splitlines()
  assert model.endswith('Revealed type is "lakhnes_jax.api.Model"')
  assert 'Argument "engine" to "render" of "Song"' in wrong
  assert 'Revealed type is "numpy.ndarray' in audio


@pytest.mark.slow
def test_wheel_and_sdist_run_from_an_empty_folder(tmp_path):
  """The wheel is made from the sdist, so that both hold all that is needed."""
  source = tmp_path / 'source'
  for name in ('lakhnes_jax', 'experiments', 'data_prep'):
    shutil.copytree(ROOT / name, source / name)
  for name in ('setup.cfg', 'pyproject.toml', 'README.md', 'LICENSE'):
    shutil.copy(ROOT / name, source)

  def run(*command: str | os.PathLike) -> str:
    done = subprocess.run(
        command, cwd=empty, text=True, capture_output=True, check=False, env={
            name: value for name, value in os.environ.items()
            if name != 'PYTHONPATH'})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout

  empty = tmp_path / 'empty'
  empty.mkdir()
  run(sys.executable, '-m', 'build', '--no-isolation',
      f'--outdir={tmp_path}/dist', source)
  wheel, = tmp_path.glob('dist/*.whl')
  assert [path.name for path in tmp_path.glob('dist/*.tar.gz')]
  run(sys.executable, '-m', 'venv', tmp_path / 'venv')
  python = tmp_path / 'venv/bin/python'
  run(python, '-m', 'pip', 'install', '--quiet', '--no-deps', wheel)
  # The dependencies are those of this environment, behind the package.
  site, = tmp_path.glob('venv/lib/*/site-packages')
  (site / 'others.pth').write_text('\n'.join(
      path for path in sys.path if path.endswith('-packages')))
  place = run(python, '-c', 'import lakhnes_jax; print(lakhnes_jax.__file__)')
  assert pathlib.Path(place).is_relative_to(site)

  scripts = tmp_path / 'venv/bin'
  run(scripts / 'lakhnes-run', '--flagfile=sample.flags', '--n_samples=1',
      '--seconds=1')
  song, = empty.glob('samples/*.mid')
  run(scripts / 'lakhnes-render', song, '--out=song.wav')
  run(scripts / 'lakhnes-convert', song, '--to=nes', '--out=converted')
  assert {path.name for path in empty.iterdir()} == {
      'samples', 'song.wav', 'converted'}
