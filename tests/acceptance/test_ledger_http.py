"""Hold, release, replay, cancel and change over HTTP on a whole service, judged by what reaches the merchants."""

from __future__ import annotations

import contextlib
import functools
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

import pytest
import standardwebhooks

from notifier.broker.cleanup import delete_namespace
from notifier.simulator.received import Received
from notifier.simulator.script import Script
from notifier.simulator.server import Simulator
from tests.acceptance.control import handled
from tests.acceptance.service import ROOMY, SECRET, environment, running
from tests.acceptance.truth import HttpProducer
from tests.conftest import TIERS, TestBroker
from tests.integration.api.client import Client

#: Processes that call merchants or answer for them: three tiers and the API.
EVERYBODY = 4


@pytest.fixture(scope="module")
async def merchants() -> AsyncIterator[Simulator]:
    scripts = {
        "/slow": Script.parse("slow:3"),
        "/gone": Script.parse("410"),
        "/once": Script.parse("500,ok"),
        "/never": Script.parse("500"),
    }
    async with Simulator(scripts) as simulator:
        yield simulator


@pytest.fixture(scope="module")
async def api(broker: TestBroker) -> AsyncIterator[Client]:
    """A whole service with tiers 0s, 1s and 2s, and a client of it without a token."""
    namespace = f"test-{secrets.token_hex(4)}"
    variables = environment(
        broker.url,
        namespace,
        NOTIFIER_LADDER="0s,1s,2s",
        NOTIFIER_RELEASE_RATE="1000",
        NOTIFIER_LOG__LEVEL="warning",
        **ROOMY,  # a thousand at once to one merchant, and one that always fails: nothing of it is held for that here
    )
    async with running(variables, whole=True) as service, Client(service, variables, None) as client:
        yield client
    await delete_namespace(broker.url, namespace, TIERS)


async def sent(api: Client, merchant: str, count: int, **stated: Any) -> list[str]:
    """So many handed in at once; their ids."""
    one = {"merchant": merchant, "payload": {"order": 42}, **stated}
    answer = await api.post("/v1/notifications", {"notifications": [one] * count})
    assert (answer.status, answer.json["accepted"]) == (202, count), answer
    return [each["id"] for each in answer.json["results"]]


async def done(api: Client, path: str, body: Any = None, method: str = "POST") -> dict[str, Any]:
    """A change that is answered with success."""
    answer = await api.ask(method, path, body)
    assert answer.status < 300, answer
    return dict(answer.json)


async def everywhere(api: Client, path: str, body: Any = None, method: str = "POST") -> dict[str, Any]:
    """A change of a merchant that is live in every process by the time of its answer."""
    answer = await done(api, path, body, method)
    live = answer["live"]
    assert (live["live"], live["of"], live["missing"]) == (EVERYBODY, EVERYBODY, [])
    return answer


async def undelivered(api: Client, merchant: str) -> list[tuple[str, str | None, int]]:
    """Status, reason and number of each group of what this merchant did not get."""
    groups = (await api.get(f"/v1/undelivered?merchant={merchant}")).json["groups"]
    return [(group["status"], group["reason"], group["count"]) for group in groups]


def of(merchants: Simulator, ids: Sequence[str]) -> Counter[tuple[str, int]]:
    """(webhook-id, attempt) of every request about these notifications."""
    wanted = set(ids)
    about = [each for each in merchants.received if each.webhook_id in wanted]
    return Counter((str(each.webhook_id), each.attempt or 0) for each in about)


def calls(merchants: Simulator, path: str) -> list[Received]:
    """Every request at this path."""
    return [each for each in merchants.received if each.path == path]


def once_each(ids: Sequence[str], attempt: int = 1) -> Counter[tuple[str, int]]:
    return Counter((each, attempt) for each in ids)


