#!/bin/sh
# See to it that there is an nginx for the benchmark to start; its service stays off.
set -eu

[ -x /usr/sbin/nginx ] || command -v nginx >/dev/null 2>&1 || exec "$(dirname "$0")/install.sh" nginx-light
