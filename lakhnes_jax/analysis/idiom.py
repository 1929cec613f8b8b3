"""How much a song keeps to figures, rhythms and chords of its own.

In half a minute a real song uses few kinds of moves and rhythms, others than
the next song's; the songs of a small model use a few of each that there is.
"""

import numpy as np

from lakhnes_jax import events as ev
from lakhnes_jax import nes
from lakhnes_jax.synth import score as scores

_FEWEST = 13  # NOTEONs of a voice that is measured.
_TRIADS = np.array([sum(1 << (root + step) % 12 for step in (0, third, 7))
                    for root in range(12) for third in (3, 4)])


def measure(song: np.ndarray, score: scores.Score) -> dict[str, float]:
  """Measures one song.

  Args:
    song: int32 events (see `events`).
    score: of the same.

  Returns:
    What `moves` returns, and `triads`.
  """
  return {**moves(song), 'triads': triads(score)}


def moves(song: np.ndarray) -> dict[str, float]:
  """Measures the moves of voices: from NOTEON to NOTEON.

  Of variety, `ln(V / sqrt(N))` of N things of which V differ: the logarithm of
  Guiraud's index (Les caracteres statistiques du vocabulaire, 1954), which
  depends less on the length of a text than V / N.

  Args:
    song: int32 events.

  Returns:
    Means over P1, P2 and TR, of those that have 13 NOTEONs or more, nan where
    none has: `ioi_variety`, of inter-onset intervals in video frames;
    `figure_variety`, of pairs of intervals in semitones, one after the other;
    `commonest_pitch`, the share of NOTEONs of the pitch that has most;
    `repeated_notes`, of moves to the same pitch; and `returning_notes`, of
    pairs of moves that are up and as far down again, or the other way round.
    Of the drums `ioi_variety_NO` and `commonest_pitch_NO`; of the bass
    `commonest_class_TR`, the share of the pitch class that has most.
  """
  is_on = ev.kind_of(song) == ev.NOTEON
  voice, times = ev.voice_of(song), ev.times_of(song)
  found = {name: [] for name in (
      'ioi_variety', 'ioi_variety_NO', 'figure_variety', 'commonest_pitch',
      'commonest_pitch_NO', 'commonest_class_TR', 'repeated_notes',
      'returning_notes')}
  for v in range(len(ev.VOICES)):
    mine = np.flatnonzero(is_on & (voice == v))
    if len(mine) < _FEWEST:
      continue
    pitches = ev.value_of(song[mine])
    of_noise = '_NO' if v == ev.NO else ''
    found['ioi_variety' + of_noise].append(_variety(
        np.rint(np.diff(times[mine]) / nes.VIDEO_FRAME)[:, None]))
    found['commonest_pitch' + of_noise].append(_commonest(pitches))
    if v == ev.TR:
      found['commonest_class_TR'].append(_commonest(pitches % 12))
    if of_noise:
      continue
    steps = np.diff(pitches)
    first, second = steps[:-1], steps[1:]
    found['figure_variety'].append(_variety(np.stack([first, second], 1)))
    found['repeated_notes'].append((steps == 0).mean())
    found['returning_notes'].append(((second == -first) & (first != 0)).mean())
  return {name: np.mean(values) if values else np.nan
          for name, values in found.items()}


def _commonest(values: np.ndarray) -> float:
  """Share of the value that comes most often."""
  return np.bincount(values).max() / len(values)


def _variety(things_NxK: np.ndarray) -> float:
  return np.log(len(np.unique(things_NxK, axis=0)) / np.sqrt(len(things_NxK)))


def triads(score: scores.Score) -> float:
  """Share of major and minor triads among chords, weighted by time.

  Args:
    score: of a song.

  Returns:
    Of the time in which P1, P2 and TR sound in three different pitch classes,
    the share in which these are a triad; nan for less than a second of that.
  """
  lasts = np.diff(score.start, append=score.length)
  notes = score.state[:, [ev.P1, ev.P2, ev.TR], scores.NOTE].astype(np.int64)
  classes = np.sort(notes % 12, axis=1)
  is_chord = (notes > 0).all(1) & (np.diff(classes, axis=1) > 0).all(1)
  total = lasts[is_chord].sum()
  if total < ev.SAMPLE_RATE:
    return np.nan
  is_triad = is_chord & np.isin((1 << classes).sum(1), _TRIADS)
  return lasts[is_triad].sum() / total
