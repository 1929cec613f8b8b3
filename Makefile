# make demo: sets up and runs the whole path on music composed for it.
# make test: sets up and runs the tests, two at a time (WORKERS=4: four).
# make lint: sets up and checks the style, and the types of the face.
# make docs: sets up and writes the API documentation to api/.
# Each makes a virtual environment in .venv; PYTHON=python3.13 picks another
# interpreter, VENV=FOLDER another place, CONSTRAINTS=FILE versions for pip.

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
CONSTRAINTS ?=
BIN = $(VENV)/bin

.PHONY: demo test lint docs install clean

demo: $(VENV)/installed
	$(BIN)/python -m experiments.demo --out=demo

test: $(VENV)/installed
	$(BIN)/python -m pytest -m "not slow and not faults" --numprocesses=$(WORKERS) --dist=worksteal

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(VENV)/installed
	$(BIN)/python -m experiments.api_docs --out=api

install: $(VENV)/installed

$(VENV)/installed: setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lakhnes_jax needs Python 3.11 or newer: make PYTHON=python3.13")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[plot,test]' $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS))
	touch $@

clean:
	rm -rf $(VENV) api demo build *.egg-info
