"""NES-MDB's language modelling format, .nlm.pkl <-> register logs.

A file is the pickle of a list of pairs: `('clock', HZ)`, then `('w', SAMPLES)`
to advance the time, and `('p1_vo', 15)` and the like, which set a function of
the chip (see `ndf`). Only changes are written, and functions that have an
effect whenever they are written: length counters, channel enables, the frame
counter's mode, and a pulse's timer while it sweeps. There are 38 functions:
those of the sample channel are left out, as in the published files, but read.

Source: nesmdb (Donahue et al., ISMIR 2018), NDF -> NLM and back.
"""

import pickle

import numpy as np

from lakhnes_jax.formats import ndf, score_pickle
from lakhnes_jax.synth.register_log import RegisterLog, check_clock

_CHANNELS = ('p1', 'p2', 'tr', 'no')
# Written whether they change or not.
_ALWAYS = {*((c, 'll') for c in _CHANNELS), *(('ch', c) for c in _CHANNELS),
           ('fc', 'mo')}
_NEVER = {('ch', 'dm'), ('fc', 'iq')}
_WRITTEN = {
    register: [f for f in functions if (f.channel, f.name) not in _NEVER]
    for register, functions in ndf.FUNCTIONS.items()
    if not 0x10 <= register < 0x14}
_SWEEP_OF = {0x02: ('p1', 'se'), 0x06: ('p2', 'se')}  # By the timer's register.
_BY_NAME = {f'{channel}_{name}': function
            for (channel, name), function in ndf.BY_NAME.items()}


def to_commands(log: RegisterLog) -> list[tuple[str, int]]:
  """Turns a register log into the pairs of a file."""
  state = dict.fromkeys(ndf.BY_NAME, 0)
  commands = [('clock', log.clock)]
  kept = np.isin(log.register, list(_WRITTEN))
  log = log._replace(time=log.time[kept], register=log.register[kept],
                     value=log.value[kept])
  for wait, writes in ndf.timed_writes(log):
    if wait:
      commands.append(('w', wait))
    for register, value in writes:
      always = state.get(_SWEEP_OF.get(register))
      for function in _WRITTEN[register]:
        key, new = function[:2], function.of(value)
        if always or new != state[key] or key in _ALWAYS:
          commands.append((f'{function.channel}_{function.name}', new))
        state[key] = new
  return commands


def from_commands(commands: list[tuple[str, int]]) -> RegisterLog:
  """Turns pairs into a register log.

  Functions that follow each other make one write as long as they have the same
  offset in their channels and none comes twice.

  Raises:
    ValueError: names the pair and what is wrong with it.
  """
  if not isinstance(commands, list) or not commands:
    raise ValueError("not a list that begins with ('clock', HZ)")
  recorder = None
  number, offset, seen = 0, None, set()
  for i, pair in enumerate(commands):
    try:
      if not (isinstance(pair, tuple) and len(pair) == 2 and
              isinstance(pair[0], str) and type(pair[1]) is int):
        raise ValueError('a function and a number expected')
      name, value = pair
      if recorder is None:
        if name != 'clock':
          raise ValueError('clock expected first')
        recorder = ndf.FunctionRecorder(check_clock(value))
        continue
      if name == 'w':
        if value < 0:
          raise ValueError(f'w of {value}: time goes back')
        recorder.wait(value)
        number, offset, seen = 0, None, set()
        continue
      function = _BY_NAME.get(name)
      if function is None:
        raise ValueError(f'{name[:40]!r} is no function')
      if name in seen or offset not in (None, function.offset):
        number, seen = number + 1, set()
      seen.add(name)
      offset = function.offset
      recorder.set(function, value, number)
    except ValueError as error:
      raise ValueError(f'pair {i}: {error}') from None
  return recorder.log()


def read(data: bytes) -> RegisterLog:
  """Reads a file; see `score_pickle` on pickles.

  Raises:
    ValueError: it is no such file, or asks for what it does not need.
  """
  return from_commands(score_pickle.unpickle(data))


def write(log: RegisterLog) -> bytes:
  """Writes a file that Python 2 reads as well."""
  return pickle.dumps(to_commands(log), protocol=2)
