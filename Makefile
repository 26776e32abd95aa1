# Two commands do all the set-up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.PHONY: demo test test-slow check bench results pointing clean

demo: $(READY)
	$(BIN)/msdn demo

test: $(READY)
	$(BIN)/python -m pytest

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	MYPYPATH=$(VENV)/types $(BIN)/mypy -p msdn.cache -p msdn.extract -p msdn.train -p msdn.app -m msdn.cli -m msdn.machine

bench: $(READY)
	$(BIN)/python benchmarks/read_rows.py
	$(BIN)/python benchmarks/extract_memory.py

results: $(READY)
	$(BIN)/python benchmarks/plumage_results.py

pointing: $(READY)
	$(BIN)/python benchmarks/pointing_game.py

$(READY): requirements.txt pyproject.toml setup.py
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "msdn needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	mkdir -p $(VENV)/types
	ln -sfn ../.. $(VENV)/types/msdn
	touch $(READY)

clean:
	rm -rf $(VENV) msdn.egg-info build
