"""An HTTP server of our own: one that breaks off, refuses, or lies."""

import http.server
import threading
import time

import pytest


class Server(http.server.ThreadingHTTPServer):
  """Serves `files`; the first of `break_off` requests end too early."""
  daemon_threads = True

  def __init__(self):
    super().__init__(('127.0.0.1', 0), Handler)
    self.files = {}  # Path: bytes.
    self.break_off = 0
    self.status = None
    self.ranges = True
    self.pause = 0  # Seconds before each 4 KiB.
    self.requests = []
    self.url = f'http://127.0.0.1:{self.server_port}'


class Handler(http.server.BaseHTTPRequestHandler):

  def do_GET(self):
    server, data = self.server, self.server.files.get(self.path)
    asked = self.headers.get('Range')
    server.requests.append((self.path, asked))
    if server.status or data is None:
      self.send_error(server.status or 404)
      return
    start = 0
    if asked and server.ranges:
      start = int(asked.removeprefix('bytes=').removesuffix('-'))
      if start >= len(data):
        self.send_response(416)
        self.send_header('Content-Range', f'bytes */{len(data)}')
        self.end_headers()
        return
      self.send_response(206)
    else:
      self.send_response(200)
    rest = data[start:]
    self.send_header('Content-Length', str(len(rest)))
    self.end_headers()
    if server.break_off:
      server.break_off -= 1
      rest = rest[:len(rest) // 2]
    step = 4096 if server.pause else max(len(rest), 1)
    for at in range(0, len(rest), step):
      time.sleep(server.pause)
      self.wfile.write(rest[at:at + step])

  def log_message(self, *_):
    pass


@pytest.fixture
def server():
  """An HTTP server on this machine; see `Server`."""
  with Server() as server:
    thread = threading.Thread(target=server.serve_forever, args=(.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
