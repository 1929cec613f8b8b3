# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # Train: from MIDI files to a model of your own
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/_owner_/lakhnes_jax/blob/main/experiments/notebooks/train.ipynb)
#
# As in the paper: a Transformer-XL learns from MIDI files of the web that are
# arranged for the NES sound chip, then from music of NES games
# ([NES-MDB](https://github.com/chrisdonahue/nesmdb)), and writes songs. It trains
# on all devices there are: a CPU, a GPU, a TPU with one core or with eight.
#
# After a disconnect run all cells again with the same values: what is prepared
# again is the same, and each training goes on where it was last saved. The
# times are those of two CPU cores; on accelerators nothing has been measured yet.

# %%
# @title 1. Install (a minute, once)
# @markdown Runs are kept in this folder: in Colab of your Google Drive, if you
# @markdown allow that, elsewhere of the folder where the notebook is.
REPOSITORY = 'https://github.com/_owner_/lakhnes_jax'  # @param {type:"string"}
FOLDER = 'lakhnes'  # @param {type:"string"}
ON_DRIVE = True  # @param {type:"boolean"}

import importlib.util
import os
import pathlib
import subprocess
import sys

from IPython import get_ipython
from IPython.display import Image, display

if importlib.util.find_spec('lakhnes_jax') is None:
  get_ipython().run_line_magic(
      'pip', f'install --quiet "lakhnes_jax[plot] @ git+{REPOSITORY}"')

runs = pathlib.Path(FOLDER)
try:
  from google.colab import drive, files
except ImportError:
  files = None
else:
  if ON_DRIVE:
    drive.mount('/content/drive')
    runs = pathlib.Path('/content/drive/MyDrive', FOLDER)

# An accelerator belongs to one process at a time: to the commands below. This
# one, which draws and plays, uses the CPU.
environment = dict(os.environ)
os.environ['JAX_PLATFORMS'] = 'cpu'


def run(module, *arguments):
  """Runs `python -m MODULE ARGUMENTS`, and shows what it prints."""
  print('$ python -m', module, *arguments)
  with subprocess.Popen(
      [sys.executable, '-u', '-m', module, *map(str, arguments)],
      env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
      text=True) as process:
    for line in process.stdout:
      print(line, end='')
  if process.returncode:
    raise RuntimeError(f'{module} has failed; its last lines say why')


# %%
# @title 2. NES-MDB (12 MB to download; a minute)
# @markdown A folder with folders train, valid and test of song files, if you
# @markdown have one; else NES-MDB is downloaded.
NESMDB = ''  # @param {type:"string"}

if not NESMDB:
  run('data_prep.download', 'nesmdb', '--out=data')
run('data_prep.nesmdb', f'--input={NESMDB or "data/nesmdb_midi"}',
    '--output=data/nesmdb')

# %%
# @title 3. MIDI files of the web (1.7 GB to download; then 5 minutes)
# @markdown A folder or a .tar.gz of MIDI files, if you have one; else the Lakh
# @markdown MIDI dataset is downloaded. Of its 176,581 files the first are read.
WEB_MIDI = ''  # @param {type:"string"}
N_FILES = 20000  # @param {type:"integer"}

if not WEB_MIDI:
  run('data_prep.download', 'lmd_full', '--out=data')
run('data_prep.lakh', f'--input={WEB_MIDI or "data/lmd_full.tar.gz"}',
    '--output=data/web', f'--limit={N_FILES}')

# %%
# @title 4. Pre-train on the web (half an hour for *laptop*)
# @markdown *laptop* has 6M parameters; *paper*, the paper's model, has 41M, and
# @markdown wants a GPU or a TPU for days (400,000 steps).
# @markdown `python -m experiments.run --help` lists further flags.
SIZE = 'laptop'  # @param ["laptop", "paper"]
PRETRAIN_STEPS = 2000  # @param {type:"integer"}
MORE_FLAGS = ''  # @param {type:"string"}

if SIZE == 'laptop':
  web = chip = ['--flagfile=laptop.flags']
else:
  shared = ['--batch_size=64', '--dtype=bfloat16']
  web = ['--flagfile=pretrain.flags', *shared]
  chip = ['--flagfile=finetune.flags', *shared]
run('experiments.run', *web, '--data_dir=data/web',
    f'--workdir={runs}/pretrain', '--augment=trim,transpose,stretch',
    f'--max_steps={PRETRAIN_STEPS}', *MORE_FLAGS.split())

# %%
# @title 5. Fine-tune on NES-MDB (half an hour for *laptop*)
FINETUNE_STEPS = 2000  # @param {type:"integer"}

run('experiments.run', *chip, '--data_dir=data/nesmdb',
    f'--workdir={runs}/finetune', f'--init_from={runs}/pretrain',
    f'--max_steps={FINETUNE_STEPS}', *MORE_FLAGS.split())

# %%
# @title 6. Learning curves, and perplexity (minutes)
# @markdown README.md has the perplexities of other models.
from lakhnes_jax.report import plot

plot.learning_curves([runs / 'pretrain', runs / 'finetune'], runs / 'curves.png')
display(Image(str(runs / 'curves.png')))
run('experiments.run', *chip, '--mode=eval', '--data_dir=data/nesmdb',
    f'--workdir={runs}/finetune', *MORE_FLAGS.split())

# %%
# @title 7. Listen (minutes)
N_SONGS = 4  # @param {type:"slider", min:1, max:16, step:1}
SECONDS = 20  # @param {type:"slider", min:1, max:60, step:1}
SEED = 7  # @param {type:"integer"}

import lakhnes_jax

model = lakhnes_jax.load(runs / 'finetune')
songs = model.generate(N_SONGS, seconds=SECONDS, seed=SEED)
for i, song in enumerate(songs):
  song.save(runs / f'songs/{i}.mid')
  display(song)

# %%
# @title 8. Export (seconds)
# @markdown A folder of weights with a model card, for *listen.ipynb*,
# @markdown `lakhnes_jax.load` and `--weights`.
import shutil

run('lakhnes_jax.export', runs / 'finetune', f'--out={runs}/weights')
archive = shutil.make_archive(f'{runs}/weights', 'zip', runs / 'weights')
if files:
  files.download(archive)
print(archive)
