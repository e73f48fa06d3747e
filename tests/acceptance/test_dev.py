"""`notifier dev`: the default ladder at real speed, judged by a receiver that shares no code with notifier."""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import statistics
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.acceptance.conftest import LadderRun
from tests.acceptance.offspring import alive, started_by
from tests.acceptance.service import NOTIFIER, clean_environment
from tests.acceptance.test_spine import gone

#: Half of the attempts are not later than the first of these, and none than the second, whatever runs beside.
LATE_MS, LATEST_MS = 250, 5_000


async def dev(variables: dict[str, str], *arguments: str, timeout: float) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        NOTIFIER,
        "dev",
        *arguments,
        env=variables,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(timeout):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


def unix_ms(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp() * 1000


@pytest.mark.timeout(300)
def test_the_default_ladder_at_real_speed_agrees_with_an_independent_receiver(ladder_run: LadderRun) -> None:
    code, out, err, lines = ladder_run.ended()
    assert code == 0, err
    report = json.loads(out)
    seen = [json.loads(line) for line in lines]
    told = {note["merchant"]: note for note in report["notifications"]}
    assert {name: note["result"] for name, note in told.items()} == {
        "prompt": "complete",
        "flaky": "complete",
        "silent": "exhausted",
    }
    assert [a["tier"] for a in told["silent"]["attempts"]] == ["1s", "3s", "5s", "15s", "30s"]
    attempts = {(note["id"], a["number"]): a for note in told.values() for a in note["attempts"]}
    assert sorted(attempts) == sorted((each["id"], each["attempt"]) for each in seen)
    late = [each["moment"] - unix_ms(attempts[each["id"], each["attempt"]]["due"]) for each in seen]
    assert min(late) >= 0, "no attempt before its due moment"
    assert statistics.median(late) <= LATE_MS
    assert max(late) <= LATEST_MS, "and none long after"
    assert [each["fault"] for each in seen if each["fault"]] == [], "every signature verifies"


@pytest.mark.long  # the same log as that of `notifier simulate`
async def test_the_merchants_of_dev_keep_a_log_of_their_own_that_agrees(broker: Any, tmp_path: Path) -> None:
    log = tmp_path / "merchants.log"
    variables = clean_environment(NOTIFIER_AMQP_URL=broker.url, NOTIFIER_LADDER="0s,1s", NOTIFIER_API__PORT="0")
    code, out, err = await dev(variables, "--once", "--json", "--receiver-log", str(log), timeout=60)
    assert code == 0, err
    report = json.loads(out)
    assert report["agrees"] is True
    told = sorted((note["id"], a["number"]) for note in report["notifications"] for a in note["attempts"])
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert told == sorted((line["webhook-id"], line["attempt"]) for line in lines)
    assert {line["signature"] for line in lines} == {"valid"}


@pytest.mark.long  # test_first_use shows it on a broker that runs already
async def test_the_dashboard_of_dev_answers_and_knows_the_samples() -> None:
    process = await asyncio.create_subprocess_exec(
        NOTIFIER,
        "dev",
        env=clean_environment(NOTIFIER_LADDER="0s,1s"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            while not (line := await process.stdout.readline()).startswith(b"Dashboard: http://127.0.0.1:"):
                assert line, "it ended"
            address = line.decode().removeprefix("Dashboard: ").strip().rstrip("/")
            while b"silent" not in line:  # the last of the samples has had its first attempt
                line = await process.stdout.readline()
                assert line, "it ended"
            async with aiohttp.ClientSession() as session:
                async with session.get(f"{address}/") as page:
                    assert page.status == 200
                    assert "<html" in await page.text()
                async with session.get(f"{address}/v1/merchants") as answer:
                    merchants = (await answer.json())["merchants"]
        assert {each["id"] for each in merchants} == {"prompt", "flaky", "silent"}
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(40):
            await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.long  # test_first_use shows it on a broker that runs already, test_private_node of a broker
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill -9"])
async def test_everything_that_dev_started_is_gone_after(number: signal.Signals) -> None:
    mark = secrets.token_hex(8)
    variables = clean_environment(NOTIFIER_LADDER="1s", MARK=mark)
    process = await asyncio.create_subprocess_exec(
        NOTIFIER, "dev", env=variables, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            while b"attempt 1" not in await process.stdout.readline():
                pass
            started = started_by(process.pid, mark)
            assert any("beam" in name for name in started.values()), "the private node runs"
            assert any("tier 1s" in name for name in started.values()), "and so does the tier process"
            process.send_signal(number)
            await process.communicate()
            await asyncio.gather(*(gone(pid) for pid in started if pid != process.pid))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert [pid for pid in started if alive(pid)] == []
