"""`SHA256SUMS` made worse: the right weights, or a line that names the folder.

What it is to detect is damaged too, every other time.
"""

import hashlib
import re
import shutil

import numpy as np
import pytest

from lakhnes_jax.weights import checkpoint, weights_folder
from support import mutations

pytestmark = pytest.mark.faults
META = {'model': 'none', 'format': 'tx1', 'config': {'d_model': 16}}
_NAMES = [b'../a/config.json', b'..', b'.', b'.hidden', b'/etc/passwd', b'a/b',
          b'~', b'', b'x' * 5000, b'none', b'SHA256SUMS', b'\xff', b'a\0b',
          b'config.json ', b'-', b'*config.json', 'é'.encode()]
_NEVER = b'ab' * 32  # The hash of nothing.


def _mutated(data: bytes, rng) -> bytes:
  rows = data.splitlines()
  at = int(rng.integers(len(rows)))
  sha256, name = rows[at][:64], rows[at][66:]
  other = rows[int(rng.integers(len(rows)))]
  name_other = _NAMES[int(rng.integers(len(_NAMES)))]
  kind = int(rng.integers(12))
  if kind == 0:
    del rows[at]
  elif kind == 1:
    rows.append(rows[at])
  elif kind == 2:
    rows.append(_NEVER + b'  ' + name)
  elif kind == 3:
    rows[at] = other[:64] + b'  ' + name
  elif kind == 4:
    rows[at] = sha256 + b'  ' + name_other
  elif kind == 5:
    rows.append(sha256 + b'  ' + name_other)
  elif kind == 6:
    rows[at] = sha256.upper() + b' *' + name
  elif kind == 7:
    rows[at] = (b'', b' ' + rows[at], rows[at] + b' ', b'# ' + rows[at],
                b'\\' + rows[at], sha256 + name)[int(rng.integers(6))]
  else:
    text = b'\n'.join(rows) + b'\n'
    if kind == 8:
      return b'\xef\xbb\xbf' + text.replace(b'\n', b'\r\n')
    if kind == 9:
      return text.decode().encode('utf-16')
    mutator = (*mutations.ANY, mutations.lines)[
        int(rng.integers(len(mutations.ANY) + 1))]
    return bytes(mutator(bytearray(text), rng, [data]))
  return b'\n'.join(rows) + b'\n'


def _values(folder):
  tree, meta = weights_folder.read(folder)
  return {name: leaf.tobytes()
          for name, leaf in checkpoint.leaves(tree).items()}, meta


def _agree(folder) -> bool:
  """Whether there is one right line for each file; as `sha256sum` reads it."""
  lines = (folder / 'SHA256SUMS').read_bytes().removeprefix(
      b'\xef\xbb\xbf').splitlines()
  said = {line[66:].decode(): line[:64].decode().lower() for line in lines
          if re.fullmatch(rb'[0-9a-fA-F]{64} [ *][\w.-]+', line)}
  return all(said.get(path.name) == hashlib.sha256(
      path.read_bytes()).hexdigest() for path in folder.iterdir()
      if path.name != 'SHA256SUMS')


@pytest.mark.parametrize('with_optimizer', [False, True])
def test_mutated_sums(tmp_path, n_faults, with_optimizer):
  rng = np.random.default_rng(8)
  tree = {'w': rng.normal(size=(8, 9)).astype(np.float32)}
  good, copy = tmp_path / 'good', tmp_path / 'copy'
  weights_folder.save(good, tree, META,
                      opt_state={'mu': tree} if with_optimizer else None)
  whole, taken, refused = _values(good), 0, 0
  for number in range(10 * n_faults):
    rng = np.random.default_rng((number, with_optimizer))
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(good, copy)
    data = _mutated((good / 'SHA256SUMS').read_bytes(), rng)
    (copy / 'SHA256SUMS').write_bytes(data)
    if number % 2:  # The highest bit of a number, or a letter of the config.
      path = sorted(copy.glob('*.*'))[int(rng.integers(2 + with_optimizer))]
      raw = bytearray(path.read_bytes())
      raw[-1 if path.suffix == '.safetensors' else raw.index(b'none')] ^= 1
      path.write_bytes(raw)
    try:
      found = _values(copy)
    except (ValueError, OSError) as error:
      reason = str(error)
      assert str(copy) in reason and reason.isprintable(), (number, reason)
      assert len(reason) < 6000, (number, reason)
      refused += 1
    else:
      assert found == whole and _agree(copy), (number, data)
      taken += 1
  assert refused > taken > 0, (refused, taken)
