#!/bin/sh
# Make the virtual environment in .venv, with everything pinned by constraints.txt.
set -eu

say() { printf '%s\n' "set-up: $*" >&2; }
fail() { say "$*"; exit 1; }

python=${PYTHON:-python3}
command -v "$python" >/dev/null 2>&1 || fail "there is no $python here: install Python 3.11 or later, or name it with PYTHON=…"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$("$python" --version) is too old: notifier needs Python 3.11 or later; name another with PYTHON=…"
# Debian keeps what makes virtual environments in a package of its own.
"$python" -c 'import ensurepip, venv' 2>/dev/null || "$(dirname "$0")/install.sh" python3-venv

say "installing the Python packages of constraints.txt into .venv"
.venv/bin/python -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear .venv  # also one that was cut short
.venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]' ||
    fail "the Python packages could not be installed: what pip said stands above"
touch .venv/ready
