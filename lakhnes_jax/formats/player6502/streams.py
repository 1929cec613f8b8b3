"""Tables of register writes -> the driver's streams, compressed.

What was there before, in any stream, is called instead of stored again; calls
may be part of what is called. The tokens are those of player.asm.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

MAX_DEPTH = 5  # Calls within calls, as the driver's stack has it.
_MAX_CALL = 64  # Tokens.
_LONGEST_WAIT = 63  # Frames in a token of their own.
_SHORT_WAIT = 7  # Frames behind a write.
_KEY = 3  # Records that have to agree before a match is looked at.
_CANDIDATES = 48


class Token(NamedTuple):
  """A token; `data` is all of a write or a wait, `target` of a call or jump.

  Attributes:
    data: bytes, the first of them for a call or a jump.
    target: index of the token that is called; None if there is none.
  """
  data: bytes
  target: int | None = None


def records(columns: np.ndarray, begin: int, end: int) -> list[bytes]:
  """Writes and waits of frames `begin` to `end` of a stream.

  Args:
    columns: [F, 4] int16, -1 where nothing is written.
  """
  rows = columns[begin:end]
  active = np.flatnonzero((rows >= 0).any(1)).tolist()
  result = []

  def wait(frames):
    while frames:
      part = min(frames, _LONGEST_WAIT)
      result.append(bytes([0x80 | part - 1]))
      frames -= part

  wait(active[0] if active else end - begin)
  for at, following in itertools.pairwise([*active, end - begin]):
    row = rows[at].tolist()
    gap = following - at - 1
    short = gap if gap <= _SHORT_WAIT else 0
    mask = sum(1 << i for i, value in enumerate(row) if value >= 0)
    result.append(bytes([short << 4 | mask, *(v for v in row if v >= 0)]))
    wait(gap - short)
  return result


class Packer:
  """Packs streams one after the other, all into one list of tokens."""

  def __init__(self, address_size: int):
    self.tokens = []
    self.depths = []  # Calls within each token.
    self.begins = []  # Where in `self.text` what a token plays begins.
    self.text = ''  # Every record, as one character each.
    self.codes = {}  # Of records.
    self.cost = 1 + address_size
    self.index = {}  # Tokens by what they and their followers play.
    self.indexed = 0

  def add(self, table: np.ndarray, loop: int | None) -> list[int]:
    """Packs a song.

    Args:
      table: [F, 4 S] int16, the streams' columns side by side.
      loop: the frame after the last one's; None where the song ends.

    Returns:
      [S] indices of each stream's first token.
    """
    starts = []
    n_frames = len(table)
    for first in range(0, table.shape[1], 4):
      columns = table[:, first:first + 4]
      starts.append(len(self.tokens))
      self._pack(records(columns, 0, n_frames if loop is None else loop))
      back = len(self.tokens)
      if loop is None:
        self._emit(Token(bytes([0x80 | _LONGEST_WAIT - 1])), 0, '\0')
      else:
        self._pack(records(columns, loop, n_frames))
      self._emit(Token(b'\xbf', back), 0, '\0')
    return starts

  def _emit(self, token, depth, text):
    self.tokens.append(token)
    self.depths.append(depth)
    self.begins.append(len(self.text))
    self.text += text

  def _pack(self, items: Sequence[bytes]):
    # The text grows by what is yet to be packed; tokens say how far it is.
    codes = [self.codes.setdefault(item, len(self.codes) + 1)
             for item in items]
    ahead = ''.join(map(chr, codes))
    sizes = np.cumsum([0, *map(len, items)]).tolist()
    base = len(self.text)
    self.text += ahead
    at = 0
    while at < len(items):
      target, count, covered = self._match(base, at, len(items))
      if count and sizes[at + covered] - sizes[at] > self.cost:
        token = Token(bytes([0xc0 | count - 1]), target)
        depth = 1 + max(self.depths[target:target + count])
      else:
        token, depth, covered = Token(items[at]), 0, 1
      self.tokens.append(token)
      self.depths.append(depth)
      self.begins.append(base + at)
      at += covered
      self._index(base + at)

  def _index(self, until):
    """Makes the tokens findable whose key lies wholly before `until`."""
    while (self.indexed < len(self.tokens) and
           self.begins[self.indexed] + _KEY <= until):
      begin = self.begins[self.indexed]
      self.index.setdefault(self.text[begin:begin + _KEY], []).append(
          self.indexed)
      self.indexed += 1

  def _match(self, base, at, size):
    """The best call for what comes at `at`: first token, tokens, records."""
    here = base + at
    best = 0, 0, 0
    if at + _KEY > size:
      return best
    n_tokens, begins, depths = len(self.tokens), self.begins, self.depths
    for first in reversed(
        self.index.get(self.text[here:here + _KEY], [])[-_CANDIDATES:]):
      common = self._common(begins[first], here, base + size)
      if common <= best[2]:
        continue
      last = first
      while (last < n_tokens and last - first < _MAX_CALL and
             depths[last] < MAX_DEPTH and
             self.tokens[last].data[0] != 0xbf):
        end = begins[last + 1] if last + 1 < n_tokens else here
        if end - begins[first] > common:
          break
        last += 1
      covered = (begins[last] if last < n_tokens else here) - begins[first]
      if covered > best[2]:
        best = first, last - first, covered
    return best

  def _common(self, a, b, end) -> int:
    """How many records agree from `a` and from `b` on; `a` stays before `b`."""
    most = min(end - b, b - a)
    text = self.text
    low, step = 0, 16
    while low < most:
      step = min(step, most - low)
      if text[a + low:a + low + step] == text[b + low:b + low + step]:
        low += step
        step *= 2
      elif step == 1:
        break
      else:
        step = max(step // 4, 1)
    return low


def size(tokens: Sequence[Token], address_size: int) -> int:
  """Bytes of the tokens."""
  return sum(len(token.data) + address_size * (token.target is not None)
             for token in tokens)


def encode(tokens: Sequence[Token], origin: int, banked: bool
          ) -> tuple[bytes, list[int]]:
  """Lays the tokens out.

  Args:
    tokens: of all streams.
    origin: where they begin: an address, or if banked a place in the banks.
    banked: whether addresses are those of 4-KB banks seen at $8000.

  Returns:
    their bytes, and where each begins, as `origin`.
  """
  extra = 3 if banked else 2
  sizes = [len(t.data) + extra * (t.target is not None) for t in tokens]
  places = (origin + np.cumsum([0, *sizes])).tolist()
  parts = []
  for token in tokens:
    parts.append(token.data)
    if token.target is not None:
      parts.append(address(places[token.target], banked))
  return b''.join(parts), places


def address(place: int, banked: bool) -> bytes:
  """The bytes by which the driver finds a place."""
  if not banked:
    return place.to_bytes(2, 'little')
  return bytes([place & 0xff, 0x80 | place >> 8 & 0x0f, place >> 12])
