#!/bin/sh
# See to it that there is a RabbitMQ to use: NOTIFIER_AMQP_URL, a container engine that answers, an installed server, or
# the distribution's package.
set -eu

[ -z "${NOTIFIER_AMQP_URL:-}" ] || exit 0
# A client may be installed where no engine runs, and may hang where one is down.
if command -v docker >/dev/null 2>&1 && [ -n "$(timeout 3 docker version --format '{{.Server.Version}}' 2>/dev/null)" ]; then
    exit 0
fi
for place in /usr/lib/rabbitmq/bin /opt/rabbitmq/sbin /opt/homebrew/sbin /usr/local/sbin; do
    [ ! -x "$place/rabbitmq-server" ] || exit 0
done
command -v rabbitmq-server >/dev/null 2>&1 || exec "$(dirname "$0")/install.sh" rabbitmq-server
