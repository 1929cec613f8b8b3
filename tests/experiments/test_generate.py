"""Sampling by command: each task in each format, and what is refused."""

import json

import numpy as np
import pytest
import soundfile

from lakhnes_jax import events as ev
from lakhnes_jax.data import augment, shards
from lakhnes_jax.formats import song_files
from lakhnes_jax.generation import load
from support import experiments_run

# Of both formats: P1, TR and NO play.
PHRASE = '''WT_100
P1_NOTEON_60
P1_VELOCITY_9
TR_NOTEON_48
NO_NOTEON_4
NO_VELOCITY_7
NO_TIMBRE_1
WT_735
P1_VELOCITY_5
NO_NOTEOFF
WT_3000
P1_NOTEON_62
P1_VELOCITY_8
TR_NOTEOFF
WT_2205
P1_NOTEOFF
WT_735'''


@pytest.fixture(scope='module')
def made(tmp_path_factory):
  """A folder with a song of each format and a model trained on it."""
  folder = tmp_path_factory.mktemp('generate')
  song = ev.from_text(PHRASE)
  song_files.write_song(folder / 'song.tx2.txt', np.tile(song, 4))
  song_files.write_song(folder / 'notes.tx1.txt', np.tile(song, 4))
  song_files.write_song(folder / 'song.mid', np.tile(song, 4))
  (folder / 'bad.tx1.txt').write_text('WT_9\nP1_NOTEON_20\n')
  (folder / 'what.tx1.txt').write_text('WT_9\nP5_NOTEON_60\n')
  (folder / 'empty.tx1.txt').write_text('WT_900\n')
  for form in ('tx1', 'tx2'):
    shards.write_split(folder / 'data', 'train', [('a', np.tile(song, 20))] * 4)
    assert experiments_run.main(
        '--mode=train', f'--format={form}', '--n_layer=1', '--n_head=2',
        '--d_model=8', '--d_head=4', '--d_inner=8', '--tgt_len=16',
        '--mem_len=16', '--batch_size=4', '--max_steps=2', '--eval_every=2',
        '--save_every=2', f'--data_dir={folder}/data',
        f'--workdir={folder}/{form}') == 0
  return folder


def _given_part(song, voices):
  part = augment.keep_voices(song, voices)
  return list(zip(ev.times_of(part)[part < 0].tolist(),
                  part[part < 0].tolist(), strict=True))


@pytest.mark.parametrize('form', ['tx1', 'tx2'])
def test_every_task_in_every_format(made, tmp_path, form):
  def sample(flagfile, *given):
    assert experiments_run.main(
        f'--flagfile={flagfile}.flags', f'--workdir={made}/{form}',
        f'--out_dir={tmp_path}', '--n_samples=1', f'--format={form}',
        *given) == 0

  source = ev.VOCABULARIES[form].project(
      song_files.read_song(made / 'song.mid'))
  sample('sample', '--length=20', '--top_p=.9')
  sample('continue', f'--input={made}/song.mid', '--prompt_events=12',
         '--length=5')
  (tmp_path / f'song-000.{form}.txt').rename(tmp_path / f'c.{form}.txt')
  sample('voices', f'--input={made}/song.mid', '--given_voices=p1,NO')
  (tmp_path / f'song-000.{form}.txt').rename(tmp_path / f'v.{form}.txt')
  sample('rhythm', f'--input={made}/song.mid')

  def read(name):
    return song_files.read_song(tmp_path / f'{name}.{form}.txt')

  assert len(read('000')) == 20
  np.testing.assert_array_equal(read('c')[:13], source[:13])
  assert len(read('c')) == 18
  assert _given_part(read('v'), (0, 3)) == _given_part(source, (0, 3))
  rhythm = read('song-000')
  np.testing.assert_array_equal(ev.times_of(rhythm), ev.times_of(source))
  np.testing.assert_array_equal(ev.kind_of(rhythm), ev.kind_of(source))
  assert (np.max(ev.kind_of(rhythm)) > ev.NOTEON) == (form == 'tx2')
  audio, _ = soundfile.read(tmp_path / 'song-000.wav')
  assert len(audio) == ev.times_of(source)[-1]
  assert (tmp_path / 'index.html').exists()
  by_name = {row['name']: row
             for row in json.loads((tmp_path / 'samples.json').read_text())}
  assert by_name['song-000']['task'] == 'rhythm'
  assert by_name['song-000']['source'] == f'{made}/song.mid'
  assert by_name['song-000']['format'] == form
  assert 1 < by_name['song-000']['nll_given'] < 9
  assert by_name['000']['mem_len'] == 16  # What it was trained with.
  assert by_name['000']['top_p'] == .9


