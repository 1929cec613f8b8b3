"""Trained models to sample from."""

import dataclasses
import os
from typing import Any

import jax

from lakhnes_jax import vocabularies
from lakhnes_jax.generation import sample
from lakhnes_jax.weights import weights_folder

_MEM_LEN = 512  # Of models of which it is not known; the paper's.


def load(path: str | os.PathLike, *, dtype: str | None = None,
         mem_len: int | None = None, form: str | None = None) -> sample.Model:
  """Loads a model.

  Args:
    path: of a weights folder (or its URL) or a run directory.
    dtype: to compute in; None for that of training, but float32 on CPUs.
    mem_len: tokens that it sees; None for as many as the weights say: where
      `export --mem_len` said nothing, as in training.
    form: name of the vocabulary that it must have; None for any.

  Raises:
    OSError, ValueError: as `weights_folder.load`; or it is of another format.
  """
  model, params, meta = weights_folder.load(path)
  vocabulary = vocabulary_of(meta, path, form)
  if dtype is None and jax.default_backend() == 'cpu':
    dtype = 'float32'  # One row of bfloat16 is slow there.
  if dtype is not None:
    model = dataclasses.replace(
        model, config=dataclasses.replace(model.config, dtype=dtype))
  if mem_len is None:
    mem_len = meta.get('mem_len', _MEM_LEN)
  return sample.Model(model, params, vocabulary, mem_len, meta.get('critic'))


def vocabulary_of(meta: dict[str, Any], path: str | os.PathLike,
                  form: str | None = None) -> Any:
  """Returns the vocabulary of a model (see `lakhnes_jax.vocabularies`).

  Args:
    meta: of its weights.
    path: where they are from, for messages.
    form: name of the vocabulary that it must have; None for any.

  Raises:
    ValueError: it has another one, or an unknown one.
  """
  name, size = meta['format'], meta['config'].get('n_token')
  vocabulary = vocabularies.get(name) if name in vocabularies.NAMES else None
  if vocabulary is None or vocabulary.size != size:
    raise ValueError(
        f'{path}: the model has {size} tokens of format {name[:40]!r}; known '
        'are ' +
        ' and '.join(f'{v.name} with {v.size}'
                     for v in map(vocabularies.get, vocabularies.NAMES)) +
        '. It was made with another vocabulary and cannot be used here')
  if form and form != name:
    raise ValueError(f'--format={form}, but the model was trained on {name} '
                     f'({path}); leave --format out, or take another model')
  return vocabulary
