"""The format tracker, and a model of it that knows nothing."""

import jax
import numpy as np
import pytest

from lakhnes_jax import vocabularies
from lakhnes_jax.generation import sample
from lakhnes_jax.model import transformer_xl
from lakhnes_jax.model.language_model import LanguageModel


@pytest.fixture(scope='session')
def tracker():
  return vocabularies.get('tracker')


@pytest.fixture(scope='session')
def model(tracker) -> sample.Model:
  language = LanguageModel(transformer_xl.ModelConfig(
      n_token=tracker.size, n_layer=1, n_head=1, d_model=16, d_head=8,
      d_inner=16))
  return sample.Model(language, jax.tree.map(np.asarray, language.init_params(
      jax.random.key(0))), tracker, 16)
