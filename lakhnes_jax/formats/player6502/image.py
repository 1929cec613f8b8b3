"""Songs and the sound driver -> what lies in the memory of a console.

Small images are seen as a whole from $8000 on. Large ones are cut into 4-KB
banks: bank 0, seen at $A000, is the driver; the streams follow it, two banks of
them seen at $8000; samples are seen at $C000.
"""

import functools
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lakhnes_jax.formats.player6502 import assembler, streams
from lakhnes_jax.formats.player6502.frames import SAMPLE_SPACE, Frames

BANK = 0x1000
ORIGIN, BANKED_ORIGIN = 0x8000, 0xa000
_TOP = 0x10000
_STEP = 64  # Of samples, in bytes.
_SAMPLES = 0xc000
_MAX_BANKS = 256
_VECTORS = 0xfffa
_SAMPLE_ADDRESS = 2  # Column of a table of frames.
MAX_SONGS = 255


class Image(NamedTuple):
  """What lies in memory.

  Attributes:
    data: from `ORIGIN` on, or if banked the banks.
    banked: whether it is cut into banks.
    banks: [8] those seen at $8000, $9000, ... before a song starts; if banked.
    init, play: addresses of the driver's routines.
    reset, frame, ignore: of a console's program, where there is one.
    used: bytes that hold something.
  """
  data: bytes
  banked: bool
  banks: tuple[int, ...]
  init: int
  play: int
  reset: int | None
  frame: int | None
  ignore: int | None
  used: int


@functools.cache
def _source() -> str:
  return pathlib.Path(__file__).with_name('player.asm').read_text()


def _driver(banked: bool, rom: bool, places: Sequence[int] = ()):
  """The driver's bytes and names; `places` are those of the songs' tables."""
  source = [_source()]
  fields = list(zip(*(streams.address(p, banked) for p in places),
                    strict=True)) or [(0,)] * 3
  for name, values in zip(('low', 'high', 'bank')[:2 + banked], fields,
                          strict=False):
    source.append(f'song_{name}:')
    source += [f'  .byte {value}' for value in values]
  return assembler.assemble('\n'.join(source),
                            BANKED_ORIGIN if banked else ORIGIN,
                            BANKED=int(banked), ROM=int(rom))


def build(songs: Sequence[Frames], rom: bool = False) -> Image:
  """Packs songs, without banks if they fit.

  Args:
    songs: what to play, at most 255.
    rom: whether for a console's own program (`nes_rom`) or an NSF player's.

  Raises:
    ValueError: more than fits; says how much.
  """
  check_count(len(songs))
  return _flat(songs, rom) or _banked(songs, rom)


def check_count(songs: int) -> None:
  """Raises ValueError where an image cannot hold that many songs."""
  if not 1 <= songs <= MAX_SONGS:
    raise ValueError(f'{songs} songs: 1 to {MAX_SONGS} expected')


def _pack(songs, bases, address_size) -> tuple[list, list[list[int]]]:
  packer = streams.Packer(address_size)
  starts = []
  for song, base in zip(songs, bases, strict=True):
    table = song.table.copy()
    column = table[:, _SAMPLE_ADDRESS]
    column[column >= 0] += base
    starts.append(packer.add(table, song.loop))
  return packer.tokens, starts


