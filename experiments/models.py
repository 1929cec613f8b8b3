"""Models, settings and data as the flags of `experiments.run` ask for them."""

import dataclasses
import os
from typing import Any, NamedTuple

from experiments import options
from experiments.baselines import lstm
from experiments.options import FLAGS
from lakhnes_jax import events
from lakhnes_jax.data import shards
from lakhnes_jax.generation import load as load_lib
from lakhnes_jax.generation import sample
from lakhnes_jax.model import language_model
from lakhnes_jax.training import evaluate
from lakhnes_jax.weights import weights_folder


def from_flags(kind: type, prefix: str = '', **values: Any) -> Any:
  """Makes a dataclass whose fields are flags of the same names.

  Args:
    kind: the dataclass.
    prefix: of the names of its flags, where one is so called.
    values: of fields that are no flags.
  """
  for field in dataclasses.fields(kind):
    for name in (prefix + field.name, field.name):
      if name in options.names():
        values.setdefault(field.name, FLAGS[name].value)
  return kind(**values)


def architecture() -> type[language_model.SequenceModel]:
  """Returns the class of --model."""
  return {'txl': language_model.LanguageModel,
          'lstm': lstm.LstmModel}[FLAGS.model]


def make(vocabulary: events.Vocabulary) -> language_model.SequenceModel:
  """Makes the model that the flags describe."""
  kind = architecture()
  return kind.from_dict({'n_token': vocabulary.size, **{
      name: FLAGS[name].value for name in kind.SETTINGS & options.names()}},
                        vocabulary)


def check_can_sample(flag: str) -> None:
  """Raises a ValueError that names a flag where --model cannot be sampled."""
  if FLAGS.model != 'txl':
    raise ValueError(f'--{flag}: only a Transformer-XL can be sampled')


def corpus(split: str) -> shards.Corpus:
  """Returns a split of --data_dir."""
  return shards.Corpus(options.require(
      'data_dir', 'a folder of shards; python -m data_prep.nesmdb makes one'),
      split)


def evaluation() -> evaluate.EvalConfig:
  """Returns how to evaluate."""
  config = from_flags(evaluate.EvalConfig, 'eval_')
  if config.mem_len is not None:
    return config
  return dataclasses.replace(config, mem_len=max(
      0, FLAGS.mem_len + FLAGS.tgt_len - config.tgt_len))


class Loaded(NamedTuple):
  """A trained model.

  Attributes:
    model: a `language_model.SequenceModel`.
    params: its parameters.
    vocabulary: of its tokens.
    meta: what else is known, see `weights_folder.save`.
  """
  model: Any
  params: Any
  vocabulary: events.Vocabulary
  meta: dict[str, Any]


def load() -> Loaded:
  """Loads --weights, or the best checkpoint of --workdir.

  Without either it is the pretrained model of the package. --dtype, where it
  is given, replaces the one of training.

  Raises:
    OSError, ValueError: as `weights_folder.load`; or it is not of --format.
  """
  model, params, meta = weights_folder.load(_source(), architecture())
  vocabulary = load_lib.vocabulary_of(meta, _source(), options.given('format'))
  if options.given('dtype'):
    model = dataclasses.replace(model, config=dataclasses.replace(
        model.config, dtype=FLAGS.dtype))
  return Loaded(model, params, vocabulary, meta)


def load_to_sample() -> sample.Model:
  """Loads a model as `load` does; in float32 on CPUs unless --dtype is given.
  """
  return load_lib.load(
      _source(), dtype=options.given('dtype'), mem_len=options.given('mem_len'),
      form=options.given('format'))


def _source() -> str | os.PathLike:
  return FLAGS.init_from or FLAGS.workdir or weights_folder.PRETRAINED
