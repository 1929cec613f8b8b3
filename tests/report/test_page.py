"""The listening page: what is written in it, and used in a real browser."""

import html.parser
import json
import re
import time
import urllib.parse

import numpy as np
import pytest
import soundfile

from lakhnes_jax import events as ev
from lakhnes_jax import page as page_command
from lakhnes_jax import render
from lakhnes_jax.formats import song_files
from lakhnes_jax.report import page, song_card
from lakhnes_jax.synth import score as scores

TUNE = ('P1_NOTEON_60 WT_11025 P1_NOTEON_64 TR_NOTEON_40 NO_NOTEON_3 WT_11025 '
        'P1_NOTEOFF NO_NOTEOFF WT_5513 P2_NOTEON_72 P2_VELOCITY_4 WT_11025 '
        'P2_VELOCITY_2 WT_11025')


def song(text: str = TUNE, times: int = 1) -> np.ndarray:
  return np.tile(ev.from_text(text.replace(' ', '\n')), times)


class Elements(html.parser.HTMLParser):
  """Collects (tag, attributes, text right after it)."""

  def __init__(self, path):
    super().__init__()
    self.found = []
    self.feed(path.read_text('utf-8'))

  def handle_starttag(self, tag, attrs):
    self.found.append([tag, dict(attrs), ''])

  def handle_data(self, data):
    if self.found:
      self.found[-1][2] += data

  def all(self, tag, **attributes):
    return [(attrs, text) for found, attrs, text in self.found
            if found == tag and attributes.items() <= attrs.items()]


def test_one_file_a_song(tmp_path):
  for name in ('b.mid', 'b.tx1.txt', 'a.mid', 'real/a.vgm', 'real/a.tx2.txt'):
    song_files.write_song(tmp_path / name, song())
  (tmp_path / 'notes.txt').write_text('no song')
  assert {name: path.relative_to(tmp_path).as_posix()
          for name, path in page.songs(tmp_path).items()} == {
              'a': 'a.mid', 'b': 'b.tx1.txt', 'real/a': 'real/a.tx2.txt'}
  assert list(page.songs(tmp_path)) == ['a', 'b', 'real/a']
  with pytest.raises(FileNotFoundError, match='none: no such folder'):
    page.songs(tmp_path / 'none')


def test_bars_of_the_roll():
  assert song_card._notes(scores.from_events(song())) == [
      [0, 250, 60, 31, 250, 250, 64, 31],
      [625, 250, 72, 20, 250, 250, 72, 2],
      [250, 875, 40, 17],
      [250, 250, 3, 31]]


def test_page_says_what_is_known(tmp_path):
  for name in ('000.tx1.txt', '000.mid', '001.tx1.txt', 'real/x.mid'):
    song_files.write_song(tmp_path / name, song())
  (tmp_path / '000.wav').write_bytes(b'')
  (tmp_path / 'samples.json').write_text(json.dumps([
      {'name': '000', 'temperature': 0.95, 'given_voices': ['P1', 'NO'],
       'nll_generated': 1.0986123, 'nll_given': None, 'seed': 3},
      {'name': '001', 'temperature': 0.95, 'seed': 4}]))
  run = RUN | {'song': 'Duck <Tales>'}
  (tmp_path / 'metrics.json').write_text(json.dumps({
      'metrics': {'note_density': {'reference_mean': 20, 'reference_std': 3}},
      'samples': {
          '000': {'metrics': {'note_density': 7.5, 'silence': None},
                  'memorisation': {'melody': run}},
          'real/x': {'metrics': {}, 'memorisation': {'melody': run | {
              'copied': False}}}}}))
  assert page.write(tmp_path, 'My tunes') == tmp_path / 'index.html'
  text = (tmp_path / 'index.html').read_text('utf-8')
  found = Elements(tmp_path / 'index.html')
  assert found.all('h1')[0][1].strip() == 'My tunes'
  assert [text for _, text in found.all('h3')] == ['000', '001', 'x']
  assert {a['href'] for a, _ in found.all('a') if 'download' in a} == {
      '000.mid', '000.tx1.txt', '000.wav', '001.tx1.txt', 'real/x.mid'}
  assert [a['href'] for a, _ in found.all('a') if 'download' not in a] == [
      '#g0', '#g1']
  assert [a['src'] for a, _ in found.all('audio')] == ['000.wav']
  assert ['disabled' in a for a, _ in found.all('button')] == [
      False, True, True]
  assert '<dt>perplexity</dt><dd title="NLL 1.0986 nats per event">3.00' in text
  for fact in ('<b>seed</b> 3', '<b>seed</b> 4',
               '<b>given voices</b> P1, NO'):
    assert fact in text
  assert '12 notes, 3.2 s, are as in Duck &lt;Tales&gt;' in text
  assert 'Duck &lt;Tales&gt; at 1:15, -2 semitones' in text
  assert '<td>7.500</td><td>20.000 ± 3.000</td>' in text
  assert text.count('Shares no more') == 1
  # Nothing comes from elsewhere.
  assert not re.search(r'https?:|//[a-z]|@import|url\(', text)


