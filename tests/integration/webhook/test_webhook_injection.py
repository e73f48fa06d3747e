"""Header injection: whatever ids, references, content types and headers hold, a request stays one request."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from raw_merchant import a_merchant, a_notification, a_webhook, raw_merchant

from notifier.domain import wire
from notifier.domain.ladder import PRESETS
from notifier.domain.merchant import Merchant
from notifier.domain.outcome import ErrorClass
from notifier.domain.statement import stated
from notifier.domain.urls import UrlRule
from notifier.domain.wire import Message
from notifier.errors import InvalidMerchant, UnreadableMessage
from notifier.webhook import client

EVIL = "x\r\nX-Evil: 1\r\n\r\nPOST /second HTTP/1.1"
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
OURS = ["host", "accept-encoding", "content-type", "user-agent", "webhook-id", "webhook-timestamp", "notifier-attempt",
        "webhook-signature", "accept", "content-length"]  # fmt: skip


class Heads:
    """A merchant that answers 200 and keeps what it was sent, byte for byte."""

    def __init__(self) -> None:
        self.seen = bytearray()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            self.seen += data
            if b'{"order":42}' in data:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    @property
    def lines(self) -> list[str]:
        head, _, _ = bytes(self.seen).partition(b"\r\n\r\n")
        return head.decode("latin-1").split("\r\n")


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r", "\0"], ids=ascii)
@pytest.mark.parametrize("place", ["id", "content_type", "traceparent", "header value", "header name"])
async def test_what_would_split_a_request_is_not_sent_even_if_it_got_past_every_door(place: str, end: str) -> None:
    evil = EVIL.replace("\r\n", end)
    fields: dict[str, Any] = {}
    headers: tuple[tuple[str, str], ...] = ()
    match place:
        case "header value":
            headers = (("X-Shop", evil),)
        case "header name":
            headers = ((evil, "7"),)
        case _:
            fields = {place: evil}
    heads = Heads()
    async with raw_merchant(heads) as merchant, a_webhook() as webhook:
        outcome = await webhook(a_notification(merchant.url, **fields), a_merchant(headers=headers))
        assert (outcome.acknowledged, outcome.error) == (False, ErrorClass.CALLBACK)
        assert outcome.duration < 2
        good = await webhook(a_notification(merchant.url), a_merchant())  # the next one is not harmed
        assert good.acknowledged, good.detail
    assert b"vil" not in heads.seen
    assert heads.seen.count(b"POST ") == 1


async def test_what_is_not_the_merchants_business_is_not_sent() -> None:
    heads = Heads()
    async with raw_merchant(heads) as merchant, a_webhook() as webhook:
        notification = a_notification(
            merchant.url, merchant="café\u2028/x", reference="order\u202e42", extra={"X-Evil": "1", "cookie": "a=b"}
        )
        assert (await webhook(notification, a_merchant())).acknowledged
    names = [line.partition(":")[0].lower() for line in heads.lines[1:]]
    assert sorted(names) == sorted(OURS)


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("/a%0d%0aX-Evil:%201", "/a%0D%0AX-Evil:%201"),
        ("/?a=%0D%0AX-Evil:1", "/?a=%0D%0AX-Evil:1"),
        ("/a%20HTTP/1.1", "/a%20HTTP/1.1"),
        ("/\u010d\u010a", "/%C4%8D%C4%8A"),  # letters whose last bytes are those of a line break
        ("/a#\u560d\u560aX", "/a"),
    ],
)
async def test_no_path_breaks_out_of_the_first_line(path: str, sent: str) -> None:
    heads = Heads()
    async with raw_merchant(heads) as merchant, a_webhook() as webhook:
        url = f"http://127.0.0.1:{merchant.port}{path}"
        assert (await webhook(a_notification(url), a_merchant())).acknowledged
    assert heads.lines[0] == f"POST {sent} HTTP/1.1"
    assert len(heads.lines) == 1 + len(OURS)


# What comes in by the doors cannot hold any of it: pure, so with any text there is

nearly_headers = st.text(st.sampled_from("aB7-:/ \t\r\n\0\x0b\x0c\x1c\x7f\x85\xa0\u2028\u010d\ud800é;="), max_size=12)
good_or_not = st.just("x") | nearly_headers
LINE = re.compile(r"[\t\x20-\x7e]*")


@given(good_or_not, good_or_not, good_or_not, good_or_not, good_or_not)
def test_every_message_that_can_be_read_makes_headers_of_one_line_each(
    notification: str, merchant: str, reference: str, traceparent: str, content_type: str
) -> None:
    headers = {"merchant": merchant, "reference": reference or None, "traceparent": traceparent}
    message = Message(b"{}", {**headers, "notification": notification}, content_type, "msg-1")
    try:
        read = wire.read(message)
    except UnreadableMessage:
        return
    for name, value in client._headers(read, Merchant(id="m"), 0).items():
        assert LINE.fullmatch(name + value)
        assert value == value.strip() or name == "Content-Type"


@given(st.dictionaries(nearly_headers, nearly_headers, max_size=3))
def test_every_header_that_can_be_stated_is_one_line(headers: dict[str, str]) -> None:
    try:
        statement = stated({"headers": headers}, PRESETS, (), UrlRule(), secret=False)
    except InvalidMerchant:
        return
    for name, value in statement.headers_over(()):
        assert re.fullmatch(r"[!-~]+", name)
        assert ":" not in name
        assert LINE.fullmatch(value)


def test_a_message_with_everything_set_makes_the_headers_that_are_meant() -> None:
    read = wire.read(
        Message(b"{}", {"merchant": "m", "traceparent": TRACE, "notification": "n"}, "text/plain", "msg-1")
    )
    sent = client._headers(read, Merchant(id="m", headers=(("X-Shop", "7"),)), 5)
    assert {
        name: sent[name] for name in ("Content-Type", "webhook-id", "webhook-timestamp", "traceparent", "X-Shop")
    } == {
        "Content-Type": "text/plain",
        "webhook-id": "n",
        "webhook-timestamp": "5",
        "traceparent": TRACE,
        "X-Shop": "7",
    }
