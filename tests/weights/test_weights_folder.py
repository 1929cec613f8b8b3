"""Weights folders: what goes in comes out, and what is wrong is named."""

import dataclasses
import hashlib
import json
import os
import pathlib
import tarfile

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from flax import serialization

from lakhnes_jax import export, vocabularies
from lakhnes_jax.formats import nes_midi
from lakhnes_jax.model import language_model, transformer_xl
from lakhnes_jax.model.language_model import LanguageModel
from lakhnes_jax.tracker import instruments
from lakhnes_jax.tracker import vocabulary as tracker
from lakhnes_jax.training import optimizer
from lakhnes_jax.weights import weights_folder

CONFIG = transformer_xl.ModelConfig(n_token=631, n_layer=2, n_head=2, d_model=8,
                           d_head=4, d_inner=12)
MODEL = LanguageModel(CONFIG)
META = {'model': 'txl', 'config': MODEL.to_dict(), 'format': 'tx1',
        'source': 'a test'}


@pytest.fixture(scope='module')
def params():
  shapes = jax.eval_shape(lambda: MODEL.init_params(jax.random.key(0)))
  rng = np.random.default_rng(0)
  return jax.tree.map(
      lambda x: rng.standard_normal(x.shape, np.float32), shapes)


@pytest.fixture
def folder(tmp_path, params):
  """Without its checksums, so that it can be changed."""
  weights_folder.save(tmp_path / 'w', params, META)
  (tmp_path / 'w/SHA256SUMS').unlink()
  return tmp_path / 'w'


def _assert_same(found, expected):
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_round_trip(folder, params):
  model, found, meta = weights_folder.load(folder)
  assert (model, meta) == (MODEL, META)
  _assert_same(found, params)
  assert 'opt_state' not in weights_folder.read(folder)[0]


def test_anything_can_read_the_file(folder, params):
  tensors = safetensors.numpy.load_file(folder / 'model.safetensors')
  np.testing.assert_array_equal(
      tensors['layers/attention/qkv'], params['layers']['attention']['qkv'])
  assert len(tensors) == len(jax.tree.leaves(params))


def test_bfloat16_rounds_each_number_once(tmp_path, params):
  weights_folder.save(tmp_path, params, META, dtype='bfloat16')
  _, found, _ = weights_folder.load(tmp_path)
  _assert_same(found, jax.tree.map(
      lambda x: x.astype(ml_dtypes.bfloat16).astype(np.float32), params))
  assert found['embedding'].dtype == np.float32
  n_bytes = (tmp_path / 'model.safetensors').stat().st_size
  assert n_bytes < 2 * language_model.n_params(params) + 4096


class Killed(BaseException):
  pass


@pytest.mark.parametrize('with_optimizer', [False, True])
def test_a_kill_or_a_full_disk_mixes_nothing(tmp_path, params, monkeypatch,
                                             with_optimizer):
  """Other weights of the same shapes are written over some, up to any step."""
  others = jax.tree.map(lambda x: x + 1, params)
  options = {'opt_state': {'mu': params}} if with_optimizer else {}
  weights_folder.save(tmp_path, params, META, opt_state={'mu': others})
  whole, found, card = weights_folder.read(tmp_path), [], tmp_path / 'README.md'
  for call in ('write_bytes', 'unlink', 'replace'):
    for number in range(9):
      left, place = [number], os if call == 'replace' else pathlib.Path

      def step(*arguments, left=left, real=getattr(place, call), **more):
        left[0] -= 1
        if left[0] < 0:
          raise Killed
        return real(*arguments, **more)

      weights_folder.save(tmp_path, params, META, opt_state={'mu': others},
                          card='old')
      with monkeypatch.context() as patch:
        patch.setattr(place, call, step)
        try:
          weights_folder.save(tmp_path, others, {**META, 'step': 7}, card='new',
                              **options)
          break
        except Killed:
          pass
      try:
        tree, meta = weights_folder.read(tmp_path)
      except (OSError, ValueError) as error:
        assert str(tmp_path) in str(error)
        assert call != 'write_bytes'
        found.append('refused')
      else:
        is_new = meta.get('step') == 7
        _assert_same(tree['params'], others if is_new else params)
        found.append('new' if is_new else 'old')
        assert card.read_text() == found[-1]
        if not is_new:
          _assert_same(tree['opt_state'], whole[0]['opt_state'])
    else:
      raise AssertionError('never done')
  assert {'old', 'refused', 'new'} == set(found)


def test_other_dtypes_are_refused(tmp_path, params):
  with pytest.raises(ValueError, match="'int8' is neither"):
    weights_folder.save(tmp_path, params, META, dtype='int8')


