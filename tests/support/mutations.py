"""Files made worse at random: `mutate` says how, for each kind of file.

A mutator is a function (data, rng, bases) -> data: of a bytearray, which it may
change, and of good files to take parts from.
"""

import gzip
import pickle
import re
import struct

import numpy as np

EXTREMES = (0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff,
            0x80000000, 0xffffffff)


def _at(data, rng):
  return int(rng.integers(len(data) + 1))


def flip(data, rng, bases):
  for _ in range(int(rng.integers(1, 4))):
    if data:
      data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
  return data


def overwrite(data, rng, bases):
  for _ in range(int(rng.integers(1, 3))):
    if data:
      data[int(rng.integers(len(data)))] = int(rng.choice(EXTREMES)) & 0xff
  return data


def cut(data, rng, bases):
  return data[:_at(data, rng)]


def tiny(data, rng, bases):
  return data[:int(rng.integers(9))]


def remove(data, rng, bases):
  at = _at(data, rng)
  del data[at:at + int(rng.integers(1, 200))]
  return data


def repeat(data, rng, bases):
  at = _at(data, rng)
  data[at:at] = data[at:at + int(rng.integers(1, 200))] * int(
      rng.integers(1, 50))
  return data


def insert(data, rng, bases):
  at = _at(data, rng)
  data[at:at] = rng.bytes(int(rng.integers(1, 60)))
  return data


def splice(data, rng, bases):
  other = bases[int(rng.integers(len(bases)))]
  return data[:_at(data, rng)] + other[_at(other, rng):]


def lines(data, rng, bases):
  """Removes, repeats or moves whole lines."""
  rows = bytes(data).split(b'\n')
  at, to = sorted(rng.integers(0, len(rows) + 1, 2).tolist())
  where = int(rng.integers(len(rows) + 1))
  rows[where:where] = rows[at:to]
  if rng.integers(2):
    del rows[at:to]
  return bytearray(b'\n'.join(rows))


# Half of them gentle, so that some files stay good for the steps that follow.
ANY = (*(flip, overwrite) * 4, cut, tiny, remove, repeat, insert, splice)


def midi_chunk(data, rng, bases):
  """Sets the length of a chunk."""
  places = [m.start() for m in re.finditer(b'MT(hd|rk)', data)]
  if places:
    at = places[int(rng.integers(len(places)))] + 4
    data[at:at + 4] = struct.pack('>I', int(rng.choice(EXTREMES)))
  return data


def midi_header(data, rng, bases):
  """Sets format, number of tracks or time division."""
  at = 8 + 2 * int(rng.integers(3))
  data[at:at + 2] = struct.pack('>H', int(rng.choice(EXTREMES)) & 0xffff)
  return data


def _into_track(data, rng, found):
  """Puts messages where the first or the last track begins."""
  place = (data.find if rng.integers(2) else data.rfind)(b'MTrk')
  if place >= 0:
    size = int.from_bytes(data[place + 4:place + 8], 'big') + len(found)
    data[place + 4:place + 8] = struct.pack('>I', size & 0xffffffff)
    data[place + 8:place + 8] = found
  return data


def midi_wait(data, rng, bases):
  """Waits very long, or in a number of very many bytes."""
  digits = int(rng.choice((1, 2, 3, 4, 5, 9, 100, 5000, 400000)))
  return _into_track(data, rng, b'\xff' * digits + b'\x7f\xff\x01\x00')


def midi_tempo(data, rng, bases):
  """AugmentationParams the tempo thousands of times."""
  found = b''.join(
      bytes([int(rng.integers(128))]) + b'\xff\x51\x03' + struct.pack(
          '>I', int(rng.choice(EXTREMES)) & 0xffffff)[1:]
      for _ in range(int(rng.integers(1, 4000))))
  return _into_track(data, rng, found)


def midi_running(data, rng, bases):
  """Thousands of notes in running status, begun and maybe never ended."""
  n = int(rng.choice((10, 1000, 30000, 150000)))
  notes = rng.integers(0, 128, (n, 3), np.uint8)
  notes[:, 0] %= int(rng.choice((1, 2, 128)))
  notes[:, 1] = 60 if rng.integers(2) else notes[:, 1]
  if rng.integers(2):
    notes[:, 2] = 64
  status = bytes([0, 0x90 + int(rng.integers(16)), 60, 64])
  return _into_track(data, rng, status + notes.tobytes())


