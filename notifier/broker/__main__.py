"""`python -m notifier.broker`, or `make broker`: a RabbitMQ for experiments, until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys

from notifier.broker.source import open_broker
from notifier.errors import NotifierError


async def _serve() -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with open_broker(lambda sentence: _say(sentence, sys.stderr.fileno())) as broker:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, ended.set)
        _say(f"export NOTIFIER_AMQP_URL={broker.url}", sys.stdout.fileno())
        _say("It runs until Ctrl-C; paste the line above into the terminals that shall use it.", sys.stderr.fileno())
        await ended.wait()


def _say(line: str, descriptor: int) -> None:
    os.write(descriptor, f"{line}\n".encode())


def main() -> int:
    """Run until a signal; returns the exit code."""
    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_serve())
    except NotifierError as error:
        _say(f"notifier: {error}", sys.stderr.fileno())
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
