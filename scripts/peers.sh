#!/bin/sh
# Make the virtual environment .venv-peers for `make bench-peers`: other task queues, whose dependencies are not ours.
set -eu

say() { printf '%s\n' "set-up: $*" >&2; }
fail() { say "$*"; exit 1; }

python=${PYTHON:-python3}
pinned=benchmarks/peers/constraints.txt

[ .venv-peers/ready -nt "$pinned" ] && exit 0
say "installing the Python packages of $pinned into .venv-peers"
.venv-peers/bin/python -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear .venv-peers  # also one cut short
.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check --requirement "$pinned" ||
    fail "the Python packages could not be installed: what pip said stands above"
touch .venv-peers/ready
