# Every target sets up what it needs on first use, in .venv; after that none of them needs the network.
VENV := .venv
READY := $(VENV)/.ready
# The models of the tests are tiny: threads only wait for each other there, and processes do not.
TEST := OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(VENV)/bin/python -m pytest -n auto --maxprocesses 4 --dist worksteal
BIN := $(VENV)/bin

.PHONY: help demo test test-all matrix lint docs
.DEFAULT_GOAL := help

help:  ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY)  ## draw the contact sheet out/demo.png, base model beside adapted model, and score it
	@$(BIN)/llmdiff demo

test: $(READY)  ## run the fast tests
	@$(TEST) -m "not slow"

test-all: $(READY)  ## run all tests, also those that take minutes
	@$(TEST)

matrix: $(READY)  ## test every cell of LLMs and base models by features, and write docs/matrix.md
	@$(BIN)/python tools/matrix

lint: $(READY)  ## check style, formatting and types
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

docs: $(READY)  ## build the documentation into site/, with strict links
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict && echo site/index.html

$(READY): pyproject.toml constraints.txt tools/setup
	@tools/setup $(VENV)
	@touch $@
