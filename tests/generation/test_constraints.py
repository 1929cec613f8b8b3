"""Constraints by hand, against scalar rules, and on real songs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lakhnes_jax import events as ev
from lakhnes_jax.data import augment
from lakhnes_jax.generation import constraints

FORMATS = list(ev.VOCABULARIES.values())


def _ids(vocabulary: ev.Vocabulary, text: str) -> np.ndarray:
  return vocabulary.encode(ev.from_text(text.replace(' ', '\n')))


def _allowed(constraint, state, vocabulary) -> set[str]:
  """Names of the tokens that one song may draw."""
  logits = constraint.process_logits(state, jnp.zeros((1, vocabulary.size)))[0]
  return {vocabulary.tokens[i] for i in np.flatnonzero(np.isfinite(logits))}


def _after(constraint, state, ids):
  state = constraints.stack([state])
  for token in ids:
    _, state = constraint.advance(state, jnp.array([token]))
  return state


def test_stopping_by_events_time_and_eos():
  stopping = constraints.StoppingCriterion(ev.TX1)
  state = constraints.stack([
      stopping.init_state(2), stopping.init_state(9, 100),
      stopping.init_state(9, 101)])
  emitted = []
  for _ in range(4):
    tokens, state = stopping.advance(state, jnp.full(
        3, _ids(ev.TX1, 'WT_50')[0], jnp.int32))
    emitted.append((tokens != ev.BOS_EOS).tolist())
  assert np.sum(emitted, 0).tolist() == [2, 2, 3]
  assert emitted[-1] == [False] * 3
  logits = jnp.zeros((3, 631))
  processed = stopping.process_logits(state, logits)
  assert not np.isfinite(processed[:, ev.BOS_EOS]).any()
  assert np.isfinite(processed[:, 1:]).all()
  free = constraints.StoppingCriterion(ev.TX1, stop_at_eos=True)
  assert np.isfinite(free.process_logits(state, logits)).all()


def test_tokens_are_forced_and_pitches_left_open():
  forced = constraints.ForcedTokens(ev.TX1)
  ids = _ids(ev.TX1, 'WT_735 NO_NOTEOFF')
  state = constraints.stack([
      forced.init_state([ids[0], -1 - ev.TR, ids[1], ev.BOS_EOS]),
      forced.init_state([-1 - ev.P1, constraints.ANY])])
  drawn = jnp.array([17, 18])
  first = forced.process_logits(state, jnp.zeros((2, 631)))
  assert {ev.TX1.tokens[i] for i in np.flatnonzero(np.isfinite(first[1]))} == {
      f'P1_NOTEON_{pitch}' for pitch in range(33, 109)}
  emitted = []
  for _ in range(6):
    tokens, state = forced.advance(state, drawn)
    emitted.append(tokens.tolist())
    if len(emitted) == 1:
      left = forced.process_logits(state, jnp.zeros((2, 631)))
      assert {ev.TX1.tokens[i] for i in np.flatnonzero(
          np.isfinite(left[0]))} == {
              f'TR_NOTEON_{pitch}' for pitch in range(21, 109)}
      assert np.isfinite(left[1]).all()
  assert [row[0] for row in emitted] == [ids[0], 17, ids[1], 0, 0, 0]
  assert [row[1] for row in emitted] == [18] * 6


@pytest.mark.parametrize('before, token, expected', [
    ('', 'P1_NOTEOFF', False),
    ('P1_NOTEON_60 WT_9', 'P1_NOTEOFF', True),
    ('P1_NOTEON_60 WT_9', 'P2_NOTEOFF', False),
    ('P1_NOTEON_60 WT_9 P1_NOTEOFF WT_9', 'P1_NOTEOFF', False),
    ('P1_NOTEON_60', 'P1_NOTEON_60', False),
    ('P1_NOTEON_60', 'P1_NOTEON_61', False),
    ('P1_NOTEON_60 WT_9', 'P1_NOTEON_60', False),
    ('P1_NOTEON_60 WT_9', 'P1_NOTEON_61', True),
    ('P1_NOTEON_60 WT_9 P1_NOTEOFF WT_9', 'P1_NOTEON_60', True),
    ('P1_NOTEON_60', 'P2_NOTEON_60', True),
    ('P2_NOTEON_60', 'P1_NOTEON_60', False),
    ('NO_NOTEON_6', 'TR_NOTEON_60', False),
    ('NO_NOTEON_6', 'WT_1', True),
    ('WT_9', 'WT_9', True),
    ('', 'WT_88000', True),
    ('', 'WT_89000', False),
    ('WT_88000', 'WT_200', True),
    ('WT_88000', 'WT_210', False),
    ('P1_NOTEON_60', 'WT_100000', True),
    ('P1_NOTEON_60 WT_100000', 'WT_100000', True),
    ('P1_NOTEON_60 WT_99000 P1_NOTEOFF', 'WT_88000', True),
    ('P1_NOTEON_60 WT_99000 P1_NOTEOFF', 'WT_89000', False),
    ('WT_88000 WT_200', 'WT_1', False),
    ('WT_88000 WT_200', 'NO_NOTEON_3', True),
    ('WT_88000 WT_200', 'P1_NOTEOFF', False),
    ('WT_88000 WT_200', '<S>', True),
    *((f'P1_NOTEON_60 P2_NOTEON_60 WT_9 P2_NOTEON_61 {n * "WT_88000 "}', token,
       fine) for n, token, fine in (
           (4, 'WT_9', True), (4, 'P2_NOTEOFF', True), (5, 'WT_9', False),
           (5, 'P1_NOTEOFF', True), (5, 'P1_NOTEON_62', True),
           (5, 'P1_NOTEON_60', False), (5, 'P2_NOTEOFF', True),
           (5, 'TR_NOTEON_62', False))),
    (f'P1_NOTEON_60 {5 * "WT_88000 "} P1_NOTEON_62', 'WT_9', True),
    *((f'{8 * "P1_NOTEON_60 WT_270 P1_NOTEON_62 WT_1 "} WT_{last}', token, fine)
      for last, token, fine in ((2000, 'P1_NOTEON_60', False),
                                (2000, 'P1_NOTEOFF', True),
                                (2000, 'P2_NOTEON_60', True),
                                (2300, 'P1_NOTEON_60', True))),
])
def test_grammar_by_hand(before, token, expected):
  grammar = constraints.Grammar(ev.TX1)
  state = _after(grammar, grammar.init_state(), _ids(ev.TX1, before))
  assert (token in _allowed(grammar, state, ev.TX1)) == expected


@pytest.mark.parametrize('before, expected', [
    ('P1_NOTEON_60', {f'P1_VELOCITY_{v}' for v in range(1, 16)}),
    ('P1_TIMBRE_2', None),
    ('TR_NOTEON_60', None),
    ('WT_9', None),
])
def test_grammar_of_dynamics(before, expected):
  grammar = constraints.Grammar(ev.TX2)
  state = _after(grammar, grammar.init_state(), _ids(ev.TX2, before))
  allowed = _allowed(grammar, state, ev.TX2)
  if expected:
    assert allowed == expected
  else:
    assert 'NO_NOTEON_3' in allowed
    assert ('P1_TIMBRE_1' in allowed) == (before == 'WT_9')
    assert not {'P1_VELOCITY_3', 'NO_VELOCITY_3'} & allowed


def _faults(names: list[str], dynamics: bool,
            given: tuple[str, ...] = ()) -> list[str]:
  """What is wrong with a song, by the rules as a reader would check them."""
  faults, sounding, silent, instant = [], set(), 0, []
  now, onsets, begun = 0, {'P1': [], 'P2': [], 'TR': [], 'NO': []}, {}
  for before, name in zip(['', *names], names, strict=False):
    voice, kind, *_ = [*name.split('_'), '']
    if dynamics and 'NOTEON' in before and before[:2] != 'TR' and (
        not name.startswith(before[:2] + '_VELOCITY')):
      faults.append(f'{before}, then {name}')
    if voice == 'WT':
      instant, now = [], now + int(kind)
      silent = 0 if sounding else silent + int(kind)
      if silent > 2 * 44100:
        faults.append(f'silent for {silent}')
      # One of four voices at each instant, in the worst case.
      faults += [f'{x} holds on' for x in sounding if x not in given and
                 now - begun[x] > 9 * 44100 + 4 * 100000]
      continue
    place = ['P1', 'P2', 'TR', 'NO'].index(voice), max(
        ['NOTEOFF', 'NOTEON', 'VELOCITY', 'TIMBRE'].index(kind), 1)
    if instant and place <= instant[-1]:
      faults.append(f'{name} after {instant}')
    instant.append(place)
    if kind in ('NOTEOFF', 'VELOCITY') and voice not in sounding:
      faults.append(f'{name} in silence')
    if kind == 'NOTEON':
      sounding.add(voice)
      begun[voice] = now
      onsets[voice].append(now)
      if len(onsets[voice]) > 16 and now - onsets[voice][-17] < 4410:
        faults.append(f'17 notes of {voice} within 0.1 s')
    if kind == 'NOTEOFF':
      sounding.remove(voice)
    silent = 0 if sounding else silent
  return faults


def _draw(constraint, state, vocabulary, length, *, bias=0.):
  """Draws uniformly among what is allowed; waits less or more often."""
  logits = jnp.where(vocabulary.events > 0, bias, 0.)

  def body(state, key):
    allowed = constraint.process_logits(state, jnp.broadcast_to(
        logits, (len(jax.tree.leaves(state)[0]), vocabulary.size)))
    tokens, state = constraint.advance(state, jax.random.categorical(
        key, allowed).astype(jnp.int32))
    return state, tokens

  _, tokens = jax.jit(functools.partial(jax.lax.scan, body))(
      constraints.stack(state), jax.random.split(jax.random.key(0), length))
  return tokens.T


@pytest.mark.parametrize('vocabulary', FORMATS, ids=lambda v: v.name)
@pytest.mark.parametrize('bias', [-2, 3])
def test_whatever_grammar_allows_is_a_legal_song(vocabulary, bias):
  chain = constraints.Chain((constraints.StoppingCriterion(vocabulary),
                             constraints.Grammar(vocabulary)))
  ids = _draw(chain, 3 * [tuple(g.init_state(*n) for g, n in zip(
      chain.constraints, ((9999,), ()), strict=True))], vocabulary, 700,
              bias=bias)
  for row in ids.tolist():
    names = [vocabulary.tokens[i] for i in row]
    assert _faults(names, vocabulary.dynamics) == []
    assert len({name[:2] for name in names}) == 5
  stopping = constraints.StoppingCriterion(vocabulary)
  free = _draw(stopping, [stopping.init_state(999)], vocabulary, 99)
  assert _faults([vocabulary.tokens[i] for i in free[0].tolist()
                  if 'NOTEOFF' not in vocabulary.tokens[i]],
                 vocabulary.dynamics)


@pytest.mark.parametrize('vocabulary', FORMATS, ids=lambda v: v.name)
def test_an_accompaniment_keeps_the_order_of_instants(vocabulary):
  """Two voices are given, and silent for long; the others follow grammar."""
  chain = constraints.Chain((constraints.VoiceInfilling(vocabulary),
                       constraints.Grammar(vocabulary)))
  given = [(0, 'P2_NOTEON_50'), (0, 'P2_VELOCITY_9'), (4000, 'P2_NOTEOFF'),
           (4000, 'NO_NOTEON_7'), (4000, 'NO_VELOCITY_9'),
           (5000, 'P2_NOTEON_52'), (5000, 'P2_VELOCITY_9'),
           (700000, 'P2_NOTEOFF'), (700000, 'NO_NOTEOFF')]
  times, given = zip(*[(time, name) for time, name in given if
                       name in vocabulary.tokens], strict=True)
  state = (chain.constraints[0].init_state(np.array(times), _ids(
      vocabulary, ' '.join(given)), 800000, (ev.P2, ev.NO), 10000),
           chain.constraints[1].init_state())
  ids = _draw(chain, 4 * [state], vocabulary, 3000, bias=-3)
  for row in ids.tolist():
    assert row[-1] == ev.BOS_EOS
    names = [vocabulary.tokens[i] for i in row[:row.index(ev.BOS_EOS)]]
    assert [n for n in names if n[:2] in ('P2', 'NO')] == list(given)
    assert _faults(names, vocabulary.dynamics, ('P2', 'NO')) == []
    assert len(names) > 2 * len(given)


def test_a_rule_that_leaves_nothing_gives_way():
  """What is forced, the grammar masks."""
  chain = constraints.Chain((constraints.ForcedTokens(ev.TX1),
                             constraints.Grammar(ev.TX1)))
  state = (chain.constraints[0].init_state([-1 - ev.P1, -1 - ev.P1]),
           chain.constraints[1].init_state())
  state = _after(chain, state, _ids(ev.TX1, 'P1_NOTEON_60'))
  assert _allowed(chain, state, ev.TX1) == {
      f'P1_NOTEON_{pitch}' for pitch in range(33, 109)}


def test_states_of_songs_of_any_length_are_stacked():
  a, b = constraints.stack([(np.arange(3), np.int32(5)),
                            (np.arange(5), np.int32(6))])
  assert a.tolist() == [[0, 1, 2, 2, 2, 2, 2, 2], [0, 1, 2, 3, 4, 4, 4, 4]]
  assert b.tolist() == [5, 6]
  table = constraints.stack([np.eye(2, dtype=int), np.arange(6).reshape(3, 2)])
  assert table.tolist() == [[[1, 0], [0, 1], [0, 1]], [[0, 1], [2, 3], [4, 5]]]


def test_advancing_by_n_is_advancing_n_times():
  chain = constraints.Chain((constraints.ForcedTokens(ev.TX1),
                             constraints.Grammar(ev.TX1)))
  ids = _ids(ev.TX1, 'P1_NOTEON_60 WT_9 NO_NOTEON_4 P1_NOTEOFF')
  start = (chain.constraints[0].init_state([*ids, constraints.ANY]),
           chain.constraints[1].init_state())
  expected = _after(chain, start, [5, 9, 300])
  skipped = constraints.advance_n(chain, constraints.stack([start]), 3)
  jax.tree.map(np.testing.assert_array_equal, skipped, expected)
  assert skipped[1].pitches_Bx4.tolist() == [[60, 0, 0, 4]]


def _forbidden(vocabulary, songs) -> int:
  """Counts the events of songs that grammar would not have allowed."""
  grammar = constraints.Grammar(vocabulary, max_silence=10 * ev.SAMPLE_RATE,
                          max_held=20 * ev.SAMPLE_RATE)
  rows = [vocabulary.encode(vocabulary.project(augment.trim(song)))
          for song in songs]
  tokens = np.zeros((len(rows), 1 << max(map(len, rows)).bit_length()), int)
  for row, ids in zip(tokens, rows, strict=True):
    row[:len(ids)] = ids

  @jax.jit
  def count(tokens):
    def body(state, tokens_B):
      fine = jnp.take_along_axis(
          grammar.allowed(state) & grammar.ends_notes(state),
          tokens_B[:, None], 1)
      return grammar.advance(state, tokens_B)[1], ~fine[:, 0]
    _, wrong = jax.lax.scan(body, constraints.stack(
        [grammar.init_state()] * len(tokens)), tokens.T)
    return jnp.sum(wrong & (tokens.T != ev.BOS_EOS))

  return int(count(tokens))


@pytest.mark.parametrize('vocabulary', FORMATS, ids=lambda v: v.name)
def test_grammar_allows_what_real_songs_do(real_songs, vocabulary):
  songs = [song[:1500] for song in real_songs]
  assert _forbidden(vocabulary, songs) == 0
  assert _forbidden(vocabulary, [np.roll(song, 1) for song in songs]) > 0
