"""`notifier merchants`, `notifications`, `tokens` and `migrate` against a real service, and after it has ended."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import re
from collections.abc import Mapping
from typing import Any

import aiohttp
import pytest

from notifier.simulator.script import Script
from notifier.simulator.server import Simulator
from tests.acceptance.ledger import Ledger
from tests.acceptance.service import environment, notifier, running


class Commands:
    """The commands of one environment."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables

    async def __call__(self, *words: str) -> str:
        """stdout of a command that must do what it is told."""
        code, out, err = await notifier(self._variables, *words)
        assert (code, err) == (0, ""), (words, out, err)
        return out

    async def json(self, *words: str) -> Any:
        return json.loads(await self(*words, "--json"))

    async def refused(self, *words: str) -> tuple[int, str]:
        """Exit code and stderr of one that cannot be done."""
        code, out, err = await notifier(self._variables, *words)
        assert (code != 0, out) == (True, ""), (words, out, err)
        return code, err

    async def enqueue(self, merchant: str, *more: str) -> str:
        return (await self("enqueue", "--merchant", merchant, "--payload", '{"order": 42}', *more)).strip()

    async def until(self, notification: str, status: str, run: int = 0) -> dict[str, Any]:
        """What `show` tells of it as soon as it stands so."""
        ledger = Ledger(self._variables)

        def there() -> object:
            found = ledger.rows("SELECT status, run FROM notifications WHERE id = ?", notification)
            return found and found[0]["status"] == status and found[0]["run"] >= run

        await ledger.until(there, f"{notification} to be {status}")
        return dict(await self.json("notifications", "show", notification))


async def test_why_one_merchant_gets_nothing_is_found_mended_and_sent_again(broker: Any, namespace: str) -> None:
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="1s,1s")
    do = Commands(variables)
    scripts = {"/broken": Script.parse("500"), "/mended": Script.parse("ok")}
    async with Simulator(scripts) as merchant, running(variables, whole=True):
        out = await do("merchants", "add", "shop-7", "--url", f"{merchant.url}/broken", "--ack", "body=success")
        assert re.fullmatch(
            r"shop-7 is registered: live in 2 of 2 processes\nits secret, shown only now: whsec_\S+\n", out
        )
        lost = [await do.enqueue("shop-7", "--reference", f"order-{number}") for number in (42, 43)]
        for notification in lost:
            await do.until(notification, "exhausted")
        (group,) = (await do.json("notifications", "undelivered"))["items"]
        assert (group["merchant"], group["status"], group["count"]) == ("shop-7", "exhausted", 2)
        page = await do.json("notifications", "list", "--reference", "order-42")
        assert [item["id"] for item in page["items"]] == lost[:1]
        timeline = (await do("notifications", "show", lost[0])).splitlines()
        assert timeline[0] == f"notification  {lost[0]}"
        attempts = [re.split(r"  +", line) for line in timeline if line.startswith("✗")]
        assert [row[1] for row in attempts] == ["1/2", "2/2"]
        assert all(row[-1] == "500 · “500 Internal Server Error”" for row in attempts)
        assert timeline[-1] == '{"order": 42}'

        assert await do("merchants", "set", "shop-7", "--url", f"{merchant.url}/mended") == (
            "shop-7 is changed: live in 2 of 2 processes\n"
        )
        assert await do.json(
            "notifications", "replay", "--merchant", "shop-7", "--status", "exhausted", "--dry-run"
        ) == {
            "filter": {"status": ["exhausted"], "merchant": "shop-7"},
            "total": 2,
        }
        code, err = await do.refused("notifications", "replay", "--status", "exhausted")
        assert (code, "add --yes" in err) == (2, True)
        job = await do.json("notifications", "replay", "--status", "exhausted", "--yes", "--follow")
        assert (job["state"], job["total"], job["done"], job["skipped"]) == ("done", 2, 2, 0)
        for notification in lost:
            again = await do.until(notification, "completed", run=1)
            assert [attempt["run"] for attempt in again["attempt_log"]] == [0, 0, 1]
        assert await do("notifications", "undelivered") == "everything has arrived\n"
        assert [each["id"] for each in (await do.json("notifications", "replays"))["items"]] == [job["id"]]

        rows = list(csv.DictReader(io.StringIO(await do("notifications", "export", "--csv"))))
        assert {row["id"]: row["status"] for row in rows} == dict.fromkeys(lost, "completed")
        rows = list(csv.DictReader(io.StringIO(await do("notifications", "export", "--csv", "--attempts"))))
        assert len(rows) == 6

    # the service is down
    assert (await do.json("notifications", "show", lost[0]))["status"] == "completed"
    assert await do("notifications", "show", lost[0], "--payload") == '{"order": 42}'
    assert (await do.json("merchants", "show", "shop-7"))["url"] == f"{merchant.url}/mended"
    code, err = await do.refused("notifications", "replay", lost[0])
    assert (code, "no service is running here" in err) == (1, True)
    code, err = await do.refused("notifications", "show", "ntf_nobody")
    assert (code, "the ledger knows no notification 'ntf_nobody'" in err) == (1, True)


