"""Drives headless Chromium through its DevTools protocol, over two pipes.

Just enough for tests that use a page as a person would; no package needed.
"""

import base64
import itertools
import json
import os
import pathlib
import select
import shutil
import subprocess
import sys
import time
from typing import Any

import pytest

PROGRAMS = ('chromium', 'chromium-browser', 'google-chrome')
# The browser reads from descriptor 3 and writes to 4.
_LAUNCH = """import os, sys
ends = [os.dup(int(end)) for end in sys.argv[1:3]]
for end, place in zip(ends, (3, 4)):
    os.dup2(end, place)
    os.set_inheritable(place, True)
os.execv(sys.argv[3], sys.argv[3:])"""
_TIMEOUT = 60  # Seconds for one answer, on a busy machine.


def find() -> str | None:
  """Returns the browser's path, or None."""
  return next((path for path in map(shutil.which, PROGRAMS) if path), None)


class Browser:
  """One page in one browser, which ends with the `with` block."""

  def __init__(self, program: str, profile: pathlib.Path):
    self._program, self._profile = program, profile
    self._numbers = itertools.count(1)
    self._buffer = b''
    self.problems: list[str] = []  # Errors that the page logs.

  def __enter__(self) -> 'Browser':
    theirs, self._out = os.pipe()
    self._in, their_out = os.pipe()
    self._process = subprocess.Popen(
        [sys.executable, '-ISc', _LAUNCH, str(theirs), str(their_out),
         self._program, '--headless=new', '--remote-debugging-pipe',
         '--no-sandbox', '--no-first-run', '--disable-gpu',
         '--disable-dev-shm-usage', '--hide-scrollbars',
         f'--user-data-dir={self._profile}', 'about:blank'],
        pass_fds=(theirs, their_out), stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(theirs)
    os.close(their_out)
    try:
      pages = self._call('Target.getTargets')['targetInfos']
      target = next(p['targetId'] for p in pages if p['type'] == 'page')
      self._session = None
      self._session = self._call('Target.attachToTarget', targetId=target,
                                 flatten=True)['sessionId']
      for domain in ('Page', 'Runtime', 'Log'):
        self._call(f'{domain}.enable')
    except BaseException:
      self.__exit__()
      raise
    return self

  def __exit__(self, *_) -> None:
    os.close(self._out)
    self._process.terminate()
    self._process.wait(_TIMEOUT)
    os.close(self._in)

  _session = None

  def _call(self, method: str, **params) -> dict[str, Any]:
    number = next(self._numbers)
    message = {'id': number, 'method': method, 'params': params}
    if self._session:
      message['sessionId'] = self._session
    os.write(self._out, json.dumps(message).encode() + b'\0')
    while (answer := self._receive()).get('id') != number:
      pass
    if 'error' in answer:
      raise RuntimeError(f'{method}: {answer["error"]}')
    return answer['result']

  def _receive(self) -> dict[str, Any]:
    """Returns the next answer or event; notes down what went wrong."""
    while b'\0' not in self._buffer:
      if not select.select([self._in], [], [], _TIMEOUT)[0]:
        raise TimeoutError('the browser does not answer')
      got = os.read(self._in, 2**20)
      if not got:
        raise RuntimeError('the browser ended')
      self._buffer += got
    first, _, self._buffer = self._buffer.partition(b'\0')
    message = json.loads(first)
    if message.get('method') == 'Runtime.exceptionThrown':
      self.problems.append(json.dumps(message['params']['exceptionDetails']))
    if message.get('method') == 'Log.entryAdded':
      entry = message['params']['entry']
      if entry['level'] == 'error':
        self.problems.append(f'{entry["text"]} {entry.get("url", "")}')
    return message

  def open(self, page: pathlib.Path | str) -> None:
    """Opens a file, or an address, and waits until it is loaded."""
    url = page if isinstance(page, str) else page.resolve().as_uri()
    self._call('Page.navigate', url=url)
    self.wait('document.readyState === "complete" && location.protocol === '
              f'"{url.partition(":")[0]}:"')

  def js(self, expression: str) -> Any:
    """Returns the JSON value of an expression."""
    answer = self._call('Runtime.evaluate', expression=expression,
                        returnByValue=True, awaitPromise=True)
    if 'exceptionDetails' in answer:
      raise RuntimeError(f'{expression}: {answer["exceptionDetails"]}')
    return answer['result'].get('value')

  def wait(self, condition: str, seconds: float = _TIMEOUT) -> None:
    """Waits until an expression is true."""
    end = time.monotonic() + seconds
    while not self.js(condition):
      if time.monotonic() > end:
        raise TimeoutError(condition)
      time.sleep(0.05)

  def size(self, width: int, height: int, dark: bool = False,
           phone: bool = False) -> None:
    """Sets the window's size and what the person prefers."""
    self._call('Emulation.setDeviceMetricsOverride', width=width, height=height,
               deviceScaleFactor=2 if phone else 1, mobile=phone)
    self._call('Emulation.setEmulatedMedia', features=[
        {'name': 'prefers-color-scheme', 'value': 'dark' if dark else 'light'}])

  def middle(self, selector: str) -> tuple[float, float]:
    """Scrolls to an element; returns its middle on the screen."""
    return tuple(self.js(f'''(() => {{
        const e = document.querySelector({json.dumps(selector)});
        e.scrollIntoView({{block: 'center', behavior: 'instant'}});
        const r = e.getBoundingClientRect();
        return [r.x + r.width / 2, r.y + r.height / 2]; }})()'''))

  def drag(self, start: tuple[float, float],
           end: tuple[float, float] | None = None) -> None:
    """Presses the mouse at one place, lets it go there or at another."""
    def mouse(kind, place, buttons):
      self._call('Input.dispatchMouseEvent', type=kind, x=place[0], y=place[1],
                 button='left', buttons=buttons, clickCount=1)
    mouse('mousePressed', start, 1)
    if end:
      mouse('mouseMoved', end, 1)
    mouse('mouseReleased', end or start, 0)

  def choose(self, selector: str, path: pathlib.Path) -> None:
    """Chooses a file in an <input type=file>."""
    found = self._call('Runtime.evaluate',
                       expression=f'document.querySelector("{selector}")')
    self._call('DOM.setFileInputFiles', files=[str(path)],
               objectId=found['result']['objectId'])

  def type(self, selector: str, text: str) -> None:
    """Types into a field, in place of what is there."""
    self.js(f'document.querySelector("{selector}").select()')
    self._call('Input.insertText', text=text)

  def download_to(self, folder: pathlib.Path) -> None:
    """Says where downloads go."""
    self._call('Browser.setDownloadBehavior', behavior='allow',
               downloadPath=str(folder))

  def click(self, selector: str) -> None:
    self.drag(self.middle(selector))

  def key(self, key: str, shift: bool = False) -> None:
    """Presses a key: its DOM name."""
    code = {' ': 32, 'ArrowLeft': 37, 'ArrowRight': 39, 'Tab': 9}[key]
    text = {'text': ' '} if key == ' ' else {}
    for kind in ('keyDown', 'keyUp'):
      self._call('Input.dispatchKeyEvent', type=kind, key=key,
                 windowsVirtualKeyCode=code, modifiers=8 * shift,
                 **(text if kind == 'keyDown' else {}))

  def screenshot(self, path: pathlib.Path, whole: bool = False) -> None:
    answer = self._call('Page.captureScreenshot', format='png',
                        captureBeyondViewport=whole)
    path.write_bytes(base64.b64decode(answer['data']))


@pytest.fixture(scope='module')
def chromium(tmp_path_factory):
  """A browser for the tests of a module."""
  program = find()
  if not program:
    pytest.skip('no Chromium here: apt-get install chromium')
  with Browser(program, tmp_path_factory.mktemp('profile')) as opened:
    yield opened
