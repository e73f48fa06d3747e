"""`notifier simulate` as a process: what it prints, how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from notifier.domain.signature import Secret, sign

SECRET = Secret(b"a key of twenty-four bytes, at least")


@contextlib.asynccontextmanager
async def simulate(*arguments: str, **environment: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str, str]]:
    """The process, where it listens, and what it said about itself."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NOTIFIER_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "notifier", "simulate", "--port", "0", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=kept | environment,
    )
    try:
        assert process.stderr is not None
        async with asyncio.timeout(20):
            said = ""
            while "notifier enqueue" not in said:
                line = (await process.stderr.readline()).decode()
                assert line, f"it ended, having said: {said}"
                said += line
        listening = re.match(r"listening on (http://127\.0\.0\.1:\d+)\n", said)
        assert listening
        yield process, listening[1], said
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def post(url: str, webhook_id: str, attempt: int = 1, **headers: str) -> int:
    sent = {"webhook-id": webhook_id, "notifier-attempt": str(attempt), **headers}
    async with aiohttp.ClientSession() as session, session.post(url, data=b"{}", headers=sent) as response:
        return response.status


async def line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), 10)).decode()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_it_answers_as_scripted_prints_each_request_and_ends_with_0(number: signal.Signals) -> None:
    async with simulate("--script", "500,ok", "--merchant", "/busy=429:7") as (process, url, said):
        assert "  /busy answers 429:7\n  any other path answers 500,ok\n  signatures are not checked" in said
        assert f"notifier enqueue --merchant shop --url {url}/busy --payload '{{\"order\": 42}}'" in said
        told = []
        for path, attempt, status in (("/shop", 1, 500), ("/shop", 2, 200), ("/busy", 1, 429)):
            assert await post(url + path, "ntf_1", attempt) == status
            told.append(re.sub(r" +", " ", await line(process)).rstrip("\n").split(" ", 1))
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", moment) for moment, _ in told)
        assert [rest for _, rest in told] == [
            "/shop ntf_1 attempt 1 500 signature unchecked",
            "/shop ntf_1 attempt 2 ok (200) signature unchecked",
            "/busy ntf_1 attempt 1 429:7 signature unchecked",
        ]
        process.send_signal(number)
        _, rest = await asyncio.wait_for(process.communicate(), 10)
        assert (process.returncode, rest) == (0, b"")


async def test_with_a_secret_it_checks_signatures_and_says_what_is_wrong() -> None:
    now = int(time.time())
    signed = {"webhook-timestamp": str(now), "webhook-signature": sign([SECRET], "ntf_1", now, b"{}")}
    async with simulate(NOTIFIER_SIGNING_SECRET=SECRET.text) as (process, url, said):
        assert "signatures are checked" in said
        assert SECRET.text not in said
        assert await post(url, "ntf_1", **signed) == 200
        assert (await line(process)).endswith("signature valid\n")
        assert await post(url, "ntf_2", **signed) == 401
        assert "signature invalid: no signature matches" in await line(process)


async def test_json_lines_are_the_lines_of_the_log(tmp_path: Path) -> None:
    log = tmp_path / "received.jsonl"
    async with simulate("--json", "--log", str(log)) as (process, url, _):
        await post(url + "/shop", "ntf_1", 3)
        told = json.loads(await line(process))
        assert (told["path"], told["webhook-id"], told["attempt"], told["answer"]) == ("/shop", "ntf_1", 3, "ok")
        assert json.loads(log.read_text()) == told


async def test_what_strangers_send_does_not_drive_the_terminal() -> None:
    async with simulate() as (process, url, _):
        await post(url + "/%1b%5b2J%0a", "ntf_1")
        told = await line(process)
        assert "/\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}" in told


async def test_it_ends_when_its_reader_has_left() -> None:
    async with simulate() as (process, url, _):
        assert process.stdout is not None
        process.stdout._transport.close()  # type: ignore[attr-defined]  # as `| head` does
        assert await post(url, "ntf_1") == 200
        assert await asyncio.wait_for(process.wait(), 10) == 1


async def test_a_taken_port_is_told() -> None:
    async with simulate() as (_, url, _):
        port = url.rpartition(":")[2]
        other = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "notifier", "simulate", "--port", port), stderr=asyncio.subprocess.PIPE
        )
        _, err = await asyncio.wait_for(other.communicate(), 20)
        assert other.returncode == 1
        assert err.decode() == (
            f"notifier: cannot listen on 127.0.0.1:{port}: address already in use; choose another --port or --host\n"
        )
