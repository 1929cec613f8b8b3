"""Runs that are cut off and go on, through the user's own command."""

import importlib.util
import io
import json
import os
import pathlib
import signal
import struct
import subprocess
import sys
import time

import numpy as np
import pytest

from lakhnes_jax import events
from lakhnes_jax.data import shards
from lakhnes_jax.training import log, loop
from lakhnes_jax.weights import checkpoint
from support import commands

ROOT = pathlib.Path(__file__).parents[2]
FLAGS = {
    'n_layer': 2, 'n_head': 2, 'd_model': 16, 'd_head': 8, 'd_inner': 24,
    'tgt_len': 8, 'mem_len': 12, 'eval_tgt_len': 4, 'eval_batch_size': 2,
    'batch_size': 4, 'augment': 'all', 'max_steps': 24, 'log_every': 5,
    'eval_every': 8, 'save_every': 6, 'seed': 3, 'learning_rate': 1e-3}
FEATURES = 'voice_state,context_match=30,voice_match=30,frame_counter'


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory) -> pathlib.Path:
  folder = tmp_path_factory.mktemp('data')
  write_corpus(folder)
  return folder


def write_corpus(folder: pathlib.Path) -> None:
  """A corpus so small that 24 steps of 4 lanes go through several epochs."""
  rng = np.random.default_rng(1)

  def song():
    n = rng.integers(12, 40)
    notes = ~rng.choice(np.flatnonzero(events.CODE_KIND <= events.NOTEON), n)
    waits = rng.integers(1, 5000, n)
    return np.stack([waits, notes], 1).reshape(-1).astype(np.int32)

  for split, n in (('train', 12), ('valid', 4)):
    shards.write_split(folder, split, [(f'{i}', song()) for i in range(n)])


def arguments(data_dir, workdir, /, **changes) -> list[str]:
  flags = {**FLAGS, 'data_dir': data_dir, 'workdir': workdir, **changes}
  return [f'--{name}={value}' for name, value in flags.items()]


def command(*args, **changes) -> list[str]:
  """A process of its own, for what signals and other processes do to it."""
  return [sys.executable, '-m', 'experiments.run', *arguments(*args, **changes)]


def environment(devices: int = 1) -> dict[str, str]:
  """As of this process, so that the numbers are the same; of other devices."""
  return {**os.environ, 'XLA_FLAGS': os.environ['XLA_FLAGS'] +
          f' --xla_force_host_platform_device_count={devices}'}


def _run(*args, devices: int = 1, **changes) -> commands.Done:
  return commands.run_experiment(*arguments(*args, **changes), devices=devices)


def _lines(workdir):
  """The metric lines without what the clock says."""
  clock = ('tokens_per_second', 'data_wait_fraction')
  return [{k: v for k, v in line.items() if k not in clock}
          for line in log.read(workdir)]


def _assert_same_arrays(tree, other):
  leaves, others = checkpoint.leaves(tree), checkpoint.leaves(other)
  assert leaves.keys() == others.keys()
  for path, array in leaves.items():
    np.testing.assert_array_equal(array, others[path], err_msg=path)


def _assert_same_run(one, other):
  assert _lines(one) == _lines(other)
  (state, meta), (state_2, meta_2) = (
      checkpoint.restore(run, 'last') for run in (one, other))
  assert {**meta, 'seconds': 0} == {**meta_2, 'seconds': 0}
  _assert_same_arrays(state, state_2)


@pytest.fixture(scope='module')
def whole_run(data_dir, tmp_path_factory) -> pathlib.Path:
  workdir = tmp_path_factory.mktemp('whole')
  done = _run(data_dir, workdir)
  assert done.returncode == 0, done.stderr
  return workdir


def test_a_run_explains_itself(whole_run, data_dir):
  lines = log.read(whole_run)
  assert [x['step'] for x in lines if x['kind'] == 'train'] == [5, 10, 15, 20]
  assert [x['step'] for x in lines if x['kind'] == 'valid'] == [8, 16, 24]
  assert {x['epoch'] for x in lines if x['kind'] == 'train'} > {0, 1}
  config = json.loads((whole_run / 'config.json').read_text())
  assert config['flags']['d_model'] == 16
  assert config['data']['train'] == shards.Corpus(data_dir, 'train').checksum
  assert set(config['versions']) >= {'jax', 'flax', 'python'}
  best = min((x for x in lines if x['kind'] == 'valid'),
             key=lambda x: x['loss'])
  assert checkpoint.restore(whole_run, 'best')[1]['step'] == best['step']


def test_kill_and_resume_equals_one_run(whole_run, data_dir, tmp_path):
  process = subprocess.Popen(
      command(data_dir, tmp_path), cwd=ROOT, env=environment(),
      stderr=subprocess.DEVNULL)
  try:
    while not (tmp_path / 'checkpoints/last/12').is_dir():
      assert process.poll() is None, 'ended before it could be killed'
      time.sleep(.002)
  finally:
    process.kill()
    process.wait()
  resumed = _run(data_dir, tmp_path)
  assert resumed.returncode == 0, resumed.stderr
  assert 'resuming this run at step' in resumed.stderr
  _assert_same_run(whole_run, tmp_path)