def _flat(songs, rom) -> Image | None:
  """The image without banks; None if it does not fit."""
  end = _TOP - _STEP * rom  # Vectors lie behind.
  size = sum(len(song.samples) for song in songs)
  for first in sorted({_SAMPLES, (end - size) // _STEP * _STEP}):
    # Samples as low as they may lie, which makes small files, or at the top.
    if _SAMPLES <= first <= end - size:
      image = _flat_at(songs, rom, first)
      if image is not None:
        return image
  return None


def _flat_at(songs, rom, first) -> Image | None:
  """Likewise with samples from the address `first` on."""
  samples = b''.join(song.samples for song in songs)
  bases = (first - _SAMPLES) // _STEP + np.cumsum(
      [0, *(len(song.samples) // _STEP for song in songs)])[:-1]
  tokens, starts = _pack(songs, bases.tolist(), 2)
  driver, _ = _driver(False, rom, [0] * len(songs))
  # The songs' tables of addresses lie between driver and streams.
  tables = ORIGIN + len(driver)
  begin = tables + 12 * len(songs)
  if begin + streams.size(tokens, 2) > first:
    return None
  body, places = streams.encode(tokens, begin, False)
  driver, names = _driver(False, rom,
                          [tables + 12 * i for i in range(len(songs))])
  heads = b''.join(streams.address(places[start], False)
                   for song in starts for start in song)
  data = driver + heads + body
  used = len(data) + len(samples)
  if samples or rom:
    data = data.ljust(first - ORIGIN, b'\0') + samples
  if rom:
    data = _with_vectors(data.ljust(_TOP - ORIGIN, b'\0'), names)
  return _image(data, False, (), names, used)


def _banked(songs, rom) -> Image:
  for song in songs:
    if len(song.samples) > _STEP * (SAMPLE_SPACE - rom):
      raise ValueError(f'{len(song.samples)} bytes of samples: '
                       f'{_STEP * (SAMPLE_SPACE - rom)} at most')
  tokens, starts = _pack(songs, [0] * len(songs), 3)
  head = 22 * len(songs)
  body, places = streams.encode(tokens, BANK + head, True)
  tables = [BANK + 22 * i for i in range(len(songs))]
  driver, names = _driver(True, rom, tables)
  if len(driver) > BANK:
    raise ValueError(f'a driver of {len(driver)} bytes: {BANK} at most')
  n_banks = 1 + -(-(head + len(body)) // BANK)
  # Different sets of samples, each in four banks of its own at most; banks
  # behind the last one are never used, but seen.
  sets = dict.fromkeys(song.samples for song in songs if song.samples)
  banks, used = [], len(driver) + head + len(body)
  for samples in sets:
    used += len(samples)
    sets[samples] = n_banks + len(banks)
    banks += [samples[i:i + BANK].ljust(BANK, b'\0')
              for i in range(0, len(samples), BANK)]
    if rom:
      banks += [bytes(BANK)] * (-len(banks) % 4)
  if not banks or rom:
    banks.append(bytes(BANK))
  total = n_banks + len(banks)
  if total > _MAX_BANKS:
    raise ValueError(f'{total} banks of 4 KB: {_MAX_BANKS} at most')
  heads = bytearray()
  for song, start in zip(songs, starts, strict=True):
    for index in start:
      heads += streams.address(places[index], True)
    first = sets.get(song.samples)
    size = -(-len(song.samples) // BANK)
    heads += bytes(total - 1 if first is None or (i >= size and not rom)
                   else first + i for i in range(4))
  data = driver.ljust(BANK, b'\0') + bytes(heads) + body
  data = data.ljust(n_banks * BANK, b'\0') + b''.join(banks)
  if rom:  # In whatever may be seen at $F000.
    for bank in range(n_banks, total):
      data = (data[:bank * BANK] +
              _with_vectors(data[bank * BANK:][:BANK], names) +
              data[(bank + 1) * BANK:])
  first_banks = (1, 2, 0, 0, *[total - 1] * 4)
  return _image(data, True, first_banks, names, used)


def _image(data, banked, banks, names, used) -> Image:
  origin = BANKED_ORIGIN if banked else ORIGIN
  return Image(data, banked, banks, origin, origin + 3, names.get('reset'),
               names.get('frame'), names.get('irq'), used)


def _with_vectors(data: bytes, names: dict[str, int]) -> bytes:
  """Puts the vectors, and what a reset does first, at the end of a bank.

  What is seen at $A000 then is not known, so that the driver is shown first.
  """
  start = _TOP - _STEP
  code, _ = assembler.assemble(
      f'sei\nlda #0\nsta $5ffa\njmp {names["reset"]}', start)
  vectors = b''.join(address.to_bytes(2, 'little') for address in
                     (names['frame'], start, names['irq']))
  return data[:-_STEP] + code.ljust(_STEP - 6, b'\0') + vectors
