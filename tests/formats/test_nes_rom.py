"""ROMs, run from power-on under py65 with the banks of their mapper."""

import numpy as np
import pytest
from test_nsf import LIMIT, random_log, real_logs

from lakhnes_jax.formats import nes_rom, song_files
from lakhnes_jax.formats.player6502 import frames
from support import console


def check(data, log, limit=None):
  player = console.Console.of_rom(data)
  assert player.cartridge.writes[-3:] == [(0x15, 0), (0x15, 15), (0x17, 0x40)]
  most = console.check(player, frames.from_log(log, log.loop),
                       player.interrupt, limit=limit)
  assert most < LIMIT


@pytest.mark.parametrize('seed', range(3))
def test_every_write(seed):
  log = random_log(seed, pal=seed == 2)._replace(loop=seed * 1234 or None)
  data = nes_rom.write(log)
  # By https://www.nesdev.org/wiki/NES_2.0: NROM-256, PAL or not.
  assert data[:16] == bytes([*b'NES\x1a', 2, 1, 0, 8, 0, 0, 0, 0, seed == 2, 0,
                             0, 0])
  assert len(data) == 16 + 0x8000 + 0x2000
  check(data, log)


def test_long_songs_take_banks():
  log = random_log(5, 1500, dense=1, burst=100)._replace(loop=9000)
  value = np.random.default_rng(0).integers(0, 256, len(log.value))
  fixed = np.isin(log.register, (0x12, 0x13))
  log = log._replace(value=np.where(fixed, log.value, value).astype(np.uint8))
  data = nes_rom.write(log)
  size = len(data) - 16
  assert size > 0x8000 and size & size - 1 == 0
  # Mapper 31, with 8 KB of memory for pictures.
  assert data[4:16] == bytes([size >> 14, 0, 0xf0, 0x18, 0, 0, 0, 7, 0, 0, 0,
                              0])
  check(data, log, 300)


def test_real_song(real_data):
  log, = real_logs(real_data, ('BGMCArea56',))
  check(nes_rom.write(log), log)


def test_is_written_only(tmp_path):
  path = tmp_path / 'a.nes'
  song_files.write_log(path, random_log(0))
  with pytest.raises(ValueError, match=r'a\.nes: nes files are written only'):
    song_files.read_song(path)
  assert song_files.find_songs([tmp_path]) == []
