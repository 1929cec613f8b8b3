"""The command data_prep.prepare: a folder of anything -> shards by song."""

import csv
import io
import json
import tarfile

import mido
import numpy as np
import pytest

from data_prep import prepare
from lakhnes_jax import atomic
from lakhnes_jax import events as ev
from lakhnes_jax.data import shards
from lakhnes_jax.formats import song_files


def tune(seed, n_notes=40):
  """A song of three voices with dynamics."""
  rng = np.random.default_rng(seed)
  lines = []
  for note in rng.integers(60, 80, n_notes).tolist():
    lines += [f'P1_NOTEON_{note}', f'P1_VELOCITY_{rng.integers(5, 16)}',
              f'P2_NOTEON_{note + 7}', 'P2_VELOCITY_9',
              f'TR_NOTEON_{note - 24}', f'WT_{rng.integers(5000, 9000)}']
  lines += ['P1_NOTEOFF', 'P2_NOTEOFF', 'TR_NOTEOFF', 'WT_3000']
  return ev.from_text('\n'.join(lines))


def general_midi(seed):
  """A general MIDI file of two melodies and drums."""
  rng = np.random.default_rng(seed)
  midi = mido.MidiFile()
  for channel in (0, 1, 9):
    midi.tracks.append(track := mido.MidiTrack())
    for pitch in rng.integers(40, 70, 12).tolist():
      track += [
          mido.Message('note_on', channel=channel, note=pitch, velocity=90),
          mido.Message('note_off', channel=channel, note=pitch, time=480)]
  buffer = io.BytesIO()
  midi.save(file=buffer)
  return buffer.getvalue()


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """20 songs, some of them as several files, and four general MIDI files."""
  root = tmp_path_factory.mktemp('mine')
  for i in range(20):
    song_files.write_song(root / f'game {i % 3}/song {i}.mid', tune(i))
  for i, ending in ((0, 'tx1.txt'), (1, 'exprsco.pkl'), (2, 'seprsco.pkl'),
                    (3, 'blndsco.pkl'), (4, 'tx2.txt')):
    song_files.write_song(root / f'other/copy {i}.{ending}', tune(i))
  song_files.write_song(root / 'game 0/song 0.tx1.txt', tune(0))
  # Of what only scores have the best one is kept.
  for ending in ('seprsco.pkl', 'exprsco.pkl', 'blndsco.pkl'):
    song_files.write_song(root / f'scores/only.{ending}', tune(90))
  # Exact times are worth more than dynamics.
  for ending in ('tx1.txt', 'exprsco.pkl'):
    song_files.write_song(root / f'scores/b.{ending}', tune(91))
  for i in range(3):
    atomic.write(root / f'general/{i}.mid', general_midi(i))
  atomic.write(root / 'general/sung.KAR', general_midi(3))
  atomic.write(root / 'general/again.mid', general_midi(0))
  song_files.write_song(root / 'silence.tx1.txt', ev.from_text('WT_90000'))
  atomic.write(root / 'broken.mid', b'MThd')
  atomic.write(root / 'readme.txt', b'no song')
  return root


def run(source, output, *flags, workers=1):
  return prepare.main([f'--input={source}', f'--output={output}',
                       f'--workers={workers}', *flags])


def contents(folder):
  return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope='module')
def made(folder, tmp_path_factory):
  output = tmp_path_factory.mktemp('made')
  assert run(folder, output, '--valid=.2', '--test=.1') == 1  # Two bad files.
  return output


def rows_of(output):
  with open(output / 'manifest.tsv', encoding='utf-8', newline='') as file:
    return {row['file']: row for row in csv.DictReader(file, delimiter='\t')}


def names_in(output):
  return {split: set(shards.Corpus(output, split).names)
          for split in ('train', 'valid', 'test')
          if (output / f'{split}.json').exists()}


