"""The API documentation, by its command."""

import sys
import warnings

import pytest

from experiments import api_docs


@pytest.mark.slow
def test_pages_of_all_modules(tmp_path, capsys):
  assert api_docs.main([f'--out={tmp_path}']) == 0
  assert capsys.readouterr().out == f'{tmp_path}/index.html\n'
  face = (tmp_path / 'lakhnes_jax.html').read_text('utf-8')
  for shown in ('id="Model.generate"', 'href="#read_song"',
                'the model draws &lt;S>.</li>'):
    assert shown in face
  pages = {path.relative_to(tmp_path).as_posix()
           for path in tmp_path.rglob('*.html')}
  assert {'lakhnes_jax/api.html', 'lakhnes_jax/model/features/base.html',
          'lakhnes_jax/formats/nsf.html'} <= pages


def test_warnings_are_errors(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr('pdoc.pdoc', lambda *_, **__: warnings.warn(
      'no such type', stacklevel=2))
  assert api_docs.main([f'--out={tmp_path}']) == 1
  assert 'no such type' in capsys.readouterr().err


def test_without_pdoc(monkeypatch, capsys):
  monkeypatch.setitem(sys.modules, 'pdoc', None)
  assert api_docs.main([]) == 1
  assert "pip install 'lakhnes_jax[docs]'" in capsys.readouterr().err
