# Each command does its own set-up: `make demo`, `make check` (brief) and `make test` (everything).

PYTHON ?= python3
VENV := .venv
LOWEST := .venv-lowest
BIN := $(VENV)/bin
SOUNDALIKE := $(BIN)/soundalike
STORE := demo.soundalike
SAMPLES := data/samples
FUZZ_SECONDS ?= 300

# A test file stays in one of two processes, so that what its tests share is made once; files go in
# the order of their names, since the longest are not those with the most tests. What is compiled is
# kept, whatever the shell says. A process that dies ends the tests, and names the one that it ran.
# A test that hangs fails; where even its process does not hear that, its threads are printed instead.
PYTEST = PYTHONDONTWRITEBYTECODE= $(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder \
	--max-worker-restart 0 --timeout 400 -o faulthandler_timeout=450 -o faulthandler_exit_on_timeout=true

# The tests that start no process and no run: 90 seconds on two cores.
BRIEF := -m "not slow and not whole"

# Debian's browser. What is listed will do where no newer list can be had; root needs no sudo.
AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo)
CHROMIUM := { $(AS_ROOT) apt-get -qq update; \
	$(AS_ROOT) apt-get -qq -o DPkg::Lock::Timeout=500 install -y --no-install-recommends chromium >/dev/null; }

.PHONY: demo check test cluster browser lowest lint types contracts fuzz clean

demo: $(VENV)/installed
	$(SOUNDALIKE) index $(SAMPLES) --store $(STORE) --checkpoint demo
	@echo; echo "What sounds like traffic?"
	$(SOUNDALIKE) search $(STORE) $(SAMPLES)/vehicles/traffic.wav -k 5
	@echo; echo "What sounds like this bark, and has a dog in it?"
	$(SOUNDALIKE) search $(STORE) $(SAMPLES)/animals/dog.ogg --tag Dog -k 5
	@echo; echo "Where is a bird?"
	$(SOUNDALIKE) search $(STORE) --tag Bird -k 5
	@echo; echo "To look and listen, open the page: $(SOUNDALIKE) serve $(STORE) --browser"

check: lint types contracts
	$(PYTEST) $(BRIEF)

test: lint types contracts
	$(PYTEST) -m "not slow"

# The longer tests of shards and of Ray: ten minutes. Two machines of a cluster are played by this one, so no other test runs beside.
cluster: $(VENV)/installed-dev
	PYTHONDONTWRITEBYTECODE= $(BIN)/pytest --timeout 900 -m slow $(AGAIN) \
		tests/test_shards.py tests/test_ray_index.py tests/test_ray_search.py

# A browser for the page, and what drives it: its tests are skipped where there is none.
browser: $(VENV)/installed-browser
	@for name in $${SOUNDALIKE_BROWSER:-chromium chromium-browser google-chrome}; do command -v $$name && exit; done; \
		echo "installing Chromium"; $(CHROMIUM) || \
		{ echo "that failed: install Chromium or Google Chrome yourself"; exit 1; }

# The brief tests with the lowest versions that pyproject.toml allows; Python 3.11 has wheels of all.
lowest: BIN := $(LOWEST)/bin
lowest: $(LOWEST)/installed-dev
	$(PYTEST) $(BRIEF)

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
	$(BIN)/python tests/fuzz_stores.py 300

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' || \
		{ echo "soundalike needs Python 3.11 to 3.14; say which: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# What has been installed is kept until pyproject.toml changes.
$(VENV)/installed: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/installed-dev: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $(VENV)/installed $@

$(VENV)/installed-browser: $(VENV)/installed-dev
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[browser]'
	@touch $@

# pip can only choose the highest versions; uv is a package like any other.
$(LOWEST)/installed-dev: pyproject.toml
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/pip install --quiet --disable-pip-version-check uv
	$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) $(LOWEST) $(STORE)
