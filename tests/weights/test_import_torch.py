"""Checkpoints of the original, with PyTorch 1.0.1 and 2.13, without either."""

import os
import pickle
import re
import subprocess
import sys

import jax
import numpy as np
import pytest

from lakhnes_jax import import_torch
from lakhnes_jax.model import transformer_xl
from lakhnes_jax.training import optimizer
from lakhnes_jax.weights import torch_names, torch_pickle, weights_folder

MODELS = [('ckpt101', 'model.pt'), ('ckpt', 'model.pt'),
          ('ckpt', 'model_legacy.pt')]
CHECKPOINTS = [(folder, name, name.replace('model', 'optimizer'))
               for folder, name in MODELS]


def _assert_equal(found, expected):
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize('folder, name, optimizer_name', CHECKPOINTS)
def test_checkpoint(oracles, tmp_path, folder, name, optimizer_name):
  source = oracles / 'model' / folder
  import_torch.convert(source / name, tmp_path, source / optimizer_name)
  model, params, meta = weights_folder.load(tmp_path)
  with np.load(source / 'expected.npz') as expected:
    _assert_equal(params, torch_names.to_tree(dict(expected)))
  assert model.config == transformer_xl.ModelConfig(
      n_token=631, n_layer=2, n_head=2, d_model=32, d_head=16, d_inner=128,
      dropout=0.)
  assert meta['format'] == 'tx1'

  tree, _ = weights_folder.read(tmp_path)
  adam = tree['opt_state']['1']
  assert adam['count'] == 3
  with np.load(source / 'expected_optim.npz') as expected:
    names = expected['param_names'].tolist()
    for ours, theirs in (('mu', 'exp_avg'), ('nu', 'exp_avg_sq')):
      _assert_equal(adam[ours], torch_names.to_tree({
          name: expected[f'{i}/{theirs}'] for i, name in enumerate(names)}))
  # It fits the optimizer that training makes.
  from lakhnes_jax.weights import checkpoint
  checkpoint.fill(optimizer.make(.25).init(params), tree['opt_state'], 'test')


def test_imported_model_computes_as_the_original(oracles):
  """Its parameters are those after 3 steps, and its loss goes with them."""
  imported = import_torch.read_model(oracles / 'model/ckpt101/model.pt')
  with np.load(oracles / 'model/torch101_tinyA_base_train.npz') as arrays:
    steps = torch_names.to_tree({
        name.removeprefix('adam3/'): array for name, array in arrays.items()
        if name.startswith('adam3/')})
  _assert_equal(imported.params, steps)


class _Evil:
  def __reduce__(self):
    return print, ('this must not run',)


@pytest.mark.parametrize('protocol', [2, 4])
def test_foreign_objects_are_refused_by_name(tmp_path, capsys, protocol):
  path = tmp_path / 'model.pt'
  head = b''.join(pickle.dumps(x, 2) for x in (
      0x1950a86a20f9469cfc6c, 1001, {'little_endian': True}))
  path.write_bytes(head + pickle.dumps(_Evil(), protocol))
  with pytest.raises(ValueError, match=re.escape(str(path)) +
                     r'.*asks for (builtins|__builtin__)\.print'):
    torch_pickle.load(path)
  assert not capsys.readouterr().out


@pytest.mark.parametrize('name', ['os.system', 'torch.nn.modules.linear.Linear',
                                  'eval'])
def test_names_with_dots_do_not_lead_elsewhere(tmp_path, name):
  stream = pickle.PROTO + b'\x04' + b''.join(
      pickle.SHORT_BINUNICODE + bytes([len(text)]) + text.encode()
      for text in ('torch.nn.modules.linear', name)) + pickle.STACK_GLOBAL
  path = tmp_path / 'model.pt'
  path.write_bytes(b''.join(pickle.dumps(x, 2) for x in (
      0x1950a86a20f9469cfc6c, 1001, {})) + stream + pickle.STOP)
  with pytest.raises(ValueError, match=r'asks for torch\.nn\.modules\.linear'):
    torch_pickle.load(path)


@pytest.mark.parametrize('folder, name', MODELS)
@pytest.mark.parametrize('part', [.02, .5, .999])
def test_truncated(oracles, tmp_path, folder, name, part):
  raw = (oracles / 'model' / folder / name).read_bytes()
  path = tmp_path / 'model.pt'
  path.write_bytes(raw[:int(part * len(raw))])
  with pytest.raises(ValueError, match=re.escape(str(path))):
    import_torch.read_model(path)


@pytest.mark.parametrize('content', [b'', b'MThd\0\0', b'\x80\x02K\x01.',
                                     b'PK\3\4 no archive', b'\x80\x02' * 40])
def test_other_files(tmp_path, content):
  path = tmp_path / 'model.pt'
  path.write_bytes(content)
  with pytest.raises(ValueError, match=re.escape(str(path))):
    import_torch.read_model(path)


def test_optimizer_instead_of_model(oracles):
  with pytest.raises(ValueError, match=r'is it optimizer\.pt'):
    import_torch.read_model(oracles / 'model/ckpt/optimizer.pt')


def test_storage_on_a_gpu_is_accepted(oracles, tmp_path):
  """Published files say cuda:0 where ours say cpu; both are strings."""
  raw = (oracles / 'model/ckpt101/model.pt').read_bytes()
  old, new = (b'X' + len(text).to_bytes(4, 'little') + text
              for text in (b'cpu', b'cuda:0'))
  assert old in raw
  path = tmp_path / 'model.pt'
  path.write_bytes(raw.replace(old, new))
  _assert_equal(import_torch.read_model(path).params, import_torch.read_model(
      oracles / 'model/ckpt101/model.pt').params)


