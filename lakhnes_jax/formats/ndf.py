"""NDR and NDF text <-> register logs: "NES disassembly", raw and functional.

Both begin with a line `clock,HZ`; lines `wait,SAMPLES` advance the time.

*   NDR (.ndr.txt) has a line for each register write: `apu,REGISTER,VALUE`,
    two hexadecimal digits each.
*   NDF (.ndf.txt) has a line for each *function* in a written register, a field
    of bits: `apu,CHANNEL,FUNCTION,VALUE,WRITE,OFFSET`. WRITE counts the writes
    since the last wait, from 0; OFFSET is the register's place in its channel.
    Bits without a function are lost.

Neither holds data for the sample channel, tags or loops. `//` begins a comment
line.

Source: nesmdb (Donahue et al., ISMIR 2018), VGM -> NDR -> NDF and back.
"""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from lakhnes_jax.synth.register_log import (
    Recorder,
    RegisterLog,
    check_clock,
)


class Function(NamedTuple):
  """A field of bits in a register, and what it is called."""
  channel: str
  name: str
  register: int
  offset: int  # Of the register, from the first one of its channel.
  shift: int
  mask: int  # After the shift: the greatest value.

  def of(self, value: int) -> int:
    """Extracts the field from the value of its register."""
    return value >> self.shift & self.mask

  def into(self, register_value: int, value: int) -> int:
    """Returns the value of its register with the field set.

    Raises:
      ValueError: it does not fit; the message gives its range.
    """
    if not 0 <= value <= self.mask:
      raise ValueError(f'{self.channel}_{self.name} of {value}: legal values '
                       f'are 0 to {self.mask}')
    return (register_value & ~(self.mask << self.shift) & 0xff |
            value << self.shift)


# Function names and bits by channel and register offset, highest bits first.
_PULSE = ('du2 lh1 cv1 vo4', 'se1 sp3 sn1 ss3', 'tl8', 'll5 th3')
_LAYOUT = {
    'p1': (0x00, _PULSE),
    'p2': (0x04, _PULSE),
    'tr': (0x08, ('lh1 lr7', '--8', 'tl8', 'll5 th3')),
    'no': (0x0c, ('--2 lh1 cv1 vo4', '--8', 'nl1 --3 np4', 'll5 --3')),
    'dm': (0x10, ('iq1 lo1 --2 fr4', '--1 lc7', 'sa8', 'sl8')),
    'ch': (0x15, ('--3 dm1 no1 tr1 p21 p11',)),
    'fc': (0x17, ('mo1 iq1 --6',)),
}


def _functions() -> Iterator[tuple[int, list[Function]]]:
  for channel, (first, registers) in _LAYOUT.items():
    for offset, fields in enumerate(registers):
      shift, found = 8, []
      for field in fields.split():
        bits = int(field[2:])
        shift -= bits
        if field[:2] != '--':
          found.append(Function(channel, field[:2], first + offset, offset,
                                shift, (1 << bits) - 1))
      yield first + offset, found


# Of each register that nesmdb knows.
FUNCTIONS = dict(_functions())
BY_NAME = {(f.channel, f.name): f for fs in FUNCTIONS.values() for f in fs}


class FunctionRecorder(Recorder):
  """Collects functions, and writes their registers when time advances.

  Functions of one register and one numbered write make one register write, in
  the place of the first of them; bits that are not set keep their value.
  """

  def __init__(self, clock: int):
    super().__init__(clock)
    self._state = [0] * 0x18
    self._pending = {}

  def set(self, function: Function, value: int, number: int):
    """Sets a function as part of write `number` since the last wait."""
    register = function.register
    value = function.into(self._state[register], value)
    self._state[register] = self._pending[register, number] = value

  def wait(self, samples: int):
    self._flush()
    super().wait(samples)

  def log(self) -> RegisterLog:
    self._flush()
    return super().log()

  def _flush(self):
    for (register, _), value in self._pending.items():
      self.write(register, value)
    self._pending.clear()


