"""NDR and NDF text: by hand, and against digests of what nesmdb makes."""

import hashlib

import numpy as np
import pytest

from lakhnes_jax.formats import ndf as ndf_lib
from lakhnes_jax.formats import transcribe, vgm
from lakhnes_jax.synth.register_log import RegisterLog


def log_of(*writes, length, clock=1789773):
  time, register, value = np.array(writes, np.int64).reshape(-1, 3).T
  return RegisterLog(time, register.astype(np.uint8),
                         value.astype(np.uint8), length, clock)


def rows_of(log):
  return [*zip(log.time.tolist(), log.register.tolist(), log.value.tolist(),
               strict=True)]


def digest(text):
  return hashlib.sha256(text).hexdigest()[:16]


def digest_of_log(log):
  rows = [f'{time},{register:02x},{value:02x}'
          for time, register, value in rows_of(log)]
  return digest('\n'.join([*rows, str(log.length)]).encode())


LOG = log_of((0, 0x15, 0x0f), (0, 0x00, 0xb9), (5, 0x03, 0x4e), (5, 0x0e, 0xf3),
             length=12)
NDR = b'''clock,1789773
apu,15,0f
apu,00,b9
wait,5
apu,03,4e
apu,0e,f3
wait,7'''
NDF = b'''clock,1789773
apu,ch,dm,0,0,0
apu,ch,no,1,0,0
apu,ch,tr,1,0,0
apu,ch,p2,1,0,0
apu,ch,p1,1,0,0
apu,p1,du,2,1,0
apu,p1,lh,1,1,0
apu,p1,cv,1,1,0
apu,p1,vo,9,1,0
wait,5
apu,p1,ll,9,0,3
apu,p1,th,6,0,3
apu,no,nl,1,1,2
apu,no,np,3,1,2
wait,7'''


def test_literally():
  assert ndf_lib.write_ndr(LOG) == NDR
  assert ndf_lib.write_ndf(LOG) == NDF
  assert rows_of(ndf_lib.read_ndr(NDR)) == rows_of(LOG)
  # Three bits of the noise register have no function.
  ndf = ndf_lib.read_ndf(NDF)
  assert rows_of(ndf) == [*rows_of(LOG)[:3], (5, 0x0e, 0x83)]
  assert (ndf.length, ndf.clock) == (12, 1789773)


def test_writes_without_functions():
  """The triangle's counts as a write; those that nesmdb cannot name do not."""
  log = log_of((0, 0x16, 1), (0, 0x14, 1), (0, 0x09, 1), (0, 0x11, 5), length=0)
  assert ndf_lib.write_ndf(log) == b'clock,1789773\napu,dm,lc,5,1,1'
  assert ndf_lib.write_ndr(log).count(b'apu') == 4


def test_comments_and_empty_lines():
  text = b'// a comment\r\n\r\nclock,1662607\r\n apu,15,0F \r\nwait,3\r\n'
  log = ndf_lib.read_ndr(text)
  assert (rows_of(log), log.length, log.clock, log.pal) == (
      [(0, 0x15, 0x0f)], 3, 1662607, True)


def test_functions_cover_the_registers_once():
  """By the list of nesmdb's README: 38 functions without the sample channel."""
  known = ndf_lib.BY_NAME.values()
  assert len([f for f in known if f.channel != 'dm']) == 38 + 2
  greatest = {f'{f.channel}_{f.name}': f.mask for f in known}
  for text in ('p2_du 3', 'p1_vo 15', 'p1_sp 7', 'p2_ss 7', 'p1_tl 255',
               'p2_ll 31', 'p2_th 7', 'tr_lh 1', 'tr_lr 127', 'no_cv 1',
               'no_np 15', 'no_nl 1', 'no_ll 31', 'ch_p1 1', 'fc_mo 1'):
    name, value = text.split()
    assert greatest[name] == int(value)
  for register, functions in ndf_lib.FUNCTIONS.items():
    seen = 0
    for function in functions:
      bits = function.mask << function.shift
      assert not seen & bits and bits <= 255, register
      seen |= bits


def test_a_function_keeps_the_other_bits_of_its_register():
  log = ndf_lib.read_ndf(b'''clock,1789773
apu,p1,du,2,0,0
apu,p1,vo,9,0,0
wait,1
apu,p1,vo,3,0,0
apu,p2,tl,7,1,2
apu,p1,vo,4,0,0
apu,p1,vo,5,2,0''')
  # In the second moment write 0 comes first, though it is told again later.
  assert rows_of(log) == [(0, 0, 0x89), (1, 0, 0x84), (1, 6, 7), (1, 0, 0x85)]


