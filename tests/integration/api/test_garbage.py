"""Garbage over HTTP and among the facts of a whole service: refused or set aside, and nothing else is harmed."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
import uuid
from typing import Any

import aio_pika
import pytest
from yarl import URL

from notifier.domain.fact import Kind
from tests.integration.api.client import Client

HALF = "\ud800"  # of a surrogate pair: JSON can write it, UTF-8 cannot
STRANGE: tuple[Any, ...] = (
    None,
    True,
    -1,
    1.5,
    2**63,
    "",
    "x" * 5000,
    "\0",
    HALF,
    [],
    {},
    [HALF],
    {HALF: HALF},
    {"a": 1},
)


def fact(kind: Kind, **stated: Any) -> dict[str, Any]:
    """A fact that can be stored, but for what is stated."""
    told = {"v": 1, "id": str(uuid.uuid4()), "kind": kind, "notification": f"ntf_{secrets.token_hex(8)}", "run": 0}
    told |= {
        "at": int(time.time() * 1000),
        "merchant": "garbage",
        "payload": "e30=",
        "headers": {"merchant": "garbage"},
    }
    if kind is Kind.ATTEMPTED:
        told |= {"attempt": str(uuid.uuid4()), "number": 1, "step": 0, "tier": "1s", "decision": "complete"}
        told |= {"started": told["at"], "late_ms": 1, "duration_ms": 2, "sent_headers": {"a": "b"}}
    return told | stated


async def tell(api: Client, *bodies: bytes) -> None:
    """Put messages on the ledger queue, as anybody with a way to the broker can."""
    async with await aio_pika.connect(api.variables["NOTIFIER_AMQP_URL"]) as connection:
        channel = await connection.channel()
        for body in bodies:
            message = aio_pika.Message(body, delivery_mode=2)
            await channel.default_exchange.publish(message, f"{api.variables['NOTIFIER_NAMESPACE']}.ledger")


async def restarts(api: Client) -> dict[str, int]:
    slots = (await api.get("/v1/processes")).json["slots"]
    return {slot["slot"]: slot["restarts"] for slot in slots}


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{}", b"null", b"\xff\xfe", b"[" * 50_000, b"[{}]", b'[{"v":2}]', b"[" + b"9" * 5000 + b"]",
        json.dumps([1] * 2000).encode(),
    ],
    ids=["empty", "object", "null", "no UTF-8", "deep", "no fact", "of a future version", "long number", "numbers"],
)  # fmt: skip
async def test_a_message_that_holds_no_fact_is_set_aside_and_the_facts_after_it_are_stored(
    api: Client, body: bytes
) -> None:
    before = await restarts(api)
    good = [fact(Kind.ACCEPTED) for _ in range(2)]
    await tell(api, json.dumps([good[0]]).encode(), body, json.dumps([good[1]]).encode())
    for each in good:
        await api.until(str(each["notification"]), status="accepted")
    assert await restarts(api) == before


async def test_good_facts_among_thousands_of_bad_ones_are_stored_without_the_agent_standing_still(api: Client) -> None:
    before = await restarts(api)
    good = [fact(Kind.ACCEPTED) for _ in range(300)]
    mixed = [told for each in good for told in (each, 1, 2, 3)]
    await tell(api, json.dumps(mixed).encode())
    await api.until(str(good[-1]["notification"]), status="accepted")
    await api.until(str(good[0]["notification"]), status="accepted")
    assert await restarts(api) == before


@pytest.mark.parametrize("one_of", [5, pytest.param(1, marks=pytest.mark.long)])  # 5: each name, and each value, occurs
async def test_whatever_stands_in_a_fact_that_is_stored_can_be_shown(api: Client, one_of: int) -> None:
    """Bad facts go to poison; what is stored in spite of a strange field is shown by HTTP and by its page."""
    names = ("merchant", "headers", "tier", "reason", "detail", "who", "late_ms", "address", "sent_headers", "status")
    names += ("error", "next_tier", "content_type", "due", "step", "answer", "payload", "run")
    kinds = (Kind.ATTEMPTED, Kind.HELD)  # every field of theirs is shown
    facts = [fact(kind, **{name: value}) for kind in kinds for name in names for value in STRANGE][::one_of]
    last = fact(Kind.ACCEPTED)
    await tell(api, *(json.dumps(facts[first : first + 100]).encode() for first in range(0, len(facts), 100)))
    await tell(api, json.dumps([last]).encode())
    await api.until(str(last["notification"]), status="accepted", timeout=60)
    told = 0
    for each in facts:
        shown = await api.get(f"/v1/notifications/{each['notification']}")
        assert shown.status in (200, 404), (each, shown)  # 404: in poison
        if shown.status == 200:
            told += 1
            assert (await api.get(f"/notifications/{each['notification']}")).status == 200, each
    assert told > 100 / one_of
    for page in ("/", "/notifications", "/undelivered", "/v1/undelivered", "/v1/notifications?limit=200"):
        assert (await api.get(page)).status == 200, page


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/notifications", {"merchant": f"m{HALF}", "payload": 1}),
        ("/v1/notifications", {"merchant": "m", "payload": 1, "url": f"http://x/{HALF}"}),
        ("/v1/notifications", {"merchant": "m", "payload": 1, "url": "http://x/", "reference": HALF}),
        ("/v1/merchants", {"id": HALF}),
        ("/v1/merchants/m/block", {"reason": HALF}),
        ("/v1/replays", {"filter": {"status": HALF}, "dry_run": True}),
    ],
)
async def test_text_that_is_none_is_refused(api: Client, path: str, body: Any) -> None:
    assert (await api.post(path, body)).status == 422


async def test_a_number_beyond_all_bounds_is_refused(api: Client) -> None:
    json_type = {"Content-Type": "application/json"}
    answer = await api.post("/v1/merchants", data=b'{"id": "unbounded", "rate": 1e400}', headers=json_type)
    assert (answer.status, "number" in answer.problem) == (422, True)


async def test_a_client_that_goes_away_in_the_middle_of_its_request_is_no_fault_of_ours(api: Client) -> None:
    address = URL(api.url)
    _, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(
        b"POST /v1/notifications HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer test-token-0123456789\r\nContent-Length: 100\r\n\r\n{"
    )
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert (await api.get("/healthz")).status == 200
    assert [event for event in api.service.events if "ClientDisconnect" in event.get("traceback", "")] == []
