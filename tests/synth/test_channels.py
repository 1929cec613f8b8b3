"""The frame counter of each engine, by the ends of a length counter."""

import numpy as np
import pytest

from lakhnes_jax import nes
from lakhnes_jax.formats import transcribe
from lakhnes_jax.synth import channels
from lakhnes_jax.synth.register_log import Recorder


def _log(clock):
  """Pulse 1 with a length of 192 half frames."""
  recorder = Recorder(clock)
  for register, value in ((0x15, 15), (0x17, 0), (0, 0x9f), (1, 8), (2, 0xfd),
                          (3, 0xc0)):
    recorder.write(register, value)
  recorder.wait(3 * nes.SAMPLE_RATE)
  return recorder.log()


@pytest.mark.parametrize('clock, as_player, seconds', [
    (1789773, True, 192 * 2 * 7458 / 1789773),
    (1789773, False, 192 * 2 * 7458 / 1789773),
    (1662607, False, 192 * 2 * 8313.25 / 1662607),
    (1662607, True, 192 * 2 * 7458 / 1662607)])
def test_length_counters(clock, as_player, seconds):
  player, (pulse, *_) = channels.play(_log(clock), as_player)
  ends = pulse.step[np.flatnonzero(pulse.level)[-1] + 1] / player.rate
  assert ends == pytest.approx(seconds, abs=1e-3)


@pytest.mark.parametrize('clock', [nes.CLOCK, nes.CLOCK_PAL])
def test_conversion_and_clean_engine_agree(clock):
  log = _log(clock)
  player, (pulse, *_) = channels.play(log, as_player=False)
  ends = pulse.step[np.flatnonzero(pulse.level)[-1] + 1] / player.rate
  song = transcribe.to_events(log)
  off = np.cumsum(song[:-2].clip(0))[-1] / nes.SAMPLE_RATE
  assert abs(off - ends) < .015  # nesmdb begins within a frame of the reset.
