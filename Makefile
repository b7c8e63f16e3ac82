# Two commands for a newcomer: `make demo` and `make test`. Both install what they need into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
INPUTS := pyproject.toml constraints.txt

.PHONY: setup train demo demo-federated test test-long lint bench bench-team bench-triage bench-federated bench-federated-heads bench-deid format clean

setup: $(VENV)/.setup            ## install the package and JupyterLab
train: $(VENV)/.train            ## setup, and PyTorch and MONAI for loaders and training
demo: $(VENV)/.setup             ## the tour, on real files; DATA=folder adds your own
	$(BIN)/voxelvault demo --out demo-out $(if $(DATA),--data "$(DATA)")
	$(BIN)/voxelvault triage demo --out demo-out

demo-federated: $(VENV)/.federated  ## a server and three hospitals on this machine, over TLS
	$(BIN)/voxelvault federated demo --out demo-out

test: $(VENV)/.dev               ## every test but the long ones
	$(BIN)/python -m pytest --numprocesses auto --dist loadscope

test-long: $(VENV)/.dev          ## repeats, kills and load
	$(BIN)/python -m pytest -m long --timeout 3600

lint: $(VENV)/.dev               ## style, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.bench            ## the table that README quotes
	$(BIN)/python -m benchmarks

bench-team: $(VENV)/.bench       ## the administrator's table: clusters, a million rows, Orthanc
	$(BIN)/python -m benchmarks --team

bench-triage: $(VENV)/.bench     ## triage against its bare network and a plain script; workers; arrival to listed
	$(BIN)/python -m benchmarks --triage

bench-federated: $(VENV)/.bench  ## federated rounds beside plain Flower: seconds and bytes
	$(BIN)/python -m benchmarks --federated

bench-federated-heads: $(VENV)/.bench  ## the hemorrhage network: federated, each site alone, all data in one place
	$(BIN)/python -m benchmarks.federated_heads

bench-deid: $(VENV)/.bench       ## de-identifiers on one planted corpus, and on burned-in text
	$(BIN)/python -m benchmarks.deid

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build demo-out

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.setup: $(INPUTS) | $(BIN)/python
	$(PIP) --editable '.[notebook,triage]'
	@touch $@

$(VENV)/.train: $(INPUTS) | $(BIN)/python
	$(PIP) --editable '.[notebook,triage,train]'
	@touch $@ $(VENV)/.setup

$(VENV)/.federated: $(INPUTS) | $(BIN)/python
	$(PIP) --editable '.[notebook,triage,federated]'
	@touch $@ $(VENV)/.setup

$(VENV)/.dev: $(INPUTS) | $(BIN)/python
	$(PIP) --editable '.[notebook,triage,train,federated,dev]'
	@touch $@ $(VENV)/.federated $(VENV)/.train $(VENV)/.setup

$(VENV)/.bench: $(INPUTS) | $(BIN)/python
	$(PIP) --editable '.[notebook,triage,train,federated,dev,bench]'
	@touch $@ $(VENV)/.dev $(VENV)/.federated $(VENV)/.train $(VENV)/.setup
