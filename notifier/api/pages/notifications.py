"""Notifications: the list with its filters, and one of them with its ladder, its attempts and what can be done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from starlette.responses import Response

from notifier.api import notifications as routes
from notifier.api.pages import frame, looking, story
from notifier.api.pages.charts import staircase
from notifier.api.pages.frame import PageRoute
from notifier.api.parts import Given
from notifier.domain.outcome import ErrorClass
from notifier.errors import InvalidInput
from notifier.ledger import notifications
from notifier.ledger.notifications import Filter

router = APIRouter(include_in_schema=False, route_class=PageRoute)

#: Of one page of the list.
ROWS = 50
FILTERS = ("merchant", "status", "reference", "tier", "error", "reason", "since", "until")


@router.get("/notifications")
async def page(request: Request, parts: Given) -> Response:
    """Newest first."""
    asked = {name: request.query_params.get(name, "").strip() for name in FILTERS}
    after = request.query_params.get("after") or None
    wanted = {name: value for name, value in asked.items() if value}
    view: dict[str, Any] = {
        "asked": asked,
        "filtered": bool(wanted),
        "tiers": [tier.name for tier in parts.settings.tiers],
        "errors": [str(error) for error in ErrorClass],
        "items": [],
        "problem": None,
        "next": None,
        "later": after is not None,
        "first": f"/notifications?{urlencode(wanted)}",
        "lead": "Everything that was accepted, the newest first.",
    }
    try:
        found = await notifications.list_notifications(parts.database, Filter.parse(wanted), after, ROWS)
    except InvalidInput as error:
        view["problem"] = str(error)
        return await frame.page(request, "notifications.html", view, 422)
    view["items"] = [story.row(each) for each in found.items]
    view["next"] = f"/notifications?{urlencode({**wanted, 'after': found.next})}" if found.next else None
    return await frame.page(request, "notifications.html", view)


@router.get("/notifications/{notification}")
async def show(request: Request, parts: Given, notification: str) -> Response:
    """Its whole story."""
    shown = await routes.show(parts, notification)
    cause = await looking.cause_of(parts, shown)
    chart = staircase(shown, parts.now_ms)
    view = {
        "it": shown,
        "place": f"/notifications/{notification}",
        "headline": story.headline(shown),
        "cause": cause,
        "chart": chart,
        "chart_said": story.told(shown),
        "log": story.entries(shown),
        "next_at": shown["due_at"] if shown["status"] in story.CLIMBING else None,
        "payload": shown.get("payload"),
        "may_cancel": shown["status"] in (*story.CLIMBING, "held"),
        "may_replay": bool(shown.get("payload_kept"))
        and shown["status"] not in (*story.CLIMBING, "held")
        and not cause,
    }
    return await frame.page(request, "notification.html", view)


@router.post("/notifications/{notification}/replay")
async def replay(request: Request, parts: Given, notification: str) -> Response:
    """Once more from the first step."""
    fields = await frame.form(request)
    await routes.replay(request, parts, notification)
    return frame.back(
        request, fields, f"/notifications/{notification}", "It is on its way again, from the first step of its ladder."
    )


@router.post("/notifications/{notification}/cancel")
async def cancel(request: Request, parts: Given, notification: str) -> Response:
    """No attempt any more."""
    fields = await frame.form(request)
    done = await routes.cancel(request, parts, notification, routes.Reason(reason=frame.one(fields, "why") or None))
    return frame.back(request, fields, f"/notifications/{notification}", _cancelled(done))


def _cancelled(done: Mapping[str, Any]) -> str:
    live = done.get("live")
    where = f" in {live['live']} of {live['of']} processes" if live else ""
    return f"It is cancelled{where}: no attempt of it starts any more; one that is under way may still end."
