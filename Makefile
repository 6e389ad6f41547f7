# Commands for a fresh machine, each of which sets up what it needs: make demo, make rehearse, make test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt

# the value of a variable as one word of the shell: names of files may hold quotes, and $(shell ...), which no export may expand
quoted = '$(subst ','\'',$(value $(1)))'
unexport FITS AGAINST

.PHONY: demo rehearse test test-all lint check render docs benchmark parity clean

## clean an exposure with two zoo models and draw it: make demo, or make demo FITS=path for one of your own
demo: $(VENV)/.demo
	$(BIN)/python -m deepcr_zoo.cli.demo demo $(if $(value FITS),--fits $(call quoted,FITS))

## train a small mask network from nothing, on simulated exposures, and prove it: about nine minutes on two cores
rehearse: $(VENV)/.rehearse
	$(BIN)/deepcr-zoo train recipes/acs-wfc-f606w-2-4.yaml --rehearse

# one worker more than there are processors, since many tests wait for servers; where a worker crashes, the others would wait
# for ever for its tests
WORKERS = $(shell $(BIN)/python -c 'import os; print(os.cpu_count() + 1)')
PYTEST = $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder --max-worker-restart 0

## run the tests, in parallel, without those marked slow
test: $(VENV)/.dev
	$(PYTEST) -m 'not slow'

## run every test, a few of which stand for shorter ones
test-all: $(VENV)/.dev
	$(PYTEST) -m 'not short'

## check style, formatting and types
lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

## look at everything in zoo/, cards/ and recipes/; AGAINST=DIR: an earlier checkout, which may be added to, not altered
check: $(VENV)/.dev
	$(BIN)/deepcr-zoo check $(if $(value AGAINST),--against $(call quoted,AGAINST))

## bring the rendered tables of README.md, docs/guide/ and cards/README.md up to date
render: $(VENV)/.dev
	$(BIN)/python -m deepcr_zoo.zoo.rendering

## build the guide with its examples, which are run: build/docs/index.html; a warning is an error
docs: $(VENV)/.docs
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m sphinx -W --keep-going -q -c docs -b html . build/docs

## time the networks beside deepCR 0.3.1 and the L.A.Cosmic implementations, the cleaning of a whole exposure, and training
benchmark: $(VENV)/.benchmark
	$(BIN)/python benchmarks/inference.py
	$(BIN)/python benchmarks/engines.py
	$(BIN)/python benchmarks/exposure.py
	$(BIN)/python benchmarks/training.py

## compare each seed model with upstream's own code, and record it beside its card
parity: $(VENV)/.dev
	$(BIN)/python -m benchmarks.parity

## remove the virtual environment and what tests keep
clean:
	@if test -d $(call quoted,VENV) && ! test -e $(call quoted,VENV)/pyvenv.cfg; then echo $(call quoted,VENV)": is no virtual environment" >&2; exit 1; fi
	rm -rf -- $(call quoted,VENV) .test-cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

# torch first: pinned, so that no later step picks another build
$(VENV)/.torch: constraints.txt | $(BIN)/python
	$(PIP) torch
	touch $@

$(VENV)/.demo: pyproject.toml $(VENV)/.torch
	$(PIP) --editable '.[plot]'
	touch $@

$(VENV)/.rehearse: pyproject.toml $(VENV)/.torch
	$(PIP) --editable '.[baselines,build,plot]'
	touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.torch
	$(PIP) --editable '.[dev]'
	touch $@

$(VENV)/.docs: pyproject.toml $(VENV)/.torch
	$(PIP) --editable '.[docs]'
	touch $@

$(VENV)/.benchmark: benchmarks/requirements.txt $(VENV)/.dev
	$(PIP) --requirement benchmarks/requirements.txt
	touch $@
