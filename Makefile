# Two commands: make demo, make test. They need Python 3.11+ and the package registry, nothing else.
PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test test-all lint bench mutate docs clean

demo: $(VENV)/.demo
	$(BIN)/sfumato demo --out demo

test: $(VENV)/.dev lint
	$(BIN)/python -m pytest

test-all: $(VENV)/.all lint
	$(BIN)/python -m pytest -m "slow or not slow"

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/.base:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "sfumato needs Python 3.11 or newer: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "Python's venv is missing (Debian: apt install python3-venv)." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check $(TORCH)
	@touch $@

$(VENV)/.dev: $(VENV)/.base pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

$(VENV)/.demo: $(VENV)/.base pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[baselines]'
	@touch $@

$(VENV)/.all: $(VENV)/.dev
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[all]'
	@touch $@

clean:
	rm -rf $(VENV) demo .pytest_cache .mypy_cache .ruff_cache
