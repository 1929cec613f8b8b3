# make demo: sets up and runs the whole path on music composed for it.
# make test: sets up and runs the tests.
# Both make their own virtual environment in .venv; PYTHON=python3.13 picks
# another interpreter, VENV=FOLDER another place.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test lint clean

demo: $(VENV)/installed
	$(BIN)/python -m experiments.demo --out=demo

test: $(VENV)/installed
	$(BIN)/python -m pytest -m "not slow"

lint: $(VENV)/installed
	$(BIN)/ruff check .

$(VENV)/installed: setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lakhnes_jax needs Python 3.11 or newer: make PYTHON=python3.13")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[plot,test]'
	touch $@

clean:
	rm -rf $(VENV) demo build *.egg-info
