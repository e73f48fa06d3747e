"""POST /v1/notifications: accepted means that the broker confirmed it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request
from starlette.responses import Response

from notifier.api import payload, problems, stated
from notifier.api.identity import Who
from notifier.api.once import Keyed, Once
from notifier.api.parts import Given, Parts
from notifier.api.problems import Problem
from notifier.api.stated import MOST, Stated
from notifier.domain.notification import Notification, is_traceparent
from notifier.domain.tier import Tier
from notifier.errors import MessageTooLarge, NotifierError, Unroutable
from notifier.logs import moment

router = APIRouter(prefix="/v1", tags=["notifications"])

#: Seconds without a single confirm, and in all, after which a request is given up. Claims outlast them.
SILENCE, LONGEST = 5.0, 8.0

_KEY = re.compile(r"[!-~]{1,256}")
#: An answer about one begins so, also one that was kept.
_ID_OF = re.compile(r'\{"id":"(?P<id>[^"]+)"')

_ONE = Stated.model_json_schema()
_ACCEPTED = {
    "id": "order-42-paid",
    "merchant": "shop-7",
    "reference": "order-42",
    "status": "accepted",
    "ladder": ["1s", "3s", "5s"],
    "tier": "1s",
    "accepted_at": "2026-11-21T10:00:00.000Z",
    "due_at": "2026-11-21T10:00:01.000Z",
}
_REQUEST = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "anyOf": [
                        _ONE,
                        {
                            "type": "object",
                            "required": ["notifications"],
                            "additionalProperties": False,
                            "properties": {
                                "notifications": {"type": "array", "minItems": 1, "maxItems": MOST, "items": _ONE}
                            },
                        },
                    ]
                },
                "examples": {
                    "one": {"value": {"merchant": "shop-7", "payload": {"order": 42}, "reference": "order-42"}},
                    "many": {
                        "value": {
                            "notifications": [
                                {"merchant": "shop-7", "payload": {"order": 42}},
                                {"merchant": "shop-8", "payload_base64": "aGVsbG8=", "content_type": "text/plain"},
                            ]
                        }
                    },
                },
            }
        },
    }
}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    202: {
        "description": "Accepted: RabbitMQ has it. Of many, those whose result has an id.",
        "content": {
            "application/json": {
                "schema": {"type": "object"},
                "examples": {
                    "one": {"value": _ACCEPTED},
                    "many": {
                        "value": {
                            "accepted": 1,
                            "refused": 1,
                            "results": [
                                _ACCEPTED,
                                {"problem": Problem("invalid", "url: Input should be a valid string").document()},
                            ],
                        }
                    },
                },
            }
        },
    }
}


@dataclass(frozen=True, slots=True)
class Batch:
    """What one request asks for, in its order. many: it was a list, so each gets a result of its own."""

    items: Sequence[Notification | Problem]
    many: bool

    def under(self, ids: Sequence[str | None]) -> Batch:
        """The same with these ids."""
        renamed = [
            item if isinstance(item, Problem) or notification_id is None else replace(item, id=notification_id)
            for item, notification_id in zip(self.items, ids, strict=True)
        ]
        return Batch(renamed, self.many)

    @property
    def ids(self) -> list[str | None]:
        """One for each item; None for those that are refused."""
        return [None if isinstance(item, Problem) else item.id for item in self.items]


@router.post(
    "/notifications",
    status_code=202,
    summary="Hand in one notification, or up to 1,000",
    openapi_extra=_REQUEST,
    responses=_ANSWERS,
    response_class=Response,
)
async def accept(
    request: Request,
    parts: Given,
    idempotency_key: Annotated[
        str | None,
        Header(
            description="1 to 256 printable ASCII characters of your choice: within 24 hours, the same request "
            "with the same key makes nothing twice and is answered as it was"
        ),
    ] = None,
) -> Response:
    """202 when RabbitMQ confirmed all that could be accepted; 503 with Retry-After when it did not confirm in time, or
    at once, and nothing is sent, while it takes or confirms nothing.

    After a 503 or a lost answer, send it again: with the same Idempotency-Key, or with ids of your own, so that the
    merchant can tell a double by its webhook-id. Of many, what is wrong is refused one by one, in its place.
    """
    body = await _json_body(request)
    batch = _batch(parts, payload.parsed(body), request.headers.get("traceparent"))
    if idempotency_key is None:
        code, answer = await _accepted(parts, batch)
        return _response(code, answer)
    if not _KEY.fullmatch(idempotency_key):
        raise Problem("invalid", "an Idempotency-Key has 1 to 256 printable ASCII characters")
    who: Who = request.state.who
    keyed = Keyed(who.id, idempotency_key, hashlib.sha256(body).hexdigest())
    once: Once = request.app.state.once
    reply = await once.run(parts.database, keyed, batch.ids, lambda ids: _accepted(parts, batch.under(ids)))
    return _response(reply.code, reply.body, again=reply.again)


def _response(code: int, body: str, *, again: bool = False) -> Response:
    headers = {"Idempotent-Replayed": "true"} if again else {}
    if one := _ID_OF.match(body):
        headers["Location"] = f"/v1/notifications/{one['id']}"
    return Response(body, code, headers, "application/json")


async def _json_body(request: Request) -> bytes:
    stated_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if stated_type != "application/json" and not stated_type.endswith("+json"):
        raise Problem("content-type", "send JSON, with the header Content-Type: application/json")
    return await request.body()


def _batch(parts: Parts, given: Any, traceparent: str | None) -> Batch:
    """Everything is checked before anything is sent. Raises Problem if nothing of it can be accepted."""
    traced = traceparent if traceparent and is_traceparent(traceparent) else None
    if not isinstance(given, dict) or "notifications" not in given:
        return Batch([stated.notification(parts, given, traced)], many=False)
    listed = given["notifications"]
    if set(given) != {"notifications"} or not isinstance(listed, list) or not 1 <= len(listed) <= MOST:
        raise Problem("invalid", f'many are sent as {{"notifications": […]}} and nothing else, 1 to {MOST:,} of them')
    items = _without_doubles([_stated(parts, each, traced) for each in listed])
    if all(isinstance(item, Problem) for item in items):
        results = [{"problem": item.document()} for item in items if isinstance(item, Problem)]
        raise Problem("invalid", f"none of {len(items)} can be accepted; the first: {_first(items)}", results=results)
    return Batch(items, many=True)


def _stated(parts: Parts, given: Any, traceparent: str | None) -> Notification | Problem:
    try:
        return stated.notification(parts, given, traceparent)
    except Problem as problem:
        return problem


def _without_doubles(items: Sequence[Notification | Problem]) -> list[Notification | Problem]:
    seen: set[str] = set()
    checked: list[Notification | Problem] = []
    for item in items:
        if isinstance(item, Notification) and item.id in seen:
            item = Problem("conflict", f"the id {item.id} stands twice in this request")
        elif isinstance(item, Notification):
            seen.add(item.id)
        checked.append(item)
    return checked


def _first(items: Sequence[Notification | Problem]) -> str:
    first = items[0]
    return first.detail if isinstance(first, Problem) else ""


async def _accepted(parts: Parts, batch: Batch) -> tuple[int, str]:
    """Publish, and tell once all is known. Raises Problem if the broker does not confirm in time."""
    if parts.closing.is_set():
        raise Problem("unavailable", "this process drains; send it again", headers={"Retry-After": "2"})
    parts.given_up.check(parts.publisher, {_tier(item) for item in batch.items if isinstance(item, Notification)})
    results = [
        item if isinstance(item, Problem) else asyncio.create_task(parts.entrance.accept(item)) for item in batch.items
    ]
    publishing = {
        result: _tier(item)
        for item, result in zip(batch.items, results, strict=True)
        if isinstance(item, Notification) and isinstance(result, asyncio.Task)
    }
    try:
        await _all_confirmed(parts, publishing)
    except Unroutable:
        parts.publisher.declare_again()  # somebody deleted what it needs: the next request finds it there
        raise
    shown = [_result(parts, result) for result in results]
    accepted = sum("id" in each for each in shown)
    parts.activity.accepted += accepted
    parts.activity.refused += len(shown) - accepted
    if batch.many:
        return 202, _json({"accepted": accepted, "refused": len(shown) - accepted, "results": shown})
    if not accepted:
        error = next(iter(publishing)).exception()
        assert isinstance(error, NotifierError)
        raise problems.of(error)
    return 202, _json(shown[0])


def _tier(notification: Notification) -> Tier:
    """Where it goes first."""
    assert notification.ladder is not None
    return notification.ladder[notification.step]


async def _all_confirmed(parts: Parts, publishing: Mapping[asyncio.Task[Notification], Tier]) -> None:
    """Wait as long as confirms come. Raises Problem; what was not confirmed by then is given up."""
    for each in publishing:
        each.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may ask for it
    loop = asyncio.get_running_loop()
    deadline, waiting = loop.time() + LONGEST, set(publishing)
    try:
        while waiting:
            done, waiting = await asyncio.wait(waiting, timeout=min(SILENCE, max(0, deadline - loop.time())))
            if waiting and (not done or loop.time() >= deadline):
                raise _unconfirmed(len(publishing) - len(waiting), len(publishing))
    finally:
        parts.given_up.leave(parts.publisher, {late: publishing[late] for late in waiting})
    for each in publishing:
        error = each.exception()
        if error is not None and not isinstance(error, MessageTooLarge):
            raise error


def _unconfirmed(confirmed: int, of: int) -> Problem:
    return Problem(
        "unavailable",
        "RabbitMQ did not confirm in time, so it is not accepted; send it again, with the same ids or Idempotency-Key",
        confirmed=confirmed,
        notifications=of,
    )


def _result(parts: Parts, result: asyncio.Task[Notification] | Problem) -> dict[str, Any]:
    if isinstance(result, Problem):
        return {"problem": result.document()}
    error = result.exception()
    if isinstance(error, NotifierError):
        return {"problem": problems.of(error).document()}
    return _shown(parts, result.result())


def _shown(parts: Parts, accepted: Notification) -> dict[str, Any]:
    assert accepted.ladder is not None
    assert accepted.enqueued_at is not None
    assert accepted.due_at is not None
    shown: dict[str, Any] = {
        "id": accepted.id,
        "merchant": accepted.merchant,
        "reference": accepted.reference,
        "status": "accepted",
        "ladder": [tier.name for tier in accepted.ladder],
        "tier": accepted.ladder[0].name,
        "accepted_at": moment(accepted.enqueued_at),
        "due_at": moment(accepted.due_at),
    }
    if said := stated.warnings(parts, accepted):
        shown["warnings"] = said
    return shown


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
