"""Constants of the NES and of the files that describe its sound.

One sample is 1 / 44,100 s, the unit of time of VGM files and of NES-MDB.
Sources: VGM (https://vgmrips.net/wiki/VGM_Specification); nesmdb (Donahue et
al., ISMIR 2018); NESdev (https://www.nesdev.org/wiki/), "Cycle reference
chart" and "APU Frame Counter"; VGMPlay (the NSFPlay core that nesmdb renders
with).
"""

SAMPLE_RATE = 44100  # Hz; VGM, nesmdb.

# CPU clocks per second, which are also those of the sound chip; NESdev,
# rounded to whole Hz as VGM headers hold them.
CLOCK = 1789773  # Hz, NTSC.
CLOCK_PAL = 1662607  # Hz.

# Clocks of a quarter frame, one step of the frame counter.
PLAYER_QUARTER_FRAME = 7458  # VGMPlay, on NTSC and PAL consoles alike.
QUARTER_FRAME_PAL = 33253 / 4  # NESdev.

# Samples from one call of a game's music program to the next, one video frame.
VIDEO_FRAME = 733.79  # 29,780.5 clocks, NTSC; NESdev.
# The same at 60 and 50 Hz, as VGM commands 0x62 and 0x63 wait and as nesmdb's
# frame counter (240 Hz, four ticks) runs.
FRAME_60HZ = 735
FRAME_50HZ = 882


def is_pal(clock: int) -> bool:
  """Whether a chip of this clock, Hz, is PAL's rather than NTSC's."""
  return abs(clock - CLOCK) > 50000
