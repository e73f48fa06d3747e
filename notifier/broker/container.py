"""RabbitMQ in a container, for those who have an engine. Spoken to through the `docker` command, podman's included."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
from collections.abc import AsyncIterator

from notifier.broker.connection import open_once
from notifier.errors import BrokerError

#: The series that deploy/ uses.
IMAGE = "rabbitmq:4.2"

#: A client may be installed where no engine runs, and may hang where one is down.
_PROBE_TIMEOUT = 3.0
#: The image may have to be fetched.
_START_TIMEOUT = 600.0
_BOOT_TIMEOUT = 90.0


def engine_answers() -> bool:
    """Whether a container engine really answers, not only its client."""
    if shutil.which("docker") is None:
        return False
    try:
        asked = subprocess.run(
            ["docker", "version", "--format", "{{.Server.Version}}"],
            capture_output=True,
            timeout=_PROBE_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0 and bool(asked.stdout.strip())


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[str]:
    """The AMQP address of a RabbitMQ that lives as long as the block, also when this process is killed in it.

    Raises BrokerError with what the engine said.
    """
    name = (await _docker("run", "--detach", "--rm", "--publish", "127.0.0.1::5672", IMAGE, timeout=_START_TIMEOUT))[
        :64
    ]
    async with _removed_at_the_end(name):
        address = (await _docker("port", name, "5672/tcp", timeout=10)).splitlines()[0]
        url = f"amqp://guest:guest@{address}/"
        await (await open_once([url], "container", patience=_BOOT_TIMEOUT)).close()
        yield url


@contextlib.asynccontextmanager
async def _removed_at_the_end(name: str) -> AsyncIterator[None]:
    """Remove the container when the block ends, or when this process does: a shell waits for the end of its input."""
    keeper = await asyncio.create_subprocess_exec(
        "sh",
        "-c",
        'cat >/dev/null; exec docker rm --force --volumes "$0" >/dev/null 2>&1',
        name,
        stdin=subprocess.PIPE,
        start_new_session=True,  # a Ctrl-C in the terminal is not for it
    )
    try:
        yield
    finally:
        assert keeper.stdin is not None
        keeper.stdin.close()
        await keeper.wait()


async def _docker(*arguments: str, timeout: float) -> str:
    asked = await asyncio.create_subprocess_exec(
        "docker", *arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        async with asyncio.timeout(timeout):
            out, err = await asked.communicate()
    except TimeoutError:
        asked.kill()
        await asked.wait()
        raise BrokerError(f"docker {arguments[0]} did not answer within {timeout:.0f} s") from None
    if asked.returncode:
        raise BrokerError(f"docker {arguments[0]} failed: {err.decode(errors='replace').strip()}")
    return out.decode().strip()
