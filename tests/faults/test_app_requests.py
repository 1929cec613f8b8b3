"""What comes to the app's port made worse: an answer below 500, and it goes on.

What is asked of a model is what was sent.
"""

import json
import socket

import numpy as np
import pytest

from lakhnes_jax.app import request
from support import json_edges, mutations
from support.served_app import TUNE, Quick, Served, tiny_model

pytestmark = pytest.mark.faults
GOOD = {
    'new': {'task': 'new', 'seconds': 1, 'temperature': .9, 'seed': 3,
            'tempo': 120, 'density': 5., 'voices': ['p1', 'tr'],
            'song_length': 60},
    'continue': {'task': 'continue', 'prompt': 1, 'prompt_seconds': 2,
                 'seconds': 1, 'temperature': 1, 'seed': 3},
    'voices': {'task': 'voices', 'prompt': 1, 'given_voices': ['p1'],
               'seconds': 1, 'temperature': 1, 'seed': 3}}
CONTROLS = 'tempo', 'density', 'voices', 'song_length'
_PATHS = ['/', '/songs', '/songs/1', '/songs/1/keep', '/songs/1/song-001.mid',
          '/songs/%31', '/songs/-1', '/songs/1e3', '/songs/' + '9' * 5000,
          '/songs/' + '9' * 25, '/songs/1/../../etc/passwd', '/songs/1/%00',
          '/songs/1/%ff', '/songs//', '//', '/app.js', '/app.js/x', '/%2e%2e',
          '/prompts', '/prompts?name=a.mid', '/prompts?name=%00.mid', '*',
          '/prompts?name=' + 'x' * 5000 + '.mid', '/prompts?name=a.mid&name=b',
          '/prompts?name=%ff%fe.vgm', '/prompts?name=a.nlm.pkl', '/prompts?%',
          '/prompts?name=a.famitracker.txt', '/é', 'http://evil/songs', '']
_METHODS = ['GET', 'POST', 'DELETE', 'PUT', 'PATCH', 'HEAD', 'OPTIONS', 'TRACE',
            'get', 'X' * 300, 'GE T', '\0', 'CONNECT']
_HEADERS = [b'', b'Content-Length: -1\r\n', b'Content-Length: 1e3\r\n',
            b'Content-Length: 5\r\nContent-Length: 6\r\n',
            b'Range: bytes=9-1\r\n',
            b'Range: bytes=0-' + b'9' * 300 + b'\r\n', b'Range: x\r\n',
            b'Transfer-Encoding: chunked\r\n', b'Expect: 100-continue\r\n',
            b'Content-Type: multipart/form-data\r\n',
            b'Content-Type: multipart/form-data; boundary=x\r\n',
            b'Content-Encoding: gzip\r\n', b'X: \xff\xfe\r\n', b'no header\r\n',
            b'Origin: \xff\r\n', b'X: ' + b'x' * 10**5 + b'\r\n',
            b'Content-Length: ' + b'9' * 5000 + b'\r\n', b'Upgrade: x\r\n',
            b'Upgrade: websocket\r\nConnection: Upgrade\r\n']
_MULTIPART = (b'--x\r\nContent-Disposition: form-data; name="file"; '
              b'filename="a.mid"\r\n\r\nMThd\r\n--x--\r\n')


@pytest.fixture(scope='module', params=['tx1', 'tracker'])
def served(request, tmp_path_factory):
  app = Served(Quick(tiny_model(request.param).sampled),
               tmp_path_factory.mktemp('app') / 'kept')
  yield app
  app.close()


def _body(rng, tmp_path, model) -> bytes:
  good = GOOD[str(rng.choice(sorted(GOOD)))]
  edge = json_edges.Edge(tmp_path / 'body', {
      name: value for name, value in good.items()
      if name not in CONTROLS or name in model.controls}, lambda: None)
  edge.write(rng)
  return edge.path.read_bytes()


@pytest.mark.parametrize('form', ['tx1', 'tracker'])
def test_values_of_requests(tmp_path, n_faults, form):
  model, asked, refused = tiny_model(form), 0, 0
  for number in range(30 * n_faults):
    body = _body(np.random.default_rng(number), tmp_path, model)
    try:
      found = request.parse(body, model, {1: TUNE}.__getitem__)
    except KeyError:
      assert json.loads(body)['prompt'] != 1, number
      refused += 1
      continue
    except ValueError as error:
      reason = str(error)
      assert not isinstance(error, UnicodeError), (number, error)
      assert '\n' not in reason and len(reason) < 500, (number, reason)
      reason.encode()  # As it is sent.
      refused += 1
      continue
    sent = json.loads(body)
    assert found.task == sent['task'], number
    assert (found.song is None) == (found.task == 'new'), number
    for name, value in found.options.items():
      name = 'given_voices' if (found.task, name) == (
          'voices', 'voices') else name
      if name in sent:
        assert value == sent[name] and type(value) is type(sent[name]), number
      else:
        assert name in ('seed', 'given_voices'), (number, name)
    asked += 1
  assert refused > asked > 0, (refused, asked)


