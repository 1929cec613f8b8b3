"""NES-MDB's language modelling format."""

import hashlib
import pickle

import numpy as np
import pytest

from lakhnes_jax.formats import nlm, song_files, transcribe, vgm
from lakhnes_jax.synth.register_log import RegisterLog

# The example of nesmdb's README.
README = [('clock', 1789773), ('fc_mo', 0), ('ch_no', 1), ('ch_tr', 1),
          ('ch_p2', 1), ('ch_p1', 1), ('w', 13), ('tr_lr', 66), ('tr_tl', 172),
          ('w', 1), ('tr_th', 1)]


def rows_of(log):
  return [*zip(log.time.tolist(), log.register.tolist(), log.value.tolist(),
               strict=True)]


def log_of(*writes, length=9, clock=1789773):
  time, register, value = np.array(writes, np.int64).reshape(-1, 3).T
  return RegisterLog(time, register.astype(np.uint8),
                         value.astype(np.uint8), length, clock)


def test_example():
  log = nlm.from_commands(README)
  # Functions at offset 0 of several channels: each channel has its own write.
  assert rows_of(log) == [(0, 0x17, 0), (0, 0x15, 0x0f), (13, 0x08, 66),
                          (13, 0x0a, 172), (14, 0x0b, 1)]
  assert (log.length, log.clock) == (14, 1789773)


def test_only_changes_are_told():
  log = log_of((0, 0x00, 0x3f), (2, 0x00, 0x3e), (3, 0x00, 0x3e), (3, 0x04, 0),
               (5, 0x00, 0x7e), length=9)
  assert nlm.to_commands(log) == [
      ('clock', 1789773), ('p1_lh', 1), ('p1_cv', 1), ('p1_vo', 15), ('w', 2),
      ('p1_vo', 14), ('w', 1), ('w', 2), ('p1_du', 1), ('w', 4)]


def test_what_is_told_every_time():
  """Length counters, channels, the mode; a timer while its pulse sweeps."""
  twice = [(0x03, 0), (0x0f, 0), (0x15, 0x1f), (0x17, 0x40), (0x02, 9),
           (0x0a, 9), (0x05, 0x80), (0x06, 9)]
  log = log_of(*((0, *write) for write in twice),
               *((1, *write) for write in twice), length=1)
  first, second = nlm.to_commands(log)[1:], []
  at = first.index(('w', 1))
  first, second = first[:at], first[at + 1:]
  assert second == [('p1_ll', 0), ('no_ll', 0), ('ch_no', 1), ('ch_tr', 1),
                    ('ch_p2', 1), ('ch_p1', 1), ('fc_mo', 0), ('p2_tl', 9)]
  assert first == [*second[:7], ('p1_tl', 9), ('tr_tl', 9), ('p2_se', 1),
                   ('p2_tl', 9)]


def test_the_sample_channel_is_read_but_not_written():
  log = nlm.from_commands([('clock', 1789773), ('dm_lc', 64), ('w', 1),
                           ('ch_dm', 1), ('p1_vo', 3)])
  assert rows_of(log) == [(0, 0x11, 64), (1, 0x15, 0x10), (1, 0x00, 3)]
  # Nor does it split a wait.
  assert nlm.to_commands(log_of((3, 0x11, 64), length=9)) == [
      ('clock', 1789773), ('w', 9)]


def test_a_function_told_twice_makes_two_writes():
  log = nlm.from_commands([('clock', 1789773), ('p1_vo', 3), ('p1_du', 1),
                           ('p1_vo', 4), ('p1_tl', 5), ('p1_cv', 1)])
  assert rows_of(log) == [(0, 0, 0x43), (0, 0, 0x44), (0, 2, 5), (0, 0, 0x54)]


# What nesmdb makes of VGM files without the writes to the sample channel: the
# pairs a line each; and the writes that it makes of these.
DIGESTS = {
    '202_LawnMower_00_01Title': ('810531f52838892e', '160fb7d8784b22b2'),
    '202_LawnMower_02_03LevelClear': ('a6ffd5808ad94566', '4b56b11d5b49187f'),
    '202_LawnMower_03_04OutofFuel': ('916021fb9d69dcb0', 'e365ad1266e9647f'),
}


def digest(lines):
  return hashlib.sha256('\n'.join(lines).encode()).hexdigest()[:16]


@pytest.mark.parametrize('name', DIGESTS)
def test_against_nesmdb(oracles, name):
  log = vgm.read(oracles / 'audio' / f'{name}.vgm')
  commands = nlm.to_commands(log)
  back = nlm.read(nlm.write(log))
  lines = [f'{time},{register:02x},{value:02x}'
           for time, register, value in rows_of(back)]
  assert (digest(f'{name},{value}' for name, value in commands),
          digest([*lines, str(back.length)])) == DIGESTS[name]
  assert nlm.to_commands(back) == merged(commands)
  np.testing.assert_array_equal(transcribe.to_events(back),
                                transcribe.to_events(log))


def merged(commands):
  """Adds up waits between which nothing is told."""
  result = commands[:1]
  for name, value in commands[1:]:
    if name == result[-1][0] == 'w':
      value += result.pop()[1]
    result.append((name, value))
  return result


@pytest.mark.parametrize('protocol', range(5))
def test_files(tmp_path, protocol):
  path = tmp_path / 'a.nlm.pkl'
  path.write_bytes(pickle.dumps(README, protocol))
  assert rows_of(song_files.read_log(path)) == rows_of(
      nlm.from_commands(README))
  song_files.write_log(path, nlm.from_commands(README))
  assert path.read_bytes()[:2] == b'\x80\x02'  # Python 2 reads it.
  assert pickle.loads(path.read_bytes())[:2] == README[:2]


@pytest.mark.parametrize('value, message', [
    ([], 'not a list that begins with'), (7, 'not a list'),
    ([('w', 3)], 'pair 0: clock expected first'),
    ([('clock', 60)], 'pair 0: NES clock of 60 Hz'),
    ([*README, ['w', 3]], 'pair 11: a function and a number expected'),
    ([*README, ('w', 3.5)], 'pair 11: a function and a number expected'),
    ([*README, ('w', -3)], 'pair 11: w of -3: time goes back'),
    ([*README, ('w', 10**9)], 'pair 11: longer than 6 hours'),
    ([*README, ('p1_xy', 3)], "pair 11: 'p1_xy' is no function"),
    ([*README, ('p1_vo', 16)], 'pair 11: p1_vo of 16: legal values are 0 to'),
])
def test_errors(tmp_path, value, message):
  path = tmp_path / 'a.nlm.pkl'
  path.write_bytes(pickle.dumps(value))
  with pytest.raises(ValueError, match=f'a.nlm.pkl: {message}'):
    song_files.read_song(path)


def test_pickles_that_ask_for_more_are_refused():
  with pytest.raises(ValueError, match=r'asks for builtins.print'):
    nlm.read(pickle.dumps([('clock', print)]))


def test_mutated_pickles_give_a_log_or_a_reason():
  rng = np.random.default_rng(6)
  good = [pickle.dumps(README, protocol) for protocol in (0, 2, 4)]
  n_read = 0
  for i in range(1500):
    data = bytearray(good[i % 3])
    for place in rng.integers(0, len(data), rng.integers(1, 3)):
      data[place] = rng.integers(256)
    try:
      n_read += nlm.read(bytes(data)).length > 0
    except ValueError as error:
      assert str(error)
  assert 10 < n_read < 1400
