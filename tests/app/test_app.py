"""The app: used in a browser, and what it refuses."""

import json
import socket
import time

import pytest
import soundfile

from lakhnes_jax import events as ev
from lakhnes_jax.app import __main__ as command
from lakhnes_jax.app import jobs, request, server
from lakhnes_jax.formats import song_files
from support.served_app import TUNE, Quick, Served, tiny_model


@pytest.fixture(scope='module')
def tx1(tmp_path_factory):
  served = Served(Quick(tiny_model('tx1').sampled),
                  tmp_path_factory.mktemp('app') / 'kept')
  yield served
  served.close()


@pytest.fixture(scope='module')
def tracker(tmp_path_factory):
  served = Served(Quick(tiny_model('tracker').sampled),
                  tmp_path_factory.mktemp('tracker') / 'kept')
  yield served
  served.close()


@pytest.fixture
def page(chromium):
  chromium.problems.clear()
  chromium.size(1200, 900)
  yield chromium
  assert chromium.problems == []


def _set(page, selector, value):
  page.js(f'''(() => {{ const e = document.querySelector('{selector}');
      e.value = {value};
      e.dispatchEvent(new Event('input', {{bubbles: true}})); }})()''')


def _count(n):
  return f'document.querySelectorAll("#songs article").length === {n}'


def test_a_person_uses_it(page, tx1, tmp_path):
  page.open(tx1.url)
  page.wait('document.getElementById("seed") !== null')
  for control in ('tempo', 'density', 'song_length', 'voices'):
    assert not page.js(f'document.getElementById("{control}").offsetHeight')
  # A new song, heard and seen.
  _set(page, '#seconds', 2)
  page.type('#seed', '7')
  page.click('button.main')
  page.wait(_count(1), 300)  # The synthesizer is compiled.
  assert page.js('document.querySelector("h3").textContent') == 'song-001'
  assert 'seed 7' in page.js('document.querySelector(".facts").innerText')
  before = page.js('document.querySelector(".roll").toDataURL()')
  page.click('article .play')
  page.wait('document.querySelector("audio").currentTime > 0.2')
  assert page.js('document.querySelector(".roll").toDataURL()') != before
  # Its files.
  page.download_to(tmp_path)
  song = None
  for ending in ('mid', 'wav', 'vgm', 'nsf'):
    path = tmp_path / f'song-001.{ending}'
    page.click(f'.links a[href$=".{ending}"]')
    end = time.monotonic() + 30
    while not path.exists():
      assert time.monotonic() < end, path
      time.sleep(.05)
    if ending == 'mid':
      song = song_files.read_song(path)
  assert ev.times_of(song)[-1] == ev.times_of(TUNE)[-1]
  assert soundfile.info(tmp_path / 'song-001.wav').duration == pytest.approx(
      6, abs=.01)
  assert (tmp_path / 'song-001.nsf').read_bytes().startswith(b'NESM')
  # Kept with a listening page, or discarded.
  page.click('.keep')
  page.wait('document.querySelector(".keep").textContent === "Kept"')
  assert (tx1.out / 'song-001.mid').is_file()
  assert 'song-001' in (tx1.out / 'index.html').read_text('utf-8')
  page.type('#seed', '8')
  page.click('button.main')
  page.wait(_count(2))
  assert page.js('document.querySelector("h3").textContent') == 'song-002'
  page.click('.discard')
  page.wait(_count(1))
  assert page.js('songs.length') == 1 and not list(tx1.out.glob('song-002*'))
  # A given song. Its name is not trusted to be one.
  path = tmp_path / "a <b>'tune' é.mid"
  song_files.write_song(path, TUNE)
  page.click('[value=continue]')
  assert page.js('document.querySelector("button.main").disabled')
  page.choose('#file', path)
  page.wait('!document.querySelector("button.main").disabled')
  assert page.js('document.getElementById("given").textContent') == (
      'a_b_tune_é, 0:06')
  _set(page, '#prompt_seconds', 3)
  _set(page, '#seconds', 2)
  for task in ('continue', 'rhythm', 'voices'):
    n = page.js('document.querySelectorAll("#songs article").length')
    page.click(f'[value={task}]')
    page.click('button.main')
    page.wait(_count(n + 1))
    assert (page.js('songs[0].given') > 0) == (task == 'continue')
  # What is wrong is said where it was asked.
  (tmp_path / 'bad.mid').write_bytes(b'no MIDI')
  page.choose('#file', tmp_path / 'bad.mid')
  page.wait('document.getElementById("given").textContent'
            '.startsWith("bad.mid")')
  assert page.js('document.querySelector("button.main").disabled')
  assert len(page.problems) == 1 and '400' in page.problems[0]
  page.problems.clear()
  # All is there again when the page is loaded anew.
  page.open(tx1.url)
  page.wait(_count(4))
  for width, phone in ((1200, False), (390, True), (320, True)):
    page.size(width, 800, dark=phone, phone=phone)
    assert page.js('document.documentElement.scrollWidth') <= width


