import builtins
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from lakhnes_jax import events as ev
from lakhnes_jax.report import plot
from lakhnes_jax.synth import score as scores

TEXT = ('P1_NOTEON_60\nP1_VELOCITY_9\nWT_10\nP1_VELOCITY_4\nWT_5\n'
        'NO_NOTEON_3\nWT_5\nP1_NOTEON_60\nNO_NOTEOFF\nWT_6')


def test_notes_are_bars():
  score = scores.from_events(ev.from_text(TEXT))
  np.testing.assert_array_equal(
      plot.notes(score, 0),
      [[0, 10, 60, 9], [10, 20, 60, 4], [20, 26, 60, 4]])
  np.testing.assert_array_equal(plot.notes(score, 3), [[15, 20, 3, 15]])
  assert plot.notes(score, 2).shape == (0, 4)


@pytest.mark.parametrize('text', [TEXT, 'WT_5', ''])
def test_piano_roll_is_a_png(tmp_path, text):
  plot.piano_roll(ev.from_text(text), tmp_path / 'a.png', title='A song')
  assert (tmp_path / 'a.png').read_bytes().startswith(b'\x89PNG')


def test_text_is_not_read_as_mathematics(tmp_path):
  name = r'a$$b $\frac{$ _x^'
  plot.piano_roll(ev.from_text(TEXT), tmp_path / 'a.png', title=name)
  (tmp_path / name).mkdir()
  (tmp_path / name / 'metrics.jsonl').write_text(json.dumps({
      'step': 1, 'kind': 'train', 'loss': 2., 'learning_rate': .1,
      'tokens_per_second': 1.}) + '\n')
  plot.learning_curves([tmp_path / name], tmp_path / 'b.png')
  for picture in ('a.png', 'b.png'):
    assert (tmp_path / picture).read_bytes().startswith(b'\x89PNG')


@pytest.mark.parametrize('backend', [
    'module://matplotlib_inline.backend_inline', 'nonsense', 'agg'])
def test_any_backend_of_the_environment(tmp_path, backend):
  code = ('import os, sys\n'
          'from lakhnes_jax import events\n'
          'from lakhnes_jax.report import plot\n'
          'plot.piano_roll(events.from_text("WT_5"), sys.argv[1])\n'
          'print(os.environ["MPLBACKEND"], "matplotlib.pyplot" in sys.modules)')
  done = subprocess.run(
      [sys.executable, '-c', code, str(tmp_path / 'a.png')], text=True,
      env={**os.environ, 'MPLBACKEND': backend}, capture_output=True,
      check=False)
  assert done.stdout == f'{backend} False\n', done.stderr
  assert (tmp_path / 'a.png').exists()


def test_learning_curves(tmp_path, monkeypatch):
  for run, losses in (('a1', [9., 2., 1.5]), ('a2', [8., 3., 1.7]),
                      ('b', [7.])):
    (tmp_path / run).mkdir()
    (tmp_path / run / 'metrics.jsonl').write_text(''.join(
        json.dumps({'step': 1 + 10 * i, 'kind': 'train', 'loss': loss,
                    'learning_rate': .1, 'tokens_per_second': 1.}) + '\n'
        for i, loss in enumerate(losses)))
  drawn = []
  monkeypatch.setattr(plot, 'save', lambda fig, path: drawn.append(fig))
  runs = [[tmp_path / 'a1', tmp_path / 'a2'], tmp_path / 'none']
  plot.learning_curves(runs, tmp_path / 'a.png')
  plot.learning_curves([*runs, str(tmp_path / 'b')], tmp_path / 'b.png')
  seeds, both = (fig.axes[0] for fig in drawn)
  first, second = seeds.lines
  assert first.get_color() == second.get_color()
  assert first.get_linestyle() != second.get_linestyle()
  assert first.get_color() != both.lines[2].get_color()
  # Step 1 of 21 does not count, step 1 of 1 does.
  assert 3 < seeds.get_ylim()[1] < 4 and 7 < both.get_ylim()[1] < 8
  plot.learning_curves([tmp_path / 'none'], tmp_path / 'c.png')  # No error.


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
  real = builtins.__import__

  def fake(name, *args, **kwargs):
    if name.startswith('matplotlib'):
      raise ImportError(name)
    return real(name, *args, **kwargs)

  monkeypatch.setattr(builtins, '__import__', fake)
  with pytest.raises(ImportError, match=r"pip install 'lakhnes_jax\[plot\]'"):
    plot.figure()
