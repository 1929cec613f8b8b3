"""The command that finds the forms of songs."""

from data_prep import forms as command
from lakhnes_jax.data import shards
from lakhnes_jax.tracker import form
from support import songs_of_letters


def test_finds_forms(tmp_path, capsys):
  song = songs_of_letters.song('ABACABAC' * 5, frames=12)
  shards.write_split(tmp_path / 'data', 'train', [
      ('long', song), ('short', song[:40])])
  out = tmp_path / 'forms.npz'
  assert not command.main([f'--input={tmp_path}/data',
                                 f'--output={out}'])
  assert 'forms of 1 of 2 songs' in capsys.readouterr().out
  assert (form.read(out).source[0] >= 0).sum() > 6
  shards.write_split(tmp_path / 'few', 'train', [('short', song[:40])])
  assert command.main([f'--input={tmp_path}/few', f'--output={out}'])
  assert 'few: no song of 30 s' in capsys.readouterr().err
