import numpy as np

from lakhnes_jax.synth import channels
from lakhnes_jax.synth.dmc import SampleChannel
from lakhnes_jax.synth.register_log import RegisterLog


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


def test_address_and_length_are_latched_when_a_sample_starts():
  """nesdev, APU DMC: writes to $4012 and $4013 wait for the next start."""
  channel = SampleChannel(pal=False)
  channel.load(0xc000, b'\xff' * 2 + b'\xff' * 64)
  channel.load(0xc040, bytes(64))
  for register, value in ((0x10, 0x4f), (0x12, 0), (0x13, 1), (0x15, 0x10)):
    channel.write(0, register, value)
  half = 54 * 8 * 8 + 1  # 8 of its 17 bytes.
  channel.write(half, 0x12, 1)
  channel.write(half, 0x13, 0)
  channel.run_to(54 * 8 * 17)
  assert channel.level == 126  # Up for 63 bits; then it stays.
  channel.run_to(54 * 8 * 18 + 1)  # The loop takes what was written.
  assert channel.level == 126 - 2 * 8
  channel.run_to(54 * 8 * 40)
  assert channel.level == 0


def test_addresses_wrap_to_8000():
  channel = SampleChannel(pal=False)
  channel.load(0x8000, b'\xff')
  for register, value in ((0x10, 0x0f), (0x12, 255), (0x13, 4), (0x15, 0x10)):
    channel.write(0, register, value)
  channel.run_to(54 * 8 * 65 + 1)  # 64 bytes of zeros, then the first.
  assert channel.level == 16


def test_of_two_blocks_at_one_address_the_later_counts():
  flat, saw = b'\x55' * 17, b'\xff' * 17
  for first, last in ((flat, saw), (saw, flat)):
    log = RegisterLog(
        np.zeros(4, int), np.array([16, 18, 19, 21], np.uint8),
        np.array([15, 0, 1, 16], np.uint8), 1000,
        memory=((0, 0xc000, first), (0, 0xc000, last)))
    _, logs = channels.play(log)
    assert (logs[4].level.max() > 100) == (last == saw)


def test_samples_of_a_log_are_played():
  log = RegisterLog(
      np.array([0, 0, 0, 0, 10]), np.array([16, 17, 18, 19, 21], np.uint8),
      np.array([15, 64, 0, 1, 16], np.uint8), 1000,
      memory=((0, 0xc000, b'\xff' * 17),))
  _, parts = channels.play(log)
  assert parts[4].level.max() == 126
  assert (np.diff(parts[4].step) > 0).all()