def test_what_became_of_each_file(made):
  rows = {name: row['result'] for name, row in rows_of(made).items()}
  assert len(rows) == 20 + 5 + 1 + 3 + 2 + 5 + 2
  for i, ending in enumerate(('tx1.txt', 'exprsco.pkl', 'seprsco.pkl',
                              'blndsco.pkl')):
    assert rows[f'other/copy {i}.{ending}'] == (
        f'same song as game {i % 3}/song {i}.mid')
  assert rows['game 0/song 0.tx1.txt'] == 'same song as game 0/song 0.mid'
  assert rows['other/copy 4.tx2.txt'] == 'same song as game 1/song 4.mid'
  assert rows['scores/only.seprsco.pkl'] == rows['scores/only.blndsco.pkl'] == (
      'same song as scores/only.exprsco.pkl')
  assert rows['scores/b.exprsco.pkl'] == 'same song as scores/b.tx1.txt'
  assert rows['general/again.mid'] == 'same song as general/0.mid'
  assert rows['silence.tx1.txt'] == 'no notes'
  assert rows['broken.mid'].startswith('not a readable MIDI file')
  kept = [name for name, result in rows.items()
          if result in ('train', 'valid', 'test')]
  assert len(kept) == 20 + 2 + 4


def test_songs_and_examples(folder, made):
  names = names_in(made)
  assert set(names) == {'train', 'valid', 'test'}
  rows = rows_of(made)
  for split, in_split in names.items():
    corpus = shards.Corpus(made, split)
    assert corpus.dynamics == ('scores/b.tx1.txt' not in in_split)
    for i, name in enumerate(corpus.names):
      file, _, number = name.partition('#')
      assert rows[file]['result'] == split and name in in_split
      assert bool(number) == file.startswith('general')
      if not number:
        np.testing.assert_array_equal(corpus.song(i),
                                      song_files.read_song(folder / file))
  # Two instruments: six ways to put them on three voices.
  assert rows['general/1.mid']['examples'] == '6'
  assert sum(name.startswith('general/1.mid#')
             for of in names.values() for name in of) == 6


def test_summary_counts(made):
  summary = json.loads((made / 'summary.json').read_text())
  assert summary['files'] == 38
  assert summary['results']['kept'] == 26
  assert summary['results']['same song as another'] == 10
  assert summary['results']['no notes'] == 1
  for split, counts in summary['splits'].items():
    corpus = shards.Corpus(made, split)
    assert counts['examples'] == len(corpus)
    assert counts['events'] == corpus.lengths.sum()


def test_same_for_any_workers_and_names(folder, made, tmp_path):
  assert run(folder, tmp_path / 'two', '--valid=.2', '--test=.1',
             workers=2) == 1
  assert contents(tmp_path / 'two') == contents(made)


def test_more_songs_move_no_others(folder, made, tmp_path):
  before = {name: row['result'] for name, row in rows_of(made).items()}
  source = tmp_path / 'more'
  for path in folder.rglob('*.mid'):
    atomic.write(source / path.relative_to(folder), path.read_bytes())
  for i in range(30, 45):
    song_files.write_song(source / f'a new one {i}.tx2.txt', tune(i))
  run(source, tmp_path / 'out', '--valid=.2', '--test=.1')
  after = {name: row['result'] for name, row in
           rows_of(tmp_path / 'out').items()}
  new = [result for name, result in after.items() if name.startswith('a new')]
  assert len(new) == 15 and 0 < new.count('valid') < 15
  assert {name: after[name] for name in before if name in after} == {
      name: result for name, result in before.items() if name in after}


def test_the_seed_matters(folder, made, tmp_path):
  run(folder, tmp_path, '--valid=.2', '--test=.1', '--seed=3')
  assert names_in(tmp_path)['valid'] != names_in(made)['valid']


def test_a_few_songs(tmp_path):
  for n, splits in ((1, {'train'}), (2, {'train', 'valid'}),
                    (3, {'train', 'valid', 'test'})):
    song_files.write_song(tmp_path / f'in/{n}.mid', tune(n))
    assert run(tmp_path / 'in', tmp_path / 'out') == 0
    assert set(names_in(tmp_path / 'out')) == splits
  # A split that is no longer asked for does not stay.
  assert run(tmp_path / 'in', tmp_path / 'out', '--test=0') == 0
  assert set(names_in(tmp_path / 'out')) == {'train', 'valid'}


def test_shares_are_kept_to():
  songs = [prepare.Song(str(i), f'{i:064x}', 1., np.zeros(1), False, False,
                        True)
           for i in range(4000)]
  found = list(prepare.split_of(songs, .05, .1, 0).values())
  assert abs(found.count('valid') - 200) < 50
  assert abs(found.count('test') - 400) < 70


