"""The notebooks: text and .ipynb agree, and both run with small values."""

import configparser
import pathlib
import re

import jax
import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

from data_prep import compose
from lakhnes_jax import events as ev
from lakhnes_jax.formats import song_files
from lakhnes_jax.model import transformer_xl
from lakhnes_jax.model.language_model import LanguageModel
from lakhnes_jax.training import log
from lakhnes_jax.weights import weights_folder

ROOT = pathlib.Path(__file__).parents[2]
FOLDER = ROOT / 'experiments/notebooks'
NAMES = sorted(path.stem for path in FOLDER.glob('*.ipynb'))
# What Colab has beside Python.
COLAB = {
    '__init__.py': '',
    'output.py': '',  # jax asks for it.
    'files.py': '''
import shutil
def upload():
  shutil.copy('../uploaded.mid', 'uploaded.mid')
  return {'uploaded.mid': b''}
def download(path):
  print('downloaded', path)
''',
    'drive.py': '''
def mount(path):
  raise AssertionError(path)
'''}


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
  """Folders `web` and `chip` of composed songs."""
  folder = tmp_path_factory.mktemp('corpus')
  assert compose.main([f'--out={folder}', '--web=12', '--chip=4']) == 0
  return folder


def execute(name: str, folder: pathlib.Path, **values) -> str:
  """Runs a notebook with other values in its forms; returns what it prints."""
  notebook = nbformat.read(FOLDER / f'{name}.ipynb', 4)
  for parameter, value in values.items():
    pattern = re.compile(rf'^{parameter} = .*(?=  # @param )', re.MULTILINE)
    found = 0
    for cell in notebook.cells:
      cell.source, n = pattern.subn(
          lambda _, line=f'{parameter} = {value!r}': line, cell.source)
      found += n
    assert found == 1, parameter
  NotebookClient(notebook, timeout=900, kernel_name='python3', resources={
      'metadata': {'path': str(folder)}}).execute()
  return ''.join(output.get('text', '') + str(output.get('data', ''))
                 for cell in notebook.cells if cell.cell_type == 'code'
                 for output in cell.outputs)


@pytest.mark.parametrize('name', NAMES)
def test_text_and_notebook_agree(name):
  """`jupytext --sync experiments/notebooks/*.py` makes them."""
  text = jupytext.read(FOLDER / f'{name}.py')
  notebook = nbformat.read(FOLDER / f'{name}.ipynb', 4)
  assert [(cell.cell_type, cell.source) for cell in notebook.cells] == [
      (cell.cell_type, cell.source) for cell in text.cells]
  for cell in notebook.cells:
    if cell.cell_type == 'code':
      assert cell.outputs == [] and cell.execution_count is None
      assert '# @title' in cell.source


def test_one_address():
  """The repository's, as setup.cfg has it."""
  config = configparser.ConfigParser(interpolation=None)
  config.read(ROOT / 'setup.cfg', 'utf-8')
  source = re.search(r'^Source = https://github\.com/(.*)$',
                     config['metadata']['project_urls'], re.MULTILINE)[1]
  for path in [ROOT / 'README.md', *FOLDER.glob('*.py')]:
    text = path.read_text('utf-8')
    found = re.findall(r'(?:github\.com|research\.google\.com/github)/'
                       r'([\w-]+/lakhnes_jax)\b', text)
    assert found and set(found) == {source}, path
  for name in NAMES:
    assert (f'github/{source}/blob/main/experiments/notebooks/{name}.ipynb'
            in (FOLDER / f'{name}.py').read_text('utf-8'))


@pytest.mark.slow
def test_listen(corpus, tmp_path):
  """With the pretrained model."""
  song, *_ = sorted(corpus.glob('chip/train/*.mid'))
  shown = execute('listen', tmp_path, N_SONGS=1, SECONDS=2, SONG=str(song),
                  PROMPT_SECONDS=2, ADDED_SECONDS=1)
  assert shown.count('data:audio/ogg') == shown.count('data:image/png') == 4
  assert len(list(tmp_path.glob('songs/*'))) == 6
  assert (tmp_path / 'songs.zip').stat().st_size > 1000


@pytest.mark.slow
def test_listen_in_colab(corpus, tmp_path, monkeypatch):
  """With another model and an upload."""
  model = LanguageModel(transformer_xl.ModelConfig(
      n_token=ev.TX1.size, n_layer=1, n_head=2, d_model=8, d_head=4, d_inner=8))
  weights_folder.save(
      tmp_path / 'weights', model.init_params(jax.random.key(0)), {
          'model': model.name, 'config': model.to_dict(), 'format': 'tx1',
          'mem_len': 8})
  for name, code in COLAB.items():
    path = tmp_path / 'stubs/google/colab' / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(code)
  monkeypatch.setenv('PYTHONPATH', str(tmp_path / 'stubs'), prepend=':')
  song, *_ = sorted(corpus.glob('web/*.mid'))
  (tmp_path / 'uploaded.mid').write_bytes(song.read_bytes())
  here = tmp_path / 'here'
  here.mkdir()
  shown = execute('listen', here, WEIGHTS='../weights', N_SONGS=2, SECONDS=1,
                  PROMPT_SECONDS=2, ADDED_SECONDS=1, ENDINGS='tx1.txt,png')
  assert f'downloaded {here}/songs.zip' in shown
  given = song_files.read_song(here / 'songs/accompanied.tx1.txt')
  assert (ev.voice_of(given) == ev.P1).any()


@pytest.mark.slow
def test_train(corpus, tmp_path):
  """And again, as after a disconnect: finished or not, runs go on."""
  values = {
      'FOLDER': 'runs', 'NESMDB': str(corpus / 'chip'),
      'WEB_MIDI': str(corpus / 'web'), 'PRETRAIN_STEPS': 4, 'N_SONGS': 1,
      'SECONDS': 1, 'MORE_FLAGS':
      '--n_layer=1 --n_head=1 --d_model=8 --d_head=8 --d_inner=8 --features= '
      '--tgt_len=16 --mem_len=16 --eval_tgt_len=16 --eval_mem_len=16 '
      '--batch_size=4 --eval_batch_size=4 --eval_every=4 --log_every=1'}
  shown = execute('train', tmp_path, **values, FINETUNE_STEPS=4)
  assert shown.count('data:audio/ogg') == 1 and 'image/png' in shown
  runs = tmp_path / 'runs'
  for name in ('curves.png', 'songs/0.mid', 'weights.zip'):
    assert (runs / name).stat().st_size > 100
  model, _, meta = weights_folder.load(runs / 'weights')
  assert (model.config.d_model, meta['step']) == (8, 4)
  execute('train', tmp_path, **values, FINETUNE_STEPS=8)
  for name, steps in (('pretrain', 4), ('finetune', 8)):
    assert [line['step'] for line in log.read(runs / name)
            if line['kind'] == 'train'] == list(range(1, steps + 1))
