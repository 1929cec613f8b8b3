"""Four-voice music for the NES sound chip: LakhNES in JAX.

    import lakhnes_jax
    model = lakhnes_jax.load()                      # the pretrained weights
    song, = model.generate(seconds=20, seed=7)      # int32 events, exact times
    audio = song.render()                           # float32, 44.1 kHz
    song.save('song.mid')                           # or .wav, .vgm, .png, ...

`model.continue_song`, `new_pitches` and `accompany` start from a given song,
which `lakhnes_jax.read_song` reads. Modules are imported when they are used:
`import lakhnes_jax` is quick, and rendering a song does not import JAX's model.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from lakhnes_jax.api import Model, load
  from lakhnes_jax.nes import SAMPLE_RATE
  from lakhnes_jax.song import Song, read_song

__all__ = ['SAMPLE_RATE', 'Model', 'Song', 'load', 'read_song']
# Name -> the module that has it.
_LAZY = {
    'Model': 'lakhnes_jax.api',
    'Song': 'lakhnes_jax.song',
    'load': 'lakhnes_jax.api',
    'read_song': 'lakhnes_jax.song',
    'SAMPLE_RATE': 'lakhnes_jax.nes',
}


def __getattr__(name: str) -> Any:
  if name not in _LAZY:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
  return sorted({*globals(), *_LAZY})