def test_optimizer_comes_along_and_goes(folder, params):
  state = optimizer.make(.25).init(params)
  clipping, adam = state
  state = clipping, adam._replace(count=np.int32(7), mu=params)
  weights_folder.save(folder, params, META,
               opt_state=serialization.to_state_dict(state))
  found = weights_folder.read(folder)[0]['opt_state']
  assert found['1']['count'] == 7 and found['1']['count'].dtype == np.int32
  _assert_same(found['1']['mu'], params)
  weights_folder.save(folder, params, META)
  assert 'opt_state' not in weights_folder.read(folder)[0]


def test_what_was_saved_is_checked(tmp_path, params):
  folder = tmp_path / 'w'
  for opt_state in ({'mu': params}, None):
    weights_folder.save(folder, params, META, opt_state=opt_state)
    lines = (folder / 'SHA256SUMS').read_text().splitlines()
    assert [(line[:64], line[66:]) for line in lines] == [
        (hashlib.sha256((folder / name).read_bytes()).hexdigest(), name)
        for name in sorted(path.name for path in folder.iterdir())
        if name != 'SHA256SUMS']
    assert len(lines) == 2 + (opt_state is not None)
    weights_folder.read(folder)
  for name in ('config.json', 'model.safetensors'):
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[:-2] + b'!' + data[-1:])
    with pytest.raises(ValueError, match=rf'{name}: SHA-256 is .* damaged, or '
                       rf'edited \(then delete {folder}/SHA256SUMS\)'):
      weights_folder.read(folder)
    (folder / name).write_bytes(data)


@pytest.mark.parametrize('changed, reason', [
    (lambda rows: rows[1:], 'has no checksum of config.json'),
    (lambda rows: rows[:1], 'has no checksum of model.safetensors'),
    (lambda rows: rows[:2], 'has no checksum of optimizer.safetensors'),
    (lambda rows: [*rows, f'{"ab" * 32}  config.json'],
     'two checksums of config.json'),
    (lambda rows: [*rows, rows[0][:66] + '../w/config.json'],
     'not lines of a SHA-256 and a file name'),
    (lambda rows: [*rows, rows[0], ''], None),
    (lambda rows: [row[:64].upper() + ' *' + row[66:] for row in rows], None)])
def test_sums_of_others(tmp_path, params, changed, reason):
  weights_folder.save(tmp_path, params, META, opt_state={'mu': params})
  path = tmp_path / 'SHA256SUMS'
  path.write_text('\r\n'.join(changed(path.read_text().splitlines())) + '\n')
  if reason is None:
    _assert_same(weights_folder.read(tmp_path)[0]['params'], params)
    return
  with pytest.raises(ValueError, match=f'{path}: {reason}'):
    weights_folder.read(tmp_path)


@pytest.mark.parametrize('keep', [0, 5, 200, -4])
def test_truncated(folder, keep):
  path = folder / 'model.safetensors'
  path.write_bytes(path.read_bytes()[:keep])
  with pytest.raises(ValueError, match=r'model\.safetensors: damaged or no'):
    weights_folder.load(folder)


def test_float64_is_refused(folder):
  path = folder / 'model.safetensors'
  path.write_bytes(safetensors.numpy.save({'a': np.zeros(2)}))
  with pytest.raises(ValueError, match=r'safetensors: a is of type F64'):
    weights_folder.read(folder)


def test_arrays_of_another_size(folder):
  other = dict(META, config={**META['config'], 'd_inner': 16})
  (folder / 'config.json').write_text(json.dumps(other))
  with pytest.raises(ValueError, match=r'w: .*inner/kernel is \(2, 8, 12\), '
                                       r'not \(2, 8, 16\)'):
    weights_folder.load(folder)


def test_array_missing(folder, params):
  fewer = {name: leaf for name, leaf in params.items() if name != 'embedding'}
  weights_folder.save(folder, fewer, META)
  with pytest.raises(ValueError, match=r'w: .*embedding is missing'):
    weights_folder.load(folder)


@pytest.mark.parametrize('text', [None, '{', '[]', '{"model": "txl"}'])
def test_config_missing_or_damaged(folder, text):
  path = folder / 'config.json'
  path.unlink()
  if text is not None:
    path.write_text(text)
  with pytest.raises(ValueError, match=r'config\.json: does not describe'):
    weights_folder.load(folder)


def test_another_kind_of_model(folder):
  (folder / 'config.json').write_text(json.dumps(dict(META, model='lstm')))
  with pytest.raises(ValueError, match="w: holds a model of kind 'lstm'"):
    weights_folder.load(folder)


