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
CLOCKS = (CLOCK, CLOCK_PAL)

# Clocks of a quarter frame, one step of the frame counter.
PLAYER_QUARTER_FRAME = 7458  # VGMPlay, on NTSC and PAL consoles alike.
QUARTER_FRAME_PAL = 33253 / 4  # NESdev.

# A game's music program is called once per video frame; NTSC and PAL. NESdev.
FRAME_CLOCKS = (29780.5, 33247.5)
FRAME_RATES = (60.0988, 50.0070)  # Hz, rounded.
FRAME_MICROSECONDS = (16639, 19997)  # As NSF headers hold them.
FRAME_NTSC = SAMPLE_RATE / (1789772.727 / FRAME_CLOCKS[0])  # Samples: 733.7915.
FRAME_PAL = SAMPLE_RATE / (CLOCK_PAL / FRAME_CLOCKS[1])  # Samples: 881.8769.
# The same as what was trained with it has it, two millionths shorter: another
# value would move events to other frames, and change tokens and features.
VIDEO_FRAME = 733.79  # Samples; of features, augmentations and measures.
TRACKER_FRAME = 733.7898  # Samples; of the format `tracker`.
# Samples at 60 and 50 Hz, as VGM commands 0x62 and 0x63 wait, as programs do
# that are called by a timer, and as nesmdb's frame counter runs.
FRAME_60HZ = 735
FRAME_50HZ = 882
TICK = FRAME_60HZ / 4  # Samples of a quarter frame, nesmdb's: 240 Hz.


def is_pal(clock: int) -> bool:
  """Whether a chip of this clock, Hz, is PAL's rather than NTSC's."""
  return abs(clock - CLOCK) > 50000
