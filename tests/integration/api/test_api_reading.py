"""The ledger over HTTP: lists, one notification, what is undelivered, again, no more, and a merchant's own pull."""

from __future__ import annotations

import asyncio
import base64
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from notifier.simulator.server import Simulator
from tests.integration.api.client import Client


async def exhausted(api: Client, merchants: Simulator, merchant: str, count: int, **more: Any) -> list[str]:
    """So many notifications of a merchant whose endpoint never acknowledges."""
    one = {"merchant": merchant, "url": f"{merchants.url}/never", "payload": {"n": 1}, "ladder": "0s", **more}
    answer = await api.post("/v1/notifications", {"notifications": [one] * count})
    ids = [result["id"] for result in answer.json["results"]]
    await asyncio.gather(*(api.until(each, status="exhausted") for each in ids))
    return ids


async def listed(api: Client, query: str, limit: int) -> list[list[str]]:
    """The ids of a list, page by page."""
    pages: list[list[str]] = []
    after = ""
    while True:
        answer = await api.get(f"/v1/notifications?{query}&limit={limit}{after}")
        assert answer.status == 200, answer
        pages.append([each["id"] for each in answer.json["notifications"]])
        if answer.json["next"] is None:
            return pages
        after = f"&after={answer.json['next']}"


async def test_a_list_is_read_page_by_page_and_filtered(api: Client, merchants: Simulator) -> None:
    ids = await exhausted(api, merchants, "paging", 5, reference="ref-1")
    pages = await listed(api, "merchant=paging", 2)
    assert [len(page) for page in pages] == [2, 2, 1]
    assert sorted(each for page in pages for each in page) == sorted(ids)
    for query, found in (
        ("merchant=paging&status=exhausted", 5),
        ("merchant=paging&status=completed,held", 0),
        ("merchant=paging&reference=ref-1&tier=0s&error=status", 5),
        ("merchant=paging&reference=ref-2", 0),
        ("merchant=paging&since=2100-01-01T00:00:00Z", 0),
        ("merchant=paging&until=2100-01-01T00:00:00Z", 5),
    ):
        assert sum(map(len, await listed(api, query, 100))) == found, query


@pytest.mark.parametrize(
    "query", ["status=nonsense", "since=yesterday", "limit=0", "limit=x", "after=nonsense", "limit=1000"]
)
async def test_a_question_that_means_nothing_is_refused(api: Client, query: str) -> None:
    answer = await api.get(f"/v1/notifications?{query}")
    assert (answer.status, bool(answer.problem)) == (422, True)


async def test_one_is_shown_with_each_attempt_and_its_payload(api: Client, merchants: Simulator) -> None:
    accepted = await api.accepted(
        {"merchant": "shown", "url": f"{merchants.url}/never", "payload": {"é": 1}, "ladder": "0s,1s"}
    )
    shown = await api.until(accepted["id"], status="exhausted")
    assert [(each["number"], each["tier"], each["status"]) for each in shown["attempt_log"]] == [
        (1, "0s", 500),
        (2, "1s", 500),
    ]
    assert shown["payload"] == '{"é":1}'
    assert {"accepted", "exhausted"} <= {each["kind"] for each in shown["events"]}


@pytest.mark.parametrize("name", ["nobody", "a b", "x" * 300, "%C3%A9"])
async def test_what_the_ledger_does_not_know_is_not_found(api: Client, name: str) -> None:
    answer = await api.get(f"/v1/notifications/{name}")
    assert (answer.status, bool(answer.problem)) == (404, True)


async def test_one_is_sent_again(api: Client, merchants: Simulator) -> None:
    (one,) = await exhausted(api, merchants, "again", 1)
    answer = await api.post(f"/v1/notifications/{one}/replay")
    assert (answer.status, answer.json["run"]) == (202, 1)
    shown = await api.until(one, status="exhausted", run=1, attempts=2)
    assert [each["run"] for each in shown["attempt_log"]] == [0, 1]
    missing = await api.post("/v1/notifications/nobody/replay")
    assert (missing.status, "nobody" in missing.problem) == (404, True)


@pytest.fixture
async def later(api: Client) -> AsyncIterator[Callable[[], Awaitable[object]]]:
    """The tier of 2 s is paused: what waits for it still waits when a test has done what it wants with it, however long
    that takes. Called, it goes on.
    """
    assert (await api.post("/v1/tiers/2s/pause")).status == 200
    resume = functools.partial(api.post, "/v1/tiers/2s/resume")
    yield resume
    await resume()


