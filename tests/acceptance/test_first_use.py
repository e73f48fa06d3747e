"""What `make run` gives somebody who has never seen the project: an address, and behind it everything."""

from __future__ import annotations

import asyncio
import re
import secrets
import signal
from typing import Any

import aiohttp

from tests.acceptance.offspring import alive, started_by
from tests.acceptance.service import NOTIFIER, clean_environment
from tests.acceptance.test_spine import gone

SAMPLES = {"prompt", "flaky", "silent"}


async def test_the_address_that_make_run_prints_leads_to_the_whole_service(broker: Any) -> None:
    mark = secrets.token_hex(8)
    process = await asyncio.create_subprocess_exec(
        NOTIFIER,
        "dev",
        env=clean_environment(NOTIFIER_AMQP_URL=broker.url, NOTIFIER_LADDER="0s,1s", NOTIFIER_API__PORT="0", MARK=mark),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(60):
            address = await printed_address(process)
            async with aiohttp.ClientSession(address) as visitor:
                async with visitor.get("/") as answer:
                    page = await answer.text()
                    assert (answer.status, answer.content_type) == (200, "text/html"), page
                async with visitor.get("/v1/processes") as answer:
                    slots = {slot["slot"]: slot["state"] for slot in (await answer.json())["slots"]}
                assert slots == dict.fromkeys(("tier:0s", "tier:1s", "agent", "api"), "ready")
                await until_samples_are_told(visitor)
                async with visitor.get("/v1/merchants") as answer:
                    assert {each["id"] for each in (await answer.json())["merchants"]} == SAMPLES
                for link in set(re.findall(r'(?:href|src)="(/[^"#]*)"', page)):
                    async with visitor.get(link) as answer:
                        assert answer.status == 200, link
        assert not re.findall(r'(?:href|src|action)="(?:https?:)?//', page), "nothing from elsewhere"
        started = started_by(process.pid, mark)
        assert any("tier 1s" in name for name in started.values())
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        async with asyncio.timeout(40):
            await process.communicate()
    assert process.returncode == 0
    async with asyncio.timeout(20):
        await asyncio.gather(*(gone(pid) for pid in started if pid != process.pid))
    assert [pid for pid in started if alive(pid)] == []


async def printed_address(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    said = b""
    while line := await process.stdout.readline():
        said += line
        if found := re.search(rb"Dashboard: (http://[^\s/]+)", line):
            return found[1].decode()
    raise AssertionError(said.decode())


async def until_samples_are_told(visitor: aiohttp.ClientSession) -> None:
    """All three samples are in the ledger at their ends. Asked again and again: a ledger tells nobody."""
    ended: set[tuple[str, str]] = set()
    while len(ended) < len(SAMPLES):
        await asyncio.sleep(0.1)
        async with visitor.get("/v1/notifications?status=completed,exhausted") as answer:
            found = (await answer.json())["notifications"]
        ended = {(each["merchant"], each["status"]) for each in found}
    assert ended == {("prompt", "completed"), ("flaky", "exhausted"), ("silent", "exhausted")}