def test_settings_that_all_share_are_told_once(tmp_path):
  rows = [{'name': f'{i}', 'seed': 5, 'number': i, 'file': f'f{i}'}
          for i in range(3)]
  for row in rows:
    song_files.write_song(tmp_path / f'{row["name"]}.mid', song())
  (tmp_path / 'samples.json').write_text(json.dumps(rows))
  text = page.write(tmp_path).read_text('utf-8')
  assert text.count('<b>seed</b> 5') == 1
  # A title stays when the page is made anew.
  page.write(tmp_path, title='A & B')
  assert Elements(page.write(tmp_path)).all('title')[0][1].strip() == (
      'A & B')
  assert all(f'<b>file</b> f{i}' in text for i in range(3))


NASTY = ['a"b', "it's", '<b>x', '<script>alert(1)', 'é #1 100%?', '{{songs}}',
         'a&lt;b', ' ']


def test_names_are_text_and_links_lead_to_files(tmp_path):
  for name in NASTY:
    song_files.write_song(tmp_path / f'{name}.mid', song())
  (tmp_path / 'samples.json').write_text(json.dumps([
      {'name': name, 'source': '<img src=x onerror=alert(1)>'}
      for name in NASTY[:2]]))
  found = Elements(page.write(tmp_path, title='<i>T</i>'))
  assert sorted(text for _, text in found.all('h3')) == sorted(NASTY)
  assert found.all('h1')[0][1].strip() == '<i>T</i>'
  assert not found.all('img') and not found.all('i')
  assert len(found.all('script')) == 2 + len(NASTY)
  for attrs, _ in found.all('a'):
    assert (tmp_path / urllib.parse.unquote(attrs['href'])).is_file()


@pytest.mark.parametrize('name, content, message', [
    ('samples.json', '{', 'samples.json: not JSON'),
    ('samples.json', '[3]', 'samples.json: not a list of objects'),
    ('samples.json', '{"a": 1}', 'samples.json: not a list of objects'),
    ('metrics.json', '{"samples": []}', 'not what experiments.metrics writes'),
    ('metrics.json', '{"samples": {"a": 3}}', 'not what experiments.metrics'),
    ('metrics.json', json.dumps({'metrics': {}, 'samples': {'a': {
        'metrics': {}, 'memorisation': {'notes': {
            'length': 1, 'seconds': 'x', 'copied': True}}}}}),
     'not what experiments.metrics'),
    ('samples.json', 9999 * '[', 'samples.json: not JSON'),
])
def test_bad_json_is_named(tmp_path, name, content, message, capsys):
  song_files.write_song(tmp_path / 'a.mid', song())
  (tmp_path / name).write_text(content)
  with pytest.raises(ValueError, match=message):
    page.write(tmp_path)
  assert page_command.main([str(tmp_path)]) == 1
  err = capsys.readouterr().err
  assert message in err and str(tmp_path) in err


def test_command(tmp_path, capsys):
  song_files.write_song(tmp_path / 'a.mid', song())
  song_files.write_song(tmp_path / 'log.vgm', song())
  (tmp_path / 'bad.mid').write_bytes(b'no MIDI')
  song_files.write_song(tmp_path / 'empty.tx1.txt', song('P1_NOTEOFF'))
  assert page_command.main([str(tmp_path), '--render']) == 1
  out, err = capsys.readouterr()
  assert out.split() == [str(tmp_path / name) for name in (
      'a.wav', 'log.wav', 'index.html')]
  assert 'bad.mid' in err and 'empty: it has no wait' in err
  assert len(Elements(tmp_path / 'index.html').all('audio')) == 2
  assert soundfile.info(tmp_path / 'a.wav').duration == pytest.approx(
      1.125, abs=0.01)
  # Once made, audio stays.
  before = (tmp_path / 'a.wav').stat().st_mtime_ns
  page_command.main([str(tmp_path), '--render'])
  assert (tmp_path / 'a.wav').stat().st_mtime_ns == before
  for folder in ('none', 'new'):
    (tmp_path / 'new').mkdir(exist_ok=True)
    assert page_command.main([str(tmp_path / folder)]) == 1
  err = capsys.readouterr().err
  assert 'no such folder' in err and 'no song file there' in err
  with pytest.raises(ValueError, match='no song file there'):
    page.write(tmp_path / 'new')


