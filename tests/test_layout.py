"""The rooms of the package: who may import whom, and what is written once."""

import ast
import functools
import pathlib
import re

from lakhnes_jax import nes

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = ('lakhnes_jax', 'data_prep', 'experiments')
# Numbers that are nothing but those of the chip, the console or the files.
OF_THE_CHIP = {
    nes.SAMPLE_RATE, *nes.CLOCKS, nes.PLAYER_QUARTER_FRAME, *nes.FRAME_CLOCKS,
    *nes.FRAME_RATES, *nes.FRAME_MICROSECONDS, nes.VIDEO_FRAME,
    nes.TRACKER_FRAME, nes.FRAME_60HZ, nes.FRAME_50HZ}


@functools.cache
def _modules() -> dict[str, ast.Module]:
  found = {}
  for package in PACKAGES:
    for path in (ROOT / package).rglob('*.py'):
      parts = path.relative_to(ROOT).with_suffix('').parts
      name = '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)
      found[name] = ast.parse(path.read_text('utf-8'))
  return found


def _imports(tree: ast.Module) -> set[str]:
  """Modules of ours that are imported, by functions too, but for types."""
  for_types = {
      id(node) for block in ast.walk(tree) if isinstance(block, ast.If)
      and getattr(block.test, 'id', '') == 'TYPE_CHECKING'
      for node in ast.walk(block)}
  found = set()
  for node in ast.walk(tree):
    if id(node) in for_types:
      continue
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      for alias in node.names:
        name = f'{node.module}.{alias.name}'
        found.add(name if name in _modules() else node.module)
  return found & _modules().keys()


@functools.cache
def _graph() -> dict[str, set[str]]:
  return {name: _imports(tree) for name, tree in _modules().items()}


def _reached(start: str) -> set[str]:
  found, left = set(), [start]
  while left:
    for name in _graph()[left.pop()] - found:
      found.add(name)
      left.append(name)
  return found


def test_the_library_imports_no_commands_of_the_others():
  for name, imported in _graph().items():
    package = name.split('.')[0]
    above = PACKAGES[PACKAGES.index(package) + 1:]
    assert not [x for x in imported if x.startswith(above)], name


def test_there_is_no_circle():
  assert not [name for name in _graph() if name in _reached(name)]


def test_what_rooms_know_nothing_of():
  for room, unknown in (
      ('generation', ('report', 'render', 'page', 'app', 'song', 'api')),
      ('model', ('training', 'weights', 'generation', 'report', 'formats')),
      ('synth', ('formats', 'model', 'data', 'report')),
      ('training', ('generation', 'report', 'render', 'app')),
      ('formats', ('model', 'training', 'generation', 'report', 'render'))):
    for name in _graph():
      if not name.startswith(f'lakhnes_jax.{room}.'):
        continue
      for other in unknown:
        assert not [x for x in _graph()[name] if f'{x}.'.startswith(
            f'lakhnes_jax.{other}.')], name


def test_transformer_xl_is_of_its_paper():
  path = ROOT / 'lakhnes_jax/model/transformer_xl.py'
  assert not re.findall('voice|recall|match|frame|vocab', path.read_text())
  assert not _graph()['lakhnes_jax.model.transformer_xl']


def test_constants_of_the_chip_are_written_once():
  for name, tree in _modules().items():
    if name == 'lakhnes_jax.nes':
      continue
    found = [node.value for node in ast.walk(tree)
             if isinstance(node, ast.Constant)
             and isinstance(node.value, int | float)
             and node.value in OF_THE_CHIP]
    assert not found, f'{name}: {found}: use lakhnes_jax.nes'
