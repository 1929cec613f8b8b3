"""Metric lines, and when a run has ended."""

import jax.numpy as jnp
import pytest

from lakhnes_jax.training import log, loop


def _measured(*losses: float):
  """As the devices give it: [devices, steps]."""
  values = {'loss': losses, 'grad_norm': (2.,) * len(losses),
            'learning_rate': (.5,) * len(losses)}
  return {name: jnp.array([x]) for name, x in values.items()}


def _progress(folder, meta=None, **settings):
  return log.Progress(folder, loop.TrainConfig(
      **{'log_every': 2, 'max_steps': 10, **settings}), meta)


def test_a_line_is_the_mean_since_the_last(tmp_path):
  progress = _progress(tmp_path)
  for step, loss in enumerate([1., 3., 5., 6., 7.], 1):
    progress.read(step, 0, _measured(loss), 0.)
  lines = log.read(tmp_path)
  assert [(x['step'], x['loss']) for x in lines] == [(2, 2.), (4, 5.5)]
  assert lines[0]['ppl'] == pytest.approx(2.718281828**2)
  # What is not in a line yet goes on in the next run.
  progress.step = 5
  resumed = _progress(tmp_path, progress.to_meta())
  resumed.read(6, 1, _measured(9.), 0.)
  assert log.read(tmp_path)[-1]['loss'] == 8.


def test_lines_after_the_checkpoint_are_cut_off(tmp_path):
  progress = _progress(tmp_path)
  for step in range(1, 7):
    progress.read(step, 0, _measured(1.), 0.)
  with (tmp_path / 'metrics.jsonl').open('a') as file:
    file.write('{"step": 7, "ki')  # A kill came in between.
  assert [x['step'] for x in log.read(tmp_path)] == [2, 4, 6]
  _progress(tmp_path, {'step': 5})
  assert [x['step'] for x in log.read(tmp_path)] == [2, 4]


def test_bad_lines_are_named_and_the_others_kept(tmp_path, capsys):
  progress = _progress(tmp_path)
  for step in range(1, 9):
    progress.read(step, 0, _measured(1.), 0.)
  path = tmp_path / 'metrics.jsonl'
  rows = path.read_bytes().splitlines(keepends=True)
  capsys.readouterr()
  path.write_bytes(b'\n' + rows[0] + b' \r\n' + rows[1][:20] + b'\n' + b''.join(
      [b'[]\n', b'7\n', b'{"step": -1}\n', b'\xff\n', b'[' * 9**5, b'\n',
       *rows[2:]]))
  assert [x['step'] for x in log.read(tmp_path)] == [2, 6, 8]
  complaints = capsys.readouterr().err.splitlines()
  assert [c.partition(' is left out: ')[0] for c in complaints] == [
      f'{path}: line {n}' for n in range(4, 10)]
  _progress(tmp_path, {'step': 100})  # Writes the good ones anew.
  assert [x['step'] for x in log.read(tmp_path)] == [2, 6, 8]
  assert len(capsys.readouterr().err.splitlines()) == 6


def test_best(tmp_path):
  progress = _progress(tmp_path)
  found = []
  for step, loss in enumerate([3., 2., 2., 2.5, 1.], 1):
    progress.step = step
    result = {'loss': loss, 'ppl': 1.}
    found.append(progress.is_best(result))
    progress.valid(result, found[-1])
  assert found == [True, True, False, False, True]
  assert (progress.best, progress.best_step) == (1., 5)
  assert _progress(tmp_path, progress.to_meta()).best == 1.


@pytest.mark.parametrize('loss', [float('nan'), float('inf')])
def test_a_loss_that_is_not_finite(tmp_path, loss):
  with pytest.raises(FloatingPointError, match=f'step 3: the loss is {loss}'):
    _progress(tmp_path).read(3, 0, _measured(loss), 0.)
  with pytest.raises(FloatingPointError, match=f'step 4: the loss is {loss}'):
    _progress(tmp_path).read(6, 0, _measured(1., loss, 2., 3.), 0.)


def test_a_line_of_steps_that_came_together(tmp_path):
  progress = _progress(tmp_path, log_every=4)
  progress.read(2, 0, _measured(1., 2.), 0.)
  progress.read(4, 1, _measured(4., 5.), 0.)
  line, = log.read(tmp_path)
  assert (line['step'], line['epoch'], line['loss']) == (4, 1, 3.)


def test_done(tmp_path):
  progress = _progress(tmp_path, max_epochs=2)
  assert not progress.done(0, epoch=1)
  assert progress.done(0, epoch=2)
  assert progress.done(10, epoch=0)
  for minutes, up in ((0., False), (1., True), (2., False)):
    progress = _progress(tmp_path, {'seconds': 61.}, max_minutes=minutes)
    assert progress.time_is_up() == up


def test_pauses_do_not_count(tmp_path, monkeypatch):
  now = [0.]
  monkeypatch.setattr(log.time, 'monotonic', lambda: now[0])
  progress = _progress(tmp_path)
  now[0] = 5.
  with progress.paused():
    now[0] = 95.
  now[0] = 97.
  assert progress.seconds == pytest.approx(7.)


def test_share_of_waiting(tmp_path, monkeypatch):
  now = [0.]
  monkeypatch.setattr(log.time, 'monotonic', lambda: now[0])
  progress = _progress(tmp_path)
  for step, waited in enumerate([1., 2., 2., 3.], 1):
    now[0] += 4
    progress.read(step, 0, _measured(1.), waited)
  assert [x['data_wait_fraction'] for x in log.read(tmp_path)] == [2 / 8, 1 / 8]


def test_is_time():
  assert [s for s in range(7) if log.is_time(s, 3)] == [0, 3, 6]
  assert not log.is_time(3, 0)


def test_what_is_saved_does_not_change_while_it_is_written(tmp_path):
  progress = _progress(tmp_path)
  progress.read(1, 0, _measured(1.), 0.)
  meta = progress.to_meta()
  progress.read(2, 0, _measured(3.), 0.)
  assert meta['since_line'] == [1.]


def test_evaluations_are_read_from_the_lines(tmp_path):
  """Checkpoints are from before theirs; a missing one is to be made."""
  run, other = tmp_path / 'run', tmp_path / 'other'
  progress = _progress(run, eval_every=2)
  for progress.step, loss in ((2, 3.), (4, 1.), (6, 2.)):
    result = {'loss': loss, 'ppl': 1.}
    progress.valid(result, progress.is_best(result))
  for step, misses, best in ((2, False, 3.), (4, False, 1.), (8, True, 1.)):
    for folder in (run, other):
      resumed = log.Progress(
          folder, loop.TrainConfig(eval_every=2),
          {'step': step, 'best': 9., 'best_step': 0}, source=run)
      assert resumed.misses_evaluation(False) == misses
      assert resumed.best == best
      if folder == other:
        assert log.read(other) == []
    progress = _progress(run, eval_every=2)
    for progress.step, loss in ((2, 3.), (4, 1.), (6, 2.)):
      result = {'loss': loss, 'ppl': 1.}
      progress.valid(result, progress.is_best(result))
  assert not _progress(tmp_path / 'new', eval_every=2).misses_evaluation(True)
  assert _progress(tmp_path / 'new', {'step': 5}, eval_every=2
                   ).misses_evaluation(True)
  assert not _progress(tmp_path / 'new', {'step': 5}, eval_every=2
                       ).misses_evaluation(False)
