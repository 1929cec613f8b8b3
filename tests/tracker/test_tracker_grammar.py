"""What a model may write in the format tracker, with one that knows nothing."""

import dataclasses

import numpy as np
import pytest

from lakhnes_jax import events as ev
from lakhnes_jax.generation import sample, tasks
from lakhnes_jax.tracker import instruments as ins
from lakhnes_jax.tracker import vocabulary as voc

ASKED = {voc.TEMPO: 7 * voc.PARTS, voc.VOICES: 0b1101, voc.BAR: 12}


def _ids(model, task, n):
  """The token ids that a model wrote for each of n songs, and the songs."""
  written = []
  kept = dataclasses.replace(task, assemble=lambda ids: (
      written.append(ids), task.assemble(ids))[1])
  songs = list(sample.generate(model, [kept], sample.SamplingConfig(
      temperature=1., top_k=0, seed=3), n=n))
  return written, songs


def test_songs_keep_the_rules(tracker, model):
  task = tasks.new_song(tracker, tasks.Limits(300, None, True), asked=ASKED)
  written, songs = _ids(model, task, 3)
  for ids, song in zip(written, songs, strict=True):
    kind, voice, value = (x[ids] for x in tracker.table)
    assert kind[:6].tolist() == [voc.LENGTH, voc.DENSITY, voc.VOICES, voc.BAR,
                                 voc.TEMPO, voc.AT]
    for asked, wanted in ASKED.items():
      assert value[:6][kind[:6] == asked] == wanted
    assert set(voice[kind == voc.NOTE]) <= {ev.P1, ev.TR, ev.NO}
    assert (value[kind == voc.AT] < 12).all()
    last, order, note, on = None, (0, -1), None, set()
    for k, v, x in zip(kind[5:].tolist(), voice[5:].tolist(),
                       value[5:].tolist(), strict=True):
      if k in (voc.AT, voc.SKIP):
        assert last is None or last >= voc.NOTE or last == voc.SKIP
        order = (0, -1)
      elif k == voc.DELAY:
        assert x > order[0]
        order = (x, -1)
      elif k in (voc.NOTE, voc.OFF):
        assert v > order[1]
        order = (order[0], v)
        assert k == voc.NOTE or v in on
        (on.add if k == voc.NOTE else on.discard)(v)
      elif k >= voc.LEVEL:
        assert note is not None and last < k
        assert k == voc.GATE or v == ins.KIND_OF_VOICE[note]
      note = v if k == voc.NOTE else note if k >= voc.LEVEL else None
      last = k
    assert song.metadata['asked'] == {'tempo': 112, 'voices': 13, 'bar': 12}
    chip = song.events < 0
    assert np.isfinite(song.nll[chip]).all() and np.isnan(
        song.nll[~chip]).all()


def test_songs_end_after_so_many_seconds(tracker, model):
  task = tasks.new_song(tracker, tasks.Limits(2000, 2., False), asked={
      voc.TEMPO: 20 * voc.PARTS})
  _, songs = _ids(model, task, 2)
  for song in songs:
    assert ev.times_of(song.events)[-1] == 2 * ev.SAMPLE_RATE


def test_a_song_of_so_many_seconds_is_written_as_one_that_lasts(tracker, model):
  task = tasks.new_song(tracker, tasks.Limits(20, 40., False))
  lengths = [tracker.tokens[ids[0]] for ids in _ids(model, task, 8)[0]]
  # From 30 to 45 seconds, or longer.
  assert set(lengths) <= {f'LENGTH_{i}' for i in range(5, 11)}
  assert len(set(lengths)) > 1


def test_what_has_no_token_is_named(tracker):
  with pytest.raises(ValueError, match='TEMPO_7 is no token'):
    tasks.new_song(tracker, asked={voc.TEMPO: 7})
  with pytest.raises(ValueError, match='tx1 cannot be asked'):
    tasks.new_song(ev.TX1, asked={voc.TEMPO: 112})
