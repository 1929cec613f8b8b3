"""Requests made worse, thousands of them, handed to the app without a network.

Every route is asked with every method and with headers of every kind that the
app or Starlette looks at. The answer is below 500; the files are what was asked
for; and nothing changes by a request that was refused.
"""

import json
import re
import time

import numpy as np
import pytest

from support import json_edges, mutations
from support.served_app import Called, Quick, tiny_model

pytestmark = pytest.mark.faults
HERE = b'127.0.0.1:8000'
NEW = {'task': 'new', 'seconds': 1, 'temperature': .9, 'seed': 999}
_METHODS = ['GET', 'POST', 'DELETE', 'HEAD', 'PUT', 'PATCH', 'OPTIONS', 'TRACE',
            'CONNECT', 'get', 'X', '']
_PATHS = [b'/', b'/songs', b'/prompts', b'/player.css', b'/player.js',
          b'/app.css', b'/app.js', b'/songs/%d', b'/songs/%d/keep',
          b'/songs/%d/%s.mid', b'/songs/%d/%s.wav', b'/songs/%d/%s.vgm',
          b'/songs/%d/%s.nsf', b'/prompts?name=a.mid', b'/prompts?name=a.vgm']
_SEPARATORS = [b'/', b'//', b'/.', b'/..', b'%2f', b'%00', b'%ff', b'?', b'#',
               b'%', b'\\', b';a=b', b' ', b'%2e%2e%2f', b'9' * 5000, b'.mid']
_HOSTS = [b'localhost', b'localhost:8000', b'127.0.0.1', b'', b'evil.example',
          b'127.0.0.1.evil.example', b'127.0.0.1:8000@evil', b'[::1]:8000',
          b'LOCALHOST', b'127.0.0.1:', b'\xff', b'a' * 10**5, b' 127.0.0.1']
_VALUES = {
    b'host': _HOSTS,
    b'origin': [b'http://' + HERE, b'null', b'', b'http://evil.example',
                b'https://' + HERE, b'http://' + HERE + b'/', b'\xff',
                b'http://localhost:8000'],
    b'sec-fetch-site': [b'same-origin', b'none', b'cross-site', b'same-site',
                        b'', b'x', b'\xff'],
    b'content-length': [b'0', b'-1', b'5', b'1e3', b'9' * 5000, b'\xb2', b'',
                        b'+5', b'65537', b'16777217', b' 5', b'5, 5', b'0x5'],
    b'range': [b'bytes=0-', b'bytes=1-9', b'bytes=-9', b'bytes=9-1', b'bytes=',
               b'bytes=0-0,2-3', b'bytes=0-9,5-20,1-1', b'items=0-1', b'x',
               b'bytes=a-b', b'bytes=0-' + b'9' * 300, b'bytes=' + b'9' * 5000,
               b'bytes=-', b'bytes=--1', b'bytes=0-,' * 500, b'bytes=-0',
               b'bytes= 1 - 3 ', b'BYTES=1-2', b'bytes=\xb2-', b'\xff',
               b'bytes=' + b'0-1,' * 20000, b'bytes=99999999999-', b'bytes=1'],
    b'if-range': [b'"x"', b'x', b'', b'Thu, 01 Jan 1970 00:00:00 GMT', b'\xff'],
    b'if-none-match': [b'*', b'"x"', b'\xff'],
    b'if-modified-since': [b'Thu, 01 Jan 1970 00:00:00 GMT', b'x', b''],
    b'content-type': [b'application/json', b'multipart/form-data',
                      b'multipart/form-data; boundary=x', b'\xff',
                      b'text/plain; charset=utf-16'],
    b'content-encoding': [b'gzip', b'identity', b'\xff'],
    b'transfer-encoding': [b'chunked', b'gzip, chunked', b'x'],
    b'accept-encoding': [b'gzip', b'*;q=0', b'\xff'],
    b'accept': [b'text/html', b'\xff'], b'cookie': [b'a=b;;=', b'\xff' * 999],
    b'expect': [b'100-continue', b'x'], b'upgrade': [b'websocket', b'h2c'],
    b'connection': [b'upgrade', b'close'], b'te': [b'trailers'],
    b'x-forwarded-host': [b'evil.example'], b'x-forwarded-for': [b'1.2.3.4'],
    b'authorization': [b'Basic x', b'\xff'], b'referer': [b'http://evil'],
    b'x-http-method-override': [b'DELETE'], b'': [b''], b'\xff': [b'\xff']}
