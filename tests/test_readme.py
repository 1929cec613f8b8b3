"""The README: its commands exist and take their flags, its Python runs."""

import importlib.util
import pathlib
import re
import shlex

import jax
import pytest
from absl.testing import flagsaver

import lakhnes_jax
from experiments import options, run
from lakhnes_jax import events as ev
from lakhnes_jax import export, import_torch, page, render
from lakhnes_jax.generation import sample
from lakhnes_jax.model import transformer_xl
from lakhnes_jax.model.language_model import LanguageModel

ROOT = pathlib.Path(__file__).parents[1]
TEXT = (ROOT / 'README.md').read_text('utf-8')


def _blocks(language: str) -> list[str]:
  return re.findall(rf'```{language}\n(.*?)```', TEXT, re.DOTALL)


COMMANDS = [line for block in _blocks('sh')
            for line in block.replace('\\\n', ' ').splitlines()
            if line.startswith('python -m ')]


@pytest.mark.parametrize('command', COMMANDS)
def test_commands_take_their_flags(command, monkeypatch):
  module, *arguments = shlex.split(command, comments=True)[2:]
  assert importlib.util.find_spec(module)
  if module == 'experiments.run':
    with flagsaver.flagsaver():
      assert run.parse(['run', *arguments]) == ['run']
      options.FLAGS.unparse_flags()
      options.FLAGS.mark_as_parsed()
  for command_of in (export, import_torch, page, render):
    if command_of.__name__ == module:  # Known flags, but no such files.
      monkeypatch.chdir('/')
      try:
        code = command_of.main(arguments)
      except SystemExit as exit_:
        code = exit_.code
      assert code != 2


def test_links_lead_somewhere():
  for link in re.findall(r'\]\(([^)]+)\)', TEXT):
    assert link.startswith('https://') or (ROOT / link).exists(), link


def test_it_is_short():
  assert len(TEXT.splitlines()) < 200


def test_python(monkeypatch, tmp_path):
  """With a tiny model in place of the pretrained one, and shorter songs."""
  model = LanguageModel(transformer_xl.ModelConfig(
      n_token=ev.TX1.size, n_layer=1, n_head=2, d_model=8, d_head=4, d_inner=8))
  params = model.init_params(jax.random.key(0))
  params['output_bias'] -= 1e3 * (ev.TX1.wait > 99)  # Much in little time.
  tiny = lakhnes_jax.Model(sample.Model(model, params, ev.TX1, 8))
  monkeypatch.setattr(lakhnes_jax, 'load', lambda: tiny, raising=False)
  monkeypatch.chdir(tmp_path)
  code, = _blocks('python')
  code = re.sub(r'seconds=(\d+)', r'seconds=.0\1', code)
  values = {}
  exec(code, values)
  assert len(values['audio']) == round(.020 * 44100)
  assert values['given'].events.size
