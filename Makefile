# Needs Python 3.11 to 3.13, git and make; everything else is installed into $(VENV) from hashes.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PLUGINS := $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml))

export KEDRO_DISABLE_TELEMETRY := 1

.PHONY: help install run test lint bench verify constraints clean

help:            ## list the targets
	@grep -E '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/: .*## /\t/'

install: $(READY) ## create the environment

$(READY): pyproject.toml $(PLUGINS:%=%/pyproject.toml) constraints/base.txt constraints/uv.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r constraints/uv.txt
	$(BIN)/uv pip install --python $(BIN)/python --require-hashes -r constraints/base.txt
	$(BIN)/uv pip install --python $(BIN)/python --no-deps --editable . $(PLUGINS:%=--editable %)
	@touch $@

run: $(READY)    ## train the whole curriculum on this machine
	$(BIN)/kedro run

test: $(READY)   ## fast tests, on real processes and real files
	$(BIN)/pytest -n 2 -m "not verify"

lint: $(READY)   ## style, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)  ## every benchmark; each prints `NAME ratio=X goal=Y`
	@status=0; for script in benchmarks/*.py; do $(BIN)/python $$script || status=1; done; exit $$status

verify: $(READY) ## what is too long for every change
	$(BIN)/pytest -m verify
	$(MAKE) bench

constraints: $(READY) ## resolve the dependencies again
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --quiet \
		--extra dev --extra python_eval --extra ray pyproject.toml --output-file constraints/base.txt

clean:           ## remove the environment and the caches, never data/
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
