# make lab    work through the notebooks       make test   check everything, as CI does
#
# Variables: PYTHON, the interpreter to build .venv from; ARGS, anything that `jupyter lab` takes, as in
# make lab ARGS="--ip=0.0.0.0 --port=9000 --no-browser"; TORCH_INDEX, the address of a PyTorch package index (see README.md).

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
TORCH_INDEX ?=

# JupyterLab refuses to run as root, which is who one is in most containers, unless told that it is meant
LAB_FLAGS := $(if $(filter 0,$(shell id -u)),--allow-root)

.PHONY: help lab test unit notebooks-test lint build-notebooks clean

help:
	@sed -n "2s/^# *//p" Makefile

lab: $(VENV)/.lab
	$(BIN)/jupyter lab $(LAB_FLAGS) $(ARGS) notebooks/00_start_here.ipynb

test: lint unit notebooks-test

unit: $(VENV)/.dev
	$(BIN)/python -m pytest tests

# strictly: every stored output is compared, except in the few cells tagged nbval-ignore-output
notebooks-test: $(VENV)/.dev
	$(BIN)/python -m pytest --nbval --nbval-current-env -p no:cacheprovider notebooks

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tools/notebooks.py check

# runs the texts in notebooks/text and stores notebooks with their outputs; NAMES="01 03" for some of them
build-notebooks: $(VENV)/.dev
	$(BIN)/python tools/notebooks.py build $(NAMES)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$$($(PYTHON) --version) is too old: expected Python 3.11 or newer. Name one: make lab PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# .lab and .dev mark what is installed: nothing is asked of the network again until pyproject.toml or constraints.txt changes
$(VENV)/.lab $(VENV)/.dev: $(VENV)/.%: $(VENV)/bin/python pyproject.toml constraints.txt
	$(if $(TORCH_INDEX),$(BIN)/python -m pip install --quiet -c constraints.txt torch torchvision --index-url $(TORCH_INDEX))
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[$*]'
	@# offline by default: JupyterLab neither asks for news nor looks for updates
	$(BIN)/jupyter labextension disable --level=sys_prefix "@jupyterlab/apputils-extension:announcements" >/dev/null
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info