@pytest.mark.parametrize('change, reason', [
    ({'config': 5}, r'config\.json: .*config: an object expected, found 5'),
    ({'format': ['tx1']}, r'config\.json: .*format: a string'),
    ({'model': None}, r'config\.json: .*model: a string'),
    *(({'config': {**META['config'], **config}}, reason)
      for config, reason in [
          *(({'d_model': value}, r'json: .*config\.d_model: a whole number '
             'from 1 to 1048576')
            for value in (10**9, 2**62, 10**30, -8, 0, '8', 8.5, None, [])),
          ({'n_layer': 10**6}, r'w: .*\(1000000, '),
          ({'features': 5}, 'w: '), ({'features': ['voice_state']}, 'w: '),
          ({'dropout': float('nan')}, 'w: '), ({'colour': 1}, 'colour')]),
])
def test_hostile_configs(folder, change, reason):
  (folder / 'config.json').write_text(json.dumps({**META, **change}))
  with pytest.raises(ValueError, match=reason) as error:
    weights_folder.load(folder)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize('right, wrong, place', [
    ('n_layer', 'n_laye', 'config.n_laye'), ('d_model', 'd_modle',
                                             'config.d_modle'),
    ('mem_len', 'mem_le', 'mem_le'), ('format', 'fromat', 'fromat')])
def test_misspelt_configs(folder, right, wrong, place):
  text = json.dumps({**META, 'mem_len': 9})
  (folder / 'config.json').write_text(text.replace(f'"{right}"', f'"{wrong}"'))
  with pytest.raises(ValueError, match=rf"config\.json: .*\({place}: no such "
                     rf"key; is '{right}' meant\?\)$"):
    weights_folder.load(folder)


def test_what_versions_write(folder, capsys):
  """Of all versions until now; what newer ones add is named and left out."""
  entry = {'run': 'a', 'steps': 1, 'hours': .1, 'flags': {'seed': 1}, 'data': {
      'train': 'ab'}, 'device': 'cpu', 'n_devices': 1, 'versions': {},
           'git_revision': None, 'averaged_with': ['b']}
  for further in (
      {'mem_len': 5, 'step': 1, 'best': 1., 'best_step': 1, 'seconds': 2.},
      {'step': 1, 'seconds': 2., 'averaged_with': 'b'},
      {'averaged_with': ['b'], 'source': 'm.pt'},
      {'identity': {'seed': 1}, 'lineage': [entry], 'evaluations': [],
       'critic': {'features': [], 'log_odds': {},
                  'ngrams': {'P1 moves 2': .5}}},
      {'data': {}, 'since_line': [], 'flags': {}, 'versions': {},
       'git_revision': 'a', 'device': 'cpu', 'n_devices': 1}):
    (folder / 'config.json').write_text(json.dumps({**META, **further}))
    weights_folder.load(folder)
    assert capsys.readouterr().err == '', further
  (folder / 'config.json').write_text(json.dumps({
      **META, 'typical': 3, 'a\nb': 1}))
  weights_folder.load(folder)
  line = capsys.readouterr().err
  assert line.startswith(f"{folder / 'config.json'}: not used here: 'a\\nb', "
                         'typical (') and line.count('\n') == 1


@pytest.mark.parametrize('tensors, reason', [
    ({'a\nb': np.zeros(2, np.float32)}, r"'a\\nb' is unknown"),
    ({'a\nb': np.zeros(2, np.float64)}, r"'a\\nb' is of type F64"),
    ({'a' * 5000: np.zeros(2, np.float64)}, 'is of type F64'),
    ({'a': np.zeros(2, np.float32), 'a/b': np.zeros(2, np.float32)},
     'a/b is below another array'),
    ({'': np.zeros(2, np.float32)}, 'is unknown'),
    ({'a': np.array([1, np.nan], np.float32)}, 'a holds NaN or infinite'),
    ({'a': np.array([np.inf], ml_dtypes.bfloat16)}, 'a holds NaN or infinite'),
])
def test_hostile_tensors(folder, tensors, reason):
  (folder / 'model.safetensors').write_bytes(safetensors.numpy.save(tensors))
  with pytest.raises(ValueError, match=reason) as error:
    weights_folder.load(folder)
  assert str(error.value).startswith(str(folder))
  assert '\n' not in str(error.value) and len(str(error.value)) < 500


