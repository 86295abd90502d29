# Every target is one line that calls the project's own command line or tool.
.DEFAULT_GOAL := help
HOLDFAST := .venv/bin/holdfast

.PHONY: help setup up status down drill test test-unit test-component test-bench bench bench-selftest matrix tax lint format

help: ## Show what can be done here
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Make .venv and build or find every tool (seconds when nothing changed)
	@python3 infra/toolchain/bootstrap.py

up: setup ## Provision two regions and a witness on this machine
	@$(HOLDFAST) up

status: setup ## Show regions, roles, replication and links
	@$(HOLDFAST) status

drill: setup ## Lose the active region in the middle of agent runs, and prove the failover
	@$(HOLDFAST) drill region-loss

down: setup ## Destroy the deployment and leave nothing behind
	@$(HOLDFAST) down

test: setup ## Run every test that this machine can run, the region-loss drill included
	@.venv/bin/python -m pytest

test-unit: setup ## Run the tests that need no process
	@.venv/bin/python -m pytest -m unit

test-component: setup ## Run the tests that need one real part
	@.venv/bin/python -m pytest -m component

test-bench: setup ## Run the tests on the whole two-region system
	@.venv/bin/python -m pytest -m bench

bench: setup ## Measure what durability costs, beside other libraries (20 minutes; results in .holdfast/benchmarks)
	@.venv/bin/python -m loadtests.library

bench-selftest: setup ## Plant each bug, and show which checker catches it (half an hour)
	@.venv/bin/python -m chaos.selftest

matrix: setup ## Run every must-fault three times, or what is lacking of it, and make docs/fault-matrix.md (2 to 3 hours)
	@$(HOLDFAST) chaos matrix

tax: setup ## Measure what durability costs by the distance between the regions (results in .holdfast/benchmarks/tax)
	@.venv/bin/python -m loadtests.tax

lint: setup ## Check format, lint and types
	@.venv/bin/ruff format --check . && .venv/bin/ruff check . && .venv/bin/pyright

format: setup ## Format the code and apply safe lint fixes
	@.venv/bin/ruff format . && .venv/bin/ruff check --fix .
