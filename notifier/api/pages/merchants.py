"""Merchants: the list, and the page of one that says why it gets nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from starlette.responses import Response

from notifier.api.pages import causes, frame, looking, story, words
from notifier.api.pages.causes import Cause
from notifier.api.pages.frame import PageRoute
from notifier.api.pages.judgement import quoted
from notifier.api.parts import Given, Parts
from notifier.api.resting import overflows_of, rest_of
from notifier.domain.merchant import Standing
from notifier.domain.notification import OPERATIONS, check_known_merchant
from notifier.ledger import merchants, notifications
from notifier.ledger.flow import rates
from notifier.ledger.notifications import Filter
from notifier.registry import form

router = APIRouter(include_in_schema=False, route_class=PageRoute)

#: Merchants on one page, and notifications on that of one.
ROWS, RECENT = 50, 8
#: Milliseconds over which the share of delivered attempts is taken.
HOUR = 3_600_000

_TONES = {"enabled": "good", "disabled": "held", "blocked": "held"}


@router.get("/merchants")
async def page(request: Request, parts: Given) -> Response:
    """In the order of their names."""
    asked = {name: request.query_params.get(name, "").strip() for name in ("text", "standing")}
    standing = Standing(asked["standing"]) if asked["standing"] in list(Standing) else None
    rows = await merchants.page(
        parts.database, after=request.query_params.get("after", ""), limit=ROWS + 1, standing=standing,
        text=asked["text"] or None, now_ms=parts.now_ms,
    )  # fmt: skip
    found = [form.read(row.id, row.body or "", row.version, row.changed_at) for row in rows[:ROWS]]
    made = await rates(parts.database, [each.id for each in found], parts.now_ms - HOUR)
    undelivered: dict[str, int] = {}
    for group in await notifications.undelivered(parts.database, Filter.parse({})):
        undelivered[group["merchant"]] = undelivered.get(group["merchant"], 0) + group["count"]
    shown = [form.shown(each, parts.now_ms) for each in found]
    total = await merchants.count(parts.database)
    wanted = {name: value for name, value in asked.items() if value}
    view = {
        "asked": asked,
        "lead": f"{words.many(total, 'merchant')} {'is' if total == 1 else 'are'} registered." if total else "",
        "rows": [_row(each, made.get(each["id"], (0, 0)), undelivered.get(each["id"], 0)) for each in shown],
        "problem": None,
        "next": f"/merchants?{urlencode({**wanted, 'after': rows[ROWS - 1].id})}" if len(rows) > ROWS else None,
    }
    return await frame.page(request, "merchants.html", view)


@router.get("/register")
async def register(request: Request, parts: Given) -> Response:
    """The form for a new one."""
    return await frame.page(request, "merchant_new.html", blank(parts))


@router.get("/merchants/{merchant:path}")
async def show(request: Request, parts: Given, merchant: str) -> Response:
    """One of them, also one that is known only from its notifications."""
    return await shown_page(request, parts, merchant)


async def shown_page(
    request: Request,
    parts: Parts,
    merchant: str,
    values: Mapping[str, str] | None = None,
    problems: Mapping[str, str] | None = None,
    status: int = 200,
    **around: Any,
) -> Response:
    """The page of a merchant. values, problems: of a form that was not accepted."""
    check_known_merchant(merchant)
    database = parts.database
    it = await looking.registered(parts, merchant)
    undelivered = await looking.undelivered(parts, request.app.state.samples, merchant=merchant)
    found = undelivered.causes
    if it is not None and not found and (off := causes.of_standing(it)) is not None:
        found = [off]
    found = [*found, *_held_back(parts, merchant, found)]
    made, delivered = (await rates(database, [merchant], parts.now_ms - HOUR)).get(merchant, (0, 0))
    recent = await notifications.list_notifications(database, Filter.parse({"merchant": merchant}), None, RECENT)
    climbing = Filter.parse({"merchant": merchant, "status": ",".join(story.CLIMBING)})
    view = blank(parts) | {
        "id": merchant,
        "place": f"/merchants/{quoted(merchant)}",
        "it": it,
        "own_name": merchant == OPERATIONS,
        "tone": _TONES[it["standing"]] if it else "idle",
        "state": "the service's own" if merchant == OPERATIONS else _state(it),
        "causes": found,
        "causes_title": _title(found),
        "rate": delivered / made if made else None,
        "made": made,
        "delivered": delivered,
        "failed": made - delivered,
        "climbing": await notifications.count(database, climbing),
        "undelivered": undelivered.count,
        "recent": [story.row(each) for each in recent.items],
        "values": values if values is not None else _values(it),
        "problems": problems or {},
    }
    return await frame.page(request, "merchant.html", view, status, **around)


def _held_back(parts: Parts, merchant: str, besides: Sequence[Cause]) -> list[Cause]:
    """That it is given a rest, or has no room, where nothing that is held has said so."""
    told = {cause.selection.get("reason") for cause in besides}
    rest, lanes = rest_of(parts, merchant), overflows_of(parts, merchant)
    found = [] if rest is None or "breaker-open" in told else [causes.of_rest(rest)]
    return [*found, *(causes.of_overflow(lane) for lane in lanes[:1] if "no-room" not in told)]


def _title(found: Sequence[Cause]) -> str:
    if any(cause.count for cause in found):
        return "Why it does not get everything"
    return "Switched off" if any(cause.tone == "held" for cause in found) else "Held back for now"


def blank(parts: Parts) -> dict[str, Any]:
    """What an empty form of a merchant needs. own: what holds for a merchant that states nothing."""
    isolation = parts.settings.isolation
    return {
        "values": {},
        "problems": {},
        "own": {
            "tiers": ", ".join(tier.name for tier in parts.settings.tiers),
            "ack": parts.settings.ack,
            "concurrency": str(isolation.concurrency),
            "rate": "no bound" if isolation.rate is None else f"{isolation.rate:g}",
        },
    }


def _row(it: Mapping[str, Any], attempts: tuple[int, int], undelivered: int) -> dict[str, Any]:
    made, delivered = attempts
    return {
        **it,
        "tone": _TONES[it["standing"]],
        "state": _state(it),
        "rate": delivered / made if made else None,
        "attempts": made,
        "undelivered": undelivered,
    }


def _state(it: Mapping[str, Any] | None) -> str:
    if it is None:
        return "not registered"
    until = f" until {words.stamp(it['until'])}" if it["until"] else ""
    return f"{it['standing']}{until}" if it["added"] else f"{it['standing']}{until}, not registered"


def _values(it: Mapping[str, Any] | None) -> dict[str, str]:
    if it is None:
        return {}
    return {
        "url": it["url"] or "",
        "ladder": ",".join(it["ladder"] or ()),
        "ack": it["ack"] or "",
        "concurrency": str(it["concurrency"] or ""),
        "rate": "" if it["rate"] is None else f"{it['rate']:g}",
    }
