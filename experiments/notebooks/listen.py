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
# # Listen: new music for the NES sound chip
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/_owner_/lakhnes_jax/blob/main/experiments/notebooks/listen.ipynb)
#
# The model that comes with the package writes songs for two pulse waves, a
# triangle and noise, continues yours, and adds voices to them; a synthesizer of
# the chip plays them. The cells run from top to bottom in Colab and in Jupyter,
# with or without an accelerator. The times are rough, for two CPU cores.

# %%
# @title 1. Install (a minute, once)
REPOSITORY = 'https://github.com/_owner_/lakhnes_jax'  # @param {type:"string"}

import importlib.util
import pathlib
import shutil

from IPython import get_ipython
from IPython.display import display

if importlib.util.find_spec('lakhnes_jax') is None:
  get_ipython().run_line_magic(
      'pip', f'install --quiet "lakhnes_jax[plot] @ git+{REPOSITORY}"')

import lakhnes_jax
from data_prep import prepare

try:
  from google.colab import files  # To upload and to download.
except ImportError:
  files = None

# %%
# @title 2. Load a model (seconds)
# @markdown A weights folder, its URL, or a run of *train.ipynb*; empty for the
# @markdown model of the package.
WEIGHTS = ''  # @param {type:"string"}

model = lakhnes_jax.load(WEIGHTS or None)
model

# %%
# @title 3. New songs (a minute or two; the first call compiles a program)
# @markdown A higher temperature takes more risks. The same seed gives the same
# @markdown songs.
N_SONGS = 4  # @param {type:"slider", min:1, max:16, step:1}
SECONDS = 20  # @param {type:"slider", min:1, max:60, step:1}
TEMPERATURE = 1.0  # @param {type:"slider", min:0.5, max:1.5, step:0.05}
SEED = 7  # @param {type:"integer"}

songs = model.generate(N_SONGS, seconds=SECONDS, temperature=TEMPERATURE,
                       seed=SEED)
for song in songs:
  display(song)

# %%
# @title 4. A song of yours (seconds)
# @markdown The path of a song: MIDI of any kind, VGM, NSF, FamiTracker text, ...
# @markdown Of general MIDI, three instruments of one note at a time and the
# @markdown drums are arranged for the chip, by chance. Empty: in Colab you may
# @markdown upload a file; without one, the first song above is taken.
SONG = ''  # @param {type:"string"}

path = SONG or (next(iter(files.upload()), '') if files else '')
given = (lakhnes_jax.Song(prepare.read_song(pathlib.Path(path), SEED), 'given')
         if path else songs[0])
given

# %%
# @title 5. Continue it (a minute)
PROMPT_SECONDS = 8  # @param {type:"slider", min:1, max:60, step:1}
ADDED_SECONDS = 12  # @param {type:"slider", min:1, max:60, step:1}

continued, = model.continue_song(
    given, prompt_seconds=PROMPT_SECONDS, seconds=ADDED_SECONDS,
    temperature=TEMPERATURE, seed=SEED)
continued

# %%
# @title 6. Keep some voices, and let the model write the others (a minute)
# @markdown Some of p1 and p2 (the pulse waves), tr (triangle), no (noise).
KEPT = 'p1,tr'  # @param {type:"string"}

accompanied, = model.accompany(
    given, KEPT.split(','), seconds=PROMPT_SECONDS + ADDED_SECONDS,
    temperature=TEMPERATURE, seed=SEED)
accompanied

# %%
# @title 7. Download everything (seconds)
# @markdown Endings of MIDI, of VGM, which players of chip music and trackers
# @markdown read, of audio (wav, flac, ogg), of a picture (png), and more.
ENDINGS = 'mid,vgm'  # @param {type:"string"}

made = {f'song-{i}': song for i, song in enumerate(songs)}
made |= {'continued': continued, 'accompanied': accompanied}
for name, song in made.items():
  for ending in ENDINGS.split(','):
    song.save(f'songs/{name}.{ending}')
archive = shutil.make_archive('songs', 'zip', 'songs')
if files:
  files.download(archive)
print(archive)
