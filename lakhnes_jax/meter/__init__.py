"""The meter of a song: its frames, rows, beats, bars, loop and sections.

`meter.seam` finds places between which a song can jump unheard.
"""

from lakhnes_jax.meter.analysis import Meter, analyze, frames_of

__all__ = ('Meter', 'analyze', 'frames_of')
