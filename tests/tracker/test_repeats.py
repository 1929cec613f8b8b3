"""Bars that come again, written by a model that knows nothing."""

import dataclasses
import itertools

import numpy as np
import pytest

from lakhnes_jax import events as ev
from lakhnes_jax.generation import sample, tasks
from lakhnes_jax.tracker import form, history, repeats
from lakhnes_jax.tracker import instruments as ins
from lakhnes_jax.tracker import vocabulary as voc
from support import songs_of_letters

# A B A B C A B C, and then new ones.
SOURCE = [-1, -1, 0, 1, -1, 0, 1, 4]
ASKED = {voc.BAR: 4, voc.TEMPO: 6 * voc.PARTS}


def _forms(*sources, how=form.NOTES, lag=0, frames=24, voices=15, longest=0
          ) -> form.Forms:
  """Forms of songs, of which each voice repeats the same bars, or its own."""
  rows = np.full((len(sources), 4, form.BARS), form.NEW, np.int32)
  for row, source in zip(rows, sources, strict=True):
    row[:, :np.shape(source)[-1]] = source
  n = len(sources)
  return form.Forms(
      rows, np.full_like(rows, how), np.full((n, form.BARS), lag, np.int32),
      *(np.full(n, x, np.int32) for x in (frames, voices)),
      np.ones((n, voc.N_DELAYS), bool), np.full((n, 4), longest, np.int32))


def _write(model, task, n=4, seed=3) -> list[np.ndarray]:
  """Returns the token ids of n songs."""
  ids = []
  kept = dataclasses.replace(task, assemble=lambda x: (
      ids.append(x), task.assemble(x))[1])
  list(sample.generate(model, [kept], sample.SamplingConfig(
      temperature=1., top_k=0, seed=seed), n=n))
  return ids


def _bars(tracker, ids) -> list[list[tuple]]:
  """Lists for each bar what is played: (row, delay, voice, pitch, macros)."""
  reading = tracker.read(ids)
  macros = {int(token): (*macro.tolist(), int(gate)) for token, macro, gate in
            zip(reading.token, reading.macro, reading.gate, strict=True)}
  row, delay, bars = -1, 0, [[]]
  for number, (kind, voice, value) in enumerate(zip(
      *(x[ids].tolist() for x in tracker.table), strict=True)):
    if kind == voc.SKIP or (kind == voc.AT and value <= row):
      bars.append([])
    if kind == voc.AT:
      row, delay = value, 0
    elif kind == voc.DELAY:
      delay = value
    elif kind in (voc.NOTE, voc.OFF):
      bars[-1].append((row, delay, voice, value,
                       macros[number] if kind == voc.NOTE else None))
  return bars


def _of_voice(bar: list[tuple], voice: int) -> list[tuple]:
  """What a voice plays in a bar, from its first note on."""
  mine = [event for event in bar if event[2] == voice]
  return mine[1:] if mine and mine[0][4] is None else mine


@pytest.fixture
def fixed(monkeypatch):
  monkeypatch.setattr(form, 'default', lambda: _forms(SOURCE))


def test_bars_come_again_with_their_instruments(tracker, model, fixed):
  n_again = 0
  for ids in _write(model, tasks.new_song(
      tracker, tasks.Limits(700), asked=ASKED), n=6):
    bars = _bars(tracker, ids)
    assert len(bars) > len(SOURCE)
    for bar, source in enumerate(SOURCE):
      for voice in range(4):
        if source != form.NEW and (wanted := _of_voice(bars[source], voice)):
          assert _of_voice(bars[bar], voice) == wanted, (bar, source, voice)
          n_again += 1
    assert len({str(bar) for bar in bars[len(SOURCE):]}) > 5
  assert n_again > 40