def signed_with(received: Received, secret: str) -> bool:
    """Judged by the reference implementation."""
    try:
        standardwebhooks.Webhook(secret).verify(received.body, dict(received.headers))
    except standardwebhooks.WebhookVerificationError:
        return False
    return True


async def test_a_block_over_http_while_a_thousand_are_due_stops_all_callbacks_and_loses_and_doubles_none(
    api: Client, merchants: Simulator
) -> None:
    await everywhere(api, "/v1/merchants", {"id": "due", "url": f"{merchants.url}/slow"})
    await done(api, "/v1/tiers/1s/pause", {"reason": "so that all are due at once"})
    ids = [each for _ in range(3) for each in await sent(api, "due", 400, ladder="1s,2s")]

    async def all_due() -> bool:
        shown = (await api.get("/v1/tiers")).json
        return next(tier["due"] for tier in shown["tiers"] if tier["tier"] == "1s") == len(ids)

    await api.becomes(all_due)
    await done(api, "/v1/tiers/1s/resume")
    await merchants.wait_for(lambda seen: len(of(merchants, ids)) >= 50)
    blocked = await everywhere(api, "/v1/merchants/due/block", {"reason": "charged twice"})
    assert (blocked["merchant"]["standing"], blocked["merchant"]["why"]) == ("blocked", "charged twice")
    await handled(merchants)
    came = of(merchants, ids)
    waiting = len(ids) - came.total()
    assert waiting >= 1000

    async def the_others_held() -> bool:
        return await undelivered(api, "due") == [("held", "blocked", waiting)]

    await api.becomes(the_others_held)
    await handled(merchants)
    assert of(merchants, ids) == came, "no callback started after the answer"
    await everywhere(api, "/v1/merchants/due", {"url": f"{merchants.url}/quick"}, "PATCH")
    await everywhere(api, "/v1/merchants/due/unblock")
    await merchants.wait_for(lambda seen: of(merchants, ids).total() >= len(ids), timeout=30)

    async def nothing_left() -> bool:
        finished = (await api.get("/v1/notifications?merchant=due&status=accepted,attempted,held&limit=1")).json
        return finished["notifications"] == [] and await undelivered(api, "due") == []

    await api.becomes(nothing_left)
    assert of(merchants, ids) == once_each(ids), "each once, and no step used for having been held"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("rounds", [4, pytest.param(100, marks=pytest.mark.long)])
async def test_no_callback_starts_after_any_answer_however_often_a_merchant_is_switched_off_under_load(
    api: Client, merchants: Simulator, rounds: int
) -> None:
    """Judged by the receiver; and what was held between is delivered once."""
    await everywhere(api, "/v1/merchants", {"id": f"switched-{rounds}", "url": f"{merchants.url}/switched"})
    path = f"/v1/merchants/switched-{rounds}"
    producer = HttpProducer(
        api.url, {f"switched-{rounds}": f"{merchants.url}/switched", "steady": f"{merchants.url}/steady"}
    )
    switched = functools.partial(calls, merchants, "/switched")
    async with producer.load(200):
        for turn in range(rounds):
            before = len(switched())
            await merchants.wait_for(lambda _, least=before: len(switched()) >= least + 20, timeout=30)
            off, on = ("block", "unblock") if turn % 2 else ("disable", "enable")
            await everywhere(api, f"{path}/{off}")
            await handled(merchants)
            came, others = len(switched()), len(calls(merchants, "/steady"))
            await merchants.wait_for(lambda _, least=others: len(calls(merchants, "/steady")) >= least + 40, timeout=30)
            assert len(switched()) == came, f"round {turn}"
            await everywhere(api, f"{path}/{on}")
    accepted = sorted(producer.accepted)
    await merchants.wait_for(lambda _: of(merchants, accepted).total() >= len(accepted), timeout=60)
    await handled(merchants)
    assert of(merchants, accepted) == once_each(accepted)


