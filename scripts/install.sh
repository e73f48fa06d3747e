#!/bin/sh
# Install packages of the distribution, without starting or enabling the services that they bring.
#
#   scripts/install.sh PACKAGE...
#
# Does nothing for packages that are installed. Afterwards no port of this machine is open that was not open before.
set -eu
PATH=$PATH:/usr/sbin:/sbin # Debian leaves these out for ordinary users

say() { printf '%s\n' "set-up: $*" >&2; }
fail() { say "$*"; exit 1; }

POLICY=/usr/sbin/policy-rc.d
MARK='made by the set-up of notifier'

installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

missing=''
for package in "$@"; do
    installed "$package" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
# Erlang's package brings epmd: if it was here before, its service is not ours to switch off.
epmd=epmd
! installed erlang-base || epmd=''

command -v apt-get >/dev/null 2>&1 ||
    fail "needs$missing, and there is no apt-get here: install them with your system's package manager, then run make again"
if [ "$(id -u)" = 0 ]; then
    as_root=''
elif command -v sudo >/dev/null 2>&1; then
    as_root='sudo'
else
    fail "needs$missing: run as root 'apt-get install$missing' (there is no sudo here), then run make again"
fi

# Debian starts a service when its package is installed, unless a policy-rc.d forbids it. Ours forbids these packages'
# services, and all first starts (a dependency may bring cron), but no restart of what runs here already; and only while
# this script runs, so one that a kill -9 leaves behind changes nothing.
forbid_services() {
    if [ -e "$POLICY" ] && ! grep -q "$MARK" "$POLICY"; then
        code=0
        "$POLICY" rabbitmq-server start >/dev/null 2>&1 || code=$?
        [ "$code" = 101 ] && return
        fail "$POLICY of this machine lets services start. Install$missing yourself and stop their services, then run make again"
    fi
    $as_root tee "$POLICY" >/dev/null <<POLICY_END
#!/bin/sh
# $MARK, for as long as its process $$ runs; may be removed at any time.
grep -q install.sh /proc/$$/cmdline 2>/dev/null || exit 0
case " \$* " in *' rabbitmq-server'*|*' epmd'*|*' nginx'*|*' start '*|*'(start)'*) exit 101 ;; esac
exit 0
POLICY_END
    $as_root chmod 755 "$POLICY"
}
allow_services() { if grep -q "$MARK" "$POLICY" 2>/dev/null; then $as_root rm -f "$POLICY"; fi; }

# "Not started" holds for the next boot as well.
disable_services() {
    for package in $missing; do
        case $package in
            rabbitmq-server) services="rabbitmq-server $epmd" ;;
            nginx*) services='nginx' ;;
            postgresql*) services='postgresql' ;;
            *) continue ;;
        esac
        for service in $services; do
            for unit in "$service.service" "$service.socket"; do
                if command -v systemctl >/dev/null 2>&1; then
                    $as_root systemctl --quiet disable "$unit" >/dev/null 2>&1 || true
                else # no systemd yet, but its links are made for the day it comes
                    $as_root env DPKG_MAINTSCRIPT_PACKAGE=notifier deb-systemd-helper disable "$unit" >/dev/null 2>&1 || true
                fi
            done
            if [ -e "/etc/init.d/$service" ] && command -v update-rc.d >/dev/null 2>&1; then
                $as_root update-rc.d "$service" disable >/dev/null 2>&1 || true
            fi
        done
    done
}

log=$(mktemp)
trap 'rm -f "$log"; allow_services' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
apt() { $as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 "$@" >"$log" 2>&1; }

case $missing in
*rabbitmq-server* | *nginx* | *postgresql*)
    say "installing$missing from the distribution's packages; no service is started, and theirs are left disabled"
    forbid_services
    ;;
*) say "installing$missing from the distribution's packages" ;;
esac
# shellcheck disable=SC2086  # a list of words
if ! apt install -y --no-install-recommends $missing; then
    apt update || { cat "$log" >&2; fail "the list of packages could not be fetched: is the network up?"; }
    apt install -y --no-install-recommends $missing || { cat "$log" >&2; fail "apt-get could not install$missing; what it said stands above"; }
fi
disable_services
