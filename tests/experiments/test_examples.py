"""The songs of README.md: small, of the weights that are there, made again."""

import pathlib
import re

import soundfile

import lakhnes_jax
from experiments.examples import __main__ as examples
from lakhnes_jax import events as ev

NOTES = ev.from_text('\n'.join(
    4 * ['P1_NOTEON_60', 'TR_NOTEON_40', 'WT_20000', 'P1_NOTEOFF', 'WT_9000']))


def test_those_of_the_repository():
  files = {path.name: path.stat().st_size for path in examples.HERE.iterdir()
           if path.suffix in ('.ogg', '.png')}
  assert set(files) == {f'{n}.{ending}' for n in range(1, examples.N_SONGS + 1)
                        for ending in ('ogg', 'png')}
  assert sum(files.values()) < 1e6
  text = (examples.HERE / 'README.md').read_text('utf-8')
  assert re.search('`([0-9a-f]{64})`', text)[1] == examples.weights_digest(), (
      'the pretrained weights have changed: python -m experiments.examples')
  readme = (pathlib.Path(__file__).parents[2] / 'README.md').read_text('utf-8')
  top = '\n'.join(readme.splitlines()[:40])
  for name in files:
    assert f'(experiments/examples/{name})' in top


def test_made_again(tmp_path, monkeypatch, capsys):
  class Model:
    def generate(self, n, *, seconds, seed):
      return [lakhnes_jax.Song(NOTES, f'{seconds} {seed}')] * n

  monkeypatch.setattr(lakhnes_jax, 'load', Model, raising=False)
  assert examples.main([f'--out={tmp_path}', '--seed=3', '--seconds=2']) == 0
  assert f'{tmp_path}: 4 songs, ' in capsys.readouterr().out
  audio, rate = soundfile.read(tmp_path / '4.ogg')
  assert len(audio) == 116000 and rate == 44100
  assert abs(audio[-50:]).max() < .02 < abs(audio[:40000]).max()
  assert (tmp_path / '4.png').stat().st_size > 3000
  text = (tmp_path / 'README.md').read_text('utf-8')
  assert 'seed 3' in text and '2 seconds each' in text
  assert '[4.ogg](4.ogg)' in text


def test_one_clear_line(monkeypatch, capsys):
  def load():
    raise ValueError('model.safetensors: damaged')
  monkeypatch.setattr(lakhnes_jax, 'load', load, raising=False)
  assert examples.main([]) == 1
  assert capsys.readouterr().err == (
      'experiments.examples: model.safetensors: damaged\n')