def test_sigterm_saves_and_another_run_goes_on(whole_run, data_dir, tmp_path):
  first, second = tmp_path / 'first', tmp_path / 'second'
  with subprocess.Popen(
      command(data_dir, first, save_every=0), cwd=ROOT, env=environment(),
      stderr=subprocess.PIPE, text=True) as process:
    for line in process.stderr:
      if line.startswith('step 5/'):
        process.send_signal(signal.SIGTERM)
        break
    rest = process.stderr.read()
  assert process.returncode == 0, rest
  assert 'SIGTERM' in rest
  resumed = _run(data_dir, second, resume_from=first)
  assert resumed.returncode == 0, resumed.stderr
  # The second run has no lines from before it began.
  start = checkpoint.restore(first, 'last')[1]['step']
  assert 5 <= start < 24
  assert _lines(second) == [x for x in _lines(whole_run) if x['step'] > start]
  _assert_same_arrays(checkpoint.restore(whole_run, 'last')[0],
                      checkpoint.restore(second, 'last')[0])


def test_sigterm_amid_a_line(monkeypatch, capfd):
  signals = [signal.SIGTERM]

  class Terminal(io.RawIOBase):
    def writable(self):
      return True

    def write(self, text):
      if signals:
        signal.raise_signal(signals.pop())
      return len(text)

  monkeypatch.setattr(sys, 'stderr', io.TextIOWrapper(
      io.BufferedWriter(Terminal())))
  with loop.Stop() as stop:
    log.report('step 5/24')
  assert stop.asked
  assert capfd.readouterr().err == 'SIGTERM: stopping\n'


def test_another_number_of_devices_goes_on(data_dir, tmp_path):
  whole, first, second = (tmp_path / x for x in ('whole', 'first', 'second'))
  for workdir, devices, changes in (
      (whole, 1, {}), (first, 1, {'max_steps': 5}),
      (second, 4, {'resume_from': first})):
    done = _run(data_dir, workdir, devices=devices, **{
        'dropout': 0, 'schedule': 'constant', 'log_every': 1, 'eval_every': 0,
        # A high rate, so that the memory soon matters to the loss.
        'learning_rate': 2e-2, 'max_steps': 16, **changes})
    assert done.returncode == 0, done.stderr
  assert 'resuming' in done.stderr and ' on 4 ' in done.stderr
  losses, resumed = ([x['loss'] for x in log.read(run)]
                     for run in (whole, second))
  assert len(resumed) == 11
  np.testing.assert_allclose(resumed, losses[5:], rtol=1e-5)


def test_steps_of_one_dispatch_are_the_same_steps(data_dir, tmp_path):
  """Begun within a dispatch, ended within another by the last epoch."""
  single, first, several = (tmp_path / x for x in ('single', 'first',
                                                   'several'))
  for workdir, changes in (
      (single, {}), (first, {'max_steps': 6}),
      (several, {'resume_from': first, 'steps_per_dispatch': 4})):
    done = _run(data_dir, workdir, **{
        'dropout': .1, 'schedule': 'constant', 'log_every': 4, 'eval_every': 8,
        'learning_rate': 1e-3, 'save_every': 4, 'max_steps': 100,
        'max_epochs': 3, **changes})
    assert done.returncode == 0, done.stderr
  (state, meta), (state_2, meta_2) = (
      checkpoint.restore(run, 'last') for run in (single, several))
  assert meta['step'] % 4 and meta['step'] > 12
  assert [meta_2[x] for x in ('step', 'data')] == [
      meta[x] for x in ('step', 'data')]
  assert state_2['step'] == state['step'] == meta['step']
  lines, others = ([x for x in _lines(run) if x['step'] > 6]
                   for run in (single, several))
  for name in ('step', 'kind', 'epoch'):
    assert [x.get(name) for x in others] == [x.get(name) for x in lines]
  np.testing.assert_allclose([x['loss'] for x in others],
                             [x['loss'] for x in lines], rtol=1e-5)


def test_init_from_takes_weights_and_starts_at_zero(
    whole_run, data_dir, tmp_path):
  done = _run(data_dir, tmp_path, init_from=whole_run, init_optimizer=True,
              max_steps=1, learning_rate=0., eval_every=0)
  assert done.returncode == 0, done.stderr
  tree, meta = checkpoint.restore(tmp_path, 'last')
  assert meta['step'] == 1
  step = checkpoint.restore(whole_run, 'best')[1]['step']
  assert f'(its best, of step {step}), step 0' in done.stdout + done.stderr
  _assert_same_arrays(
      checkpoint.restore(whole_run, 'best')[0]['params'], tree['params'])
  moments = [np.abs(x).max() for x in
             checkpoint.leaves(tree['opt_state']).values() if np.size(x) > 1]
  assert max(moments) > 0


