"""Paths of flags, and output in any encoding."""

import io
import pathlib
import sys

from lakhnes_jax import command_line


def test_home_folders(monkeypatch):
  monkeypatch.setenv('HOME', '/home/me')
  assert command_line.path('~/x') == pathlib.Path('/home/me/x')
  assert command_line.path('~') == pathlib.Path('/home/me')
  for text in ('a/~', '~nobody-of-this-name/x', 'x'):
    assert command_line.path(text) == pathlib.Path(text)


def test_output_in_any_encoding(monkeypatch):
  out = io.TextIOWrapper(io.BytesIO(), encoding='cp1252')
  monkeypatch.setattr(sys, 'stdout', out)
  monkeypatch.setattr(sys, 'stderr', io.StringIO())  # Cannot be changed.
  command_line.escape_output()
  print('é 曲 \udcff', end='', flush=True)
  assert out.buffer.getvalue() == b'\xe9 \\u66f2 \\udcff'
