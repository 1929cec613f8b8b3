"""Tolerant reading of Standard MIDI Files: mends them for a strict parser.

Files from the web break the standard in many ways that no note depends on.
`mend` walks over chunks and events, keeps what this package uses, and writes
it as a plain file of format 0 or 1 that any parser takes:

*   RIFF around the file (RMID), chunks of other kinds, a wrong count of tracks
    and wrong lengths of tracks are undone;
*   meta events that nobody uses, system messages, real-time bytes and escapes
    between events are dropped, whatever is wrong with them;
*   data bytes above 127 become 127; a channel's running status outlasts what
    stands in between.

Source: Standard MIDI File 1.0 (RP-001, MIDI Association); RP-029 (RMID).
"""

import struct
from collections.abc import Iterator

_NOTE_OFF, _NOTE_ON, _CONTROL, _PROGRAM = 0x80, 0x90, 0xb0, 0xc0
_CONTROLS = (11, 12)  # Which the NES-MDB layout uses.
_TRACK_NAME, _END, _TEMPO, _TIME_SIGNATURE = 0x03, 0x2f, 0x51, 0x58
_DATA_BYTES = {0x8: 2, 0x9: 2, 0xa: 2, 0xb: 2, 0xc: 1, 0xd: 1, 0xe: 2}
_SYSTEM_BYTES = {0xf1: 1, 0xf2: 2, 0xf3: 1}  # Others of 0xf1 to 0xfe: none.
_MAX_NUMBER_BYTES, _MAX_TRACKS = 8, 2**15 - 1


def mend(data: bytes) -> bytes:
  """Returns a file that holds the tracks, names, notes, controllers 11 and 12,
  programs, tempi and time signatures of `data`.

  Raises:
    ValueError: not a MIDI file, cut off within a track, or what stands there
      is no event; names the byte.
  """
  data = _unwrap(data)
  if data[:4] not in (b'MThd', b''):
    raise ValueError('MThd not found at its beginning')
  if len(data) < 14:
    raise ValueError('it ends too early')
  size, kind, _, division = struct.unpack('>IHHh', data[4:14])
  if size < 6:
    raise ValueError(f'a MIDI header of {size} bytes')
  tracks = [bytes(_mend_track(data, *place))
            for place in _find_tracks(data, 8 + size)]
  if not tracks:
    raise ValueError('it has no tracks')
  if len(tracks) > _MAX_TRACKS:
    raise ValueError(f'{len(tracks)} tracks')
  if len(tracks) > 1 and kind == 0:
    kind = 1
  header = struct.pack('>4sIHHh', b'MThd', 6, kind, len(tracks), division)
  return header + b''.join(
      b'MTrk' + struct.pack('>I', len(track)) + track for track in tracks)


def _unwrap(data: bytes) -> bytes:
  """Returns the MIDI file within a RIFF file, or what is none as it is."""
  if data[:4] != b'RIFF' or data[8:12] != b'RMID':
    return data
  at = 12
  while at + 8 <= len(data):
    size, = struct.unpack_from('<I', data, at + 4)
    if data[at:at + 4] == b'data':
      return data[at + 8:at + 8 + size]
    at += 8 + size + size % 2
  raise ValueError('a RIFF file without a MIDI file in it')


def _find_tracks(data: bytes, at: int) -> Iterator[tuple[int, int, bool]]:
  """Yields where events of each track begin, where they end at the latest, and
  whether that is known to be the end."""
  while at + 8 <= len(data):
    name, size = struct.unpack_from('>4sI', data, at)
    end = at + 8 + size
    if name == b'MTrk':
      # A length counts if a chunk or nothing follows.
      is_known = end == len(data) or _is_chunk(data, end)
      if not is_known:
        following = data.find(b'MTrk', at + 8)
        is_known = following >= 0
        end = following if is_known else len(data)
      yield at + 8, end, is_known
    elif end > len(data) or not name.isalnum():
      end = data.find(b'MTrk', at + 1)
      if end < 0:
        return
    at = end


def _is_chunk(data: bytes, at: int) -> bool:
  """Whether a chunk seems to begin there."""
  return at + 8 <= len(data) and data[at:at + 4].isalnum()


def _number(data: bytes, at: int, end: int) -> tuple[int, int]:
  """Reads a number of variable length; returns it and what follows it."""
  value = 0
  for i in range(at, min(at + _MAX_NUMBER_BYTES, end)):
    value = value << 7 | data[i] & 0x7f
    if data[i] < 0x80:
      return value, i + 1
  if at + _MAX_NUMBER_BYTES > end:
    raise ValueError(_cut_off(end))
  raise ValueError(f'a number that does not end at byte {at}')


def _cut_off(at: int) -> str:
  return f'it ends too early: cut off at byte {at}'


def _variable(value: int) -> bytes:
  """Writes a number of variable length."""
  parts = [value & 0x7f]
  while value := value >> 7:
    parts.append(value & 0x7f | 0x80)
  return bytes(reversed(parts))


def _mend_track(data: bytes, at: int, end: int, is_known: bool) -> bytearray:
  """Returns the events of a track that are kept, and its end."""
  track = bytearray()
  delta = status = 0

  def keep(event: bytes):
    nonlocal delta
    track.extend(_variable(delta))
    track.extend(event)
    delta = 0

  while at < end:
    wait, at = _number(data, at, end)
    delta += wait
    if at >= end:
      break
    first = data[at]
    if first >= 0x80:
      at += 1
    elif not status:
      raise ValueError(f'data without a status at byte {at}')
    else:
      first = status
    if first < 0xf0:
      status, kind = first, first & 0xf0
      size = _DATA_BYTES[kind >> 4]
      operands = data[at:at + size]
      if max(operands, default=0) > 127:
        operands = bytes(min(x, 127) for x in operands)
      at += size
      if at > end:
        raise ValueError(_cut_off(end))
      if kind in (_NOTE_OFF, _NOTE_ON, _PROGRAM) or (
          kind == _CONTROL and operands[0] in _CONTROLS):
        keep(bytes([first]) + operands)
    elif first == 0xff or first in (0xf0, 0xf7):
      if first == 0xff:
        if at >= end:
          raise ValueError(_cut_off(end))
        kind, at = data[at], at + 1
      size, at = _number(data, at, end)
      if at + size > end:
        raise ValueError(_cut_off(end))
      content, at = data[at:at + size], at + size
      if first == 0xff:
        if kind == _END:
          is_known = True
          break
        if event := _meta(kind, content):
          keep(event)
    else:
      at += _SYSTEM_BYTES.get(first, 0)
  if not is_known:  # Else the end alone is missing.
    raise ValueError(_cut_off(end))
  keep(b'\xff\x2f\x00')
  return track


def _meta(kind: int, content: bytes) -> bytes:
  """Returns a meta event that is used, with a length that is right, or b''."""
  if kind == _TRACK_NAME:
    content = content.strip(b'\0 \t\r\n')
  elif kind == _TEMPO and len(content) >= 3:
    content = content[:3]
  elif kind == _TIME_SIGNATURE and len(content) >= 2:
    content = (content + b'\x18\x08'[len(content) - 2:])[:4]
  else:
    return b''
  return bytes([0xff, kind]) + _variable(len(content)) + content
