# make setup | demo | test | test-all | mutants | soak | lint | docs | docs-serve
#
# PYTHON (3.11 or newer) makes the environment in VENV; everything then runs in it. Nothing else need be installed.

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
SECONDS ?= 600
SEED ?= 0
BIN := $(VENV)/bin
# Errors only: pip warns about things that a reader of this output cannot change.
INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := setup
.PHONY: setup setup-run demo test test-all mutants soak lint docs docs-serve

setup: $(VENV)/installed-dev
setup-run: $(VENV)/installed-run

# Where Python comes without ensurepip, its own pip fills the environment from outside.
$(BIN)/python:
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) 2>/dev/null || \
	  { $(PYTHON) -m venv --clear --without-pip $(VENV) && $(PYTHON) -m pip --python $@ install -qq pip; }

# The stamps make pip run again only where what is asked for has changed.
$(VENV)/installed-run: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing flatwide into $(VENV) (1 GB; about a minute)"
	@$(INSTALL) -e .
	@touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing flatwide[dev] into $(VENV) (1.8 GB; about a minute)"
	@$(INSTALL) -e '.[dev]'
	@touch $@ $(VENV)/installed-run

demo: setup-run
	$(BIN)/python main.py --workdir=runs/demo --config=configs/studies/digits_label_noise.py

test: lint
	$(BIN)/pytest -n $(WORKERS) --dist worksteal

# As users compile: `make test` leaves XLA's optimizations out where they do not matter.
test-all: lint
	XLA_FLAGS= $(BIN)/pytest -n $(WORKERS) --dist worksteal -m "slow or not slow"

# Breaks copies of the package in one place at a time, and lists the breaks that no test notices.
mutants: setup
	$(BIN)/python tests/mutants --workers $(WORKERS)

# Kills commands and damages their files at random, and compares what they leave with an undisturbed run.
soak: setup
	$(BIN)/python tests/soak --seconds $(SECONDS) --seed $(SEED)

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

# The variable silences an advertisement of the theme.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --site-dir site

docs-serve: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve
