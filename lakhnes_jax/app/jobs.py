"""The songs that were asked for: a queue before one model, and what it made."""

import dataclasses
import itertools
import os
import pathlib
import queue
import re
import sys
import threading
import traceback
from typing import Any

from lakhnes_jax import api
from lakhnes_jax.app.request import Request
from lakhnes_jax.report import samples
from lakhnes_jax.song import Song

ENDINGS = ('.mid', '.wav', '.vgm', '.nsf')
_MOST_WAITING = 20
_MOST_NAME = 40  # Characters.


class _RemovedError(Exception):
  """Ends the writing of a song that nobody waits for."""


@dataclasses.dataclass
class Job:
  """A song that was asked for.

  Attributes:
    number: from 1, in the order of asking.
    request: what was asked.
    state: 'waiting', 'running', 'done' or 'failed'.
    tokens, of: done, and the most there can be.
    error: why it failed.
    song: once it is done; then `files` are those of it, by ending, and `notes`
      say which could not be made.
    kept: whether it was written to the folder of kept songs.
  """
  number: int
  request: Request
  state: str = 'waiting'
  tokens: int = 0
  of: int = 0
  error: str = ''
  song: Song | None = None
  files: dict[str, pathlib.Path] = dataclasses.field(default_factory=dict)
  notes: list[str] = dataclasses.field(default_factory=list)
  kept: bool = False
  removed: bool = False

  def to_json(self, model: api.Model) -> dict[str, Any]:
    """Returns what the page shows; `model` is who writes the song."""
    expected = max(1., min(self.of, self.request.expected_tokens(model)))
    return {'number': self.number, 'title': self.request.title,
            'state': self.state, 'tokens': self.tokens, 'error': self.error,
            'kept': self.kept, 'progress': min(self.tokens / expected, .99)}


class Jobs:
  """Writes songs one by one in a thread of its own.

  Args:
    model: writes them.
    scratch: folder for files of songs, as long as they are on the page.
    out: folder for those that are kept.
  """

  def __init__(self, model: api.Model, scratch: pathlib.Path,
               out: pathlib.Path):
    self.model, self.out, self._scratch = model, out, scratch
    self._jobs: dict[int, Job] = {}
    self._numbers = itertools.count(1)
    self._queue: queue.Queue[Job | None] = queue.Queue()
    self._lock = threading.Lock()  # Of the folder of kept songs.
    self._thread = threading.Thread(target=self._work)

  def start(self) -> None:
    self._thread.start()

  def close(self) -> None:
    """Ends the song that is being written, and the thread."""
    for job in self.all():
      job.removed = True
    self._queue.put(None)
    self._thread.join()

  def all(self) -> list[Job]:
    """Returns those on the page, in the order of asking."""
    return list(self._jobs.values())

  def get(self, number: int) -> Job:
    """Returns one of them; raises a KeyError if it is not there."""
    return self._jobs[number]

  def add(self, request: Request) -> Job:
    """Puts a request at the end of the queue.

    Raises:
      ValueError: the queue is full.
    """
    if sum(job.state == 'waiting' for job in self.all()) >= _MOST_WAITING:
      raise ValueError(f'{_MOST_WAITING} songs are waiting already; let some '
                       'be written, or cancel them')
    job = Job(next(self._numbers), request)
    self._jobs[job.number] = job
    self._queue.put(job)
    return job

  def remove(self, number: int) -> None:
    """Takes a job off the page: cancelled, or its song discarded.

    What was kept stays in the folder of kept songs.
    """
    job = self._jobs.pop(number)
    job.removed = True
    if job.state == 'done':
      self._delete(job)

  def keep(self, number: int) -> None:
    """Writes the song of a job to the folder of kept songs.

    Raises:
      KeyError: it is not there.
      OSError, ValueError: see `report.samples.write`; or it is not written yet,
        or a song of its name was kept by somebody else.
    """
    job = self._jobs[number]
    if job.song is None:
      raise ValueError('the song is not there yet')
    with self._lock:
      if job.kept:
        return
      if job.song.name in self._kept_names():
        raise ValueError(f'{self.out / job.song.name}: there is such a song '
                         'already')
      samples.write([job.song], self.out)
      job.kept = True

  def _work(self) -> None:
    while job := self._queue.get():
      if job.removed:
        continue
      job.state = 'running'
      try:
        self._write(job)
        job.state = 'done'
      except _RemovedError:
        pass
      except (ValueError, OSError) as error:
        job.error, job.state = str(error), 'failed'
      except Exception as error:  # The others in the queue are still to come.
        traceback.print_exc(file=sys.stderr)
        job.error, job.state = f'{type(error).__name__}: {error}', 'failed'
      if job.removed:
        self._delete(job)

  def _write(self, job: Job) -> None:
    """Has the song written and makes its files."""
    def progress(tokens: int, of: int) -> None:
      job.tokens, job.of = tokens, of
      if job.removed:
        raise _RemovedError

    song = job.request.write(self.model, progress)
    if not song.seconds:
      raise ValueError('the model wrote no sound; try another seed or '
                       'temperature')
    name = self._name(job)
    for ending in ENDINGS:
      try:
        job.files[ending] = song.save(
            self._scratch / str(job.number) / f'{name}{ending}')
      except ValueError as error:
        job.notes.append(f'{ending[1:].upper()}: {error}')
    job.song = dataclasses.replace(song, name=name)

  def _name(self, job: Job) -> str:
    """Returns a name that no other song has, here or among those kept."""
    given = job.request.song
    stem = clean_name(given.name) if given else 'song'
    taken = self._kept_names() | {
        other.song.name for other in self.all() if other.song}
    names = (f'{stem}-{i:03}' for i in itertools.count(job.number))
    return next(name for name in names if name not in taken)

  def _kept_names(self) -> set[str]:
    return ({name.split('.')[0] for name in os.listdir(self.out)}
            if self.out.is_dir() else set())

  def _delete(self, job: Job) -> None:
    for path in job.files.values():
      path.unlink(missing_ok=True)


def clean_name(name: str) -> str:
  """Returns a name as part of a file's: letters, digits, '_' and '-'."""
  return re.sub(r'[^\w-]+', '_', name)[:_MOST_NAME].strip('_-') or 'song'
