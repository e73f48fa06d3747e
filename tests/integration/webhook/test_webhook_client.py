"""The callback with merchants that speak proper HTTP: what is sent, how answers are judged, which connections serve."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import time
from email.utils import formatdate

import pytest
import standardwebhooks
from raw_merchant import SECRET, a_merchant, a_notification, a_webhook, raw_merchant, request, saying

from notifier import __version__
from notifier.domain.acknowledgement import AckRule
from notifier.domain.outcome import ErrorClass
from notifier.domain.signature import Secret
from notifier.sections import Egress
from notifier.simulator import Script, Simulator
from notifier.webhook.client import Webhook
from notifier.webhook.wire import Wire

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nsuccess"


async def test_what_arrives_is_verified_by_an_independent_implementation() -> None:
    old, new = Secret(b"o" * 24), Secret(b"n" * 64)
    async with Simulator() as simulator, a_webhook() as webhook:
        outcome = await webhook(a_notification(simulator.url + "/shop"), a_merchant(secrets=(new, old)))
        [received] = simulator.received
        for secret in (old, new):
            verified = standardwebhooks.Webhook(secret.text).verify(received.body, dict(received.headers))
            assert verified == {"order": 42}
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            standardwebhooks.Webhook(SECRET.text).verify(received.body, dict(received.headers))
    assert outcome.acknowledged
    assert (outcome.status, outcome.error, outcome.detail) == (200, None, "answered 200")


async def test_the_payload_arrives_byte_for_byte_with_our_headers_and_no_others() -> None:
    payload = bytes(range(256)) * 3
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with Simulator(secrets=[SECRET]) as simulator, a_webhook(clock=lambda: time.time() - 60.9) as webhook:
        before = int(time.time() - 60.9)
        notification = a_notification(
            simulator.url + "/shop?x=1",
            payload=payload,
            content_type="application/x-protobuf",
            attempt=4,
            traceparent=traceparent,
        )
        outcome = await webhook(notification, a_merchant())
        [received] = simulator.received
        assert received.body == payload
        assert received.headers.pop("webhook-signature").startswith("v1,")  # type: ignore[attr-defined]
        stamp = int(received.headers.pop("webhook-timestamp"))  # type: ignore[attr-defined]
        assert before <= stamp <= int(time.time() - 60.9)
        assert received.headers == {
            "host": f"127.0.0.1:{simulator.port}",
            "content-type": "application/x-protobuf",
            "content-length": "768",
            "user-agent": f"notifier/{__version__}",
            "webhook-id": "ntf_1",
            "notifier-attempt": "4",
            "traceparent": traceparent,
            "accept": "*/*",
            "accept-encoding": "identity",
        }
        assert outcome.address == f"127.0.0.1:{simulator.port}"
        assert dict(outcome.sent_headers) == {
            "Content-Type": "application/x-protobuf",
            "User-Agent": f"notifier/{__version__}",
            "webhook-id": "ntf_1",
            "webhook-timestamp": str(stamp),
            "notifier-attempt": "4",
            "traceparent": traceparent,
        }


@pytest.mark.parametrize("size", [0, 1, 262_144, 2_000_000])
async def test_a_payload_of_any_size_arrives_whole(size: int) -> None:
    payload = b"\xff" * size
    async with Simulator(secrets=[SECRET]) as simulator, a_webhook() as webhook:
        assert (await webhook(a_notification(simulator.url, payload=payload), a_merchant())).acknowledged
        [received] = simulator.received
        assert hashlib.sha256(received.body).digest() == hashlib.sha256(payload).digest()
        assert received.headers["content-length"] == str(size)


async def test_the_notifications_own_url_comes_before_the_registered_one() -> None:
    async with Simulator() as simulator, a_webhook() as webhook:
        merchant = a_merchant(url=simulator.url + "/registered")
        for url in (simulator.url + "/own", None):
            assert (await webhook(a_notification(url), merchant)).acknowledged
        assert [received.path for received in simulator.received] == ["/own", "/registered"]


async def test_without_any_url_the_outcome_says_so() -> None:
    async with a_webhook() as webhook:
        outcome = await webhook(a_notification(None), a_merchant())
        assert (outcome.error, outcome.detail) == (
            ErrorClass.CALLBACK,
            "neither the notification nor the merchant has a url",
        )


async def test_a_merchant_without_a_secret_gets_no_signature() -> None:
    async with Simulator() as simulator, a_webhook() as webhook:
        assert (await webhook(a_notification(simulator.url), a_merchant(secrets=()))).acknowledged
        assert "webhook-signature" not in simulator.received[0].headers


@pytest.mark.parametrize(
    ("word", "rule", "error", "detail"),
    [
        ("ok", "http", None, "answered 200"),
        ("204", "http", None, "answered 204"),
        ("wrong-body", "http", None, "answered 200"),
        ("ok", "body=success", None, "answered 200"),
        ("ok-json", "json:code=SUCCESS", None, "answered 200"),
        ("wrong-body", "body=success", "wrong-answer", "answered 200, but 'fail' does not meet body=success"),
        ("204", "body=success", "wrong-answer", "answered 204, but '' does not meet body=success"),
        ("ok", "json:code=SUCCESS", "wrong-answer", "answered 200, but 'success' does not meet json:code=SUCCESS"),
        ("500", "http", "status", "answered 500 Internal Server Error"),
        ("404", "body=success", "status", "answered 404 Not Found"),
        ("599", "http", "status", "answered 599"),
        ("304", "http", "status", "answered 304 Not Modified"),
        ("redirect", "http", "status", "answered 302 Found: redirects are not followed, give the final url"),
        ("308", "http", "status", "answered 308 Permanent Redirect: redirects are not followed, give the final url"),
    ],
)
async def test_an_answer_is_judged_by_the_merchants_rule(word: str, rule: str, error: str | None, detail: str) -> None:
    async with Simulator(default=Script.parse(word)) as simulator, a_webhook() as webhook:
        outcome = await webhook(a_notification(simulator.url), a_merchant(ack=AckRule.parse(rule)))
        assert (outcome.acknowledged, outcome.error, outcome.detail) == (error is None, error, detail)
        assert outcome.status == simulator.received[0].status
        assert not outcome.gone
        assert outcome.retry_after is None


async def test_a_redirect_is_never_followed() -> None:
    async with Simulator(default=Script.parse("redirect,ok")) as simulator, a_webhook() as webhook:
        assert not (await webhook(a_notification(simulator.url + "/shop"), a_merchant())).acknowledged
        assert [received.path for received in simulator.received] == ["/shop"]


async def test_gone_is_told_apart() -> None:
    async with Simulator(default=Script.parse("410")) as simulator, a_webhook() as webhook:
        outcome = await webhook(a_notification(simulator.url), a_merchant())
        assert (outcome.gone, outcome.error, outcome.detail) == (True, ErrorClass.STATUS, "answered 410 Gone")


@pytest.mark.parametrize(("word", "wait"), [("429:7", 7), ("503", 1), ("503:999999", 999_999)])
async def test_a_wish_for_a_later_attempt_is_passed_on(word: str, wait: float) -> None:
    async with Simulator(default=Script.parse(word)) as simulator, a_webhook() as webhook:
        assert (await webhook(a_notification(simulator.url), a_merchant())).retry_after == wait


async def test_a_wish_given_as_a_date_counts_from_the_answer() -> None:
    now = 1_800_000_000.0
    answer = f"HTTP/1.1 503 x\r\nRetry-After: {formatdate(now + 90, usegmt=True)}\r\nContent-Length: 0\r\n\r\n".encode()
    async with raw_merchant(saying(answer)) as merchant, a_webhook(clock=lambda: now) as webhook:
        assert (await webhook(a_notification(merchant.url), a_merchant())).retry_after == 90


async def test_the_answer_is_kept_up_to_the_limit() -> None:
    async with Simulator(default=Script.parse("500")) as simulator, a_webhook(answer_limit=9) as webhook:
        outcome = await webhook(a_notification(simulator.url), a_merchant())
        assert (outcome.answer, outcome.status) == (b"500 Inter", 500)


@pytest.mark.parametrize(
    ("answer", "limit", "rule", "acknowledged"),
    [
        (b"success", 7, "body=success", True),  # exactly the limit
        (b"success, or not", 7, "body=success", False),  # what was left unread counts
        (b'{"code":"SUCCESS"}', 18, "json:code=SUCCESS", True),
        (b'{"code":"SUCCESS"}, but no', 18, "json:code=SUCCESS", False),
        (b"success, or not", 7, "http", True),
    ],
)
async def test_an_answer_cut_at_the_limit_meets_no_rule_about_its_body(
    answer: bytes, limit: int, rule: str, acknowledged: bool
) -> None:
    talk = saying(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer), then_hold=True)
    async with raw_merchant(talk) as merchant, a_webhook(answer_limit=limit) as webhook:
        outcome = await webhook(a_notification(merchant.url), a_merchant(ack=AckRule.parse(rule)))
        assert outcome.acknowledged is acknowledged
        assert outcome.answer == answer[:limit]
        if not acknowledged:
            assert outcome.detail == f"answered 200 with more than the {limit} bytes that are read"


async def test_no_proxy_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with Simulator() as simulator, a_webhook() as webhook:
        assert (await webhook(a_notification(simulator.url), a_merchant())).acknowledged


async def test_cookies_of_a_merchant_are_forgotten() -> None:
    seen: list[dict[str, str]] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            seen.append((await request(reader))[0])
            writer.write(b"HTTP/1.1 200 OK\r\nSet-Cookie: session=1\r\nContent-Length: 0\r\n\r\n")

    async with raw_merchant(talk) as merchant, a_webhook() as webhook:
        for _ in range(2):
            await webhook(a_notification(merchant.url), a_merchant())
    assert len(seen) == 2
    assert not any("cookie" in headers for headers in seen)


# Connections


async def test_a_connection_is_kept_alive_and_used_again() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await request(reader)
            writer.write(OK)

    async with raw_merchant(talk) as merchant, a_webhook() as webhook:
        for _ in range(5):
            assert (await webhook(a_notification(merchant.url), a_merchant())).acknowledged
        assert merchant.connections == 1


@pytest.mark.parametrize("manner", ["close", "abort"])
async def test_a_kept_alive_connection_that_breaks_unanswered_costs_no_attempt(manner: str) -> None:
    requests: list[dict[str, str]] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append((await request(reader))[0])
        writer.write(OK)
        requests.append((await request(reader))[0])
        if manner == "abort":
            writer.transport.abort()

    async with raw_merchant(talk) as merchant, a_webhook() as webhook:
        assert (await webhook(a_notification(merchant.url), a_merchant())).acknowledged
        outcome = await webhook(a_notification(merchant.url, id="ntf_2"), a_merchant())
        assert outcome.acknowledged
        assert merchant.connections == 2
    assert [headers["webhook-id"] for headers in requests] == ["ntf_1", "ntf_2", "ntf_2"]
    assert requests[1] == requests[2]  # the very same request, its timestamp and signature included


async def test_a_new_connection_that_breaks_unanswered_is_a_reset() -> None:
    async with raw_merchant(saying(b"")) as merchant, a_webhook() as webhook:
        outcome = await webhook(a_notification(merchant.url), a_merchant())
        assert (outcome.error, merchant.connections) == (ErrorClass.RESET, 1)
        assert outcome.detail == f"127.0.0.1:{merchant.port} closed the connection before an answer"


async def test_a_kept_alive_connection_that_breaks_is_replaced_once_only() -> None:
    count = itertools.count()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        if next(count) == 0:
            writer.write(OK)
            await request(reader)

    async with raw_merchant(talk) as merchant, a_webhook() as webhook:
        assert (await webhook(a_notification(merchant.url), a_merchant())).acknowledged
        assert (await webhook(a_notification(merchant.url), a_merchant())).error is ErrorClass.RESET
        assert merchant.connections == 2


async def test_a_kept_alive_connection_that_breaks_within_its_answer_is_a_reset() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(OK)
        await request(reader)
        writer.write(b"HTTP/1.1 200 O")

    async with raw_merchant(talk) as merchant, a_webhook() as webhook:
        assert (await webhook(a_notification(merchant.url), a_merchant())).acknowledged
        assert (await webhook(a_notification(merchant.url), a_merchant())).error is ErrorClass.RESET
        assert merchant.connections == 1


async def test_all_stale_connections_are_passed_over_when_one_broke() -> None:
    """After a restart of the merchant's server every kept-alive connection is dead, not just the one tried."""
    together = asyncio.Barrier(3)
    count = itertools.count()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        if next(count) < 3:
            await together.wait()  # three at once, so that three connections are made
            writer.write(OK)
            await request(reader)
        else:
            writer.write(OK)

    async with raw_merchant(talk) as merchant, a_webhook() as webhook:
        calls = [webhook(a_notification(merchant.url), a_merchant()) for _ in range(3)]
        assert all(outcome.acknowledged for outcome in await asyncio.gather(*calls))
        assert (await webhook(a_notification(merchant.url), a_merchant())).acknowledged
        assert merchant.connections == 4