def midi_meta(data, rng, bases):
  """Meta messages of every type with contents of any length."""
  size = int(rng.choice((0, 1, 2, 5, 127)))
  return _into_track(data, rng, bytes(
      [0, int(rng.choice((0xff, 0xf0, 0xf7))), int(rng.integers(128)), size]
  ) + rng.bytes(size))


def midi_big(data, rng, bases):
  """A track that goes on for megabytes."""
  return _into_track(data, rng, b'\x00\x90\x3c\x40' + b'\x01\x3c\x00' * int(
      rng.choice((200000, 1000000, 5000000))))


MIDI = (midi_chunk, midi_header, midi_wait, midi_tempo, midi_running,
        midi_meta)


def vgm_header(data, rng, bases):
  """Sets a field of the header."""
  for _ in range(int(rng.integers(1, 4))):
    at = 4 * int(rng.choice((1, 2, 5, 6, 7, 8, 13, 33, rng.integers(64))))
    value = int(rng.choice((*EXTREMES, len(data), len(data) - at, 1789773)))
    data[at:at + 4] = struct.pack('<I', value & 0xffffffff)
  return data


def _into_body(data, rng, found):
  at = int(rng.integers(0x100, max(len(data), 0x101)))
  data[at:at] = found
  return data


def vgm_wait(data, rng, bases):
  """Waits for hours."""
  n = int(rng.choice((1, 10, 100, 300, 500, 2000, 30000)))
  return _into_body(data, rng, b'\x61\xff\xff' * n)


def vgm_block(data, rng, bases):
  """Data blocks of any size, and sample playback from anywhere."""
  size = int(rng.choice((*EXTREMES, 20)))
  found = b'\x67\x66\xc2' + struct.pack('<IH', size, int(
      rng.integers(1 << 16))) + rng.bytes(18)
  registers = [(0x15, 0x1f), (0x10, 0xcf), (0x12, 0xff), (0x13, 0xff)]
  return _into_body(data, rng, found + b''.join(
      bytes([0xb4, register, value]) for register, value in registers))


def vgm_writes(data, rng, bases):
  """Thousands of writes of anything to any register."""
  writes = rng.integers(0, 256, (int(rng.choice((10, 1000, 50000))), 4),
                        np.uint8)
  writes[:, 0], writes[:, 1] = 0xb4, writes[:, 1] % 0x18
  writes[:, 3] = 0x70 + writes[:, 3] % 16
  return _into_body(data, rng, writes.tobytes())


def vgm_big(data, rng, bases):
  """Commands that go on for megabytes."""
  unit = (b'\x70', b'\xb4\x00\x01', b'\x50\x00')[int(rng.integers(3))]
  return _into_body(data, rng, unit * int(rng.choice((300000, 20000000))))


def vgz_bomb(data, rng, bases):
  """A small file that unpacks to hundreds of megabytes."""
  return bytearray(_bomb())


def _bomb(cache=[]):  # noqa: B006 - made once.
  if not cache:
    cache.append(gzip.compress(b'Vgm ' + bytes(3 * 10**8), 1, mtime=0))
  return cache[0]


VGM = (vgm_header, vgm_wait, vgm_block, vgm_writes)


def nsf_header(data, rng, bases):
  """Sets a field of the header: counts, addresses, speeds, banks, the size."""
  at = int(rng.choice((6, 7, 8, 10, 12, 0x6e, 0x70 + rng.integers(8), 0x78,
                       0x7a, 0x7d, 0x7e)))
  data[at:at + 2] = struct.pack('<H', int(rng.choice(EXTREMES)) & 0xffff)
  return data


def text_numbers(data, rng, bases):
  """Writes other numbers, large ones too."""
  numbers = list(re.finditer(rb'-?\d+', data))
  if numbers:
    found = numbers[int(rng.integers(len(numbers)))]
    other = rng.choice([b'0', b'-1', b'4294967296', b'1e9', b'9' * 30,
                        b'9' * 5000])
    data[found.start():found.end()] = bytes(other)
  return data


