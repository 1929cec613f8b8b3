"""NES ROMs that show nothing and play: songs as the program of a cartridge.

Small ones are NROM (mapper 0). Larger ones are mapper 31, a cartridge with the
4-KB banks of an NSF player. The first song plays when the console is switched
on; there is no other control.

Sources: https://www.nesdev.org/wiki/NES_2.0, https://www.nesdev.org/wiki/NROM,
https://www.nesdev.org/wiki/INES_Mapper_031.
"""

import struct

from lakhnes_jax.formats.player6502 import frames, image
from lakhnes_jax.synth.register_log import RegisterLog

HEADER = 16
_CHR = 0x2000  # Bytes of pictures: none are shown, but NROM has them.
_NROM, _NSF_LIKE = 0, 31  # Mappers.
_UNIT = 4  # Banks in the unit of the header.


def write(log: RegisterLog) -> bytes:
  """Writes a ROM that plays a song, over and over if it has a loop.

  Raises:
    ValueError: it is empty, or does not fit.
  """
  built = image.build([frames.from_log(log, log.loop)], rom=True)
  if not built.banked:
    return _header(2, 1, _NROM, log.pal) + built.data + bytes(_CHR)
  # What is at the end is seen at $F000 when the console is switched on, and
  # sizes are powers of two.
  n_banks = max(1 << (len(built.data) // image.BANK - 1).bit_length(), _UNIT)
  missing = n_banks - len(built.data) // image.BANK
  data = built.data + built.data[-image.BANK:] * missing
  return _header(n_banks // _UNIT, 0, _NSF_LIKE, log.pal) + data


def notes(log: RegisterLog) -> list[str]:
  """What the ROM cannot hold of a log, one line each."""
  return list(frames.from_log(log, log.loop).notes)


def _header(units: int, pictures: int, mapper: int, pal: bool) -> bytes:
  """NES 2.0 header.

  Args:
    units: of 16 KB of program.
    pictures: units of 8 KB; 0 for as much memory instead.
  """
  return struct.pack(
      '<4s12B', b'NES\x1a', units, pictures, (mapper & 15) << 4,
      mapper & 0xf0 | 0x08, 0, 0, 0, 0 if pictures else 7, int(pal), 0, 0, 0)