async def test_a_block_with_an_end_ends_by_itself_and_what_it_held_is_delivered(
    api: Client, merchants: Simulator
) -> None:
    blocked = await everywhere(api, "/v1/merchants/for-a-while/block", {"seconds": 6})
    (held,) = await sent(api, "for-a-while", 1, url=f"{merchants.url}/for-a-while")
    await api.until(held, status="held", reason="blocked")
    await merchants.wait_for(lambda _: calls(merchants, "/for-a-while"), timeout=30)
    (received,) = calls(merchants, "/for-a-while")
    assert received.ts >= datetime.fromisoformat(blocked["merchant"]["until"]).timestamp() * 1000
    assert (received.webhook_id, received.attempt) == (held, 1)


async def test_what_a_stranger_is_sent_is_held_and_delivered_as_soon_as_it_is_registered(
    api: Client, merchants: Simulator
) -> None:
    ids = await sent(api, "stranger", 20)

    async def all_held() -> bool:
        return await undelivered(api, "stranger") == [("held", "unknown-merchant", 20)]

    await api.becomes(all_held)
    assert of(merchants, ids) == Counter()
    added = await everywhere(api, "/v1/merchants", {"id": "stranger", "url": f"{merchants.url}/stranger"})
    await merchants.wait_for(lambda seen: len(of(merchants, ids)) == 20)
    for each in ids:
        assert (await api.until(each, status="completed"))["attempts"] == 1
    assert of(merchants, ids) == once_each(ids)
    assert all(signed_with(each, added["secret"]) for each in merchants.received if each.path == "/stranger")


async def test_a_registered_url_that_is_gone_disables_its_merchant_and_enabling_releases_what_came_later(
    api: Client, merchants: Simulator
) -> None:
    await everywhere(api, "/v1/merchants", {"id": "leaver", "url": f"{merchants.url}/gone"})
    (first,) = await sent(api, "leaver", 1)
    await api.until(first, status="stopped")

    async def disabled() -> bool:
        return bool((await api.get("/v1/merchants/leaver")).json["standing"] == "disabled")

    await api.becomes(disabled)
    shown = (await api.get("/v1/merchants/leaver")).json
    assert "410" in shown["why"]
    # the ledger may say so a moment before every tier process does; they hear of changes in order, and all of this one
    await everywhere(api, "/v1/merchants/leaver", {"concurrency": 9}, "PATCH")
    later = await sent(api, "leaver", 10)
    for each in later:
        await api.until(each, status="held", reason="disabled")
    await everywhere(api, "/v1/merchants/leaver", {"url": f"{merchants.url}/moved"}, "PATCH")
    await handled(merchants)
    assert of(merchants, [first, *later]) == once_each([first]), "a new url alone enables nobody"
    await everywhere(api, "/v1/merchants/leaver/enable")
    await merchants.wait_for(lambda seen: len(of(merchants, later)) == 10)
    for each in later:
        await api.until(each, status="completed")
    assert of(merchants, [first, *later]) == once_each([first, *later])
    assert (await api.get(f"/v1/notifications/{first}")).json["status"] == "stopped"


async def test_a_replay_by_filter_is_counted_first_and_then_sends_exactly_those_again(
    api: Client, merchants: Simulator
) -> None:
    ids = await sent(api, "once-more", 40, url=f"{merchants.url}/once", ladder="0s")
    others = await sent(api, "not-these", 10, url=f"{merchants.url}/once", ladder="0s")
    for each in (*ids, *others):
        await api.until(each, status="exhausted")
    wanted = {"merchant": "once-more", "status": "exhausted"}
    counted = await api.post("/v1/replays", {"filter": wanted, "dry_run": True})
    assert (counted.status, counted.json) == (200, {"dry_run": True, "total": 40})
    await handled(merchants)
    assert of(merchants, ids) == once_each(ids), "a dry run sends nothing"
    started = await done(api, "/v1/replays", {"filter": wanted})
    assert started["total"] == 40
    path = f"/v1/replays/{started['replay']}"

    async def over() -> bool:
        return bool((await api.get(path)).json["state"] == "done")

    await api.becomes(over)
    progress = (await api.get(path)).json
    assert (progress["total"], progress["done"], progress["skipped"]) == (40, 40, 0)
    for each in ids:
        await api.until(each, status="completed", run=1)
    assert of(merchants, ids) == once_each(ids) + once_each(ids), "each once more, from the first attempt on"
    assert of(merchants, others) == once_each(others)
    assert (await api.post("/v1/replays", {"filter": wanted, "dry_run": True})).json["total"] == 0


