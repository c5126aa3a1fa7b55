# SPDX-License-Identifier: Apache-2.0
# `make help` lists the targets. Each is enough by itself on a bare Debian 12, and quick the second time.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
VENV := .venv
PYTHON := $(VENV)/bin/python
CLANG := clang-19

# What `make` needs on the machine, by Debian's names. python3-bpfcc is bcc; PyPI's package of that name is another program.
PACKAGES := bpftool clang-19 clang-format-19 ethtool iproute2 libbpf-dev libbpf1 linux-libc-dev llvm-19 procps \
	python3 python3-bpfcc python3-venv radvd tcpdump tshark util-linux

OBJECTS := $(patsubst %.bpf.c,build/bpf/%.bpf.o,$(notdir $(wildcard bpf/*.bpf.c bench/*.bpf.c)))
# Where the architecture's own asm/ headers lie on Debian.
BPF_CFLAGS = -O2 -g -target bpf -mcpu=v3 -Wall -Wextra -Werror -I/usr/include/$(shell uname -m)-linux-gnu

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-12s %s\n", $$1, $$2 }'

.PHONY: demo
demo: ready ## Watch a mobile node leave home, move and return under traffic (HOLD=1 leaves it up to look into)
	@$(SUDO) env NO_COLOR="$${NO_COLOR-}" TERM="$${TERM-dumb}" $(PYTHON) -m ha_fastpath demo \
		$(if $(filter-out 0,$(HOLD)),--hold) --json-output build/demo.json

.PHONY: test
test: ready lint ## Run every check and test: lint, units, scenarios, BPF programs, namespaces
	@$(SUDO) env CI="$${CI-}" COVERAGE_FILE=build/coverage $(VENV)/bin/coverage run -m pytest $(PYTEST_FLAGS)
	@$(SUDO) env COVERAGE_FILE=build/coverage $(VENV)/bin/coverage report --fail-under=100 --skip-covered \
		--include='control/wire/*,control/ipsec/*,control/binding/*'

.PHONY: lint
lint: ready ## Format, types, imports and style: ruff, mypy --strict, import-linter, clang-format
	@$(VENV)/bin/ruff check --quiet .
	@$(VENV)/bin/ruff format --quiet --check .
	@$(VENV)/bin/mypy --no-error-summary
	@$(VENV)/bin/lint-imports >build/lint-imports.log || { cat build/lint-imports.log; exit 1; }
	@clang-format-19 --dry-run --Werror bpf/*.[ch] bench/*.c

.PHONY: format
format: ready ## Put every file into the project's format
	@$(VENV)/bin/ruff check --quiet --fix . || true
	@$(VENV)/bin/ruff format --quiet .
	@clang-format-19 -i bpf/*.[ch] bench/*.c

.PHONY: bench
bench: ready ## Nanoseconds a packet of each path through XDP, beside a bare XDP_TX in the same run
	@$(SUDO) $(PYTHON) -m bench.data_path

.PHONY: build
build: ready ## Compile the BPF objects into build/bpf
	@ls -l build/bpf/*.o

.PHONY: clean
clean: ## Remove what make has built (not the Debian packages)
	@$(SUDO) rm -rf build $(VENV)

# ---- what the targets above stand on ----

.PHONY: ready
ready: build/packages.stamp $(VENV)/ready.stamp $(OBJECTS)

.PHONY: preflight
preflight:
	@sh deploy/preflight.sh

# Asks dpkg first, so that a machine that has everything needs neither root nor the network here.
build/packages.stamp: Makefile | preflight
	@mkdir -p build
	@missing=(); \
	for package in $(if $(SKIP_PACKAGES),,$(PACKAGES)); do \
		dpkg-query -W -f '$${Status}' "$$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$$package"); \
	done; \
	if (( $${#missing[@]} )); then \
		echo "Installing Debian packages: $${missing[*]}"; \
		$(SUDO) apt-get update -qq; \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$${missing[@]}" \
			>build/apt.log 2>&1 || { tail -n 20 build/apt.log; exit 1; }; \
	fi
	@touch $@

# A private venv over Debian's Python, which sees of Debian's packages only bcc.
$(VENV)/ready.stamp: pyproject.toml build/packages.stamp
	@echo "Preparing the Python environment in $(VENV)"
	@/usr/bin/python3 -m venv $(VENV)
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@ln -sfn /usr/lib/python3/dist-packages/bcc "$$($(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/bcc"
	@touch $@

vpath %.bpf.c bpf bench
build/bpf/%.bpf.o: %.bpf.c $(wildcard bpf/*.h) build/packages.stamp
	@mkdir -p $(@D)
	$(CLANG) $(BPF_CFLAGS) -c $< -o $@
