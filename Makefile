# make demo [DATA=folder in LEVIR's layout]   make test   make slow   make check   make docs   make environments   make gpu
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: venv demo test slow check docs environments gpu clean

venv: $(STAMP)

# Pinned to the version the tests ran with; set TORCH for another, such as one for your CUDA.
TORCH ?= torch==2.13.0

$(STAMP): setup.py pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet --editable ".[mmseg,geo,export,check,completion,docs,dev]"
	touch $@

demo: venv
	$(BIN)/python -m ifn_plugin.tools.demo $(if $(DATA),--data "$(DATA)")

PYTEST := $(BIN)/python -m pytest tests --ignore=tests/opencd --numprocesses 2 --dist worksteal

test: venv
	$(PYTEST) -m "not slow"

# The tests that make test leaves out
slow: venv
	$(PYTEST) -m slow

check: venv
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The site, in docs/_build/index.html; warnings, such as a broken link, are errors
docs: venv
	rm -rf docs/api docs/_build
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet --doctree-dir docs/_build/.doctrees docs docs/_build

# The tests in the oldest and newest environments, each made anew; those whose Python is not here are skipped
environments: venv
	$(BIN)/nox

# All that a GPU decides, small on a CPU: in .venv where it is, else with $(PYTHON) as it is; MINUTES for all parts
MINUTES ?= 10

gpu:
	PYTHONPATH=. $(or $(wildcard $(BIN)/python),$(PYTHON)) -m ifn_plugin.tools.gpu_check --minutes $(MINUTES) $(ARGS)

clean:
	rm -rf .venv .nox build dist *.egg-info docs/api docs/_build
