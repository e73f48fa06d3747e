"""The way in where a token is needed, and the search that leads to everything else."""

from __future__ import annotations

from urllib.parse import urlencode

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from notifier.api.pages import frame, looking
from notifier.api.pages.frame import PageRoute
from notifier.api.pages.judgement import quoted
from notifier.api.pages.rendering import render
from notifier.api.parts import Given, Parts
from notifier.domain.notification import is_id
from notifier.errors import InvalidInput
from notifier.ledger import merchants, notifications
from notifier.ledger.notifications import Filter

router = APIRouter(include_in_schema=False, route_class=PageRoute)

#: Characters of what is searched for: an id, a reference or a merchant is no longer.
_LONGEST = 256


@router.get("/login")
async def login(request: Request) -> Response:
    """Posts to /session, which leads on to `next`."""
    view = {
        "failed": request.query_params.get("failed", ""),
        "next": frame.local(request.query_params.get("next", "/")),
    }
    around = {"here": "/login", "undelivered": None, "sought": "", "said": None, "signed_in": False}
    return HTMLResponse(render("login.html", view=view, frame=around), 401 if view["failed"] else 200)


@router.get("/search")
async def search(request: Request, parts: Given) -> Response:
    """To the notification with this id, those with this reference, or this merchant; else a page that says no."""
    sought = request.query_params.get("q", "").strip()[:_LONGEST]
    if not sought:
        return RedirectResponse("/notifications", 303)
    if is_id(sought) and await notifications.show(parts.database, sought) is not None:
        return RedirectResponse(f"/notifications/{sought}", 303)
    if await _any(parts, reference=sought):
        return RedirectResponse(f"/notifications?{urlencode({'reference': sought})}", 303)
    if await _any(parts, merchant=sought) or await looking.registered(parts, sought) is not None:
        return RedirectResponse(f"/merchants/{quoted(sought)}", 303)
    if await merchants.page(parts.database, text=sought, limit=1):
        return RedirectResponse(f"/merchants?{urlencode({'text': sought})}", 303)
    view = {
        "title": "Nothing was found",
        "detail": f"No notification has “{sought}” as its id or reference, and no merchant is called so. "
        "Ids and references are looked for as a whole; of a merchant's name or address a part is enough.",
        "tone": "find",
        "back": "/notifications",
        "back_label": "All notifications",
    }
    return await frame.page(request, "problem.html", view, 404, sought=sought)


async def _any(parts: Parts, **wanted: str) -> bool:
    try:
        filter_ = Filter.parse(wanted)
    except InvalidInput:  # too long for that
        return False
    return bool((await notifications.list_notifications(parts.database, filter_, None, 1)).items)
