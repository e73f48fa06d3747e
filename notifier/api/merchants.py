"""The registry over HTTP. Read from the database, changed by the agent alone, which says how far a change is live."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from notifier.api.asking import ask_agent
from notifier.api.notifications import who_of
from notifier.api.parts import Given, Parts
from notifier.api.problems import Problem
from notifier.domain.merchant import Standing
from notifier.domain.statement import FIELDS
from notifier.errors import NotFound
from notifier.ledger import merchants
from notifier.ledger.merchants import Row
from notifier.registry import form

router = APIRouter(prefix="/v1", tags=["merchants"])

#: Seconds; a change that switches a merchant off waits for its callbacks under way, on every machine.
PATIENCE = 45.0
#: Seconds of a block, and of a replaced secret's grace.
LONGEST = 366 * 24 * 3600.0

#: A merchant's id may hold slashes; what stands behind it in an address is found first.
Id = Annotated[str, Path(description="the merchant's id", examples=["shop-7"])]

_STATEMENT = {
    "type": "object",
    "properties": {name: {"description": said} for name, said in FIELDS.items()},
    "examples": [{"url": "https://shop-7.example/hooks", "ladder": "1s,3s,5s", "ack": "http"}],
}


class Why(BaseModel):
    """Why, for those who look later."""

    model_config = ConfigDict(extra="forbid")

    reason: str | None = Field(default=None, max_length=500, examples=["charged twice, see INC-118"])


class WhyAndHowLong(Why):
    """seconds: until it ends by itself; without them until it is taken back."""

    seconds: float | None = Field(default=None, gt=0, le=LONGEST, examples=[3600])


class Rotation(BaseModel):
    """secret: without it a fresh one. grace: seconds that the old one signs beside it, a day without it."""

    model_config = ConfigDict(extra="forbid")

    secret: str | None = Field(default=None, max_length=200)
    grace: float | None = Field(default=None, ge=0, le=LONGEST, examples=[86400])


@router.get("/merchants", summary="Merchants in the order of their ids")
async def page(
    parts: Given,
    after: Annotated[str, Query(description="`next` of the page before", max_length=128)] = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    standing: Standing | None = None,
    text: Annotated[str | None, Query(description="in the id or the url", max_length=200)] = None,
) -> dict[str, Any]:
    """Without secrets. `next` is null on the last page."""
    rows = await merchants.page(
        parts.database, after=after, limit=limit + 1, standing=standing, text=text, now_ms=parts.now_ms
    )
    shown = [_shown(row, parts.now_ms) for row in rows[:limit]]
    return {"merchants": shown, "next": rows[limit - 1].id if len(rows) > limit else None}


@router.post("/merchants", status_code=201, summary="Register a merchant")
async def add(
    request: Request,
    parts: Given,
    stated: Annotated[
        dict[str, Any],
        Body(
            description="`id`, and any of: " + "; ".join(f"`{name}`: {said}" for name, said in FIELDS.items()),
            examples=[{"id": "shop-7", "url": "https://shop-7.example/hooks"}],
        ),
    ],
) -> dict[str, Any]:
    """The answer holds its `secret`: the only time that it is shown."""
    fields = dict(stated)
    merchant = fields.pop("id", None)
    if not isinstance(merchant, str):
        raise Problem("invalid", "`id` is missing, or is no text: it is what notifications name as their merchant")
    return await _change(request, parts, "add", merchant, fields=fields)


@router.post("/merchants/{merchant:path}/rotate", summary="A new secret")
async def rotate(request: Request, parts: Given, merchant: Id, body: Rotation | None = None) -> dict[str, Any]:
    """The old one signs beside it for its grace. The answer holds the new one: the only time that it is shown."""
    body = body or Rotation()
    fields = {} if body.secret is None else {"secret": body.secret}
    return await _change(request, parts, "rotate", merchant, fields=fields, seconds=body.grace)


@router.post("/merchants/{merchant:path}/enable", summary="Call a disabled merchant again")
async def enable(request: Request, parts: Given, merchant: Id, body: Why | None = None) -> dict[str, Any]:
    """What is held for it is released, at a bounded rate."""
    return await _change(request, parts, "enable", merchant, why=_why(body))


@router.post("/merchants/{merchant:path}/disable", summary="Call a merchant no more")
async def disable(request: Request, parts: Given, merchant: Id, body: Why | None = None) -> dict[str, Any]:
    """Its notifications are held. No callback to it starts any more in those processes that `live` counts."""
    return await _change(request, parts, "disable", merchant, why=_why(body))


@router.post("/merchants/{merchant:path}/block", summary="Call a merchant no more, for a while")
async def block(request: Request, parts: Given, merchant: Id, body: WhyAndHowLong | None = None) -> dict[str, Any]:
    """As disabling, also for one that is not registered, and with an end if `seconds` says so."""
    seconds = None if body is None else body.seconds
    return await _change(request, parts, "block", merchant, why=_why(body), seconds=seconds)


@router.post("/merchants/{merchant:path}/unblock", summary="Take a block back")
async def unblock(request: Request, parts: Given, merchant: Id, body: Why | None = None) -> dict[str, Any]:
    """What is held for it is released, at a bounded rate."""
    return await _change(request, parts, "unblock", merchant, why=_why(body))


@router.post("/merchants/{merchant:path}/test", status_code=202, summary="Send a test notification")
async def test(parts: Given, merchant: Id) -> dict[str, Any]:
    """An ordinary notification to its registered address; the answer has its id, to look at."""
    return dict(await ask_agent(parts, "merchants.test", {"merchant": merchant}))


@router.get("/merchants/{merchant:path}", summary="One merchant")
async def show(parts: Given, merchant: Id) -> dict[str, Any]:
    """Without secrets; of its headers only the names. `effective`: the bounds in force, its own or the service's."""
    row = await merchants.get(parts.database, merchant)
    if row is None or row.body is None:
        raise NotFound(f"merchant {merchant!r:.140} is not registered")
    found = _shown(row, parts.now_ms)
    return found | {"effective": form.effective(found, parts.settings.isolation)}


@router.patch(
    "/merchants/{merchant:path}",
    summary="Change a merchant",
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": _STATEMENT}}}},
)
async def change(request: Request, parts: Given, merchant: Id, fields: dict[str, Any]) -> dict[str, Any]:
    """Only what is stated changes; null takes a field back to the service's own."""
    return await _change(request, parts, "set", merchant, fields=fields)


@router.delete("/merchants/{merchant:path}", summary="Remove a merchant")
async def remove(request: Request, parts: Given, merchant: Id) -> dict[str, Any]:
    """The answer says what it was. Notifications without an address of their own are held from now on."""
    return await _change(request, parts, "remove", merchant)


async def _change(
    request: Request,
    parts: Parts,
    op: str,
    merchant: object,
    *,
    fields: dict[str, Any] | None = None,
    why: str | None = None,
    seconds: float | None = None,
) -> dict[str, Any]:
    asked = {"op": op, "merchant": merchant, "fields": fields or {}, "who": who_of(request), "why": why, "for": seconds}
    return dict(await ask_agent(parts, "merchants.change", asked, PATIENCE))


def _why(body: Why | None) -> str | None:
    return None if body is None else body.reason


def _shown(row: Row, now_ms: int) -> dict[str, Any]:
    assert row.body is not None
    return form.shown(form.read(row.id, row.body, row.version, row.changed_at), now_ms)
