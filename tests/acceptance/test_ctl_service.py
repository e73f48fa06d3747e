"""`notifier ctl` and a real service: what its operator sees, and what reloading does."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from notifier.simulator.script import Script
from notifier.simulator.server import Simulator
from tests.acceptance.service import environment, notifier, running


async def ctl(variables: Mapping[str, str], *words: str) -> str:
    """stdout of a verb that must do what it is told."""
    code, out, err = await notifier(variables, "ctl", *words)
    assert (code, err) == (0, ""), (words, out)
    return out


async def prefetched(variables: Mapping[str, str], wanted: list[int]) -> None:
    """Return when the processes say that they work with these prefetches."""
    async with asyncio.timeout(20):
        while True:
            slots = json.loads(await ctl(variables, "stats", "--json"))["slots"]
            if [slot["statistics"].get("prefetch") for slot in slots] == wanted:
                return


async def test_an_operator_sees_and_steers_a_running_service(broker: Any, namespace: str) -> None:
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="1s,2s")
    async with Simulator({"/slow": Script.parse("slow:20")}) as merchant, running(variables, whole=True) as service:
        assert re.match(
            r"4 of 4 processes ready; up \S+, master pid \d+, version \d+\n", await ctl(variables, "status")
        )
        address = f"{merchant.url}/slow"
        code, out, _ = await notifier(
            variables, "enqueue", "--merchant", "shop", "--url", address, "--payload", "{}"
        )  # fmt: skip
        assert code == 0
        await merchant.wait_for(1)
        (work,) = json.loads(await ctl(variables, "inflight", "1s", "--json"))["works"]
        assert (work["notification"], work["merchant"], work["url"]) == (out.strip(), "shop", address)
        assert await ctl(variables, "inflight", "2s") == "nothing is in flight\n"
        assert await ctl(variables, "block", "shop-7") == "shop-7 is blocked: live in 3 of 3 processes\n"
        paused = await ctl(variables, "pause", "2s", "--for", "10m", "--reason", "INC-118")
        assert re.fullmatch(r"tier:2s is paused until \S+Z: live in 1 of 1 process\n", paused)
        lines = (await ctl(variables, "status")).splitlines()
        assert lines[0].startswith("3 of 4 processes ready, 1 paused; up ")
        rows = {row.split()[0]: re.split(r"  +", row) for row in lines[3:5]}
        assert rows["tier:1s"][1] == "ready"
        assert rows["tier:2s"][1] == "paused"
        assert re.fullmatch(r"by \S+ until \S+Z", rows["tier:2s"][8])
        assert [row.split()[:2] for row in lines[9:]] == [["pause", "tier:2s"]], "blocks are in the registry"
        assert lines[9].endswith("INC-118")
        assert await ctl(variables, "resume", "2s") == "tier:2s is resumed: live in 1 of 1 process\n"
        assert await ctl(variables, "shutdown", "--quick") == "the service has ended\n"
        async with asyncio.timeout(40):
            assert await service.process.wait() == 0


async def test_overrides_outlive_a_killed_master_and_two_masters_never_share_a_directory(
    broker: Any, namespace: str
) -> None:
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="1s")
    async with running(variables) as service:
        code, out, err = await notifier(variables, "ctl", "block", "shop-7", "--reason", "charged twice")
        assert (code, out) == (0, "shop-7 is blocked on this machine: live in 1 of 1 process\n")
        assert "runs without an agent (notifier run --no-agent)" in err
        assert err.endswith("so shop-7 is blocked on this machine alone, not in the registry\n")
        code, _, err = await notifier(variables, "run")
        assert code == 1
        assert f"another master (pid {service.process.pid}) is running in {variables['NOTIFIER_RUNTIME_DIR']}" in err
        assert "NOTIFIER_RUNTIME_DIR" in err
        service.process.kill()
        await service.process.wait()
        code, _, err = await notifier(variables, "ctl", "status")
        assert code == 1
        assert "no service is running here" in err
    async with running(variables):
        told = json.loads(await ctl(variables, "status", "--json"))
        assert [(entry["key"], entry["why"]) for entry in told["entries"]] == [("block/shop-7", "charged twice")]
        assert [slot["applied"] for slot in told["slots"]] == [told["version"]]


async def test_reload_takes_over_what_can_change_and_names_the_rest(
    broker: Any, namespace: str, tmp_path: Path
) -> None:
    variables = environment(broker.url, namespace, NOTIFIER_CONFIG=str(tmp_path / "notifier.toml"))
    del variables["NOTIFIER_EGRESS__ALLOW"]
    file = tmp_path / "notifier.toml"
    file.write_text("ladder = '1s,2s'\n")
    async with running(variables, cwd=tmp_path) as service:
        assert await ctl(variables, "reload") == "nothing has changed\n"
        file.write_text(
            "ladder = '1s,2s,3s'\nprefetch = 77\ndrain_timeout = 20\n[log]\nlevel = 'debug'\n[egress]\ntimeout = 4\n"
        )
        told = json.loads(await ctl(variables, "reload", "--json"))
        assert told == {
            "live": ["log.level", "prefetch"],
            "restart": ["egress.timeout"],
            "service": ["ladder", "drain_timeout"],
        }
        await prefetched(variables, [77, 77])
        told = json.loads(await ctl(variables, "reload", "--json"))
        assert (told["live"], told["restart"]) == ([], ["egress.timeout"]), "it is still waited for"
        await ctl(variables, "restart")
        told = json.loads(await ctl(variables, "reload", "--json"))
        assert (told["live"], told["restart"], told["service"]) == ([], [], ["ladder", "drain_timeout"])

        file.write_text("prefetch = 'many'\n")
        code, out, err = await notifier(variables, "ctl", "reload")
        assert (code, out) == (1, "")
        assert f"notifier: prefetch in {file} is 'many'" in err
        service.process.send_signal(signal.SIGHUP)
        refused = await service.event("control", who="SIGHUP")
        assert refused["result"].startswith("refused: prefetch in ")
        file.write_text("ladder = '1s,2s'\n")
        service.process.send_signal(signal.SIGHUP)
        reloaded = await service.event("service.reloaded", who="SIGHUP")
        assert (reloaded["live"], reloaded["restart"]) == (["log.level", "prefetch"], ["egress.timeout"])
        assert await service.stop() == 0
