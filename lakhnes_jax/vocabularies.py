"""Every format of songs as token ids, by name: tx1, tx2 and tracker."""

import hashlib
from typing import Any

from lakhnes_jax import events
from lakhnes_jax.tracker import vocabulary

NAMES = (*events.VOCABULARIES, 'tracker')


def get(name: str):
  """Returns a vocabulary: `events.Vocabulary`, or `tracker.Tracker`.

  Raises:
    ValueError: there is none of that name.
  """
  if name in events.VOCABULARIES:
    return events.VOCABULARIES[name]
  if name == 'tracker':
    return vocabulary.default()
  raise ValueError(f'{name!r} is no format of songs; there are '
                   f'{", ".join(NAMES)}')


def digest(vocabulary) -> str:
  """Names what the token ids mean: their texts, and the codebook if any.

  Returns:
    16 hexadecimal digits
  """
  codebook = getattr(vocabulary, 'codebook', None)
  return hashlib.sha256('\n'.join([
      *vocabulary.tokens, codebook.digest if codebook else '']).encode()
  ).hexdigest()[:16]


def check(meta: dict[str, Any], source: Any) -> None:
  """Compares what weights were trained to say with what it means here.

  Args:
    meta: of the weights. Those without `vocabulary_digest` are taken as they
      are.
    source: where they are from, for the message.

  Raises:
    ValueError: the format's tokens, or its instruments, have changed.
  """
  name, expected = meta.get('format'), meta.get('vocabulary_digest')
  if expected is None or name not in NAMES:
    return
  found = digest(get(name))
  if found != expected:
    raise ValueError(
        f'{source}: trained on other tokens or instruments of format {name} '
        f'({expected!r:.20}) than this version has ({found!r}); use the '
        'version that trained it')
