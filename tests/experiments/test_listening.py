"""The listening study: made, answered in a browser, analysed."""

import collections
import contextlib
import json
import math
import pathlib
import re
import time

import numpy as np
import pytest
import soundfile

from experiments.listening import __main__ as command
from experiments.listening import analysis, clips, study
from lakhnes_jax import events as ev
from lakhnes_jax import render
from lakhnes_jax.formats import song_files

BAR = ['P1_NOTEON_60', 'P2_NOTEON_64', 'TR_NOTEON_40', 'NO_NOTEON_3',
       'WT_22050', 'P1_NOTEON_67', 'NO_NOTEOFF', 'WT_22050']
FULL = np.tile(ev.from_text('\n'.join(BAR)), 8)
NO_NOISE = FULL[ev.voice_of(FULL) != ev.NO]
METHODS = {'ours': 60, 'ngram': 62, study.REAL: 64}


@pytest.fixture(scope='module')
def made(tmp_path_factory):
  """A study of two sheets a test, and what was said when it was made."""
  place = tmp_path_factory.mktemp('study')
  for method in METHODS:
    for i in range(2):
      song_files.write_song(place / method / f'{i}.mid', FULL)
  song_files.write_song(place / 'ours/silent.mid', NO_NOISE)
  song_files.write_song(place / 'ours/short.mid', FULL[:6])
  (place / 'ours/bad.mid').write_bytes(b'no MIDI')
  return place, study.write(
      place / 'study', {m: place / m for m in METHODS}, 2, 0)


def test_clips_have_all_voices_and_one_level():
  draws = np.random.default_rng(0)
  clip = clips.cut(FULL, draws)
  assert clip.shape == (5 * 44100,) and clip.dtype == np.float32
  assert np.sqrt(np.mean(clip**2)) == pytest.approx(.1, rel=.02)
  assert clip[0] == clip[-1] == 0
  assert clips.cut(NO_NOISE, draws) is None
  assert clips.cut(FULL[:len(BAR)], draws) is None
  loud = clips.level(np.eye(1, 44100, 9000, dtype=np.float32)[0])
  assert np.abs(loud).max() <= .95
  assert clips.control(draws).shape == clip.shape


def test_a_clip_is_a_part_of_its_song():
  whole, = render.render_events([FULL])
  start = int(np.random.default_rng(0).integers(len(whole) - 5 * 44100 + 1))
  np.testing.assert_allclose(
      clips.cut(FULL, np.random.default_rng(0)),
      clips.level(whole[start:start + 5 * 44100]), atol=1e-6)


def test_pairs():
  """10 a sheet, 2 against the control, the others evenly spread."""
  draws = np.random.default_rng(1)
  for test, first, others in (
      ('turing', 'real', {'a', 'b', 'c'}),
      ('preference', 'a', {'b', 'c', 'real'})):
    counts = collections.Counter()
    for _ in range(300):
      pairs = study.pairs_of(test, ['a', 'b', 'c'], draws)
      assert len(pairs) == 10 and {a for a, _ in pairs} == {first}
      counts.update(b for _, b in pairs)
    assert counts.keys() == others | {'control'}
    assert counts['control'] == 600
    assert all(700 < counts[other] < 900 for other in others)


def test_the_folder_tells_nothing(made):
  place, (key, errors) = made
  assert key == place / 'study.key.json'
  names = {path.relative_to(place / 'study').as_posix()
           for path in (place / 'study').rglob('*') if path.is_file()}
  pages = {f'{test}-{i}.html' for test in study.TESTS for i in (1, 2)}
  assert pages <= names and len(names) == 4 + 4 * 20
  assert all(re.fullmatch(r'clips/\d{6}\.wav', n) for n in names - pages)
  for name in pages:
    text = (place / 'study' / name).read_text('utf-8')
    assert not re.search('ours|ngram|control[^s"]|"real', text)
    assert not re.search(r'https?:|@import|url\(', text)
  known = json.loads(key.read_text())
  sides = [row[0]['method'] == 'real' for row in
           known['sheets']['turing-1'] + known['sheets']['turing-2']]
  assert 2 < sum(sides) < 18  # Real music is on either side.
  assert soundfile.info(place / 'study' / sorted(names)[0]).duration == 5
  assert any('bad.mid' in error for error in errors)
  for name in ('silent.mid', 'short.mid'):
    assert any(f'{name}: left out' in error for error in errors)


