# The commands of development: demo, test, check, format, docs. Each sets itself up.
# `make demo` and `make test` need Python 3.11 (or later) and nothing else: they create .venv and install into it.
# What is done is not done again: a stamp below is older than pyproject.toml or constraints.txt only if these changed.

PYTHON ?= $(or $(shell command -v python3.11),$(shell command -v python3))
CONSTRAINTS ?= constraints.txt
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The demo needs the package alone; tests and checks need the extras too.
DEV_STAMP := $(VENV)/.installed-dev
DEMO_OUT ?= out/demo
# The tests run in one process a core; every process keeps to one thread.
WORKERS ?= 2

.PHONY: demo test check format docs install clean
.DEFAULT_GOAL := demo

PIP_INSTALL = $(BIN)/python -m pip install --quiet $(if $(CONSTRAINTS),-c $(CONSTRAINTS))

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) -e .
	touch $@

$(DEV_STAMP): $(STAMP)
	$(PIP_INSTALL) -e '.[dev,docs,demo,train,data,eval,nvs,steps]'
	touch $@

install: $(DEV_STAMP)

# Four new pictures from the given ones of every folder below examples/sets.
demo: $(STAMP)
	@for set in examples/sets/*/; do \
	    $(BIN)/m2m generate "$$set"*.png -n 4 --out "$(DEMO_OUT)/$$(basename "$$set")" --overwrite || exit 1; \
	done

test: $(DEV_STAMP)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

check: $(DEV_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy src
	$(BIN)/lint-imports
	$(BIN)/python scripts/file_map.py --check

# Mends what can be mended by a program, the file map of README.md among it.
format: $(DEV_STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python scripts/file_map.py
	$(BIN)/python scripts/api_page.py
	$(BIN)/python -m tests.messages

# The site, from docs/ into site/. Warnings are errors: a dead link is one.
docs: $(DEV_STAMP)
	$(BIN)/python scripts/api_page.py --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) out site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
