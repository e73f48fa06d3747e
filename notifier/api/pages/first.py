"""The first page: what needs somebody, the ladder live, attempts as they happen; and what is done to a tier there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from notifier.api import tiers
from notifier.api.live import live
from notifier.api.pages import frame, looking
from notifier.api.pages.causes import Cause
from notifier.api.pages.course import Course
from notifier.api.pages.frame import PageRoute
from notifier.api.pages.looking import Samples, Undelivered
from notifier.api.pages.overview import MOST_CAUSES, overview
from notifier.api.parts import Given, Parts
from notifier.errors import DatabaseUnavailable
from notifier.ledger import notifications

router = APIRouter(include_in_schema=False, route_class=PageRoute)

#: Merchants that are switched off of whom the first page says so.
_MOST_OFF = 6
#: Attempts that are there before the stream begins.
RECENT = 25


@router.get("/")
async def first(request: Request, parts: Given) -> Response:
    """The overview; shown also while the database or the broker is away."""
    told = await live(parts)
    found = await _of_ledger(parts, request.app.state.course, request.app.state.samples)
    return await frame.page(request, "overview.html", overview(told, *found))


@router.post("/tiers/{tier}/pause")
async def pause(request: Request, parts: Given, tier: str) -> Response:
    """For some time or until it is resumed."""
    fields = await frame.form(request)
    seconds = frame.one(fields, "for")
    wanted = tiers.Pause.model_validate({"reason": frame.one(fields, "reason") or None, "seconds": seconds or None})
    done = await tiers.pause(request, parts, tier, wanted)
    return frame.back(request, fields, "/", f"Tier {tier} is paused{_live(done['live'])}.", _tone(done["live"]))


@router.post("/tiers/{tier}/resume")
async def resume(request: Request, parts: Given, tier: str) -> Response:
    """From a pause, or after a drain."""
    fields = await frame.form(request)
    done = await tiers.resume(request, parts, tier, None)
    if done["paused"]:
        words = f"Tier {tier} is still paused, by the pause of {', '.join(done['paused_by'])}: resume that one, too."
        return frame.back(request, fields, "/", words, "wait")
    return frame.back(request, fields, "/", f"Tier {tier} goes on.")


@router.post("/tiers/{tier}/drain")
async def drain(request: Request, parts: Given, tier: str) -> Response:
    """Its processes end, and stay away until it is resumed."""
    fields = await frame.form(request)
    done = await tiers.drain(request, parts, tier, None)
    late = [slot["slot"] for slot in done["slots"] if slot["result"] != "drained"]
    if late:
        return frame.back(request, fields, "/", f"{', '.join(late)} did not end in time, and was ended.", "wait")
    return frame.back(
        request, fields, "/", f"Tier {tier} is drained: what ran is finished. Start it again when you like."
    )


async def _of_ledger(
    parts: Parts, course: Course, samples: Samples
) -> tuple[
    Mapping[str, Sequence[tuple[int, int]]], Undelivered | None, list[Mapping[str, Any]], list[Cause], list[Cause]
]:
    """Nothing while the ledger is away: `live` has said so."""
    try:
        courses = await course.read(parts.database, parts.now_ms)
        undelivered = await looking.undelivered(parts, samples, MOST_CAUSES)
        off = await looking.switched_off(parts, undelivered.causes, _MOST_OFF)
        back = looking.held_back(parts, undelivered.causes, _MOST_OFF)
        newest = await notifications.newest_attempt(parts.database)
        attempts = await notifications.attempts_after(parts.database, max(0, newest - RECENT), RECENT)
    except DatabaseUnavailable:
        return {}, None, [], [], looking.held_back(parts, [], _MOST_OFF)
    return courses, undelivered, list(reversed(attempts)), off, back


def _live(live: Mapping[str, Any]) -> str:
    missing = f"; not in {'; '.join(live['missing'])}" if live["missing"] else ""
    return f" in {live['live']} of {live['of']} processes{missing}" if missing else ""


def _tone(live: Mapping[str, Any]) -> str:
    return "wait" if live["missing"] else "good"
