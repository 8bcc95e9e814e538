# `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
HOST := hx-llm-lab-01
COLLECTION := collections/ansible_collections/citadel/llm
WHEELS := $(COLLECTION)/roles/python_env/files/wheels
LOCKS := $(COLLECTION)/roles/python_env/files/stacks
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo -E)
LAB := $(SUDO) $(PYTHON) -m lab
BIN := .venv/bin
PROGRAMS := build/programs
export PATH := $(CURDIR)/$(BIN):$(PATH):$(CURDIR)/$(PROGRAMS)/usr/bin
export SOURCE_DATE_EPOCH := 1767225600
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg

DEV_LOCK := requirements/dev.lock
STAMP := .venv/.installed-$(shell sha256sum $(DEV_LOCK) $(LOCKS)/uv/requirements.txt 2>/dev/null | sha256sum | cut -c1-12)
APP_WHEEL := $(WHEELS)/citadel_llm-0.1.0-py3-none-any.whl
METADATA_WHEEL := $(WHEELS)/vllm-0.32.0+cpu-py3-none-any.whl
APP_SOURCES := $(shell find files/app/src files/app/pyproject.toml files/app/README.md -type f -not -name '*.pyc')

## help: list the targets
help:
	@sed -n 's/^## /  make /p' $(MAKEFILE_LIST)

## up: provision the disposable host hx-llm-lab-01 and ask it a question
up: build wheelhouse model
	@echo "== Booting $(HOST)"
	$(LAB) up $(HOST) --ip 10.213.77.10 --disk nvme0n1=4G --disk sda=1G
	@echo "== Provisioning $(HOST)"
	$(SUDO) $(BIN)/ansible-playbook -i inventories/local playbooks/site.yml
	@echo "== Asking $(HOST)"
	@$(SUDO) $(BIN)/python -m tools.ask $(HOST)

## ask: ask the running host (make ask QUESTION="...")
ask: $(STAMP)
	@$(SUDO) $(BIN)/python -m tools.ask $(HOST) $(if $(QUESTION),"$(QUESTION)")

## shell: a root shell on the host
shell:
	@$(LAB) shell $(HOST)

## logs: follow the services of the host
logs:
	@$(LAB) exec $(HOST) journalctl -f -n 50 -u 'citadel-*'

## down: stop the host and leave nothing behind
down:
	$(LAB) down $(HOST)

## test: install what is needed and run everything (about half an hour on two cores)
test: build $(PROGRAMS)
	$(BIN)/python -m tools.run_tests

## test-quick: linters, types and unit tests, under two minutes
test-quick: build $(PROGRAMS)
	$(BIN)/python -m tools.run_tests --quick

## bench: measure, and write docs/benchmarks.md
bench: build wheelhouse model
	$(SUDO) $(BIN)/python -m bench

## bench-gateway: measure the gateway beside other proxies, about seven minutes
bench-gateway: $(STAMP)
	$(SUDO) $(BIN)/python -m bench gateway

## build: the application's wheel and the collection's tarball
build: $(STAMP) $(APP_WHEEL) $(METADATA_WHEEL)
	@mkdir -p build
	$(BIN)/ansible-galaxy collection build --force --output-path build $(COLLECTION) >/dev/null

## lock: make the locks anew from their inputs
lock: $(STAMP)
	$(BIN)/python requirements/lock.py

## clean: stop every lab host and remove what was built (caches stay)
clean:
	-$(LAB) clean
	rm -rf build dist .venv $(WHEELS)/*.whl

wheelhouse: $(STAMP)
	@$(BIN)/python -m tools.wheelhouse

model: $(STAMP)
	@$(BIN)/python -m tools.lab_model

packages:
	@missing="$$($(PYTHON) -m lab packages)"; \
	$(PYTHON) -c 'import ensurepip' 2>/dev/null || missing="$$missing python3-venv"; \
	command -v openssl >/dev/null || missing="$$missing openssl"; \
	command -v dbus-daemon >/dev/null || missing="$$missing dbus"; \
	command -v gcc >/dev/null || missing="$$missing gcc libc6-dev"; \
	for library in libatomic1 libjemalloc2 liblzf1; do \
	  dpkg -s $$library >/dev/null 2>&1 || missing="$$missing $$library"; done; \
	if [ -n "$${missing//[[:space:]]/}" ]; then \
	  echo "== Installing the distribution's packages:" $$missing; \
	  $(SUDO) apt-get update -qq; \
	  $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	fi

# Servers that tests start themselves. Unpacked rather than installed, so that none runs as a service.
$(PROGRAMS): | packages
	@echo "== Unpacking Prometheus and Redis"
	@rm -rf $@.part && mkdir -p $@.part
	@cd $@.part && { apt-get download -qq prometheus redis-server redis-tools 2>/dev/null \
	  || { $(SUDO) apt-get update -qq && apt-get download -qq prometheus redis-server redis-tools; }; } \
	  && for package in *.deb; do dpkg-deb -x "$$package" .; done && rm *.deb
	@mv $@.part $@

$(STAMP): | packages
	@echo "== Installing the tools (.venv)"
	rm -f .venv/.installed-*
	[ -x $(BIN)/python ] || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r $(LOCKS)/uv/requirements.txt
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r $(DEV_LOCK)
	touch $@

$(APP_WHEEL): $(APP_SOURCES) | $(STAMP)
	@echo "== Building the application's wheel"
	@mkdir -p $(WHEELS)
	$(BIN)/uv build --quiet --wheel --no-build-isolation --python $(BIN)/python --out-dir $(WHEELS) files/app
	@rm -f $(WHEELS)/.gitignore
	@touch $@

$(METADATA_WHEEL): files/vllm-metadata/build.py | $(STAMP)
	@mkdir -p $(WHEELS)
	$(BIN)/python files/vllm-metadata/build.py $(WHEELS)
	@touch $@

.PHONY: help up ask shell logs down test test-quick bench bench-gateway build lock clean wheelhouse model packages
