"""From MIDI collections to shards, whatever the order and the workers."""

import collections
import io
import itertools
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tarfile

import mido
import numpy as np
import pytest

from data_prep import (
  compose_web,
  lakh,
  lakh_files,
  lakh_local,
  lakh_shards,
)
from lakhnes_jax import events as ev
from lakhnes_jax.data import arrangement, shards, token_stream


def tune(pitch, n_notes=6, voices=1):
  """A file with `voices` melodies of a note a second."""
  midi = mido.MidiFile(ticks_per_beat=480)
  for voice in range(voices):
    midi.tracks.append(mido.MidiTrack())
    for i in range(n_notes):
      note = {'note': pitch + 12 * voice + i % 3, 'channel': voice}
      midi.tracks[-1] += [mido.Message('note_on', velocity=127, **note),
                          mido.Message('note_off', time=960, **note)]
  return to_bytes(midi)


def to_bytes(midi):
  buffer = io.BytesIO()
  midi.save(file=buffer)
  return buffer.getvalue()


@pytest.fixture(scope='module')
def collection(tmp_path_factory):
  """A folder with 71 files: good, doubled, bad, and not MIDI."""
  folder = tmp_path_factory.mktemp('collection')
  named = {f'{i % 10}/tune{i}.mid': tune(40 + i % 40, 6 + i // 40)
           for i in range(60)}
  named |= {
      'a/composed.MID': to_bytes(
          compose_web.compose(np.random.default_rng(0))[1]),
      'a/trio.kar': tune(60, 9, voices=3), 'z/again.midi': tune(60, 9, 3),
      'b/short.mid': tune(60, 4), 'b/long.mid': tune(60, 601),
      'b/chord.mid': to_bytes(chord()), 'b/empty.mid': b'',
      'b/cut.mid': tune(60)[:-9], 'b/noise.mid': bytes(range(256)) * 9,
      'b/huge.mid': b'MThd' + bytes(512 * 1024 - 3),
      'b/largest.mid': b'MThd' + bytes(512 * 1024 - 4),
      'b/readme.txt': b'not music'}
  for name, content in named.items():
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
  return folder


def chord():
  midi = mido.MidiFile()
  midi.tracks.append(mido.MidiTrack(
      [mido.Message('note_on', note=60), mido.Message('note_on', note=64),
       mido.Message('note_off', note=60, time=9600),
       mido.Message('note_off', note=64)]))
  return midi


def run(source, output, *flags, workers=1):
  return lakh.main([f'--input={source}', f'--output={output}',
                    f'--workers={workers}', *flags])


def contents(folder):
  return {path.name: path.read_bytes() for path in folder.iterdir()}


def parts_of(folder, output):
  return lakh_local.make_parts(*lakh_files.find(str(folder)), output, 1)


@pytest.fixture(scope='module')
def made(collection, tmp_path_factory):
  """The output for `collection`, made by one process."""
  output = tmp_path_factory.mktemp('made')
  assert run(collection, output) == 0
  return output


def pack(folder, names, path):
  with tarfile.open(path, 'w:gz') as archive:
    for name in names:
      archive.add(folder / name, name)
  return path


def names_in(folder):
  return sorted(p.relative_to(folder).as_posix() for p in folder.rglob('*')
                if p.is_file())


class TestResult:

  def test_same_for_any_workers_order_and_packing(self, collection, made,
                                                  tmp_path):
    assert run(collection, tmp_path / 'two', workers=2) == 0
    archive = pack(collection, names_in(collection)[::-1],
                   tmp_path / 'c.tar.gz')
    assert run(archive, tmp_path / 'tar', workers=2) == 0
    assert contents(made) == contents(tmp_path / 'two')
    assert contents(made) == contents(tmp_path / 'tar')

  def test_the_seed_matters(self, collection, made, tmp_path):
    assert run(collection, tmp_path, '--seed=1') == 0
    one, other = shards.Corpus(made, 'valid'), shards.Corpus(tmp_path, 'valid')
    assert one.names == other.names  # The split is of the content alone.
    assert one.checksum != other.checksum

  def test_literal_song(self, tmp_path):
    folder = tmp_path / 'in'
    folder.mkdir()
    (folder / 'a.mid').write_bytes(tune(60, 5))
    assert run(folder, tmp_path / 'out', '--valid_percent=0',
               '--examples_per_file=16') == 0
    corpus = shards.Corpus(tmp_path / 'out', 'train')
    assert corpus.names == ['a.mid#0', 'a.mid#1', 'a.mid#2']
    songs = {ev.to_text(ev.TX1.project(corpus.song(i))) for i in range(3)}
    text = '\n'.join(f'V_NOTEON_{p}\nWT_44100' for p in (60, 61, 62, 60, 61))
    assert songs == {(text + '\nV_NOTEOFF').replace('V', voice)
                     for voice in ('P1', 'P2', 'TR')}
    assert corpus.dynamics

  def test_manifest_says_what_became_of_each_file(self, collection, made):
    lines = (made / 'manifest.tsv').read_text('utf-8').splitlines()
    assert lines[0].split('\t') == ['file', 'result', 'seconds', 'notes',
                                    'examples']
    rows = {name: rest for name, *rest in (x.split('\t') for x in lines[1:])}
    assert list(rows) == [n for n in names_in(collection)
                          if not n.endswith('.txt')]
    assert rows['z/again.midi'] == ['same notes as a/trio.kar',
                                    *rows['a/trio.kar'][1:3], '0']
    assert rows['a/trio.kar'][1] == '9.000'
    assert len(rows['a/trio.kar'][2]) == 64
    assert rows['b/short.mid'] == ['shorter than 5 s', '', '', '0']
    assert rows['b/long.mid'][0] == 'longer than 600 s'
    assert rows['b/chord.mid'][0] == 'no monophonic instrument'
    assert rows['b/huge.mid'][0] == 'over 512 KiB'
    for name in ('b/empty.mid', 'b/cut.mid', 'b/noise.mid', 'b/largest.mid'):
      assert rows[name][0].startswith('not a readable MIDI file'), name
    for split in ('train', 'valid'):
      examples = collections.Counter(
          n.split('#')[0] for n in shards.Corpus(made, split).names)
      assert examples == {name: int(row[-1]) for name, row in rows.items()
                          if row[0] == split}

  def test_summary_counts(self, made):
    summary = json.loads((made / 'summary.json').read_text())
    corpora = {s: shards.Corpus(made, s) for s in ('train', 'valid')}
    assert summary['files'] == 71
    assert summary['results']['kept'] == 62
    assert summary['results']['not a readable MIDI file'] == 4
    assert sum(summary['results'].values()) == 71
    for split, corpus in corpora.items():
      counts = summary['splits'][split]
      assert counts['examples'] == len(corpus)
      songs = [corpus.song(i) for i in range(len(corpus))]
      if split == 'valid':  # Of instruments it depends on the arrangement.
        assert counts['events'] == corpus.lengths.sum()
      hours = sum(int(np.maximum(song, 0).sum()) for song in songs) / 158760000
      assert counts['hours'] == pytest.approx(hours, rel=.02)

  def test_no_song_is_in_two_splits(self, collection, tmp_path):
    assert run(collection, tmp_path, '--valid_percent=40') == 0
    files = {split: {name.split('#')[0] for name in
                     shards.Corpus(tmp_path, split).names}
             for split in ('train', 'valid')}
    assert not files['train'] & files['valid']
    assert len(files['train'] | files['valid']) == 62
    assert 12 <= len(files['valid']) <= 38  # 24.8, deviation 3.9.

  def test_one_song_is_held_out_at_least(self, collection, tmp_path):
    assert run(collection, tmp_path, '--valid_percent=0.0001') == 0
    assert len({name.split('#')[0] for name in
                shards.Corpus(tmp_path, 'valid').names}) == 1

  def test_limits(self, collection, tmp_path):
    assert run(collection, tmp_path, '--limit=7', '--examples_per_file=2') == 0
    summary = json.loads((tmp_path / 'summary.json').read_text())
    assert summary['files'] == 7
    assert summary['splits']['train']['songs'] == 6
    assert summary['splits']['train']['examples'] == 12


class TestBeam:
  """The pipeline, by Beam's direct runner."""

  @pytest.fixture(autouse=True)
  def need_beam(self):
    pytest.importorskip('apache_beam', reason='apache-beam is not installed; '
                        'it is the extra `beam`')

  def test_same_bytes_as_the_local_runner(self, collection, made, tmp_path):
    # What an earlier run left is replaced.
    for name in ('train.json', 'train-00000-of-00007.npy'):
      (tmp_path / name).write_bytes(b'old')
    assert run(collection, tmp_path, '--runner=DirectRunner', workers=0) == 0
    assert contents(tmp_path) == contents(made)

  def test_same_bytes_in_many_shards(self, collection, tmp_path, monkeypatch):
    monkeypatch.setattr(lakh_shards, '_SHARD_SIZE', 3000)
    flags = ('--examples_per_file=16', '--valid_percent=20', '--seed=3',
             '--limit=50')
    assert run(collection, tmp_path / 'local', *flags) == 0
    archive = pack(collection, names_in(collection), tmp_path / 'c.tar.gz')
    assert run(archive, tmp_path / 'beam', *flags, '--runner=DirectRunner',
               workers=0) == 0
    assert contents(tmp_path / 'beam') == contents(tmp_path / 'local')
    assert len(contents(tmp_path / 'local')) > 10

  @pytest.mark.parametrize(('source', 'reason'), [
      ('missing', 'missing: no such folder'), ('plain.tar.gz', 'damaged'),
      ('b', r'none of 1 files .*: 1 shorter than 5 s$')])
  def test_one_clear_line(self, tmp_path, capsys, source, reason):
    (tmp_path / 'plain.tar.gz').write_bytes(b'no archive' * 100)
    (tmp_path / 'b').mkdir()
    (tmp_path / 'b' / 'x.mid').write_bytes(tune(60, 1))
    assert run(tmp_path / source, tmp_path / 'out', '--runner=DirectRunner',
               workers=0) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith('data_prep.lakh: ')
    assert re.search(reason, error)
    assert not (tmp_path / 'out' / 'train.json').exists()


class TestTraining:

  def test_each_epoch_draws_other_arrangements(self, made):
    corpus = shards.Corpus(made, 'train')
    assert corpus.arranged_on_read
    assert not shards.Corpus(made, 'valid').arranged_on_read

    def stream_of(seed):
      return token_stream.Stream(corpus, ev.TX1, 2, 64, seed=seed,
                                 shuffle=False)

    def epochs(seed):
      stream = stream_of(seed)
      first = next(stream)
      state = stream.state()
      batch = next(stream)
      while batch.epoch == first.epoch:
        batch = next(stream)
      return first, batch, state

    one, later, state = epochs(3)
    again, *_ = epochs(3)
    other, *_ = epochs(4)
    np.testing.assert_array_equal(one.inputs, again.inputs)
    for batch in (later, other):
      assert not np.array_equal(one.inputs, batch.inputs)
    # A position restored goes on with the same arrangements.
    stream, restored = stream_of(3), stream_of(3)
    next(stream)
    restored.restore(state)
    np.testing.assert_array_equal(next(stream).inputs, next(restored).inputs)


class TestResume:

  def test_finished_parts_stay(self, collection, tmp_path):
    folder = tmp_path / 'in'
    shutil.copytree(collection, folder)
    first = parts_of(folder, tmp_path)
    assert len(first) == 2
    stamps = {p.name: p.stat().st_mtime_ns
              for p in (tmp_path / 'parts').iterdir()}
    # As a kill would leave it: events without the list, and half a file.
    os.remove(f'{first[1]}.json')
    (tmp_path / 'parts' / '00001.json.77.tmp').write_text('{"ke')
    assert parts_of(folder, tmp_path) == first
    again = {p.name: p.stat().st_mtime_ns
             for p in (tmp_path / 'parts').iterdir()}
    assert {n for n in stamps if stamps[n] == again[n]} == {
        '00000.json', '00000.npy'}

  def test_goes_on_to_the_same_result(self, collection, made, tmp_path):
    stems = parts_of(collection, tmp_path)
    os.remove(f'{stems[0]}.json')
    assert run(collection, tmp_path) == 0
    assert contents(made) == contents(tmp_path)

  def test_goes_on_after_a_kill(self, collection, made, tmp_path, monkeypatch):
    program = (
        'import os, signal, sys\n'
        'from data_prep import lakh, lakh_local\n'
        'make_shard = lakh_local._make_shard\n'
        'def make_one(job):\n'
        '  make_shard(job)\n'
        '  os.kill(os.getpid(), signal.SIGKILL)\n'
        'lakh_local._make_shard = make_one\n'
        'lakh.main(sys.argv[1:])\n')
    killed = subprocess.run(
        [sys.executable, '-c', program, f'--input={collection}',
         f'--output={tmp_path}', '--workers=1'], check=False,
        cwd=pathlib.Path(lakh.__file__).parents[1], capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    made_again = []
    for name in ('_make_part', '_make_shard'):
      def make(job, function=getattr(lakh_local, name)):
        made_again.append(job.place)
        function(job)
      monkeypatch.setattr(lakh_local, name, make)
    assert run(collection, tmp_path) == 0
    assert made_again == [('valid', 0)]  # Parts and train were there.
    assert contents(made) == contents(tmp_path)

  def test_other_settings_make_other_shards(self, collection, made, tmp_path):
    for seed in (1, 0):
      assert run(collection, tmp_path, f'--seed={seed}') == 0
    assert contents(made) == contents(tmp_path)

  def test_other_files_make_other_parts(self, collection, tmp_path):
    folder = tmp_path / 'in'
    shutil.copytree(collection / '1', folder)
    parts_of(folder, tmp_path)
    before = (tmp_path / 'parts' / '00000.npy').read_bytes()
    (folder / 'tune1.mid').write_bytes(tune(90, 20))
    parts_of(folder, tmp_path)
    assert (tmp_path / 'parts' / '00000.npy').read_bytes() != before


class TestErrors:

  @pytest.mark.parametrize(('source', 'reason'), [
      ('missing', 'no such folder'), ('plain.tar.gz', 'damaged'),
      ('cut.tar.gz', 'damaged'), ('empty', 'no .mid'),
      ('silent', 'none of 1 files .* 1 shorter than 5 s')])
  def test_one_clear_line(self, collection, tmp_path, capsys, source, reason):
    (tmp_path / 'plain.tar.gz').write_bytes(b'no archive' * 100)
    whole = pack(collection, ['b/noise.mid', '1/tune1.mid'],
                 tmp_path / 'whole.tar.gz').read_bytes()
    (tmp_path / 'cut.tar.gz').write_bytes(whole[:len(whole) // 2])
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'silent').mkdir()
    (tmp_path / 'silent' / 'x.mid').write_bytes(tune(60, 1))
    assert run(tmp_path / source, tmp_path / 'out') == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith('data_prep.lakh: ')

    assert re.search(reason, error)

  def test_bad_flags(self, capsys):
    with pytest.raises(SystemExit):
      lakh.main(['--input=x', '--output=y', '--valid_percent=100'])
    assert '--valid_percent: a number from 0 to' in capsys.readouterr().err


def adapt_bytes(data):
  return lakh_files.adapt_file(
      lakh_files.Source('f.mid', len(data), 0, data=data))


class TestLimits:

  def test_time_of_a_file_is_bounded(self):
    # As many notes as fit, all at once on one pitch, then one end for all.
    notes = (b'\x3c\x40\x00' * 170000)[:-1]
    track = b'\x00\x90' + notes + b'\x83\x00\x80\x3c\x40\x00\xff\x2f\x00'
    data = (b'MThd' + (6).to_bytes(4, 'big') + b'\x00\x00\x00\x01\x01\xe0' +
            b'MTrk' + len(track).to_bytes(4, 'big') + track)
    assert len(data) < lakh_files.MAX_BYTES
    with pytest.raises(ValueError, match='shorter than 5 s'):
      adapt_bytes(data)


@pytest.mark.parametrize('fault', [RuntimeError('odd'), TypeError('odder')])
def test_no_file_ends_the_job(tmp_path, monkeypatch, fault):
  def fail(*_):
    raise fault
  monkeypatch.setattr('lakhnes_jax.formats.general_midi.read', fail)
  source = lakh_files.Source('f.mid', 4, 0, data=b'MThd')
  packed, facts = lakh_files.attempt(source)
  assert not len(packed)
  assert facts == {'name': 'f.mid', 'error': f'{type(fault).__name__}: {fault}'}


def test_real_files(real_data):
  # Of 3,700 web MIDI files 79% are known to pass; these are the first 40.
  results = collections.Counter()
  with tarfile.open(real_data / 'gm_midi.tar.xz', 'r|xz') as archive:
    members = (m for m in archive if m.name.endswith('.mid'))
    for number, member in enumerate(itertools.islice(members, 40)):
      try:
        packed, _ = adapt_bytes(archive.extractfile(member).read())
      except ValueError as error:
        assert str(error) == 'no monophonic instrument'
        continue
      rng = np.random.default_rng(number)
      song = arrangement.arrange(arrangement.unpack(packed), rng)
      results['kept'] += 1
      results['drums'] += ev.NO in ev.voice_of(song)
      assert len(ev.TX2.encode(song)) > 2
      assert ev.times_of(song)[-1] <= 180 * 44100
  assert 20 < results['kept'] < 40
  assert 0 < results['drums'] < results['kept']