_NEEDED = {'content-security-policy', 'cross-origin-resource-policy',
           'cache-control', 'referrer-policy', 'x-content-type-options'}
_STATUSES = {200, 201, 206, 304, 307, 400, 403, 404, 405, 409, 413, 416}


def _pick(rng, of):
  return of[int(rng.integers(len(of)))]


@pytest.fixture(scope='module')
def called(tmp_path_factory):
  app = Called(Quick(tiny_model('tracker').sampled),
               tmp_path_factory.mktemp('called') / 'kept')
  yield app
  app.close()


def _ask(called, method, target, value=None):
  """Asks as the page does."""
  data = b'' if value is None else json.dumps(value).encode()
  return called.ask(method, target, [(b'host', HERE)], [data])


def _jobs(called):
  return json.loads(_ask(called, 'GET', b'/songs').body)


class Song:
  """A song that is there, with all its files."""

  def __init__(self, called):
    for job in _jobs(called):
      _ask(called, 'DELETE', b'/songs/%d' % job['number'])
    answer = _ask(called, 'POST', b'/songs', {**NEW, 'seed': 1})
    assert answer.status == 201, answer
    self.number = json.loads(answer.body)['number']
    # What else is asked for waits behind one that does not end.
    _ask(called, 'POST', b'/songs', NEW)
    until = time.monotonic() + 300
    while self._state(called) not in ('done', 'failed'):
      assert time.monotonic() < until
      time.sleep(.02)
    card = _ask(called, 'GET', b'/songs/%d' % self.number).body.decode()
    self.name = re.search(r'songs/\d+/([\w-]+)\.mid', card)[1].encode()
    self.files = {ending: _ask(called, 'GET', b'/songs/%d/%s.%s' % (
        self.number, self.name, ending)).body
                  for ending in (b'mid', b'wav', b'vgm', b'nsf')}
    assert all(map(len, self.files.values()))

  def _state(self, called):
    return {job['number']: job['state'] for job in _jobs(called)}[self.number]


def _target(rng, song) -> tuple[bytes, bool]:
  """Returns the target of a request, and whether it is as the page has it."""
  path = _pick(rng, _PATHS)
  number = song.number if rng.integers(3) else int(rng.integers(99))
  if b'%d' in path:
    path = path % ((number, song.name) if b'%s' in path else number)
  if rng.integers(2):
    return path, True
  for _ in range(int(rng.integers(1, 4))):
    at = int(rng.integers(len(path) + 1))
    kind = int(rng.integers(4))
    if kind == 0:
      path = path[:at] + _pick(rng, _SEPARATORS) + path[at:]
    elif kind == 1:
      path = path[:at] + path[at + int(rng.integers(1, 6)):]
    elif kind == 2:
      path = path[:at] + bytes([int(rng.integers(33, 127))]) + path[at:]
    else:
      path = path[:at] + path[at:].swapcase()
  return path, False


def _headers(rng) -> list[tuple[bytes, bytes]]:
  headers = [] if rng.integers(20) == 0 else [(b'host', HERE)]
  for _ in range(int(rng.choice((0, 1, 1, 2, 3, 9)))):
    name = _pick(rng, sorted(_VALUES))
    value = _pick(rng, _VALUES[name])
    if rng.integers(8) == 0:
      value = bytes(_pick(rng, mutations.ANY)(bytearray(value), rng, [value]))
    if name == b'host' and rng.integers(2):
      headers = [header for header in headers if header[0] != b'host']
    headers.insert(int(rng.integers(len(headers) + 1)), (name, value))
  return headers


def _body(rng, tmp_path, midi) -> list[bytes]:
  kind = int(rng.integers(8))
  data = json.dumps(NEW).encode()
  if kind < 3:
    edge = json_edges.Edge(tmp_path / 'body', NEW, lambda: None)
    edge.write(rng if kind else None)
    data = edge.path.read_bytes()
  elif kind < 5:
    data = midi if kind == 3 else bytes(_pick(rng, mutations.ANY)(
        bytearray(midi), rng, [midi]))
  elif kind == 5:
    data = b''
  elif kind == 6 and rng.integers(4) == 0:
    data = bytes(int(rng.choice((2**16, 2**16 + 1, 2**24, 2**24 + 1))))
  cuts = sorted(rng.integers(0, len(data) + 1, int(rng.integers(4))).tolist())
  return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)],
                                    strict=True)]


