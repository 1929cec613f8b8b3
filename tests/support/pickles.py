"""Pickles that try to take more than they seem to."""


def nested(levels: int) -> bytes:
  """A tuple of 2**levels leaves, in two bytes a level and then some."""
  return b''.join([b'\x80\x02)'] + [
      b'r' + i.to_bytes(4, 'little') + b'h\x00\x86'
      if i == 0 else b'r' + i.to_bytes(4, 'little') + b'j' +
      i.to_bytes(4, 'little') + b'\x86' for i in range(levels)])
