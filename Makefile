# Two commands: make demo, make test. They need Python 3.11+, make and the package registry, nothing else.
#
# PYTHON=/path/to/python3.11   another Python           TORCH='torch==2.9.1'   another build of torch, any pip argument
# VENV=/path                   another environment      WORKERS=1              processes that run the tests
PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV ?= .venv
WORKERS ?= 2
export TORCH

BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check
# Two processes of one thread each beat one process of two: the tests are many and their tensors small. -rs: what was
# skipped, and which extra it needs.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -rs -n $(WORKERS)

.PHONY: demo test test-all lint bench mutate docs clean FORCE

demo: $(VENV)/.demo
	$(BIN)/sfumato demo --out demo

test: $(VENV)/.dev
	$(PYTEST)

test-all: $(VENV)/.all lint
	$(PYTEST) -m "slow or not slow"

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/steps.py
	$(BIN)/python benchmarks/startup.py

mutate: $(VENV)/.dev
	$(PIP) 'mutmut==3.8.1'
	$(BIN)/mutmut run $(PART)
	$(BIN)/mutmut results

docs: $(VENV)/.dev
	$(BIN)/python tools/methods_table.py
	$(BIN)/python tools/teaser.py
	$(BIN)/python tools/series_page.py
	$(BIN)/python tools/samplers_page.py
	$(BIN)/python tools/claims_page.py
	$(BIN)/python tools/evaluate_page.py
	$(BIN)/python tools/latent_page.py

# The environment. Each stamp is made once: with fresh stamps no command asks the registry for anything.

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "sfumato needs Python 3.11 or newer, and '$(PYTHON)' is not: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "'$(PYTHON)' has no venv (Debian: apt install python3-venv)." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# The stamp holds what was asked for: `make TORCH=... test` replaces torch, and a plain `make test` later keeps it.
$(VENV)/.torch: $(VENV)/.python $(if $(filter file,$(origin TORCH)),,FORCE)
	@test "$$(cat $@ 2>/dev/null)" = "$$TORCH" || { echo "installing $$TORCH into $(VENV)"; $(PIP) $$TORCH && echo "$$TORCH" > $@; }

$(VENV)/.dev: $(VENV)/.torch pyproject.toml
	@echo "installing sfumato and what its tests need into $(VENV)"
	@$(PIP) -e '.[dev]'
	@touch $@

$(VENV)/.demo: $(VENV)/.torch pyproject.toml
	@echo "installing sfumato and what its demo needs into $(VENV)"
	@$(PIP) -e '.[baselines]'
	@touch $@

$(VENV)/.all: $(VENV)/.dev
	@echo "installing every extra into $(VENV)"
	@$(PIP) -e '.[all]'
	@touch $@

clean:
	rm -rf $(VENV) demo .pytest_cache .mypy_cache .ruff_cache