def test_a_model_with_controls(page, tracker):
  page.open(tracker.url)
  page.wait('document.getElementById("tempo").offsetHeight > 0')
  assert page.js('document.getElementById("tempo").disabled')
  page.click('[data-control=tempo] [type=checkbox]')
  page.click('#voices [value=p2]')
  _set(page, '#tempo', 120)
  _set(page, '#seconds', 2)
  assert page.js('document.querySelector("output[for=tempo]").textContent') == (
      '120 beats per minute')
  page.click('button.main')
  page.wait(_count(1), 300)
  song = json.loads(tracker.ask('GET', '/songs')[1])[0]
  assert song['state'] == 'done'
  # Asked of what takes none, they are refused.
  page.click('[value=rhythm]')
  assert not page.js('document.getElementById("tempo").offsetHeight')


def test_cancelling(page, tx1):
  """While one is written, another waits; neither comes after all."""
  page.open(tx1.url)
  n = sum(job['state'] == 'done' for job in json.loads(
      tx1.ask('GET', '/songs')[1]))
  page.wait(_count(n))
  page.type('#seed', '999')
  page.click('button.main')
  page.click('button.main')
  page.wait('document.querySelectorAll("#queue li").length === 2')
  page.wait('document.querySelector("#queue .state").textContent'
            '.includes("tokens")')
  for left in (1, 0):
    page.click('#queue li:last-child button')
    page.wait(f'document.querySelectorAll("#queue li").length === {left}')
  page.type('#seed', '1')
  page.click('button.main')
  page.wait(_count(n + 1))


NEW = {'task': 'new', 'seconds': 1, 'temperature': 1}


def _new(**values):
  return json.dumps(NEW | values)


def test_other_sites_are_refused(tx1):
  here = f'127.0.0.1:{tx1.port}'
  for status, headers in (
      (200, {}), (200, {'Host': f'localhost:{tx1.port}'}),
      (200, {'Origin': f'http://{here}'}),
      (200, {'Sec_Fetch_Site': 'same-origin'}),
      (400, {'Host': 'evil.example'}), (400, {'Host': ''}),
      (400, {'Host': f'evil.example:{tx1.port}',
             'Origin': f'http://evil.example:{tx1.port}'}),
      (400, {'Host': '127.0.0.1.evil.example'}),
      (403, {'Origin': 'https://evil.example'}), (403, {'Origin': 'null'}),
      (403, {'Origin': f'http://localhost:{tx1.port}'}),
      (403, {'Origin': f'http://127.0.0.1:{tx1.port + 1}'}),
      (403, {'Sec_Fetch_Site': 'cross-site'}),
      (403, {'Sec_Fetch_Site': 'same-site'})):
    assert tx1.ask('GET', '/songs', **headers)[0] == status, headers
    before = tx1.ask('GET', '/songs')
    if status != 200:
      for method, path, body in (('POST', '/songs', _new()),
                                 ('DELETE', '/songs/1', None)):
        assert tx1.ask(method, path, body, **headers)[0] == status
    assert tx1.ask('GET', '/songs') == before
  # A link may lead to the page itself, which no frame can hold.
  assert tx1.ask('GET', '/', Sec_Fetch_Site='cross-site')[0] == 200


