# Farebox. `make help` lists the commands.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin
PORT ?= 8787
WORKERS ?= auto
DATA_DIR ?= .farebox
export SAM_CLI_TELEMETRY := 0
export AWS_DEFAULT_REGION ?= us-east-1

include layers/tiktoken/rules.mk
include scripts/aws.mk

.PHONY: help setup run test soak check lint types architecture lock clean

help:  ## Lists the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

setup: .venv/.run node_modules/.package-lock.json $(ENCODINGS)  ## Sets up .venv, the Node packages and the rank files, all locked

run: setup  ## Runs the whole service on http://127.0.0.1:8787
	@exec $(BIN)/farebox serve --demo --port $(PORT) --data-dir $(DATA_DIR)

test: .venv/.dev .venv-aws/.ready setup  ## Runs the test suite: most of it on all cores, the rest alone
	$(BIN)/python -m pytest -m "not soak and not alone" -n $(WORKERS) --dist loadfile
	$(BIN)/python -m pytest -m "alone and not soak"

soak: .venv/.dev setup  ## Long tests: faults, kills, memory
	FAREBOX_SOAK=1 $(BIN)/python -m pytest -m soak -s --durations=0

check: lint types architecture template test  ## Everything that CI runs

lint: .venv/.dev  ## Ruff: errors, style, format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.dev  ## mypy, strict
	$(BIN)/mypy

architecture: .venv/.dev  ## Imports point inward
	$(BIN)/lint-imports

lock:  ## Writes requirements/*.txt and package-lock.json anew (needs uv)
	scripts/lock
	npm install --package-lock-only

clean:  ## Removes what make made, but not the data
	rm -rf .venv .venv-aws node_modules build .aws-sam $(ENCODINGS)

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Farebox needs CPython 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv

.venv/.run: requirements/run.txt pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/run.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

.venv/.dev: requirements/dev.txt .venv/.run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	touch $@

.venv-aws/.ready: requirements/aws.txt
	$(PYTHON) -m venv --clear .venv-aws
	# --no-deps: the lock is complete, and in hash mode pip 23 stumbles over its extras
	.venv-aws/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/aws.txt
	touch $@

node_modules/.package-lock.json: package.json package-lock.json
	npm ci --no-audit --no-fund --loglevel=error
	touch $@
