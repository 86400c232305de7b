# Everything goes into .venv; nothing is installed anywhere else. Needs Python 3.11 or later with pip, and make.

VENV := .venv
BIN := $(VENV)/bin
CANDIDATES := python3 python3.13 python3.12 python3.11 python3.14
ENOUGH := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
# the first interpreter that is new enough; say `make PYTHON=... demo` to choose another
PYTHON ?= $(shell for each in $(CANDIDATES); do $$each -c '$(ENOUGH)' 2>/dev/null && echo $$each && break; done)
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help demo test lint types imports tests format docs bench chaos clean

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

demo: $(VENV)/.installed  ## run the ETL example through server, scheduler and workers; ends by itself
	@$(BIN)/python examples/demo.py

test: lint types imports tests  ## lint, types, import rules and the whole suite: what CI runs

lint: $(VENV)/.installed-dev  ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev  ## mypy, strict
	$(BIN)/mypy

imports: $(VENV)/.installed-dev  ## import-linter: arrows point down only
	$(BIN)/lint-imports

# most tests wait for real processes, so four of them keep two CPUs busy; PARALLEL=0 plays one after the other
PARALLEL ?= 4
# and what has a limit of time is played alone after them (5: the choice of ARGS has none of these)
tests: $(VENV)/.installed-dev  ## the suite alone, four files at a time; ARGS="-k name -x" goes to pytest
	TM_MODEL_STEPS=$${TM_MODEL_STEPS:-10000} \
		$(BIN)/python -m pytest -n $(PARALLEL) --dist loadgroup --no-loadscope-reorder -m "not alone" $(ARGS) || test $$? -eq 5
	$(BIN)/python -m pytest -m alone $(ARGS) || test $$? -eq 5

format: $(VENV)/.installed-dev  ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.installed-dev  ## write docs/reference anew from the code; ARGS=--check only says which page is stale
	$(BIN)/python -m docs.generate $(ARGS)

bench: $(VENV)/.installed-dev  ## first numbers, then ours beside others: 15 minutes; PEERS=celery,huey or ARGS=--quick for less
	$(BIN)/python benchmarks/skeleton.py
	$(BIN)/python -m benchmarks.peers $(if $(PEERS),--peers $(PEERS)) $(ARGS)

SEED ?= 1
MINUTES ?= 5
chaos: $(VENV)/.installed-dev  ## every fault, three seeds from SEED= on, a soak of MINUTES=; table in docs/reliability.md
	rm -f .chaos.jsonl
	TM_CHAOS=1 TM_CHAOS_SEED=$(SEED) TM_CHAOS_MINUTES=$(MINUTES) TM_CHAOS_REPORT=$(CURDIR)/.chaos.jsonl \
		$(BIN)/python -m pytest tests/system/faults; code=$$?; \
		$(BIN)/python -m tests.rig.report .chaos.jsonl && rm -f .chaos.jsonl; exit $$code

clean:  ## remove .venv, caches and what the demo wrote
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist .tm
	rm -rf weather-report
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# `pip --group` needs pip 25.1, and the pip that comes with Python 3.11 is older
$(VENV)/.pip:
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or later with venv found; try: make PYTHON=/path/to/python3 demo" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/.installed: pyproject.toml | $(VENV)/.pip
	$(PIP) install --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/.pip
	$(PIP) install --editable . --group dev
	@touch $@ $(VENV)/.installed