def test_other_instruments_of_the_same_number(tmp_path, monkeypatch):
  vocabulary = vocabularies.get('tracker')
  model = LanguageModel(dataclasses.replace(CONFIG, n_token=vocabulary.size))
  meta = {**META, 'config': model.to_dict(), 'format': 'tracker'}
  params = jax.device_get(model.init_params(jax.random.key(0)))
  weights_folder.save(tmp_path / 'old', params, meta)
  assert 'vocabulary_digest' not in weights_folder.load(tmp_path / 'old')[2]
  export.export(str(tmp_path / 'old'), tmp_path / 'new')
  weights_folder.load(tmp_path / 'new')
  level, *others = vocabulary.codebook.kinds[0].table
  codebook = instruments.Codebook((
      vocabulary.codebook.kinds[0]._replace(table=(level[::-1], *others)),
      *vocabulary.codebook.kinds[1:]), 'reversed')
  monkeypatch.setattr(tracker, 'default', lambda: tracker.Tracker(codebook))
  weights_folder.load(tmp_path / 'old')
  with pytest.raises(ValueError, match='new: trained on other tokens or '
                     'instruments of format tracker'):
    weights_folder.load(tmp_path / 'new')


def test_what_is_no_file_is_not_waited_for(folder):
  for name in ('config.json', 'model.safetensors'):
    path = folder / name
    data = path.read_bytes()
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ValueError, match='a pipe or device'):
      weights_folder.load(folder)
    path.unlink()
    path.write_bytes(data)
  weights_folder.load(folder)


def test_nothing_there(tmp_path):
  with pytest.raises(FileNotFoundError, match='no checkpoint here'):
    weights_folder.load(tmp_path / 'none')


class TestPublished:

  @pytest.fixture
  def published(self, folder, server, tmp_path, monkeypatch):
    """The folder with its sums, on a server too; returns its URL."""
    (folder / 'SHA256SUMS').write_text(''.join(
        f'{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n'
        for name in ('config.json', 'model.safetensors')))
    server.files = {f'/v1/mine/{path.name}': path.read_bytes()
                    for path in folder.iterdir()}
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    return f'{server.url}/v1/mine'

  def test_url(self, published, params, server):
    for _ in range(2):  # The second time it is there already.
      _, found, meta = weights_folder.load(published)
      assert meta == META
      _assert_same(found, params)
    assert len(server.requests) == 3

  def test_what_is_damaged_is_refused(self, published, folder):
    weights_folder.load(folder)
    with open(folder / 'model.safetensors', 'r+b') as file:
      file.seek(-4, 2)
      file.write(b'\1\2\3\4')
    with pytest.raises(ValueError, match=r'model.safetensors: SHA-256 is'):
      weights_folder.load(folder)

  def test_what_the_server_damages_is_refused_and_asked_for_again(
      self, published, params, server):
    server.files['/v1/mine/config.json'] += b' '
    with pytest.raises(ValueError, match=r'config.json sent something else'):
      weights_folder.load(published)
    server.files['/v1/mine/config.json'] = server.files[
        '/v1/mine/config.json'][:-1]
    _, found, _ = weights_folder.load(published)
    _assert_same(found, params)

  @pytest.mark.parametrize('sums', [
      '', 'hello', f'{"0" * 64}  ../../x', f'{"0" * 64}  /etc/x'])
  def test_sums_that_are_none(self, published, server, sums):
    server.files['/v1/mine/SHA256SUMS'] = sums.encode()
    with pytest.raises(ValueError, match='SHA256SUMS'):
      weights_folder.load(published)

  def test_no_such_url(self, published):
    with pytest.raises(OSError, match='404'):
      weights_folder.load(f'{published}/other')


class TestShipped:
  """What comes with the package."""

  def test_is_whole_and_small(self):
    folder, sums_name = weights_folder.PRETRAINED, weights_folder.SUMS
    sums = [line.split('  ')
            for line in (folder / sums_name).read_text().splitlines()]
    assert {name for _, name in sums} == {
        path.name for path in folder.iterdir()} - {sums_name}
    for digest, name in sums:
      content = (folder / name).read_bytes()
      assert hashlib.sha256(content).hexdigest() == digest, name
    assert sum(path.stat().st_size for path in folder.iterdir()) < 25e6

  def test_knows_music(self, real_data):
    """Train songs cost it 1.2 nats a token; a uniform guess 7.4."""
    model, params, meta = weights_folder.load(weights_folder.PRETRAINED)
    vocabulary = vocabularies.get(meta['format'])
    with tarfile.open(real_data / 'nesmdb_midi_train_valid.tar.xz',
                      'r|xz') as archive:
      songs = []
      for member in archive:
        if member.name.endswith('.mid'):
          song = nes_midi.read(archive.extractfile(member).read())
          songs.append(vocabulary.encode(vocabulary.project(song))[:257])
        if len(songs) == 20:
          break
    songs = np.stack([song for song in songs if len(song) == 257])
    logits, _ = jax.jit(model.apply)(
        params, songs[:, :-1], model.init_state(len(songs), 8))
    assert language_model.nll(logits, songs[:, 1:])[:, 128:].mean() < 2
    assert len(meta['critic']['features']) > 10  # Needed for `best_of`.
