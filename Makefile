# Each command does its own set-up: `make demo`, `make check` (brief) and `make test` (everything).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOUNDALIKE := $(BIN)/soundalike
STORE := demo.soundalike
SAMPLES := data/samples
FUZZ_SECONDS ?= 300

# A test file stays in one of two processes, so that what its tests share is made once; files go in
# the order of their names, since the longest are not those with the most tests. What is compiled is
# kept, whatever the shell says.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo check test lint types contracts fuzz clean

demo: $(VENV)/installed
	$(SOUNDALIKE) index $(SAMPLES) --store $(STORE) --checkpoint demo
	@echo; echo "What sounds like traffic?"
	$(SOUNDALIKE) search $(STORE) $(SAMPLES)/vehicles/traffic.wav -k 5
	@echo; echo "What sounds like this bark, and has a dog in it?"
	$(SOUNDALIKE) search $(STORE) $(SAMPLES)/animals/dog.ogg --tag Dog -k 5
	@echo; echo "Where is a bird?"
	$(SOUNDALIKE) search $(STORE) --tag Bird -k 5

# The tests that start no process and no run: 90 seconds on two cores.
check: lint types contracts
	$(PYTEST) -m "not slow and not whole"

test: lint types contracts
	$(PYTEST) -m "not slow"

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/installed-dev
	$(BIN)/mypy indexer search soundalike

contracts: $(VENV)/installed-dev
	$(BIN)/lint-imports

# Damaged and hostile bytes for every reader; what should not happen is kept in fuzz-findings/.
fuzz: $(VENV)/installed-dev
	$(BIN)/python tests/fuzz.py $(FUZZ_SECONDS)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' || \
		{ echo "soundalike needs Python 3.11 or 3.12; say which: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# What has been installed is kept until pyproject.toml changes.
$(VENV)/installed: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/installed-dev: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $(VENV)/installed $@

clean:
	rm -rf $(VENV) $(STORE)