async def test_merchants_are_switched_off_and_on_and_what_was_held_comes_back(broker: Any, namespace: str) -> None:
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="1s")
    do = Commands(variables)
    async with Simulator() as merchant, running(variables, whole=True):
        await do("merchants", "add", "shop", "--url", f"{merchant.url}/shop")
        code, err = await do.refused("merchants", "add", "shop")
        assert (code, "is in the registry already" in err) == (1, True)
        code, err = await do.refused("merchants", "set", "shop", "--url", "ftp://shop/", "--rate", "0")
        assert code == 1
        assert "url: " in err
        assert "rate: " in err
        await do("merchants", "disable", "shop", "--reason", "moved")
        assert [item["id"] for item in (await do.json("merchants", "list", "--standing", "disabled"))["items"]] == [
            "shop"
        ]
        held = await do.enqueue("shop", "--url", f"{merchant.url}/shop")
        assert (await do.until(held, "held"))["reason"] == "disabled"
        doomed = await do.enqueue("shop", "--url", f"{merchant.url}/shop")
        await do.until(doomed, "held")
        said = await do("notifications", "cancel", doomed, "--reason", "refunded")
        assert said == f"{doomed} is cancelled: live in 2 of 2 processes\n"
        await do("merchants", "enable", "shop")
        await do.until(held, "completed", run=1)
        stopped = await do.until(doomed, "stopped")
        assert (stopped["reason"], "refunded" in stopped["detail"]) == ("cancelled", True)
        test = (await do("merchants", "test", "shop")).strip()
        assert json.loads((await do.until(test, "completed"))["payload"])["type"] == "test"
        await do("merchants", "set", "shop", "--ladder", "1s,1s,1s")
        own = await do.until(await do.enqueue("shop"), "completed")
        assert own["ladder"] == ["1s", "1s", "1s"], "the merchant's ladder serves where none is named"
        assert {received.webhook_id for received in merchant.received} == {held, test, own["id"]}

        before = (await do.json("merchants", "show", "shop"))["secrets"]
        rotated = await do.json("merchants", "rotate", "shop", "--grace", "1h")
        assert (len(before), len(rotated["merchant"]["secrets"])) == (1, 2)
        shown = await do("merchants", "show", "shop")
        assert rotated["secret"] not in shown
        assert "one, one more until " in shown
        await do("merchants", "remove", "shop", "--yes")
        assert await do("merchants", "list") == "there are no such merchants\n"


@pytest.mark.long
async def test_a_block_without_a_database_holds_on_this_machine_and_says_so(broker: Any, namespace: str) -> None:
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="1s")
    do = Commands(variables)
    async with Simulator() as merchant, running(variables, whole=True) as service:
        with Ledger(variables).locked():
            code, out, err = await notifier(variables, "ctl", "block", "shop", "--reason", "INC-118")
            assert (code, out) == (0, "shop is blocked on this machine: live in 3 of 3 processes\n")
            assert "database is locked" in err
            assert err.endswith("; so shop is blocked on this machine alone, not in the registry\n")
        held = await do.enqueue("shop", "--url", f"{merchant.url}/")
        assert (await service.event("held", notification=held))["why"] == "INC-118"
        await do.until(held, "held")
        assert await do("ctl", "unblock", "shop") == "shop is no longer blocked: live in 3 of 3 processes\n"
        await do.until(held, "completed", run=1)


async def test_tokens_open_the_api_until_they_are_removed(broker: Any, namespace: str) -> None:
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="1s", NOTIFIER_API__TOKEN="t" * 40)
    do = Commands(variables)
    async with running(variables, whole=True) as service, aiohttp.ClientSession() as session:
        address = (await service.said("dashboard: ")).partition(" ")[2]

        async def status(token: str) -> int:
            headers = {"Authorization": f"Bearer {token}"}
            async with session.get(f"{address}/v1/merchants", headers=headers) as answer:
                return answer.status

        token = (await do("tokens", "add", "read", "--note", "the auditors")).strip()
        assert (await status(token), await status("ntk_wrong")) == (200, 401)
        (shown,) = (await do.json("tokens", "list"))["items"]
        assert (shown["role"], shown["note"], token in json.dumps(shown)) == ("read", "the auditors", False)
        assert await do("tokens", "remove", shown["id"]) == f"{shown['id']} is removed, and worthless within 5 s\n"
        async with asyncio.timeout(20):  # as long as the API remembers it
            while True:
                if await status(token) == 401:
                    break
                await asyncio.sleep(0.1)
        assert await do("tokens", "list") == "there are no tokens\n"
        code, err = await do.refused("tokens", "add", "owner")
        assert (code, "is no role" in err) == (1, True)


async def test_the_database_is_made_by_migrate_and_reading_commands_say_so(broker: Any, namespace: str) -> None:
    variables = environment(broker.url, namespace)
    do = Commands(variables)
    code, err = await do.refused("notifications", "list")
    assert (code, "there is no database" in err) == (1, True)
    made = await do.json("migrate")
    assert made["before"] is None
    assert (await do("migrate")).endswith(f" is up to date: {made['after']}\n")
    assert await do("notifications", "list") == "there are no such notifications\n"
    assert await do("notifications", "replays") == "nothing was replayed by filter yet\n"
