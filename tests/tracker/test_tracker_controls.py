"""Tempo, density, voices and length in musicians' units -> prefix tokens."""

import pytest

from lakhnes_jax.tracker import controls
from lakhnes_jax.tracker import vocabulary as voc


@pytest.mark.parametrize('tempo, token', [
    # 60.0988 frames a second: 6 frames a row, 4 rows a beat are 150.25 beats.
    ('150.25', 'TEMPO_6'), (150, 'TEMPO_6'), ('150 bpm', 'TEMPO_6'),
    ('6f', 'TEMPO_6'), ('6.25 frames', 'TEMPO_6.25'), (450, 'TEMPO_2'),
    ('24f', 'TEMPO_24'), ('112.5', 'TEMPO_8')])
def test_tempos(tracker, tempo, token):
  value = controls.asked(tempo)[voc.TEMPO]
  assert tracker.tokens[tracker.id_of(voc.TEMPO, value)] == token


@pytest.mark.parametrize('name, value, expected', [
    ('density', 6., (voc.DENSITY, 5)), ('density', 100, (voc.DENSITY, 10)),
    ('song_length', 4.9, (voc.LENGTH, 0)), ('song_length', 45, (voc.LENGTH, 6)),
    ('voices', ['p1', 'TR'], (voc.VOICES, 5)),
    ('voices', 'no', (voc.VOICES, 8))])
def test_others(name, value, expected):
  assert controls.asked(**{name: value}) == dict([expected])


@pytest.mark.parametrize('name, value, message', [
    ('tempo', 'allegro', '38 to 450, or frames of a row, 2f to 24f'),
    ('tempo', 30, 'tempo=30: expected'), ('tempo', '1f', 'tempo=1f'),
    ('tempo', 0, 'tempo=0'), ('tempo', float('nan'), 'tempo=nan'),
    ('density', 0, 'density: a number from 0.01 to 100 expected'),
    ('density', float('nan'), 'found nan'),
    ('song_length', 1e9, 'song_length: a number from 0.01 to 3600'),
    ('voices', ['p3'], "'p3' is no voice; expected some of p1, p2, tr, no")])
def test_what_is_out_of_range_is_named(name, value, message):
  with pytest.raises(ValueError, match=message) as error:
    controls.asked(**{name: value})
  assert '\n' not in str(error.value)


def test_nothing_asked_for_is_nothing():
  assert controls.asked() == {}
