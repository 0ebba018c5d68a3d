# midwife's own commands. `make demo` and `make test` work from a fresh clone on Debian 12: what is missing is
# installed, and said. Python packages go to .venv, pinned by requirements.lock; everything else to .cache.

VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
SITE ?= site
# Two lanes of virtual machines at once, as a machine with two cores can bear.
LANES := tests/boot/test_boots_bios.py tests/boot/test_boots_efi.py

.PHONY: demo run test test-fast test-firmware lint format lock bench clean help

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | sort | awk -F'\t' '{printf "  make %-14s %s\n", $$1, $$2}'

$(READY): pyproject.toml requirements.lock
	@packaging/needs.sh python
	@echo "installing the Python packages of requirements.lock into $(VENV)"
	@if command -v uv >/dev/null; then \
	    uv venv -q --allow-existing $(VENV) && \
	    uv pip install -q --python $(PY) --compile-bytecode --require-hashes -r requirements.lock && \
	    uv pip install -q --python $(PY) --no-deps --no-build-isolation -e . ; \
	else \
	    python3 -m venv $(VENV) && \
	    $(PY) -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock && \
	    $(PY) -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e . ; \
	fi
	@touch $@

demo: $(READY) ## boot a virtual machine over a network of its own and watch it become ready
	@packaging/needs.sh lab
	@$(PY) -m tests.boot.demo

run: $(READY) ## serve the site in SITE (default: site)
	@$(VENV)/bin/midwife serve $(SITE)

test: test-fast test-firmware ## all tests: the fast ones, then those on real firmware

test-fast: $(READY) ## the tests without virtual machines (a minute or two)
	@packaging/needs.sh lab test
	@$(PY) -m pytest

test-firmware: $(READY) ## the tests that boot virtual machines, in two lanes
	@packaging/needs.sh lab test
	@$(PY) -m tests.boot.lanes $(LANES)

lint: $(READY) ## ruff, mypy, shellcheck
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@packaging/needs.sh test
	@shellcheck -s sh packaging/needs.sh .ci/run boot/pbconnect boot/module/etc/rc.local.d/*.sh boot/kickstart/*.sh

format: $(READY) ## let ruff mend what it can
	@$(PY) -m ruff check --fix -q . || true
	@$(PY) -m ruff format -q .

lock: $(READY) ## write requirements.lock anew (needs uv)
	@uv pip compile pyproject.toml --extra dev --generate-hashes --python-version 3.11 \
	    --no-emit-index-url --no-header -q --upgrade -o requirements.lock

bench: $(READY) ## benchmarks against peers; ratios, never a test
	@for bench in bench/[a-z]*.py; do echo "== $$bench"; $(PY) $$bench || exit 1; done

clean: ## remove what make made
	@rm -rf $(VENV) .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