def test_files_that_are_refused(tx1, tmp_path):
  song_files.write_song(tmp_path / 'a.mid', TUNE)
  data = (tmp_path / 'a.mid').read_bytes()
  for name, shown in (('a.mid', 'a'), ('../../etc/a.mid', 'a'),
                      ('..%5C..%5Ca%00b.MID', 'a_b'), ('%2e%2e.mid', 'song'),
                      (f'{300 * "x"}.mid', 40 * 'x')):
    status, answer = tx1.ask('POST', f'/prompts?name={name}', data)
    assert status == 200 and json.loads(answer)['name'] == shown
  for name, content, words in (
      ('a.exe', data, 'not the ending of a song file'),
      ('', data, 'not the ending'), ('.mid', data, 'not the ending'),
      ('a.vgm', data, 'a.vgm: '), ('../b.mid', b'', 'b.mid: '),
      ('a.nlm.pkl', b'cos\nsystem\n(S"false"\ntR.', 'a.nlm.pkl: ')):
    status, answer = tx1.ask('POST', f'/prompts?name={name}', content)
    assert status == 400 and words in answer.decode()
    assert '/tmp' not in answer.decode()
  most = server.MAX_UPLOAD
  # Refused for what it says, and for what it sends.
  status, answer = tx1.ask('POST', '/prompts?name=a.mid', b'',
                           Content_Length=str(most + 1))
  assert (status, answer) == (413, b'over 16 MiB')
  status, _ = tx1.ask('POST', '/prompts?name=a.mid', iter(
      [*[bytes(2**20)] * (most // 2**20), b'.']))  # In chunks.
  assert status == 413
  # No path leads to other files.
  for path in ('/songs/1/..%2f..%2fetc%2fpasswd', '/songs/1/song-001.exe',
               '/app.html', '/%2e%2e/setup.cfg', '/songs/99', '/songs/x',
               '/songs/-1', f'/songs/{5000 * "9"}'):
    assert tx1.ask('GET', path)[0] == 404


@pytest.mark.parametrize('body, status, words', [
    ('{', 400, 'not JSON'), ('{}', 400, "'task' is missing"),
    (_new(task='old'), 400, 'task: expected one of new'),
    (_new(seconds=1e9), 400, 'seconds: a number from 0.001 to 600 expected'),
    (_new(seconds='1'), 400, 'seconds: a number from 0.001 to 600'),
    (_new(seed=-1), 400, 'seed: a whole number'),
    # By the ranges of flags and of Python's arguments.
    (_new(temperature=-1), 400, 'temperature: a number from 0 to 100'),
    (_new(temprature=1), 400, 'temprature: no such key; there are '),
    (_new(tempo=150), 400, 'tempo: no such key'),  # A model of TX1.
    (_new(prompt=1), 400, 'prompt: no such key'),
    (_new(task='voices', prompt=1, given_voices=[]), 400, 'no voices are giv'),
    (_new(task='continue'), 400, 'choose a song file'),
    (_new(task='continue', prompt=1, prompt_seconds=0), 400,
     'prompt_seconds: a number'),
    (_new(task='rhythm', prompt=9999), 404, 'choose it again'),
    (_new(x='x' * 2**16), 413, 'over'),
])
def test_requests_that_are_refused(tx1, body, status, words):
  found, answer = tx1.ask('POST', '/songs', body)
  assert found == status and words in answer.decode()


def test_a_request_that_fails_is_said_and_ends_nothing(tx1, tmp_path):
  song_files.write_song(tmp_path / 'a.mid', TUNE)
  prompt = json.loads(tx1.ask('POST', '/prompts?name=a.mid', (
      tmp_path / 'a.mid').read_bytes())[1])['prompt']
  number = json.loads(tx1.ask('POST', '/songs', _new(
      task='voices', prompt=prompt, given_voices=['p2']))[1])['number']
  failed = tx1.wait(number)
  assert failed['state'] == 'failed' and 'p2 play nothing' in failed['error']
  assert tx1.ask('GET', f'/songs/{number}')[0] == 404
  assert tx1.ask('POST', f'/songs/{number}/keep')[0] == 409
  again = json.loads(tx1.ask('POST', '/songs', _new())[1])['number']
  assert tx1.wait(again)['state'] == 'done'
  assert tx1.ask('DELETE', f'/songs/{number}')[0] == 200


def test_controls_go_to_models_that_take_them():
  data = _new(tempo=120, density=5., seed=3).encode()
  asked = request.parse(data, tiny_model('tracker'), {}.__getitem__)
  assert asked.options == {'seconds': 1, 'temperature': 1, 'seed': 3,
                           'tempo': 120, 'density': 5}
  with pytest.raises(ValueError, match='tempo: no such key'):
    request.parse(data, tiny_model('tx1'), {}.__getitem__)
  for values, words in (({'tempo': 1}, 'tempo=1: expected beats'),
                        ({'density': 0}, 'density: a number from 0.01'),
                        ({'voices': ['x' * 999]}, "voices: 'x+ is no voice"),
                        ({'song_length': 1e9}, 'song_length: a number')):
    with pytest.raises(ValueError, match=words) as error:
      request.parse(_new(**values).encode(), tiny_model('tracker'), None)
    assert len(str(error.value)) < 200


def test_the_queue_has_an_end(tmp_path):
  waiting = jobs.Jobs(tiny_model('tx1'), tmp_path, tmp_path)  # Nobody works.
  asked = request.parse(_new().encode(), waiting.model, {}.__getitem__)
  for _ in range(20):
    waiting.add(asked)
  with pytest.raises(ValueError, match='20 songs are waiting already'):
    waiting.add(asked)


@pytest.mark.slow
@pytest.mark.parametrize('form', ['tx1', 'tracker'])
def test_models_write(form, tmp_path):
  served = Served(tiny_model(form), tmp_path / 'kept')
  try:
    number = json.loads(served.ask('POST', '/songs', _new(seed=7))[1])['number']
    assert served.wait(number)['state'] == 'done'
    assert served.ask('POST', f'/songs/{number}/keep')[0] == 200
  finally:
    served.close()
  song = song_files.read_song(tmp_path / 'kept/song-001.mid')
  expected, = tiny_model(form).generate(seconds=1, seed=7, temperature=1)
  assert ev.times_of(song)[-1] == ev.times_of(expected.events)[-1]


def test_command_says_what_is_wrong(tmp_path, capsys):
  with socket.create_server(('127.0.0.1', 0)) as taken:
    port = taken.getsockname()[1]
    assert command.main([f'--port={port}']) == 1
  assert f'--port={port}: Address already in use' in capsys.readouterr().err
  assert command.main(['--port=0', f'--weights={tmp_path / "none"}']) == 1
  err = capsys.readouterr().err
  assert err.startswith('lakhnes_jax.app: ') and err.count('\n') == 1
