# Two commands for a newcomer: `make demo` and `make test`. Needed: Python ≥ 3.11, make, pip. Each makes or reuses a
# virtual environment and installs what is missing.
#   VENV=path          another environment (default .venv)
#   PYTHON=python3.12  the Python that makes it
#   TORCH_INDEX=url    a package index with the CPU build of torch (smaller download)

VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-dev
PIP := $(BIN)/python -m pip --disable-pip-version-check
TORCH := $(shell sed -n 's/^torch==/torch==/p' constraints.txt)

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all lint format bench docs clean

help:  ## what can be made
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

install: $(STAMP)  ## make or reuse the environment and install what is missing

$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "distillens needs Python 3.11 or newer; set PYTHON=python3.12 or similar."; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (a few minutes the first time; torch is large) …"
ifneq ($(TORCH_INDEX),)
	$(PIP) install --quiet --index-url $(TORCH_INDEX) $(TORCH)
endif
	$(PIP) install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP)  ## distil and audit on breast-cancer; ends with a verdict and the paths of the passport
	$(BIN)/distillens run breast-cancer --out runs/breast-cancer --resume --exit-zero

test: $(STAMP)  ## the default tests (under 10 minutes on 2 cores)
	$(BIN)/python -m pytest

test-all: $(STAMP)  ## every test, also the slow ones and those in a browser
	$(BIN)/python -m pytest -m ''

lint: $(STAMP)  ## ruff and the strict type checker
	$(BIN)/ruff check src tests benchmarks examples
	$(BIN)/ruff format --check src tests benchmarks examples
	$(BIN)/mypy

format: $(STAMP)  ## let ruff format the code
	$(BIN)/ruff format src tests benchmarks examples
	$(BIN)/ruff check --fix src tests benchmarks examples

bench: $(STAMP)  ## benchmarks against named peers; prints ratios
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

docs: $(STAMP)  ## build the documentation into site/
	$(PIP) install --quiet -c constraints.txt -e '.[docs]'
	$(BIN)/mkdocs build --strict

clean:  ## remove the environment and caches (runs/ is kept)
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis site build dist
