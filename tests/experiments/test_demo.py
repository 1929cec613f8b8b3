"""The whole path, from nothing to audio, by the command of `make demo`."""

import pathlib
import re
import subprocess
import sys

import pytest
import soundfile

from experiments import demo
from lakhnes_jax.training import log

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.slow
def test_pretraining_helps_and_the_tunes_sound(tmp_path):
  done = subprocess.run(
      [sys.executable, '-m', 'experiments.demo', f'--out={tmp_path}'], cwd=ROOT,
      capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr
  unigram, scratch, finetune = (
      float(re.search(rf'{words} +([\d.]+)\n', done.stdout)[1])
      for words in ('unigram', 'from scratch', 'then chip'))
  assert finetune < 0.95 * scratch < scratch < 0.5 * unigram
  assert len(list(tmp_path.glob('pretrained/*.wav'))) == 4
  assert (tmp_path / 'pretrained/index.html').exists()
  for name in ('000', '001'):
    audio, rate = soundfile.read(tmp_path / f'tunes/{name}.wav')
    assert len(audio) > 2 * rate
    assert audio.std() > 0.01
    assert (tmp_path / f'tunes/{name}.mid').stat().st_size > 200
    assert (tmp_path / f'tunes/{name}.png').stat().st_size > 5000
  assert (tmp_path / 'curves.png').stat().st_size > 5000
  assert {x['kind'] for x in log.read(tmp_path / 'runs/finetune')} == {
      'train', 'valid'}


def test_a_command_that_fails_ends_it(capfd):
  with pytest.raises(SystemExit, match=r'failed: python -m experiments.run a'):
    demo._run('experiments.run', 'a')
  assert '$ python -m experiments.run a' in capfd.readouterr().out
