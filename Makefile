# Everything a person or a machine does here. Needs only make, bash and Python 3.11 or newer.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
# Each step stands on the one before, and their answers are read in order.
.NOTPARALLEL:

BIN := .venv/bin
FORGE := node_modules/@foundry-rs/forge-linux-amd64/bin/forge
ONLY ?=
N ?= 1000
LONG ?=
PORT ?= 8000
FOUNDRY_PROFILE ?= default
# One process for each core; a test finds its own server wherever it runs.
PYTEST ?= -n auto --dist worksteal
export FOUNDRY_PROFILE

.PHONY: help setup setup-test lint format contracts contracts-check forge-test pytest test demo serve bench simulate prove lock

help: ## what can be done here
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 24

setup: .venv/run.stamp ## install what demo and serve need

setup-test: .venv/test.stamp ## install what the tests need as well

.venv/run.stamp: requirements.lock pyproject.toml tools/setup.py tools/setup.sh
	@tools/setup.sh run

.venv/test.stamp: .venv/run.stamp requirements-test.lock package-lock.json .npmrc
	@tools/setup.sh test

demo: setup ## a city's day, then an audit, then a tampered byte
	@$(BIN)/qazyna demo

serve: setup ## a demo city on this machine
	@$(BIN)/qazyna serve --port $(PORT)

bench: setup-test ## benchmarks, one JSON object a line (ONLY=prefix picks some, LONG=1 goes to 10^7 records)
	@$(BIN)/python -m benchmarks $(if $(ONLY),--only $(ONLY)) $(if $(LONG),--long)

lint: setup-test ## style, types, and who may import whom
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --cache-dir var/import_linter_cache

format: setup-test ## put the code into its format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

contracts: setup-test ## rebuild contracts/artifacts
	@$(BIN)/python tools/build_artifacts.py

contracts-check: setup-test
	@$(BIN)/python tools/build_artifacts.py --check

forge-test: setup-test
	@$(FORGE) test

# pytest comes last, so that its closing line is what a reader sees.
test: setup-test lint contracts-check forge-test ## all of the tests
	@$(BIN)/python -m pytest $(PYTEST)

simulate: setup-test ## the ledger in a world that goes wrong, for N seeds (POSTGRES=1: on PostgreSQL)
	@$(BIN)/python -m tests.simulation.world --count $(N) $(if $(POSTGRES),--postgres)

prove: setup-test ## the long counts, recorded in docs/proofs.md (ONLY=name runs one)
	@$(BIN)/python tools/prove.py $(ONLY)

lock: setup-test ## resolve the versions again (needs uv and npm)
	@uv pip compile pyproject.toml --group build --universal --generate-hashes --python-version 3.11 \
	  --no-header --no-annotate --no-emit-index-url -q -o requirements.lock
	@uv pip compile pyproject.toml --group build --extra test -c requirements.lock --universal --generate-hashes \
	  --python-version 3.11 --no-header --no-annotate --no-emit-index-url -q -o requirements-test.lock
	@npm install --package-lock-only --ignore-scripts