@contextlib.asynccontextmanager
async def paused(api: Client, *tiers: str) -> AsyncIterator[None]:
    """For the length of the block, so that what waits there is called after it, however long it takes."""
    for tier in tiers:
        await done(api, f"/v1/tiers/{tier}/pause")
    try:
        yield
    finally:
        for tier in tiers:
            await done(api, f"/v1/tiers/{tier}/resume")


@pytest.mark.parametrize(("ladder", "made"), [("2s", 0), ("0s,2s", 1)])
async def test_no_attempt_follows_the_cancel_of_what_waits_in_the_broker(
    api: Client, merchants: Simulator, ladder: str, made: int
) -> None:
    async with paused(api, "2s"):
        given_up, other = await sent(api, "refunded", 2, url=f"{merchants.url}/never", ladder=ladder)
        for each in (given_up, other):
            await api.until(each, attempts=made)
        cancelled = await everywhere(api, f"/v1/notifications/{given_up}/cancel", {"reason": "refunded"})
    assert cancelled["status"] == "stopped"
    await api.until(other, status="exhausted")  # it waited beside the other one, behind it in the same queue
    shown = await api.until(given_up, status="stopped")
    assert (shown["attempts"], shown["reason"]) == (made, "cancelled")
    await handled(merchants)
    assert of(merchants, [given_up]).total() == made
    assert of(merchants, [other]).total() == made + 1
    again = await api.post(f"/v1/notifications/{given_up}/cancel")
    assert (again.status, "finished" in again.problem) == (409, True)


async def test_article_000_a_change_over_http_is_in_force_in_every_process_and_the_answer_says_in_how_many(
    api: Client, merchants: Simulator
) -> None:
    """What has been called with the old address and secret is called with the new ones from the answer on."""
    added = await everywhere(api, "/v1/merchants", {"id": "mover", "url": f"{merchants.url}/old"})
    ladders = ("0s", "1s", "2s")
    warm = [each for ladder in ladders for each in await sent(api, "mover", 5, ladder=ladder)]
    for each in warm:
        await api.until(each, status="completed")
    assert {each.path for each in merchants.received if each.webhook_id in warm} == {"/old"}
    async with paused(api, "1s", "2s"):
        waiting = [each for ladder in ("1s", "2s") for each in await sent(api, "mover", 50, ladder=ladder)]
        await everywhere(api, "/v1/merchants/mover", {"url": f"{merchants.url}/new"}, "PATCH")
        rotated = await everywhere(api, "/v1/merchants/mover/rotate", {"grace": 0})
    ids = [*waiting, *await sent(api, "mover", 50, ladder="0s")]
    await merchants.wait_for(lambda seen: len(of(merchants, ids)) == 150)
    received = [each for each in merchants.received if each.webhook_id in ids]
    assert {each.path for each in received} == {"/new"}
    assert all(signed_with(each, rotated["secret"]) for each in received)
    assert not any(signed_with(each, secret) for each in received for secret in (added["secret"], SECRET))

    async def all_say_so() -> bool:
        slots = (await api.get("/v1/processes")).json["slots"]
        return {slot["statistics"]["registry"]["version"] for slot in slots} == {rotated["merchant"]["version"]}

    await api.becomes(all_say_so)
