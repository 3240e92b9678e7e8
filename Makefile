# Every target does its own set-up: Python 3.11 or later and make are all that must be there.

# The first Python that is new enough; another one by `make PYTHON=/path/to/python`.
PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$name -c '$(NEW_ENOUGH)' 2>/dev/null && { echo $$name; break; }; done)
# Further arguments for what a target runs: `make test ARGS='-k breaker'`.
ARGS ?=

NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
VENV := .venv
BIN := $(VENV)/bin
# The uv of the machine when it knows dependency groups, else one in the environment.
UV := $(shell if uv pip install --help 2>/dev/null | grep -q -e --group; \
	then echo uv; else echo $(BIN)/uv; fi)

# What each set-up installs: the project itself, editable, and only what its targets need.
demo-needs := --editable '.[demo]'
dev-needs := --editable '.[blocks,brotli,zstd,demo,dns,jobs,plot,prometheus,otel,twisted]' --group dev --group bench
bench-needs := --editable '.[jobs]' --group bench
docs-needs := --editable '.[blocks,jobs,prometheus,otel,twisted]' --group docs

# Hundreds of processes start here: each of them would compile everything anew.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help demo test slow coverage lint bench docs clean

help: ## say what there is (the default)
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.has-demo ## thousands of calls to three servers, while one is killed and comes back
	@$(BIN)/holdfast demo $(ARGS)

test: $(VENV)/.has-dev ## the tests, on all cores, but for those that are slow
	$(BIN)/python -m pytest --numprocesses=auto --dist=loadfile -m 'not slow' $(ARGS)

slow: $(VENV)/.has-dev ## the slow tests: each takes more than a second
	$(BIN)/python -m pytest --numprocesses=auto --dist=loadfile -m slow $(ARGS)

coverage: $(VENV)/.has-dev ## the tests, and what they cover: two to three times slower
	$(BIN)/python -m pytest --numprocesses=auto --dist=loadfile --cov --cov-report=term $(ARGS)

lint: $(VENV)/.has-dev ## style, format, types, and the layers of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.has-bench ## the fast path beside the clients that people use
	@$(BIN)/python -m benchmarks rest $(ARGS)

docs: $(VENV)/.has-docs ## the documentation, as HTML in docs/_build/html
	$(BIN)/python -m sphinx --builder html --fail-on-warning --keep-going docs docs/_build/html

clean: ## remove everything that the other targets made
	rm -rf $(VENV) docs/_build build dist htmlcov .coverage .coverage.* \
		.hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find src tests benchmarks docs -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || :

# A stamp tells that its needs are installed as pyproject.toml now says.
# All set-up talks on stderr, so that what a target prints can be piped.
$(VENV)/.has-%: pyproject.toml $(VENV)/.made
	@echo 'Installing what is needed ...' >&2
	@$(UV) pip install --quiet --python $(BIN)/python $($*-needs) >&2
	@touch $@

# An environment that works is kept, whoever made it. One that does not (an old Python, an
# interrupted set-up) is made anew.
$(VENV)/.made:
	@set -eu; exec >&2; \
	if ! $(BIN)/python -c '$(NEW_ENOUGH)' 2>/dev/null; then \
		if [ -z '$(PYTHON)' ]; then \
			echo 'holdfast needs Python 3.11 or later: install it, or say where it is with'; \
			echo '  make PYTHON=/path/to/python'; \
			exit 1; \
		fi; \
		echo 'Making $(VENV) ...'; \
		rm -rf $(VENV); \
		if [ '$(UV)' = uv ]; then \
			uv venv --quiet --python '$(PYTHON)' $(VENV); \
		else \
			$(ensure-venv); \
			'$(PYTHON)' -m venv $(VENV); \
		fi; \
	fi; \
	if [ '$(UV)' != uv ] && [ ! -x $(BIN)/uv ]; then \
		$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip --upgrade; \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check uv; \
	fi; \
	touch $@

# Debian and Ubuntu package venv apart from Python.
define ensure-venv
if ! '$(PYTHON)' -c 'import ensurepip, venv' 2>/dev/null; then \
	package=$$('$(PYTHON)' -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'); \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
		echo "holdfast needs Python's venv module: install $$package (apt-get install $$package)"; \
		exit 1; \
	fi; \
	apt-get update --quiet; \
	DEBIAN_FRONTEND=noninteractive apt-get install --quiet --yes "$$package"; \
fi
endef
