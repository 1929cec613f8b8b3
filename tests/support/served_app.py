"""The app with a model that takes no time, served in a thread."""

import asyncio
import http.client
import itertools
import json
import socket
import threading
import time
import urllib.parse
from typing import NamedTuple

import jax
import numpy as np
import uvicorn

import lakhnes_jax
from lakhnes_jax import events as ev
from lakhnes_jax import ranges, vocabularies
from lakhnes_jax.app import server
from lakhnes_jax.generation import sample
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

  def _sample(self, task, n, name, *, seed, temperature, progress, **draws):
    ranges.check(temperature=temperature)
    for tokens in itertools.count(1):
      progress(tokens, 900)
      time.sleep(.01)
      if tokens > 9 and seed != 999:
        break
    return [lakhnes_jax.Song(TUNE, '000', {
        **task.metadata, 'seed': seed, 'n_given': 12})]


class Answer(NamedTuple):
  """What the app answers; `headers` are by their names in lower case."""
  status: int
  headers: dict[str, str]
  body: bytes


class Called:
  """An app that is called as an HTTP server calls it, without one."""

  def __init__(self, model, out):
    self.out = out
    self.app = server.create(model, out)
    self._loop = asyncio.new_event_loop()
    self._lifespan = self.app.router.lifespan_context(self.app)
    self._loop.run_until_complete(self._lifespan.__aenter__())

  def close(self):
    self._loop.run_until_complete(self._lifespan.__aexit__(None, None, None))
    self._loop.run_until_complete(self._loop.shutdown_default_executor())
    self._loop.close()

  def ask(self, method: str, target: bytes, headers=(), pieces=(b'',), *,
          breaks_off: bool = False) -> Answer:
    """Sends a request.

    Args:
      method: as the server passes it on.
      target: of the request line, in ASCII.
      headers: (name in lower case, value) pairs, bytes.
      pieces: of the body, as they come.
      breaks_off: the client hangs up instead of sending the last piece.

    Returns:
      the answer, of which all parts came, in order; not so if it breaks off.
    """
    raw_path, _, query = target.partition(b'?')
    scope = {
        'type': 'http', 'asgi': {'version': '3.0'}, 'http_version': '1.1',
        'server': ('127.0.0.1', 8000), 'client': ('127.0.0.1', 5),
        'scheme': 'http', 'method': method, 'root_path': '',
        'path': urllib.parse.unquote(raw_path.decode('ascii')),
        'raw_path': raw_path, 'query_string': query, 'headers': [*headers]}
    coming = [{'type': 'http.request', 'body': piece,
               'more_body': i + 1 < len(pieces)}
              for i, piece in enumerate(pieces)]
    if breaks_off:
      coming[-1] = {'type': 'http.disconnect'}
    sent = []

    async def receive():
      while not coming and not breaks_off:
        await asyncio.sleep(3600)  # The client waits for the answer.
      return coming.pop(0) if len(coming) > breaks_off else coming[0]

    async def send(message):
      sent.append(message)

    self._loop.run_until_complete(self.app(scope, receive, send))
    start, *parts = sent
    assert start['type'] == 'http.response.start', sent
    assert all(part['type'] == 'http.response.body' for part in parts), sent
    assert breaks_off or [part.get('more_body', False) for part in parts] == (
        [True] * (len(parts) - 1) + [False]), sent
    return Answer(
        start['status'], {name.decode('latin-1'): value.decode('latin-1')
                          for name, value in start['headers']},
        b''.join(part.get('body', b'') for part in parts))


class Served:
  """An app that is served by a thread, and requests to it."""

  def __init__(self, model, out):
    self.model, self.out = model, out
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
