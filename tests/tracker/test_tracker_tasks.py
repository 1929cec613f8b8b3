"""Uses of given songs in the format tracker; the model knows nothing."""

import dataclasses

import numpy as np
import pytest

from lakhnes_jax import events as ev
from lakhnes_jax.generation import constraints, sample, tasks
from lakhnes_jax.tracker import frames, pattern, prompt
from lakhnes_jax.tracker import vocabulary as voc

FRAME = frames.FRAME
PAL = 44100 / 50.007


def song_of(frame: float, start: int = 500) -> np.ndarray:
  """A song on rows of 6 frames: a tune, its bass and drums; 4 bars."""
  played = []
  tune = [60, 64, 67, 72, 71, 67, 64, 62] * 4
  for i, pitch in enumerate(tune):
    at = 12 * i
    played += [(at, ev.P1, ev.NOTEON, pitch), (at, ev.P1, ev.VELOCITY, 12),
               (at + 2, ev.P1, ev.VELOCITY, 9), (at + 10, ev.P1, ev.NOTEOFF, 0)]
    if i % 2 == 0:
      played += [(at, ev.TR, ev.NOTEON, pitch - 24),
                 (at + 20, ev.TR, ev.NOTEOFF, 0),
                 (at, ev.NO, ev.NOTEON, 5 + i % 4), (at, ev.NO, ev.VELOCITY, 8),
                 (at + 3, ev.NO, ev.NOTEOFF, 0)]
  played.sort(key=lambda e: e[0])
  return ev.from_times(
      [start + round(f * frame) + 20 for f, *_ in played],
      np.array([ev.event(*e) for _, *e in played], np.int32),
      start + round(12 * len(tune) * frame) + 20)


def generate(model, task, n=2):
  """The songs, and for each the token ids that the model read and wrote."""
  ids = []
  kept = dataclasses.replace(task, assemble=lambda x: (
      ids.append(x), task.assemble(x))[1])
  songs = list(sample.generate(model, [kept], sample.SamplingConfig(
      temperature=1., top_k=0, seed=5), n=n))
  return songs, ids


@pytest.mark.parametrize('frame', [FRAME, PAL])
@pytest.mark.parametrize('kept_part', [{'prompt_seconds': 2.5},
                                       {'prompt_events': 101}])
def test_a_song_goes_on_after_its_exact_beginning(model, tracker, frame,
                                                  kept_part):
  song = song_of(frame)
  kept = (ev.truncate(song, 110250) if 'prompt_seconds' in kept_part
          else song[:102])  # The wait at the start is not counted.
  length = int(ev.times_of(kept)[-1])
  task = tasks.continuation(tracker, song, tasks.Limits(None, 1.5),
                            **kept_part)
  for made in generate(model, task)[0]:
    np.testing.assert_array_equal(made.events[:len(kept)], kept)
    np.testing.assert_array_equal(
        made.given, np.arange(len(made.events)) < len(kept))
    times = ev.times_of(made.events)
    assert times[-1] == length + round(1.5 * ev.SAMPLE_RATE)
    added = made.events[len(kept):]
    assert (ev.kind_of(added) == ev.NOTEON).any()
    # What is added is on frames that go on from those of the song, but for what
    # comes at once. (PAL songs are read on the frames of NTSC.)
    at = times[len(kept):][added < 0]
    steps = np.unique(at[(at > length + FRAME) & (at < times[-1])])
    off = np.diff(steps) / FRAME
    np.testing.assert_allclose(off, np.rint(off), atol=.01)
    assert (steps >= length).all()
    assert np.isfinite(made.nll[made.given & (made.events < 0)]).all()


def test_prompts_are_read_as_the_beginning_of_longer_songs(tracker):
  task = tasks.continuation(tracker, song_of(FRAME), tasks.Limits(None, 40.),
                            prompt_seconds=2., asked={voc.DENSITY: 3})
  names = [tracker.tokens[i] for i in task.prefix]
  # 42 seconds; all voices of the song.
  assert names[:3] == ['LENGTH_5', 'DENSITY_3', 'VOICES_13']
  assert names[4].startswith('TEMPO_')
  with pytest.raises(ValueError, match='leave --tempo out'):
    tasks.continuation(tracker, song_of(FRAME), asked={voc.TEMPO: 96})