async def test_what_waits_is_cancelled_and_what_is_finished_cannot_be(
    api: Client, merchants: Simulator, later: object
) -> None:
    accepted = await api.accepted({"merchant": "cancelled", "url": f"{merchants.url}/ok", "payload": 1, "ladder": "2s"})
    await api.until(accepted["id"])
    answer = await api.post(f"/v1/notifications/{accepted['id']}/cancel", {"reason": "a test"})
    assert (answer.status, answer.json["status"]) == (200, "stopped")
    assert answer.json["live"]["live"] == answer.json["live"]["of"] >= 4
    shown = await api.until(accepted["id"], status="stopped", reason="cancelled")
    assert "a test" in shown["detail"]
    again = await api.post(f"/v1/notifications/{accepted['id']}/cancel")
    assert (again.status, "finished" in again.problem) == (409, True)


async def test_a_filter_is_counted_then_replayed_with_progress(api: Client, merchants: Simulator) -> None:
    ids = await exhausted(api, merchants, "replayed", 5)
    wanted = {"filter": {"merchant": "replayed", "status": "exhausted"}}
    dry = await api.post("/v1/replays", {**wanted, "dry_run": True})
    assert (dry.status, dry.json) == (200, {"dry_run": True, "total": 5})
    started = await api.post("/v1/replays", wanted)
    assert (started.status, started.json["total"]) == (202, 5)
    await asyncio.gather(*(api.until(each, status="exhausted", run=1) for each in ids))

    async def done() -> bool:
        return bool((await api.get(started.headers["Location"])).json["state"] == "done")

    await api.becomes(done)
    job = (await api.get(started.headers["Location"])).json
    assert (job["total"], job["done"], job["skipped"]) == (5, 5, 0)
    assert job["id"] in [each["id"] for each in (await api.get("/v1/replays")).json["replays"]]
    ended = await api.post(f"{started.headers['Location']}/stop")
    assert (ended.status, "has ended" in ended.problem) == (409, True)


async def test_what_is_undelivered_is_grouped_by_merchant_and_why(api: Client, merchants: Simulator) -> None:
    await exhausted(api, merchants, "grouped", 3)
    (group,) = (await api.get("/v1/undelivered?merchant=grouped")).json["groups"]
    assert (group["merchant"], group["status"], group["last_error"], group["count"]) == (
        "grouped",
        "exhausted",
        "status",
        3,
    )


async def test_a_merchant_pulls_what_it_was_not_told_and_confirms_it(
    api: Client, merchants: Simulator, later: Callable[[], Awaitable[object]]
) -> None:
    ids = await exhausted(api, merchants, "pulling", 2)
    waiting = await api.accepted({"merchant": "pulling", "url": f"{merchants.url}/ok", "payload": 3, "ladder": "2s"})
    await api.until(waiting["id"])
    (foreign,) = await exhausted(api, merchants, "not-pulling", 1)
    made = await api.post("/v1/tokens", {"role": "merchant", "merchant": "pulling"})
    own = {"Authorization": f"Bearer {made.json['token']}"}
    pulled = (await api.get("/v1/pull", headers=own)).json["notifications"]
    assert {each["id"] for each in pulled} == {*ids, waiting["id"]}
    assert {base64.b64decode(each["payload_base64"]) for each in pulled} == {b'{"n":1}', b"3"}
    confirmed = await api.post("/v1/pull/confirm", {"ids": [*ids, waiting["id"], foreign, "nobody"]}, headers=own)
    assert confirmed.status == 200, confirmed
    assert (confirmed.json["confirmed"], confirmed.json["unknown"]) == ([*ids, waiting["id"]], [foreign, "nobody"])
    assert confirmed.json["still_attempted"] == []
    await asyncio.gather(*(api.until(each, status="completed") for each in (*ids, waiting["id"])))
    assert (await api.get("/v1/pull", headers=own)).json["notifications"] == []
    await later()
    other = await api.accepted({"merchant": "another", "url": f"{merchants.url}/ok", "payload": 4, "ladder": "2s"})
    await api.until(other["id"], status="completed")  # it waited in the same queue, behind the confirmed one
    received = {each.webhook_id for each in merchants.received}
    assert (waiting["id"] in received, other["id"] in received) == (False, True)
    assert (await api.get("/v1/pull?merchant=shop-7", headers=own)).status == 403
    assert (await api.get(f"/v1/notifications/{foreign}")).json["status"] == "exhausted"


async def test_an_operator_pulls_in_a_merchants_name(api: Client, merchants: Simulator) -> None:
    ids = await exhausted(api, merchants, "in-name", 1)
    pulled = (await api.get("/v1/pull?merchant=in-name")).json["notifications"]
    assert [each["id"] for each in pulled] == ids
    nobody = await api.get("/v1/pull")
    assert (nobody.status, "?merchant=" in nobody.problem) == (422, True)
