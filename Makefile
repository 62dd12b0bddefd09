# Everything a developer needs; .ci/run calls the same targets. Needs Python >= 3.11 and make; `make test-real` also Go >= 1.24.

VENV ?= .venv
# The first Python on the PATH that is new enough (PYTHON=... overrides).
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$python; break; }; done)
BIN := $(VENV)/bin
PYTEST_ARGS ?=

.PHONY: help demo test lint format bench test-real test-real-core test-real-full wheel clean
.DEFAULT_GOAL := help

help:  ## what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.demo  ## the whole story in under a minute: a hijacked agent, the alert, the hook (offline)
	$(BIN)/otel-ir demo

test: $(VENV)/.dev  ## all tests that need nothing but this machine's Python, with branch coverage
	$(BIN)/python -m pytest --cov --cov-report=term $(PYTEST_ARGS)

lint: $(VENV)/.dev  ## ruff (rules and format), mypy (strict), and a report of the code's structure
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tools/structure.py

format: $(VENV)/.dev  ## let ruff repair what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev  ## CPU, memory and spans per second, stage by stage
	$(BIN)/python -m benchmarks

test-real: test-real-core  ## the same as test-real-core

test-real-core: $(VENV)/.dev  ## against the real Collector, Prometheus, PostgreSQL and three agent frameworks (kept in .cache/)
	$(BIN)/python -m tools.real_parts core
	$(BIN)/python -m pytest tests/real -m real_core $(PYTEST_ARGS)

test-real-full: $(VENV)/.dev  ## as test-real-core, with Jaeger and more agent frameworks
	$(BIN)/python -m tools.real_parts all
	$(BIN)/python -m pytest tests/real $(PYTEST_ARGS)

wheel: $(VENV)/.dev  ## dist/otel_ir-*.whl
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean:  ## forget the environment and all caches
	rm -rf $(VENV) .cache .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache dist

# One environment; `make demo` installs only what the demo needs, everything else adds the development tools.
$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "otel_ir needs Python 3.11 or newer, and none is on the PATH" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.demo
