"""Every format of songs as token ids, by name: tx1, tx2 and tracker."""

from lakhnes_jax import events

NAMES = (*events.VOCABULARIES, 'tracker')


def get(name: str):
  """Returns a vocabulary: `events.Vocabulary`, or `tracker.Tracker`.

  Raises:
    ValueError: there is none of that name.
  """
  if name in events.VOCABULARIES:
    return events.VOCABULARIES[name]
  if name == 'tracker':
    from lakhnes_jax.tracker import vocabulary
    return vocabulary.default()
  raise ValueError(f'{name!r} is no format of songs; there are '
                   f'{", ".join(NAMES)}')
