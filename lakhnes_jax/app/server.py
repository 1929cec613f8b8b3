"""The HTTP side of the app: who may ask, what is asked, what is sent.

Any page in the browser can send requests to this machine, and a name can be
made to lead here. So requests are refused that are for another host (DNS
rebinding) or come from another page's origin; nothing is evaluated that is not
a file of this package; and bodies are read up to a limit.
"""

import collections
import contextlib
import importlib.resources
import itertools
import json
import os
import pathlib
import re
import tempfile
import urllib.parse

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
)
from starlette.routing import Route

from lakhnes_jax import api
from lakhnes_jax import song as song_lib
from lakhnes_jax.app import jobs as jobs_lib
from lakhnes_jax.app import request as request_lib
from lakhnes_jax.formats import song_files
from lakhnes_jax.report import page, song_card
from lakhnes_jax.tracker import controls

MAX_UPLOAD = 16 * 2**20  # Bytes. A VGM file of an hour has less.
_MAX_REQUEST = 2**16
_MOST_PROMPTS = 16  # Uploaded songs that are held.
_HOSTS = ['127.0.0.1', 'localhost']
_HEADERS = {
    'Content-Security-Policy':
        "default-src 'self'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'",
    'Cross-Origin-Resource-Policy': 'same-origin',
    'Cache-Control': 'no-store', 'Referrer-Policy': 'no-referrer',
    'X-Content-Type-Options': 'nosniff'}
# What all songs of one model share.
_NOT_SHOWN = ('grammar', 'max_events', 'format', 'mem_len', 'int8',
              'top_k', 'top_p', 'tail_p', 'context_weight', 'best_of',
              'repeats')
_TYPES = {'.mid': 'audio/midi', '.wav': 'audio/wav'}


class SameOrigin:
  """ASGI middleware that refuses requests of other sites' pages."""

  def __init__(self, app):
    self._app = app

  async def __call__(self, scope, receive, send):
    if scope['type'] != 'http':
      await self._app(scope, receive, send)
      return

    async def send_with_headers(message):
      if message['type'] == 'http.response.start':
        MutableHeaders(scope=message).update(_HEADERS)
      await send(message)

    app = self._app if _is_own(scope) else PlainTextResponse(
        'refused: this comes from another site', 403)
    await app(scope, receive, send_with_headers)


def _is_own(scope) -> bool:
  headers = Headers(scope=scope)
  if 'origin' in headers:
    return headers['origin'] == f'http://{headers.get("host")}'
  # A link to the page itself may be anywhere.
  return scope['path'] == '/' or headers.get('sec-fetch-site', 'none') in (
      'none', 'same-origin')


async def _read(request: Request, limit: int) -> bytes:
  """Reads a body; one over the limit is refused before all of it has come."""
  refusal = HTTPException(413, f'over {limit / 2**20:g} MiB')
  declared = request.headers.get('content-length', '0')
  if not declared.isdecimal() or len(declared) > 18 or int(declared) > limit:
    raise refusal
  data = bytearray()
  try:
    async for piece in request.stream():
      data += piece
      if len(data) > limit:
        raise refusal
  except ClientDisconnect:
    raise HTTPException(400, 'broken off') from None
  return bytes(data)