def test_mutated_requests(served, midi, tmp_path, n_faults, capsys):
  """Bodies for the queue, and files to upload."""
  assert served.ask('POST', '/prompts?name=a.mid', midi)[0] == 200
  statuses = set()
  for number in range(8 * n_faults):
    rng = np.random.default_rng(number)
    if number % 3:
      status, answer = served.ask('POST', '/songs', _body(
          rng, tmp_path, served.model))
      if status == 201:
        song = json.loads(answer)['number']
        assert served.ask('GET', '/songs')[0] == 200, number
        if number % 5 == 0:
          assert served.wait(song)['state'] in ('done', 'failed')
          assert served.ask('GET', '/songs')[0] == 200, number
        assert served.ask('DELETE', f'/songs/{song}')[0] == 200, number
    else:
      mutator = (*mutations.ANY, *mutations.MIDI)[
          int(rng.integers(len(mutations.ANY) + len(mutations.MIDI)))]
      data = mutator(bytearray(midi), rng, [midi])
      ending = rng.choice(['mid', 'MID', 'vgm', 'tx1.txt', 'nlm.pkl', 'nsf',
                           'exprsco.pkl', 'ndf.txt', 'wav', ''])
      status, answer = served.ask(
          'POST', f'/prompts?name=%ff{number}.{ending}', bytes(data))
      assert b'/tmp' not in answer, (number, answer)
    statuses.add(status)
    assert status in (200, 201, 400, 404, 413), (number, status, answer)
    if status >= 400:
      assert answer and b'\n' not in answer and len(answer) < 600, number
  assert {201, 400} <= statuses
  assert served.ask('GET', '/songs')[0] == 200
  assert 'Traceback' not in capsys.readouterr().err


def _raw(served, data: bytes) -> bytes:
  """Sends bytes; returns the first line of the answer, if one comes."""
  with socket.create_connection(('127.0.0.1', served.port), timeout=.5) as peer:
    try:
      peer.sendall(data)
      found = peer.recv(2000)
    except (ConnectionError, TimeoutError):  # It had enough, or waits for more.
      return b''
  return found.partition(b'\r\n')[0]


def test_anything_on_the_port(served, midi, n_faults, capsys, caplog):
  """Methods, paths and headers that no browser sends; multipart; noise."""
  answers = set()
  for number in range(20 * n_faults):
    rng = np.random.default_rng(number)
    pick = lambda of: of[int(rng.integers(len(of)))]  # noqa: B023, E731
    body = (b'', b'{', json.dumps(GOOD['continue']).encode(), midi, _MULTIPART,
            b'5\r\nabc', b'\0' * 1000)[int(rng.integers(7))]
    length = b'' if rng.integers(3) == 0 else b'Content-Length: %d\r\n' % (
        len(body) + int(rng.choice((0, 0, 0, -1, 7))))
    data = b''.join([
        pick(_METHODS[:3] if rng.integers(2) else _METHODS).encode(), b' ',
        pick(_PATHS).encode(), b' HTTP/1.1\r\n',
        f'Host: 127.0.0.1:{served.port}\r\n'.encode() if rng.integers(
            9) else b'', length, pick(_HEADERS) if rng.integers(2) else b'',
        b'\r\n', body])
    if rng.integers(5) == 0:
      mutator = pick(mutations.ANY)
      data = bytes(mutator(bytearray(data), rng, [data]))
    line = _raw(served, data)
    answers.add(line[9:12])
    assert not line or line[9:10] in (b'1', b'2', b'3', b'4'), (
        number, line, data[:300])
    status, jobs = served.ask('GET', '/songs')
    assert status == 200, (number, data[:300])
    for job in json.loads(jobs):
      assert served.ask('DELETE', f'/songs/{job["number"]}')[0] == 200
  assert {b'400', b'404', b'405'} <= answers, answers
  err = capsys.readouterr().err
  assert 'Traceback' not in err and 'Exception in ASGI' not in err, err
  assert not [record for record in caplog.records if record.exc_info]
