"""The files that are written of samples."""

import json
import math

import numpy as np
import pytest

from lakhnes_jax import events as ev
from lakhnes_jax.generation import sample
from lakhnes_jax.report import samples


def _sample(name, song) -> sample.Sample:
  return sample.Sample(name, np.array(song, np.int32),
                       np.zeros(len(song), bool), np.ones(len(song)),
                       {'format': 'tx1'})


def test_a_song_without_time_has_no_audio_and_stops_nothing(tmp_path, capsys):
  note = ev.event(ev.P1, ev.NOTEON, 60)
  samples.write([_sample('a', [note]), _sample('b', [note, 4000])], tmp_path)
  assert 'no length' in capsys.readouterr().err
  assert {path.name for path in tmp_path.iterdir()} >= {
      'a.mid', 'a.tx1.txt', 'b.mid', 'b.png', 'b.tx1.txt', 'b.wav',
      'index.html', 'samples.json'}
  assert not (tmp_path / 'a.wav').exists()
  first, second = json.loads((tmp_path / 'samples.json').read_text())
  assert first == {
      'name': 'a', 'format': 'tx1', 'n_events': 1, 'n_given': 0, 'seconds': 0,
      'nll_given': None, 'ppl_given': None, 'nll_generated': 1,
      'ppl_generated': math.e}
  assert second['seconds'] == 4000 / 44100
  # Later ones join those that are there.
  samples.write([_sample('b', [3, note, 99]), _sample('c', [note, 99])],
                tmp_path)
  rows = json.loads((tmp_path / 'samples.json').read_text())
  assert [row['name'] for row in rows] == ['a', 'b', 'c']
  assert rows[1]['n_events'] == 3
  # Another process writes there meanwhile: none of both is lost.
  def two():
    yield _sample('d', [note, 99])
    samples.write([_sample('e', [note, 99])], tmp_path)
    yield _sample('f', [note, 99])

  samples.write(two(), tmp_path)
  rows = json.loads((tmp_path / 'samples.json').read_text())
  assert [row['name'] for row in rows] == list('abcdef')
  (tmp_path / 'samples.json').write_text('[1]')
  with pytest.raises(ValueError, match='not a list of samples'):
    samples.write([], tmp_path)
