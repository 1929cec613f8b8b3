"""Everything that computes, against the arrays of the original."""

import subprocess
import sys

import numpy as np
import pytest

from experiments.benchmarks import parity, plain


@pytest.fixture(scope='module')
def folder(oracles):
  return oracles / 'model'


def _check(rows, n: int):
  rows = list(rows)
  assert len(rows) == n
  for row in rows:
    assert row.deviation <= row.limit, row


@pytest.mark.parametrize('variant', parity.VARIANTS)
def test_segments_and_steps(folder, variant):
  # Without a memory there is none to compare.
  _check(parity.segments(folder, variant), 3 if variant == 'nomem' else 5)


@pytest.mark.parametrize('variant', parity.TRAINED)
def test_training(folder, variant):
  _check(parity.training(folder, variant), 10)


def test_training_with_recomputed_layers(folder):
  _check(parity.training(folder, 'base', remat=True), 4)


def test_schedules_and_samplers(folder):
  _check(parity.schedules(folder), 4)
  _check(parity.samplers(folder), 5)


@pytest.mark.parametrize('name', parity.CHECKPOINTS)
def test_checkpoints(folder, name):
  _check(parity.checkpoint(folder, name), 4)


def test_yardstick_equals_the_original_in_float64(folder):
  data, weights, expected = (
      dict(np.load(folder / f'tinyA_{name}.npz'))
      for name in ('data', 'weights', 'base'))
  found = plain.nll(weights, data['data'], data['target'], 16, 8)
  exact = np.concatenate([expected[f'loss64_{i}'] for i in range(6)])
  # Its angles were rounded to float32 before.
  np.testing.assert_allclose(found, exact, rtol=1e-7)


def test_command_says_what_is_missing(tmp_path):
  done = subprocess.run(
      [sys.executable, '-m', 'experiments.benchmarks.parity', str(tmp_path)],
      capture_output=True, text=True, check=False)
  assert done.returncode == 1
  assert 'tinyA_base.npz' in done.stderr and 'Traceback' not in done.stderr
