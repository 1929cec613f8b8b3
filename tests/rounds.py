"""Songs that come round, for what looks things up in a song."""

import numpy as np


def lanes(vocabulary, phrases, length: int, rng, share: float,
          new: str) -> np.ndarray:
  """Repeats phrases, a lane each, and changes tokens here and there.

  Args:
    vocabulary: of the tokens.
    phrases: names of tokens, with spaces between them.
    length: L, tokens a lane.
    rng: what draws the changes.
    share: of the tokens that change.
    new: names of what they become.

  Returns:
    [phrases, L] ids
  """
  def ids(names):
    return [vocabulary.tokens.index(name) for name in names.split()]

  return np.stack([np.where(
      rng.random(length) < share, rng.choice(ids(new), length),
      np.resize(ids(phrase), length)) for phrase in phrases])