def test_a_voice_comes_again_while_others_go_on(tracker, model, monkeypatch):
  sources = np.full((4, len(SOURCE)), form.NEW)
  sources[ev.TR], sources[ev.NO] = SOURCE, [-1, 0, 0, 0, 0, 0, 0, 0]
  monkeypatch.setattr(form, 'default', lambda: _forms(sources))
  again, others = [], []
  for ids in _write(model, tasks.new_song(
      tracker, tasks.Limits(900), asked={**ASKED, voc.VOICES: 15}), n=6):
    bars = _bars(tracker, ids)
    for voice in (ev.TR, ev.NO):
      for bar, source in enumerate(sources[voice].tolist()):
        if source != form.NEW and (wanted := _of_voice(bars[source], voice)):
          again.append(_of_voice(bars[bar], voice) == wanted)
          others.append(_of_voice(bars[bar], ev.P1) ==
                        _of_voice(bars[source], ev.P1))
  assert all(again) and len(again) > 30
  assert np.mean(others) < .2


def _repeats(tracker, ids, voices=(ev.P1, ev.P2, ev.TR)):
  """Yields (bar that comes again, bar that repeats it) of voices by SOURCE."""
  bars = _bars(tracker, ids)
  for bar, source in enumerate(SOURCE):
    for voice in voices:
      if source != form.NEW and (wanted := _of_voice(bars[source], voice)):
        yield wanted, _of_voice(bars[bar], voice)


def _without_pitches(bar):
  return [(row, delay, macros) for row, delay, _, _, macros in bar]


def _pitches(bar):
  return np.array([pitch for *_, pitch, macros in bar if macros])


def test_bars_come_again_transposed(tracker, model, monkeypatch):
  monkeypatch.setattr(form, 'default', lambda: _forms(
      SOURCE, how=form.TRANSPOSED))
  n_long = 0
  for ids in _write(model, tasks.new_song(
      tracker, tasks.Limits(250), asked=ASKED), n=16):
    for old, new in _repeats(tracker, ids):
      assert _without_pitches(new) == _without_pitches(old)
      moved = _pitches(new) - _pitches(old)
      assert moved[0]
      # But for what a voice does not have.
      np.testing.assert_array_equal(moved % 12, moved[0] % 12)
      n_long += len(moved) > 1
  assert n_long > 20


def test_the_rhythm_of_bars_comes_again(tracker, model, monkeypatch):
  monkeypatch.setattr(form, 'default', lambda: _forms(
      SOURCE, how=form.RHYTHM))
  moves = []
  for ids in _write(model, tasks.new_song(
      tracker, tasks.Limits(250), asked=ASKED), n=6):
    for old, new in _repeats(tracker, ids):
      assert _without_pitches(new) == _without_pitches(old)
      moves.append(_pitches(new) - _pitches(old))
  assert len(moves) > 20
  assert np.mean(np.concatenate(moves) == 0) < .2
  assert np.mean([len(set(move.tolist())) > 1 for move in moves]) > .5


@pytest.mark.parametrize('how', range(3))
@pytest.mark.parametrize('given', [False, True])
def test_p2_goes_in_step_with_p1(tracker, model, monkeypatch, how, given):
  sources = np.full((4, 6), form.NEW)
  sources[ev.P2] = [-1, 1, 2, -1, 4, 0]  # Itself, but for the first and last.
  monkeypatch.setattr(form, 'default', lambda: _forms(sources, how=how))
  if given:
    task = tasks.accompaniment(
        tracker, songs_of_letters.song('ABCDEF'), (ev.P1, ev.TR))
  else:
    task = tasks.new_song(tracker, tasks.Limits(250),
                          asked={**ASKED, voc.VOICES: 15})
  kept, free, long = [], [], []
  for ids in _write(model, task, n=16):
    for number, bar in enumerate(_bars(tracker, ids)[:6]):
      p1, p2 = ([note for note in bar if note[2] == voice and note[4]]
                for voice in (ev.P1, ev.P2))
      in_step = [note[:2] for note in p1] == [note[:2] for note in p2]
      if sources[ev.P2, number] == number and p1:
        assert in_step
        moved = _pitches(p2) - _pitches(p1)
        if how != form.RHYTHM:
          np.testing.assert_array_equal(moved % 12, moved[0] % 12)
        assert (moved[0] == 0) <= (how != form.TRANSPOSED)
        assert moved[0] == 0 or how != form.NOTES
        long.append(len(p1) > 1 and len(set(moved % 12)) > 1)
        kept.append([note[4] for note in p1] == [note[4] for note in p2])
      elif p1 and number < 5:
        free.append(in_step)
  assert len(kept) > 12 and np.mean(free) < .5
  assert (np.mean(long) > .5) == (how == form.RHYTHM)
  assert not all(kept)  # It has instruments of its own.