LAST = 'a"b #1 50%25?'  # Its address is not its name.
RUN = {'length': 12, 'notes': 12, 'pitches': 5, 'seconds': 3.25, 'at': 1.0,
       'song_at': 75.0, 'shift': -2, 'song': 'Duck_Tales' * 20, 'share': 0.25,
       'held_out_as_long': 0.01, 'copied': True}


@pytest.fixture
def tunes(tmp_path, chromium):
  """Three playable songs in two sections, opened."""
  folder = tmp_path / "it's <b>100%</b> #1"
  long = song(times=24)
  seconds = ev.times_of(long)[-1] / 44100
  tone = np.sin(np.arange(int(seconds * 44100)) / 50) / 10
  for name in ('000', '001', f'real/{LAST}'):
    song_files.write_song(folder / f'{name}.tx1.txt', long)
    render.write_audio(folder / f'{name}.wav', tone)
  (folder / 'samples.json').write_text(json.dumps([
      {'name': '000', 'task': 'continue', 'n_given': 40}]))
  (folder / 'metrics.json').write_text(json.dumps({
      'metrics': {}, 'samples': {'000': {
          'metrics': {}, 'memorisation': {'notes': RUN}}}}))
  chromium.problems.clear()
  chromium.size(1200, 900)
  chromium.open(page.write(folder))
  assert seconds > 20
  yield chromium
  assert chromium.problems == []


CARD = 'document.querySelectorAll("article")[{}]'
ROLL = CARD + '.querySelector(".roll").toDataURL()'
TIME = CARD + '.querySelector("audio").currentTime'
PLAYS = '!' + CARD + '.querySelector("audio").paused'
CURRENT = 'document.querySelector("[aria-current] h3").textContent'


def test_playing(tunes):
  before = tunes.js(ROLL.format(0))
  assert tunes.js(TIME.format(0)) == 0
  tunes.click('#s0 .play')
  tunes.wait(TIME.format(0) + ' > 0.3')
  assert tunes.js(ROLL.format(0)) != before
  assert tunes.js('document.querySelector("#s0 .play").ariaLabel') == (
      'Pause 000')
  assert float(tunes.js('document.querySelector("#s0 input").value')) > 0.2
  # The roll moves on by itself.
  now = tunes.js(ROLL.format(0))
  tunes.wait(f'{ROLL.format(0)} !== {json.dumps(now)}')
  # Only one plays at a time.
  tunes.click('#s2 .play')
  tunes.wait(TIME.format(2) + ' > 0.1')
  assert [tunes.js(PLAYS.format(i)) for i in range(3)] == [False, False, True]
  tunes.click('#s2 .play')
  tunes.wait('!(' + PLAYS.format(2) + ')')
  stopped = tunes.js(TIME.format(2))
  time.sleep(0.3)
  assert tunes.js(TIME.format(2)) == stopped
  assert tunes.js('document.querySelector("#s2 .play").ariaLabel') == (
      f'Play {LAST}')


def test_seeking(tunes):
  clock = 'document.querySelector("#s0 output").textContent'
  x, y = tunes.middle('#s0 .roll')
  # Before any sound is loaded: a click goes to the place clicked.
  scale = tunes.js('songs[0].scale()')
  tunes.drag((x, y))
  at = 0.25 * tunes.js('songs[0].roll.clientWidth') / scale
  assert tunes.js('songs[0].time()') == pytest.approx(at, abs=0.05)
  # Dragging to the left is going on.
  tunes.drag((x, y), (x - 2 * scale, y))
  assert tunes.js('songs[0].time()') == pytest.approx(at + 2, abs=0.05)
  tunes.click('#s0 .play')
  tunes.wait(TIME.format(0) + ' > 0')
  assert at + 1.9 < tunes.js(TIME.format(0)) < at + 9
  tunes.click('#s0 .play')
  # The slider, by mouse and by key.
  tunes.click('#s0 .seek input')
  half = tunes.js('songs[0].seconds') / 2
  assert tunes.js(TIME.format(0)) == pytest.approx(half, rel=0.05)
  tunes.key('ArrowRight')
  assert tunes.js(CURRENT) == '000'
  assert tunes.js(clock) == (
      f'{int(tunes.js(TIME.format(0))) // 60}:'
      f'{int(tunes.js(TIME.format(0))) % 60:02}')
  # No place outside the song.
  x, y = tunes.middle('#s0 .roll')
  for way in (400, -400):
    for _ in range(12):
      tunes.drag((x, y), (x + way, y))
    assert tunes.js(TIME.format(0)) == pytest.approx(
        0 if way > 0 else tunes.js('songs[0].seconds'), abs=0.05)


