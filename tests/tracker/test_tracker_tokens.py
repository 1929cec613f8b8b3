"""Tokens of the format tracker: literal ones, round trips, any ids at all."""

import numpy as np
import pytest

from experiments.benchmarks import meter_songs
from lakhnes_jax import events as ev
from lakhnes_jax import meter
from lakhnes_jax.data import augment, shards
from lakhnes_jax.tracker import frames, pattern, store
from lakhnes_jax.tracker import vocabulary as voc

FRAME = frames.FRAME


def played(song: np.ndarray) -> np.ndarray:
  """[T, 4, 3]: what sounds in the middle of each frame, from the first note."""
  times = ev.times_of(song)
  on = times[ev.kind_of(song) == ev.NOTEON]
  if not len(on):
    return np.zeros((0, 4, 3), np.uint8)
  first = np.floor(on[0] / FRAME + .1)
  n = int(times[-1] / FRAME - first) + 1
  return frames.at(song, FRAME * (first + np.arange(n) + .5))


def same_notes(a: np.ndarray, b: np.ndarray) -> float:
  """Share of frames in which all voices play the same pitches."""
  a, b = played(a), played(b)
  size = max(len(a), len(b), 1)
  notes = np.zeros((2, size, 4))
  notes[0, :len(a)], notes[1, :len(b)] = a[..., 0], b[..., 0]
  return float((notes[0] == notes[1]).all(-1).mean())


def song_of(entries, frames_long: int) -> np.ndarray:
  """A song from (frame, voice, kind, value), a little into each frame."""
  entries = sorted(entries, key=lambda e: (e[0], e[1]))
  return ev.from_times([round(f * FRAME) + 20 for f, *_ in entries],
                       np.array([ev.event(*e) for _, *e in entries], np.int32),
                       round(frames_long * FRAME) + 20)


def melody(rng, n=60, row=6, voices=(0, 1, 2, 3), jitter=0):
  """Notes of random lengths on rows, with envelopes that fall."""
  entries = []
  for voice in voices:
    pitches = ev.VOICES[voice].pitches
    frame = 0
    for _ in range(n):
      length = row * int(rng.integers(1, 5))
      start = frame + int(rng.integers(0, jitter + 1))
      end = frame + length - int(rng.integers(0, 3))
      entries.append((start, voice, ev.NOTEON, int(rng.choice(pitches))))
      if voice != ev.TR:
        level = int(rng.integers(3, 16))
        for f in range(start, end):
          if level >= 1 and (f - start) % 2 == 0:
            entries.append((f, voice, ev.VELOCITY, level))
            level = max(1, level - 1)
        if rng.random() < .1:
          entries.append((start, voice, ev.TIMBRE, int(rng.integers(
              len(ev.VOICES[voice].timbres)))))
      entries.append((end, voice, ev.NOTEOFF, 0))
      frame += length
  return song_of(entries, max(e[0] for e in entries) + 1)


def test_tokens_of_a_bar(tracker):
  """Two rows written down by hand, and what they sound like."""
  made = pattern.Pattern(
      frame=np.array([0, 0, 9, 12]), voice=np.array([0, 2, 3, 0]),
      pitch=np.array([60, 48, 13, 64]),
      macro=np.array([[14, 2, 0], [0, 0, 0], [0, 0, 0], [14, 2, 0]]),
      gate=np.array([5, 24, 2, 5]), stays=np.array([5, 24, 2, 5]),
      row_frames=np.arange(0, 103, 6), bar_rows=16, phase=0, size=24)
  ids = tracker.write(made)
  assert [tracker.tokens[i] for i in ids] == [
      'LENGTH_0', 'DENSITY_7', 'VOICES_13', 'BAR_16', 'TEMPO_6',
      'AT_0', 'P1_NOTE_60', 'PU_LEVEL_14', 'PU_TONE_2', 'GATE_5',
      'TR_NOTE_48', 'GATE_24',
      'AT_1', 'DELAY_3', 'NO_NOTE_13', 'GATE_2',
      'AT_2', 'P1_NOTE_64']
  song, token = tracker.decode_with_tokens(ids)
  wait = [round(FRAME * f) for f in (0, 5, 9, 11, 12, 17, 24)]
  assert ev.to_text(song).split('\n') == [
      'P1_NOTEON_60', 'P1_VELOCITY_15', 'P1_TIMBRE_2', 'TR_NOTEON_48',
      f'WT_{wait[1]}', 'P1_NOTEOFF', f'WT_{wait[2] - wait[1]}',
      'NO_NOTEON_13', 'NO_VELOCITY_1', f'WT_{wait[3] - wait[2]}',
      'NO_NOTEOFF', f'WT_{wait[4] - wait[3]}',
      'P1_NOTEON_64', 'P1_VELOCITY_15', f'WT_{wait[5] - wait[4]}',
      'P1_NOTEOFF', f'WT_{wait[6] - wait[5]}', 'TR_NOTEOFF']
  assert [tracker.tokens[ids[t]] for t in token if t >= 0] == [
      *['P1_NOTE_60'] * 3, 'TR_NOTE_48', 'P1_NOTE_60', 'NO_NOTE_13',
      'NO_NOTE_13', 'NO_NOTE_13', 'P1_NOTE_64', 'P1_NOTE_64', 'P1_NOTE_64',
      'TR_NOTE_48']


