# Two commands, each of which does its own set-up: `make demo` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOUNDALIKE := $(BIN)/soundalike
STORE := demo.soundalike
SAMPLES := data/samples
FUZZ_SECONDS ?= 300

.PHONY: demo test fuzz clean

demo: $(VENV)/installed
	$(SOUNDALIKE) index $(SAMPLES) --store $(STORE) --checkpoint demo
	@echo; echo "What sounds like traffic?"
	$(SOUNDALIKE) search $(STORE) $(SAMPLES)/vehicles/traffic.wav -k 5
	@echo; echo "What sounds like this bark, and has a dog in it?"
	$(SOUNDALIKE) search $(STORE) $(SAMPLES)/animals/dog.ogg --tag Dog -k 5
	@echo; echo "Where is a bird?"
	$(SOUNDALIKE) search $(STORE) --tag Bird -k 5

test: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy indexer search soundalike
	$(BIN)/lint-imports
	$(BIN)/pytest --numprocesses 2 --dist loadgroup -m "not slow"

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