def test_a_listener_answers(made, chromium, tmp_path):
  place, (key_path, _) = made
  rows = json.loads(key_path.read_text())['sheets']['turing-1']
  page = place / 'study/turing-1.html'
  chromium.problems.clear()
  chromium.size(1000, 900)
  chromium.open(page)
  chromium.download_to(tmp_path)
  status = 'document.querySelector("[role=status]").textContent'
  button = 'document.querySelector("button").disabled'
  assert chromium.js(status) == '0 of 10 answered' and chromium.js(button)
  # A clip is heard; another stops it.
  playing = '!document.querySelectorAll("audio")[{}].paused'
  for i in (0, 1):
    x, y = chromium.middle(f'.pair div:nth-of-type({i + 1}) audio')
    wide = chromium.js('document.querySelector("audio").offsetWidth')
    for _ in range(6):  # A busy machine loses a click.
      chromium.drag((x - wide / 2 + 20, y))  # The button at its left end.
      with contextlib.suppress(TimeoutError):
        chromium.wait(playing.format(i), 10)
        break
    assert chromium.js(playing.format(i))
  chromium.wait('!(' + playing.format(0) + ')')
  real = [next(side['clip'] for side in row if side['method'] == 'real')
          for row in rows]
  for i, clip in enumerate(real):
    chromium.click(f'[value="{clip}"]')
    assert chromium.js(status) == f'{i + 1} of 10 answered'
    if i == 4:  # Answers stay when the page is loaded anew.
      chromium.open(page)
      chromium.wait(f'{status} === "5 of 10 answered"')
  assert not chromium.js(button)
  chromium.click('button')
  end = time.monotonic() + 30
  while not (found := list(tmp_path.glob('answers-turing-1-*.json'))):
    assert time.monotonic() < end
    time.sleep(.05)
  assert json.loads(found[0].read_text())['chosen'] == real
  got = analysis.summarise(analysis.read_key(key_path), found)
  assert got['dropped'] == 0
  assert got['turing']['ours']['share'] == got['turing']['ngram']['share'] == 1
  for width in (1000, 320):
    chromium.size(width, 800, phone=width < 500)
    assert chromium.js('document.documentElement.scrollWidth') <= width
  assert chromium.problems == []


def _answers(folder, rows, sheet, listener, hits) -> pathlib.Path:
  """Saves answers that choose the first method of a pair where `hits` says."""
  first = 'real' if sheet.startswith('turing') else 'ours'
  path = folder / f'{sheet}-{listener}.json'
  path.write_text(json.dumps({'sheet': sheet, 'listener': listener, 'chosen': [
      next(side['clip'] for side in row if
           (side['method'] == first) == hit)
      for row, hit in zip(rows, hits, strict=True)]}))
  return path


def _key() -> dict:
  """4 pairs a sheet: ours twice, another, the control."""
  numbers = iter(range(100))
  return {'first': 'ours', 'sheets': {
      f'{test}-1': [[{'clip': str(next(numbers)), 'method': method}
                     for method in pair] for pair in pairs]
      for test, pairs in (
          ('turing', [('real', 'ours'), ('ours', 'real'), ('real', 'ngram'),
                      ('control', 'real')]),
          ('preference', [('ours', 'real'), ('ngram', 'ours'),
                          ('real', 'ours'), ('ours', 'control')]))}}


