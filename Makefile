# `make` prints what there is. Variables: PYTHON (the interpreter), TORCH (cpu, cuda or own), TORCH_INDEX_URL, JOBS.

JOBS ?= 2
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
# The same, and a few tests that failed run once more, alone: see tests/steady/twice.py.
PYTEST_TWICE := $(BIN)/python -m tests.steady.twice
# Two test processes on two cores: torch must not take every core in each.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.DEFAULT_GOAL := help
.PHONY: help venv runtime demo up test test-fast test-cluster soak lint format proto proto-baseline demo-model lock clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

runtime:
	@scripts/environment.sh runtime

venv:  ## make or refresh .venv from the lock files
	@scripts/environment.sh dev

demo: runtime  ## start a local cluster, stream one answer, show its waterfall, stop
	@$(BIN)/baton demo

up: runtime  ## start a local cluster and keep it running until Ctrl-C
	@$(BIN)/baton up

test: test-fast test-cluster  ## run the test suite

# Files with real processes. The others are not looked into for them: that takes ten seconds a time.
PROCESSES = $(shell grep -rl --include='test_*.py' 'pytest\.mark\.cluster' tests | sort)

# Everything that does not care what else runs beside it.
test-fast: venv
	$(ONE_THREAD) $(PYTEST_TWICE) -n $(JOBS) --dist loadgroup -m "not slow and not cluster"

# Real processes. Those with near deadlines run one at a time; the calm ones by file, whose tests may share a cluster.
# tests/scopes.py says what runs together, and what begins.
test-cluster: venv
	$(ONE_THREAD) $(PYTEST_TWICE) -n $(JOBS) --dist loadfile --no-loadscope-reorder -m "cluster and calm and not slow" $(PROCESSES)
	$(ONE_THREAD) $(PYTEST_TWICE) -m "cluster and not calm and not slow" $(PROCESSES)

soak: venv  ## run the long tests: many seeds, long clusters
	$(ONE_THREAD) $(PYTEST) -m slow --timeout 3600

lint: venv  ## ruff, mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: venv  ## let ruff lay the code out and mend what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

proto: venv  ## regenerate the Python stubs from protos/baton/v1
	$(BIN)/python protos/generate.py

# What breaking changes are measured against; replaced at a release, never to silence the check.
proto-baseline: venv
	cd protos && ../$(BIN)/buf build --exclude-source-info --output baseline.binpb

demo-model: venv  ## train the demo model again (about an hour on two idle cores)
	$(BIN)/python -m models.build.train --out models/demo

lock:  ## solve requirements/*.in again (needs uv)
	scripts/lock.sh

clean:  ## remove the environment and caches
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
