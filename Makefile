# `make demo` and `make test` are all a newcomer needs; each makes .venv by itself (tools/bootstrap.sh).
# Only relative paths: the folder may have a space in its name.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test venv lint format types floors unit coverage explore explore-postgres simulate model bench bench-plain bench-tiny lock build clean

bin := .venv/bin
python := $(bin)/python
ARGS ?=

help: ## this list
	@echo 'make demo         see it work on real text: units over four stores, a kill in mid-work, nothing lost'
	@echo 'make test         everything that must hold: lint, types, floors, tests with branch coverage'
	@echo
	@echo 'make lint         ruff: rules and format, nothing changed'
	@echo 'make format       ruff: format, and mend what it can mend'
	@echo 'make types        mypy, strict'
	@echo 'make floors       import-linter: no file imports from a floor above its own'
	@echo 'make unit         pytest only; one test: make unit ARGS="-k savepoint"'
	@echo 'make explore      the crash tests at 500 points of each kind, not at a few; all: ARGS="--explore-limit 0"'
	@echo 'make explore-postgres    the same for a ledger in PostgreSQL: clients, connections and servers that die'
	@echo 'make simulate     the commit protocol under 10,000 seeds; more: ARGS="--seeds 1000000 --jobs 2"'
	@echo 'make model        every run of the protocol as a model: spin, gcc, some minutes, 2 GB of memory'
	@echo 'make bench        measure the nine targets, pass or missed; quicker: ARGS="--size 10"'
	@echo 'make bench-plain  pytest-benchmark'"'"'s timings; make bench-tiny only runs each benchmark once'
	@echo 'make lock         renew requirements/dev.lock from pyproject.toml'
	@echo 'make build        wheel and sdist in dist/'
	@echo 'make clean        remove .venv, dist and caches'
	@echo
	@echo 'Another interpreter: make test PYTHON=python3.13 (then kept, until make clean or another PYTHON=).'

demo: venv
	@$(bin)/memoryos-uow demo $(ARGS)

# pytest comes last, so that its closing line is the last thing to be read.
test: lint types floors coverage

venv:
	@sh tools/bootstrap.sh

lint: venv
	@echo '==> ruff check'
	@$(python) -m ruff check .
	@echo '==> ruff format --check'
	@$(python) -m ruff format --check .

format: venv
	@$(python) -m ruff check --fix-only .
	@$(python) -m ruff format .

types: venv
	@echo '==> mypy'
	@$(python) -m mypy

floors: venv
	@echo '==> import-linter'
	@$(bin)/lint-imports --no-logo

unit: venv
	@$(python) -m pytest $(ARGS)

coverage: venv
	@echo '==> pytest with branch coverage'
	@$(python) -m pytest -n auto --dist loadfile --cov --cov-report=term-missing:skip-covered $(ARGS)

explore: venv
	@$(python) -m pytest tests/crash tests/relay/test_crashes.py --explore-limit 500 --explore-report explored.md $(ARGS)

explore-postgres: venv
	@$(python) -m pytest tests/postgres/test_killed.py --explore-limit 500 $(ARGS)

simulate: venv
	@$(python) -m tests.simulation $(ARGS)

model: venv
	@$(python) -m tests.model.checking $(ARGS)

bench: venv
	@$(python) -m benchmarks.targets $(ARGS)

bench-plain: venv
	@$(python) -m pytest benchmarks --benchmark-enable --benchmark-only $(ARGS)

bench-tiny: venv
	@$(python) -m pytest benchmarks $(ARGS)

lock:
	@sh tools/lock.sh $(ARGS)

build: venv
	@$(python) -m hatchling build -t sdist -t wheel -d dist

clean:
	@rm -rf .venv dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .benchmarks .coverage .coverage.* htmlcov
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
