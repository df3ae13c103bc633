# `make demo` and `make test` set up everything they need in .venv and can be repeated at will.
PYTHON ?= python3
BIN := .venv/bin
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2

.PHONY: demo test test-all lint bench clean

demo: .venv/.demo
	@$(BIN)/diffsegkit segment "$$($(BIN)/python -c 'import os, skimage.data as d; print(os.path.join(os.path.dirname(d.__file__), "chelsea.png"))')" --out outputs/demo
	@echo "The picture: outputs/demo/chelsea_overlay.png"

test: .venv/.test
	$(PYTEST)

# Everything, the slow and the external parts too.
test-all: .venv/.test
	$(PYTEST) -m ""

lint: .venv/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/.test
	$(BIN)/diffsegkit bench --out outputs/bench.csv

clean:
	rm -rf .venv outputs

# The tests are of the plugins too.
PLUGINS := $(wildcard plugins/*/pyproject.toml)
.venv/.test: .venv/bin/pip pyproject.toml constraints.txt $(PLUGINS)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test]' $(PLUGINS:%/pyproject.toml=--editable './%[test]')
	@touch $@

# An extra is installed once, and again when the pins or the metadata change.
.venv/.%: .venv/bin/pip pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[$*]'
	@touch $@

.venv/bin/pip:
	@$(PYTHON) -c 'import sys; v = sys.version_info; assert (3, 11) <= v[:2] <= (3, 13), f"diffsegkit needs Python 3.11 to 3.13, but $(PYTHON) is {v[0]}.{v[1]}; try make PYTHON=python3.11"'
	$(PYTHON) -m venv .venv
