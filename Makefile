# Everything that is done with Turnstile, a target each. `make` alone lists them.
# Needs python3 (3.11 or later, with venv) and make; all else is installed into .venv.

PYTHON ?= python3
VENV   ?= .venv
RUN    := $(VENV)/bin/python

.DEFAULT_GOAL := help
.PHONY: help demo test test-others test-compose check cover model count sigterm torture bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/demo-ready ## real work on real files, in your terminal: half a minute
	$(RUN) -m demo

test: check ## style, types, and every test but those of the containers
	$(RUN) -m pytest -q

check: $(VENV)/test-ready ## style and types only
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check -q .
	$(RUN) -m mypy

# But for checks of checks.
test-others: $(VENV)/test-ready ## the tests, on every other CPython (3.11 or later) found
	@$(RUN) tests/interpreters.py | while read -r other; do \
		echo "== $$($$other --version)"; \
		$(MAKE) --no-print-directory PYTHON="$$other" VENV=".venvs/$$($$other --version | tr -d ' ')" on-this || exit 1; \
	done

.PHONY: on-this
on-this: $(VENV)/test-ready
	$(RUN) -m pytest -q -m 'not check_of_checks' $(TESTS)

# Without the tests of what each producer gets while others flood a broker: that one is several times slower here.
cover: $(VENV)/test-ready ## that tests go through each except and finally: minutes
	rm -rf build/coverage
	$(RUN) -m coverage run -m pytest -q -m 'not check_of_checks' --ignore tests/e2e/test_fairness.py $(TESTS); passed=$$?; \
	$(RUN) -m coverage combine -q && $(RUN) -m tests.handlers && exit $$passed

test-compose: $(VENV)/test-ready ## the containers, if an engine is there: some minutes
	@if docker info >/dev/null 2>&1 && { docker compose version || docker-compose version; } >/dev/null 2>&1; then \
		$(RUN) -m pytest -q --timeout=900 -o faulthandler_timeout=0 tests/compose; \
	else \
		echo "test-compose: no container engine with Compose answers here, so nothing was run"; \
	fi

model: $(VENV)/test-ready ## 10,000 random histories of queue and model: some minutes
	$(RUN) -m pytest -q tests/model --hypothesis-profile=long --timeout=3600

# From 8 producers, 5 % of them failing.
count: $(VENV)/test-ready ## 1,000,000 tasks, counted by all sides: some minutes
	$(RUN) -m tests.long.count

sigterm: $(VENV)/test-ready ## 200 stops at random moments of load: some minutes
	$(RUN) -m tests.long.sigterm

# SCALE=0.05 shortens it. The figures go into build/torture.json.
torture: $(VENV)/test-ready ## every fault, thousands of times: half an hour
	$(RUN) -m tests.long.torture

bench: $(VENV)/test-ready ## the figures of docs/benchmarks.md, into build/bench.json
	$(RUN) -m benchmarks

clean: ## remove what the other targets made
	rm -rf $(VENV) .venvs build .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info

# A stamp each, renewed when the dependencies may have changed.
$(VENV)/demo-ready: pyproject.toml | $(VENV)/bin/python
	$(RUN) -m pip install -q --disable-pip-version-check -e '.[demo]'
	@touch $@

$(VENV)/test-ready: pyproject.toml | $(VENV)/bin/python
	$(RUN) -m pip install -q --disable-pip-version-check -e '.[test]'
	@touch $@

$(VENV)/bin/python:
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) was not found: install Python 3.11 or later, or name one: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: $$($(PYTHON) --version) is too old: Turnstile needs 3.11 or later; name one: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "make: $(PYTHON) has no venv module; on Debian or Ubuntu: apt-get install python3-venv"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "make: $(PYTHON) -m venv failed; on Debian or Ubuntu: apt-get install python3-venv"; exit 1; }
