"""How a song's voices go together, and how much it moves on.

Numbers that tell samples from real songs where those of single voices do not: a
real song's voices have rhythms of their own, and go elsewhere after a while.
"""

import itertools

import numpy as np

from lakhnes_jax import events as ev
from lakhnes_jax import nes
from lakhnes_jax.analysis import structureness
from lakhnes_jax.synth import score as scores

_MELODIC = [ev.P1, ev.P2, ev.TR]
_FEWEST = 9  # NOTEONs of a voice that is compared with another.
_DISSONANT = (1, 2, 6, 10, 11)  # Semitones, but for octaves.
_PARTS = 4


def measure(song: np.ndarray, score: scores.Score) -> dict[str, float]:
  """Measures one song.

  Args:
    song: int32 events (see `events`).
    score: of the same.

  Returns:
    What `together` and `drift` return.
  """
  return {**together(song, score), **drift(song, score)}


def together(song: np.ndarray, score: scores.Score) -> dict[str, float]:
  """Measures how voices go together.

  Args:
    song: int32 events.
    score: of the same.

  Returns:
    Means over pairs of voices, nan where there is no such pair:
    `synchrony`, of P1, P2 and TR, and `synchrony_NO`, of P1 or TR with the
    noise: of the NOTEONs of the voice that has fewer, the share that come with
    one of the other's, to half a video frame; of voices that have 9 or more.
    `dissonance`: of the time in which two of P1, P2 and TR sound, if it is a
    second or more, the share in which they are a second, a tritone or a seventh
    apart, octaves not counted.
  """
  is_on = ev.kind_of(song) == ev.NOTEON
  voice, times = ev.voice_of(song), ev.times_of(song)
  onsets = [times[is_on & (voice == v)] for v in range(len(ev.VOICES))]
  lasts = np.diff(score.start, append=score.length)
  notes = score.state[..., scores.NOTE].astype(np.int64)
  shares = []
  for a, b in itertools.combinations(_MELODIC, 2):
    sound = (notes[:, a] > 0) & (notes[:, b] > 0)
    total = lasts[sound].sum()
    if total >= ev.SAMPLE_RATE:
      apart = (notes[:, a] - notes[:, b]) % 12
      shares.append(lasts[sound & np.isin(apart, _DISSONANT)].sum() / total)
  return {
      'synchrony': _mean([_shared(onsets[a], onsets[b]) for a, b in
                          itertools.combinations(_MELODIC, 2)]),
      'synchrony_NO': _mean([_shared(onsets[v], onsets[ev.NO])
                             for v in (ev.P1, ev.TR)]),
      'dissonance': _mean(shares)}


def _shared(one: np.ndarray, other: np.ndarray) -> float:
  """Share of the fewer times that come with one of the others."""
  few, many = sorted((one, other), key=len)
  if len(few) < _FEWEST:
    return np.nan
  after = np.searchsorted(many, few)
  distance = np.minimum(
      abs(many[np.minimum(after, len(many) - 1)] - few),
      abs(many[np.maximum(after - 1, 0)] - few))
  return (distance <= nes.VIDEO_FRAME / 2).mean()


def drift(song: np.ndarray, score: scores.Score) -> dict[str, float]:
  """Measures how a song changes from one quarter of its time to the next.

  Args:
    song: int32 events.
    score: of the same.

  Returns:
    Means over neighbouring quarters, nan for songs without length, and where
    neither has what is compared:
    `register_drift`, semitones between the mean pitches of a melodic voice;
    `density_drift`, |ln((n + 2) / (m + 2))| of NOTEONs n and m of a voice;
    `pitch_class_drift`, 0 to 1, half the L1 distance of the histograms of the
    time that pitch classes of P1, P2 and TR sound.
    And `pitch_range`, semitones, the standard deviation of the pitches of a
    melodic voice in all.
  """
  if not score.length:
    return dict.fromkeys(('register_drift', 'density_drift',
                          'pitch_class_drift', 'pitch_range'), np.nan)
  is_on = ev.kind_of(song) == ev.NOTEON
  voice, pitch = ev.voice_of(song)[is_on], ev.value_of(song)[is_on]
  part = np.minimum(
      ev.times_of(song)[is_on] * _PARTS // score.length, _PARTS - 1)
  count_VxP, total_VxP = (
      np.bincount(voice * _PARTS + part, weight, len(ev.VOICES) * _PARTS
                  ).reshape(-1, _PARTS) for weight in (None, pitch))
  mean_VxP = np.divide(total_VxP, count_VxP, where=count_VxP > 0,
                       out=np.full(count_VxP.shape, np.nan))
  time_PxC = structureness.time_by_pitch_class(
      score, score.length * np.arange(_PARTS + 1) // _PARTS)
  total_Px1 = time_PxC.sum(1, keepdims=True)
  share_PxC = np.divide(time_PxC, total_Px1, where=total_Px1 > 0,
                        out=np.full(time_PxC.shape, np.nan))
  return {
      'register_drift': _mean(abs(np.diff(mean_VxP[_MELODIC]))),
      'density_drift': abs(np.diff(np.log(count_VxP + 2))).mean(),
      'pitch_class_drift': _mean(abs(np.diff(share_PxC, axis=0)).sum(1) / 2),
      'pitch_range': _mean([pitch[voice == v].std() for v in _MELODIC
                            if (voice == v).any()])}


def _mean(values) -> float:
  """Mean of what is known; nan where nothing is."""
  values = np.asarray(values, float)
  known = values[np.isfinite(values)]
  return known.mean() if len(known) else np.nan
