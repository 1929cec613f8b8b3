"""Sampled songs are those of a plain loop over the model."""

import jax
import numpy as np

from lakhnes_jax import events, model, sample, sampling

CONFIG = model.ModelConfig(n_token=631, n_layer=1, n_head=2, d_model=8,
                           d_head=4, d_inner=16)


def test_songs_equal_a_loop_over_the_model():
  # Larger than the initial ones, so that what was read matters.
  params = jax.tree.map(lambda x: np.asarray(20 * x), model.init_params(
      CONFIG, jax.random.key(1)))
  songs = sample.songs(CONFIG, params, events.TX1, 2, length=9, mem_len=4,
                       temperature=.9, top_k=40, seed=3)
  apply = jax.jit(model.apply, static_argnums=1)
  for number, song in enumerate(songs):
    key = jax.random.fold_in(jax.random.key(3), number)
    memory, token, ids = model.empty_memory(CONFIG, 1, 4), events.START, []
    for i in range(9):
      logits, memory = apply(params, CONFIG, np.full((1, 1), token, np.int32),
                             memory)
      token = int(jax.random.categorical(
          jax.random.fold_in(key, i),
          sampling.restrict(logits[0], temperature=.9, top_k=40)[0]))
      ids.append(token)
    np.testing.assert_array_equal(song, events.TX1.decode(np.array(ids)))


def test_a_song_without_time_has_no_audio_and_stops_nothing(tmp_path, capsys):
  note = np.array([events.event(events.P1, events.NOTEON, 60)], np.int32)
  waits = np.array([*note, 4000], np.int32)
  sample.write([note, waits], tmp_path, events.TX1)
  assert 'no length' in capsys.readouterr().err
  assert sorted(path.name for path in tmp_path.iterdir()) == [
      '000.mid', '000.tx1.txt', '001.mid', '001.png', '001.tx1.txt', '001.wav']