def test_fingerprints():
  song = ev.from_text('P1_NOTEON_60\nP1_VELOCITY_9\nWT_9000\nP1_NOTEOFF')
  for same in ('P2_NOTEON_60\nWT_9000\nP2_NOTEOFF',
               'P1_NOTEON_60\nWT_9\nNO_NOTEON_3\nWT_8991\nP1_NOTEOFF'):
    assert prepare.fingerprint(ev.from_text(same)) == prepare.fingerprint(song)
  others = ('P1_NOTEON_61\nWT_9000\nP1_NOTEOFF',
            'P1_NOTEON_60\nWT_9000\nP1_NOTEOFF\nWT_5000',
            'NO_NOTEON_3\nWT_9000\nNO_NOTEOFF',
            'NO_NOTEON_4\nWT_9000\nNO_NOTEOFF',
            'P1_NOTEON_60\nWT_900\nP1_NOTEOFF',
            'P1_NOTEON_60\nWT_901\nP1_NOTEOFF')
  prints = {prepare.fingerprint(ev.from_text(other)) for other in others}
  assert len(prints | {prepare.fingerprint(song)}) == 7


def test_real_songs_in_every_kind(real_data, tmp_path):
  """A VGM log and NES-MDB's own MIDI and score of it are one song."""
  kinds = (('nesmdb_vgm_sample', '.vgm'),
           ('nesmdb_exprsco_sample', '.exprsco.pkl'))
  for archive, ending in kinds:
    with tarfile.open(real_data / f'{archive}.tar.xz') as tar:
      members = sorted((m for m in tar if m.name.endswith(ending)),
                       key=lambda m: m.name)[::30]
      for member in members:
        name = member.name.rpartition('/')[2]
        atomic.write(tmp_path / 'in' / ending / name,
                           tar.extractfile(member).read())
  assert run(tmp_path / 'in', tmp_path / 'out') == 0
  rows = rows_of(tmp_path / 'out')
  assert len(rows) == 20
  for name, row in rows.items():
    if name.endswith('.pkl'):
      stem = name.rpartition('/')[2].removesuffix('.exprsco.pkl')
      assert row['result'] == f'same song as .vgm/{stem}.vgm'


@pytest.mark.parametrize('flags', [['--valid=1'], ['--valid=-.1'],
                                   ['--examples_per_file=0'], ['--seed=-1']])
def test_bad_flags(tmp_path, capsys, flags):
  with pytest.raises(SystemExit) as error:
    run(tmp_path, tmp_path / 'out', *flags)
  assert error.value.code == 2
  assert flags[0].split('=')[0] in capsys.readouterr().err


def test_one_clear_line(tmp_path, capsys):
  assert run(tmp_path / 'none', tmp_path / 'out') == 1
  assert 'none: no such folder' in capsys.readouterr().err
  assert run(tmp_path, tmp_path / 'out') == 1
  assert 'no song files there; known endings are' in capsys.readouterr().err
  atomic.write(tmp_path / 'in/a.mid', b'x')
  assert run(tmp_path / 'in', tmp_path / 'out') == 1
  err = capsys.readouterr().err
  assert f'bad file: {tmp_path}/in/a.mid: not a readable MIDI file' in err
  assert 'none of 1 files is a song' in err
  song_files.write_song(tmp_path / 'in/train/a.tx1.txt', tune(1))
  assert run(tmp_path / 'in', tmp_path / 'out') == 1
  assert 'data_prep.nesmdb keeps to such splits' in capsys.readouterr().err


def test_one_song(folder):
  song = prepare.read_song(folder / 'game 0/song 0.mid')
  np.testing.assert_array_equal(song, tune(0))
  arranged, other = (prepare.read_song(folder / 'general/sung.KAR', seed)
                     for seed in (0, 1))
  assert len(set(ev.voice_of(arranged[arranged < 0]).tolist())) >= 2
  assert not np.array_equal(arranged, other)
  with pytest.raises(ValueError, match=r'broken\.mid: '):
    prepare.read_song(folder / 'broken.mid')
