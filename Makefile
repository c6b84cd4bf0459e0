# `make help` lists what there is. Needs python3 >= 3.11 with venv, and make.

PYTHON ?= python3
JOBS   ?= $(shell nproc)
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
LOCKS  := requirements/run.txt requirements/dev.txt
OWN    := agent receivers processors exporters bench tests ebbtide.py

.DEFAULT_GOAL := help
.PHONY: help setup run test test-peers check bench docs compliance conformance fuzz lock clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r name does; do printf '  make %-11s %s\n' "$$name" "$$does"; done

setup: $(READY) ## set up .venv from the locked requirements

$(READY): $(LOCKS) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "cannot set up: $(PYTHON) is older than 3.11; name a newer one: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { echo "cannot set up: $(PYTHON) has no venv; install it (Debian: apt-get install python3-venv)" >&2; exit 1; }
	@test -x $(BIN)/python || { echo "making $(VENV)" >&2; $(PYTHON) -m venv $(VENV); }
	@echo "installing the locked requirements" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

run: $(READY) ## the demo mesh and the default pipeline on it; Ctrl-C ends it
	@exec $(BIN)/ebbtide demo agent.toml

test: $(READY) ## all tests (EBBTIDE_REAL=1 requires those with real servers)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(TESTS)

test-peers: $(READY) ## tests against programs of others (docs/peers.md), which are built first; needs Go
	@tests/peers/build_collector.sh
	@tests/peers/build_prometheus3.sh
	$(BIN)/python -m pytest $(or $(TESTS),tests/peers)

check: $(READY) ## format, lint, types, house rules
	$(BIN)/ruff format --check $(OWN)
	$(BIN)/ruff check $(OWN)
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_house.py tests/agent/test_reference.py

bench: $(READY) ## the cost sheet: bench/COSTS.md, or only its PARTS
	$(BIN)/python -m bench $(PARTS)

docs: $(READY) ## write docs/reference and agent.toml from the settings
	$(BIN)/python -m agent.reference

compliance: $(READY) ## run the tests of OTLP's rules and write docs/otlp-compliance.md
	$(BIN)/python -m tests.compliance

conformance: $(READY) ## run the vectors of other projects and write docs/conformance.md
	$(BIN)/python -m tests.conformance

fuzz: $(READY) ## mutate pages and answers against every parser for FUZZ_SECONDS (60)
	$(BIN)/python -m tests.fuzz $(or $(FUZZ_SECONDS),60)

# The custom command keeps the header of the files free of this machine's options; see the top of each file.
COMPILE = $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --custom-compile-command "make lock" --quiet

lock: ## pin the requirements anew, with hashes
	@test -x $(BIN)/uv || { $(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install --quiet uv; }
	@mkdir -p requirements
	$(COMPILE) --upgrade pyproject.toml --extra all --output-file requirements/run.txt
	$(COMPILE) --upgrade pyproject.toml --extra all --group dev --constraint requirements/run.txt --output-file requirements/dev.txt
	$(COMPILE) --upgrade --group build --constraint requirements/dev.txt --output-file requirements/build.txt

clean: ## remove what was set up and built
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
