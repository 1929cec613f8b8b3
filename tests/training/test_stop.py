"""Signals that stop a run, and those that end it."""

import signal

import pytest

from lakhnes_jax.training import stop


def test_a_second_signal_within_a_second_is_the_same(monkeypatch):
  now, killed = [10.], []
  monkeypatch.setattr(stop.time, 'monotonic', lambda: now[0])
  raise_signal = signal.raise_signal
  monkeypatch.setattr(stop.signal, 'raise_signal', killed.append)
  with stop.Stop() as asked:
    assert not asked.asked
    for now[0] in (10., 10.4, 10.9):
      raise_signal(signal.SIGTERM)
      assert asked.asked
    assert not killed
    now[0] = 11.1
    raise_signal(signal.SIGTERM)
  assert killed == [signal.SIGTERM]


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_handlers_are_put_back(number):
  before = signal.getsignal(number)
  with stop.Stop():
    assert signal.getsignal(number) != before
  assert signal.getsignal(number) == before
