"""Operating over HTTP: tiers, processes, merchants, the stream of attempts, and the figures for Prometheus."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from notifier.simulator.server import Simulator
from tests.integration.api.client import TOKEN, Client


async def tier_of(api: Client, name: str) -> dict[str, Any]:
    shown = (await api.get("/v1/tiers")).json
    return next(tier for tier in shown["tiers"] if tier["tier"] == name)


async def until_tier(api: Client, name: str, **wanted: Any) -> dict[str, Any]:
    """The tier, once it looks so: what it says of itself comes by heartbeat."""

    async def looks_so() -> bool:
        tier = await tier_of(api, name)
        return all(tier[field] == value for field, value in wanted.items())

    await api.becomes(looks_so)
    return await tier_of(api, name)


async def test_the_ladder_is_shown_live(api: Client) -> None:
    shown = (await api.get("/v1/tiers")).json
    assert [tier["tier"] for tier in shown["tiers"]] == ["0s", "1s", "2s"]
    assert {slot["slot"] for slot in shown["slots"]} == {"tier:0s", "tier:1s", "tier:2s", "agent", "api"}
    assert shown["problems"] == []
    assert all(tier[field] is not None for tier in shown["tiers"] for field in ("waiting", "due", "in_flight"))
    processes = (await api.get("/v1/processes")).json
    statistics = next(slot["statistics"] for slot in processes["slots"] if slot["slot"] == "api")
    assert (statistics["url"], statistics["link"], statistics["database"]) == (api.url, "up", "up")
    assert statistics["registry"]["version"] is not None


async def test_a_tier_is_paused_with_a_reason_and_resumed(api: Client, merchants: Simulator) -> None:
    paused = await api.post("/v1/tiers/1s/pause", {"reason": "a test", "seconds": 600})
    assert (paused.status, paused.json["live"]) == (200, {"live": 1, "of": 1, "missing": []})
    tier = await tier_of(api, "1s")
    assert (tier["paused"], tier["paused_by"], "a test" in tier["paused_why"]) == (True, "the settings' token", True)
    assert tier["paused_until"] is not None
    one = {"merchant": "shop-7", "url": f"{merchants.url}/ok", "payload": 1, "ladder": "1s"}
    accepted = await api.accepted(one)
    await until_tier(api, "1s", due=1)
    resumed = await api.post("/v1/tiers/1s/resume")
    assert (resumed.status, resumed.json["paused"], resumed.json["live"]["live"]) == (200, False, 1)
    await api.until(accepted["id"], status="completed")
    assert (await tier_of(api, "1s"))["paused_by"] is None


async def test_resuming_one_tier_names_the_pause_of_all(api: Client) -> None:
    everything = await api.post("/v1/tiers/all/pause")
    assert everything.json["live"] == {"live": 3, "of": 3, "missing": []}
    one = await api.post("/v1/tiers/2s/resume")
    assert (one.json["paused"], one.json["paused_by"]) == (True, ["all"])
    assert (await api.post("/v1/tiers/all/resume")).json["paused"] is False
    await until_tier(api, "2s", paused=False)


async def test_a_tier_is_drained_and_started_again(api: Client) -> None:
    drained = await api.post("/v1/tiers/2s/drain")
    assert drained.json["slots"] == [{"slot": "tier:2s", "result": "drained"}]
    assert (await tier_of(api, "2s"))["slots"][0]["state"] == "stopped"
    resumed = await api.post("/v1/tiers/2s/resume")
    assert [slot["result"] for slot in resumed.json["started"]] == ["restarted"]
    assert (await tier_of(api, "2s"))["slots"][0]["state"] == "ready"


async def test_a_tier_that_there_is_not_is_not_found(api: Client) -> None:
    for name in ("9s", "nonsense", "agent", "api"):
        answer = await api.post(f"/v1/tiers/{name}/pause")
        assert (answer.status, bool(answer.problem)) == (404, True)


async def test_a_merchant_is_registered_changed_switched_off_and_removed(api: Client, merchants: Simulator) -> None:
    added = await api.post("/v1/merchants", {"id": "a/b c", "url": f"{merchants.url}/ok", "ladder": "0s"})
    assert (added.status, added.json["secret"][:6]) == (201, "whsec_")
    live = added.json["live"]
    assert (live["live"], live["of"], live["missing"]) == (4, 4, [])
    path = "/v1/merchants/a%2Fb%20c"
    shown = (await api.get(path)).json
    assert (shown["url"], shown["standing"], "secret" in shown) == (f"{merchants.url}/ok", "enabled", False)
    assert (await api.ask("PATCH", path, {"ack": "body=success"})).json["merchant"]["ack"] == "body=success"
    assert (await api.ask("PATCH", path, {"ack": None})).json["merchant"]["ack"] is None
    rotated = (await api.post(f"{path}/rotate", {"grace": 60})).json
    assert rotated["secret"] != added.json["secret"]
    blocked = (await api.post(f"{path}/block", {"reason": "a test", "seconds": 600})).json["merchant"]
    assert (blocked["standing"], "a test" in blocked["why"], blocked["until"] is None) == ("blocked", True, False)
    held = await api.accepted({"merchant": "a/b c", "payload": 1})
    await api.until(held["id"], status="held", reason="blocked")
    assert (await api.post(f"{path}/unblock")).json["merchant"]["standing"] == "enabled"
    await api.until(held["id"], status="completed")
    assert (await api.post(f"{path}/disable")).json["merchant"]["standing"] == "disabled"
    assert "a/b c" in [each["id"] for each in (await api.get("/v1/merchants?standing=disabled")).json["merchants"]]
    assert (await api.post(f"{path}/enable")).json["merchant"]["standing"] == "enabled"
    tested = await api.post(f"{path}/test")
    assert tested.status == 202
    await api.until(tested.json["id"], status="completed")
    assert (await api.ask("DELETE", path)).status == 200
    assert (await api.get(path)).status == 404
    assert (await api.post("/v1/merchants", {"url": "https://x.example"})).status == 422
    wrong = await api.post("/v1/merchants", {"id": "wrong", "url": "ftp://x", "ladder": "9s"})
    assert (wrong.status, "url" in wrong.problem, "ladder" in wrong.problem) == (422, True, True)


async def test_a_merchant_without_its_id_is_refused_in_the_words_of_the_request(api: Client) -> None:
    for stated in ({"merchant": "shop-7"}, {"id": 7}):
        refused = await api.post("/v1/merchants", stated)
        assert (refused.status, "`id` is missing" in refused.problem) == (422, True)


@pytest.mark.parametrize("merchant", ["..", "x/../y", "./x"])
async def test_a_merchant_that_no_path_can_name_is_refused_and_told_why(api: Client, merchant: str) -> None:
    for path, stated in (
        ("/v1/merchants", {"id": merchant, "url": "https://shop.example/"}),
        ("/v1/notifications", {"merchant": merchant, "payload": 1}),
    ):
        refused = await api.post(path, stated)
        assert (refused.status, "no HTTP path can name such a merchant" in refused.problem) == (422, True)


async def test_merchants_are_listed_page_by_page(api: Client) -> None:
    for number in range(5):
        assert (await api.post("/v1/merchants", {"id": f"page-{number}"})).status == 201
    first = (await api.get("/v1/merchants?text=page-&limit=3")).json
    second = (await api.get(f"/v1/merchants?text=page-&limit=3&after={first['next']}")).json
    ids = [each["id"] for page in (first, second) for each in page["merchants"]]
    assert (ids, second["next"]) == ([f"page-{number}" for number in range(5)], None)


async def test_attempts_are_streamed_as_they_reach_the_ledger(api: Client, merchants: Simulator) -> None:
    stream = f"{api.url}/v1/stream?merchant=streamed"
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session,
        session.get(stream) as answer,
    ):
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        events = events_of(answer)
        one = {"url": f"{merchants.url}/ok", "payload": 1, "ladder": "0s"}
        await api.accepted({"merchant": "not-streamed", **one})
        accepted = await api.accepted({"merchant": "streamed", **one})
        async with asyncio.timeout(20):
            name, attempt = await anext(events)
    assert (name, attempt["notification"], attempt["number"]) == ("attempt", accepted["id"], 1)


async def events_of(answer: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, Any]]:
    """Name and value of each server-sent event."""
    name = ""
    async for raw in answer.content:
        field, _, value = raw.decode().rstrip("\n").partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield name, json.loads(value)


async def test_the_figures_for_prometheus_can_be_read_and_count(api: Client, merchants: Simulator) -> None:
    accepted = await api.accepted({"merchant": "counted", "url": f"{merchants.url}/ok", "payload": 1, "ladder": "0s"})
    await api.until(accepted["id"], status="completed")

    text = ""

    def sample(name: str, **labels: str) -> float:
        samples = [each for family in text_string_to_metric_families(text) for each in family.samples]
        return next((each.value for each in samples if each.name == name and labels.items() <= each.labels.items()), -1)

    async def counted() -> bool:
        """And the depths of queues are there, which take a broker that answers."""
        nonlocal text
        text = (await api.get("/metrics")).body.decode()
        waiting = sample("notifier_queue_messages", tier="2s", queue="waiting")
        return waiting >= 0 and sample("notifier_attempts_total", slot="tier:0s", outcome="completed") >= 1

    await api.becomes(counted)
    assert sample("notifier_broker_up") == sample("notifier_database_up") == 1
    assert sample("notifier_process_state", slot="agent", state="ready") == 1
    assert sample("notifier_api_accepted_total") >= 1
    count = sample("notifier_lateness_seconds_count", slot="tier:0s")
    assert count == sample("notifier_lateness_seconds_bucket", slot="tier:0s", le="+Inf") >= 1