@pytest.mark.parametrize('jitter', [0, 3])
@pytest.mark.parametrize('seed', range(4))
def test_composed_music_comes_back_to_the_frame(tracker, seed, jitter):
  song = melody(np.random.default_rng(seed), jitter=jitter)
  ids = tracker.encode(song)
  back = tracker.decode(ids)
  assert same_notes(song, back) == 1
  a, b = played(song), played(back)
  size = min(len(a), len(b))
  off = np.abs(a[:size, :, 1].astype(int) - b[:size, :, 1])
  assert off[a[:size, :, 0] > 0].mean() < 1  # Of 15 levels.


def test_notes_on_rows_need_few_tokens(tracker):
  song = melody(np.random.default_rng(7), n=80, voices=(2,))
  kind = tracker.table.kind[tracker.encode(song)]
  assert (kind == voc.NOTE).sum() == (ev.kind_of(song) == ev.NOTEON).sum()
  assert (kind == voc.DELAY).sum() == 0
  assert len(kind) < 3.5 * 80


def test_bars_are_those_that_the_shipped_weights_learned_from(tracker):
  """A waltz that they know as four beats, whatever the meter has learned."""
  song = meter_songs.make(100, 49).events
  assert tracker.parse(song).bar_rows == 16
  assert meter.analyze(song).rows_per_bar == 12


def test_real_songs_come_back_to_the_frame(tracker, real_songs):
  tokens = tx1 = 0
  for song in real_songs[:12]:
    made = pattern.from_song(song, tracker.codebook)
    back = tracker.decode(tracker.write(made))
    state = pattern.render(made.frame, made.voice, made.pitch, made.macro,
                           np.maximum(made.gate, 0), tracker.codebook)[0]
    # To the song's own frames, as the meter found them.
    again = frames.at(back, FRAME * (np.arange(len(state)) + .5))
    np.testing.assert_array_equal(state, again)
    tokens += len(tracker.write(made))
    tx1 += len(ev.TX1.project(song))
  assert tokens < .65 * tx1


def test_songs_without_dynamics_can_be_written(tracker):
  song = ev.TX1.project(melody(np.random.default_rng(3)))
  back = tracker.decode(tracker.encode(song))
  assert same_notes(song, back) == 1
  levels = played(back)[..., :2, 1]
  assert set(np.unique(levels)) <= {0, 15}


@pytest.mark.parametrize('seed', range(8))
def test_any_ids_give_a_legal_song(tracker, seed):
  rng = np.random.default_rng(seed)
  ids = rng.integers(0, tracker.size, int(rng.integers(0, 1200)))
  song, token = tracker.decode_with_tokens(ids)
  assert song.dtype == np.int32 and len(token) == len(song)
  assert (np.diff(token[token >= 0]) is not None) and token.max(
      initial=-1) < len(ids)
  ev.TX2.encode(song)  # Raises for what is no event.
  assert same_notes(song, tracker.decode(tracker.encode(song))) == 1


def test_ids_outside_the_vocabulary_are_named(tracker):
  with pytest.raises(ValueError, match=f'outside 0 .. {tracker.size - 1}'):
    tracker.decode(np.array([tracker.size]))


def test_augmentation_moves_notes_alone(tracker):
  song = melody(np.random.default_rng(5), voices=(0, 2, 3))
  plain = tracker.pattern(song)
  moved = pattern.change(plain, (0, 2, 3), True, 5)
  np.testing.assert_array_equal(np.sort(plain.frame), np.sort(moved.frame))
  assert set(moved.voice.tolist()) == {1, 2, 3}
  noise = plain.voice == ev.NO
  np.testing.assert_array_equal(plain.pitch[noise],
                                moved.pitch[moved.voice == ev.NO])
  triangle = plain.pitch[plain.voice == ev.TR]
  shifted = moved.pitch[moved.voice == ev.TR]
  assert (((shifted - triangle) % 12 == 5) | (triangle == 0)).all()
  assert shifted.max() <= ev.VOICES[ev.TR].pitches[-1]
  with pytest.raises(ValueError, match='it takes trim'):
    tracker.encode_augmented(
        song, augment.Augmentation(stretch=True), np.random.default_rng(0))


def test_patterns_on_disk_are_those_of_parsing(tracker, tmp_path):
  song = melody(np.random.default_rng(9), n=20)
  corpus = shards.write_split(tmp_path, 'train', [('a', song)])
  made = tracker.parse(song)
  path = store.path_of(tmp_path, 'train')
  store.write(path, tracker.version, [(store.digest(song), made)])
  found = store.read(path, tracker.version)[store.digest(corpus.song(0))]
  for was, is_now in zip(made, found, strict=True):
    np.testing.assert_array_equal(was, is_now)
  assert store.read(path, 'another') == {}
  path.write_bytes(path.read_bytes()[:-40])
  with pytest.raises(ValueError, match='damaged'):
    store.read(path, tracker.version)