def test_songs_that_go_round(made, tmp_path):
  """Each in files that have loops, and all of them in an album."""
  assert experiments_run.main(
      '--flagfile=sample.flags', f'--workdir={made}/tx1', '--n_samples=2',
      f'--out_dir={tmp_path}', '--seconds=4', '--loop', '--album=Two/3') == 0
  rows = json.loads((tmp_path / 'samples.json').read_text())
  for row in rows:
    song = song_files.read_song(tmp_path / f'{row["name"]}.tx1.txt')
    length, loop = int(ev.times_of(song)[-1]), round(row['loop'] * 44100)
    assert 0 <= loop < length <= 4 * 44100
    for ending in ('vgm', 'nsf', 'famitracker.txt'):
      assert (tmp_path / f'{row["name"]}.{ending}').exists()
    once, twice = (song_files.read_log(tmp_path / f'{row["name"]}.vgm', n)
                   for n in (1, 2))
    assert abs(once.length - length) < 2
    assert abs(twice.length - once.length - (length - loop)) < 2
  album = (tmp_path / 'Two-3.nsf').read_bytes()
  assert album[6] == 2 and album[14:46].rstrip(b'\0') == b'Two/3'
  page = (tmp_path / 'index.html').read_text()
  assert '000.nsf' in page and 'Two-3' not in page  # The album is no song.


def test_what_else_is_written_is_known(made, tmp_path):
  assert '--also_write=mp3: known are ' in experiments_run.main(
      '--flagfile=sample.flags', f'--workdir={made}/tx1',
      f'--out_dir={tmp_path}', '--also_write=vgm,mp3')


def test_one_bad_file_does_not_stop_the_others(made, tmp_path, capsys):
  inputs = [f'--input={made}/{name}.tx1.txt' for name in (
      'bad', 'notes', 'what', 'empty')]
  assert experiments_run.main(
      '--mode=sample', '--task=continue', *inputs, f'--input={made}/nothing',
      f'--workdir={made}/tx1', f'--out_dir={tmp_path}', '--n_samples=2',
      '--length=3', '--without_prompt') == 1
  lines = capsys.readouterr().err.splitlines()
  for name, words in (('bad.tx1.txt', 'line 2: P1_NOTEON_20: legal values are'),
                      ('what.tx1.txt', "line 2: 'P5_NOTEON_60' is no event"),
                      ('empty.tx1.txt', 'nothing is played'),
                      ('nothing', 'no such file')):
    assert sum(name in line and words in line for line in lines) == 1
  assert sorted(p.name for p in tmp_path.glob('*.tx1.txt')) == [
      'notes-000.tx1.txt', 'notes-001.tx1.txt']
  assert len(song_files.read_song(tmp_path / 'notes-000.tx1.txt')) == 3


@pytest.mark.parametrize('given, words', [
    (['--task=rhythm'], '--task=rhythm needs --input'),
    (['--input=a.mid'], '--input is for --task=continue or rhythm or voices'),
    (['--task=continue', '--input=x.mid', '--given_voices=p1'],
     '--given_voices is for --task=voices'),
    (['--task=voices', '--input=x.mid'], 'no voices are given'),
    (['--task=voices', '--input=x.mid', '--given_voices=p1,p9'],
     "'p9' is no voice"),
    (['--task=voices', '--input=x.mid', '--given_voices=p1,p2,tr,no'],
     'all voices are given'),
    (['--length=0'], '--length=0: expected an integer from 1'),
    (['--seconds=0'], '--seconds=0: expected a number from 0.001'),
    (['--n_samples=0'], '--n_samples=0'),
    (['--top_p=0'], '--top_p=0: expected'),
    (['--format=tx2'], 'the model was trained on tx1'),
    (['--tempo=150'], '--tempo is for models of format tracker, not tx1'),
    (['--density=0'], '--density=0: expected a number from 0.01 to 100'),
    (['--model=lstm'], 'only a Transformer-XL can be sampled'),
])
def test_what_is_refused(made, tmp_path, given, words):
  line = experiments_run.main(
      '--mode=sample', f'--workdir={made}/tx1', f'--out_dir={tmp_path}', *given)
  assert words in line
  assert '\n' not in line
  assert not list(tmp_path.iterdir())


def test_weights_of_another_vocabulary(made):
  meta = {'format': 'tx1', 'config': {'n_token': 600}}
  with pytest.raises(ValueError, match="600 tokens of format 'tx1'; known are"):
    load.vocabulary_of(meta, 'here')
  with pytest.raises(ValueError, match=r"^here: .* 631 tokens of format 'abc'"):
    load.vocabulary_of({'format': 'abc', 'config': {'n_token': 631}}, 'here')
