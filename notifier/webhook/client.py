"""The callback: one signed POST to a merchant, and what came of it as an Outcome."""

from __future__ import annotations

import asyncio
import io
import logging
import ssl
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from notifier import __version__, logs
from notifier.domain.acknowledgement import AckRule, RuleKind
from notifier.domain.merchant import MASKED, Merchant
from notifier.domain.notification import Notification
from notifier.domain.outcome import ErrorClass, Outcome
from notifier.domain.signature import sign
from notifier.errors import CallWithheld
from notifier.sections import Egress
from notifier.webhook import retry_after
from notifier.webhook.connector import Connector
from notifier.webhook.exchange import Exchange, current
from notifier.webhook.failure import explain
from notifier.webhook.guard import Guard
from notifier.webhook.names import SystemNames

_SIGNATURE = "webhook-signature"
_USER_AGENT = f"notifier/{__version__}"
#: Larger payloads are handed to aiohttp as a stream: it warns that one large write may hold up the loop.
_AT_ONCE = 1_048_576
_REDIRECTS = (301, 302, 303, 307, 308)
#: Characters of an answer that are shown where it is not the expected one.
_SHOWN = 40

#: No class when acknowledged; and one line for people.
Judgement = tuple[ErrorClass | None, str]


class Webhook:
    """Calls merchants back over HTTP; the default callback of a tier process. One for a process.

    resolver: instead of the system's; the guard judges its answers too. clock: Unix seconds, for `webhook-timestamp`.
    tls: instead of the system's certificate authorities. withheld: whether nothing may be sent to a merchant just now,
    by its id.

    Any number of calls may run at once; none waits for another's merchant. Between `start` and `close`, a call never
    raises for anything that a merchant or the network does; being cancelled passes through, and CallWithheld is raised
    for a merchant that was blocked before anything was sent.
    """

    #: A notification needs an address, its own or its merchant's.
    needs_url = True

    def __init__(
        self,
        egress: Egress,
        *,
        resolver: AbstractResolver | None = None,
        clock: Callable[[], float] = time.time,
        tls: ssl.SSLContext | None = None,
        withheld: Callable[[str], bool] | None = None,
    ) -> None:
        self._egress = egress
        self._guard = Guard(egress.networks, egress.urls)
        self._withheld = withheld
        self._resolver = resolver
        self._clock = clock
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Open the pool of connections; nothing is dialled yet. Twice is fine."""
        if self._session is not None:
            return
        self._session = aiohttp.ClientSession(
            connector=Connector(self._guard, self._names(), self._tls),
            # The whole is timed in __call__. The threshold: aiohttp would round 5.5 s up to 6.
            timeout=aiohttp.ClientTimeout(
                total=None, connect=self._egress.connect_timeout, ceil_threshold=float("inf")
            ),
            headers={"Accept-Encoding": "identity"},
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,  # a kilobyte of gzip can hold a gigabyte
            read_bufsize=16_384,
            max_headers=100,
        )

    def _names(self) -> AbstractResolver:
        return self._resolver or SystemNames(patience=self._egress.connect_timeout)

    async def close(self) -> None:
        """Close all connections. Calls under way end as reset: drain first. Twice is fine."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def __call__(self, notification: Notification, merchant: Merchant) -> Outcome:
        """One attempt, at most `egress.timeout` seconds long. Raises RuntimeError if not started."""
        if self._session is None:
            raise RuntimeError("Webhook.start() comes before the first call, close() after the last")
        began = time.monotonic()
        exchange = Exchange(merchant.id)
        if (withheld := self._withheld) is not None:
            exchange.withheld = lambda: withheld(merchant.id)
        headers = _headers(notification, merchant, int(self._clock()))
        error, detail = await self._attempt(self._session, notification, merchant, headers, exchange)
        return Outcome(
            acknowledged=error is None,
            status=exchange.status,
            error=error,
            detail=detail,
            retry_after=None if error is None else retry_after.seconds(exchange.retry_after, self._clock()),
            gone=exchange.status == HTTPStatus.GONE,
            address=exchange.peer,
            answer=bytes(exchange.body),
            duration=time.monotonic() - began,
            sent_headers=_shown(headers, merchant),
            ours=exchange.ours,
        )

    async def _attempt(
        self,
        session: aiohttp.ClientSession,
        notification: Notification,
        merchant: Merchant,
        headers: Mapping[str, str],
        exchange: Exchange,
    ) -> Judgement:
        url = notification.url or merchant.url
        if url is None:
            return ErrorClass.CALLBACK, "neither the notification nor the merchant has a url"
        context = current.set(exchange)
        try:
            async with asyncio.timeout(self._egress.timeout):
                await self._post(session, self._guard.admit(url), notification.payload, headers, exchange)
        except CallWithheld:
            raise
        except Exception as error:  # a merchant's doing must not end the tier process, whatever it is
            failure = explain(error, url, exchange, self._egress)
            if failure is None:
                logs.event("webhook-failed", logging.ERROR, exc_info=error, notification=notification.id)
                return ErrorClass.CALLBACK, f"a fault of notifier, see its log: {type(error).__name__}"
            return failure
        finally:
            current.reset(context)
        return judge(exchange, merchant.ack)

    async def _post(
        self, session: aiohttp.ClientSession, url: URL, payload: bytes, headers: Mapping[str, str], exchange: Exchange
    ) -> None:
        """Send and read, a second time if a kept-alive connection broke before a byte of an answer came.

        A merchant may close an idle connection at the very moment a request is sent on it; that is no failure of the
        merchant and must not cost a step of the ladder. POST is not idempotent in HTTP, so aiohttp leaves this to us.
        Here it is safe: if the merchant did take the first one in, it sees the same `webhook-id` twice, which
        at-least-once allows anyway. Once only, and on a new connection.
        """
        try:
            await self._ask(session, url, payload, headers, exchange)
            return
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
            if session.closed or not (exchange.reused and exchange.unanswered):
                raise
            broken = error
        exchange.wire, exchange.fresh = None, True
        try:
            await self._ask(session, url, payload, headers, exchange)
        except CallWithheld:  # the first one may have arrived, so this was an attempt
            raise broken from None

    async def _ask(
        self, session: aiohttp.ClientSession, url: URL, payload: bytes, headers: Mapping[str, str], exchange: Exchange
    ) -> None:
        data = payload if len(payload) <= _AT_ONCE else io.BytesIO(payload)
        response = await session.post(url, data=data, headers=headers, allow_redirects=False)
        try:
            exchange.status = response.status
            exchange.retry_after = response.headers.get("Retry-After")
            await self._read(response.content, exchange)
        finally:
            # A connection whose answer was read to its end is back in the pool by now. Any other is closed here:
            # draining the rest of an answer would be the merchant's to prolong.
            response.close()

    async def _read(self, content: aiohttp.StreamReader, exchange: Exchange) -> None:
        """The body, up to the limit; what was read stays in the exchange if it breaks off."""
        limit = self._egress.answer_limit
        while chunk := await content.read(limit + 1 - len(exchange.body)):
            exchange.body += chunk
            if len(exchange.body) > limit:
                del exchange.body[limit:]
                exchange.cut = True
                return