def timed_writes(log: RegisterLog
                ) -> Iterator[tuple[int, Iterable[tuple[int, int]]]]:
  """Yields (samples to wait, register and value of each write then).

  The last pair is the end of the song, without writes.
  """
  now = at = 0
  times = log.time.tolist()
  writes = list(zip(log.register.tolist(), log.value.tolist(), strict=True))
  while at < len(times):
    time, begin = times[at], at
    while at < len(times) and times[at] == time:
      at += 1
    yield time - now, writes[begin:at]
    now = time
  yield log.length - now, ()


def write_ndr(log: RegisterLog) -> bytes:
  """Writes NDR text."""
  lines = [f'clock,{log.clock}']
  for wait, writes in timed_writes(log):
    if wait:
      lines.append(f'wait,{wait}')
    lines += [f'apu,{register:02x},{value:02x}' for register, value in writes]
  return '\n'.join(lines).encode()


def write_ndf(log: RegisterLog) -> bytes:
  """Writes NDF text; writes to registers without functions are left out."""
  lines = [f'clock,{log.clock}']
  for wait, writes in timed_writes(log):
    if wait:
      lines.append(f'wait,{wait}')
    known = [write for write in writes if write[0] in FUNCTIONS]
    lines += [
        f'apu,{f.channel},{f.name},{f.of(value)},{number},{f.offset}'
        for number, (register, value) in enumerate(known)
        for f in FUNCTIONS[register]]
  return '\n'.join(lines).encode()


_HEX = re.compile(r'[0-9a-fA-F]{2}', re.ASCII)
_NUMBER = re.compile(r'[0-9]{1,10}', re.ASCII)


def _number(text: str) -> int:
  if not _NUMBER.fullmatch(text):
    raise ValueError(f'{text[:40]!r} is no number')
  return int(text)


def read_ndr(data: bytes) -> RegisterLog:
  """Reads NDR text.

  Raises:
    ValueError: names the line and what is wrong with it.
  """
  def apu(recorder, fields):
    if len(fields) != 2:
      raise ValueError('register and value expected after apu in NDR text' +
                       (' (this is NDF text)' if len(fields) == 5 else ''))
    for field in fields:
      if not _HEX.fullmatch(field):
        raise ValueError(f'{field[:40]!r} is not two hexadecimal digits')
    recorder.write(*(int(field, 16) for field in fields))

  return _read(data, Recorder, apu)


def read_ndf(data: bytes) -> RegisterLog:
  """Reads NDF text; errors as those of `read_ndr`."""
  def apu(recorder, fields):
    if len(fields) != 5:
      raise ValueError('channel, function, value, write and offset expected '
                       'after apu in NDF text' +
                       (' (this is NDR text)' if len(fields) == 2 else ''))
    function = BY_NAME.get((fields[0], fields[1]))
    if function is None:
      raise ValueError(f'{fields[0][:9]},{fields[1][:9]} is no function')
    value, number, offset = map(_number, fields[2:])
    if offset != function.offset:
      raise ValueError(f'{fields[0]},{fields[1]} is at offset '
                       f'{function.offset}, not {offset}')
    recorder.set(function, value, number)

  return _read(data, FunctionRecorder, apu)


def _read(data: bytes, recorder_of, apu) -> RegisterLog:
  """Reads lines; `apu` takes the fields of a write."""
  recorder = None
  lines = data.decode('utf-8-sig', 'replace').split('\n')
  for number, line in enumerate(lines, 1):
    line = line.strip()
    if not line or line.startswith('//'):
      continue
    command, *fields = line.split(',')
    try:
      if recorder is None:
        if command != 'clock' or len(fields) != 1:
          raise ValueError('clock,HZ expected first')
        recorder = recorder_of(check_clock(_number(fields[0])))
      elif command == 'wait' and len(fields) == 1:
        recorder.wait(_number(fields[0]))
      elif command == 'apu':
        apu(recorder, fields)
      else:
        raise ValueError(f'{line[:40]!r} is neither wait nor apu')
    except ValueError as error:
      raise ValueError(f'line {number}: {error}') from None
  if recorder is None:
    raise ValueError('empty: clock,HZ expected first')
  return recorder.log()
