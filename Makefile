# The workshop. Needs Python 3.11 or later, make and a C library; everything else is installed
# into .venv from the hash-locked requirements files.
PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
SOURCES := cds_service fhir_mapping risk_model model_training tests benchmarks

.PHONY: help run test check bench profile reliability audit fuzz conformance servers setup format lock clean

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /make \1\t/' | expand -t 16

run: .venv/.run  ## start the demo on http://$(HOST):$(PORT)
	CDS_PROFILE=demo CDS_PUBLIC_URL=$${CDS_PUBLIC_URL:-http://$(HOST):$(PORT)} \
		$(BIN)/cds-service serve --host $(HOST) --port $(PORT)

test: .venv/.dev  ## every test that this machine can run
	$(BIN)/python -m pytest

check: .venv/.dev  ## formatter, linter, type checker
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy

OPTIONS =
bench: .venv/.dev  ## benchmarks, as ratios to the floor of the same run (OPTIONS=--quick for a look)
	$(BIN)/python -m benchmarks $(OPTIONS)

profile: .venv/.dev  ## a flame graph of one worker under load: var/benchmarks/profile.svg
	$(BIN)/python -m benchmarks.profile $(OPTIONS)

reliability: .venv/.dev  ## 200 kills on each store, FHIR servers that fail: about 20 minutes
	$(BIN)/python -m tests.reliability --publish docs/reliability.md

audit: .venv/.dev  ## known vulnerabilities of the packages, secrets in the files
	$(BIN)/python .ci/audit.py

conformance: .venv/.dev  ## write docs/conformance.md anew from the tests
	$(BIN)/python -m tests.conformance.write

COUNT ?= 100000
fuzz: .venv/.dev  ## COUNT=100000 mutated requests: no 5xx, always JSON
	$(BIN)/python -m tests.conformance.mutations --count $(COUNT)

servers: var/servers/java/classpath var/servers/node/node_modules/.package-lock.json  ## FHIR servers for the tests (JDK 17, Maven, Node 20)

# Maven keeps what it downloads (about 230 MB) in its own repository; here are classes and paths.
var/servers/java/classpath: tests/servers/java/pom.xml $(wildcard tests/servers/java/src/main/java/*.java)
	mvn --batch-mode --quiet --strict-checksums --file tests/servers/java \
		compile dependency:build-classpath -Dmdep.outputFile=$(CURDIR)/$@
	@touch $@

var/servers/node/node_modules/.package-lock.json: $(wildcard tests/servers/node/* tests/servers/node/.npmrc)
	mkdir -p var/servers/node
	cp $^ var/servers/node
	npm ci --prefix var/servers/node --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

setup: .venv/.dev  ## only the .venv

format: .venv/.dev  ## put the code into the formatter's form
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

# `fewest`: one version of each package for every Python, so that a model scores the same on all.
COMPILE := $(BIN)/uv pip compile pyproject.toml --universal --fork-strategy fewest \
	--python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate \
	--no-emit-package cds-service --quiet
lock: .venv/.dev  ## resolve the requirements files anew
	$(PIP) install uv
	$(COMPILE) --extra fast --extra postgresql --extra build --output-file requirements.txt
	$(COMPILE) --all-extras --output-file requirements-dev.txt

clean:  ## remove .venv and caches; var/ (the demo's store) stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or later is needed: make PYTHON=python3.11 ..."; exit 1; }
	$(PYTHON) -m venv .venv

.venv/.run: .venv/bin/python requirements.txt pyproject.toml
	@echo "Installing what the service needs into .venv"
	$(PIP) install --require-hashes -r requirements.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.dev: .venv/bin/python requirements-dev.txt pyproject.toml
	@echo "Installing the service and the tools for tests and training into .venv (a minute or two)"
	$(PIP) install --require-hashes -r requirements-dev.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@ .venv/.run
