"""One connection to a merchant, bounded in what it takes in before the body of an answer."""

from __future__ import annotations

from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

from notifier.webhook.address import spelled

#: Bytes of an answer before its body may begin, informational answers (1xx) included.
MOST_HEAD = 32_768
#: Bytes of a whole answer. Its body is read up to a smaller bound anyway; this one is for what surrounds a body, and
#: leaves room for the largest `answer_limit` in chunks of a byte each.
MOST_ANSWER = 8 * 1_048_576


class AnswerTooLarge(aiohttp.ClientError):
    """The head of an answer, or its framing, is over the bound."""


class Wire(ResponseHandler):
    """One connection. Adds to aiohttp's: who the peer is, how often it was used, and bounds on what comes in.

    aiohttp bounds each header, but reads informational answers and the extensions of a chunk without end: a merchant
    that sends them endlessly would keep a processor busy until the attempt's timeout.
    """

    def __init__(self, loop: Any) -> None:
        super().__init__(loop)
        self.peer: str | None = None
        self.requests = 0
        self.received = 0
        self._in_head = False

    def connection_made(self, transport: Any) -> None:
        """Note the peer while the socket surely has one."""
        super().connection_made(transport)
        address = transport.get_extra_info("peername")
        self.peer = spelled(address) if address else None

    def set_response_params(self, **params: Any) -> None:
        """A request is about to be sent: count what comes back for it."""
        self.received = 0
        self._in_head = True
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        """Parse; then see that the answer stays within its bounds."""
        self.received += len(data)
        super().data_received(data)
        if self.received > MOST_HEAD and (self._in_head or self.received > MOST_ANSWER):
            self._refuse()

    def feed_data(self, data: Any, size: int = 0) -> None:
        """A head was parsed; 101 is final, the other 1xx are not."""
        status = data[0].code
        if status >= 200 or status == 101:
            self._in_head = False
        super().feed_data(data, size)

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        """Also tell whoever reads the body: aiohttp leaves it waiting when the framing of a body is broken."""
        payload = self._payload
        super().set_exception(exc, *cause)
        if payload is not None and payload.exception() is None and not payload.is_eof():
            payload.set_exception(exc, *cause)

    def _refuse(self) -> None:
        if self.exception() is None:
            part, most = ("head", MOST_HEAD) if self._in_head else ("framing", MOST_ANSWER)
            self.set_exception(AnswerTooLarge(f"the {part} of the answer is over {most} bytes"))
        if self.transport is not None:
            self.transport.abort()
