#!/bin/sh
# See to it that there is a PostgreSQL for the tests to start on their own, apart from any that serves this machine; the
# service that the distribution's package brings stays off.
set -eu

for place in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /opt/homebrew/opt/postgresql*/bin; do
    [ ! -x "$place/initdb" ] || exit 0
done
command -v initdb >/dev/null 2>&1 || exec "$(dirname "$0")/install.sh" postgresql
