"""The README's commands, executed as they stand there: a marked block is a terminal, or a file that one runs.

A marker is an HTML comment before a block, `<!-- test: name -->`, which a reader does not see.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from notifier.broker.cleanup import delete_namespace
from notifier.broker.topology import Topology
from notifier.domain import wire
from notifier.domain.ladder import PRESETS, Ladder
from notifier.domain.signature import Secret, sign
from tests.acceptance.service import environment, notifier, running, runtime_dir

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()

#: Where the README's merchant listens; another port takes its place where this one is taken.
PORT = 9000
#: What stands in the README for the line that `make broker` prints.
PLACEHOLDER = re.compile(r"^export NOTIFIER_AMQP_URL=\.\.\. .*$", re.MULTILINE)


def block(name: str) -> str:
    """The marked block."""
    (found,) = re.findall(rf"^<!-- test: {name} -->\n```\w*\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    return str(found)


def masked(line: str) -> str:
    """A line without what is another one each time: ids, moments, numbers of processes, how long it took."""
    line = re.sub(r"ntf_[0-9a-f]+", "ntf_0", line)
    line = re.sub(r"\d+", "0", re.sub(r"[\d:.T-]+Z", "0", re.sub(r"\d+\.\d+", "0", line)))
    return re.sub(r"\b0 (ms|s)\b", "0 ms", line)


def matches(shown: str, said: str) -> bool:
    """Whether a masked line is the one that the README shows; an ellipsis there stands for anything."""
    return re.fullmatch(".*".join(map(re.escape, masked(shown).split("…"))), said) is not None


class Terminal:
    """A shell that knows nothing but the system's programs, and what it printed so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._news = asyncio.Condition()
        self._reading = asyncio.create_task(self._read())
        self.lines: list[str] = []

    @classmethod
    async def run(cls, script: str, directory: Path, own: str | None = None) -> Terminal:
        """Type these lines. own: runtime and state directory, shared by terminals that belong together; not the
        default ones, which a service of this machine may have.
        """
        own = own or runtime_dir()
        process = await asyncio.create_subprocess_exec(
            *("sh", "-e", "-c", script),
            cwd=directory,
            env={
                "PATH": "/usr/local/bin:/usr/bin:/bin",
                "HOME": os.environ.get("HOME", "/"),
                "LANG": "C.UTF-8",
                "NOTIFIER_RUNTIME_DIR": own,
                "NOTIFIER_STATE_DIR": own,
                "NOTIFIER_API__PORT": "0",
            },
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        return cls(process)

    async def until(self, said: Callable[[str], object], what: str, *, timeout: float = 60) -> str:
        """The first line of which this is true, awaited."""

        def found() -> list[str]:
            return [line for line in self.lines if said(line)]

        try:
            async with asyncio.timeout(timeout), self._news:
                await self._news.wait_for(lambda: found() or self._reading.done())
        except TimeoutError:
            pytest.fail(f"waited {timeout:g} s for {what}; it says: {self.text}")
        if not found():
            pytest.fail(f"it ended before {what}: {self.text}")
        return found()[0]

    async def end(self, timeout: float = 60) -> int:
        """Wait until it ended by itself; the exit code."""
        async with asyncio.timeout(timeout):
            code = await self._process.wait()
            await self._reading
        return code

    async def interrupt(self) -> None:
        """Ctrl-C, as a terminal does it: to everything that runs in it. By force if that does not help."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGINT)
            try:
                await self.end(timeout=50)
            except TimeoutError:
                os.killpg(self._process.pid, signal.SIGKILL)
                raise

    @property
    def text(self) -> str:
        """All of it."""
        return "\n".join(self.lines)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            self.lines.append(line.decode().rstrip("\n"))
            async with self._news:
                self._news.notify_all()
        async with self._news:
            self._news.notify_all()


@dataclass(frozen=True, slots=True)
class Reader:
    """Somebody who follows the README. given: the line that `make broker` printed."""

    directory: Path
    given: str
    namespace: str | None
    port: int
    terminals: list[Terminal]
    own: str

    def adapted(self, text: str) -> str:
        """A block as it is typed: with the broker's line, and as little else changed as this machine demands."""
        text = PLACEHOLDER.sub(lambda _: self.given, text)
        if self.namespace is not None:
            text = text.replace("notifier.wait", f"{self.namespace}.wait")
            text = text.replace(self.given, f"{self.given}\nexport NOTIFIER_NAMESPACE={self.namespace}")
        if self.port != PORT:
            text = text.replace(f":{PORT}/", f":{self.port}/")
            text = text.replace("notifier simulate", f"notifier simulate --port {self.port}")
        return text

    async def opens(self, script: str) -> Terminal:
        """A new terminal in which these lines are typed."""
        terminal = await Terminal.run(self.adapted(script), self.directory, self.own)
        self.terminals.append(terminal)
        return terminal

    async def runs(self, script: str) -> Terminal:
        """As opens, for what ends by itself with success."""
        terminal = await self.opens(script)
        assert await terminal.end() == 0, terminal.text
        return terminal


@dataclass(frozen=True, slots=True)
class Stage:
    """What the README has running when it enqueues."""

    reader: Reader
    service: Terminal
    merchant: Terminal


@pytest.fixture(scope="module")
async def stage(broker: Any, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """RabbitMQ, the service and the merchant, each in its terminal, started by the README's blocks.

    Where the tests have a private node, `make broker` starts another one, to the letter. Where RabbitMQ is named, or
    comes from a container, that one is used, in a namespace of its own.
    """
    directory = tmp_path_factory.mktemp("clone")
    (directory / ".venv").symlink_to(sys.prefix)
    terminals: list[Terminal] = []
    try:
        given, namespace = await broker_of(broker, terminals)
        reader = Reader(directory, given, namespace, free_port(), terminals, runtime_dir())
        service = await reader.opens(block("service"))
        merchant = await reader.opens(block("merchant"))
        await service.until(lambda line: line == "ready", "ready")
        await merchant.until(lambda line: line.startswith("listening on"), "its address")
        yield Stage(reader, service, merchant)
    finally:
        for terminal in reversed(terminals):
            await terminal.interrupt()
        if namespace is not None:
            await delete_namespace(broker.url, namespace, PRESETS["default"].tiers)


async def broker_of(broker: Any, terminals: list[Terminal]) -> tuple[str, str | None]:
    """The export line for the broker, and a namespace if it is not ours alone."""
    if not broker.private:
        return f"export NOTIFIER_AMQP_URL={broker.url}", f"readme-{os.getpid()}"
    terminal = await Terminal.run(block("broker"), ROOT)
    terminals.append(terminal)
    return await terminal.until(lambda line: line.startswith("export NOTIFIER_AMQP_URL="), "the export line"), None


def free_port() -> int:
    """The README's port, or a free one where that is taken."""
    for port in (PORT, 0):
        with socket.socket() as trying, contextlib.suppress(OSError):
            trying.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trying.bind(("127.0.0.1", port))
            return int(trying.getsockname()[1])
    raise AssertionError("no port is free")


async def test_the_terminals_show_what_the_readme_says(stage: Stage) -> None:
    producer = await stage.reader.runs(block("producer"))
    (notification,) = [line for line in producer.lines if line.startswith("ntf_")]
    answered = await stage.merchant.until(
        lambda line: notification in line and "ok (200)" in line, "an acknowledgement"
    )
    assert "attempt  2" in answered
    assert answered.endswith("signature valid")
    await stage.service.until(lambda line: notification in line and "decision=complete" in line, "its end")
    for name, terminal in (("producer", producer), ("merchant", stage.merchant), ("service", stage.service)):
        actual = {masked(line.replace(f":{stage.reader.port}", f":{PORT}")) for line in terminal.lines}
        for line in block(f"{name} shows").splitlines():
            assert any(matches(line, said) for said in actual), f"the {name} does not say: {line}"


async def test_the_ledger_shows_the_timeline_of_the_readme(stage: Stage) -> None:
    producer = await stage.reader.runs(block("producer"))
    (notification,) = [line for line in producer.lines if line.startswith("ntf_")]
    await stage.merchant.until(lambda line: notification in line and "ok (200)" in line, "an acknowledgement")
    settings = ". .venv/bin/activate\n" + exported(block("producer"))
    show = settings + re.sub("ntf_[0-9a-f]+", notification, block("timeline"))
    async with asyncio.timeout(30):  # what a database holds is no event
        while True:
            shown = await stage.reader.runs(show)
            if any(line.startswith("✓") for line in shown.lines):
                break
    actual = {masked(" ".join(line.split())) for line in shown.lines}
    for line in block("timeline shows").splitlines():
        assert masked(" ".join(line.split())) in actual, shown.text


async def test_a_merchant_is_registered_blocked_and_unblocked_as_the_readme_does(stage: Stage) -> None:
    done = await stage.reader.runs(". .venv/bin/activate\n" + exported(block("producer")) + block("registry"))
    (notification,) = [line for line in done.lines if line.startswith("ntf_")]
    assert [line for line in done.lines if line.startswith("shop-8 ")] == block("registry shows").splitlines()
    said = await stage.merchant.until(lambda line: notification in line and "ok (200)" in line, "an acknowledgement")
    assert said.endswith("signature valid")


async def test_the_python_program_enqueues(stage: Stage) -> None:
    (stage.reader.directory / "enqueue.py").write_text(stage.reader.adapted(block("python")))
    await stage.reader.runs(". .venv/bin/activate\n" + exported(block("producer")) + "python enqueue.py")
    await acknowledged(stage, "/python", "order-44-paid")


def php_is_here() -> bool:
    """Whether there is a PHP with php-amqplib, as Debian installs it."""
    asked = ["php", "-r", "exit((int) !@include 'PhpAmqpLib/autoload.php');"]
    return shutil.which("php") is not None and subprocess.run(asked, timeout=20).returncode == 0


@pytest.mark.skipif(
    not php_is_here(), reason="php with php-amqplib is not installed; what the program names is checked"
)
async def test_the_php_program_enqueues(stage: Stage) -> None:
    (stage.reader.directory / "vendor").mkdir()
    (stage.reader.directory / "vendor/autoload.php").write_text("<?php require 'PhpAmqpLib/autoload.php';")
    (stage.reader.directory / "enqueue.php").write_text(stage.reader.adapted(block("php")))
    terminal = await stage.reader.runs(exported(block("producer")) + "php enqueue.php")
    assert terminal.lines == ["accepted"]
    await acknowledged(stage, "/php", "order-43-paid")


async def test_the_images_health_check_sees_the_service(stage: Stage) -> None:
    dockerfile = (ROOT / "deploy/Dockerfile").read_text().replace("\\\n", " ")
    (check,) = re.findall(r"^HEALTHCHECK .*? CMD (.*)$", dockerfile, re.MULTILINE)
    service = ". .venv/bin/activate\n" + exported(block("service"))
    await stage.reader.runs(service + check)
    elsewhere = await stage.reader.opens(service + "export NOTIFIER_NAMESPACE=nobody\n" + check)
    assert await elsewhere.end() == 1, elsewhere.text


@pytest.mark.parametrize("language", ["php", "python"])
def test_a_program_names_what_the_code_names(language: str) -> None:
    program = block(language)
    assert f"{Topology('notifier', ()).wait}'" in program.replace('"', "'")
    stated = dict(re.findall(r"^ +['\"]([a-z-]+)['\"](?: =>|:) (.*?),(?: +(?://|#).*)?$", program, re.MULTILINE))
    headers = {name: value for name, value in stated.items() if name in wire._KNOWN}
    assert {"merchant", "url", "notification", "ladder", "enqueued-at", "due-at", "v"} <= set(headers)
    assert set(stated) - set(headers) <= {"delivery_mode", "content_type", "message_id", "application_headers"}
    first = Ladder.parse(headers["ladder"].strip("'\""))[0]
    assert re.search(rf"(wait', |routing_key=)'{first.name}', (true|mandatory=True)\)", program.replace('"', "'"))
    assert headers["due-at"].endswith(f"+ {first.milliseconds}")
    assert int(headers["v"]) == wire.VERSION
    assert "confirm_select()" in program or "publisher_confirms=True" in program


async def test_verify_says_what_the_readme_shows(tmp_path: Path) -> None:
    (tmp_path / ".venv").symlink_to(sys.prefix)
    terminal = await Terminal.run(". .venv/bin/activate\n" + block("verify"), tmp_path)
    assert await terminal.end() == 1
    (shown,), (said,) = block("verify shows").splitlines(), terminal.lines
    assert masked(shown) == masked(said)


def test_a_merchants_program_verifies_what_notifier_signs() -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    body, now = b'{"order": 42}', int(time.time())
    headers = {
        "webhook-id": "ntf_1",
        "webhook-timestamp": str(now),
        "webhook-signature": sign([Secret.parse(secret)], "ntf_1", now, body),
    }
    found: dict[str, Any] = {"secret": secret, "body": body, "headers": headers}
    exec(block("receive"), found)
    assert found["payload"] == {"order": 42}


async def test_a_ladder_of_ones_own_has_a_timetable(tmp_path: Path) -> None:
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "notifier.toml").write_text(block("ladders"))
    terminal = await Terminal.run(". .venv/bin/activate\nnotifier ladder patient", tmp_path)
    assert await terminal.end() == 0
    assert [line.split()[1] for line in terminal.lines[1:]] == ["1m", "10m", "1h", "6h", "1d"]


async def test_a_callback_of_ones_own_judges(broker: Any, namespace: str, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(block("callback"))
    (name,) = re.findall(r"NOTIFIER_CALLBACK=(\S+)", block("callback"))
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="0s,1s", NOTIFIER_CALLBACK=name)
    async with running(variables, cwd=tmp_path) as service:
        code, out, _ = await notifier(variables, "enqueue", "--merchant", "shop-7", "--payload", "{}")
        assert code == 0
        first = await service.event("attempt", notification=out.strip(), attempt=1)
        assert (first["decision"], first["detail"]) == ("next-tier", "not today")
        await service.event("attempt", notification=out.strip(), attempt=2, decision="complete")


def exported(script: str) -> str:
    """The export lines of a block."""
    return "".join(f"{line}\n" for line in script.splitlines() if line.startswith("export "))


async def acknowledged(stage: Stage, path: str, notification: str) -> None:
    """Wait until the merchant acknowledged it, at its second attempt, with a signature that it could verify."""
    line = await stage.merchant.until(lambda line: f" {path} " in line and "ok (200)" in line, f"{path} acknowledged")
    assert line.split()[2:5] == [notification, "attempt", "2"]
    assert line.endswith("signature valid")
    await stage.service.until(lambda line: notification in line and "decision=complete" in line, "its end")