async def test_an_answer_nobody_asked_for_is_not_taken_for_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    unasked = asyncio.Event()
    receive = Wire.data_received

    def watched(self: Wire, data: bytes) -> None:
        receive(self, data)
        if data.startswith(b"HTTP/1.1 408 "):
            unasked.set()

    monkeypatch.setattr(Wire, "data_received", watched)
    first_is_read = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(OK)
        await first_is_read.wait()
        writer.write(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        await reader.read()

    async with raw_merchant(talk) as merchant, a_webhook() as webhook:
        assert (await webhook(a_notification(merchant.url), a_merchant())).acknowledged
        first_is_read.set()
        await asyncio.wait_for(unasked.wait(), 5)
        assert (await webhook(a_notification(merchant.url), a_merchant())).status == 200
        assert merchant.connections == 2


async def test_merchants_that_hang_do_not_hold_up_the_others() -> None:
    scripts = {"/hangs": Script.parse("timeout")}
    async with Simulator(scripts) as simulator, a_webhook(timeout=60) as webhook:
        hanging = [
            asyncio.create_task(webhook(a_notification(simulator.url + "/hangs", id=f"h{n}"), a_merchant()))
            for n in range(300)
        ]
        await simulator.wait_for(300)
        healthy = [webhook(a_notification(simulator.url + "/fine"), a_merchant()) for _ in range(300)]
        outcomes = await asyncio.wait_for(asyncio.gather(*healthy), 20)
        assert all(outcome.acknowledged for outcome in outcomes)
        assert not any(task.done() for task in hanging)
        for task in hanging:
            task.cancel()
        ends = await asyncio.gather(*hanging, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ends)


async def test_being_cancelled_passes_through_and_closes_the_connection() -> None:
    arrived = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        arrived.set()
        assert await reader.read() == b""

    async with raw_merchant(talk) as merchant, a_webhook(timeout=60) as webhook:
        call = asyncio.create_task(webhook(a_notification(merchant.url), a_merchant()))
        await arrived.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.wait_for(merchant.ended.wait(), 5)


@pytest.mark.parametrize("kept_alive", [False, True])
async def test_calls_under_way_when_the_client_closes_end_as_reset(kept_alive: bool) -> None:
    arrived = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if kept_alive:
            await request(reader)
            writer.write(OK)
        await request(reader)
        arrived.set()
        await reader.read()

    async with raw_merchant(talk) as merchant, a_webhook(timeout=60) as webhook:
        if kept_alive:
            assert (await webhook(a_notification(merchant.url), a_merchant())).acknowledged
        call = asyncio.create_task(webhook(a_notification(merchant.url), a_merchant()))
        await arrived.wait()
        await webhook.close()
        assert (await asyncio.wait_for(call, 5)).error is ErrorClass.RESET
        assert merchant.connections == 1


async def test_starting_and_closing_twice_is_fine_and_a_call_outside_is_a_mistake() -> None:
    webhook = Webhook(Egress())
    with pytest.raises(RuntimeError, match=r"Webhook\.start\(\) comes before the first call"):
        await webhook(a_notification("http://127.0.0.1:9/"), a_merchant())
    await webhook.start()
    await webhook.start()
    await webhook.close()
    await webhook.close()
    with pytest.raises(RuntimeError, match=r"close\(\) after the last"):
        await webhook(a_notification("http://127.0.0.1:9/"), a_merchant())


async def test_a_fault_of_our_own_is_an_outcome_and_stands_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with Simulator() as simulator, a_webhook() as webhook:
        outcome = await webhook(a_notification(simulator.url, content_type="a\r\nb: c"), a_merchant())
        assert simulator.received == []
    assert (outcome.error, outcome.detail) == (ErrorClass.CALLBACK, "a fault of notifier, see its log: ValueError")
    assert [record.message for record in caplog.records] == ["webhook-failed"]
