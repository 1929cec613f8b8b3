"""New songs from a model, and the files that are made of each."""

import functools
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from lakhnes_jax import decode, events, files, metrics, plot, render


def songs(config, params, vocabulary: events.Vocabulary, n: int, *,
          length: int = 1024, mem_len: int = 512, temperature: float = 0.95,
          top_k: int = 32, seed: int = 0) -> list[np.ndarray]:
  """Samples `n` songs of `length` events, from <S> and an empty memory.

  Args:
    config: of the model, a `ModelConfig`.
    params: its parameters.
    vocabulary: its vocabulary.
    n: songs; song i of a seed is the same whatever `n`.
    length: events a song; <S> is never drawn.
    mem_len: events before the newest that it may see.
    temperature: divides the logits; 0 always takes the likeliest event.
    top_k: only the likeliest so many events are drawn; 0 means all.
    seed: of the draws.

  Returns:
    n songs, int32 event arrays.

  Raises:
    ValueError: n or length is below 1, or the model has another vocabulary.
  """
  if n < 1 or length < 1:
    raise ValueError(f'{n} songs of {length} events: need at least 1')
  if config.n_token != vocabulary.size:
    raise ValueError(f'the model has {config.n_token} tokens, vocabulary '
                     f'{vocabulary.name} has {vocabulary.size}')
  keys = jax.vmap(functools.partial(jax.random.fold_in, jax.random.key(seed)))(
      jnp.arange(n))
  params = decode.prepare(params, config)
  logits_BxLxV, cache = decode.prefill(
      params, config, decode.init_cache(config, params, n, mem_len),
      jnp.full((n, 1), events.START))
  ids, *_ = decode.generate(
      params, config, cache, logits_BxLxV[:, -1], keys, length,
      temperature=temperature, top_k=top_k)
  return [vocabulary.decode(row) for row in ids]


def write(new_songs: list[np.ndarray], out_dir: str | os.PathLike,
          vocabulary: events.Vocabulary) -> None:
  """Writes text, MIDI, WAV and a piano roll of each song.

  A line says what cannot be made: audio of a song without any wait, piano
  rolls without matplotlib.
  """
  out_dir = pathlib.Path(out_dir)
  for number, song in enumerate(new_songs):
    path = out_dir / f'{number:03}'
    files.write_song(f'{path}.{vocabulary.name}.txt', song)
    files.write_song(f'{path}.mid', song)
    try:
      audio, = render.render_events([song])
      render.write_audio(f'{path}.wav', audio)
      plot.piano_roll(song, f'{path}.png')
    except (ValueError, ImportError) as error:
      metrics.report(f'{path}: {error}')
