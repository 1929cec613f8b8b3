"""What a song is like, in numbers that songs can be compared by.

Sources: Mogren (C-RNN-GAN, 2016), Wu and Yang (The Jazz Transformer on the
Front Line, ISMIR 2020), and MusPy (Dong et al., ISMIR 2020), whose definitions
are followed where a voice of the chip allows it.
"""

import collections

import numpy as np

from lakhnes_jax import events as ev
from lakhnes_jax import nes
from lakhnes_jax.analysis import idiom, structureness, texture
from lakhnes_jax.synth import score as scores

_MAJOR = np.array([1, 0, 1, 0, 1, 1, 0, 1, 0, 1, 0, 1])
_STEPS = 32  # Grid of onsets, a second: 64 in a bar of 4/4 at 120 bpm.
_BARS = (1.0, 4.0)  # Seconds; shortest and longest that a bar may be.
_REPEAT = 16  # Notes.
_FEW = 3  # Notes of different pitch or voice.
_FIGURE = 16  # Notes of a figure, at most.


def measure(song: np.ndarray) -> dict[str, float]:
  """Measures one song, without its glitches.

  Args:
    song: int32 events (see `events`); notes too short to be heard do not count
      (`events.without_glitches`).

  Returns:
    nan where a song has nothing to measure. All but the last two come from
    exact times; P1, P2 and TR are melodic, NO is not.

    note_density: NOTEONs a second, all voices.
    polyphony: voices that sound, the mean over the time in which any does
      (MusPy: `polyphony`, but for noise, which counts here).
    silence: share of time in which no voice sounds; silence_P1 and so on, in
      which that one does not.
    pitch_class_entropy: bits, 0 to 3.58, of the histogram of melodic NOTEONs
      (Wu and Yang, ISMIR 2020, over a whole song as in MusPy).
    scale_consistency: share of melodic NOTEONs in the best-fitting major scale,
      or its relative natural minor (Mogren, 2016; MusPy).
    groove_consistency, groove_recurrence: see `groove`.
    self_repetition: see `self_repetition`.
    stasis: see `stasis`.
    looping: see `looping`.
    variety_change, pitch_class_change: see `change`.
    longest_pause: seconds, the longest time without a NOTEON, up to the end.
    longest_note, longest_NO: see `longest_notes`.
    volume_mean, volume_entropy, volume_changes, duty_entropy: see `dynamics`.
    structureness_short, _mid, _long, recurrence: see `structureness`.
    And what `idiom` and `texture` measure.
  """
  song = ev.without_glitches(song)
  score = scores.from_events(song)
  lasts = np.diff(score.start, append=score.length)
  total = max(score.length, 1)
  sounds = score.state[..., scores.NOTE] > 0
  together = sounds.sum(1)
  with np.errstate(invalid='ignore', divide='ignore'):
    found = {
        'note_density': score.onset.sum() / np.float64(score.seconds),
        'polyphony': np.float64((together * lasts).sum()) /
                     lasts[together > 0].sum(),
        'silence': lasts[together == 0].sum() / total,
    }
  for voice, silent in zip(ev.VOICES, ~sounds.T, strict=True):
    found[f'silence_{voice.name}'] = lasts[silent].sum() / total
  if not score.length:
    found = dict.fromkeys(found, np.nan)
  melodic = score.onset.copy()
  melodic[:, ev.NO] = False
  classes = np.bincount(score.state[melodic][:, scores.NOTE] % 12, minlength=12)
  onsets = score.start[score.onset.any(1)]
  found |= {
      'pitch_class_entropy': _entropy(classes),
      'scale_consistency': _in_scale(classes),
      **groove(onsets, score.length),
      'self_repetition': self_repetition(song),
      'stasis': stasis(song),
      'looping': looping(song),
      **change(song),
      'longest_pause': np.diff(np.concatenate(
          [[0], score.start[score.onset.any(1)], [score.length]])).max(
              ) / ev.SAMPLE_RATE if score.length else np.nan,
      **longest_notes(score),
      **dynamics(score),
      **structureness.structureness(song),
      'recurrence': structureness.recurrence(song),
      **idiom.measure(song, score),
      **texture.measure(song, score),
  }
  return {name: float(value) for name, value in found.items()}


def longest_notes(score: scores.Score) -> dict[str, float]:
  """Measures the notes that are held longest, which a model may leave to sound.

  Args:
    score: of a song.

  Returns:
    ln of seconds, from NOTEON to the end or the next: `longest_note` of P1, P2
    and TR; `longest_NO`. nan where those never sound.
  """
  lasts = np.diff(score.start, append=score.length) / ev.SAMPLE_RATE
  sounds = score.state[..., scores.NOTE] > 0
  note = score.onset.cumsum(0)
  seconds = [max(np.bincount(note[sounds[:, v], v], lasts[sounds[:, v]]),
                 default=0) for v in range(len(ev.VOICES))]
  return {name: np.log(length) if length else np.nan for name, length in (
      ('longest_note', max(seconds[:ev.NO])), ('longest_NO', seconds[ev.NO]))}


