"""Which bars of songs come again, and how."""

import numpy as np
import pytest

from lakhnes_jax import events as ev
from lakhnes_jax.tracker import form
from lakhnes_jax.tracker import vocabulary as voc
from support import songs_by_frame, songs_of_letters


def test_form_of_a_song(tracker):
  pattern = tracker.parse(songs_of_letters.song('ABACABAC'))
  # However the meter counts its bars, letters are a whole number of them.
  per_letter = 96 / (pattern.bar_rows * np.median(np.diff(pattern.row_frames)))
  assert per_letter >= 1
  source, how, lag, frames, voices, _, longest = form.of_pattern(pattern)
  assert frames == round(96 / per_letter)
  assert not lag.any()
  # A letter of P1 is four notes, of TR one; drums of 3 frames.
  assert longest.tolist() == [24, 0, 96, 3]
  assert voices == 1 << ev.P1 | 1 << ev.TR | 1 << ev.NO
  found = source[:, :8 * round(per_letter):round(per_letter)]
  bars = np.where(found == form.NEW, -1, found // round(per_letter))
  letters = [''.join('ABACABAC'[x] if x >= 0 else '-' for x in voice)
             for voice in bars]
  assert letters == ['-AAAABAC', '--------', '--A-ABAC', '-ABACABA']
  wanted = np.full_like(how, form.NOTES)  # But B and C have A's rhythm.
  wanted[ev.P1, [round(per_letter), 3 * round(per_letter)]] = form.RHYTHM
  np.testing.assert_array_equal(how, wanted)


def _form_of(tracker, events, n_frames: int):
  """The form of a song whose bars last 64 frames, and how many rows they have.
  """
  pattern = tracker.parse(songs_by_frame.from_frames(sorted(events), n_frames))
  n_rows = int(64 / np.median(np.diff(pattern.row_frames)))
  return form.of_pattern(pattern._replace(bar_rows=n_rows, phase=0)), n_rows


def test_form_of_bars_that_are_nearly_the_same(tracker):
  figure, other = [0, 2, 4, 7], [0, 5, 4, 9]
  # P1: a figure, the same 5 higher, its rhythm, another rhythm, that 2 lower.
  # P2: in step with P1 a third higher; in step; alone; alone; an octave lower.
  bars = [([0, 4, 8, 12], figure, [0, 4, 8, 12], [4, 5, 7, 11]),
          ([0, 4, 8, 12], [5, 7, 9, 12], [0, 4, 8, 12], other),
          ([0, 4, 8, 12], other, [0, 2, 6, 12], figure),
          ([0, 2, 4, 12], other, [0, 6, 8, 10], figure),
          ([0, 2, 4, 12], [-2, 3, 2, 7], [0, 2, 4, 12], [-14, -9, -10, -5])]
  events = [(64 * i + 4 * row, voice, ev.NOTEON, 70 + pitch)
            for i, (*parts,) in enumerate(bars)
            for voice, rows, pitches in ((ev.P1, *parts[:2]),
                                         (ev.P2, *parts[2:]))
            for row, pitch in zip(rows, pitches, strict=True)]
  events += [(16 * i, ev.NO, ev.NOTEON, 3) for i in range(20)]
  events += [(time + 3, voice, ev.NOTEOFF, 0) for time, voice, *_ in events]
  (source, how, lag, *_, delays, _), _ = _form_of(tracker, events, 320)
  new, notes, moved, rhythm = -1, form.NOTES, form.TRANSPOSED, form.RHYTHM
  assert source[ev.P1].tolist() == [new, 0, 1, new, 3]
  assert how[ev.P1].tolist() == [notes, moved, rhythm, notes, moved]
  assert source[ev.P2].tolist() == [0, 1, new, new, 4]
  assert how[ev.P2].tolist() == [rhythm, rhythm, notes, notes, moved]
  assert source[ev.NO].tolist() == [new, 0, 1, 2, 3]
  assert np.flatnonzero(delays).tolist() == [0]
  assert not lag.any()


def test_form_of_an_echo(tracker):
  """P2 plays what P1 does a row, a bar, and a bar and a row later."""
  rng = np.random.default_rng(0)
  tune = {row: int(pitch) for row, pitch in zip(
      range(0, 80, 2), rng.integers(60, 80, 40), strict=True)}
  # Of 16 rows each: silent; 1, 1, 16 and 17 later.
  lags = [None, 1, 1, 16, 17]
  notes = [(row, ev.P1, pitch) for row, pitch in tune.items()] + [
      (row + lag, ev.P2, pitch) for row, pitch in tune.items()
      for bar, lag in enumerate(lags) if lag and (row + lag) // 16 == bar]
  entries = [x for row, voice, pitch in notes for x in (
      (4 * row, voice, ev.NOTEON, pitch), (4 * row + 3, voice, ev.NOTEOFF, 0))]
  entries += [(64 * bar, ev.NO, ev.NOTEON, 3) for bar in range(6)]
  found, n_rows = _form_of(tracker, entries, 324)
  # The last has the rhythm of the one two before.
  assert found.source[ev.P2, :5].tolist() == [-1, 1, 2, 3, 2]
  assert found.how[ev.P2, :5].tolist() == [form.NOTES] * 4 + [form.RHYTHM]
  assert (found.lag[:5] * 16 / n_rows).tolist() == [0, 1, 1, 16, 0]


def test_drums_repeat_what_they_nearly_do(tracker):
  drums = [0, 4, 6, 8, 12, 14]
  bars = [drums, [*drums, 15], drums[:4], [2, *drums[1:]], [1, 3, 9, 11]]
  entries = [x for bar, rows in enumerate(bars) for row in rows for x in (
      (64 * bar + 4 * row, ev.NO, ev.NOTEON, 3),
      (64 * bar + 4 * row + 2, ev.NO, ev.NOTEOFF, 0))]
  entries += [(16 * beat, ev.TR, ev.NOTEON, 40 + beat) for beat in range(20)]
  found, _ = _form_of(tracker, entries, 324)
  # 6 of 7 notes, 4 of 6, 5 of 7, none.
  assert found.source[ev.NO, :5].tolist() == [-1, 0, -1, -1, -1]


def test_delays_that_a_form_has(tracker):
  delays, late = (form.of_pattern(tracker.parse(songs_of_letters.song(
      'ABACABAC', late=frames))).delays for frames in (0, 2))
  assert np.flatnonzero(delays).tolist() == [0]
  assert np.flatnonzero(late).tolist() == [0, 2]


def test_a_file_of_forms(tmp_path):
  path = tmp_path / 'forms.npz'
  source = [-1, -1, 0, 1, -1, 0, 1, 4]  # A B A B C A B C.
  drums = [-1, *range(7)]
  how = np.zeros((4, 8), int)
  how[0, 5] = form.TRANSPOSED
  delays = np.arange(voc.N_DELAYS) == 3
  follows = np.full((4, 2), -1)
  follows[ev.P2] = [-1, 1]
  form.write(path, [
      form.Form(np.array([source] * 3 + [drums]), how, np.zeros(8, int), 24, 15,
                delays, np.array([20, 70_000, 30, 0])),
      form.Form(follows, np.full((4, 2), form.RHYTHM), np.array([0, 5]), 96, 7,
                ~delays, np.ones(4, int))])
  found = form.read(path)
  assert found.frames.tolist() == [24, 96]
  assert found.voices.tolist() == [15, 7]
  assert found.source[0, 2, :9].tolist() == [*source, -1]
  assert found.source[0, 3, :9].tolist() == [*drums, -1]
  assert found.source[1, :2, :3].tolist() == [[-1] * 3, [-1, 1, -1]]
  np.testing.assert_array_equal(found.how[0, :, :8], how)
  assert (found.how[1, :, :2] == form.RHYTHM).all()
  np.testing.assert_array_equal(found.delays, [delays, ~delays])
  assert found.lag[:, :3].tolist() == [[0] * 3, [0, 5, 0]]
  assert found.longest.tolist() == [[20, 65_535, 30, 0], [1] * 4]
  assert found.nearest(90, 1).frames.tolist() == [96]
  assert found.having(8, 1).frames.tolist() == [24]
  assert found.having(7, 1).frames.tolist() == [24, 96]
  assert found.having(8, 2).frames.tolist() == [24, 96]
  first = np.array([[-1, -1, 0]] * 4)
  same = np.zeros_like(first)
  assert found.agreeing(first, same, 1).frames.tolist() == [24]
  assert found.agreeing(follows, same[:, :2] + form.RHYTHM, 1
                        ).frames.tolist() == [96]
  itself = np.array([[-1, -1], [-1, -1], [-1, 1], [-1, -1]])
  form.write(path, [form.Form(itself, 0 * itself, np.zeros(2, int), 96, 7,
                              delays, np.ones(4, int))])
  with pytest.raises(ValueError, match=r'forms\.npz: no forms of songs'):
    form.read(path)  # P2 alone follows another voice.
  for data in (b'', b'PK', path.read_bytes()[:-9]):
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r'forms\.npz: no forms of songs'):
      form.read(path)


def test_forms_of_the_package():
  """As of real songs: tunes come back after two, four or eight bars."""
  forms = form.default()
  assert len(forms.frames) > 1000
  assert forms.delays[:, 0].all()
  assert .1 < (forms.delays.sum(1) == 1).mean() < .3
  assert .05 < (forms.lag > 0).any(1).mean() < .2  # Songs with echoes.
  # Drums are short.
  longest = np.median(forms.longest, axis=0)
  assert longest[ev.NO] < 10 < 60 < longest[ev.P1] < 120
  bars = np.arange(form.BARS)
  follows = forms.source >= bars
  assert not (forms.source > bars).any()
  assert follows[:, ev.P2].any() and not follows[:, [ev.P1, ev.TR, ev.NO]].any()
  assert (forms.how[forms.source == form.NEW] == form.NOTES).all()
  counts = [np.bincount((bars - forms.source[:, voice])[
      (forms.source[:, voice] != form.NEW) & ~follows[:, voice] &
      (forms.how[:, voice] == form.NOTES)], minlength=9) for voice in range(4)]
  for count in counts[:ev.NO]:
    assert count[[2, 4, 8]].sum() > 2 * count[1]
  assert np.argmax(counts[ev.NO]) == 1  # Drums play what they just did.