@pytest.mark.parametrize('shape, strides', [
    ((1000, 1000, 1000), (0, 0, 0)), ((3,), (2,)), ((5,), (1,))])
def test_tensor_beyond_its_storage(shape, strides):
  storage = torch_pickle.Storage('0', np.dtype('<f4'), 4)
  with pytest.raises(ValueError, match='beyond the end'):
    torch_pickle._tensor(storage, 0, shape, strides)


def test_untied_and_incomplete_models(oracles):
  with np.load(oracles / 'model/tinyA_weights.npz') as arrays:
    state = dict(arrays)
  untied = {**state, torch_names.TIED: state[torch_names.TIED] + 1}
  with pytest.raises(ValueError, match='tied embeddings'):
    torch_names.from_torch_state_dict(untied)
  del state['layers.1.pos_ff.CoreNet.3.bias']
  with pytest.raises(ValueError, match=r'CoreNet\.3\.bias is missing'):
    torch_names.from_torch_state_dict(state)


def _module(state):
  module = torch_pickle.Module()
  module.state = {'_modules': {}, '_parameters': {}} | state
  return module


def _model(**changed):
  """The original's settings, without any parameter."""
  value = {'p': .1, 'dropatt': .1, 'pre_lnorm': False, 'attn_type': 0,
           'same_length': False, 'clamp_len': -1} | changed
  layer = _module({'_modules': {'dec_attn': _module({
      'pre_lnorm': value['pre_lnorm'],
      '_modules': {'dropatt': _module({'p': value['dropatt']})}})}})
  return _module({
      **{k: value[k] for k in ('attn_type', 'same_length', 'clamp_len')},
      '_modules': {'drop': _module({'p': value['p']}),
                   'layers': _module({'_modules': {'0': layer}})},
      '_parameters': value.get('parameters', {})})


@pytest.mark.parametrize('changed, reason', [
    ({}, 'r_w_bias is missing'),  # The control: its settings are sound.
    *(({name: value}, f'{title} is no number from')
      for name, title in [('attn_type', 'attn_type'), ('p', 'dropout'),
                          ('dropatt', 'dropatt'), ('pre_lnorm', 'pre_lnorm'),
                          ('same_length', 'same_length'),
                          ('clamp_len', 'clamp_len')]
      for value in (float('inf'), float('nan'), 10**400, -10**5000, 'x', None,
                    [], np.zeros(2))),
    ({'attn_type': 1}, 'attn_type 1, not 0'),
    ({'parameters': {'r_w_bias': np.array([np.nan])}}, 'r_w_bias holds NaN'),
    ({'parameters': {'r_w_bias': np.array([1e300])}}, 'r_w_bias holds NaN'),
])
def test_settings_out_of_range(tmp_path, monkeypatch, changed, reason):
  monkeypatch.setattr(torch_pickle, 'load', lambda _: _model(**changed))
  with pytest.raises(ValueError, match=r'model\.pt: ' + '.*' +
                     reason):
    import_torch.read_model(tmp_path / 'model.pt')


@pytest.mark.parametrize('step', [float('inf'), float('nan'), 2**31, -1, 'x',
                                  np.array([np.inf], np.float32), None])
def test_steps_out_of_range(tmp_path, monkeypatch, step):
  state = {'exp_avg': np.zeros(2, np.float32), 'exp_avg_sq': np.ones(2),
           'step': step}
  monkeypatch.setattr(torch_pickle, 'load', lambda _: {
      'param_groups': [{'params': [0]}], 'state': {0: state}})
  monkeypatch.setattr(torch_names, 'to_tree', lambda arrays: arrays)
  imported = import_torch.Imported(None, None, ['a'])
  with pytest.raises(ValueError, match=r'optimizer\.pt: .*step is no number'):
    import_torch.read_optimizer(tmp_path / 'optimizer.pt', imported)


def test_a_pipe_is_not_waited_for(tmp_path):
  os.mkfifo(tmp_path / 'model.pt')
  with pytest.raises(ValueError, match='a pipe or device'):
    import_torch.read_model(tmp_path / 'model.pt')


def test_commands(oracles, tmp_path):
  def run(module, *arguments):
    return subprocess.run([sys.executable, '-m', f'lakhnes_jax.{module}',
                           *map(str, arguments)], capture_output=True,
                          text=True, check=False)
  source = oracles / 'model/ckpt'
  done = run('import_torch', source / 'model.pt', f'--out={tmp_path / "a"}',
             f'--optimizer={source / "optimizer.pt"}')
  assert done.returncode == 0, done.stderr
  assert '2 layers of 32, 631 tokens, with optimizer' in done.stdout
  done = run('export', tmp_path / 'a', f'--out={tmp_path / "b"}',
             '--dtype=bfloat16')
  assert done.returncode == 0, done.stderr
  full, half = (weights_folder.load(tmp_path / name)[1] for name in 'ab')
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2**-8),
               full, half)
  assert (tmp_path / 'b/model.safetensors').stat().st_size < .6 * (
      tmp_path / 'a/model.safetensors').stat().st_size
  missing = run('import_torch', tmp_path / 'none.pt', f'--out={tmp_path / "c"}')
  assert missing.returncode == 1
  assert missing.stderr.startswith('import_torch: ')
  assert 'none.pt' in missing.stderr and 'Traceback' not in missing.stderr
