"""The app with a model that takes no time, served in a thread."""

import http.client
import itertools
import json
import socket
import threading
import time

import jax
import numpy as np
import uvicorn

import lakhnes_jax
from lakhnes_jax import events as ev
from lakhnes_jax import vocabularies
from lakhnes_jax.app import server
from lakhnes_jax.generation import sample, sampling
from lakhnes_jax.model import transformer_xl
from lakhnes_jax.model.language_model import LanguageModel

TUNE = np.tile(ev.from_text('\n'.join([
    'P1_NOTEON_60', 'TR_NOTEON_40', 'WT_11025', 'P1_NOTEON_64', 'WT_11025',
    'TR_NOTEOFF', 'NO_NOTEON_3', 'WT_11025'])), 8)


def tiny_model(form: str) -> lakhnes_jax.Model:
  """A tiny model that knows nothing."""
  vocabulary = vocabularies.get(form)
  language = LanguageModel(transformer_xl.ModelConfig(
      n_token=vocabulary.size, n_layer=1, n_head=1, d_model=16, d_head=8,
      d_inner=16))
  params = language.init_params(jax.random.key(0))
  if form == 'tx1':
    params['output_bias'] -= 1e3 * (ev.TX1.wait > 99)  # Much in little time.
  return lakhnes_jax.Model(sample.Model(language, jax.tree.map(
      np.asarray, params), vocabulary, 16))


class Quick(lakhnes_jax.Model):
  """Takes tasks as a model does, and has a song for all; never ends 999."""

  def _sample(self, task, n, name, *, seed, temperature, progress):
    sampling.check(temperature, 0, 1.)
    for tokens in itertools.count(1):
      progress(tokens, 900)
      time.sleep(.01)
      if tokens > 9 and seed != 999:
        break
    return [lakhnes_jax.Song(TUNE, '000', {
        **task.metadata, 'seed': seed, 'n_given': 12})]


class Served:
  """An app that is served by a thread, and requests to it."""

  def __init__(self, model, out):
    self.out = out
    self.app = server.create(model, out)
    self._socket = socket.create_server(('127.0.0.1', 0))
    self.port = self._socket.getsockname()[1]
    self.url = f'http://127.0.0.1:{self.port}'
    self._server = uvicorn.Server(uvicorn.Config(
        self.app, log_level='warning', ws='none'))
    self._thread = threading.Thread(
        target=self._server.run, kwargs={'sockets': [self._socket]})
    self._thread.start()

  def close(self):
    self._server.should_exit = True
    self._thread.join()
    self._socket.close()

  def ask(self, method, path, body=None, **headers):
    """Returns (status, body)."""
    connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=60)
    try:
      connection.request(method, path, body, {
          name.replace('_', '-'): value for name, value in headers.items()})
      answer = connection.getresponse()
      return answer.status, answer.read()
    finally:
      connection.close()

  def wait(self, number):
    """Waits for a song; returns what the page shows of it."""
    end = time.monotonic() + 300
    while time.monotonic() < end:
      job, = (job for job in json.loads(self.ask('GET', '/songs')[1])
              if job['number'] == number)
      if job['state'] in ('done', 'failed'):
        return job
      time.sleep(.05)
    raise TimeoutError(job)