def dynamics(score: scores.Score) -> dict[str, float]:
  """Measures volumes and timbres, weighted by time, where voices sound.

  Args:
    score: of a song; one without dynamics plays at volume 15 and duty 0.

  Returns:
    `volume_mean` (0 to 15) and `volume_entropy` (bits) of P1, P2 and NO;
    `volume_changes`, per second that such a voice sounds, of volumes within
    notes; `duty_entropy`, bits, of P1 and P2. nan where those never sound.
  """
  lasts = np.diff(score.start, append=score.length)
  voices = [ev.P1, ev.P2, ev.NO]
  sounds = score.state[:, voices, scores.NOTE] > 0
  volume = score.state[:, voices, scores.VELOCITY]
  weight = sounds * lasts[:, None]
  volumes = np.bincount(volume[sounds], weight[sounds], minlength=16)
  held = sounds[1:] & sounds[:-1] & ~score.onset[1:, voices]
  pulses = sounds[:, :2]
  duties = np.bincount(score.state[:, :2, scores.TIMBRE][pulses],
                       weight[:, :2][pulses], minlength=4)
  total = volumes.sum()
  return {
      'volume_mean': volumes @ np.arange(16) / total if total else np.nan,
      'volume_entropy': _entropy(volumes),
      'volume_changes': ((np.diff(volume.astype(int), axis=0) != 0) & held
                         ).sum() / (total / ev.SAMPLE_RATE)
                        if total else np.nan,
      'duty_entropy': _entropy(duties),
  }


def loudness_range(audio: np.ndarray) -> float:
  """Range of loudness in dB: from the 10th to the 95th percentile.

  As of EBU Tech 3342 but for the K-weighting, of windows of 0.4 s that are not
  30 dB below the loudest; nan for silence and for less than a second.

  Args:
    audio: [T] at 44.1 kHz.
  """
  size = ev.SAMPLE_RATE * 2 // 5
  n = len(audio) // size
  if n < 3:
    return np.nan
  windows = np.asarray(audio[:n * size], np.float64).reshape(n, size)
  power = windows.var(1)  # Without what the chip's unipolar output adds.
  if not power.max():
    return np.nan
  levels = 10 * np.log10(power[power > power.max() / 1000])
  return float(np.subtract(*np.percentile(levels, (95, 10))))


def _entropy(counts: np.ndarray) -> float:
  """Entropy of a histogram in bits."""
  if not counts.sum():
    return np.nan
  share = counts[counts > 0] / counts.sum()
  return -(share * np.log2(share)).sum() + 0.0  # Never -0.


def _in_scale(classes: np.ndarray) -> float:
  """Largest share of notes in any of the 12 major scales."""
  if not classes.sum():
    return np.nan
  return max(classes[np.roll(_MAJOR, key) > 0].sum()
             for key in range(12)) / classes.sum()


