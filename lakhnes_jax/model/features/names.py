"""Features by name, as a flag or a config gives them."""

import dataclasses

from lakhnes_jax.model.features import base
from lakhnes_jax.model.features.context_match import ContextMatch
from lakhnes_jax.model.features.frame_counter import FrameCounter
from lakhnes_jax.model.features.relative_pitch import RelativePitch
from lakhnes_jax.model.features.row_state import RowState
from lakhnes_jax.model.features.voice_match import VoiceMatch
from lakhnes_jax.model.features.voice_state import VoiceState

KINDS = {kind.name: kind for kind in (
    VoiceState,
    ContextMatch,
    VoiceMatch,
    FrameCounter,
    RowState,
    RelativePitch,
)}


def parse(names: str, vocabulary: base.Vocabulary | None) -> base.Features:
  """Makes features, as in 'voice_state,context_match=4096'.

  Args:
    names: of `KINDS`, separated by commas, each with its settings after =
      signs (integers); '' for none.
    vocabulary: of the model; may be None if there are none.

  Raises:
    ValueError: a name or a setting is wrong; the message lists the right ones.
  """
  parts = []
  for text in filter(None, map(str.strip, names.split(','))):
    name, *settings = text.split('=')
    kind = KINDS.get(name)
    if kind is None or len(settings) > len(_settings(kind)) or not all(
        setting.isascii() and setting.isdecimal() for setting in settings):
      raise ValueError(f'feature {text!r}: expected some of ' + ', '.join(
          '='.join([known, *(name.upper() for name in _settings(KINDS[known]))])
          for known in KINDS))
    if vocabulary is None:
      raise ValueError(f'feature {text!r}: the vocabulary is not known')
    parts.append(kind(vocabulary, *map(int, settings)))
  return base.Features(tuple(parts))


def unparse(features: base.Features) -> str:
  """Undoes `parse`."""
  return ','.join(
      '='.join([part.name, *(str(getattr(part, name))
                             for name in _settings(part))])
      for part in features.parts)


def _settings(kind) -> list[str]:
  """Names of the fields of a feature but the first, its vocabulary."""
  return [field.name for field in dataclasses.fields(kind)[1:]]