def test_shares(tmp_path, capsys):
  key = _key()
  (tmp_path / 'a.key.json').write_text(json.dumps(key))
  rows = key['sheets']['turing-1']
  paths = [
      _answers(tmp_path, rows, 'turing-1', 'a', [True, True, False, True]),
      _answers(tmp_path, rows, 'turing-1', 'b', [True, False, False, True]),
      # Fails the control: nothing of it counts.
      _answers(tmp_path, rows, 'turing-1', 'c', [False, False, True, False]),
      _answers(tmp_path, key['sheets']['preference-1'], 'preference-1', 'a',
               [False, True, False, True])]
  assert command.main(['analyse', str(tmp_path / 'a.key.json'),
                       *map(str, paths)]) == 0
  out = capsys.readouterr().out
  found = json.loads((tmp_path / 'a.results.json').read_text())
  assert (found['sheets'], found['dropped']) == (4, 1)
  ours = found['turing']['ours']
  # 3 of 4: sqrt(3/4 * 1/4 / 4); 2 (1 + 4) / 16 of the binomial's mass.
  assert (ours['n'], ours['share']) == (4, .75)
  assert ours['stderr'] == pytest.approx(math.sqrt(3) / 8)
  assert ours['p_value'] == pytest.approx(10 / 16)
  assert found['turing']['ngram']['share'] == 0
  assert found['turing']['control'] == {
      'n': 3, 'share': pytest.approx(2 / 3), 'stderr': pytest.approx(
          math.sqrt(2) / math.sqrt(27)), 'p_value': pytest.approx(1)}
  assert found['preference']['real']['share'] == 0
  assert found['preference']['ngram']['share'] == 1
  assert '4 sheets answered, 1 dropped' in out
  assert 'against ours: 0.750 ± 0.217 of 4, p = 0.62' in out
  picture = tmp_path / 'a.results.png'
  assert picture.read_bytes().startswith(b'\x89PNG')


@pytest.mark.parametrize('content, words', [
    ('{', 'not JSON'), ('{}', "'sheet' is missing"),
    ({'sheet': 'turing-9'}, 'not the answers to a sheet of this study'),
    ({'chosen': ['0']}, 'not the answers to a sheet'),
    ({'chosen': ['0', '2', '4', '0'], 'listener': 'b'},
     "'0' is no clip of its pair"),
    ({}, 'same listener and sheet'),
])
def test_answers_of_no_use_are_named(tmp_path, capsys, content, words):
  key = _key()
  (tmp_path / 'key.json').write_text(json.dumps(key))
  good = _answers(tmp_path, key['sheets']['turing-1'], 'turing-1', 'a',
                  4 * [True])
  bad = tmp_path / 'bad.json'
  bad.write_text(content if isinstance(content, str) else
                 json.dumps(json.loads(good.read_text()) | content))
  assert command.main(['analyse', str(tmp_path / 'key.json'), str(good),
                       str(bad)]) == 1
  err = capsys.readouterr().err
  assert words in err and str(bad) in err and err.count('\n') == 1


def test_studies_that_cannot_be_made(tmp_path, capsys):
  for name, events in (('real', FULL), ('quiet', NO_NOISE)):
    song_files.write_song(tmp_path / name / 'a.mid', events)
  (tmp_path / 'there').mkdir()
  (tmp_path / 'empty').mkdir()
  for out, method, words in (
      ('there', 'a=quiet', 'there: is there already'),
      ('new', 'a=none', 'none: no such folder'),
      ('new', 'a=empty', 'empty: no song file there'),
      ('new', 'a=quiet', 'no song of a in which all four voices play')):
    name, _, folder = method.partition('=')
    assert command.main([
        'make', f'--out={tmp_path / out}', f'--real={tmp_path / "real"}',
        f'--method={name}={tmp_path / folder}', '--sheets=1']) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / 'new').exists()  # Nor half of it.
  for flags in (['--method=control=x'], ['--method=x'], ['--sheets=0']):
    with pytest.raises(SystemExit) as end:
      command.main(['make', '--out=x', '--real=x', '--method=a=b', *flags])
    assert end.value.code == 2
    assert flags[0].partition('=')[0] in capsys.readouterr().err
