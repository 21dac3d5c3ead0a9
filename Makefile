# Everything here makes its own environment in .venv the first time, and uses it again later.
VENV ?= .venv
PYTHON ?= python3
RUN = $(VENV)/bin/python
# In the order of their names: the long tests of whole jobs come early, and short ones fill the end.
BY_FILE = --numprocesses 2 --dist loadfile --no-loadscope-reorder
export RAY_USAGE_STATS_ENABLED = 0

.PHONY: demo test slow check lint format clean reliability

demo: $(VENV)/ready
	$(RUN) -m examples.shapes.demo

test: $(VENV)/ready
	$(RUN) -m pytest $(BY_FILE)

slow: $(VENV)/ready
	$(RUN) -m pytest -m "slow and not reliability" $(BY_FILE)

# Runs all tests, those too that take too long for CI: every fault of the matrix, on a Ceph gateway too where its packages
# are installed, the protocol's histories at full length, every whole job. Two hours or so. Writes the table of the matrix.
reliability: $(VENV)/ready
	MEISSONIC_RELIABILITY=docs/reliability.md $(RUN) -m pytest -m ""

check: lint test

lint: $(VENV)/ready
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports

format: $(VENV)/ready
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

clean:
	rm -rf out .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/ready: constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 13) else \
	  "Python 3.11 to 3.13 is needed, this is " + sys.version.split()[0] + ": make PYTHON=python3.12 …")'
	@echo "Installing the pinned packages into $(VENV): some minutes, once"
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --requirement constraints.txt
	@touch $@
