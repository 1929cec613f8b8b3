from lakhnes_jax.synth.chip import Chip, Envelope


def test_envelope_falls_and_loops():
  envelope = Envelope()
  envelope.write(0x01)  # Falls every other tick.
  envelope.start = True
  seen = []
  for _ in range(36):
    envelope.tick()
    seen.append(envelope.output)
  assert seen[:5] == [15, 15, 14, 14, 13] and seen[30:] == [0] * 6
  envelope.write(0x20)  # Every tick, and over again.
  seen = []
  for _ in range(18):
    envelope.tick()
    seen.append(envelope.output)
  assert seen == [15, *range(14, -1, -1), 15, 14]
  envelope.write(0x17)
  assert envelope.output == 7


def test_length_counters_count_half_frames():
  chip = Chip()
  chip.write(0x00, 0x1f)
  chip.write(0x02, 0xff)
  chip.write(0x03, 3 << 3)  # Entry 3 of the table: 2.
  assert not chip.pulses[0].muted
  chip.half_frame()
  assert not chip.pulses[0].muted
  assert chip.half_frame() == [0]
  assert chip.pulses[0].muted
  chip.write(0x00, 0x3f)  # Halted.
  chip.write(0x03, 3 << 3)
  for _ in range(9):
    chip.half_frame()
  assert chip.pulses[0].length == 2
  chip.write(0x15, 0x0e)  # Disabled: empty, and not loaded.
  assert not chip.pulses[0].length
  chip.write(0x03, 3 << 3)
  assert not chip.pulses[0].length


def test_linear_counter():
  chip = Chip()
  chip.write(0x08, 0x03)
  chip.write(0x0b, 0x08)
  values = []
  for _ in range(6):
    chip.quarter_frame()
    values.append(chip.linear)
  assert values == [3, 2, 1, 0, 0, 0]
  chip.write(0x08, 0x85)  # Control: reloaded again and again.
  chip.write(0x0b, 0x08)
  for _ in range(6):
    chip.quarter_frame()
  assert chip.linear == 5


def test_sweeps():
  for base, down in ((0, 0x200 - 0x80 - 1), (4, 0x200 - 0x80)):
    chip = Chip()
    chip.write(base + 1, 0x8a)  # On, every half frame, negated, shift 2.
    chip.write(base + 2, 0x00)
    chip.write(base + 3, 0x0a)
    pulse = chip.pulses[base >> 2]
    chip.half_frame()
    assert pulse.timer == down
  chip = Chip()
  chip.write(0x01, 0x00)  # Off, yet a target beyond the range mutes.
  chip.write(0x02, 0x00)
  chip.write(0x03, 0x0c)
  assert chip.pulses[0].muted
  chip.write(0x03, 0x0b)
  assert not chip.pulses[0].muted