def judge(exchange: Exchange, rule: AckRule) -> Judgement:
    """Whether a complete exchange acknowledges: no error class if so, and one line."""
    status = exchange.status
    assert status is not None
    if not 200 <= status <= 299:
        remedy = ": redirects are not followed, give the final url" if status in _REDIRECTS else ""
        return ErrorClass.STATUS, f"answered {_named(status)}{remedy}"
    if exchange.cut and rule.kind is not RuleKind.HTTP:  # what is missing could make it another answer
        return ErrorClass.WRONG_ANSWER, f"answered {status} with more than the {len(exchange.body)} bytes that are read"
    if not rule.met_by(status, bytes(exchange.body)):
        start = exchange.body.decode("utf-8", "replace")[:_SHOWN]
        return ErrorClass.WRONG_ANSWER, f"answered {status}, but {start!r} does not meet {rule}"
    return None, f"answered {status}"


def _headers(notification: Notification, merchant: Merchant, timestamp: int) -> dict[str, str]:
    """What is sent beside the payload: Standard Webhooks 1.0, ours, and the merchant's own that are none of these."""
    headers = {
        "Content-Type": notification.content_type,
        "User-Agent": _USER_AGENT,
        "webhook-id": notification.id,
        "webhook-timestamp": str(timestamp),
        "notifier-attempt": str(notification.attempt),
    }
    if notification.traceparent is not None:
        headers["traceparent"] = notification.traceparent
    if merchant.secrets:
        headers[_SIGNATURE] = sign(merchant.secrets, notification.id, timestamp, notification.payload)
    if merchant.headers:
        ours = {name.lower() for name in headers}
        headers |= {name: value for name, value in merchant.headers if name.lower() not in ours}
    return headers


def _shown(headers: Mapping[str, str], merchant: Merchant) -> tuple[tuple[str, str], ...]:
    """What is told of the headers: no signature, and no value of the merchant's own, which may be a credential."""
    own = dict(merchant.headers)
    return tuple(
        (name, MASKED if own.get(name) == value else value) for name, value in headers.items() if name != _SIGNATURE
    )


def _named(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
