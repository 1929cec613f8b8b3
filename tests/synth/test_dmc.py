import numpy as np

from lakhnes_jax.formats import vgm
from lakhnes_jax.synth import channels
from lakhnes_jax.synth.dmc import SampleChannel


def test_bits_move_the_level_at_the_period():
  channel = SampleChannel(pal=False)
  channel.load(0xc040, b'\x0f')  # Lowest bit first: four up, four down.
  for register, value in ((0x10, 0x0f), (0x11, 60), (0x12, 1), (0x13, 0),
                          (0x15, 0x10)):
    channel.write(100, register, value)
  channel.run_to(10000)
  assert channel.levels[2:] == [
      (100 + 54 * (i + 1), level)
      for i, level in enumerate([62, 64, 66, 68, 66, 64, 62, 60])]
  assert not channel.playing


def test_level_stops_at_the_ends_and_loops_go_on():
  channel = SampleChannel(pal=False)
  channel.load(0xc000, b'\xff')
  for register, value in ((0x10, 0x4f), (0x11, 120), (0x12, 0), (0x13, 0),
                          (0x15, 0x10)):
    channel.write(0, register, value)
  channel.run_to(54 * 40)
  assert channel.playing and channel.level == 126
  channel.write(54 * 40, 0x15, 0)
  assert not channel.playing


def test_samples_of_a_log_are_played():
  log = vgm.RegisterLog(
      np.array([0, 0, 0, 0, 10]), np.array([16, 17, 18, 19, 21], np.uint8),
      np.array([15, 64, 0, 1, 16], np.uint8), 1000,
      memory=((0, 0xc000, b'\xff' * 17),))
  _, parts = channels.play(log)
  assert parts[4].level.max() == 126
  assert (np.diff(parts[4].step) > 0).all()