def test_init_from_a_smaller_model(whole_run, data_dir, tmp_path):
  losses = []
  for number, more in enumerate(({}, {
      'features': FEATURES, 'd_inner': 40})):
    done = _run(data_dir, tmp_path / str(number), init_from=whole_run,
                max_steps=2, learning_rate=0., log_every=1, eval_every=0,
                dropout=0., **more)
    assert done.returncode == 0, done.stderr
    losses.append([x['loss'] for x in _lines(tmp_path / str(number))])
  np.testing.assert_allclose(losses[1], losses[0], rtol=1e-6)
  tree, _ = checkpoint.restore(tmp_path / '1', 'last')
  for name in ('last_event', 'since_event', 'recalled', 'expected', 'due',
               'next_tick', 'tick_hits', 'tick_gate'):
    assert not tree['params'][name].any()
  forward = tree['params']['layers']['feed_forward']
  assert forward['inner']['kernel'].shape == (2, 16, 40)
  assert forward['inner']['kernel'][:, :, 24:].any(1).all()
  assert not forward['outer']['kernel'][:, 24:].any()
  for number, less, names in (
      (2, {'d_inner': 40}, ['last_event']),
      (3, {'features': FEATURES},
       ['(2, 16, 40)', '(2, 16, 24)'])):
    done = _run(data_dir, tmp_path / str(number), init_from=tmp_path / '1',
                max_steps=1, **less)
    assert done.returncode != 0
    for name in names:
      assert name in done.stderr.splitlines()[-1]


@pytest.fixture(scope='module')
def watched_run(data_dir, tmp_path_factory) -> pathlib.Path:
  """Two evaluations of the same weights, with samples and TensorBoard."""
  workdir = tmp_path_factory.mktemp('watched')
  done = _run(data_dir, workdir, max_steps=2, learning_rate=0., log_every=1,
              eval_every=1, eval_samples=2, length=16, tensorboard=bool(
                  importlib.util.find_spec('tensorboardX')))
  assert done.returncode == 0, done.stderr
  return workdir


def test_each_evaluation_samples_from_the_same_seed(watched_run):
  first, second = (watched_run / f'samples/step-00000{i}' for i in (1, 2))
  assert {'000.wav', '000.mid', '001.wav', '001.tx1.txt'} <= {
      path.name for path in first.iterdir()}
  for path in first.glob('*.txt'):
    assert path.read_bytes() == (second / path.name).read_bytes()
  assert (first / '000.wav').stat().st_size > 1000


def test_tensorboard_gets_the_numbers_of_the_metric_lines(watched_run):
  pytest.importorskip('tensorboardX')
  from tensorboardX.proto import event_pb2
  found = {}
  for path in (watched_run / 'tensorboard').iterdir():
    data = path.read_bytes()
    while data:  # A length and its checksum, an event and its checksum.
      n, = struct.unpack_from('<Q', data)
      event = event_pb2.Event.FromString(data[12:12 + n])
      data = data[16 + n:]
      found |= {(value.tag, event.step): value.simple_value
                for value in event.summary.value}
  wanted = {(f'{line["kind"]}/{name}', line['step']): value
            for line in log.read(watched_run)
            for name, value in line.items()
            if name not in ('kind', 'step', 'protocol')}
  assert ('train/loss', 1) in wanted and ('valid/ppl', 2) in wanted
  assert found == pytest.approx(wanted, rel=1e-6)


def test_tensorboard_that_is_missing_is_named(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'tensorboardX', None)
  with pytest.raises(ValueError, match=r'lakhnes_jax\[tensorboard\]'):
    log.Progress(tmp_path, None, None, tensorboard=True)


@pytest.mark.parametrize('changes, words', [
    ({'steps_per_dispatch': 5}, ['eval_every 8', 'steps_per_dispatch 5']),
    ({'steps_per_dispatch': 0}, ['steps_per_dispatch', 'from 1 to']),
    ({'d_model': 32}, ['another shape', 'checkpoints/last']),
    ({'batch_size': 3}, ['memory', 'another shape']),
    ({'data_dir': '/nowhere'}, ['/nowhere', 'python -m data_prep.nesmdb']),
    ({'init_from': '/nowhere', 'workdir': ''}, ['--workdir']),
    ({'model': 'lstm', 'eval_samples': 1}, ['--eval_samples', 'XL']),
    ({'augment': 'louder'}, ['louder', 'transpose']),
    ({'format': 'tx2'}, ['dynamics']),
])
def test_a_wrong_flag_is_one_clear_line(whole_run, data_dir, changes, words):
  before = sorted(whole_run.rglob('*'))
  done = _run(data_dir, whole_run, **{'max_steps': 30, **changes})
  assert done.returncode == 1
  last = done.stderr.strip().splitlines()[-1]
  assert last.startswith('experiments.run: ')
  for word in words:
    assert word in last
  assert sorted(whole_run.rglob('*')) == before  # Nothing is lost.