TEXT = (*(lines,) * 4, text_numbers)


def tar_header(data, rng, bases):
  """Sets a field of a header, and its checksum, or forgets the end."""
  blocks = [at for at in range(0, len(data) - 511, 512)
            if data[at + 257:at + 262] == b'ustar']
  if not blocks or not rng.integers(8):
    return data[:len(data) - int(rng.choice((1, 512, 1024, 9000, 10240)))]
  at = blocks[int(rng.integers(len(blocks)))]
  field = int(rng.integers(4))
  if field == 0:
    data[at + 156] = int(rng.choice(list(b'0123456LKxgSV')))
  elif field == 1:
    data[at:at + 100] = rng.bytes(100)
  else:
    size = int(rng.choice((0, 1, 511, 513, 10**5, 3 * 10**9, 8**11 - 1)))
    data[at + 124:at + 136] = (
        b'%011o\0' % size if field == 2 else
        b'\x80' + (size << int(rng.integers(40))).to_bytes(11, 'big'))
  data[at + 148:at + 156] = b' ' * 8
  data[at + 148:at + 156] = b'%06o\0 ' % sum(data[at:at + 512])
  return data


def pickle_numbers(data, rng, bases):
  """A pickle of numbers that no score has."""
  rate = float(rng.choice((0, -1, 1e-9, .001, 24, 44100, 1e300, np.inf,
                           np.nan)))
  length = int(rng.choice((-1, 0, 1, 2**31 - 1, 2**40)))
  steps = [[60]] * int(rng.choice((0, 1, 100, 100000)))
  return bytearray(pickle.dumps(
      (rate, length, steps), protocol=int(rng.integers(5))))


KINDS = {
    # Mutators, those of which files get big or take long, and the ending.
    'web': ((*ANY, *MIDI), (), '.mid'),
    'mid': ((*ANY, *MIDI), (midi_big,), '.mid'),
    'vgm': ((*ANY, *VGM), (vgm_big, vgz_bomb), '.vgm'),
    'nlm.pkl': (ANY, (), '.nlm.pkl'),
    'ndf.txt': ((*ANY, *TEXT), (), '.ndf.txt'),
    'ndr.txt': ((*ANY, *TEXT), (), '.ndr.txt'),
    'tx1.txt': ((*ANY, *TEXT), (), '.tx1.txt'),
    'tx2.txt': ((*ANY, *TEXT), (), '.tx2.txt'),
    'exprsco.pkl': ((*ANY, pickle_numbers), (), '.exprsco.pkl'),
    'seprsco.pkl': ((*ANY, pickle_numbers), (), '.seprsco.pkl'),
    'blndsco.pkl': ((*ANY, pickle_numbers), (), '.blndsco.pkl'),
    'nsf': ((*ANY, nsf_header), (), '.nsf'),
    'famitracker.txt': ((*ANY, *TEXT), (), '.famitracker.txt'),
    'tar': ((*ANY, *(tar_header,) * 9), (), '.tar'),
    'shards': ((*ANY, *TEXT), (), ''),
    'weights': ((*ANY, *TEXT), (), ''),
}


def mutate(kind: str, number: int, seed: int, bases: list[bytes]
          ) -> tuple[bytes, str]:
  """Returns mutated bytes, and the names of what was done to them."""
  mutators, heavy, _ = KINDS[kind]
  rng = np.random.default_rng((seed, number))
  data = bytearray(bases[int(rng.integers(len(bases)))])
  if data[:2] == b'\x1f\x8b' and rng.integers(4):
    data = bytearray(gzip.decompress(data))
  done = []
  if number % 16 == 0:
    return bytes(data), 'nothing'  # Good files must stay good.
  for _ in range(int(rng.choice((1, 1, 2)))):
    rare = heavy and rng.integers(100) == 0
    chosen = heavy if rare else mutators
    mutator = chosen[int(rng.integers(len(chosen)))]
    data = mutator(data, rng, bases)
    done.append(mutator.__name__)
  if (kind == 'vgm' and not rng.integers(8)) or (
      kind == 'tar' and rng.integers(2)):
    data = gzip.compress(data, 1, mtime=0)
  return bytes(data), ' '.join(done)
