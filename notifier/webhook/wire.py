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
#: Bytes that are parsed before the bounds are looked at again: an event loop reads up to 256 KiB at once, which can
#: hold thousands of answers.
_PART = 16_384


class AnswerTooLarge(aiohttp.ClientError):
    """The head of an answer, or its framing, is over the bound."""


class Wire(ResponseHandler):
    """One connection. Adds to aiohttp's: who the peer is, how often it was used, and bounds on what comes in.

    aiohttp bounds each header, but reads informational answers and the extensions of a chunk without end: a merchant
    that sends them endlessly would keep a processor busy until the attempt's timeout. And it keeps every answer that
    comes in unasked while the connection waits for its next use: an idle one could fill the memory.
    """

    def __init__(self, loop: Any) -> None:
        super().__init__(loop)
        self.peer: str | None = None
        self.requests = 0
        self.received = 0
        self._in_head = self._headed = False

    def connection_made(self, transport: Any) -> None:
        """Note the peer while the socket surely has one."""
        super().connection_made(transport)
        address = transport.get_extra_info("peername")
        self.peer = spelled(address) if address else None

    def set_response_params(self, **params: Any) -> None:
        """A request is about to be sent: count what comes back for it."""
        self.received = 0
        self._in_head, self._headed = True, False
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        """Parse, a part at a time; after each see that the answer stays within its bounds."""
        if not data:  # aiohttp itself, to go on with what it had put off
            super().data_received(data)
        for start in range(0, len(data), _PART):
            if self._is_answered():  # nothing more was asked: whatever this is, it is not wanted
                self._hang_up()
                return
            self._parse(data if len(data) <= _PART else data[start : start + _PART])

    def _parse(self, data: bytes) -> None:
        self.received += len(data)
        super().data_received(data)
        if self.received > MOST_HEAD and (self._in_head or self.received > MOST_ANSWER):
            self._refuse()

    def _is_answered(self) -> bool:
        """Whether the answer to the last request is here, to its end."""
        return self._headed and (self._payload is None or self._payload.is_eof())

    def feed_data(self, data: Any, size: int = 0) -> None:
        """A head was parsed; 101 is final, the other 1xx are not."""
        status = data[0].code
        if status >= 200 or status == 101:
            self._in_head, self._headed = False, True
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
        self._hang_up()

    def _hang_up(self) -> None:
        if self.transport is not None:
            self.transport.abort()
