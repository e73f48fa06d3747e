# Every target does the set-up it needs; the second time that takes no time. `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help setup run broker test test-long faults faults-check check bench bench-peers clean

BIN := .venv/bin
READY := .venv/ready
# What runs in the foreground ends when make does, even by kill -9 (util-linux; elsewhere only Ctrl-C and its own end do).
BOUND := $(shell setpriv --pdeathsig TERM true 2>/dev/null && echo setpriv --pdeathsig TERM)

# Files of the tests lie in memory where there is room: a disk that stands still is not what they test.
IN_MEMORY := $(shell [ -z "$$TMPDIR" ] && [ -w /dev/shm ] && findmnt -no OPTIONS --target /dev/shm 2>/dev/null | grep -qvw noexec && [ "$$(df -Pm /dev/shm | awk 'END { print $$4 }')" -ge 2048 ] && echo TMPDIR=/dev/shm)

PYTEST = $(IN_MEMORY) $(BOUND) $(BIN)/python -m pytest

# The tests start hundreds of processes: the first compiles what the others then find compiled, whatever is the habit here.
unexport PYTHONDONTWRITEBYTECODE

help: ## this list
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## virtual environment, dependencies and RabbitMQ (its service stays off)
	@scripts/rabbitmq.sh

$(READY): pyproject.toml constraints.txt scripts/venv.sh
	@scripts/venv.sh

run: setup ## see it work: a private RabbitMQ, three sample merchants, their ladders live (Ctrl-C ends it)
	@$(BOUND) $(BIN)/notifier dev

broker: setup ## a private RabbitMQ for your own experiments; prints the line to export (Ctrl-C ends it)
	@$(BOUND) $(BIN)/python -m notifier.broker

# Many tests wait for something, so four workers keep two cores busy. Before them, what is timed too closely for that (5:
# ARGS selected none of it; with a -m of their own they say themselves what runs).
test: setup ## the quick suite, in four workers; needs no more than this machine
	@scripts/chromium.sh
	@scripts/postgres.sh
	$(if $(filter -m,$(ARGS)),,$(PYTEST) -m "alone and not long" $(ARGS) || [ $$? -eq 5 ])
	$(PYTEST) -n 4 --dist worksteal -m "not alone and not long" $(ARGS)

test-long: setup ## the long repeats: hundreds of killed processes, thousands of pushes (an hour)
	@scripts/chromium.sh
	@scripts/postgres.sh
	$(BOUND) $(BIN)/python -m pytest -m long --timeout 1800 $(ARGS)

faults: setup ## every fault, ten times each; the table goes into docs/reliability.md (ARGS="--only TEXT --repeats N")
	$(BOUND) $(BIN)/python -m tests.faults --page docs/reliability.md --json .faults.json $(ARGS)

faults-check: setup ## plant bugs one at a time: the fault suite must fail on each
	$(BOUND) $(BIN)/python -m tests.faults.check $(ARGS)

check: $(READY) ## linter, formatter and type checker
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup ## measure against a bare loop, counted by an nginx that receives (ARGS="--count 20000 …")
	@scripts/nginx.sh
	$(BOUND) $(BIN)/python -m benchmarks $(ARGS)

bench-peers: setup ## one in ten merchants hangs: notifier beside Celery, Dramatiq and taskiq (ARGS="--pairs 1 …")
	@scripts/nginx.sh
	@scripts/peers.sh
	$(BOUND) $(BIN)/python -m benchmarks --only isolation --peers $(ARGS)

clean: ## remove what set-up, tests and tools made in this directory
	rm -rf .venv .venv-peers .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