def _is_foreign(headers) -> bool:
  """Whether the app must refuse a request, read by hand."""
  first = {}
  for name, value in headers:
    first.setdefault(name, value)
  host = first.get(b'host', b'').decode('latin-1')
  if host.partition(':')[0].lower() not in ('127.0.0.1', 'localhost'):
    return True
  return b'origin' in first and first[b'origin'] != b'http://' + host.encode(
      'latin-1')


def _check_range(answer, data):
  """Compares what is sent of a file with the file."""
  if answer.headers['content-type'].startswith('multipart/byteranges'):
    boundary = answer.headers['content-type'].partition('boundary=')[2].encode()
    pieces = answer.body.split(b'--' + boundary)[1:-1]
    assert pieces
    for piece in pieces:
      head, _, content = piece.partition(b'\r\n\r\n' if b'\r\n\r\n' in piece
                                         else b'\n\n')
      low, high = re.search(rb'bytes (\d+)-(\d+)/', head).groups()
      assert content.rstrip(b'\r\n') == data[int(low):int(high) + 1].rstrip(
          b'\r\n')
    return
  low, high, of = re.fullmatch(r'bytes (\d+)-(\d+)/(\d+)',
                               answer.headers['content-range']).groups()
  assert int(of) == len(data)
  assert answer.body == data[int(low):int(high) + 1]


def test_calls(called, midi, tmp_path, n_faults, capsys):
  song, statuses, n_foreign = Song(called), set(), 0
  before = _jobs(called)
  for number in range(50 * n_faults):
    rng = np.random.default_rng(number)
    method = _pick(rng, _METHODS[:3] if rng.integers(2) else _METHODS)
    if method == 'DELETE' and rng.integers(4):
      method = 'GET'  # Else most of the time there is no song.
    target, is_known = _target(rng, song)
    headers, pieces = _headers(rng), _body(rng, tmp_path, midi)
    if is_known and rng.integers(3):  # As the page asks, but for a header.
      method = 'POST' if target in (b'/songs', b'/prompts?name=a.mid') or (
          target.endswith(b'/keep')) else 'GET'
      pieces = [midi if b'?' in target else json.dumps(NEW).encode()]
      name = _pick(rng, sorted(_VALUES)) if rng.integers(3) else b'range'
      headers = [(b'host', HERE), (name, _pick(rng, _VALUES[name]))]
    shown = (number, method, target[:200], headers, b''.join(pieces)[:200])
    breaks_off = not rng.integers(30)
    answer = called.ask(method, target, headers, pieces, breaks_off=breaks_off)
    assert answer.status in _STATUSES, (shown, answer)
    assert answer.headers.keys() >= _NEEDED, (shown, answer)
    statuses.add(answer.status)
    if method != 'HEAD' and answer.status != 304 and not breaks_off and (
        'content-length' in answer.headers):
      assert int(answer.headers['content-length']) == len(answer.body), shown
    if answer.status >= 400:
      text = answer.body.decode()
      assert len(text) < 700 and '\n' not in text, (shown, answer)
      assert '/tmp' not in text or answer.status == 409, (shown, answer)
    after = _jobs(called)
    foreign = _is_foreign(headers)
    n_foreign += foreign
    if foreign:
      assert answer.status in (400, 403), (shown, answer)
    numbers = {job['number'] for job in before}, {job['number']
                                                  for job in after}
    if answer.status >= 400:
      assert numbers[0] == numbers[1], shown
    else:
      assert len(numbers[1] - numbers[0]) == (answer.status == 201), shown
      assert not numbers[0] - numbers[1] or method == 'DELETE', shown
    path = target.partition(b'?')[0]
    for ending, data in song.files.items():
      if method == 'GET' and not foreign and not breaks_off and (
          path == b'/songs/%d/%s.%s' % (song.number, song.name, ending)):
        if answer.status == 200:
          assert answer.body == data, shown
        elif answer.status == 206:
          _check_range(answer, data)
        else:
          assert answer.status in (400, 403, 416), (shown, answer)
    if song.number not in numbers[1]:
      song = Song(called)
    if len(after) > 15:
      for job in after:
        if job['number'] > song.number + 1:
          _ask(called, 'DELETE', b'/songs/%d' % job['number'])
    before = _jobs(called)
  assert statuses >= {200, 201, 206, 400, 403, 404, 405, 413, 416}, statuses
  assert n_foreign > n_faults
  assert 'Traceback' not in capsys.readouterr().err
