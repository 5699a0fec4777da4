# Each target sets itself up in .venv; a machine needs Python 3.11 or later, and nothing else.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help demo test check unit test-long test-faults test-crashes test-cluster test-systemd fuzz audit bench bench-quick footprint format clean

help:  ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: .venv/lab  ## a whole federation on this machine, shown live (DEMO="--devices 3 ..." for more)
	$(BIN)/flockwise demo $(DEMO)

test: check unit  ## linters, types and all tests

check: .venv/dev  ## linters and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

unit: .venv/dev  ## all tests
	$(BIN)/python -m pytest -n 3 --dist loadfile

test-long: .venv/dev  ## tests that take minutes, with their figures
	$(BIN)/python -m pytest -rA -m long

test-faults: .venv/dev  ## federations whose processes are killed (FAULTS="--seed 2" for more)
	$(BIN)/python -m tests.fault_harness $(FAULTS)

test-crashes: .venv/dev  ## kill each role at each place where it does I/O (25 minutes)
	CRASHES=all $(BIN)/python -m pytest tests/test_crash_points.py

test-cluster: .venv/dev  ## clusters of RabbitMQ and NATS (Debian, as root; about 15 minutes)
	@$(BIN)/python -m tests.cluster_root
	$(BIN)/python -m pytest -rs tests/cluster_federation.py

test-systemd: .venv/dev  ## services in a real systemd (Debian, as root; about 20 minutes)
	$(BIN)/python -m pytest -rs tests/systemd_running.py tests/systemd_lasting.py \
	  tests/systemd_installing.py tests/systemd_secured.py || { code=$$?; [ $$code = 75 ] || exit $$code; }

fuzz: .venv/dev  ## every decoder, for ten minutes (FUZZ="--minutes 60 --seed 2" for more)
	$(BIN)/python -m tests.fuzz $(FUZZ)

audit: .venv/dev  ## what is known of weaknesses in what is installed (asks the network)
	$(BIN)/python -m tests.audit || { code=$$?; [ $$code = 75 ] || exit $$code; }

bench: .venv/dev  ## all benchmarks, for hours (BENCH="--only goodput", "--data IMAGES")
	$(BIN)/python -m benchmarks $(BENCH)

bench-quick: .venv/dev  ## the short ones, in minutes: ratios that nothing judges
	$(BIN)/python -m benchmarks --quick $(BENCH)

footprint: .venv/dev  ## memory, wake-ups and bytes written (a quarter of an hour)
	$(BIN)/python -m benchmarks.footprint

format: .venv/dev  ## put the code into its form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove what was made here
	rm -rf .venv build dist *.egg-info runs

.venv/lab .venv/dev: .venv/%: setup.cfg pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	touch $@

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo 'Flockwise needs Python 3.11 or later; name one: make PYTHON=python3.11'; exit 1; }
	$(PYTHON) -m venv .venv