def test_rhythm_keeps_all_but_pitches(model, tracker):
  song = song_of(FRAME)
  task = tasks.rhythm(tracker, song)
  songs, _ = generate(model, task)
  is_open = (ev.kind_of(song) == ev.NOTEON) & (ev.voice_of(song) != ev.NO)
  for made in songs:
    assert len(made.events) == len(song)
    np.testing.assert_array_equal(made.events[~is_open], song[~is_open])
    np.testing.assert_array_equal(ev.kind_of(made.events), ev.kind_of(song))
    np.testing.assert_array_equal(ev.voice_of(made.events), ev.voice_of(song))
    np.testing.assert_array_equal(made.given, ~is_open)
    new, old = (ev.value_of(x[is_open]) for x in (made.events, song))
    assert (new != old).mean() > .9
    assert np.isfinite(made.nll[made.events < 0]).all()


@pytest.mark.parametrize('given, frame', [
    (('p1',), FRAME), (('tr', 'no'), PAL), (('p1', 'p2', 'tr'), FRAME)])
def test_given_voices_stay_to_the_sample(model, tracker, given, frame):
  song = song_of(frame)
  voices = tasks.voices_of(given)
  task = tasks.accompaniment(tracker, song, voices)
  songs, ids = generate(model, task)
  mine = np.isin(ev.voice_of(song), voices)
  for made, tokens in zip(songs, ids, strict=True):
    got = np.isin(ev.voice_of(made.events), voices)
    np.testing.assert_array_equal(made.events[got], song[mine])
    np.testing.assert_array_equal(ev.times_of(made.events)[got],
                                  ev.times_of(song)[mine])
    assert ev.times_of(made.events)[-1] == ev.times_of(song)[-1]
    assert made.given[got].all()
    others = (made.events < 0) & ~got
    assert others.any() and not made.given[others].any()
    assert np.isfinite(made.nll[made.events < 0]).all()
    check_reading(tracker, tokens, song, voices)


def check_reading(tracker, tokens, song, voices):
  """The model has read the given voices where they are, by frame."""
  made = prompt.read(tracker, song, None, constraints.NO_LIMIT).pattern
  expected = pattern.change(made, voices, False, 0)
  reading = tracker.read(tokens)
  is_given = np.isin(reading.voice, voices)
  for name in ('voice', 'pitch', 'macro'):
    np.testing.assert_array_equal(
        getattr(reading, name)[is_given], getattr(expected, name))
  np.testing.assert_array_equal(np.diff(reading.frame[is_given]),
                                np.diff(expected.frame))


@pytest.mark.parametrize('frame', [FRAME, PAL])  # PAL rows end amid frames.
def test_voices_that_come_in_later_wait_for_their_row(model, tracker, frame):
  song = song_of(frame)
  times, chip = ev.times_of(song)[song < 0], song[song < 0]
  late = (ev.voice_of(chip) != ev.TR) | (times > 3 * ev.SAMPLE_RATE)
  song = ev.from_times(times[late], chip[late], int(ev.times_of(song)[-1]))
  task = tasks.accompaniment(tracker, song, (ev.TR,))
  songs, ids = generate(model, task)
  made = songs[0]
  check_reading(tracker, ids[0], song, (ev.TR,))
  triangle = ev.voice_of(song) == ev.TR
  got = ev.voice_of(made.events) == ev.TR
  np.testing.assert_array_equal(ev.times_of(made.events)[got],
                                ev.times_of(song)[triangle])
  first = ev.times_of(made.events)[(made.events < 0) & ~got][0]
  assert first < 2 * ev.SAMPLE_RATE


def test_what_cannot_be_done_is_named(tracker):
  song = song_of(FRAME)
  with pytest.raises(ValueError, match=r'p2 play nothing here.*p1, tr, no'):
    tasks.accompaniment(tracker, song, (ev.P2,))
  with pytest.raises(ValueError, match='no other voice is asked for'):
    tasks.accompaniment(tracker, song, (ev.P1,), asked={voc.VOICES: 1})
  for task in (tasks.continuation, tasks.rhythm):
    with pytest.raises(ValueError, match='empty'):
      task(tracker, np.array([44100]))
  drums = ev.from_times([0, 9000], np.array(
      [ev.event(ev.NO, ev.NOTEON, 4), ev.event(ev.NO, ev.NOTEOFF)]), 9000)
  with pytest.raises(ValueError, match='no rhythm'):
    tasks.rhythm(tracker, drums)
