"""POST /v1/notifications on a whole service: accepted, delivered, in the ledger; or refused, saying what is wrong."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from notifier.simulator.server import Simulator
from tests.integration.api.client import Client


def body_of(merchants: Simulator, notification: str) -> bytes:
    return next(each.body for each in merchants.received if each.webhook_id == notification)


async def test_one_notification_is_accepted_delivered_and_in_the_ledger(api: Client, merchants: Simulator) -> None:
    answer = await api.post(
        "/v1/notifications",
        {"merchant": "shop-7", "url": f"{merchants.url}/ok", "payload": {"order": 42}, "reference": "order-42"},
    )
    assert answer.status == 202
    assert answer.json["status"] == "accepted"
    assert answer.headers["Location"] == f"/v1/notifications/{answer.json['id']}"
    shown = await api.until(answer.json["id"], status="completed")
    assert (shown["merchant"], shown["reference"], shown["attempts"]) == ("shop-7", "order-42", 1)
    assert shown["ladder"] == answer.json["ladder"] == ["0s", "1s", "2s"]
    assert body_of(merchants, answer.json["id"]) == b'{"order":42}'


@pytest.mark.parametrize(
    ("written", "received"),
    [
        ('{"amount": 10.00, "rate": 1e2}', b'{"amount":10.00,"rate":1e2}'),
        ('{"big": 12345678901234567890.123456789}', b'{"big":12345678901234567890.123456789}'),
        ('"\\u00e9 \\ud83d\\ude00"', '"é 😀"'.encode()),
        ('"\\ud800"', b'"\\ud800"'),
        ("[1, null, true]", b"[1,null,true]"),
        ("null", b"null"),
    ],
)
async def test_a_payload_reaches_the_merchant_as_it_was_written(
    api: Client, merchants: Simulator, written: str, received: bytes
) -> None:
    document = f'{{"merchant": "shop-7", "url": "{merchants.url}/ok", "payload": {written}}}'
    answer = await api.post("/v1/notifications", data=document, headers={"Content-Type": "application/json"})
    assert answer.status == 202, answer
    await api.until(answer.json["id"], status="completed")
    assert body_of(merchants, answer.json["id"]) == received


async def test_bytes_reach_the_merchant_with_their_content_type(api: Client, merchants: Simulator) -> None:
    payload = bytes(range(256))
    accepted = await api.accepted(
        {
            "merchant": "shop-7",
            "url": f"{merchants.url}/ok",
            "payload_base64": base64.b64encode(payload).decode(),
            "content_type": "application/cbor",
        }
    )
    await api.until(accepted["id"], status="completed")
    received = next(each for each in merchants.received if each.webhook_id == accepted["id"])
    assert (received.body, received.headers["content-type"]) == (payload, "application/cbor")


async def test_of_many_each_has_its_result_in_its_place(api: Client, merchants: Simulator) -> None:
    url = f"{merchants.url}/ok"
    many: list[Any] = [
        {"merchant": "shop-1", "url": url, "payload": 1, "id": "batch-1"},
        {"merchant": "", "url": url, "payload": 2},
        {"merchant": "shop-3", "url": url, "payload": 3, "id": "batch-1"},
        "shop-4",
        {"merchant": "shop-5", "url": url, "payload": 5, "ladder": ["1s", "2s"]},
    ]
    answer = await api.post("/v1/notifications", {"notifications": many})
    assert (answer.status, answer.json["accepted"], answer.json["refused"]) == (202, 2, 3)
    results = answer.json["results"]
    assert [result.get("id") for result in results][:4] == ["batch-1", None, None, None]
    assert results[4]["ladder"] == ["1s", "2s"]
    assert [result["problem"]["status"] for result in results[1:4]] == [422, 409, 422]
    assert "merchant" in results[1]["problem"]["detail"]
    await asyncio.gather(api.until("batch-1", status="completed"), api.until(results[4]["id"], status="completed"))


async def test_a_thousand_in_one_request_are_all_delivered(api: Client, merchants: Simulator) -> None:
    many = [{"merchant": f"shop-{n % 50}", "url": f"{merchants.url}/ok", "payload": n} for n in range(1000)]
    answer = await api.post("/v1/notifications", {"notifications": many})
    assert answer.json["accepted"] == 1000
    ids = [result["id"] for result in answer.json["results"]]
    assert len(set(ids)) == 1000

    async def delivered() -> bool:
        return set(ids) <= {each.webhook_id for each in merchants.received}

    await api.becomes(delivered, 60)
    bodies = {each.webhook_id: each.body for each in merchants.received}
    assert [bodies[each] for each in ids] == [str(n).encode() for n in range(1000)]


@pytest.mark.parametrize(
    ("stated", "status", "said"),
    [
        ({"payload": 1}, 422, "merchant: Field required"),
        ({"merchant": "shop-7"}, 422, "either payload or payload_base64"),
        ({"merchant": "shop-7", "payload": 1, "payload_base64": "aGk="}, 422, "either payload or payload_base64"),
        ({"merchant": "shop-7", "payload_base64": "?"}, 422, "not base64"),
        ({"merchant": "shop-7", "payload": 1, "ladder": "9s"}, 422, "configured tiers: 0s, 1s, 2s"),
        ({"merchant": "shop-7", "payload": 1, "url": "ftp://x"}, 422, "https://"),
        ({"merchant": "shop-7", "payload": 1, "id": "a b"}, 422, "notification id"),
        ({"merchant": "shop-7", "payload": 1, "extra": 1}, 422, "extra"),
        ({"merchant": "shop-7", "payload": "x" * 300_000}, 422, "262,144"),
        ({"notifications": []}, 422, "1 to 1,000"),
        ({"notifications": [{}] * 1001}, 422, "1 to 1,000"),
        ({"notifications": [{}], "more": 1}, 422, "nothing else"),
        ({"notifications": [{}]}, 422, "none of 1 can be accepted"),
        ([], 422, "an object"),
        ("text", 422, "an object"),
    ],
)
async def test_what_is_wrong_is_refused_with_a_sentence(api: Client, stated: Any, status: int, said: str) -> None:
    answer = await api.post("/v1/notifications", stated)
    assert (answer.status, said in answer.problem) == (status, True), answer.problem


@pytest.mark.parametrize(
    ("body", "content_type", "status", "said"),
    [
        (b"{", "application/json", 400, "line 1 column 2"),
        (b"\xff", "application/json", 400, "byte 1"),
        (b'{"merchant": NaN}', "application/json", 400, "NaN"),
        (b"[" * 100_000, "application/json", 400, "nested too deeply"),
        (b'{"merchant": ' + b"9" * 5000 + b"}", "application/json", 400, "digits"),
        (b"merchant=shop-7", "application/x-www-form-urlencoded", 415, "Content-Type: application/json"),
    ],
)
async def test_what_is_no_json_is_told_where_it_is_none(
    api: Client, body: bytes, content_type: str, status: int, said: str
) -> None:
    answer = await api.post("/v1/notifications", data=body, headers={"Content-Type": content_type})
    assert (answer.status, said in answer.problem) == (status, True), answer.problem


async def test_a_payload_with_numbers_nested_too_deeply_is_refused(api: Client) -> None:
    body = b'{"merchant": "shop-7", "payload": ' + b"[" * 800 + b"1.10" + b"]" * 800 + b"}"
    answer = await api.post("/v1/notifications", data=body, headers={"Content-Type": "application/json"})
    assert answer.status in (400, 422)
    assert "deeply" in answer.problem


async def test_a_registered_merchants_ladder_serves_unless_one_is_stated(api: Client, merchants: Simulator) -> None:
    added = await api.post("/v1/merchants", {"id": "ladder-shop", "url": f"{merchants.url}/ok", "ladder": "2s,1s"})
    assert added.status == 201, added
    mine = await api.accepted({"merchant": "ladder-shop", "payload": 1})
    assert (mine["ladder"], "warnings" in mine) == (["2s", "1s"], False)
    assert (await api.accepted({"merchant": "ladder-shop", "payload": 1, "ladder": "0s"}))["ladder"] == ["0s"]


async def test_a_notification_that_nobody_can_be_sent_is_accepted_with_a_warning(api: Client) -> None:
    accepted = await api.accepted({"merchant": "unheard-of", "payload": 1, "ladder": "0s"})
    assert "no registered url" in accepted["warnings"][0]
    assert (await api.until(accepted["id"], status="held"))["merchant"] == "unheard-of"


async def test_the_trace_context_of_the_request_reaches_the_merchant(api: Client, merchants: Simulator) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    accepted = await api.accepted(
        {"merchant": "shop-7", "url": f"{merchants.url}/ok", "payload": 1}, headers={"traceparent": parent}
    )
    await api.until(accepted["id"], status="completed")
    received = next(each for each in merchants.received if each.webhook_id == accepted["id"])
    assert received.headers["traceparent"] == parent