def groove(onsets: np.ndarray, length: int) -> dict[str, float]:
  """Measures how alike the rhythms of neighbouring bars are.

  Of onset patterns with 32 steps a second. NES-MDB knows no bars: the length
  from 1 to 4 s that fits best is taken, for each number its own, which unlike a
  fixed one tells real songs from shuffled ones; better, too, than the bar that
  `meter` finds, which was tried.

  Args:
    onsets: ascending times in samples.
    length: of the song, samples.

  Returns:
    `groove_consistency`: one less the mean Hamming distance of neighbouring
    bars (Wu and Yang, ISMIR 2020, with 64 steps a bar; neighbours as in MusPy);
    near 1 too where there are few onsets. `groove_recurrence`: the share of
    onsets that have one a bar away (Dice coefficient), whatever their number.
    Both are 1 where the same rhythm comes again and again, and nan below two
    bars of 1 s, and without onsets.
  """
  steps = length * _STEPS // ev.SAMPLE_RATE
  shortest, longest = (int(seconds * _STEPS) for seconds in _BARS)
  found = {'groove_consistency': np.nan, 'groove_recurrence': np.nan}
  if steps < 2 * shortest or not len(onsets):
    return found
  pattern = np.zeros(steps + 1, bool)
  pattern[onsets * _STEPS // ev.SAMPLE_RATE] = True
  pattern = pattern[:steps]
  rows = []
  for bar in range(shortest, min(longest, steps // 2) + 1):
    one, next_ = pattern[:-bar], pattern[bar:]
    rows.append((1 - (one != next_).mean(),
                 2 * (one & next_).sum() / max(one.sum() + next_.sum(), 1)))
  return dict(zip(found, np.max(rows, 0), strict=True))


def self_repetition(song: np.ndarray, length: int = _REPEAT) -> float:
  """Share of a song's notes that lie in runs which the song plays twice.

  Of waits and lengths nothing is asked, as logs of real songs jitter: their
  repeats are rarely the same to the sample.

  Args:
    song: int32 events.
    length: NOTEONs, of all voices in order, that a run has.

  Returns:
    0 to 1; nan for songs of fewer notes than two runs that do not overlap.
  """
  notes = song[ev.kind_of(song) == ev.NOTEON]
  if len(notes) < 2 * length:
    return np.nan
  runs = np.lib.stride_tricks.sliding_window_view(notes, length)
  _, which, counts = np.unique(runs, axis=0, return_inverse=True,
                               return_counts=True)
  begun = np.zeros(len(notes) + 1, np.int64)
  starts = np.flatnonzero(counts[which.reshape(-1)] > 1)
  begun[starts] += 1
  begun[starts + length] -= 1
  return float((np.cumsum(begun)[:-1] > 0).mean())


def stasis(song: np.ndarray, few: int = _FEW) -> float:
  """Longest time without anything new, as a share of the song.

  What a model that got stuck does: a chord held, a trill, one figure for ever.

  Args:
    song: int32 events.
    few: NOTEONs that still count as nothing new, of different melodic voice or
      pitch.

  Returns:
    0 to 1: the longest stretch, from a melodic NOTEON to another or the end, in
    which there are no more than `few`; nan where there are none
  """
  melodic = (ev.kind_of(song) == ev.NOTEON) & (ev.voice_of(song) != ev.NO)
  notes, times = song[melodic], ev.times_of(song)
  length = int(times[-1]) if len(song) else 0
  if not len(notes) or not length:
    return np.nan
  times = np.append(times[melodic], length)
  longest = first = 0
  inside = collections.Counter()
  for place, note in enumerate(notes.tolist()):
    inside[note] += 1
    while len(inside) > few:
      gone = notes[first].item()
      inside[gone] -= 1
      if not inside[gone]:
        del inside[gone]
      first += 1
    longest = max(longest, times[place + 1] - times[first])
  return float(longest / length)


def looping(song: np.ndarray, most: int = _FIGURE) -> float:
  """Longest time in which one short figure goes round, as a share of the song.

  What a model does that has found something to repeat and not what comes next.
  Real songs seldom play a figure of a bar more than two or three times on end.

  Args:
    song: int32 events.
    most: melodic NOTEONs that a figure may have. Those of one video frame are
      ordered by voice; of their times nothing else is asked.

  Returns:
    0 to 1: the longest stretch in which each melodic note is the one that came
    so many notes before, with the figure's first time, until the next note or
    the end; it comes twice in full at least. nan where there are no notes.
  """
  melodic = (ev.kind_of(song) == ev.NOTEON) & (ev.voice_of(song) != ev.NO)
  notes, times = song[melodic], ev.times_of(song)
  length = int(times[-1]) if len(song) else 0
  if not len(notes) or not length:
    return np.nan
  times = times[melodic]
  order = np.lexsort((ev.voice_of(notes),
                      np.rint(times / nes.VIDEO_FRAME)))
  notes, times = notes[order], np.append(times[order], length)
  longest = 0
  for period in range(1, min(most, len(notes) // 2) + 1):
    other = np.flatnonzero(notes[period:] != notes[:-period])
    first = np.append(-1, other) + 1
    count = np.append(other, len(notes) - period) - first
    first, count = first[count >= period], count[count >= period]
    if len(first):
      longest = max(longest, (
          times[first + count + period] - times[first]).max())
  return float(longest / length)


def change(song: np.ndarray) -> dict[str, float]:
  """How the last third of a song differs from the first.

  A model that searches for an idea and then stays with it plays fewer different
  notes in the end; composers begin with the idea.

  Args:
    song: int32 events.

  Returns:
    `variety_change`, ln((n + 1) / (m + 1)) where NOTEONs of the last third have
    n different pitches, counted for each voice, and those of the first m;
    `pitch_class_change`, 0 to 1, half the L1 distance of the pitch-class
    histograms of their NOTEONs, the mean over melodic voices that play in both,
    nan where none does. Both nan for a song without length.
  """
  times = ev.times_of(song)
  length = int(times[-1]) if len(song) else 0
  if not length:
    return {'variety_change': np.nan, 'pitch_class_change': np.nan}
  is_note = ev.kind_of(song) == ev.NOTEON
  first, last = (song[is_note & part] for part in (
      times < length / 3, times >= length * 2 / 3))
  distances = []
  for voice in (ev.P1, ev.P2, ev.TR):
    shares = []
    for part in (first, last):
      pitches = ev.value_of(part[ev.voice_of(part) == voice])
      if len(pitches):
        shares.append(np.bincount(pitches % 12, minlength=12) / len(pitches))
    if len(shares) == 2:
      distances.append(np.abs(shares[0] - shares[1]).sum() / 2)
  return {
      'variety_change': np.log((len(np.unique(last)) + 1) /
                               (len(np.unique(first)) + 1)),
      'pitch_class_change': np.mean(distances) if distances else np.nan}
