"""The face of the package: `import lakhnes_jax`, and what a notebook does."""

import subprocess
import sys

import jax
import numpy as np
import pytest
import soundfile

import lakhnes_jax
from experiments import options
from lakhnes_jax import events as ev
from lakhnes_jax import render
from lakhnes_jax.formats import song_files
from lakhnes_jax.generation import sample, tasks
from lakhnes_jax.model import transformer_xl
from lakhnes_jax.model.language_model import LanguageModel
from lakhnes_jax.weights import weights_folder

NOTES = ev.from_text('\n'.join(
    4 * ['P1_NOTEON_60', 'TR_NOTEON_40', 'WT_700', 'P1_NOTEOFF', 'WT_9000']))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A weights folder of a tiny model."""
  path = tmp_path_factory.mktemp('weights')
  model = LanguageModel(transformer_xl.ModelConfig(
      n_token=ev.TX1.size, n_layer=1, n_head=2, d_model=8, d_head=4, d_inner=8))
  weights_folder.save(path, model.init_params(jax.random.key(0)), {
      'model': model.name, 'config': model.to_dict(), 'format': 'tx1',
      'mem_len': 8})
  return path


@pytest.fixture(scope='module')
def model(folder):
  return lakhnes_jax.load(folder)


def test_what_is_not_used_is_not_imported():
  code = ('import sys, lakhnes_jax; '
          'print({"numpy", "jax", "soundfile"} & sys.modules.keys()); '
          'lakhnes_jax.read_song; print({"jax"} & sys.modules.keys()); '
          'print(*dir(lakhnes_jax))')
  done = subprocess.run([sys.executable, '-c', code], check=True, text=True,
                        capture_output=True)
  before, after, names = done.stdout.splitlines()
  assert before == after == 'set()'
  assert {'Model', 'Song', 'load', 'read_song'} <= set(names.split())


def test_unknown_names():
  with pytest.raises(AttributeError, match="no attribute 'lode'"):
    lakhnes_jax.lode  # noqa: B018


def test_songs_are_those_of_the_sampler(model, folder):
  assert repr(model) == 'Model(tx1, 1 layers of 8, memory 8)'
  first, second = model.generate(2, length=20, seed=7)
  expected = sample.generate(
      model.sampled, [tasks.new_song(ev.TX1, tasks.Limits(20), grammar=True)],
      sample.SamplingConfig(temperature=1., top_k=0, tail_p=.92,
                            context_weight=.1, seed=7), n=2)
  for song, other in zip((first, second), expected, strict=True):
    np.testing.assert_array_equal(song.events, other.events)
  assert len(first.events) == 20
  assert first.metadata['seed'] == 7 and first.metadata['task'] == 'new'
  assert repr(first).startswith("Song('000', ")
  again, = lakhnes_jax.load(str(folder)).generate(length=20, seed=7)
  np.testing.assert_array_equal(again.events, first.events)


@pytest.mark.parametrize('name, write', [
    ('sample', lambda model: model.generate(length=4)),
    ('continue', lambda model: model.continue_song(NOTES, prompt_events=6,
                                                   length=4)),
    ('rhythm', lambda model: model.new_pitches(NOTES)),
    ('voices', lambda model: model.accompany(NOTES, ['p1'], seconds=.1))])
def test_defaults_are_those_of_the_flag_files(model, name, write):
  lines = (options.FLAGS_DIR / f'{name}.flags').read_text().splitlines()
  made, = write(model)
  for setting in ('temperature', 'top_k', 'tail_p', 'context_weight'):
    assert f'--{setting}={made.metadata[setting]:g}' in lines, setting
  assert ('--grammar' in lines) == bool(made.metadata.get('grammar'))


def test_given_songs(model, tmp_path):
  song = lakhnes_jax.Song(NOTES, 'tune')
  path = song.save(tmp_path / 'tune.mid')
  longer, = model.continue_song(path, prompt_events=6, length=5)
  np.testing.assert_array_equal(longer.events[:6], NOTES[:6])
  assert len(longer.events) == 11 and longer.name == 'tune-000'
  other, = model.new_pitches(song)
  np.testing.assert_array_equal(ev.times_of(other.events), ev.times_of(NOTES))
  assert np.any(other.events != NOTES)
  both = model.accompany(NOTES, ['p1', 'tr'], 2, seconds=.1)
  assert [made.name for made in both] == ['song-000', 'song-001']
  assert both[0].seconds == pytest.approx(.1, abs=1e-4)
  with pytest.raises(ValueError, match="'p7' is no voice"):
    model.accompany(song, ['p7'])
  with pytest.raises(ValueError, match='found -1'):
    model.generate(seconds=-1)


def test_a_song_is_heard_seen_and_saved(tmp_path):
  song = lakhnes_jax.Song(NOTES, 'a <b> $$')
  assert song.seconds == 4 * 9700 / 44100
  audio = song.render()
  expected, = render.render_events([NOTES])
  np.testing.assert_array_equal(audio, expected)
  np.testing.assert_array_equal(
      song.render('reference', voices=['TR']),
      render.render_events([NOTES], 'reference', voices=[2])[0])
  for ending in ('mid', 'tx1.txt', 'vgm'):
    assert len(song_files.read_song(song.save(tmp_path / f'a.{ending}'))) > 10
  wave, rate = soundfile.read(song.save(tmp_path / 'a.wav'))
  assert (len(wave), rate) == (len(audio), lakhnes_jax.SAMPLE_RATE)
  assert song.save(tmp_path / 'a.png').read_bytes().startswith(b'\x89PNG')
  shown = song._repr_html_()
  assert 'a &lt;b&gt; $$' in shown and '<b>' not in shown
  assert 'data:audio/ogg' in shown and 'data:image/png' in shown
  for wrong, words in (
      (lambda: song.save(tmp_path / 'a.mp3'),
       r'a\.mp3: expected one of \.mid'),
      (lambda: song.render('best'), "engine 'best'"),
      (lambda: song.render(voices=['p3']), "'p3' is no voice")):
    with pytest.raises(ValueError, match=words):
      wrong()


def test_a_song_goes_round(tmp_path):
  tune = [60, 64, 67, 72, 71, 67, 64, 62]
  events = np.array([x for pitch in [50, 53, *tune, *tune, *tune]
                     for x in (ev.event(ev.P1, ev.NOTEON, pitch), 12 * 735)],
                    np.int32)
  looped = lakhnes_jax.Song(events, 'tune').looped()
  length = int(ev.times_of(looped.events)[-1])
  round_ = length - round(looped.metadata['loop'] * 44100)
  assert round_ % (8 * 12 * 735) == pytest.approx(0, abs=3)
  log = song_files.read_log(looped.save(tmp_path / 'tune.vgm'), 2)
  assert log.length == pytest.approx(length + round_, abs=3)
  with pytest.raises(ValueError, match='once: no part of it comes again'):
    lakhnes_jax.Song(events[:6], 'once').looped()
