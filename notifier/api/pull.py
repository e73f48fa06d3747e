"""A merchant fetches what it was not told, and confirms it: for one whose endpoint was down longer than its ladder.

A confirmed notification is completed, with the reason `pulled`; what of it still waits is not attempted any more.
"""

from __future__ import annotations

import asyncio
import base64
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from notifier.api.asking import ask_agent
from notifier.api.identity import Who
from notifier.api.notifications import who_of
from notifier.api.parts import Given, Parts
from notifier.api.problems import Problem
from notifier.domain.fact import Fact, Kind
from notifier.domain.notification import is_id
from notifier.ledger import notifications
from notifier.ledger.notifications import Filter

router = APIRouter(prefix="/v1", tags=["pull"])

#: Neither completed nor our own fault.
UNDELIVERED = "accepted,attempted,held,exhausted,stopped"
#: Notifications in one answer, and in one confirmation.
MOST = 100
#: What of them may still be on its way.
WAITING = frozenset({"accepted", "attempted", "held"})
REASON = "pulled"
#: Seconds for the broker to take the facts of a confirmation.
PATIENCE = 5.0


class Confirmation(BaseModel):
    """Ids that were pulled and are worked on."""

    model_config = ConfigDict(extra="forbid")

    ids: list[str] = Field(min_length=1, max_length=MOST, examples=[["order-42-paid"]])


Merchant = Annotated[str | None, Query(description="needed unless the token is the merchant's own", max_length=128)]


@router.get("/pull", summary="A merchant's own undelivered notifications")
async def pull(
    request: Request,
    parts: Given,
    merchant: Merchant = None,
    after: Annotated[str | None, Query(description="`next` of the page before", max_length=1000)] = None,
    limit: Annotated[int, Query(ge=1, le=MOST)] = 50,
) -> dict[str, Any]:
    """Newest first, each with its payload as far as that is still kept."""
    wanted = Filter.parse({"merchant": _whose(request, merchant), "status": UNDELIVERED})
    found = await notifications.list_notifications(parts.database, wanted, after, limit)
    items = [await _with_payload(parts, item) for item in found.items]
    return {"notifications": items, "next": found.next}


@router.post("/pull/confirm", summary="They have arrived")
async def confirm(
    request: Request, parts: Given, confirmation: Confirmation, merchant: Merchant = None
) -> dict[str, Any]:
    """`confirmed` are completed once the ledger has heard of it; `unknown` are none of this merchant's."""
    whose = _whose(request, merchant)
    ids = list(dict.fromkeys(confirmation.ids))
    found = {name: await _own(parts, name, whose) for name in ids}
    known = {name: item for name, item in found.items() if item is not None}
    open_ = {name: item for name, item in known.items() if item["status"] != "completed"}
    # cancelled first: a completed one could not be any more, and completed counts for more than stopped afterwards
    waiting = [name for name, item in open_.items() if item["status"] in WAITING]
    cancelled = await asyncio.gather(*(_cancelled(parts, name) for name in waiting))
    await _record(parts, [_completed(item, parts.now_ms, who_of(request)) for item in open_.values()])
    return {
        "confirmed": list(known),
        "unknown": [name for name in ids if name not in known],
        "still_attempted": [name for name in cancelled if name is not None],
    }


def _whose(request: Request, merchant: str | None) -> str:
    who: Who = request.state.who
    if who.role == "merchant":
        assert who.merchant is not None
        if merchant not in (None, who.merchant):
            raise Problem("forbidden", "this token is another merchant's")
        return who.merchant
    if merchant is None:
        raise Problem("invalid", "say whose with ?merchant=…, or use the merchant's own token")
    return merchant


async def _with_payload(parts: Parts, item: Any) -> dict[str, Any]:
    payload = await notifications.payload(parts.database, item["id"]) if item["payload_kept"] else None
    try:
        text = None if payload is None else payload.decode()
    except UnicodeDecodeError:
        text = None
    return {
        "id": item["id"],
        "reference": item["reference"],
        "status": item["status"],
        "accepted_at": item["accepted_at"],
        "content_type": item["content_type"],
        "payload": text,
        "payload_base64": None if payload is None else base64.b64encode(payload).decode(),
    }


async def _own(parts: Parts, notification: str, merchant: str) -> dict[str, Any] | None:
    """None for one that there is not, and, which must look the same, for another merchant's."""
    found = await notifications.show(parts.database, notification) if is_id(notification) else None
    return dict(found) if found is not None and found["merchant"] == merchant else None


def _completed(item: dict[str, Any], now_ms: int, who: str) -> Fact:
    body = {"merchant": item["merchant"], "tier": item["tier"], "reason": REASON, "who": who}
    return Fact(Kind.COMPLETED, item["id"], item["run"], now_ms, body)


async def _record(parts: Parts, facts: list[Fact]) -> None:
    if not facts:
        return
    if parts.publisher.blocked:  # what is given up below waits all the same, once for each time it is asked again
        raise Problem("unavailable", "RabbitMQ takes nothing now, so nothing counts as arrived yet")
    try:
        async with asyncio.timeout(PATIENCE):
            await parts.recorder.record(*facts)
    except TimeoutError:
        raise Problem("unavailable", "RabbitMQ did not confirm in time, so nothing counts as arrived yet") from None


async def _cancelled(parts: Parts, notification: str) -> str | None:
    """None when no attempt of it starts any more; the id when that is not sure."""
    try:
        await ask_agent(parts, "notifications.cancel", {"id": notification, "who": "pull", "why": REASON})
    except Problem as problem:
        return None if problem.kind == "conflict" else notification  # it is finished
    return None
