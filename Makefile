# `make demo` and `make test` are all that a fresh machine needs; both set it up first.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup lock demo test lint

PYTHON_FILES := recsys embeddings serving jobs tests
BIN := .venv/bin

help:  ## this list
	@grep -hE '^[a-zA-Z%-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup:  ## create .venv and install everything (DEVICE=cpu|gpu overrules the search for a driver)
	@DEVICE="$(DEVICE)" PYTHON="$(PYTHON)" bash requirements/install.sh

lock: setup  ## compile requirements/*.in into pinned, hashed files (UPGRADE=1: newest versions)
	@UPGRADE="$(UPGRADE)" bash requirements/compile.sh

demo: setup  ## the main job end to end (DATA=dir IMAGES=dir ENCODER=spec ARGS="more options")
	@$(BIN)/recsys demo $(if $(DATA),--data "$(DATA)") $(if $(IMAGES),--images "$(IMAGES)") \
	    $(if $(ENCODER),--encoder "$(ENCODER)") $(ARGS)

test: lint  ## lint, types, contracts, then all tests (ARGS="-k word" narrows them)
	$(BIN)/python -m pytest $(ARGS)

lint: setup  ## style, types and who may import whom
	$(BIN)/ruff check $(PYTHON_FILES)
	$(BIN)/ruff format --check $(PYTHON_FILES)
	$(BIN)/mypy
	$(BIN)/lint-imports

bench-%:  ## run tests/benchmarks/NAME.py (ARGS="its options"); any unknown name lists them
	@name="$(subst -,_,$*)"; \
	if [[ ! -f tests/benchmarks/$$name.py ]]; then \
	    found=$$(ls tests/benchmarks | sed -nE '/^_/d; s/^(.*)\.py$$/bench-\1/p' | tr _ - | tr '\n' ' '); \
	    echo "there is no benchmark '$*'. There is: $${found:-none yet}" >&2; exit 2; \
	fi; \
	$(MAKE) --no-print-directory setup && exec $(BIN)/python -m tests.benchmarks.$$name $(ARGS)
