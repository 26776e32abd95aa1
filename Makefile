# Two commands do all the set-up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.PHONY: demo test test-slow trust check bench results pointing docs clean

demo: $(READY)
	$(BIN)/msdn demo

test: $(READY)
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

trust: $(READY)
	$(BIN)/python tests/trust/order.py
	$(BIN)/python tests/trust/kills.py --all
	$(BIN)/python tests/trust/faults.py --most 200
	$(BIN)/python -m pytest -m slow tests/test_kill_campaign.py
	$(BIN)/python tests/trust/fuzz.py
	$(BIN)/python tests/trust/soak.py
	$(BIN)/python tests/trust/crafted.py

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	MYPYPATH=.editable $(BIN)/mypy -m msdn -p msdn.cache -p msdn.extract -p msdn.train -p msdn.app -m msdn.cli -m msdn.machine -m msdn.signals

bench: $(READY)
	$(BIN)/python benchmarks/read_rows.py
	$(BIN)/python benchmarks/extract_memory.py
	$(BIN)/python benchmarks/extract_speed.py
	$(BIN)/python benchmarks/train_step.py
	$(BIN)/python benchmarks/train_scaling.py

results: $(READY)
	$(BIN)/python benchmarks/plumage_results.py

pointing: $(READY)
	$(BIN)/python benchmarks/pointing_game.py

docs: $(READY)
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	$(BIN)/python docs/make_command_pages.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

$(READY): requirements.txt pyproject.toml setup.py
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "msdn needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $(READY)

clean:
	rm -rf $(VENV) .editable msdn.egg-info build site
