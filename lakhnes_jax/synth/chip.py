"""Control units of the NES sound chip: length counters, envelopes, sweeps.

`Chip` holds their state; its caller decides when the frame counter ticks:
`channels.py` as the player that nesmdb renders with, `transcribe.py` as nesmdb
does when it turns register logs into scores.

Sources: nesmdb; https://www.nesdev.org/wiki/APU.
"""

LENGTHS = (10, 254, 20, 2, 40, 4, 80, 6, 160, 8, 60, 10, 14, 12, 26, 14, 12, 16,
           24, 18, 48, 20, 96, 22, 192, 24, 72, 26, 16, 28, 32, 30)
NOISE_PERIODS = (
    (4, 8, 16, 32, 64, 96, 128, 160, 202, 254, 380, 508, 762, 1016, 2034, 4068),
    (4, 8, 14, 30, 60, 88, 118, 148, 188, 236, 354, 472, 708, 944, 1890, 3778),
)  # Clocks by index; NTSC and PAL.


class Envelope:
  """Volume of a pulse or of the noise: constant, or falling by itself."""
  __slots__ = ('constant', 'divider', 'level', 'loop', 'start', 'volume')

  def __init__(self):
    self.volume = self.level = self.divider = 0
    self.constant = self.loop = self.start = False

  def write(self, value):
    self.volume = value & 15
    self.constant = value & 0x10 > 0
    self.loop = value & 0x20 > 0

  def tick(self) -> bool:
    """Ticks once a quarter frame; returns whether `output` may change."""
    if self.start:
      self.start, self.level, self.divider = False, 15, 0
      return not self.constant
    self.divider += 1
    if self.divider > self.volume:
      self.divider = 0
      if self.level:
        self.level -= 1
      elif self.loop:
        self.level = 15
      return not self.constant
    return False

  @property
  def output(self) -> int:
    """Volume, 0 to 15."""
    return self.volume if self.constant else self.level


class Pulse:
  """Timer, sweep, length counter and envelope of one pulse."""
  __slots__ = ('carry', 'duty', 'envelope', 'length', 'sweep_divider',
               'sweep_negate', 'sweep_on', 'sweep_period', 'sweep_reload',
               'sweep_shift', 'target', 'timer')

  def __init__(self, carry):
    self.carry = carry  # Negation subtracts 1 more in pulse 1, 0 in pulse 2.
    self.envelope = Envelope()
    self.timer = self.target = self.duty = self.length = 0
    self.sweep_on = self.sweep_negate = self.sweep_reload = False
    self.sweep_period = self.sweep_shift = self.sweep_divider = 0

  def update_target(self):
    """Computes the timer to which the sweep would move."""
    change = self.timer >> self.sweep_shift
    if self.sweep_negate:
      change = -change - self.carry
    self.target = self.timer + change

  def write_sweep(self, value):
    self.sweep_on = value & 0x80 > 0
    self.sweep_period = value >> 4 & 7
    self.sweep_negate = value & 8 > 0
    self.sweep_shift = value & 7
    self.sweep_reload = True

  def tick(self) -> bool:
    """Ticks length counter and sweep once a half frame.

    Returns:
      Whether the sound may change.
    """
    changed = False
    if self.length and not self.envelope.loop:
      self.length -= 1
      changed = not self.length
    if not self.sweep_on:
      return changed
    self.sweep_divider -= 1
    if self.sweep_divider <= 0:
      self.update_target()
      if self.timer >= 8 and self.target < 0x800 and self.sweep_shift:
        self.timer = max(self.target, 0)
      self.sweep_divider = self.sweep_period + 1
    if self.sweep_reload:
      self.sweep_divider = self.sweep_period + 1
      self.sweep_reload = False
    return True

  @property
  def muted(self):
    return not self.length or self.timer < 8 or self.target >= 0x800


class Chip:
  """Registers and control units of the four voices.

  Attributes:
    pulses: the two `Pulse`s.
    triangle_timer, triangle_length, linear: of the triangle.
    noise_index, noise_mode, noise_length, noise: of the noise; `noise` is its
      `Envelope`.
    enabled: bits of $4015.
    sweep_first: whether a sweep write works out its target before it takes
      effect (nesmdb's transcription) or after (the player).
  """

  def __init__(self, sweep_first: bool = False):
    self.pulses = (Pulse(1), Pulse(0))
    self.noise = Envelope()
    self.triangle_timer = self.triangle_length = 0
    self.linear = self.linear_reload = 0
    self.linear_control = self.linear_halt = False
    self.noise_index = self.noise_mode = self.noise_length = 0
    self.enabled = 15
    self.sweep_first = sweep_first

  def write(self, register: int, value: int):
    """Applies a write to $4000 + register.

    Writes to the sample channel and the frame counter are left to the caller.
    """
    if register < 8:
      pulse = self.pulses[register >> 2]
      part = register & 3
      if part == 0:
        pulse.envelope.write(value)
        pulse.duty = value >> 6
      elif part == 1:
        if self.sweep_first:
          pulse.update_target()
          pulse.write_sweep(value)
        else:
          pulse.write_sweep(value)
          pulse.update_target()
      elif part == 2:
        pulse.timer = pulse.timer & 0x700 | value
        pulse.update_target()
      else:
        pulse.timer = pulse.timer & 0xff | (value & 7) << 8
        if self.enabled >> (register >> 2) & 1:
          pulse.length = LENGTHS[value >> 3]
        pulse.envelope.start = True
        pulse.update_target()
    elif register == 0x08:
      self.linear_control = value & 0x80 > 0
      self.linear_reload = value & 0x7f
    elif register == 0x0a:
      self.triangle_timer = self.triangle_timer & 0x700 | value
    elif register == 0x0b:
      self.triangle_timer = self.triangle_timer & 0xff | (value & 7) << 8
      self.linear_halt = True
      if self.enabled & 4:
        self.triangle_length = LENGTHS[value >> 3]
    elif register == 0x0c:
      self.noise.write(value)
    elif register == 0x0e:
      self.noise_index, self.noise_mode = value & 15, value >> 7
    elif register == 0x0f:
      if self.enabled & 8:
        self.noise_length = LENGTHS[value >> 3]
      self.noise.start = True
    elif register == 0x15:
      self.enabled = value
      for i, pulse in enumerate(self.pulses):
        if not value >> i & 1:
          pulse.length = 0
      if not value & 4:
        self.triangle_length = 0
      if not value & 8:
        self.noise_length = 0

  def quarter_frame(self) -> list[int]:
    """Ticks envelopes and linear counter; returns the voices that may change.
    """
    changed = [i for i in (0, 1) if self.pulses[i].envelope.tick()]
    if self.linear_halt:
      if self.linear != self.linear_reload:
        self.linear = self.linear_reload
        changed.append(2)
    elif self.linear:
      self.linear -= 1
      changed.append(2)
    if not self.linear_control:
      self.linear_halt = False
    if self.noise.tick():
      changed.append(3)
    return changed

  def half_frame(self) -> list[int]:
    """Ticks length counters and sweeps; returns the voices that may change."""
    changed = [i for i in (0, 1) if self.pulses[i].tick()]
    if self.triangle_length and not self.linear_control:
      self.triangle_length -= 1
      changed.append(2)
    if self.noise_length and not self.noise.loop:
      self.noise_length -= 1
      changed.append(3)
    return changed