def test_keys(tunes):
  assert tunes.js(CURRENT) == '000'
  tunes.key('ArrowRight')
  assert tunes.js(CURRENT) == '001'
  assert not tunes.js(PLAYS.format(1))
  tunes.key(' ')
  tunes.wait(TIME.format(1) + ' > 0.1')
  # Another song goes on playing in place of this one.
  tunes.key('ArrowRight')
  tunes.wait(TIME.format(2) + ' > 0.1')
  assert tunes.js(CURRENT) == LAST
  assert [tunes.js(PLAYS.format(i)) for i in range(3)] == [False, False, True]
  tunes.key('ArrowRight')  # The last stays the last.
  assert tunes.js(CURRENT) == LAST and tunes.js(PLAYS.format(2))
  before = tunes.js(TIME.format(2))
  tunes.key('ArrowRight', shift=True)
  assert tunes.js(TIME.format(2)) >= before + 2
  tunes.key(' ')
  tunes.wait('!(' + PLAYS.format(2) + ')')
  tunes.key('ArrowLeft')
  assert tunes.js(CURRENT) == '001'
  # Space on a button is the button's.
  tunes.js('document.querySelector("#s0 .play").focus()')
  tunes.key(' ')
  tunes.wait(PLAYS.format(0))
  tunes.key(' ')
  tunes.wait('!(' + PLAYS.format(0) + ')')


def test_playing_on(tunes):
  tunes.click('#on')
  tunes.js('songs[0].seek(songs[0].seconds - 0.3)')
  tunes.click('#s0 .play')
  tunes.wait(TIME.format(1) + ' > 0.1')
  assert tunes.js(CURRENT) == '001'
  # Without the tick it ends there.
  tunes.click('#on')
  tunes.js('songs[1].seek(songs[1].seconds - 0.3)')
  tunes.wait('!(' + PLAYS.format(1) + ')')
  time.sleep(0.2)
  assert not tunes.js(PLAYS.format(2))
  assert tunes.js(TIME.format(1)) == 0


@pytest.mark.parametrize('width, phone', [(1200, False), (390, True),
                                          (320, True)])
@pytest.mark.parametrize('dark', [False, True])
def test_looks(tunes, width, phone, dark):
  light = tunes.js('getComputedStyle(document.body).backgroundColor')
  tunes.size(width, 800, dark=dark, phone=phone)
  assert (tunes.js('getComputedStyle(document.body).backgroundColor') !=
          light) == dark
  # Nothing sticks out at the side.
  tunes.js('document.querySelectorAll("details").forEach(d => d.open = true)')
  assert tunes.js('document.documentElement.scrollWidth') <= width
  tunes.wait('songs[0].roll.width >= songs[0].roll.clientWidth')
  # The first note, of P1, is drawn in its colour a little after the playhead.
  tunes.wait('''(() => {
      const c = songs[0].roll, g = c.getContext('2d');
      const ratio = c.width / c.clientWidth;
      const x = (0.25 * c.clientWidth + 0.1 * songs[0].scale()) * ratio;
      const column = g.getImageData(Math.round(x), 0, 1, c.height).data;
      const probe = document.createElement('canvas').getContext('2d');
      probe.fillStyle = colour.v0; probe.fillRect(0, 0, 1, 1);
      const want = probe.getImageData(0, 0, 1, 1).data;
      for (let i = 0; i < column.length; i += 4)
        if ([0, 1, 2].every(k => Math.abs(column[i + k] - want[k]) < 9))
          return true;
      return false; })()''')


def test_a_file_that_is_no_audio(tmp_path, chromium):
  song_files.write_song(tmp_path / 'a.mid', song())
  (tmp_path / 'a.wav').write_bytes(b'no audio')
  chromium.size(800, 600)
  chromium.open(page.write(tmp_path))
  chromium.click('#s0 .play')
  chromium.wait('document.querySelector("#s0 .play").disabled')
  assert 'cannot be played' in chromium.js(
      'document.querySelector("#s0 [role=alert]").textContent')


def test_many_songs_load_fast(tmp_path, chromium):
  for i in range(100):
    song_files.write_song(tmp_path / f'{i:03}.tx1.txt', song(times=100))
  path = page.write(tmp_path)
  assert path.stat().st_size < 2e6
  chromium.size(1200, 900)
  chromium.open(path)
  # Only what is near the screen is drawn or even read.
  chromium.wait('songs[0].bars')
  assert chromium.js('songs.filter(song => song.bars).length') < 10
  assert chromium.js('document.querySelectorAll("article").length') == 100