class App:
  """What the routes do; see `create`."""

  def __init__(self, model: api.Model, out: pathlib.Path,
               scratch: pathlib.Path):
    self.jobs = jobs_lib.Jobs(model, scratch, out)
    self._scratch = scratch
    self._prompts: dict[int, song_lib.Song] = collections.OrderedDict()
    self._prompt_numbers = itertools.count(1)

  def index(self, request: Request) -> Response:
    """The page."""
    model = self.jobs.model
    return HTMLResponse(page.fill(_resource('app.html').read_text('utf-8'), {
        'model': model.sampled.vocabulary.name,
        'out': song_card.text(str(self.jobs.out)),
        'accept': ','.join(ending for ending, known in
                           song_files.FORMATS.items() if known.read),
        'controls': song_card.text(json.dumps(model.controls)),
        'slowest': f'{controls.SLOWEST:.0f}',
        'fastest': f'{controls.FASTEST:.0f}'}))

  async def upload(self, request: Request) -> Response:
    """Takes up a song file, POSTed as it is; its name is a parameter."""
    name = request.query_params.get('name', '')
    data = await _read(request, MAX_UPLOAD)
    try:
      song = await run_in_threadpool(self._parse, name, data)
    except (ValueError, OSError) as error:
      raise HTTPException(400, str(error)) from None
    number = next(self._prompt_numbers)
    self._prompts[number] = song
    while len(self._prompts) > _MOST_PROMPTS:
      self._prompts.popitem(last=False)
    return JSONResponse({'prompt': number, 'name': song.name,
                         'seconds': round(song.seconds, 3)})

  def _parse(self, name: str, data: bytes) -> song_lib.Song:
    """Reads a song from the content of a file.

    Of the name, which may be anything, only a known ending and some letters
    are used.
    """
    name = name.replace('\\', '/').rpartition('/')[2]
    stem = song_files.song_name(name)
    ending = name[len(stem):].lower()
    if not ending:
      raise ValueError(f'{name[:80]}: not the ending of a song file; known are '
                       + ', '.join(song_files.FORMATS))
    stem = jobs_lib.clean_name(stem)
    with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
      path = pathlib.Path(folder, f'{stem}{ending}')
      path.write_bytes(data)
      try:
        song = song_lib.read_song(path)
      except ValueError as error:
        raise ValueError(str(error).replace(f'{folder}{os.sep}', '')) from None
    if not song.seconds:
      raise ValueError(f'{path.name}: the song is empty: nothing is played')
    return song

  async def ask(self, request: Request) -> Response:
    """Puts a song into the queue."""
    data = await _read(request, _MAX_REQUEST)
    try:
      job = self.jobs.add(request_lib.parse(
          data, self.jobs.model, self._prompts.__getitem__))
    except ValueError as error:
      raise HTTPException(400, str(error)) from None
    except KeyError:
      raise HTTPException(404, 'that file is not held any more; choose it '
                          'again') from None
    return JSONResponse({'number': job.number}, 201)

  def songs(self, request: Request) -> Response:
    """What is on the page: songs made, being made, and waiting."""
    return JSONResponse([
        job.to_json(self.jobs.model) for job in self.jobs.all()])

  def _job(self, request: Request) -> jobs_lib.Job:
    number = request.path_params['number']
    try:  # Not by a path of its own: Python refuses to read 5,000 digits.
      return self.jobs.get(int(number) if re.fullmatch(
          '[0-9]{1,12}', number) else -1)
    except KeyError:
      raise HTTPException(404, 'there is no such song') from None

  def song_card(self, request: Request) -> Response:
    """A song as HTML, with a roll."""
    job = self._job(request)
    if job.song is None:
      raise HTTPException(404, 'the song is not there yet')
    notes = ''.join(f'<p class="none">{song_card.text(note)}</p>'
                    for note in job.notes)
    return HTMLResponse(song_card.render(
        f's{job.number}', job.song.name, job.song.events, {
            ending: f'songs/{job.number}/{urllib.parse.quote(path.name)}'
            for ending, path in job.files.items()},
        job.song.metadata, dict.fromkeys(_NOT_SHOWN), notes))

  def file(self, request: Request) -> Response:
    """A file of a song."""
    name = request.path_params['name']
    for ending, path in self._job(request).files.items():
      if path.name == name:
        return FileResponse(path, media_type=_TYPES.get(
            ending, 'application/octet-stream'))
    raise HTTPException(404, 'there is no such file')

  def keep(self, request: Request) -> Response:
    """Writes a song to the folder of kept songs."""
    job = self._job(request)
    try:
      self.jobs.keep(job.number)
    except (OSError, ValueError) as error:
      raise HTTPException(409, str(error)) from None
    return JSONResponse({})

  def remove(self, request: Request) -> Response:
    """Cancels a request, or discards its song."""
    self.jobs.remove(self._job(request).number)
    return JSONResponse({})


def _resource(name: str):
  return importlib.resources.files('lakhnes_jax.app').joinpath(name)


def _static(name: str, text: str) -> Route:
  kind = {'css': 'text/css', 'js': 'text/javascript'}[name.rpartition('.')[2]]
  return Route(f'/{name}', lambda request: Response(text, media_type=kind))


async def _refuse(request: Request, error: HTTPException) -> Response:
  return PlainTextResponse(error.detail, error.status_code)


def create(model: api.Model, out: str | os.PathLike) -> Starlette:
  """Returns the app, for an ASGI server on a loopback address.

  Args:
    model: writes the songs.
    out: folder for songs that are kept.
  """
  scratch = tempfile.TemporaryDirectory(prefix='lakhnes-app-')
  app = App(model, pathlib.Path(out).resolve(), pathlib.Path(scratch.name))

  @contextlib.asynccontextmanager
  async def lifespan(_):
    app.jobs.start()
    yield
    await run_in_threadpool(app.jobs.close)
    scratch.cleanup()

  return Starlette(routes=[
      Route('/', app.index),
      *(_static(name, page.resource(name))
        for name in ('player.css', 'player.js')),
      *(_static(name, _resource(name).read_text('utf-8'))
        for name in ('app.css', 'app.js')),
      Route('/prompts', app.upload, methods=['POST']),
      Route('/songs', app.ask, methods=['POST']),
      Route('/songs', app.songs),
      Route('/songs/{number}', app.song_card),
      Route('/songs/{number}', app.remove, methods=['DELETE']),
      Route('/songs/{number}/keep', app.keep, methods=['POST']),
      Route('/songs/{number}/{name}', app.file),
  ], middleware=[
      Middleware(SameOrigin),
      Middleware(TrustedHostMiddleware, allowed_hosts=_HOSTS,
                 www_redirect=False),
  ], exception_handlers={HTTPException: _refuse}, lifespan=lifespan)
