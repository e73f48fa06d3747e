"""Article 004's three refresh strategies in a running service: what was written behind the agent's back is found.

The pushed one is in test_ledger_http.py, with article 000. Here nobody pushes: a row is changed in the database itself,
as a restored backup or another program would.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from notifier.simulator.server import Simulator
from tests.acceptance.service import environment, running
from tests.integration.api.client import Client


def hasty(directory: Path, check: float, compare: float) -> str:
    """A PYTHONPATH with which the agent checks and compares so often, seconds. Every Python of the service loads what
    lies there as it starts; only the agent gets other intervals.
    """
    text = f"""
import sys
if "notifier.processes" in sys.orig_argv and "agent" in sys.orig_argv:
    import notifier.agent.registrar as registrar
    registrar.CHECK, registrar.COMPARE = {check}, {compare}
"""
    (directory / "sitecustomize.py").write_text(text)
    return str(directory)


def written_behind_its_back(variables: Mapping[str, str], merchant: str, url: str, *, told: bool) -> None:
    """Another url in the merchant's row. told: with a new version, as everybody who writes there should."""
    file = Path(variables["NOTIFIER_STATE_DIR"]) / "ledger.db"
    with contextlib.closing(sqlite3.connect(file, timeout=10)) as connection, connection:
        ((kept,),) = connection.execute("SELECT body FROM merchants WHERE id = ?", (merchant,))
        body = json.loads(kept) | {"url": url}
        changed = connection.execute(
            "UPDATE merchants SET body = ?, url = ? WHERE id = ?", (json.dumps(body), url, merchant)
        )
        assert changed.rowcount == 1
        if told:
            connection.execute("UPDATE registry_version SET version = version + 1")
            connection.execute(
                "UPDATE merchants SET version = (SELECT version FROM registry_version) WHERE id = ?", (merchant,)
            )


@pytest.mark.parametrize(
    ("told", "compare", "repaired"),
    [
        pytest.param(True, 3600, False, id="checked by version"),
        pytest.param(False, 0.2, True, id="forced, everything", marks=pytest.mark.long),
    ],
)
async def test_article_004_what_was_changed_without_a_push_is_in_force_in_every_tier_after_the_next_look(
    broker: Any, namespace: str, tmp_path: Path, told: bool, compare: float, repaired: bool
) -> None:
    variables = environment(
        broker.url, namespace, NOTIFIER_LADDER="0s,1s", PYTHONPATH=hasty(tmp_path, check=0.2, compare=compare)
    )
    async with (
        Simulator() as merchants,
        running(variables, whole=True) as service,
        Client(service, variables, None) as api,
    ):
        assert (await api.post("/v1/merchants", {"id": "shop", "url": f"{merchants.url}/0"})).status == 201

        async def path_of(ladder: str) -> str:
            accepted = await api.accepted({"merchant": "shop", "payload": 1, "ladder": ladder})
            seen = await merchants.wait_for(lambda seen: any(each.webhook_id == accepted["id"] for each in seen))
            return next(each.path for each in seen if each.webhook_id == accepted["id"])

        assert [await path_of(ladder) for ladder in ("0s", "1s")] == ["/0", "/0"]
        for turn in (1, 2):  # the second is surely not the comparison that follows every start
            written_behind_its_back(variables, "shop", f"{merchants.url}/{turn}", told=told)

            async def found(path: str = f"/{turn}") -> bool:
                return await path_of("0s") == path

            await api.becomes(found)
            assert await path_of("1s") == f"/{turn}"
        said = [event for event in service.events if event["event"] == "registry.repaired"]
        assert len(said) == (2 if repaired else 0)


@pytest.mark.long
async def test_without_a_look_what_was_changed_behind_its_back_stays_unknown(
    broker: Any, namespace: str, tmp_path: Path
) -> None:
    """So that the tests above show the looks, and nothing else that might read the database."""
    variables = environment(
        broker.url, namespace, NOTIFIER_LADDER="0s", PYTHONPATH=hasty(tmp_path, check=3600, compare=3600)
    )
    async with (
        Simulator() as merchants,
        running(variables, whole=True) as service,
        Client(service, variables, None) as api,
    ):
        assert (await api.post("/v1/merchants", {"id": "shop", "url": f"{merchants.url}/0"})).status == 201
        written_behind_its_back(variables, "shop", f"{merchants.url}/1", told=True)
        one = await api.accepted({"merchant": "shop", "payload": 1, "id": f"unpushed-{secrets.token_hex(4)}"})
        await api.until(one["id"], status="completed")
        assert [each.path for each in merchants.received] == ["/0"]
        assert (await api.ask("PATCH", "/v1/merchants/shop", {"rate": 5})).status == 200  # a push brings all of it
        two = await api.accepted({"merchant": "shop", "payload": 1})
        await api.until(two["id"], status="completed")
        assert [each.path for each in merchants.received] == ["/0", "/1"]