@pytest.mark.parametrize('lag', [1, 3, 4, 7])
def test_p2_echoes_p1(tracker, model, monkeypatch, lag):
  sources = np.full((4, 9), form.NEW)
  sources[ev.P2] = [-1, 1, 2, 3, -1, 5, 6, 7, -1]
  monkeypatch.setattr(form, 'default', lambda: _forms(sources, lag=lag))
  n_late, free = 0, []
  for ids in _write(model, tasks.new_song(
      tracker, tasks.Limits(250), asked={**ASKED, voc.VOICES: 15}), n=16):
    bars = _bars(tracker, ids)
    p1, p2 = ([(bar * 4 + row, delay, pitch) for bar, events in enumerate(bars)
               for row, delay, v, pitch, macros in events if v == voice and
               macros] for voice in (ev.P1, ev.P2))
    end = max(((len(bars) - 1) * 4 + row, delay)
              for row, delay, *_ in bars[-1]) if bars[-1] else (0, 0)
    for bar in range(min(len(bars), 9)):
      wanted, found = ([(row, *note) for row, *note in notes
                        if row // 4 == bar and (row, note[0]) < end]
                       for notes in (((row + lag, *note) for row, *note in p1),
                                     p2))
      if sources[ev.P2, bar] == bar:
        # P2 does not play as low as P1 may.
        assert [note[:2] for note in found] == [note[:2] for note in wanted]
        assert all((a[2] - b[2]) % 12 == 0
                   for a, b in zip(found, wanted, strict=True))
        n_late += len(wanted)
      elif wanted:
        free.append(found == wanted)
  assert n_late > 60 and np.mean(free) < .2


def test_notes_are_held_four_times_as_long_as_in_the_form(tracker, model,
                                                          monkeypatch):
  """But as long as the model likes where the form's voice does not play."""
  longest = {ev.P1: 5, ev.P2: 15}
  forms = _forms([-1] * 9)
  for voice, frames in longest.items():
    forms.longest[:, voice] = frames
  monkeypatch.setattr(form, 'default', lambda: forms)
  ends = [tracker.codebook.kinds[kind].ends for kind in ins.KIND_OF_VOICE]
  n_long, n_off = [0] * 4, 0
  for ids in _write(model, tasks.new_song(
      tracker, tasks.Limits(250), asked={**ASKED, voc.VOICES: 15}), n=16):
    bars = [(4 * number + row, *event) for number, bar in enumerate(
        _bars(tracker, ids)) for row, *event in bar]
    tempo, row, tempos = 6, 0, {}  # The model changes it often.
    kind, _, value = (x[ids].tolist() for x in tracker.table)
    place = iter(bars)
    for token, number in zip(kind, value, strict=True):
      if token == voc.TEMPO:
        tempo = number / voc.PARTS
      elif token in (voc.NOTE, voc.OFF):
        row = next(place)[0]
      tempos[row] = min(tempo, tempos.get(row, tempo))
    for voice in range(4):
      mine = [event for event in bars if event[2] == voice]
      for (row, *_, macros), (end, *_, other) in itertools.pairwise(mine):
        if not macros:
          continue
        level, *_, gate = macros
        frames = 4 * longest.get(voice, 5)
        fastest = min(tempos[r] for r in range(row, end + 1) if r in tempos)
        if min(ends[voice][level], gate or 999) > frames:  # Not by itself.
          is_long = end - row > 1 + frames // fastest
          n_long[voice] += is_long
          n_off += voice in longest and other is None
  assert n_long[ev.P1] == n_long[ev.P2] == 0 < min(n_long[ev.TR:])
  assert n_off > 20


def test_given_songs_say_too_how_long_notes_may_be(tracker, monkeypatch):
  forms = _forms([-1] * 9)
  forms.longest[:, [ev.P1, ev.TR]] = 30
  monkeypatch.setattr(form, 'default', lambda: forms)
  song = songs_of_letters.song('ABAB')  # Notes of P1 are 24 frames, of TR 96.
  rng = np.random.default_rng(0)
  for task, wanted in (
      (tasks.continuation(tracker, song, tasks.Limits(99), prompt_seconds=6.),
       [30, 0, 96, 0]),
      (tasks.accompaniment(tracker, song, [ev.TR]), [30, 0, 30, 0])):
    state = task.vary(task.state, rng)
    assert np.unique(state.longest_BxKx4, axis=0).tolist() == [wanted]


def test_p2_stays_silent_where_it_is_not_asked_for(tracker, model, monkeypatch):
  monkeypatch.setattr(form, 'default', lambda: _forms(
      np.where(np.arange(4)[:, None] == ev.P2, np.arange(8), form.NEW)))
  for ids in _write(model, tasks.new_song(tracker, tasks.Limits(250), asked={
      **ASKED, voc.VOICES: 15 & ~(1 << ev.P2)})):
    voices = {voice for bar in _bars(tracker, ids) for _, _, voice, *_ in bar}
    assert voices == {ev.P1, ev.TR, ev.NO}


def test_transposed_bars_keep_to_the_key(tracker, model, monkeypatch):
  monkeypatch.setattr(form, 'default', lambda: _forms(
      SOURCE, how=form.TRANSPOSED))
  shares = []
  task = tasks.new_song(tracker, tasks.Limits(250), asked=ASKED)
  for weight in (0., 9.):
    writer = dataclasses.replace(task.constraint, key_weight=weight)
    shares.append(np.mean([
        np.isin(_pitches(new) % 12, _pitches(old) % 12).mean()
        for ids in _write(model, dataclasses.replace(task, constraint=writer),
                          n=16)
        for old, new in _repeats(tracker, ids) if len(_pitches(old)) > 1]))
  assert shares[1] > 2 * shares[0]


def test_macros_are_written_where_they_are_others_alone(tracker, model, fixed):
  for ids in _write(model, tasks.new_song(
      tracker, tasks.Limits(700), asked=ASKED), n=2):
    kind, _, value = (x[ids].tolist() for x in tracker.table)
    bars = _bars(tracker, ids)
    now, voice = np.zeros((4, 4), int), None
    bar, row = 0, -1
    for k, x, token in zip(kind, value, ids.tolist(), strict=True):
      bar += k == voc.SKIP or (k == voc.AT and x <= row)
      row = x if k == voc.AT else row
      if k == voc.NOTE:
        voice = tracker.table.voice[token]
      elif k >= voc.LEVEL:
        again = (bar < len(SOURCE) and SOURCE[bar] != form.NEW and
                 _of_voice(bars[SOURCE[bar]], voice))
        assert not again or now[voice, k - voc.LEVEL] != x
        now[voice, k - voc.LEVEL] = x


def test_without_repeats_songs_are_as_the_rules_alone_write_them(
    tracker, model, monkeypatch):
  monkeypatch.setattr(form, 'default', lambda: _forms([-1] * 9))
  limits = tasks.Limits(300, None, True)
  plain = tasks.new_song(tracker, limits, repeats=False)
  assert not isinstance(plain.constraint, repeats.Repeats)
  for a, b in zip(_write(model, plain),
                  _write(model, tasks.new_song(tracker, limits)), strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize('other', [{'frames': 48}, {'voices': 7}])
def test_the_form_nearest_in_bars_and_voices_counts(tracker, model, monkeypatch,
                                                    other):
  forms = _forms([-1] * 9, **{'frames': 25, **other}), _forms(
      [-1, 0, 1], frames=25)
  monkeypatch.setattr(form, 'default', lambda: form.Forms(
      *(np.concatenate(x) for x in zip(*forms, strict=True))))
  n_again = 0
  for ids in _write(model, tasks.new_song(
      tracker, tasks.Limits(200), asked={**ASKED, voc.VOICES: 15})):
    for voice in range(4):
      first, *later = (_of_voice(bar, voice)
                       for bar in _bars(tracker, ids)[:4])
      assert not first or first == later[0] == later[1] != later[2]
      n_again += bool(first)
  assert n_again > 4


def test_songs_of_one_task_have_forms_of_their_own(tracker, model, monkeypatch):
  monkeypatch.setattr(form, 'default', lambda: _forms(
      *([-1] * n + [0] for n in range(1, 9))))
  task = tasks.new_song(tracker, tasks.Limits(400), asked=ASKED)
  first = [next(i for i in range(1, 10) if _of_voice(bars[i], voice) ==
                _of_voice(bars[0], voice))
           for bars in (_bars(tracker, ids) for ids in _write(model, task, 8))
           for voice in [bars[0][-1][2]]]
  assert len(set(first)) > 2
  np.testing.assert_array_equal(_write(model, task, 8)[5],
                                _write(model, task, 6)[5])


def test_more_bars_than_a_form_has_are_new(tracker, model, monkeypatch):
  monkeypatch.setattr(form, 'default', lambda: _forms(
      [-1] + [0] * (form.BARS - 1)))
  ids, = _write(model, tasks.new_song(tracker, tasks.Limits(2500), asked={
      voc.BAR: 1}), n=1)
  bars = _bars(tracker, ids)
  assert len(bars) > form.BARS + 20
  assert all(_of_voice(bar, voice) == wanted for voice in range(4) if (
      wanted := _of_voice(bars[0], voice)) for bar in bars[:form.BARS])
  assert len({str(bar) for bar in bars[form.BARS:]}) > 10


def test_of_long_songs_the_beginning_comes_again(tracker, model, monkeypatch):
  monkeypatch.setattr(history, '_MOST_EVENTS', 32)
  source = [-1, -1, 0, 1, *[-1] * 16, *range(20)]
  monkeypatch.setattr(form, 'default', lambda: _forms(source))
  again = set()
  for ids in _write(model, tasks.new_song(tracker, tasks.Limits(1000),
                                          asked=ASKED)):
    bars = _bars(tracker, ids)
    parts = [[_of_voice(bar, voice) for bar in bars] for voice in range(4)]
    assert all(part[i + 2] == part[i] for part in parts for i in range(2)
               if part[i])
    again |= {part[20 + i] == part[i] for part in parts for i in range(19)
              if part[i]}
  assert again == {True, False}


def test_new_songs_have_the_delays_of_their_form_and_a_steady_clock(
    tracker, model, monkeypatch):
  forms = _forms([-1] * 9)
  forms.delays[:] = np.isin(np.arange(voc.N_DELAYS), [2, 5])
  monkeypatch.setattr(form, 'default', lambda: forms)
  songs = {}
  for again in (True, False):
    kind, _, value = (x[np.concatenate(_write(model, tasks.new_song(
        tracker, tasks.Limits(300), asked=ASKED, repeats=again)))]
                      for x in tracker.table)
    songs[again] = set(value[kind == voc.DELAY].tolist())
    assert not (kind == voc.NUDGE).any()
  assert songs[True] == {2, 5} and len(songs[False]) > 5


def test_continuations_repeat_what_is_given(tracker, model, monkeypatch):
  song = songs_of_letters.song('ABCDABCD')
  prompt = ev.truncate(song, int(ev.times_of(song)[-1]) // 2 - 4000)
  source, _, _, frames, *_ = form.of_pattern(tracker.parse(prompt))
  n = source.shape[1]
  wanted = np.hstack([source, np.arange(n) + np.zeros((4, 1))])  # Goes on.
  other = [0 if bar else -1 for bar in range(2 * n)]
  monkeypatch.setattr(form, 'default', lambda: _forms(
      *[other] * 20, *[wanted] * 16, frames=frames))
  seconds = 8.
  made, = sample.generate(model, [tasks.continuation(
      tracker, song, tasks.Limits(None, seconds),
      prompt_seconds=int(ev.times_of(prompt)[-1]) / ev.SAMPLE_RATE)],
                         sample.SamplingConfig(temperature=1., top_k=0))
  def tune(events):
    return events[(ev.kind_of(events) == ev.NOTEON) &
                  (ev.voice_of(events) == ev.P1)].tolist()

  given, added = tune(prompt), tune(made.events[int(made.given.sum()):])
  # The bar that the prompt ends in may be written to its end before.
  assert any(added[i:i + len(given)] == given for i in range(4))


@pytest.mark.parametrize('repeats', [True, False])
@pytest.mark.parametrize('late', [0, 1])
def test_continuations_are_delayed_as_what_is_given(
    tracker, model, late, repeats):
  task = tasks.continuation(tracker, songs_of_letters.song('ABACAB', late=late),
                            tasks.Limits(200), repeats=repeats)
  n = len(task.prefix)
  kind, _, value = (x[np.concatenate([ids[n:] for ids in _write(model, task)])]
                    for x in tracker.table)
  given = set(tracker.table.value[task.prefix][
      tracker.table.kind[task.prefix] == voc.DELAY].tolist())
  rules = task.state.rules if repeats else task.state
  assert set(np.flatnonzero(rules.delays_BxD).tolist()) == given
  assert bool(given) == bool(late)
  assert set(value[kind == voc.DELAY].tolist()) <= given
  assert not (kind == voc.NUDGE).any()


def test_other_voices_are_delayed_as_the_given_ones_or_not_at_all(
    tracker, model):
  for late in (0, 2):
    task = tasks.accompaniment(
        tracker, songs_of_letters.song('ABACAB', late=late), (ev.TR, ev.NO))
    delays = {delay for ids in _write(model, task)
              for bar in _bars(tracker, ids)
              for _, delay, voice, *_ in bar if voice in (ev.P1, ev.P2)}
    assert delays == {0, late}


@pytest.mark.parametrize('repeats', [True, False])
def test_other_voices_come_again_as_those_of_songs_like_the_given(
    tracker, model, monkeypatch, repeats):
  song = songs_of_letters.song('ABAB')  # TR: A B A B.
  source, _, _, frames, *_ = form.of_pattern(tracker.parse(song))
  like, unlike = source.copy(), np.full_like(source, form.NEW)
  like[ev.P2] = source[ev.TR]
  unlike[ev.TR, 1:] = 0
  monkeypatch.setattr(form, 'default', lambda: _forms(
      *[unlike] * 20, *[like] * 16, frames=frames))
  task = tasks.accompaniment(tracker, song, (ev.P1, ev.TR), repeats=repeats)
  again = []
  for ids in _write(model, task):
    bars = _bars(tracker, ids)
    for voice in (ev.P1, ev.TR):
      assert _of_voice(bars[0], voice)
    for bar, other in enumerate(source[ev.TR].tolist()):
      if other != form.NEW and (wanted := _of_voice(bars[other], ev.P2)):
        again.append(_of_voice(bars[bar], ev.P2) == wanted)
  assert len(again) > 4 and all(again) == repeats
  for made in sample.generate(model, [task], sample.SamplingConfig(), n=2):
    kept, own = (events[np.isin(ev.voice_of(events), [ev.P1, ev.TR])]
                 for events in (made.events, song))
    np.testing.assert_array_equal(kept, own)


def test_songs_of_several_lengths_are_continued_together(tracker, model):
  limits, config = tasks.Limits(30), sample.SamplingConfig()
  short, long = (
      tasks.continuation(tracker, songs_of_letters.song(bars), limits)
      for bars in ('AB', 'ABCD' * 9))
  assert len(short.state.history.token_BxE) < len(long.state.history.token_BxE)
  together = list(sample.generate(model, [short, long], config))
  for task, made in zip([short, long], together, strict=True):
    alone, = sample.generate(model, [task], config)
    np.testing.assert_array_equal(made.events, alone.events)


@pytest.mark.parametrize('repeats', [True, False])
def test_new_pitches_come_again_where_the_songs_do(tracker, model, repeats):
  names = 'ABACAB'
  ids, = _write(model, tasks.rhythm(
      tracker, songs_of_letters.song(names), repeats=repeats), n=1)
  pitches = [tuple(note[3] for note in bar if note[4] and note[2] != ev.NO)
             for bar in _bars(tracker, ids)]
  assert list(map(len, pitches)) == [5] * 6
  assert len(set(pitches)) == (3 if repeats else 6)
  assert not repeats or all(
      pitches[i] == pitches[names.index(name)] for i, name in enumerate(names))
