# make lab          work through the notebooks
# make test-fast    the tests without the slow ones        make test     check everything, as CI does
# make lint         ruff, mypy, notebooks and texts        make site     static pages in build/site
# make wheel        a wheel in dist, for Colab             make test-colab     notebooks and widgets with Colab's versions
# make build-notebooks NAMES="01 03"    run the texts of these notebooks and store the outputs
#
# Variables: PYTHON, the interpreter to build .venv from; ARGS, anything that `jupyter lab` takes, as in
# make lab ARGS="--ip=0.0.0.0 --port=9000 --no-browser"; TORCH_INDEX, the address of a PyTorch package index (see docs/install.md).

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
COLAB := $(VENV)-colab
ARGS ?=
TORCH_INDEX ?=

# JupyterLab refuses to run as root, which is who one is in most containers, unless told that it is meant
LAB_FLAGS := $(if $(filter 0,$(shell id -u)),--allow-root)

.PHONY: help lab test test-fast wheel unit notebooks-test test-colab lint build-notebooks site clean

help:
	@sed -n "1,5s/^# *//p" Makefile

lab: $(VENV)/.lab
	$(BIN)/jupyter lab $(LAB_FLAGS) $(ARGS) notebooks/00_start_here.ipynb

test: lint unit notebooks-test

# the networks of the tests are too small to gain from more than one thread, so each core runs tests of its own; a file's tests stay
# together, for what they share
UNIT := OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests
ON_ALL_CORES := --numprocesses logical --maxprocesses 4 --dist loadfile

# what is left out, tests/conftest.py says
test-fast: $(VENV)/.dev
	$(UNIT) -m "not slow" $(ON_ALL_CORES)

unit: $(VENV)/.dev
	$(UNIT) $(ON_ALL_CORES)

# strictly: every stored output is compared, except in the few cells tagged nbval-ignore-output
notebooks-test: $(VENV)/.dev
	$(BIN)/python -m pytest --nbval --nbval-current-env -p no:cacheprovider notebooks

# the notebooks with Colab's versions, in an environment of their own, and the widgets in classic Notebook (see CONTRIBUTING.md)
test-colab: $(VENV)/.dev $(COLAB)/.colab
	COLAB_PYTHON=$(COLAB)/bin/python $(BIN)/python -m pytest tests/colab

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tools/notebooks.py check

# runs the texts in notebooks/text and stores notebooks with their outputs; NAMES="01 03" for some of them
build-notebooks: $(VENV)/.dev
	$(BIN)/python tools/notebooks.py build $(NAMES)

# the notebooks as they are stored, as pages for any web server; needs npm once
site: $(VENV)/.dev
	$(BIN)/python tools/export_site.py

# what the notebooks' first cell installs where there is no clone
wheel: $(VENV)/bin/python
	rm -rf build/lib # where setuptools would find modules that have since moved
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

$(VENV)/bin/python $(COLAB)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$$($(PYTHON) --version) is too old: expected Python 3.11 or newer. Name one: make lab PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(@:%/bin/python=%)

# .lab and .dev mark what is installed: nothing is asked of the network again until pyproject.toml or constraints.txt changes
$(VENV)/.lab $(VENV)/.dev: $(VENV)/.%: $(VENV)/bin/python pyproject.toml constraints.txt
	$(if $(TORCH_INDEX),$(BIN)/python -m pip install --quiet -c constraints.txt torch torchvision --index-url $(TORCH_INDEX))
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[$*]'
	@# offline by default: JupyterLab neither asks for news nor looks for updates
	$(BIN)/jupyter labextension disable --level=sys_prefix "@jupyterlab/apputils-extension:announcements" >/dev/null
	@touch $@

$(COLAB)/.colab: $(COLAB)/bin/python pyproject.toml constraints-colab.txt
	$(if $(TORCH_INDEX),$(COLAB)/bin/python -m pip install --quiet -c constraints-colab.txt torch torchvision --index-url $(TORCH_INDEX))
	$(COLAB)/bin/python -m pip install --quiet -c constraints-colab.txt -e . notebook
	@touch $@

clean:
	rm -rf $(VENV) $(COLAB) build dist site/node_modules *.egg-info