# Of text, and of the writes that the text stands for, as nesmdb makes them of
# a VGM file: NDR text, NDF text, writes of the NDF text.
DIGESTS = {
    '202_LawnMower_00_01Title':
        ('cab4ec81e4e32ed8', 'fedc4f2c30ecf264', '32566a1ad471b7f0'),
    '202_LawnMower_02_03LevelClear':
        ('c5561ad5fd50c3fc', '69963807205651aa', '2bdf2ba72ed425e5'),
    '202_LawnMower_03_04OutofFuel':
        ('39ab255fc9ac32ca', '87c85193303b3460', '1c1ba69714f588b5'),
}


@pytest.mark.parametrize('name', DIGESTS)
def test_against_nesmdb(oracles, name):
  log = vgm.read(oracles / 'audio' / f'{name}.vgm')
  ndr, ndf = ndf_lib.write_ndr(log), ndf_lib.write_ndf(log)
  from_ndr, from_ndf = ndf_lib.read_ndr(ndr), ndf_lib.read_ndf(ndf)
  assert (digest(ndr), digest(ndf), digest_of_log(from_ndf)) == DIGESTS[name]
  assert rows_of(from_ndr) == rows_of(log)
  assert from_ndr.length == from_ndf.length == log.length
  # What NDF loses, no voice hears.
  np.testing.assert_array_equal(transcribe.to_events(from_ndf),
                                transcribe.to_events(log))


@pytest.mark.parametrize('read', [ndf_lib.read_ndr, ndf_lib.read_ndf])
@pytest.mark.parametrize('text, message', [
    ('', 'empty: clock,HZ expected first'),
    ('wait,3', 'line 1: clock,HZ expected first'),
    ('clock,x', "line 1: 'x' is no number"),
    ('clock,60', 'line 1: NES clock of 60 Hz'),
    ('clock,1789773\n\nwait,-1', "line 3: '-1' is no number"),
    ('clock,1789773\nwait,9\nwait,952560000', 'line 3: longer than 6 hours'),
    ('clock,1789773\nplay,1', "line 2: 'play,1' is neither wait nor apu"),
    ('clock,1789773\nwait,1,2', "'wait,1,2' is neither"),
])
def test_errors_of_both(read, text, message):
  with pytest.raises(ValueError, match=message):
    read(text.encode())


@pytest.mark.parametrize('line, message', [
    ('apu,15', 'register and value expected'),
    ('apu,p1,vo,1,0,0', 'in NDR text .this is NDF text'),
    ('apu,15,0xf', "'0xf' is not two hexadecimal digits"),
])
def test_errors_of_ndr(line, message):
  with pytest.raises(ValueError, match=f'line 2: .*{message}'):
    ndf_lib.read_ndr(f'clock,1789773\n{line}'.encode())


@pytest.mark.parametrize('line, message', [
    ('apu,15,0f', 'in NDF text .this is NDR text'),
    ('apu,p1,xy,1,0,0', 'p1,xy is no function'),
    ('apu,p1,vo,16,0,0', 'p1_vo of 16: legal values are 0 to 15'),
    ('apu,p1,vo,1,x,0', "'x' is no number"),
    ('apu,p1,vo,1,0,3', 'p1,vo is at offset 0, not 3'),
])
def test_errors_of_ndf(line, message):
  with pytest.raises(ValueError, match=f'line 2: .*{message}'):
    ndf_lib.read_ndf(f'clock,1789773\n{line}'.encode())


def test_expansion_sound_is_skipped():
  log = ndf_lib.read_ndr(b'clock,1789773\napu,3f,01\napu,15,01\nwait,1')
  assert (rows_of(log), log.skipped) == ([(0, 0x15, 1)], 1)


@pytest.mark.parametrize('read, text', [(ndf_lib.read_ndr, NDR),
                                        (ndf_lib.read_ndf, NDF)])
def test_mutated_text_gives_a_log_or_a_reason(read, text):
  rng = np.random.default_rng(5)
  n_read = 0
  for _ in range(2000):
    data = bytearray(text[:rng.integers(1, len(text) + 1)] if rng.random() < .2
                     else text)
    for place in rng.integers(0, len(data), rng.integers(0, 3)):
      data[place] = rng.choice([*b'0123456789,\nabf', rng.integers(256)])
    try:
      log = read(bytes(data))
      n_read += 1
      assert (np.diff(log.time) >= 0).all() and log.register.max(initial=0) < 24
    except ValueError as error:
      assert str(error).startswith(('line ', 'empty'))
  assert 200 < n_read < 1900
